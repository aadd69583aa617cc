// The public API, as anyone may use it. Answers are {range, data, freshness}; every failure is a Problem.

/** Why there is no answer: what the server said (RFC 9457), or that it said nothing. */
export class Problem extends Error {
  constructor({ status = 0, type = "", title = "", detail = "", parameter = null }) {
    super(detail || title || `The server answered ${status}.`);
    this.status = status;
    this.type = type;
    this.parameter = parameter; // the one that was refused
  }

  /** The bot has never been heard of. */
  get isUnknownBot() {
    return this.status === 404 && this.type.endsWith("unknown-bot");
  }
}

const GIVEN_UP_AFTER_MS = 60_000;

async function problemOf(response) {
  const body = await response.json().catch(() => ({}));
  return new Problem({ ...body, status: response.status });
}

/** What is `promised` of an answer; where it does not come, a Problem, or the AbortError of who asked. */
async function answered(promised) {
  try {
    return await promised;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (error.name === "TimeoutError") throw new Problem({ detail: "The server did not answer within a minute." });
    throw new Problem({ detail: "The server does not answer. Is it running, and is the network up?" });
  }
}

/** `fetch`, except that whatever is not a success is thrown as a Problem. An abort stays an AbortError. */
export async function ask(url, { signal, limited = true } = {}) {
  const signals = [signal, limited ? AbortSignal.timeout(GIVEN_UP_AFTER_MS) : null].filter(Boolean);
  const response = await answered(fetch(url, { signal: AbortSignal.any(signals) }));
  if (!response.ok) throw await problemOf(response);
  return response;
}

// Sums may pass 2⁵³, where a JavaScript number would round them.
const exact = (key, value, context) =>
  typeof value === "number" && !Number.isSafeInteger(value) && /^\d+$/.test(context?.source ?? "") ? BigInt(context.source) : value;

/** Ask for `path` below /api/v1. The answer also says `answeredAt`: the server's clock in milliseconds, to the second. */
export async function get(path, parameters, signal) {
  const query = new URLSearchParams(parameters).toString();
  const response = await ask(`/api/v1${path}${query ? `?${query}` : ""}`, { signal });
  const answer = JSON.parse(await answered(response.text()), exact);
  answer.answeredAt = Date.parse(response.headers.get("date") ?? "") || Date.now();
  return answer;
}

export const botPath = (bot, rest) => `/bots/${encodeURIComponent(bot)}/${rest}`;
