// How far an answer's numbers reach, in words, and asking again by itself while they do not reach far enough.

import { DAY_MS, count, lasting, moment, write } from "./format.js";

const BEHIND_IS_SLOW_MS = 60_000;
const BEHIND_IS_COUNTING_MS = 10_000; // with events that wait: more than what any worker is behind
const FIRST_PAUSE_MS = 2_000;
const LONGEST_PAUSE_MS = 30_000;
const PAUSES_GROW = 1.25;

/** What an answer says of its own freshness: {text, details, isSlow, isCounting}; `details` are sentences; `isCounting`: more of it is known soon. */
export function reach({ freshness: { data_as_of: asOf, consumer_lag_records: lag, late_events_24h: late, dead_letters_24h: refused }, answeredAt }) {
  const rejected = refused ? `, ${count(refused, "event")} rejected in 24 h (all bots)` : "";
  const details = [
    asOf ? `Every event that reached Kafka before ${asOf.replace("T", " ")} is in these numbers.` : "It is not known yet how far these numbers reach.",
    late && `In the last 24 h ${count(late, "event")} of all bots came late, and ${late === 1 ? "is counted where it belongs" : "are counted where they belong"}.`,
    refused && `In the last 24 h ${count(refused, "event")} of all bots ${refused === 1 ? "was" : "were"} rejected. “footfall dead-letters list” says which, and why.`,
  ].filter(Boolean);
  if (!asOf) {
    const text = lag ? `counting, ${count(lag, "event")} waiting` : "nothing said yet: is a worker running?";
    return { text: `${text}${rejected}`, details, isSlow: true, isCounting: true };
  }
  const { ms, wall } = moment(asOf);
  const behind = answeredAt - ms;
  const when = behind < DAY_MS / 2 ? write.second(wall) : `${write.date(wall)}, ${write.second(wall)}`;
  const isSlow = behind > BEHIND_IS_SLOW_MS;
  const why = lag ? `, ${count(lag, "event")} waiting` : isSlow ? ", no worker reports" : "";
  return {
    text: `up to ${when}, ${lasting(behind)} behind${why}${rejected}`, details, isSlow,
    isCounting: lag > 0 && behind > BEHIND_IS_COUNTING_MS,
  };
}

/** Asks again by itself, ever more rarely: `ask()`, unless `isInHand()` by then, which would be disturbed. */
export class Follower {
  #timer;
  #pause = FIRST_PAUSE_MS;

  constructor(ask, isInHand) {
    Object.assign(this, { ask, isInHand });
  }

  /** What was asked has come; `isMissing`: part of it only. */
  heard(isMissing) {
    this.stop();
    if (!isMissing) {
      this.#pause = FIRST_PAUSE_MS;
      return;
    }
    this.#timer = setTimeout(() => (this.isInHand() ? this.heard(true) : this.ask()), this.#pause);
    this.#pause = Math.min(this.#pause * PAUSES_GROW, LONGEST_PAUSE_MS);
  }

  stop() {
    clearTimeout(this.#timer);
  }
}
