// Requests, who made them, and tokens over time: charts of one axis, which read each other's interval out.

import { botPath } from "./api.js";
import { h, s, tip } from "./dom.js";
import { unheeded } from "./filters.js";
import { axis, between, compact, count, integer } from "./format.js";
import { barsOf, grid, labels } from "./intervals.js";
import { Panel } from "./panel.js";
import { REQUEST_FILTERS, TOKEN_FILTERS, chosen } from "./state.js";

const ABOVE = 8;
const BELOW = 22;
const PAPER_WIDTH = 400; // more than a chart has on A4: its labels are printed a little smaller than on a screen
const LEFT = 45; // of most charts: all have the labels that fit beside it, so that those side by side have the same

/** Requests Over Time. `pick(from, to)` is told the range that a reader drags over, clicks or confirms. */
export const requestsOverTime = (root, pick) =>
  overTime(root, pick, () => ({
    path: "requests/timeseries", names: REQUEST_FILTERS, label: "Requests over time, bar by bar", parts: ["requests"],
    said: ([requests]) => count(requests, "request"), noted: peak("no requests counted"),
  }));

/** Tokens Over Time: input with output on top. */
export const tokensOverTime = (root, pick) =>
  overTime(root, pick, () => ({
    path: "tokens/timeseries", names: TOKEN_FILTERS, label: "Tokens over time, bar by bar", parts: ["input_tokens", "output_tokens"],
    said: ([input, output]) => `${integer(input)} input, ${count(output, "output token")}`, noted: peak("no tokens counted"),
  }));

const UNIQUE = { unique_ips: "unique IP", unique_conversations: "unique conversation" };

/** Unique IPs or conversations over time, where that is what is measured: nothing is asked otherwise. */
export const uniquesOverTime = (root, pick) =>
  overTime(root, pick, ({ measured }) => measured in UNIQUE && {
    path: "uniques/timeseries", names: REQUEST_FILTERS, label: `${UNIQUE[measured]}s over time, bar by bar`, parts: [measured],
    said: ([n]) => count(n, UNIQUE[measured]),
    noted: (bars, most, ignored) => [
      ...(ignored ? [ignored] : []), ...(most ? unfinished(bars) : []),
      `the bars add up to ${integer(bars.reduce((a, { total }) => a + total, 0))}: who comes in several counts in each, and in the card once`,
    ],
  });

/** What is said beside a title. */
const peak = (none) => (bars, most, ignored) => [
  ignored || (most ? `peak ${compact(most)}` : none),
  ...(most ? unfinished(bars) : []),
];

/** Which bars are drawn lighter, as they count less than their interval. */
function unfinished(bars) {
  if (bars.length > 1 && bars[0].isPartial && bars.at(-1).isPartial) return ["outer bars unfinished"];
  const isCut = (bar) => bar.isPartial && !bar.isOpen;
  const names = [isCut(bars[0]) && "first", isCut(bars.at(-1)) && "last", bars.some(({ isOpen }) => isOpen) && "current"].filter(Boolean);
  return names.length ? [`${names.join(" and ")} bar unfinished`] : [];
}

/** A chart of what `of(state)` says, if anything. */
function overTime(root, pick, of) {
  const chart = new Bars(root.querySelector(".series"), pick);
  const panel = new Panel(root, {
    redraws: true,
    request: ({ state, ends }) => {
      const { path, names, parts } = of(state) || {};
      return path ? { path: botPath(state.bot, path), parameters: [...ends, ...chosen(state, names)], parts } : null;
    },
    draw: (answer, { state, now }) => {
      if (!answer) return;
      const { names, label, parts, said, noted } = of(state);
      const bars = barsOf(answer, now, parts);
      root.querySelector(".interval").textContent = `Interval: ${answer.data.interval}`;
      const most = bars.reduce((a, { total }) => Math.max(a, total), 0);
      const side = root.querySelector(".side");
      side.title = side.textContent = noted(bars, most, unheeded(state, names)).join(", ");
      panel.bars = bars;
      chart.show({ interval: answer.data.interval, bars, most, label, parts, said });
    },
  });
  panel.chart = chart;
  return panel;
}

