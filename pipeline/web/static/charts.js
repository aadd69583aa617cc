// The three charts. All that draws is in this file.

import { botPath } from "./api.js";
import { h, s, tip } from "./dom.js";
import { DAY_MS, between, compact, count, country, integer, moment, share, write } from "./format.js";
import { Panel } from "./panel.js";
import { REQUEST_FILTERS, chosen } from "./state.js";

const MINUTES = { "15m": 15, "1h": 60, "4h": 240, "1d": 1440, "1w": 10_080, "1mo": 43_200 };
const A_MOMENT_MS = 60_000; // a range that ends this close to now ends now
const HEIGHT = 208;
const ABOVE = 8;
const BELOW = 22;

/** Requests Over Time. `pick(from, to)` is told the range that a reader drags over, clicks or confirms. */
export function requestsOverTime(root, intervalNote, sideNote, pick) {
  const chart = new Bars(root.querySelector(".series"), pick);
  return new Panel(root, {
    request: ({ state, ends }) => ({
      path: botPath(state.bot, "requests/timeseries"),
      parameters: [...ends, ...chosen(state, REQUEST_FILTERS)],
    }),
    draw: ({ data, range }, view) => {
      const bars = barsOf(data, range, view.now);
      intervalNote.textContent = `Interval: ${data.interval}`;
      const most = bars.reduce((a, b) => (b.requests > a.requests ? b : a));
      sideNote.textContent = [
        most.requests ? `peak ${integer(most.requests)}` : "no requests in this range",
        ...(bars.some(({ isOpen }) => isOpen) ? ["current bar unfinished"] : []),
      ].join(", ");
      chart.show(data.interval, bars);
    },
  });
}

/** The bars of a series: what each counted (clipped to the range), and whether that is less than its interval. */
function barsOf({ interval, buckets }, range, now) {
  const from = moment(range.from);
  const to = moment(range.to);
  const isWhole = startsInterval(to.wall, interval);
  const starts = buckets.map(({ start }) => moment(start));
  return buckets.map(({ requests }, i) => {
    const start = starts[i].ms < from.ms ? from : starts[i];
    const end = starts[i + 1] ?? to;
    const isEndCut = i === buckets.length - 1 && !isWhole;
    const isOpen = isEndCut ? end.ms >= now.ms - A_MOMENT_MS && start.ms <= now.ms : start.ms <= now.ms && now.ms < end.ms;
    const isCut = isEndCut || start !== starts[i];
    const label = isOpen ? ", unfinished" : start.ms > now.ms ? ", not begun" : isCut ? ", cut by the range" : "";
    const reading = `${between(start, end)}${label}: ${count(requests, "request")}`;
    return { requests, start, end, wall: starts[i].wall, isOpen, isPartial: isOpen || isCut, reading };
  });
}

function startsInterval(wall, interval) {
  const minutes = wall.getTime() / 60_000;
  if (interval === "1mo") return minutes % 1440 === 0 && wall.getUTCDate() === 1;
  if (interval === "1w") return minutes % 1440 === 0 && wall.getUTCDay() === 1;
  return minutes % MINUTES[interval] === 0;
}

// Steps a reader would choose for a time axis, finest first. A bar is labelled where it begins another unit.
const dayOf = (wall) => Math.floor(wall.getTime() / DAY_MS);
const monthOf = (wall) => wall.getUTCFullYear() * 12 + wall.getUTCMonth();
const clockOrDay = (wall) => (wall.getTime() % DAY_MS ? write.minute(wall) : write.dayShort(wall));
const monthOrYear = (wall) => (wall.getUTCMonth() ? write.month(wall) : write.year(wall));
const STEPS = [
  ...[15, 30, 60, 120, 180, 240, 360, 720].map((minutes) => ({
    minutes, unit: (wall) => Math.floor(wall.getTime() / 60_000 / minutes), label: clockOrDay, width: 82,
  })),
  { minutes: 1440, unit: dayOf, label: write.dayShort, width: 88 },
  { minutes: 10_080, unit: (wall) => Math.floor((dayOf(wall) + 3) / 7), label: write.dateShort, width: 64 },
  { minutes: 43_200, unit: monthOf, label: monthOrYear, width: 52 },
  { minutes: 129_600, unit: (wall) => Math.floor(monthOf(wall) / 3), label: monthOrYear, width: 52 },
  ...[1, 5, 10, 50, 100].map((years) => ({
    minutes: 525_600 * years, unit: (wall) => Math.floor(wall.getUTCFullYear() / years), label: write.year, width: 52,
  })),
];

