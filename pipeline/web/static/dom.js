// The few things every module does to the document.

/** An element with properties (`class`, `dataset`, `on…`, anything with a dash or in capitals as an attribute) and children. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") element.className = value;
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** The same for SVG; every property is an attribute. */
export function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export const $ = (id) => document.getElementById(id);

/** Show `text`, which the named element says to a screen reader itself, just above `anchor` (an element, or a rectangle in the viewport); null hides it. */
export function tip(text, anchor) {
  const box = $("tip");
  box.hidden = text === null;
  if (text === null) return;
  box.textContent = text;
  const around = anchor instanceof Element ? anchor.getBoundingClientRect() : anchor;
  const { offsetWidth: width, offsetHeight: height } = box;
  const left = Math.min(Math.max(4, around.left + around.width / 2 - width / 2), document.documentElement.clientWidth - width - 4);
  const top = around.top - height - 6 < 4 ? around.bottom + 6 : around.top - height - 6;
  box.style.left = `${left}px`;
  box.style.top = `${top}px`;
}

/** Read `text()` out while the pointer is over `element` or it has the focus. */
export function tipped(element, text) {
  const show = () => tip(text(), element);
  const hide = () => tip(null);
  element.addEventListener("pointerenter", show);
  element.addEventListener("focus", show);
  element.addEventListener("pointerleave", hide);
  element.addEventListener("blur", hide);
}

/** `run`, once a moment has passed in which nothing called for it. */
export function soon(run) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(run, 200, ...given);
  };
}
