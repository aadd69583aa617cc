// The two tables: pages of 50 by cursor, filters of their own, an export of all that matches.

import { botPath, get } from "./api.js";
import { h } from "./dom.js";
import { exportMenu } from "./exports.js";
import { KNOWN_SOURCES, country, countryCode, filterName, filterValue, integer, moment, sortable, sourceName } from "./format.js";
import { Panel } from "./panel.js";
import { REQUEST_FILTERS, TOKEN_FILTERS, chosen, narrowed } from "./state.js";

const PAGE_ROWS = 50;

const time = (text) => h("time", { datetime: text, title: text.replace("T", " ") }, sortable(moment(text).wall));
const unknown = () => h("span", { class: "unknown", title: "Unknown" }, h("span", { "aria-hidden": "true" }, "–"), h("span", { class: "unseen" }, "Unknown"));
const text = (value) => (value === null ? unknown() : h("span", { class: "cut", title: value }, value));

const REQUESTS = [
  ["Time", "", (row) => time(row.time)],
  ["Endpoint", "", (row) => text(row.endpoint)],
  ["IP", "code", (row) => text(row.ip)],
  ["Country", "", (row) => (row.country === null ? unknown() : h("span", { class: "cut", title: row.country }, country(row.country)))],
  ["Region", "", (row) => text(row.region)],
  ["City", "", (row) => text(row.city)],
  ["Browser", "", (row) => text(row.browser)],
];

const TOKENS = [
  ["Time", "", (row) => time(row.time)],
  ["Source", "", (row) => h("span", { class: "cut", title: row.source }, sourceName(row.source))],
  ["Input", "number", (row) => integer(row.input_tokens)],
  ["Output", "number", (row) => integer(row.output_tokens)],
  ["Total", "number", (row) => integer(row.total_tokens)],
];

class Table {
  #cursors = [null]; // of the pages up to this one
  #query = ""; // what the cursors belong to
  #next = null;
  #view = null;