/** The labels of an axis `width` pixels wide: [{index, text}], as many as stand apart. */
function labels(interval, bars, width) {
  for (const { minutes, unit, label, width: each } of STEPS) {
    if (minutes < MINUTES[interval] || (minutes < 1440 && minutes % MINUTES[interval])) continue;
    const before = (i) => (i ? bars[i - 1].wall : new Date(bars[0].wall.getTime() - 1));
    const found = bars.flatMap(({ wall }, index) => (unit(wall) !== unit(before(index)) ? [{ index, text: label(wall) }] : []));
    if (found.length * each <= width) return found;
  }
  return [];
}

/** Round steps from 0 to at least `most`, whole numbers: at most five lines. */
function grid(most) {
  const rough = Math.max(1, most / 4);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(1, [1, 2, 2.5, 5, 10].map((m) => m * power).find((candidate) => candidate >= rough && Number.isInteger(candidate)) ?? 1);
  const lines = [0, step];
  while (lines.at(-1) < most) lines.push(lines.at(-1) + step);
  return lines;
}

class Bars {
  #bars = [];
  #interval = "1h";
  #active = 0;
  #anchor = null; // where a drag began

  constructor(root, pick) {
    this.pick = pick;
    this.svg = s("svg", { "aria-hidden": "true" });
    this.plot = h("div", { class: "plot skeleton", tabindex: 0, role: "slider", "aria-label": "Requests over time, bar by bar", "aria-valuemin": 0 }, this.svg);
    root.replaceChildren(this.plot);
    new ResizeObserver(() => this.#draw()).observe(this.plot);
    this.plot.addEventListener("pointermove", (event) => this.#hover(event));
    this.plot.addEventListener("pointerdown", (event) => this.#press(event));
    this.plot.addEventListener("pointerup", (event) => this.#release(event));
    this.plot.addEventListener("pointerleave", () => this.#leave());
    this.plot.addEventListener("blur", () => this.#leave());
    this.plot.addEventListener("focus", () => this.plot.matches(":focus-visible") && this.#activate(this.#active));
    this.plot.addEventListener("keydown", (event) => this.#key(event));
  }

  show(interval, bars) {
    this.#interval = interval;
    this.#bars = bars;
    this.#active = Math.min(this.#active || bars.length - 1, bars.length - 1);
    this.#anchor = null;
    this.plot.classList.remove("skeleton");
    this.plot.setAttribute("aria-valuemax", bars.length - 1);
    this.#say();
    this.#draw();
  }

  #draw() {
    const bars = this.#bars;
    const width = this.plot.clientWidth;
    if (!bars.length || !width) return;
    const most = bars.reduce((a, { requests }) => (requests > a ? requests : a), 0);
    const lines = grid(most);
    const left = 10 + 7 * Math.max(...lines.map((value) => compact(value).length));
    const top = lines.at(-1);
    const inner = HEIGHT - ABOVE - BELOW;
    const y = (value) => ABOVE + inner * (1 - Number(value) / top);
    const each = (width - left) / bars.length;
    const x = (i) => left + i * each;
    const gap = each > 12 ? 2 : each > 4 ? 1 : 0;
    this.scale = { left, each };

    const frame = lines.map((value) =>
      s("g", { class: value ? "grid" : "grid base" },
        s("line", { x1: left, x2: width, y1: y(value), y2: y(value) }),
        s("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, compact(value))));
    const axis = labels(this.#interval, bars, width - left).map(({ index, text }) => {
      const room = text.length * 7 + 4;
      const fits = x(index) + room < width;
      return s("g", { class: "tick" },
        s("line", { x1: x(index), x2: x(index), y1: HEIGHT - BELOW, y2: HEIGHT - BELOW + 5 }),
        ...(fits ? [s("text", { x: x(index) + 3, y: HEIGHT - 5 }, text)] : []));
    });
    const drawn = bars.map(({ requests, start, isPartial }, i) => {
      const height = requests ? Math.max(1.5, HEIGHT - BELOW - y(requests)) : 1;
      const kind = requests ? (isPartial ? "partial" : "whole") : "zero";
      return s("rect", {
        class: `count ${kind}`, x: x(i) + gap / 2, width: Math.max(each - gap, 0.5), y: HEIGHT - BELOW - height, height,
        "data-start": start.text, "data-requests": requests,
      });
    });
    this.band = s("rect", { class: "band", y: ABOVE, height: inner, width: 0 });
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("height", HEIGHT);
    this.svg.replaceChildren(...frame, this.band, ...drawn, ...axis);
  }

  #at({ clientX }) {
    const { left, each } = this.scale;
    const inside = clientX - this.plot.getBoundingClientRect().left - left;
    return Math.min(this.#bars.length - 1, Math.max(0, Math.floor(inside / each)));
  }

  #say() {
    this.plot.setAttribute("aria-valuenow", this.#active);
    this.plot.setAttribute("aria-valuetext", this.#bars[this.#active].reading);
  }

  #activate(index, first = index) {
    const [a, b] = [Math.min(first, index), Math.max(first, index)];
    const { left, each } = this.scale;
    this.#active = index;
    this.#say();
    this.band.setAttribute("x", left + a * each);
    this.band.setAttribute("width", (b - a + 1) * each);
    const box = this.plot.getBoundingClientRect();
    const text = a === b ? this.#bars[index].reading : `Release to show ${between(this.#bars[a].start, this.#bars[b].end)}`;
    tip(text, { left: box.left + left + a * each, width: (b - a + 1) * each, top: box.top + ABOVE, bottom: box.bottom });
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
    this.band?.setAttribute("width", 0);
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
    tip(null);
    this.pick(this.#bars[a].start.text, this.#bars[b].end.text);
  }
}

const SHOWN = 10;

/** Top Endpoints, Top Countries: ranked by requests; `toggle(by, value)` is told what a reader clicks. */
export function ranking(root, by, toggle) {
  const body = root.querySelector(".ranked");
  return new Panel(root, {
    request: ({ state, ends }) => ({
      path: botPath(state.bot, "requests/top"),
      parameters: [["by", by], ["limit", SHOWN], ...ends, ...chosen(state, REQUEST_FILTERS)],
    }),
    draw: ({ data }, { state }) => {
      const focused = body.contains(document.activeElement) ? document.activeElement.dataset.value : null;
      const chips = state.filters.filter(([name]) => name === by).map(([, value]) => value);
      const longest = data.reduce((most, { share: of }) => Math.max(most, of), 0);
      const rows = data.map((row) => h("li", {}, ranked(row, by, longest, chips, toggle)));
      body.replaceChildren(rows.length ? h("ol", { class: "ranks" }, ...rows) : h("p", { class: "none" }, "No requests in this range."));
      if (focused !== null) [...body.querySelectorAll("button")].find(({ dataset }) => dataset.value === focused)?.focus();
    },
  });
}

function ranked({ kind, value, requests, share: of }, by, longest, chips, toggle) {
  const name = kind === "other" ? "Other" : kind === "unknown" ? "Unknown" : by === "country" ? country(value) : value;
  const bar = h("span", { class: "rank-bar" });
  bar.style.width = `${(of / longest) * 100}%`;
  const parts = [
    bar,
    h("span", { class: "rank-name", title: by === "country" && kind === "value" ? `${name} (${value})` : name }, name),
    h("span", { class: "rank-count", title: integer(requests) }, compact(requests)),
    h("span", { class: "rank-share" }, share(of)),
  ];
  const told = `${name}: ${count(requests, "request")}, ${share(of)}`;
  const dataset = { kind, value: value ?? "", requests, share: of };
  if (kind === "other") return h("div", { class: "rank is-rest", dataset, role: "group", "aria-label": told }, ...parts);
  const wanted = value ?? "";
  return h(
    "button",
    {
      class: `rank${kind === "value" ? "" : " is-rest"}`, type: "button", dataset, "aria-label": told,
      "aria-pressed": String(chips.includes(wanted)), onclick: () => toggle(by, wanted),
    },
    ...parts,
  );
}
