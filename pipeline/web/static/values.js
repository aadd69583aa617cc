// The values of a filter that exist in the range on show, for suggestions.

import { botPath, get, Problem } from "./api.js";
import { REQUEST_FILTERS, TOKEN_FILTERS, chosen } from "./state.js";

const MOST = 1000;
// What no ranking knows is gathered from the newest rows.
const FROM_ROWS = { ip: ["requests", REQUEST_FILTERS], source: ["token-usages", TOKEN_FILTERS], model: ["token-usages", TOKEN_FILTERS] };

export class Values {
  #ends = "";
  #asked = new Map();

  /**
   * The values of the filter `name`, most frequent first: [{value, note}], "" the unknown one. The page's other
   * filters hold. Each is asked for once a range; where there is no answer there are none, and it is asked again.
   */
  of({ state, ends }, name) {
    const range = JSON.stringify([state.bot, ends]);
    if (range !== this.#ends) this.#asked.clear();
    this.#ends = range;
    const [path, names] = FROM_ROWS[name] ?? ["requests/top", REQUEST_FILTERS];
    const others = chosen(state, names.filter((other) => other !== name));
    const key = JSON.stringify([name, others]);
    if (!this.#asked.has(key)) {
      const parameters = [["limit", MOST], ...ends, ...others, ...(name in FROM_ROWS ? [] : [["by", name]])];
      const asked = get(botPath(state.bot, path), parameters).then(({ data }) => (name in FROM_ROWS ? fromRows(data, name) : fromTop(data)));
      this.#asked.set(key, asked.catch((error) => {
        if (!(error instanceof Problem)) throw error;
        this.#asked.delete(key);
        return [];
      }));
    }
    return this.#asked.get(key);
  }
}

const fromTop = (data) => data.filter(({ kind }) => kind !== "other").map(({ value, requests }) => ({ value: value ?? "", requests }));

function fromRows({ rows }, name) {
  const counts = new Map();
  for (const row of rows) counts.set(row[name] ?? "", (counts.get(row[name] ?? "") ?? 0) + 1);
  return [...counts].sort(([, a], [, b]) => b - a).map(([value]) => ({ value, requests: null }));
}