/** Let charts of one time axis show and read each other's interval. */
export function link(...panels) {
  const charts = panels.map(({ chart }) => chart);
  for (const chart of charts) chart.others = charts.filter((other) => other !== chart);
}

class Bars {
  others = [];
  #bars = [];
  #most = 0;
  #interval = "1h";
  #active = 0;
  #anchor = null; // where a drag began

  constructor(root, pick) {
    this.pick = pick;
    this.svg = s("svg", { "aria-hidden": "true" });
    this.plot = h("div", { class: "plot skeleton", tabindex: 0, role: "slider", "aria-label": "Over time, bar by bar", "aria-valuemin": 0, "aria-valuemax": 0, "aria-valuenow": 0 }, this.svg);
    root.append(this.plot);
    new ResizeObserver(() => this.#draw()).observe(this.plot);
    // Nothing says how wide paper is, or is told when the page is laid out for it.
    addEventListener("beforeprint", () => this.#draw(PAPER_WIDTH));
    addEventListener("afterprint", () => this.#draw());
    this.plot.addEventListener("pointermove", (event) => this.#hover(event));
    this.plot.addEventListener("pointerdown", (event) => this.#press(event));
    this.plot.addEventListener("pointerup", (event) => this.#release(event));
    this.plot.addEventListener("pointerleave", () => this.#leave());
    this.plot.addEventListener("blur", () => this.#leave());
    this.plot.addEventListener("focus", () => this.plot.matches(":focus-visible") && this.#activate(this.#active));
    this.plot.addEventListener("keydown", (event) => this.#key(event));
  }

  show({ interval, bars, most, label, parts, said }) {
    Object.assign(this, { parts, said });
    this.plot.setAttribute("aria-label", label);
    this.#interval = interval;
    this.#bars = bars;
    this.#most = most;
    this.#active = Math.min(this.#active || bars.length - 1, bars.length - 1);
    this.#anchor = null;
    this.plot.classList.remove("skeleton");
    this.plot.setAttribute("aria-valuemax", bars.length - 1);
    this.#say();
    this.#draw();
  }

  #draw(width = this.plot.clientWidth) {
    const bars = this.#bars;
    const height = this.plot.clientHeight;
    if (!bars.length || !height) return;
    const lines = grid(this.#most);
    const left = 10 + 7 * Math.max(...lines.map((value) => axis(value).length));
    const top = lines.at(-1);
    const inner = height - ABOVE - BELOW;
    const y = (value) => ABOVE + inner * (1 - Number(value) / top);
    const each = (width - left) / bars.length;
    const x = (i) => left + i * each;
    const gap = each > 12 ? 2 : each > 4 ? 1 : 0;
    this.scale = { left, each };

    const frame = lines.map((value) =>
      s("g", { class: value ? "grid" : "grid base" },
        s("line", { x1: left, x2: width, y1: y(value), y2: y(value) }),
        s("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, axis(value))));
    const ticks = labels(this.#interval, bars, width - Math.max(left, LEFT)).map(({ index, text }) => {
      const room = text.length * 7 + 4;
      const fits = x(index) + room < width;
      return s("g", { class: "tick" },
        s("line", { x1: x(index), x2: x(index), y1: y(0), y2: y(0) + 5 }),
        ...(fits ? [s("text", { x: x(index) + 3, y: height - 5 }, text)] : []));
    });
    const columns = bars.flatMap((bar, i) => this.#column(bar, x(i) + gap / 2, Math.max(each - gap, 0.5), y));
    this.band = s("rect", { class: "band", y: ABOVE, height: inner, width: 0 });
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("height", height);
    this.svg.replaceChildren(...frame, this.band, ...columns, ...ticks);
  }

  /** The rectangles of a bar, its parts one on the other; what is there is at least seen, and so is nothing. */
  #column({ parts, total, start, isPartial }, x, width, y) {
    const kind = isPartial ? " is-partial" : "";
    if (!total) return [s("rect", { class: "count is-zero", x, width, y: y(0) - 1, height: 1, "data-start": start.text, "data-value": 0 })];
    let below = 0;
    return parts.map((part, n) => {
      const foot = y(below);
      below += Number(part);
      const isFirst = n === 0;
      const height = Math.max(foot - y(below) - (isFirst ? 0 : 1), part ? 1.5 : 0); // parts are told apart by a gap, too
      return s("rect", { class: `count ${this.parts[n]}${kind}`, x, width, y: foot - height - (isFirst ? 0 : 1), height, "data-start": start.text, "data-value": part });
    });
  }

  #at({ clientX }) {
    const { left, each } = this.scale;
    const inside = clientX - this.plot.getBoundingClientRect().left - left;
    return Math.min(this.#bars.length - 1, Math.max(0, Math.floor(inside / each)));
  }

  #reading(index) {
    const { when, parts } = this.#bars[index];
    return `${when}: ${this.said(parts)}`;
  }

  #say() {
    this.plot.setAttribute("aria-valuenow", this.#active);
    this.plot.setAttribute("aria-valuetext", this.#reading(this.#active));
  }

  #activate(index, first = index) {
    const [a, b] = [Math.min(first, index), Math.max(first, index)];
    const { left, each } = this.scale;
    this.#active = index;
    this.#say();
    this.#mark(a, b);
    const [from, to] = [this.#bars[a].start, this.#bars[b]];
    const elsewhere = this.others.map((other) => other.echo(from.text, to.start.text)).filter((said) => said !== null);
    const box = this.plot.getBoundingClientRect();
    const text = a === b ? [this.#reading(index), ...elsewhere].join("\n") : `Release to show ${between(from, to.end)}`;
    tip(text, { left: box.left + left + a * each, width: (b - a + 1) * each, top: box.top + ABOVE, bottom: box.bottom });
  }

  #mark(a, b) {
    const { left, each } = this.scale;
    this.band.setAttribute("x", left + a * each);
    this.band.setAttribute("width", (b - a + 1) * each);
  }

  /** Mark the bars from one start to another, and say what the first counts; null where they are not here. */
  echo(from, to) {
    const [a, b] = [from, to].map((text) => this.#bars.findIndex(({ start }) => start.text === text));
    if (a < 0 || b < 0 || !this.scale) return null;
    this.#mark(a, b);
    return this.said(this.#bars[a].parts);
  }

  unmark() {
    this.band?.setAttribute("width", 0);
  }

  #hover(event) {
    if (this.#bars.length) this.#activate(this.#at(event), this.#anchor ?? undefined);
  }

  #press(event) {
    if (!this.#bars.length || event.button !== 0) return;
    this.#activate(this.#at(event));
    if (event.pointerType === "touch") return; // a finger reads; it also scrolls
    this.#anchor = this.#at(event);
    this.plot.setPointerCapture(event.pointerId);
  }

  #release(event) {
    if (this.#anchor === null) return;
    const [a, b] = [this.#anchor, this.#at(event)].sort((one, other) => one - other);
    this.#anchor = null;
    this.#zoom(a, b);
  }

  #leave() {
    if (this.#anchor !== null) return;
    for (const chart of [this, ...this.others]) chart.unmark();
    tip(null);
  }

  #key(event) {
    const last = this.#bars.length - 1;
    const to = { ArrowLeft: this.#active - 1, ArrowRight: this.#active + 1, ArrowDown: this.#active - 1, ArrowUp: this.#active + 1,
      PageDown: this.#active - 10, PageUp: this.#active + 10, Home: 0, End: last }[event.key];
    if (last < 0) return;
    if (to !== undefined) this.#activate(Math.min(last, Math.max(0, to)));
    else if (event.key === "Enter") this.#zoom(this.#active, this.#active);
    else if (event.key === "Escape") this.#leave();
    else return;
    event.preventDefault();
  }

  #zoom(a, b) {
    if (a === 0 && b === this.#bars.length - 1) return;
    this.#leave();
    this.pick(this.#bars[a].start.text, this.#bars[b].end.text);
  }
}

/** The shape of numbers as a line in a card: `values` from left to right. */
export function sparkline(values) {
  const most = Math.max(...values);
  const step = 100 / Math.max(1, values.length - 1);
  const points = values.map((value, i) => `${(i * step).toFixed(2)},${(19 - 18 * (value / (most || 1))).toFixed(2)}`);
  return s("svg", { class: "spark", viewBox: "0 0 100 20", preserveAspectRatio: "none", "aria-hidden": "true" }, s("polyline", { points: points.join(" ") }));
}
