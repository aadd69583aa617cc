// How numbers, times and places are written. Times of the API carry their zone's offset, so their wall clock is read
// off the text itself: no zone data of the browser's takes part.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** 1243991 → "1,243,991". */
export const integer = (n) => whole.format(n);

const UNITS = [[1e15, "P"], [1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]];

/** 9876 → "9,876"; 12431 → "12.4k"; 1243991 → "1.24M": three figures from ten thousand on, exact below. */
export function compact(n) {
  if (n < 10_000) return integer(n);
  const figures = Number(Number(n).toPrecision(3));
  const [unit, name] = UNITS.find(([least]) => figures >= least);
  return `${(figures / unit).toPrecision(3)}${name}`;
}

/** A round number on an axis: "2.5M", "10M". */
export const axis = (n) => compact(n).replace(/\.0+(?=\D)/, "").replace(/(\.\d+?)0+(?=\D)/, "$1");

/** A fraction as a percentage of one decimal; what is there is never "0 %". */
export function share(fraction) {
  const percent = fraction * 100;
  if (percent > 0 && percent < 0.1) return "<0.1 %";
  if (percent > 99.9 && percent < 100) return ">99.9 %";
  return `${percent.toFixed(percent === 100 ? 0 : 1)} %`;
}

export const count = (n, one, many = `${one}s`) => `${integer(n)} ${n === 1 ? one : many}`;

/** A time of the API: its instant, its wall clock (as a UTC date), its offset as text. */
export function moment(text) {
  const [, wall, offset] = text.match(/^(.*?)(Z|[+-]\d\d:\d\d)$/);
  return { text, ms: Date.parse(text), wall: new Date(`${wall}Z`), offset: offset === "Z" ? "+00:00" : offset };
}

const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** Parts of a wall clock in words. */
export const write = {
  day: (wall) => `${write.dayShort(wall)} ${write.year(wall)}`,
  dayShort: (wall) => `${DAYS[wall.getUTCDay()]} ${write.dateShort(wall)}`,
  date: (wall) => `${write.dateShort(wall)} ${write.year(wall)}`,
  dateShort: (wall) => `${wall.getUTCDate()} ${write.month(wall)}`,
  month: (wall) => MONTHS[wall.getUTCMonth()],
  year: (wall) => String(wall.getUTCFullYear()),
  minute: (wall) => wall.toISOString().slice(11, 16),
  second: (wall) => wall.toISOString().slice(11, 19),
};

/** "2026-11-17 14:03:21": for columns. */
export const sortable = (wall) => wall.toISOString().slice(0, 19).replace("T", " ");

export const DAY_MS = 86_400_000;
export const isMidnight = (wall) => wall.getTime() % DAY_MS === 0;

/** How times between two moments are written: to the second, but to the millisecond where these are closer than that. */
function clockFor(start, end) {
  const isClose = end.ms - start.ms < 1000;
  return (wall) => {
    const [minute, second, all] = [16, 19, 23].map((length) => wall.toISOString().slice(11, length));
    if (isClose && !all.endsWith(".000")) return all;
    return second.endsWith(":00") ? minute : second;
  };
}

/** The half-open [start, end) in words: whole days as days, both included; anything else with its clock and offset. */
export function between(start, end) {
  const clock = clockFor(start, end);
  const isOneYear = write.year(start.wall) === write.year(end.wall);
  if (isMidnight(start.wall) && isMidnight(end.wall) && end.wall > start.wall) {
    const last = new Date(end.wall.getTime() - DAY_MS);
    if (last.getTime() === start.wall.getTime()) return write.day(last);
    return `${write.year(start.wall) === write.year(last) ? write.dateShort(start.wall) : write.date(start.wall)} – ${write.date(last)}`;
  }
  const lastDay = new Date(end.wall.getTime() - (isMidnight(end.wall) ? DAY_MS : 0));
  const isOneDay = write.date(start.wall) === write.date(lastDay);
  const from = `${isOneYear && !isOneDay ? write.dayShort(start.wall) : write.day(start.wall)}, ${clock(start.wall)}`;
  const to = isOneDay ? (isMidnight(end.wall) ? "24:00" : clock(end.wall)) : `${write.day(end.wall)}, ${clock(end.wall)}`;
  if (start.offset === end.offset) return `${from} – ${to} (${offsetName(end.offset)})`;
  return `${from} (${offsetName(start.offset)}) – ${to} (${offsetName(end.offset)})`;
}

