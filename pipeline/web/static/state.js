// What the page shows is what its address says: a link shows the same, Back undoes.

import { browserZone, today } from "./zones.js";

export const PRESETS = [
  ["1h", "Last hour"],
  ["24h", "Last 24 hours"],
  ["7d", "Last 7 days"],
  ["30d", "Last 30 days"],
  ["90d", "Last 90 days"],
  ["12mo", "Last 12 months"],
  ["today", "Today"],
  ["yesterday", "Yesterday"],
  ["this_month", "This month"],
  ["last_month", "Last month"],
];

export const REQUEST_FILTERS = ["endpoint", "country", "region", "city", "browser", "client_class", "ip"];
export const TOKEN_FILTERS = ["source", "model"];
const FILTERS = [...REQUEST_FILTERS, ...TOKEN_FILTERS];

// A table's own filters, prefixed in the address with the table's name. Absent: null; "": the unknown ones.
const OWN_FILTERS = { requests: ["endpoint", "country", "ip"], tokens: ["source"] };

const LONGEST_BOT = 128; // code points

export const DEFAULT_RANGE = { range: "7d" };

/** What the third ranking can rank; the first unless chosen. */
export const RANKED = ["client_class", "browser", "region", "city", "page_url", "source", "model"];

/** What the first chart can show; the first unless chosen. */
export const MEASURED = ["requests", "unique_ips", "unique_conversations"];

/** The bot that a path names; null where none is named, undefined where the name can be no bot's. */
function botOf(path) {
  const named = path.match(/^\/bots\/([^/]+)\/analytics$/);
  if (!named) return null;
  try {
    const bot = decodeURIComponent(named[1]);
    return /\p{Cc}/u.test(bot) || [...bot].length > LONGEST_BOT ? undefined : bot;
  } catch {
    return undefined; // no UTF-8
  }
}

/** Read an address: {bot, range, zone, ranked, measured, filters, own}; `bot` as `botOf` says. */
export function read(location) {
  const query = new URLSearchParams(location.search);
  const ends = ["from", "to"].filter((name) => query.has(name)).map((name) => [name, query.get(name)]);
  return {
    bot: botOf(location.pathname),
    range: ends.length ? Object.fromEntries(ends) : { range: query.get("range") ?? DEFAULT_RANGE.range },
    zone: query.has("tz") ? today(query.get("tz")) : browserZone(),
    ranked: RANKED.find((name) => name === query.get("top")) ?? RANKED[0],
    measured: MEASURED.find((name) => name === query.get("chart")) ?? MEASURED[0],
    filters: FILTERS.flatMap((name) => [...new Set(query.getAll(name))].map((value) => [name, value])),
    own: Object.fromEntries(
      Object.entries(OWN_FILTERS).map(([table, names]) => [
        table,
        Object.fromEntries(names.map((name) => [name, query.get(`${table}.${name}`)])),
      ]),
    ),
  };
}

/** The address of a state: the inverse of `read`. */
export function address(state) {
  const query = new URLSearchParams({ ...state.range, tz: state.zone });
  if (state.ranked !== RANKED[0]) query.set("top", state.ranked);
  if (state.measured !== MEASURED[0]) query.set("chart", state.measured);
  for (const [name, value] of state.filters) query.append(name, value);
  for (const [table, own] of Object.entries(state.own))
    for (const [name, value] of Object.entries(own)) if (value !== null) query.set(`${table}.${name}`, value);
  return `/bots/${encodeURIComponent(state.bot)}/analytics?${query}`;
}

/** `state` with the filter added, or removed where it was there. */
export function toggled(state, name, value) {
  const others = state.filters.filter(([n, v]) => n !== name || v !== value);
  return { ...state, filters: others.length < state.filters.length ? others : [...others, [name, value]] };
}

/** The page's filters among `names`, as parameters. */
export const chosen = (state, names) => state.filters.filter(([name]) => names.includes(name));

/**
 * The page's filters and a table's own, both to hold. The API reads a repeated name as "or", so a name that both
 * have becomes the table's value alone; null where the page's filter leaves that value out, so nothing can match.
 */
export function narrowed(state, table, names) {
  const own = Object.entries(state.own[table]).filter(([, value]) => value !== null);
  const page = chosen(state, names);
  for (const [name, value] of own) {
    const allowed = page.filter(([n]) => n === name);
    if (allowed.length && !allowed.some(([, v]) => v === value)) return null;
  }
  return [...page.filter(([name]) => !own.some(([n]) => n === name)), ...own];
}
