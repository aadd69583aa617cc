// The values of a filter that exist in the range on show, for suggestions.

import { botPath, get, Problem } from "./api.js";
import { REQUEST_FILTERS, TOKEN_FILTERS, chosen } from "./state.js";

const MOST = 1000;
const TOKENS = { path: "token-usages/top", names: TOKEN_FILTERS, read: (data) => fromTop(data, () => null) };
const REQUESTS = { path: "requests/top", names: REQUEST_FILTERS, read: (data) => fromTop(data, ({ requests }) => requests) };
// Addresses have no ranking: they are gathered from the newest rows.
const ADDRESSES = { path: "requests", names: REQUEST_FILTERS, read: fromRows };
const SOURCES = { ip: ADDRESSES, ...Object.fromEntries(TOKEN_FILTERS.map((name) => [name, TOKENS])) };

export class Values {
  #ends = "";
  #asked = new Map();

  /**
   * The values of the filter `name`, most frequent first: [{value, requests}], "" the unknown one. The page's other
   * filters hold. Each is asked for once a range; where there is no answer there are none, and it is asked again.
   */
  of({ state, ends }, name) {
    const range = JSON.stringify([state.bot, ends]);
    if (range !== this.#ends) this.#asked.clear();
    this.#ends = range;
    const { path, names, read } = SOURCES[name] ?? REQUESTS;
    const others = chosen(state, names.filter((other) => other !== name));
    const key = JSON.stringify([name, others]);
    if (!this.#asked.has(key)) {
      const parameters = [["limit", MOST], ...ends, ...others, ...(name === "ip" ? [] : [["by", name]])];
      const asked = get(botPath(state.bot, path), parameters).then(({ data }) => read(data));
      this.#asked.set(key, asked.catch((error) => {
        if (!(error instanceof Problem)) throw error;
        this.#asked.delete(key);
        return [];
      }));
    }
    return this.#asked.get(key);
  }
}

function fromTop(data, requests) {
  return data.filter(({ kind }) => kind !== "other").map((row) => ({ value: row.value ?? "", requests: requests(row) }));
}

function fromRows({ rows }) {
  const counts = new Map();
  for (const { ip } of rows) counts.set(ip ?? "", (counts.get(ip ?? "") ?? 0) + 1);
  return [...counts].sort(([, a], [, b]) => b - a).map(([value]) => ({ value, requests: null }));
}
