// Ranked bars: what most requests have in common. A click filters the page, a second one undoes it.

import { botPath } from "./api.js";
import { h } from "./dom.js";
import { compact, count, country, filterValue, integer, share } from "./format.js";
import { Panel } from "./panel.js";
import { REQUEST_FILTERS, chosen } from "./state.js";

const SHOWN = 10;

/** A ranking of what `by(state)` says; `toggle(name, value)` is told what a reader clicks. */
export function ranking(root, by, toggle) {
  const body = root.querySelector(".ranked");
  return new Panel(root, {
    request: ({ state, ends }) => ({
      path: botPath(state.bot, "requests/top"),
      parameters: [["by", by(state)], ["limit", SHOWN], ...ends, ...chosen(state, REQUEST_FILTERS)],
    }),
    draw: ({ data }, { state }) => {
      const name = by(state);
      const focused = body.contains(document.activeElement) ? document.activeElement.dataset.value : null;
      const chips = state.filters.filter(([filter]) => filter === name).map(([, value]) => value);
      const longest = data.reduce((most, { share: of }) => Math.max(most, of), 0);
      const rows = data.map((row) => h("li", {}, ranked(row, name, longest, chips, toggle)));
      body.replaceChildren(rows.length ? h("ol", { class: "ranks" }, ...rows) : h("p", { class: "none" }, "No requests in this range."));
      if (focused !== null) [...body.querySelectorAll("button")].find(({ dataset }) => dataset.value === focused)?.focus();
    },
  });
}

function ranked({ kind, value, requests, share: of }, by, longest, chips, toggle) {
  const name = kind === "other" ? "Other" : filterValue(by, value ?? "");
  const bar = h("span", { class: "rank-bar" });
  bar.style.width = `${(of / longest) * 100}%`;
  const parts = [
    bar,
    h("span", { class: "rank-name", title: by === "country" && kind === "value" ? `${country(value)} (${value})` : name }, h("bdi", {}, name)),
    h("span", { class: "rank-count", title: integer(requests) }, compact(requests)),
    h("span", { class: "rank-share" }, share(of)),
  ];
  const told = `${name}: ${count(requests, "request")}, ${share(of)}`;
  const dataset = { kind, value: value ?? "", requests, share: of };
  const rest = kind === "value" ? "" : " is-rest";
  if (kind === "other" || !REQUEST_FILTERS.includes(by)) return h("div", { class: `rank${rest}`, dataset, role: "group", "aria-label": told }, ...parts);
  const wanted = value ?? "";
  return h(
    "button",
    {
      class: `rank${rest}`, type: "button", dataset, "aria-label": told,
      "aria-pressed": String(chips.includes(wanted)), onclick: () => toggle(by, wanted),
    },
    ...parts,
  );
}
