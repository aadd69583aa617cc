// Before there is a bot to show: the one command that sends a first event, and the list of bots where there are several.

import { get, Problem } from "./api.js";
import { h } from "./dom.js";
import { integer, moment, sortable } from "./format.js";

const LOOK_EVERY_MS = 2_000;

const analytics = (bot) => `/bots/${encodeURIComponent(bot)}/analytics`;

/** One event that happened now, as a command for a POSIX shell. */
function command(bot) {
  const now = Date.now();
  const event = JSON.stringify({ event_id: `first-${now}`, bot_id: bot, event_time: now, endpoint: "api" }).replaceAll("'", "\\u0027");
  return `curl -sS ${location.origin}/api/v1/events/bot_requests \\\n  -H 'Content-Type: application/json' \\\n  -d '${event}'`;
}

/** The bots that there are, to choose from. */
function botList(rows) {
  return h("div", { class: "scroller" },
    h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Bot"), h("th", { scope: "col", class: "number" }, "Requests, 7 days"), h("th", { scope: "col" }, "Last request, UTC"))),
      h("tbody", {}, ...rows.map((row) =>
        h("tr", {},
          h("td", {}, h("a", { href: analytics(row.bot_id) }, row.bot_id)),
          h("td", { class: "number" }, integer(row.requests_7d)),
          h("td", {}, row.last_request ? sortable(new Date(moment(row.last_request).ms)) : "never"))))));
}

/**
 * Fill `root`: `bot` is the one that was asked for and is not known, or null. `onArrival(bot)` is told when it is
 * known, or, where none was asked for, when the first one is.
 */
export function welcome(root, bot, rows, onArrival) {
  if (bot === null && rows.length) {
    root.replaceChildren(h("h1", {}, "Bots"), botList(rows));
    return;
  }
  const curl = command(bot ?? "my-bot");
  const copy = h("button", { class: "action", type: "button" }, "Copy");
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(curl);
    copy.textContent = "Copied";
  });
  const waiting = h("p", { class: "hint waiting", role: "status" }, "Waiting for the first event…");
  root.replaceChildren(
    h("h1", {}, bot === null ? "No bot yet" : `Nothing from “${bot}” yet`),
    h("p", {}, "Footfall shows a bot as soon as its first event arrives. This sends one:"),
    h("pre", { class: "command", tabindex: 0 }, h("code", {}, curl)),
    h("p", {}, copy),
    waiting,
    ...(bot !== null && rows.length ? [h("h2", {}, "Bots that are here"), botList(rows)] : []),
  );
  const look = async () => {
    if (root.hidden) return;
    try {
      const { data } = await get("/bots");
      const arrived = data.rows.find(({ bot_id }) => bot === null || bot_id === bot);
      if (arrived) return onArrival(arrived.bot_id);
      waiting.textContent = "Waiting for the first event…";
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      waiting.textContent = `Waiting. ${error.message}`;
    }
    setTimeout(look, LOOK_EVERY_MS);
  };
  setTimeout(look, LOOK_EVERY_MS);
}
