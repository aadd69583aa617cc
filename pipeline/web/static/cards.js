// The nine numbers of the range.

import { botPath } from "./api.js";
import { sparkline } from "./charts.js";
import { h, tipped } from "./dom.js";
import { compact, count, filterName, integer, moment, share, write } from "./format.js";
import { Panel } from "./panel.js";

const CARDS = [
  ["total_requests", "Total Requests"],
  ["unique_ips", "Unique IPs"],
  ["unique_conversations", "Unique Conversations"],
  ["last_request", "Last Request"],
  ["input_tokens", "Input Tokens"],
  ["output_tokens", "Output Tokens"],
  ["total_tokens", "Total Tokens"],
  ["positive_feedbacks", "Positive Feedbacks"],
  ["negative_feedbacks", "Negative Feedbacks"],
];
const UNIQUE = { unique_ips: "address", unique_conversations: "conversation" };

/** The cards. `shape(name, values)` of the result draws a line of its numbers over time below a card's number. */
export function cards(root) {
  const drawn = Object.fromEntries(CARDS.map(([name, label]) => [name, card(name, label)]));
  root.querySelector(".cards").append(...Object.values(drawn).map(({ element }) => element));
  const panel = new Panel(root, {
    request: ({ state, ends }) => ({ path: botPath(state.bot, "summary"), parameters: [...ends, ...state.filters] }),
    draw: ({ data }, view) => {
      for (const [name] of CARDS) {
        const isUnfiltered = (data.unfiltered ?? []).includes(name);
        drawn[name].draw({ ...face(name, data, view), isUnfiltered, filters: view.state.filters });
      }
    },
  });
  panel.shape = (name, values) => drawn[name].shape(values);
  return panel;
}

/** What a card says: `raw` to copy, `text` to see, `small` below it, of which `mark` always, `exactly` to read out. */
function face(name, data, view) {
  if (name === "last_request") return lastRequest(data.last_request, view);
  if (name in UNIQUE) return unique(data[name], UNIQUE[name], data.exact?.[name] !== false);
  const n = data[name];
  const plain = { raw: String(n), text: compact(n), exactly: integer(n) };
  return name.endsWith("_feedbacks") ? { ...plain, ...rate(n, data.positive_feedbacks + data.negative_feedbacks) } : plain;
}

/** A unique count says whether it is exact, and why counts of parts do not add up to it. */
function unique(n, thing, isExact) {
  const once = `Each ${thing} counts once in the whole range, so the counts of single days may add up to more.`;
  return isExact
    ? { raw: String(n), text: compact(n), mark: "exact", small: n ? "exact, each once" : "exact", exactly: `${integer(n)}, exact. ${once}` }
    : { raw: String(n), text: `≈ ${compact(n)}`, mark: "estimated", small: "estimated, each once", exactly: `about ${integer(n)}, estimated: there are too many to hold each one. ${once}` };
}

/** A vote's share of all that hold. */
function rate(n, votes) {
  if (!votes) return { exactly: "0, of no votes" };
  const of = share(Number(n) / Number(votes));
  return {
    small: `${of} of ${compact(votes)}`,
    exactly: `${integer(n)} of ${count(votes, "vote")}, ${of}. A changed vote counts once, as it was last; a withdrawn one not at all`,
  };
}

function lastRequest(text, { now }) {
  if (text === null) return { raw: "", text: "never", small: "in this range", exactly: "never in this range" };
  const { wall } = moment(text);
  const isToday = write.date(wall) === write.date(now.wall);
  return {
    raw: text,
    text: isToday ? write.second(wall) : write.dateShort(wall),
    small: isToday ? "today" : write.year(wall) === write.year(now.wall) ? write.second(wall) : `${write.year(wall)}, ${write.minute(wall)}`,
    exactly: text.replace("T", " "),
  };
}

function card(name, label) {
  const value = h("span", { class: "card-value skeleton" }, "\u00a0");
  const foot = h("span", { class: "card-small" });
  const element = h(
    "div",
    { class: "card", tabindex: 0, role: "group", "aria-label": label, dataset: { card: name } },
    h("span", { class: "card-label" }, label),
    value,
    foot,
  );
  let reading = label;
  let isUnfiltered = false;
  tipped(element, () => reading);
  // What is copied is the exact number, not its short form.
  element.addEventListener("copy", (event) => {
    if (element.dataset.value === undefined) return;
    event.clipboardData.setData("text/plain", element.dataset.value);
    event.preventDefault();
  });
  return {
    element,
    draw: ({ raw, text, mark, small = "", exactly, isUnfiltered: isNow, filters }) => {
      isUnfiltered = isNow;
      const names = [...new Set(filters.map(([filter]) => filterName(filter)))].join(", ");
      reading = `${label}: ${exactly}${isUnfiltered ? `. Not narrowed by ${names}` : ""}`;
      element.dataset.value = raw;
      element.setAttribute("aria-label", reading);
      element.classList.toggle("is-unfiltered", isUnfiltered);
      value.classList.remove("skeleton");
      value.textContent = text;
      const below = isUnfiltered ? [mark, "not filtered"].filter(Boolean).join(", ") : small;
      if (below || !foot.querySelector("svg")) foot.textContent = below;
    },
    shape: (values) => {
      if (isUnfiltered) return;
      foot.replaceChildren(...(values.length > 2 && values.some((n) => n !== values[0]) ? [sparkline(values)] : []));
    },
  };
}
