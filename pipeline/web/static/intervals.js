// A series of the API as bars on an axis: what each covers, where the labels go, which lines the grid has.

import { DAY_MS, between, moment, write } from "./format.js";

const MINUTES = { "15m": 15, "1h": 60, "4h": 240, "1d": 1440, "1w": 10_080, "1mo": 43_200 };
const A_MOMENT_MS = 60_000; // a range that ends this close to now ends now

/**
 * The bars of an answer: {start, end, wall, parts, total, isOpen, isPartial, isAhead, when}. `parts` holds the numbers
 * of `fields`; what counts is clipped to the range. `isOpen`: its interval is not over; `isPartial`: it counts less
 * than its interval; `isAhead`: it has not begun; `when` says all that in words.
 */
export function barsOf({ data: { interval, buckets }, range }, now, fields) {
  const from = moment(range.from);
  const to = moment(range.to);
  const isWhole = startsInterval(to.wall, interval);
  const starts = buckets.map(({ start }) => moment(start));
  return buckets.map((bucket, i) => {
    const start = starts[i].ms < from.ms ? from : starts[i];
    const end = starts[i + 1] ?? to;
    const isEndCut = i === buckets.length - 1 && !isWhole;
    const isOpen = isEndCut ? end.ms >= now.ms - A_MOMENT_MS && start.ms <= now.ms : start.ms <= now.ms && now.ms < end.ms;
    const isCut = isEndCut || start !== starts[i];
    const isAhead = start.ms > now.ms;
    const label = isOpen ? ", unfinished" : isAhead ? ", not begun" : isCut ? ", cut by the range" : "";
    const parts = fields.map((field) => bucket[field]);
    return {
      start, end, wall: starts[i].wall, parts, total: parts.reduce((a, b) => a + Number(b), 0),
      isOpen, isPartial: isOpen || isCut, isAhead,
      get when() {
        return `${between(start, end)}${label}`; // of thousands of bars few are ever read
      },
    };
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
    minutes, unit: (wall) => Math.floor(wall.getTime() / 60_000 / minutes), label: clockOrDay,
  })),
  { minutes: 1440, unit: dayOf, label: write.dayShort },
  { minutes: 1440, unit: dayOf, label: write.dateShort },
  { minutes: 2880, unit: (wall) => Math.floor(dayOf(wall) / 2), label: write.dateShort },
  { minutes: 10_080, unit: (wall) => Math.floor((dayOf(wall) + 3) / 7), label: write.dateShort },
  { minutes: 43_200, unit: monthOf, label: monthOrYear },
  { minutes: 129_600, unit: (wall) => Math.floor(monthOf(wall) / 3), label: monthOrYear },
  ...[1, 5, 10, 50, 100].map((years) => ({
    minutes: 525_600 * years, unit: (wall) => Math.floor(wall.getUTCFullYear() / years), label: write.year,
  })),
];

/** The labels of an axis `width` pixels wide: [{index, text}], as many as stand apart. */
export function labels(interval, bars, width) {
  for (const { minutes, unit, label } of STEPS) {
    if (minutes < MINUTES[interval] || (minutes < 1440 && minutes % MINUTES[interval])) continue;
    const before = (i) => (i ? bars[i - 1].wall : new Date(bars[0].wall.getTime() - 1));
    const found = bars.flatMap(({ wall }, index) => (unit(wall) !== unit(before(index)) ? [{ index, text: label(wall) }] : []));
    const each = 10 + 7 * found.reduce((most, { text }) => Math.max(most, text.length), 0);
    if (found.length * each <= width) return found;
  }
  return [];
}

/** Round steps from 0 to at least `most`, whole numbers: at most five lines. */
export function grid(most) {
  const rough = Math.max(1, most / 4);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(1, [1, 2, 2.5, 5, 10].map((m) => m * power).find((candidate) => candidate >= rough && Number.isInteger(candidate)) ?? 1);
  const lines = [0, step];
  while (lines.at(-1) < most) lines.push(lines.at(-1) + step);
  return lines;
}
