// The two tables: pages of 50 by cursor, rows that open, filters of their own, an export of all that matches.

import { botPath, get, Problem } from "./api.js";
import { h } from "./dom.js";
import { exportMenu } from "./exports.js";
import { filterField, sourceField } from "./fields.js";
import { unheeded } from "./filters.js";
import { country, countryCode, filterName, filterValue, integer, isAddress, lasting, moment, sortable, write } from "./format.js";
import { Panel, fault } from "./panel.js";
import { REQUEST_FILTERS, TOKEN_FILTERS, chosen, narrowed } from "./state.js";

const PAGE_ROWS = 50;
const LOOK_EVERY_MS = 15_000;
const COUNTED = 100; // of rows that have arrived: more are "more than 99"

const time = (text) => h("time", { datetime: text, title: text.replace("T", " ") }, sortable(moment(text).wall));
const unknown = () => h("span", { class: "unknown", title: "Unknown" }, h("span", { "aria-hidden": "true" }, "–"), h("span", { class: "unseen uncopied" }, "Unknown"));
const text = (value, title = value) => (value === null ? unknown() : h("span", { class: "cut", title }, h("bdi", {}, value)));
const named = (name) => (row) => (row[name] === null ? unknown() : text(filterValue(name, row[name]), row[name]));
const number = (name) => (row) => integer(row[name]);

/** An instant on both clocks. */
function instants(row) {
  const { text: said, offset, ms } = moment(row.time);
  const [here, utc] = [said.slice(0, 23).replace("T", " "), new Date(ms).toISOString().slice(0, 19).replace("T", " ")];
  return offset === "+00:00" ? `${here} UTC` : `${here}, ${utc.slice(0, 10) === here.slice(0, 10) ? utc.slice(11) : utc} UTC`;
}

/** A later instant, and how much later. */
const after = (name) => (row) => {
  const [at, event] = [moment(row[name]), moment(row.time)];
  const late = at.ms - event.ms;
  return `${at.text.slice(0, 23).replace("T", " ")}, ${late < 0 ? `${lasting(-late)} earlier` : `${lasting(late)} later`}`;
};
const built = (row) => (row.geo_built_at === null ? "None was used" : `Built on ${write.date(new Date(moment(row.geo_built_at).ms))} (UTC)`);
const amount = (name) => (row) => (row[name] === null ? "Not said" : integer(row[name]));
const record = (row) => `${row.source_topic}, partition ${row.source_partition}, offset ${integer(row.source_offset)}`;

// [heading, class, cell]
const REQUESTS = [
  ["Time", "", (row) => time(row.time)],
  ["Endpoint", "", named("endpoint")],
  ["IP", "code", named("ip")],
  ["Country", "", named("country")],
  ["Region", "", named("region")],
  ["City", "", named("city")],
  ["Browser", "", named("browser")],
];
const TOKENS = [
  ["Time", "", (row) => time(row.time)],
  ["Source", "", named("source")],
  ["Input", "number", number("input_tokens")],
  ["Output", "number", number("output_tokens")],
  ["Total", "number", number("total_tokens")],
];

// What an opened row says: [label, field or function, class]. Fields that the page can be filtered by do so on a click.
// What the list does not hold is asked for when the row is opened.
const ORIGIN = [["In Kafka since", after("record_time")], ["In the store since", after("ingested_at")], ["Kafka record", record]];
const REQUEST_FACTS = [
  ["Time", instants], ["Endpoint", "endpoint"], ["Client", "client_class"], ["Browser", "browser"],
  ["IP", "ip", "code"], ["Country", "country"], ["Region", "region"], ["City", "city"],
  ["Visitor’s time zone", "timezone"], ["Page", "page_url"], ["Conversation", "chat_id", "code"], ["Event", "event_id", "code"],
];
const REQUEST_DETAILS = [["Geo database", built], ...ORIGIN, ["User agent", "user_agent", "code wide"]];
const TOKEN_FACTS = [
  ["Time", instants], ["Source", "source"], ["Model", "model"],
  ["Input tokens", number("input_tokens")], ["Output tokens", number("output_tokens")], ["Total tokens", number("total_tokens")],
  ["Event", "event_id", "code"],
];
const TOKEN_DETAILS = [
  ["Provider", "provider"], ["Conversation", "chat_id", "code"],
  ["Cached, of the input", amount("cached_input_tokens")], ["Reasoning, of the output", amount("reasoning_output_tokens")], ...ORIGIN,
];

