// What the API can never answer, said to a person, and the way out of it. To try again would not help.

import { isAddress } from "./format.js";
import { written } from "./ranges.js";
import { DEFAULT_RANGE } from "./state.js";
import { browserZone, spelled } from "./zones.js";

/**
 * Why a state was refused: {message, label, next, isOfAll}; `next` is the state without what is wrong, `label` says so
 * on a button; `isOfAll`: it concerns the whole page, not a table alone. Null where a problem may pass, or is none of the state's.
 */
export function refusal({ status, parameter }, state) {
  if (status !== 400) return null;
  if (parameter === "tz") {
    const zone = state.zone === browserZone() ? "UTC" : browserZone();
    return { message: `There is no time zone “${state.zone}”.`, label: `Use ${spelled(zone)}`, next: { ...state, zone }, isOfAll: true };
  }
  if (["range", "from", "to"].includes(parameter)) return { message: saidOfRange(state), label: "Show the last 7 days", next: { ...state, range: DEFAULT_RANGE }, isOfAll: true };
  return parameter === "ip" ? ofAddresses(state) : null;
}

function saidOfRange({ range, zone }) {
  if (range.range) return `There is no range “${range.range}”.`;
  const ends = Object.values(range);
  const unreadable = ends.find((end) => written(end, zone) === null);
  if (unreadable !== undefined) return `“${unreadable}” is not a date or a time.`;
  if (range.from === undefined) return "The range has an end, but no beginning.";
  return range.to === undefined ? "A range up to now cannot begin in the future." : "The end of the range must be after its beginning.";
}

function ofAddresses(state) {
  const given = [...state.filters.filter(([name]) => name === "ip").map(([, value]) => value), state.own.requests.ip].filter(Boolean);
  const found = [...new Set(given.filter((value) => !isAddress(value)))];
  const wrong = found.length ? found : given; // it is the API that decides
  const own = wrong.includes(state.own.requests.ip) ? { ...state.own, requests: { ...state.own.requests, ip: null } } : state.own;
  const filters = state.filters.filter(([name, value]) => name !== "ip" || !wrong.includes(value));
  return {
    message: wrong.map((value) => `“${value}” is not an IP address.`).join(" "),
    label: wrong.length > 1 ? "Remove these filters" : "Remove this filter",
    next: { ...state, own, filters },
    isOfAll: filters.length < state.filters.length,
  };
}
