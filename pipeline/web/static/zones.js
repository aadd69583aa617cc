// Time zones: their names of today, and what their clocks show. Both as the browser knows them; what the API answers
// carries its own offsets.

import { DAY_MS, moment, offsetName } from "./format.js";

// Browsers built on ICU go on using the names that these had when ICU first knew them.
const RENAMED = {
  "Africa/Asmera": "Africa/Asmara",
  "America/Buenos_Aires": "America/Argentina/Buenos_Aires",
  "America/Catamarca": "America/Argentina/Catamarca",
  "America/Coral_Harbour": "America/Atikokan",
  "America/Cordoba": "America/Argentina/Cordoba",
  "America/Godthab": "America/Nuuk",
  "America/Indianapolis": "America/Indiana/Indianapolis",
  "America/Jujuy": "America/Argentina/Jujuy",
  "America/Louisville": "America/Kentucky/Louisville",
  "America/Mendoza": "America/Argentina/Mendoza",
  "Asia/Calcutta": "Asia/Kolkata",
  "Asia/Katmandu": "Asia/Kathmandu",
  "Asia/Rangoon": "Asia/Yangon",
  "Asia/Saigon": "Asia/Ho_Chi_Minh",
  "Atlantic/Faeroe": "Atlantic/Faroe",
  "Europe/Kiev": "Europe/Kyiv",
  "Pacific/Enderbury": "Pacific/Kanton",
  "Pacific/Ponape": "Pacific/Pohnpei",
  "Pacific/Truk": "Pacific/Chuuk",
};
const FORMER = Object.fromEntries(Object.entries(RENAMED).map(([former, name]) => [name, former]));

/** A zone by its name of today. */
export const today = (zone) => RENAMED[zone] ?? zone;

/** A zone's name for reading. */
export const spelled = (zone) => zone.replaceAll("_", " ");

/** The zone of this browser, or UTC where it does not say one. */
export function browserZone() {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  return zone && zone !== "Etc/Unknown" ? today(zone) : "UTC";
}

/** What shows a zone's clock; null where the browser knows no zone by that name. */
function clockOf(zone) {
  try {
    return new Intl.DateTimeFormat("en-US", {
      timeZone: zone, hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric",
    });
  } catch {
    return null;
  }
}

/** How far a clock is ahead of UTC at an instant, in milliseconds. */
function aheadAt(ms, clock) {
  const of = Object.fromEntries(clock.formatToParts(ms).map(({ type, value }) => [type, Number(value)]));
  return Date.UTC(of.year, of.month - 1, of.day, of.hour, of.minute, of.second) - Math.floor(ms / 1000) * 1000;
}

/** An offset as times have it: "+05:45". */
function offsetText(ahead) {
  const clock = new Date(Math.abs(ahead)).toISOString().slice(11, 16);
  return `${ahead < 0 ? "-" : "+"}${clock}`;
}

export const isKnown = (zone) => clockOf(zone) !== null;

/** An instant as the API would write it in a zone that is known. */
export function momentIn(ms, zone) {
  const ahead = aheadAt(ms, clockOf(zone));
  const shown = ahead % 60_000 ? 0 : ahead; // as in the 19th century: times cannot be written with seconds of offset
  return moment(`${new Date(ms + shown).toISOString().slice(0, -1)}${offsetText(shown)}`);
}

/**
 * The moments at which the clocks of a zone that is known show `wall`, in order: two where they go back. Where they
 * skip it, the one that is as long after the skip.
 */
export function momentsAt(wall, zone) {
  const clock = clockOf(zone);
  const [before, after] = [-DAY_MS, DAY_MS].map((by) => aheadAt(wall.getTime() + by, clock));
  const found = [...new Set([before, after])].map((ahead) => wall.getTime() - ahead).filter((ms) => ms + aheadAt(ms, clock) === wall.getTime());
  return (found.length ? found : [wall.getTime() - before]).sort((a, b) => a - b).map((ms) => momentIn(ms, zone));
}

// ---- to choose among ----

let names;
const offsets = new Map();

/** The offset that a zone has now; null where the browser does not know the zone. */
function offsetNow(zone) {
  if (!offsets.has(zone)) {
    const clock = clockOf(zone);
    offsets.set(zone, clock && offsetText(aheadAt(Date.now(), clock)));
  }
  return offsets.get(zone);
}

/** The zone that is `written` as a whole, by any name the browser knows it by; undefined where it is none. */
const meant = (written) => /^[a-z]/i.test(written) ? today(clockOf(written.replaceAll(" ", "_"))?.resolvedOptions().timeZone) : undefined;

/**
 * Zones for a list to search, the browser's and `chosen` first: [{value, name, note, also}]. A former name finds its
 * zone too, as does any other one that is written whole, and an offset: "+5:45", "UTC-3".
 */
export function zones(written, chosen) {
  names ??= Intl.supportedValuesOf("timeZone").map(today).sort();
  const here = browserZone();
  const whole = meant(written);
  if (!written) offsets.clear(); // the list has just been opened
  return [...new Set([here, "UTC", chosen, ...names, ...(whole ? [whole] : [])])].map((zone) => ({
    value: zone,
    name: spelled(zone),
    also: [FORMER[zone] && spelled(FORMER[zone]), (zone === whole || isOffsetOf(zone, written)) && written].filter(Boolean).join(" "),
    get note() {
      const offset = offsetNow(zone);
      return [zone === here && "this browser", offset && zone !== "UTC" && offsetName(offset)].filter(Boolean).join(", ");
    },
  }));
}

/** Whether a zone has the offset that is `written`, or begun: "+5" is +05:00 alone, "+5:" also +05:30. */
function isOffsetOf(zone, written) {
  const [, sign, hours, minutes = ":00"] = /^(?:utc|gmt)?\s*([+−-])(\d\d?)(:\d{0,2})?$/i.exec(written) ?? [];
  const begun = `${sign === "+" ? "+" : "-"}${hours?.padStart(2, "0")}${minutes}`;
  return sign !== undefined && (offsetNow(zone)?.startsWith(begun) ?? false);
}