/** The same as short as a button: without the year, and without the offset where the clock says enough. */
export function briefly(start, end) {
  const clock = clockFor(start, end);
  if (isMidnight(start.wall) && isMidnight(end.wall)) return between(start, end);
  const lastDay = new Date(end.wall.getTime() - (isMidnight(end.wall) ? DAY_MS : 0));
  const isOneDay = write.date(start.wall) === write.date(lastDay);
  const offset = (one) => (isOneDay && start.offset !== end.offset ? ` (${offsetName(one.offset)})` : "");
  const to = isOneDay && isMidnight(end.wall) ? "24:00" : clock(end.wall);
  return `${write.dayShort(start.wall)}, ${clock(start.wall)}${offset(start)} – ${isOneDay ? "" : `${write.dayShort(end.wall)}, `}${to}${offset(end)}`;
}

/** An offset in words: "UTC+05:45". */
export const offsetName = (offset) => (offset === "+00:00" ? "UTC" : `UTC${offset.replace("-", "−")}`);

/** "2 s", "4 min", "3 h", "5 days": how long, roughly. */
export function lasting(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

const regions = new Intl.DisplayNames(navigator.languages, { type: "region", fallback: "none" });

/** A country's name in the reader's language; the code itself where there is none. */
export function country(code) {
  try {
    return regions.of(code) ?? code;
  } catch {
    return code; // not shaped like a code at all
  }
}

let codes;
/** The code of a country as a reader may write it: code, name, or "Name (CODE)"; null where there is none. */
export function countryCode(text) {
  const wanted = text.trim().toLocaleLowerCase();
  const shaped = wanted.match(/^(?:.*\()?([a-z]{2})\)?$/);
  if (!codes) {
    const letters = [..."ABCDEFGHIJKLMNOPQRSTUVWXYZ"];
    const pairs = letters.flatMap((a) => letters.map((b) => a + b));
    codes = new Map(pairs.filter((code) => current(code) === code).map((code) => [country(code).toLocaleLowerCase(), code]));
  }
  return codes.get(wanted) ?? (shaped ? current(shaped[1]) : null);
}

/** The code in use for one that may be out of use: UK is GB, SU is RU. Both have the same name. */
const current = (code) => new Intl.Locale(`und-${code}`).region;

/** Whether a text is an IPv4 or IPv6 address. */
export const isAddress = (text) =>
  /^\d{1,3}(\.\d{1,3}){3}$/.test(text) ? text.split(".").every((part) => part <= 255) : text.includes(":") && URL.canParse(`http://[${text}]/`);

const NAMES = {
  endpoint: "Endpoint", country: "Country", region: "Region", city: "City", browser: "Browser",
  client_class: "Client", ip: "IP", page_url: "Page", source: "Source", model: "Model",
};
export const filterName = (name) => NAMES[name] ?? name;

const CLASSES = { person: "Person", crawler: "Crawler", api_client: "API client" };

const SOURCES = { chat: "Chat", fs_chat: "FS Chat", responses: "Responses", ticket_summary: "Ticket Summary" };
export const KNOWN_SOURCES = Object.keys(SOURCES);
export const sourceName = (source) => SOURCES[source] ?? source;

/** A filter's value as it is shown; empty means unknown. */
export function filterValue(name, value) {
  if (value === "") return "Unknown";
  if (name === "country") return country(value);
  if (name === "client_class") return CLASSES[value] ?? value;
  return name === "source" ? sourceName(value) : value;
}
