// The page's filters: a chip for each, and one search over all values that exist to add another.

import { $, h } from "./dom.js";
import { count, filterName, filterValue, isAddress } from "./format.js";
import { searchable } from "./menus.js";
import { REQUEST_FILTERS, TOKEN_FILTERS } from "./state.js";

const EACH = 4; // of every filter, before anything is typed

/** Which filters of the page do not narrow what knows only those `names`, as a note; empty where all do. */
export function unheeded({ filters }, names) {
  const ignored = [...new Set(filters.map(([name]) => name).filter((name) => !names.includes(name)))];
  return ignored.length ? `not filtered by ${ignored.map(filterName).join(", ")}` : "";
}

/** Draw a chip per filter. `remove(name, value)` and `clear()` are told what a reader wants; `zoom` is a chip of its own. */
export function drawChips({ filters, zoom, remove, clear, fallback }) {
  const box = $("chips");
  const hadFocus = box.contains(document.activeElement);
  const chips = filters.map(([name, value]) => {
    const said = `${filterName(name)}: ${filterValue(name, value)}`;
    return chip(said, `Remove filter ${said}`, () => remove(name, value), { name, value });
  });
  if (zoom) chips.unshift(chip("Zoomed in", `Zoomed in: back to ${zoom.back}`, zoom.leave, {}));
  if (filters.length > 1) chips.push(h("button", { class: "quiet", type: "button", onclick: clear }, "Clear all"));
  box.replaceChildren(...chips);
  box.hidden = !chips.length;
  if (hadFocus) (chips[0] ?? fallback).focus();
}

const chip = (text, label, onclick, dataset) =>
  h("button", { class: "chip", type: "button", dataset, title: label, "aria-label": label, onclick },
    h("span", { class: "chip-text" }, h("bdi", {}, text)), h("span", { "aria-hidden": "true" }, "×"));

/** The menu that adds a filter. `view()` is what is on show; `toggle(name, value)` is told the choice. */
export function filterMenu(menu, button, { values, view, toggle }) {
  let known = []; // [{name, value, requests}]
  const item = ({ name, value, requests }) => ({
    value: `${name}=${value}`, name: `${filterName(name)}: ${filterValue(name, value)}`, note: requests === null ? "" : count(requests, "request"),
    choice: [name, value],
  });
  const items = (written) => {
    if (written) return [...known.map(item), ...(isAddress(written) ? [item({ name: "ip", value: written, requests: null })] : [])];
    return [...REQUEST_FILTERS, ...TOKEN_FILTERS].flatMap((name) => known.filter((one) => one.name === name).slice(0, EACH)).map(item);
  };
  /** Add to what is known the values of these filters, those of each as soon as they have come. */
  const gather = async (names, written, meanwhile, nothing) => {
    const shown = view();
    if (!shown) return;
    control.update(meanwhile);
    await Promise.all(names.map(async (name) => {
      const found = await values.of(shown, name, written);
      const isKnown = ({ value }) => [...shown.state.filters, ...known.map((one) => [one.name, one.value])].some(([n, v]) => n === name && v === value);
      known = known.concat(found.filter((one) => !isKnown(one)).map((one) => ({ ...one, name })));
      control.update(meanwhile);
    }));
    control.update(nothing);
  };
  const control = searchable(menu, button, {
    label: "Values to filter by",
    placeholder: "Endpoint, country, browser, IP, source, model…",
    items,
    current: () => null,
    open: () => {
      known = [];
      return gather([...REQUEST_FILTERS, ...TOKEN_FILTERS], "", "Loading…", "No values in this range.");
    },
    search: (written) => {
      const longest = written.split(/\s+/).reduce((a, b) => (b.length > a.length ? b : a));
      return gather(REQUEST_FILTERS, longest, "Searching…", "");
    },
    pick: (key, { choice }) => toggle(...choice),
  });
}