  /** `path` below the bot; `names`: the filters of the page that the path takes; `form`: own filters, an element. */
  constructor(root, { name, title, path, names, columns, form, seen }) {
    Object.assign(this, { root, name, title, path, names, columns, seen });
    this.note = h("span", { class: "note" });
    this.position = h("span", { class: "note", role: "status" });
    this.first = this.#pager("First", () => this.#page([null]));
    this.previous = this.#pager("Previous", () => this.#page(this.#cursors.slice(0, -1)));
    this.following = this.#pager("Next", () => this.#page([...this.#cursors, this.#next]));
    this.rows = h("tbody");
    this.scroller = h(
      "div",
      { class: "scroller", tabindex: 0, role: "region", "aria-labelledby": `${name}-title` },
      h("table", { "aria-labelledby": `${name}-title` },
        h("thead", {}, h("tr", {}, ...columns.map(([label, kind]) => h("th", { scope: "col", class: kind }, label)))), this.rows),
    );
    const { button, menu } = exportMenu(name, title, (format) => this.#export(format));
    root.append(
      h("header", { class: "panel-head" }, h("h2", { id: `${name}-title` }, title), this.note, h("span", { class: "spring" }), form, button, menu),
      h("div", { class: "panel-body" }, this.scroller,
        h("footer", { class: "pager" }, this.position, h("span", { class: "spring" }), this.first, this.previous, this.following)),
    );
    this.rows.append(...Array.from({ length: 12 }, () => h("tr", {}, h("td", { colspan: columns.length }, h("span", { class: "skeleton" }, "\u00a0")))));
    this.panel = new Panel(root, { request: (view) => this.#request(view), draw: (answer) => this.#draw(answer) });
  }

  show(view, options) {
    this.#view = view;
    const query = JSON.stringify([view.ends, narrowed(view.state, this.name, this.names)]);
    if (query !== this.#query || options?.anew) this.#cursors = [null];
    this.#query = query;
    const ignored = [...new Set(view.state.filters.map(([name]) => name).filter((name) => !this.names.includes(name)))];
    this.note.textContent = ignored.length ? `not filtered by ${ignored.map(filterName).join(", ")}` : "";
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
    this.rows.replaceChildren(
      ...rows.map((row) => h("tr", { dataset: { eventId: row.event_id } }, ...this.columns.map(([, kind, cell]) => h("td", { class: kind }, cell(row))))),
    );
    if (!rows.length) {
      const why = answer ? "No rows in this range with these filters." : "No row can match: the page and this table are filtered to different values.";
      this.rows.append(h("tr", { class: "none" }, h("td", { colspan: this.columns.length }, why)));
    }
    const before = (this.#cursors.length - 1) * PAGE_ROWS;
    this.position.textContent = rows.length ? `Rows ${integer(before + 1)}–${integer(before + rows.length)}${next ? "" : ", the last"}` : "";
    // Pages of one list are equally high, so that the buttons stay under the pointer.
    this.root.classList.toggle("is-paged", this.#cursors.length > 1 || next !== null);
    this.first.setAttribute("aria-disabled", String(this.#cursors.length < 2));
    this.previous.setAttribute("aria-disabled", String(this.#cursors.length < 2));
    this.following.setAttribute("aria-disabled", String(next === null));
    this.seen?.(rows);
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

/**
 * A text field that filters its table by a value given whole. `parse(text)` gives the value, or undefined where the text
 * is none; `suggest()` resolves to [{value, text}] for what exists, and is asked when the field is entered.
 */
function filterField(table, name, { parse, suggest, change }) {
  const list = h("datalist", { id: `${table}-${name}-values` });
  const field = h("input", {
    type: "search", placeholder: filterName(name), "aria-label": `Filter by ${filterName(name)}`, list: list.id, name, autocomplete: "off", spellcheck: "false", size: 14,
  });
  let held = null;
  const commit = () => {
    const written = field.value.trim();
    const value = written === "" ? null : parse(written);
    const isWrong = value === undefined;
    field.toggleAttribute("aria-invalid", isWrong);
    field.setCustomValidity(isWrong ? `No such ${filterName(name).toLowerCase()}: choose one of the list.` : "");
    if (isWrong) return field.reportValidity();
    if (value !== held) change((held = value));
  };
  const isOffered = () => [...list.children].some((option) => option.value === field.value);
  field.addEventListener("change", commit);
  field.addEventListener("input", () => {
    field.setCustomValidity("");
    if (field.value === "" || isOffered()) commit();
  });
  field.addEventListener("focus", async () => {
    const offered = await suggest();
    list.replaceChildren(...offered.map((value) => h("option", { value })));
  });
  return {
    element: h("span", { class: "filter" }, field, list),
    /** The address says otherwise than the field: the address holds. */
    set: (value, text) => {
      held = value;
      if (document.activeElement !== field || value !== null) field.value = value === null ? "" : text;
      field.removeAttribute("aria-invalid");
    },
  };
}

/** The Requests table. `narrow(name, value)` is told a change of a filter; null takes it away. */
export function requestsTable(root, narrow) {
  const seenIps = new Set();
  let view = null;
  const offers = new Map(); // by what was asked
  const top = (by) => {
    const parameters = [["by", by], ["limit", 1000], ...view.ends, ...chosen(view.state, REQUEST_FILTERS)];
    const key = JSON.stringify([view.state.bot, parameters]);
    if (!offers.has(key)) {
      // A field without suggestions still filters, and is offered them when it is entered again.
      const asked = get(botPath(view.state.bot, "requests/top"), parameters).then(({ data }) => data, () => (offers.delete(key), []));
      offers.set(key, asked);
    }
    return offers.get(key);
  };
  const suggest = (by, name) => async () =>
    view ? (await top(by)).filter(({ kind }) => kind !== "other").map(({ kind, value }) => (kind === "unknown" ? "Unknown" : name(value))) : [];
  const orUnknown = (parse) => (written) => (written.toLowerCase() === "unknown" ? "" : parse(written));
  const same = (written) => written;

  const fields = {
    endpoint: filterField("requests", "endpoint", { parse: same, suggest: suggest("endpoint", same), change: (value) => narrow("endpoint", value) }),
    country: filterField("requests", "country", {
      parse: orUnknown((written) => countryCode(written) ?? undefined),
      suggest: suggest("country", (code) => `${country(code)} (${code})`),
      change: (value) => narrow("country", value),
    }),
    ip: filterField("requests", "ip", { parse: orUnknown(same), suggest: async () => [...seenIps], change: (value) => narrow("ip", value) }),
  };
  const form = h("div", { class: "filters", role: "group", "aria-label": "Filters of the requests table" }, ...Object.values(fields).map(({ element }) => element));
  const table = new Table(root, {
    name: "requests", title: "Requests", path: "requests", names: REQUEST_FILTERS, columns: REQUESTS, form,
    seen: (rows) => rows.forEach(({ ip }) => ip && seenIps.add(ip)),
  });
  return {
    show: (shown, options) => {
      view = shown;
      for (const [name, field] of Object.entries(fields)) {
        const value = shown.state.own.requests[name];
        field.set(value, value === null ? "" : name === "country" && value ? `${country(value)} (${value})` : filterValue(name, value));
      }
      return table.show(shown, options);
    },
  };
}

const ALL = "\u0000all";
const OTHER = "\u0000other";

/** The Token Usages table: its source is chosen among the usual ones, any that was seen, or written by hand. */
export function tokensTable(root, narrow) {
  const sources = new Set(KNOWN_SOURCES);
  let current = null;
  const select = h("select", { "aria-label": "Filter by source" });
  const field = h("input", { type: "search", "aria-label": "Source by name", placeholder: "Source", size: 14, maxlength: 128, hidden: true, autocomplete: "off" });
  const fill = () => {
    const option = (value, name) => h("option", { value, selected: value === (current ?? ALL) }, name);
    select.replaceChildren(option(ALL, "All sources"), ...[...sources].map((source) => option(source, sourceName(source))), option(OTHER, "Other…"));
    select.value = current ?? ALL;
  };
  const choose = (source) => {
    field.hidden = true;
    if (source !== current) narrow("source", source);
    fill();
  };
  select.addEventListener("change", () => {
    if (select.value !== OTHER) return choose(select.value === ALL ? null : select.value);
    field.hidden = false;
    field.value = "";
    field.focus();
  });
  field.addEventListener("change", () => choose(field.value.trim() || null));
  fill();
  const form = h("div", { class: "filters", role: "group", "aria-label": "Filter of the token usages table" }, select, field);
  const table = new Table(root, {
    name: "tokens", title: "Token Usages", path: "token-usages", names: TOKEN_FILTERS, columns: TOKENS, form,
    seen: (rows) => {
      const before = sources.size;
      rows.forEach(({ source }) => sources.add(source));
      if (sources.size > before && select.value !== OTHER) fill();
    },
  });
  return {
    show: (shown, options) => {
      current = shown.state.own.tokens.source;
      if (current !== null) sources.add(current);
      field.hidden = true;
      fill();
      return table.show(shown, options);
    },
  };
}
