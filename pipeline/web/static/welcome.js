// Before there is a bot to show: the one command that sends a first event, and the list of bots where there are several.

import { botPath, get, Problem } from "./api.js";
import { h } from "./dom.js";
import { count, integer, moment, sortable } from "./format.js";
import { reach } from "./freshness.js";
import { spelled } from "./zones.js";

const LOOK_EVERY_MS = 2_000;

/** One event that happened now, as a command for a POSIX shell. */
function command(bot) {
  const event = JSON.stringify({ event_id: "1", bot_id: bot, event_time: Date.now(), endpoint: "api" }).replaceAll("'", "\\u0027");
  return `curl -sS ${location.origin}/api/v1/events/bot_requests \\\n  -H 'Content-Type: application/json' \\\n  -d '${event}'`;
}

const HEADS = [["Bot", ""], ["Requests in 7 days", "number"], ["Last request", ""]];
const table = (...parts) =>
  h("div", { class: "panel scroller" },
    h("table", {}, h("thead", {}, h("tr", {}, ...HEADS.map(([head, kind]) => h("th", { scope: "col", class: kind }, head)))), ...parts));

/** Fill `root` with what `listBots` will fill it with, before that is known. */
export function awaitBots(root) {
  const row = () => h("tr", {}, h("td", { colspan: HEADS.length }, h("span", { class: "skeleton" }, "\u00a0")));
  root.setAttribute("aria-busy", "true");
  root.replaceChildren(h("h1", {}, "Bots"), h("p", { class: "hint skeleton" }, "\u00a0"), table(h("tbody", {}, ...Array.from({ length: 8 }, row))));
}

/** Fill `root` with the bots that there are, those with the most requests first, and how far `answer`'s numbers reach. */
export function listBots(root, rows, answer, zone) {
  const focused = root.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  const time = (last) => (last ? sortable(moment(last).wall) : "never");
  const latest = ({ last_request: last }) => (last ? moment(last).ms : 0);
  const most = [...rows].sort((a, b) => b.requests_7d - a.requests_7d || latest(b) - latest(a));
  const total = rows.reduce((sum, { requests_7d }) => sum + requests_7d, 0);
  const { text, details, isSlow } = reach(answer);
  root.replaceChildren(
    h("h1", {}, "Bots"),
    h("p", { class: "hint" }, `Times in ${spelled(zone)}, `, h("span", { class: isSlow ? "is-slow" : "", role: "status" }, text)),
    table(
      h("tbody", {}, ...most.map(({ bot_id, requests_7d, last_request }) =>
        h("tr", {},
          h("td", {}, h("a", { class: "cut", title: bot_id, href: `/bots/${encodeURIComponent(bot_id)}/analytics` }, h("bdi", {}, bot_id))),
          h("td", { class: "number" }, integer(requests_7d)),
          h("td", { class: "moment" }, time(last_request))))),
      h("tfoot", {}, h("tr", {},
        h("th", { scope: "row" }, count(rows.length, "bot")),
        h("td", { class: "number" }, integer(total)),
        h("td", { class: "moment" }, time(most.toSorted((a, b) => latest(b) - latest(a))[0].last_request))))),
    ...details.map((sentence) => h("p", { class: "note" }, sentence)));
  if (focused !== null) [...root.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus();
}

/** Fill `root`: the address names what can be no bot. */
export function lost(root) {
  root.replaceChildren(
    h("h1", {}, "This address names no bot"),
    h("p", {}, "What stands where the name should be cannot be one. The link may have been cut off, or changed on its way."),
    h("p", {}, h("a", { href: "/" }, "All bots")),
  );
}

/** The bot that has arrived: the one waited for, or where none is, the first there is; null before that. */
async function arrived(bot) {
  if (bot === null) return (await get("/bots", [["limit", 1]])).data.rows[0]?.bot_id ?? null;
  try {
    await get(botPath(bot, "requests"), [["limit", 1]]);
    return bot;
  } catch (error) {
    if (error.isUnknownBot) return null;
    throw error;
  }
}

/**
 * Fill `root`: `bot` is the one that was asked for and is not known, or null. `onArrival(bot)` is told when it is
 * known, or, where none was asked for, when the first one is.
 */
export function welcome(root, bot, onArrival) {
  const curl = command(bot ?? "my-bot");
  const copy = h("button", { class: "action", type: "button" }, "Copy");
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(curl);
    copy.textContent = "Copied";
  });
  const waiting = h("p", { class: "hint", role: "status" }, "Waiting for the first event…");
  root.replaceChildren(...[
    h("h1", {}, bot === null ? "No bot yet" : `Nothing from “${bot}” yet`),
    h("p", {}, "Footfall shows a bot as soon as its first event arrives. This sends one:"),
    h("pre", { class: "command", tabindex: 0 }, h("code", {}, curl)),
    navigator.clipboard ? h("p", {}, copy) : null, // only a secure origin may write there
    waiting,
    ...(bot === null ? [] : [h("p", {}, h("a", { href: "/" }, "All bots"))]),
  ].filter(Boolean));
  const look = async () => {
    if (!waiting.isConnected || root.hidden) return;
    try {
      const found = await arrived(bot);
      if (found !== null) return onArrival(found);
      waiting.textContent = "Waiting for the first event…";
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      waiting.textContent = `Waiting. ${error.message}`;
    }
    setTimeout(look, LOOK_EVERY_MS);
  };
  setTimeout(look, LOOK_EVERY_MS);
}
