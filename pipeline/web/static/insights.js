// What a practised reader would see at once, said above the numbers: a spike and whether tokens rose with it, tokens
// that outrun requests, one country, one surface. Rules of thumb, meant to miss rather than to cry wolf.

import { h } from "./dom.js";
import { briefly, count, country, integer, share } from "./format.js";

const LEAST_REQUESTS = 50; // fewer say nothing about a share or a trend
const LEAST_BARS = 8;
const SPIKE_REQUESTS = 30;
const SPIKE_TIMES = 3; // the usual
const SPIKE_SHARE = 0.25; // of the bars at most: what lasts longer is a change
const SPIKE_ABOVE_BUSY = 2; // times what the busiest tenth of the other bars begins with
const FLAT_TIMES = 1.5;
const OUTRUN_TIMES = 1.25;
const COUNTRY_SHARE = 0.6;
const ENDPOINT_SHARE = 0.75;

/**
 * What stands out, the most urgent first: [{headline, advice, action: {label, range | filter} or undefined}].
 * `requests` and `tokens` are bars, `endpoints` and `countries` rankings; each may be null where it is not known.
 */
export function findings({ requests, tokens, endpoints, countries, filters }) {
  // Tokens know other filters than requests: only without any are both of the same traffic.
  const comparable = filters.length || requests?.length !== tokens?.length ? null : tokens;
  const spike = requests && spikeOf(requests);
  return [
    spike && saidOfSpike(spike, requests, comparable),
    requests && comparable && outrun(requests, comparable, spike),
    leader(countries, filters, "country", COUNTRY_SHARE),
    leader(endpoints, filters, "endpoint", ENDPOINT_SHARE),
  ].filter(Boolean);
}

const ascending = (numbers) => numbers.filter((n) => n > 0).sort((a, b) => a - b);
const quantile = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))];
const times = (n) => (n < 10 ? n.toFixed(1).replace(/\.0$/, "") : integer(Math.round(n)));
const sum = (bars) => bars.reduce((a, { total }) => a + total, 0);

/** The bars from `first` to `last` that rise far above all others: {first, last, peak, usual}; null where none do. */
function spikeOf(bars) {
  const counts = ascending(bars.filter(({ isPartial }) => !isPartial).map(({ total }) => total));
  if (counts.length < LEAST_BARS) return null;
  const usual = quantile(counts, 0.5);
  const peak = bars.reduce((a, { total }, i) => (total > bars[a].total ? i : a), 0);
  const isHigh = (i) => bars[i] && bars[i].total >= SPIKE_TIMES * usual;
  if (!isHigh(peak) || bars[peak].total < SPIKE_REQUESTS) return null;
  let [first, last] = [peak, peak];
  while (isHigh(first - 1)) first -= 1;
  while (isHigh(last + 1)) last += 1;
  if (last - first + 1 > SPIKE_SHARE * counts.length) return null;
  const others = ascending(bars.filter((bar, i) => i < first || i > last).map(({ total }) => total));
  if (others.length < LEAST_BARS - 1 || bars[peak].total < SPIKE_ABOVE_BUSY * quantile(others, 0.9)) return null;
  return { first, last, peak: bars[peak].total, usual };
}

function saidOfSpike({ first, last, peak, usual }, requests, tokens) {
  const [{ start }, { end }] = [requests[first], requests[last]];
  const rise = `${times(peak / usual)} times the usual requests`;
  const action = { label: "Show that time", range: { from: start.text, to: end.text } };
  const usualTokens = tokens && quantile(ascending(tokens.filter((bar, i) => i < first || i > last).map(({ total }) => total)), 0.5);
  const reached = tokens && Math.max(...tokens.slice(first, last + 1).map(({ total }) => total));
  if (!usualTokens) return { headline: `Spike, ${briefly(start, end)}: ${rise}`, advice: "Look at that time by endpoint, country and IP to see where it came from.", action };
  if (reached <= FLAT_TIMES * usualTokens)
    return {
      headline: `Spike with flat tokens, ${briefly(start, end)}: ${rise}`,
      advice: "There were many more requests than usual, but hardly more tokens. Either the conversations were short, or a program sent the requests: check the IPs of that time.",
      action,
    };
  return {
    headline: `Spike, ${briefly(start, end)}: ${rise}, ${times(reached / usualTokens)} times the tokens`,
    advice: "Requests and tokens rose together, as after a campaign, an incident or a new link: check the country and the page of that time.",
    action,
  };
}

