// The values of a filter that exist in the range on show, for suggestions.

import { botPath, get, Problem } from "./api.js";
import { REQUEST_FILTERS, TOKEN_FILTERS, chosen } from "./state.js";

const MOST = 1000;
const FOUND = 50;
const NONE = { values: [], isWhole: true };

export class Values {
  #ends = "";
  #asked = new Map();
  #searches = new Map(); // the latest of each filter

  /**
   * The values of the filter `name`, most frequent first: [{value, requests}], "" the unknown one. The page's other
   * filters hold. Where there are more than a list can hold, those that hold what is `written` are searched for. Each
   * question is asked once a range; where there is no answer there are no values, and it is asked again.
   */
  async of(view, name, written = "") {
    const all = await this.#answer(view, name, "");
    return written && !all.isWhole ? (await this.#answer(view, name, written)).values : all.values;
  }

  #answer({ state, ends }, name, written) {
    const range = JSON.stringify([state.bot, ends]);
    if (range !== this.#ends) this.#asked.clear();
    this.#ends = range;
    const names = TOKEN_FILTERS.includes(name) ? TOKEN_FILTERS : REQUEST_FILTERS;
    const others = chosen(state, names.filter((other) => other !== name));
    const key = JSON.stringify([name, written, others]);
    if (!this.#asked.has(key)) this.#asked.set(key, this.#ask(state.bot, name, written, [...ends, ...others], key));
    return this.#asked.get(key);
  }

  async #ask(bot, name, written, parameters, key) {
    const abort = new AbortController();
    if (written) {
      this.#searches.get(name)?.abort();
      this.#searches.set(name, abort);
    }
    const { path, read } = source(name, written);
    const given = [["by", name], ["limit", written ? FOUND : MOST], ...(written ? [["contains", written]] : []), ...parameters];
    try {
      return read((await get(botPath(bot, path), given, abort.signal)).data);
    } catch (error) {
      if (!(error instanceof Problem) && error.name !== "AbortError") throw error;
      this.#asked.delete(key);
      return NONE;
    }
  }
}

/** Where the values of a filter come from: a ranking, where there is one that need not be searched. */
function source(name, written) {
  if (TOKEN_FILTERS.includes(name)) return { path: "token-usages/top", read: (data) => ({ ...ranked(data, () => null), isWhole: true }) };
  if (written || name === "ip") return { path: "requests/values", read: (data) => ({ values: data.map(valued), isWhole: data.length < MOST }) };
  return { path: "requests/top", read: (data) => ranked(data, ({ requests }) => requests) };
}

const valued = ({ value, requests }) => ({ value: value ?? "", requests });

function ranked(data, requests) {
  const values = data.filter(({ kind }) => kind !== "other").map((row) => valued({ value: row.value, requests: requests(row) }));
  return { values, isWhole: !data.some(({ kind }) => kind === "other") };
}
