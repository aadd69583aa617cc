// The fields above a table that filter it.

import { h, soon } from "./dom.js";
import { KNOWN_SOURCES, filterName, sourceName } from "./format.js";

/**
 * A text field that filters its table by a value given whole. `parse(text)` gives the value, or undefined where the text
 * is none, which `wrong` says; `suggest(written)` resolves to texts for what exists, and is asked when the field is entered or written into.
 */
export function filterField(table, name, { parse, wrong, suggest, change }) {
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
    field.setCustomValidity(isWrong ? wrong : "");
    if (isWrong) return field.reportValidity();
    if (value !== held) change((held = value));
  };
  const isOffered = () => [...list.children].some((option) => option.value === field.value);
  field.addEventListener("change", commit);
  const offer = async () => {
    const written = field.value.trim();
    const offered = await suggest(written);
    if (field.value.trim() === written) list.replaceChildren(...offered.map((value) => h("option", { value })));
  };
  const offerSoon = soon(offer);
  field.addEventListener("input", () => {
    field.setCustomValidity("");
    if (field.value === "" || isOffered()) commit();
    offerSoon();
  });
  field.addEventListener("focus", offer);
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

const ALL = "\u0000all";
const OTHER = "\u0000other";

/**
 * A choice of the usual sources, those that `suggest()` resolves to, or one written by hand; `change(source)` is told,
 * null: all.
 */
export function sourceField({ suggest, change }) {
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
    if (source !== current) change(source);
    fill();
  };
  select.addEventListener("change", () => {
    if (select.value !== OTHER) return choose(select.value === ALL ? null : select.value);
    field.hidden = false;
    field.value = "";
    field.focus();
  });
  field.addEventListener("change", () => choose(field.value.trim() || null));
  const offer = (found) => {
    const before = sources.size;
    found.forEach((source) => sources.add(source));
    if (sources.size > before && select.value !== OTHER) fill();
  };
  const ask = async () => offer(await suggest());
  select.addEventListener("pointerenter", ask); // before it opens
  select.addEventListener("focus", ask);
  fill();
  return {
    element: h("span", { class: "filter" }, select, field),
    offer,
    set: (value) => {
      current = value;
      if (current !== null) sources.add(current);
      field.hidden = true;
      fill();
    },
  };
}
