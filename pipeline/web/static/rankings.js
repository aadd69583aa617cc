// Ranked bars: what most requests have in common, and what takes the tokens. A click filters the page, a second one undoes it.

import { botPath } from "./api.js";
import { h } from "./dom.js";
import { unheeded } from "./filters.js";
import { compact, count, country, filterValue, integer, share } from "./format.js";
import { Panel } from "./panel.js";
import { REQUEST_FILTERS, TOKEN_FILTERS, chosen } from "./state.js";

const SHOWN = 8;

/** The most that a ranking may have: its values, other and unknown. */
export const LONGEST_RANKING = SHOWN + 2;

const unit = (one) => ({ said: (n) => count(n, one), none: `No ${one}s counted in this range.` });
const REQUESTS = { path: "requests/top", names: REQUEST_FILTERS, amount: ({ requests }) => requests, ...unit("request") };
const TOKENS = {
  path: "token-usages/top", names: TOKEN_FILTERS, amount: (row) => Number(row.input_tokens) + Number(row.output_tokens), ...unit("token"),
};
const rankedBy = (name) => (TOKEN_FILTERS.includes(name) ? TOKENS : REQUESTS);

/** A ranking of what `by(state)` says, tokens by source and model, all else by requests; `toggle(name, value)` is told what a reader clicks. */
export function ranking(root, by, toggle) {
  const body = root.querySelector(".ranked");
  const side = root.querySelector(".side");
  const usual = side.textContent;
  return new Panel(root, {
    redraws: true,
    request: ({ state, ends }) => {
      const { path, names } = rankedBy(by(state));
      return { path: botPath(state.bot, path), parameters: [["by", by(state)], ["limit", SHOWN], ...ends, ...chosen(state, names)] };
    },
    draw: ({ data }, { state }) => {
      const name = by(state);
      side.title = side.textContent = unheeded(state, rankedBy(name).names) || usual;
      const focused = body.contains(document.activeElement) ? document.activeElement.dataset.value : null;
      const chips = state.filters.filter(([filter]) => filter === name).map(([, value]) => value);
      const longest = data.reduce((most, { share: of }) => Math.max(most, of), 0) || 1;
      const rows = data.map((row) => h("li", {}, ranked(row, name, longest, chips, toggle)));
      body.replaceChildren(rows.length ? h("ol", { class: "ranks" }, ...rows) : h("p", { class: "none" }, rankedBy(name).none));
      if (focused !== null) [...body.querySelectorAll("button")].find(({ dataset }) => dataset.value === focused)?.focus();
    },
  });
}

function ranked(row, by, longest, chips, toggle) {
  const { kind, value, share: of } = row;
  const { amount, said } = rankedBy(by);
  const n = amount(row);
  const name = kind === "other" ? "Other" : filterValue(by, value ?? "");
  const bar = h("span", { class: "rank-bar" });
  bar.style.width = `${(of / longest) * 100}%`;
  const parts = [
    bar,
    h("span", { class: "rank-name", title: by === "country" && kind === "value" ? `${country(value)} (${value})` : name }, h("bdi", {}, name)),
    h("span", { class: "rank-count", title: integer(n) }, compact(n)),
    h("span", { class: "rank-share" }, share(of)),
  ];
  const told = `${name}: ${said(n)}, ${share(of)}`;
  const dataset = { kind, value: value ?? "", amount: n, share: of };
  const rest = kind === "value" ? "" : " is-rest";
  if (kind === "other" || by === "page_url") return h("div", { class: `rank${rest}`, dataset, role: "group", "aria-label": told }, ...parts);
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
