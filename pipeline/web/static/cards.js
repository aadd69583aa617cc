// The nine numbers of the range.

import { botPath } from "./api.js";
import { h, tipped } from "./dom.js";
import { compact, filterName, integer, moment, write } from "./format.js";
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

/** The cards; `onAnswer(answer, view)` hears each answer of the summary. */
export function cards(root, onAnswer) {
  const drawn = Object.fromEntries(CARDS.map(([name, label]) => [name, card(name, label)]));
  root.querySelector(".cards").append(...Object.values(drawn).map(({ element }) => element));
  return new Panel(root, {
    request: ({ state, ends }) => ({ path: botPath(state.bot, "summary"), parameters: [...ends, ...state.filters] }),
    draw: (answer, view) => {
      const { data } = answer;
      for (const [name] of CARDS) {
        const isApproximate = data.exact?.[name] === false;
        const isUnfiltered = (data.unfiltered ?? []).includes(name);
        const value = name === "last_request" ? lastRequest(data[name], view) : figure(data[name], isApproximate);
        drawn[name].draw({ ...value, isUnfiltered, filters: view.state.filters });
      }
      onAnswer(answer, view);
    },
  });
}

function figure(n, isApproximate) {
  const sign = isApproximate ? "≈ " : "";
  const exactly = isApproximate ? `about ${integer(n)}, estimated: there are too many to hold each one` : integer(n);
  return { raw: String(n), text: sign + compact(n), exactly };
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
  const small = h("span", { class: "card-small" }, "\u00a0");
  const element = h(
    "div",
    { class: "card", tabindex: 0, role: "group", "aria-label": label, dataset: { card: name } },
    h("span", { class: "card-label" }, label),
    value,
    small,
  );
  let reading = label;
  tipped(element, () => reading);
  // What is copied is the exact number, not its short form.
  element.addEventListener("copy", (event) => {
    if (element.dataset.value === undefined) return;
    event.clipboardData.setData("text/plain", element.dataset.value);
    event.preventDefault();
  });
  return {
    element,
    draw: ({ raw, text, small: below = "", exactly, isUnfiltered, filters }) => {
      const names = [...new Set(filters.map(([filter]) => filterName(filter)))].join(", ");
      reading = `${label}: ${exactly}${isUnfiltered ? `. Not narrowed by ${names}` : ""}`;
      element.dataset.value = raw;
      element.setAttribute("aria-label", reading);
      element.classList.toggle("is-unfiltered", isUnfiltered);
      value.classList.remove("skeleton");
      value.textContent = text;
      small.textContent = isUnfiltered ? "not filtered" : below || "\u00a0";
    },
  };
}