class Table {
  #cursors = [null]; // of the pages up to this one
  #query = ""; // what the cursors belong to
  #next = null;
  #view = null;
  #newest = null; // {since, ids}: the first page, against which arrivals are counted

  /**
   * `path` below the bot; `names`: the filters of the page that the path takes; `form`: own filters, an element;
   * `facts` and `details`: what an opened row says of what the list holds and of the rest.
   * `toggle(name, value)` filters the page, `refresh()` asks for everything again.
   */
  constructor(root, { name, title, path, names, columns, facts, details, form, toggle, refresh }) {
    Object.assign(this, { root, name, title, path, names, columns, facts, details, toggle });
    this.note = h("span", { class: "note" });
    this.own = h("span", { class: "chips on-paper" }); // what the fields say on a screen
    this.arrived = h("button", { class: "arrived", type: "button", hidden: true, onclick: refresh });
    this.position = h("span", { class: "note", role: "status" });
    this.first = this.#pager("First", () => this.#page([null]));
    this.previous = this.#pager("Previous", () => this.#page(this.#cursors.slice(0, -1)));
    this.following = this.#pager("Next", () => this.#page([...this.#cursors, this.#next]));
    this.rows = h("tbody");
    this.rows.addEventListener("click", (event) => this.#click(event));
    this.scroller = h(
      "div",
      { class: "scroller", tabindex: 0, role: "region", "aria-label": `Rows of ${title}` },
      h("table", { "aria-labelledby": `${name}-title` },
        h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "opener" }, h("span", { class: "unseen" }, "Details")),
          ...columns.map(([label, kind]) => h("th", { scope: "col", class: kind }, label)))), this.rows),
    );
    const skip = h("button", { class: "skip-rows action", type: "button", onclick: () => this.following.focus() }, "Skip the rows");
    const { button, menu } = exportMenu(name, title, (format) => this.#export(format), (error) => this.#view.refused(error));
    root.append(
      h("header", { class: "panel-head" }, h("h2", { id: `${name}-title` }, title), this.own, this.arrived, this.note, h("span", { class: "spring" }), form, button, menu),
      h("div", { class: "panel-body" }, skip, this.scroller,
        h("footer", { class: "pager" }, this.position, h("span", { class: "spring" }), this.first, this.previous, this.following)),
    );
    this.rows.append(...Array.from({ length: 12 }, () => h("tr", {}, h("td", { colspan: columns.length + 1 }, h("span", { class: "skeleton" }, "\u00a0")))));
    this.panel = new Panel(root, { request: (view) => this.#request(view), draw: (answer) => this.#draw(answer) });
    setInterval(() => this.#look(), LOOK_EVERY_MS);
  }

  show(view, options) {
    this.#view = view;
    const query = JSON.stringify([view.ends, narrowed(view.state, this.name, this.names)]);
    if (query !== this.#query || options?.anew) this.#cursors = [null];
    this.#query = query;
    this.note.textContent = unheeded(view.state, this.names);
    const own = Object.entries(view.state.own[this.name]).filter(([, value]) => value !== null);
    this.own.replaceChildren(...own.map(([name, value]) => h("span", { class: "chip" }, h("bdi", {}, `${filterName(name)}: ${filterValue(name, value)}`))));
    return this.panel.show(view, options);
  }

  #pager(label, turn) {
    const button = h("button", { class: "quiet", type: "button", "aria-disabled": "true" }, label);
    // Not `disabled`: the focus stays on the button of a reader who has come to the end.
    button.addEventListener("click", () => button.getAttribute("aria-disabled") === "false" && turn());
    return button;
  }

  async #page(cursors) {
    if (this.root.getAttribute("aria-busy") === "true") return; // the page that is coming has another next
    const before = this.#cursors;
    this.#cursors = cursors;
    await this.panel.show(this.#view);
    if (this.panel.body.hidden) this.#cursors = before;
    this.scroller.scrollTop = 0;
  }

  #request({ state, ends }) {
    const filters = narrowed(state, this.name, this.names);
    if (filters === null) return null;
    const cursor = this.#cursors.at(-1);
    return {
      path: botPath(state.bot, this.path),
      parameters: [...ends, ...filters, ["limit", PAGE_ROWS], ...(cursor === null ? [] : [["cursor", cursor]])],
    };
  }

  #draw(answer) {
    const { rows, next } = answer?.data ?? { rows: [], next: null };
    this.#next = next;
    this.rows.replaceChildren(...rows.map((row) => this.#row(row)));
    if (!rows.length) {
      const isFiltered = narrowed(this.#view.state, this.name, this.names)?.length;
      const why = answer ? `No rows in this range${isFiltered ? " with these filters" : ""}.` : "No row can match: the page and this table are filtered to different values.";
      this.rows.append(h("tr", { class: "none" }, h("td", { colspan: this.columns.length + 1 }, why)));
    }
    const before = (this.#cursors.length - 1) * PAGE_ROWS;
    const these = rows.length === 1 ? `Row ${integer(before + 1)}` : `Rows ${integer(before + 1)}–${integer(before + rows.length)}`;
    this.position.textContent = rows.length ? `${these}${next ? "" : ", the last"}` : "";
    // Pages of one list are equally high, so that the buttons stay under the pointer; what has been so high stays so.
    if (this.#cursors.length > 1 || next !== null) this.root.classList.add("is-paged");
    else if (this.root.classList.contains("is-arriving")) this.root.classList.remove("is-paged");
    this.first.setAttribute("aria-disabled", String(this.#cursors.length < 2));
    this.previous.setAttribute("aria-disabled", String(this.#cursors.length < 2));
    this.following.setAttribute("aria-disabled", String(next === null));
    if (this.#cursors.length > 1) return;
    this.arrived.hidden = true;
    this.#newest = answer && { since: rows[0]?.time ?? answer.range.from, ids: new Set(rows.map(({ event_id }) => event_id)) };
  }

  #row(row) {
    const opener = h("button", { class: "open", type: "button", "aria-expanded": "false", "aria-label": `All about the row of ${sortable(moment(row.time).wall)}` });
    const element = h("tr", { dataset: { eventId: row.event_id } }, h("td", { class: "opener" }, opener),
      ...this.columns.map(([, kind, cell]) => h("td", { class: kind }, cell(row))));
    element.turn = () => {
      const isOpen = opener.getAttribute("aria-expanded") === "true";
      opener.setAttribute("aria-expanded", String(!isOpen));
      if (isOpen) element.nextSibling.remove();
      else element.after(h("tr", { class: "details" }, h("td", { colspan: this.columns.length + 1 }, this.#opened(row))));
    };
    return element;
  }

  #click({ target }) {
    const row = target.closest("tr[data-event-id]");
    if (row && (target.closest("button") || getSelection().isCollapsed)) row.turn();
  }

  #opened(row) {
    const list = h("dl", { class: "facts" }, ...this.#facts(this.facts, row));
    const box = h("div", {}, list);
    const ask = async () => {
      const pending = this.details.map(([label, , kind]) => h("div", { class: kind }, h("dt", {}, label), h("dd", { class: "skeleton" }, "\u00a0")));
      list.append(...pending);
      try {
        const parameters = [["time", row.time], ["event_id", row.event_id], this.#view.ends[2]];
        const { data } = await get(botPath(this.#view.state.bot, `${this.path}/row`), parameters);
        list.append(...this.#facts(this.details, data));
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        const failed = fault(error, () => (failed.remove(), ask()));
        box.append(failed);
      } finally {
        pending.forEach((fact) => fact.remove());
      }
    };
    ask();
    return box;
  }

  #facts(facts, row) {
    return facts.map(([label, field, kind]) =>
      h("div", { class: kind }, h("dt", {}, label), h("dd", {}, typeof field === "function" ? field(row) : this.#fact(row, field))));
  }

  #fact(row, name) {
    const value = row[name];
    const shown = value === null ? "Unknown" : name === "country" ? `${country(value)} (${value})` : filterValue(name, value);
    if (!this.names.includes(name)) return value === null ? "Not said" : h("bdi", {}, shown);
    const isChosen = this.#view.state.filters.some(([n, v]) => n === name && v === (value ?? ""));
    const label = `${isChosen ? "Remove" : "Add"} filter ${filterName(name)}: ${shown}`;
    return h("button", { class: "fact", type: "button", title: label, "aria-label": label, onclick: () => this.toggle(name, value ?? "") }, h("bdi", {}, shown));
  }

  /** See whether rows have come since the first page was drawn, where the range goes on. They are offered, not shown. */
  async #look() {
    const view = this.#view;
    const newest = this.#newest;
    const to = view && Date.parse(view.ends[1][1]);
    if (!newest || !view.isGoingOn || document.hidden || Date.parse(newest.since) >= Date.now()) return;
    const filters = narrowed(view.state, this.name, this.names) ?? [];
    const end = to > Date.now() ? [view.ends[1]] : [];
    const parameters = [["from", newest.since], ...end, view.ends[2], ...filters, ["limit", COUNTED + newest.ids.size]];
    try {
      const { data } = await get(botPath(view.state.bot, this.path), parameters);
      if (newest !== this.#newest) return;
      const count = data.rows.filter(({ event_id }) => !newest.ids.has(event_id)).length;
      this.arrived.hidden = !count;
      this.arrived.textContent = count < COUNTED ? `${count} new ${count === 1 ? "row" : "rows"}` : `more than ${COUNTED - 1} new rows`;
    } catch (error) {
      if (!(error instanceof Problem)) throw error; // the next look may be answered
    }
  }

  #export(format) {
    const { state, ends } = this.#view;
    const filters = narrowed(state, this.name, this.names);
    if (filters === null) return null;
    const query = new URLSearchParams([["format", format], ...ends, ...filters]);
    const [from, to] = ends.map(([, value]) => value.slice(0, 16).replace(/[-:]/g, ""));
    const bot = state.bot.replace(/[^\p{L}\p{N}._-]+/gu, "_");
    return { url: `/api/v1${botPath(state.bot, `${this.path}/export`)}?${query}`, file: `${this.path}_${bot}_${from}_${to}.${format}` };
  }
}

const same = (written) => written;
const orUnknown = (parse) => (written) => (written.toLowerCase() === "unknown" ? "" : parse(written));
const addressOf = (written) => (isAddress(written) ? written : undefined);
const codeOf = (written) => countryCode(written) ?? undefined;

/** How a value of a filter is written in a field. */
const written = (name, value) => (value && name === "country" ? `${country(value)} (${value})` : filterValue(name, value));

/** The Requests table. `narrow(name, value)` is told a change of its own filter, null takes it away; `values` are suggested. */
export function requestsTable(root, { narrow, values, toggle, refresh }) {
  let view = null;
  const suggest = (name) => async (text) => (view ? (await values.of(view, name, text)).map(({ value }) => written(name, value)) : []);
  const field = (name, parse, wrong) =>
    filterField("requests", name, { parse, wrong, suggest: suggest(name), change: (value) => narrow(name, value) });
  const fields = { endpoint: field("endpoint", same), country: field("country", orUnknown(codeOf), "No such country: choose one of the list."), ip: field("ip", orUnknown(addressOf), "Not an IP address.") };
  const form = h("div", { class: "filters", role: "group", "aria-label": "Filters of the requests table" }, ...Object.values(fields).map(({ element }) => element));
  const table = new Table(root, {
    name: "requests", title: "Requests", path: "requests", names: REQUEST_FILTERS, columns: REQUESTS, facts: REQUEST_FACTS, details: REQUEST_DETAILS, form, toggle, refresh,
  });
  return {
    show: (shown, options) => {
      view = shown;
      for (const [name, own] of Object.entries(fields)) {
        const value = shown.state.own.requests[name];
        own.set(value, value === null ? "" : written(name, value));
      }
      return table.show(shown, options);
    },
  };
}

/** The Token Usages table, as `requestsTable`; its source is chosen among the usual ones and those that exist. */
export function tokensTable(root, { narrow, values, toggle, refresh }) {
  let view = null;
  const source = sourceField({
    suggest: async () => (view ? (await values.of(view, "source")).map(({ value }) => value) : []),
    change: (value) => narrow("source", value),
  });
  const form = h("div", { class: "filters", role: "group", "aria-label": "Filter of the token usages table" }, source.element);
  const table = new Table(root, {
    name: "tokens", title: "Token Usages", path: "token-usages", names: TOKEN_FILTERS, columns: TOKENS, facts: TOKEN_FACTS, details: TOKEN_DETAILS, form, toggle, refresh,
  });
  return {
    show: async (shown, options) => {
      view = shown;
      source.set(shown.state.own.tokens.source);
      await table.show(shown, options);
      source.offer((table.panel.answer?.data.rows ?? []).map((row) => row.source));
    },
  };
}
