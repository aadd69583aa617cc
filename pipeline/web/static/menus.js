// What opens under a button: native popovers (Escape and a click outside close them), and lists one can search.

import { h, soon } from "./dom.js";

/** Keep `menu` under `button` when it opens, inside the window, or the panel that the button is in. `onOpen` runs first. */
export function hang(menu, button, onOpen = () => {}) {
  menu.addEventListener("beforetoggle", (event) => {
    if (event.newState === "open") onOpen();
  });
  menu.addEventListener("toggle", (event) => {
    if (event.newState !== "open") return;
    const under = button.getBoundingClientRect();
    const edge = button.closest(".panel")?.getBoundingClientRect().right ?? document.documentElement.clientWidth - 8;
    const room = edge - menu.offsetWidth;
    menu.style.left = `${Math.max(8, Math.min(under.left, room)) + scrollX}px`;
    menu.style.top = `${under.bottom + 4 + scrollY}px`;
  });
}

const SHOWN = 50;

/**
 * A list with a search field in `menu`. `items(written)` gives [{value, name, note, also}], of which those are offered that
 * hold every written word, be it in `also`, which is not shown; `current()` the value that holds; `pick(value, item)` is told the choice. `open()` runs when it
 * opens, `search(written)` when a reader has written something and pauses. `update(text)` draws it again with what `items` gives by then, and says `text` where that is nothing at all.
 */
export function searchable(menu, button, { label, placeholder = "Search", items, current, pick, open = () => {}, search = () => {} }) {
  const list = h("ul", { class: "options", role: "listbox", id: `${menu.id}-options`, "aria-label": label });
  const rest = h("p", { class: "hint" });
  const field = h("input", {
    class: "search", type: "search", autofocus: true, role: "combobox", placeholder, autocomplete: "off", spellcheck: "false",
    "aria-label": label, "aria-controls": list.id, "aria-expanded": "true", "aria-autocomplete": "list",
  });
  menu.replaceChildren(field, list, rest);
  let found = [];
  let active = 0;
  let nothing = "";

  const choose = (item) => {
    menu.hidePopover();
    pick(item.value, item);
  };
  const mark = () => {
    [...list.children].forEach((option, i) => {
      option.classList.toggle("is-active", i === active);
      if (i !== active) return;
      field.setAttribute("aria-activedescendant", option.id);
      option.scrollIntoView({ block: "nearest" });
    });
  };
  const draw = () => {
    const written = field.value.trim();
    const words = written.toLocaleLowerCase().split(/\s+/);
    const all = items(written).filter(({ value, name, also = "" }) => words.every((word) => `${name} ${value} ${also}`.toLocaleLowerCase().includes(word)));
    found = all.slice(0, SHOWN);
    list.replaceChildren(
      ...found.map((item, i) => {
        const { value, name, note } = item;
        return h("li", { class: "option", role: "option", id: `${list.id}-${i}`, "aria-selected": String(value === current()), onclick: () => choose(item) },
          h("span", { class: "option-name", title: name }, h("bdi", {}, name)), note ? h("span", { class: "note" }, note) : null);
      }),
    );
    rest.textContent = all.length > SHOWN ? `${all.length - SHOWN} more: type to narrow` : all.length ? "" : nothing || "Nothing by that name.";
    rest.hidden = !rest.textContent;
    field.removeAttribute("aria-activedescendant");
    active = Math.max(0, found.findIndex(({ value }) => value === current()));
    mark();
  };

  const searchSoon = soon(() => field.value.trim() && search(field.value.trim()));
  field.addEventListener("input", () => {
    draw();
    searchSoon();
  });
  field.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && found.length) {
      active = (active + step + found.length) % found.length;
      mark();
    } else if (event.key === "Enter" && found[active]) choose(found[active]);
    else return;
    event.preventDefault();
  });
  hang(menu, button, () => {
    field.value = "";
    draw();
    open();
  });
  return {
    update: (text = "") => {
      nothing = text;
      draw();
    },
  };
}