/** Tokens per request, the later half of the range against the earlier; the spike counts in neither. */
function outrun(requests, tokens, spike) {
  const isUsable = (i) => !requests[i].isPartial && !requests[i].isAhead && !(spike && i >= spike.first && i <= spike.last);
  const usable = requests.map((_, i) => i).filter(isUsable);
  const middle = Math.floor(usable.length / 2);
  const halves = [usable.slice(0, middle), usable.slice(middle)].map((half) => ({
    requests: sum(half.map((i) => requests[i])),
    tokens: sum(half.map((i) => tokens[i])),
  }));
  if (halves.some((half) => half.requests < LEAST_REQUESTS || !half.tokens)) return null;
  const [before, after] = halves.map((half) => half.tokens / half.requests);
  if (after < OUTRUN_TIMES * before || halves[1].tokens < halves[0].tokens) return null;
  return {
    headline: `Tokens outrun requests: ${integer(Math.round(after))} per request lately, ${integer(Math.round(before))} before`,
    advice: "The later half of the range against the earlier one. Answers grow longer, or questions broader: compare the sources in Token Usages.",
  };
}

function leader(ranking, filters, by, least) {
  if (!ranking || filters.some(([name]) => name === by)) return null;
  const total = ranking.reduce((a, { requests }) => a + Number(requests), 0);
  const [first] = ranking;
  if (total < LEAST_REQUESTS || first.kind !== "value" || first.share < least) return null;
  const name = by === "country" ? country(first.value) : first.value;
  return by === "country"
    ? { headline: `One country leads: ${name}, ${share(first.share)} of requests`, advice: "As it should be for a bot of one region; worth a look for one that serves the world.", action: { label: `Only ${name}`, filter: [by, first.value] } }
    : { headline: `One surface leads: ${name}, ${share(first.share)} of requests`, advice: "Check that this is how the bot is meant to be reached.", action: { label: `Only ${name}`, filter: [by, first.value] } };
}

/** The strip above the cards. It keeps its height whatever it says, so that nothing below it moves. */
export class Strip {
  #said = null; // the findings on show, so that what is open stays open while they hold

  constructor(root, { show, toggle }) {
    Object.assign(this, { root, act: ({ range, filter }) => (range ? show(range) : toggle(...filter)) });
  }

  /** Show these nodes instead of findings; none: nothing is known yet. */
  say(...nodes) {
    this.#said = null;
    this.root.classList.toggle("skeleton", !nodes.length);
    this.root.replaceChildren(...nodes);
  }

  show(found) {
    const said = JSON.stringify(found);
    if (said === this.#said) return;
    if (!found.length) return this.say(h("p", { class: "note" }, "Nothing unusual stands out in this range."));
    const [{ headline }, ...more] = found;
    const all = more.length ? `${found.length} things stand out` : "One thing stands out";
    const item = (one) =>
      h("li", {},
        h("strong", {}, one.headline), h("span", { class: "note" }, one.advice),
        one.action ? h("button", { class: "action", type: "button", onclick: () => this.act(one.action) }, one.action.label) : null);
    this.say(
      h("details", { class: "findings" },
        h("summary", {},
          h("span", { class: "if-closed" }, h("strong", {}, headline), more.length ? h("span", { class: "note" }, ` and ${count(more.length, "more finding")}`) : null),
          h("span", { class: "if-open" }, h("strong", {}, all))),
        h("ul", {}, ...found.map(item))),
    );
    this.#said = said;
  }
}
