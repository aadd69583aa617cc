// The page: its address is its state; one Refresh resolves the range once, and every panel uses the ends it gave.

import { botPath, get, Problem } from "./api.js";
import { cards } from "./cards.js";
import { link, requestsOverTime, tokensOverTime, uniquesOverTime } from "./charts.js";
import { $, h, tip } from "./dom.js";
import { drawChips, filterMenu } from "./filters.js";
import { DAY_MS, between, count, filterName, lasting, moment, write } from "./format.js";
import { Follower, reach } from "./freshness.js";
import { Strip, findings } from "./insights.js";
import { hang, searchable } from "./menus.js";
import { fault } from "./panel.js";
import { rangeForm, rangeName } from "./ranges.js";
import { LONGEST_RANKING, ranking } from "./rankings.js";
import { refusal } from "./refusals.js";
import { MEASURED, PRESETS, RANKED, address, read, toggled } from "./state.js";
import { requestsTable, tokensTable } from "./tables.js";
import { Values } from "./values.js";
import { awaitBots, listBots, lost, welcome } from "./welcome.js";
import { spelled, zones } from "./zones.js";

const ASKED_LONG_AGO_MS = 60_000;
const AGES_EVERY_MS = 10_000;
const ARRIVING_MS = 2_000; // at most

let state = read(location);
let resolved = null; // {key, ends, from, to, now}: the range as the server understood it
let freshness = null; // {answer, at}: what the freshness note says, and when that came
let bots = [];
let isAwaited = false; // whether there are requests in the range that the answers do not have yet
let turn = 0; // which `show` is the latest

const toggle = (name, value) => go(toggled(state, name, value));
const narrow = (table) => (name, value) => go({ ...state, own: { ...state.own, [table]: { ...state.own[table], [name]: value } } });
const zoom = (from, to) => go({ ...state, range: { from, to } }, { before: history.state?.before ?? state.range });
const refresh = () => show({ anew: true });

// What a reader has open, pressed, written into or turned to would be lost if the page asked again by itself.
const IN_HAND = ".menu:popover-open, .details, .findings[open], .plot:active, .filters :focus, .pager button:first-of-type[aria-disabled=false]";
const isInHand = () => document.hidden || document.querySelector(IN_HAND) !== null || !getSelection().isCollapsed;
const follower = new Follower(() => (state.bot === null ? greet() : refresh()), isInHand);
const follow = () => follower.heard(isGoingOn() && (isAwaited || reach(freshness.answer).isCounting));

const values = new Values();
const strip = new Strip($("strip"), { show: ({ from, to }) => zoom(from, to), toggle });
const numbers = cards($("cards"));
const requests = requestsOverTime($("series"), zoom);
const uniques = uniquesOverTime($("unique-series"), zoom);
const tokens = tokensOverTime($("token-series"), zoom);
const endpoints = ranking($("endpoints"), () => "endpoint", toggle);
const countries = ranking($("countries"), () => "country", toggle);
const glance = [numbers, requests, tokens, endpoints, countries];
const rankings = [endpoints, countries, ranking($("ranked"), ({ ranked }) => ranked, toggle)];
const requestRows = requestsTable($("requests"), { narrow: narrow("requests"), values, toggle, refresh });
const tokenRows = tokensTable($("tokens"), { narrow: narrow("tokens"), values, toggle, refresh });
const panels = [...new Set([...glance, uniques, ...rankings]), requestRows, tokenRows];
link(requests, uniques, tokens);

/** Go to another state: a new entry in the browser's history. `kept` is remembered with it; a zoom outlives other changes. */
function go(next, kept = next.range === state.range ? history.state : null) {
  history.pushState(kept, "", address(next));
  state = next;
  show();
}

/** The ends of the range that the state asks for; null until they are known. */
const resolvedNow = () => (resolved?.key === rangeKey(state) ? resolved : null);

const rangeKey = ({ bot, range, zone }) => JSON.stringify([bot, range, zone]);

/** The ends of the range. No panel's question: a fault of one of those must not take the page down. */
const resolve = ({ bot, range, zone }) => get(botPath(bot, "range"), [...Object.entries(range), ["tz", zone]]);

/** Show `state`. `anew`: resolve the range and ask for everything again, as Refresh does. */
async function show({ anew = false } = {}) {
  const mine = ++turn;
  const key = rangeKey(state);
  follower.stop();
  isAwaited = false;
  $("main").setAttribute("aria-busy", "true");
  $("refresh").setAttribute("aria-busy", "true");
  drawControls();
  try {
    if (anew || resolved?.key !== key) {
      const answer = await resolve(state);
      const { range, answeredAt } = answer;
      if (mine !== turn) return;
      const ends = [["from", range.from], ["to", range.to], ["tz", range.tz]];
      const [from, to] = [moment(range.from), moment(range.to)];
      const now = { ms: answeredAt, wall: new Date(answeredAt + (to.wall.getTime() - to.ms)) };
      resolved = { key, ends, from, to, now };
      $("main").classList.remove("is-lost");
      freshness = { answer, at: Date.now() };
      drawFreshness();
    }
    drawRange();
    const view = shown();
    const shows = new Map(panels.map((panel) => [panel, panel.show(view, { anew })]));
    shows.get(numbers).then(() => mine === turn && heard(numbers.answer));
    unveil(shows, () => mine === turn);
    Promise.all(glance.map((panel) => shows.get(panel))).then(() => mine === turn && look());
    await Promise.all(shows.values());
  } catch (error) {
    if (mine !== turn) return;
    if (!(error instanceof Problem)) throw error;
    if (error.isUnknownBot) return greet();
    complain(error);
  } finally {
    if (mine === turn) {
      $("main").setAttribute("aria-busy", "false");
      $("refresh").setAttribute("aria-busy", "false");
      if (resolved && freshness && !$("main").hidden) follow();
    }
  }
}

// How high rankings and tables are depends on how much there is to show, and where they begin on those above them. They
// are seen once that is known, or has taken too long; what has been seen then keeps its height, or grows.

const ARRIVING = ["trio", "requests", "tokens"];
const reveal = (id) => $(id).classList.remove("is-arriving");

/** Let what is asked for be seen, from above to below; `isLatest()`: nothing else has been asked for since. */
async function unveil(shows, isLatest) {
  setTimeout(() => ARRIVING.forEach(reveal), ARRIVING_MS);
  await Promise.all(rankings.map((panel) => shows.get(panel)));
  if (!isLatest()) return;
  makeRoom();
  reveal("trio");
  await shows.get(requestRows);
  if (isLatest()) reveal("requests");
  await shows.get(tokenRows);
  if (isLatest()) reveal("tokens");
}

/** Give the rankings the room that they need, and afterwards never less: filters move nothing. */
function makeRoom() {
  const isSeen = !$("trio").classList.contains("is-arriving");
  for (const panel of rankings) {
    const rows = panel.answer?.data.length ?? LONGEST_RANKING;
    panel.rows = isSeen ? Math.max(panel.rows ?? LONGEST_RANKING, rows) : rows;
    panel.root.style.setProperty("--rows", panel.rows);
  }
  $("trio").style.setProperty("--most-rows", Math.max(...rankings.map(({ rows }) => rows)));
}

/** What panels are asked to show. */
const shown = () => resolved && { state, ends: resolved.ends, now: resolved.now, isGoingOn: isGoingOn(), refused };

/** Whether Refresh may bring rows that are newer than those on show. */
function isGoingOn() {
  const { range } = state;
  if (range.range) return !["yesterday", "last_month"].includes(range.range);
  return !range.to || resolved.to.ms > resolved.now.ms;
}

/** What is wrong with the address, and the way out: {message, label, act, isOfAll}; null for a problem that may pass. */
function refused(problem) {
  const found = refusal(problem, state);
  const away = () => (state.bot === null ? location.assign(`/?tz=${encodeURIComponent(found.next.zone)}`) : go(found.next)); // the list of bots has a zone alone
  return found && { ...found, act: away };
}

/** What is said above all panels of what concerns all of them. */
function alarm(error) {
  const box = fault(error, () => (state.bot === null ? greet() : refresh()), refused);
  box.classList.add("alert");
  return box;
}

/** Nothing can be asked: say why. What the panels show stays, and is said to be from before. */
function complain(error) {
  const box = alarm(error);
  if (resolved) box.querySelector("p").append(" What is shown below is from before.");
  $("strip").hidden = false;
  $("main").classList.toggle("is-lost", !resolved);
  ARRIVING.forEach(reveal);
  strip.say(box);
  for (const panel of document.querySelectorAll(".panel")) panel.setAttribute("aria-busy", "false"); // none is asked
}

// ---- the bar ----

/** Name the range on its button and in the title, by its ends once these are known. */
function nameRange() {
  const name = rangeName(state.range, state.zone, resolvedNow());
  label("range", "Range", name);
  document.title = `${state.bot} – ${name} – Footfall`;
}

function label(control, what, value) {
  $(`${control}-name`).textContent = value;
  $(`${control}-button`).setAttribute("aria-label", `${what}: ${value}`);
}

function drawControls() {
  for (const id of ["main", "strip", "controls", "notes", "bot-button"]) $(id).hidden = false;
  $("welcome").hidden = true;
  $("title").textContent = `Analytics of ${state.bot}`;
  label("bot", "Bot", state.bot);
  label("zone", "Time zone", spelled(state.zone));
  nameRange();
  $("custom-zone").textContent = spelled(state.zone);
  for (const button of $("presets").children) button.setAttribute("aria-pressed", String(button.dataset.range === state.range.range));
  const isOfUniques = state.measured !== MEASURED[0];
  $("series").hidden = isOfUniques; // still asked: what stands out is told from it
  $("unique-series").hidden = !isOfUniques;
  if (isOfUniques) $("unique-series-title").textContent = `${MEASURE[state.measured]} Over Time`;
  for (const select of measures) select.value = state.measured;
  $("top").value = state.ranked;
  $("ranked-title").textContent = TOP[state.ranked];
  chips();
}

function drawRange() {
  const { from, to } = resolved;
  nameRange();
  $("span").textContent = between(from, to);
  $("span").title = `From ${from.text.replace("T", " ")}, up to but not including ${to.text.replace("T", " ")}`;
  $("instants").textContent = `${$("span").title}. Time zone: ${spelled(state.zone)}`;
}

function chips() {
  const before = history.state?.before;
  drawChips({
    filters: state.filters,
    zoom: before && { back: rangeName(before, state.zone, null), leave: () => go({ ...state, range: before }) },
    remove: toggle,
    clear: () => go({ ...state, filters: [] }),
    fallback: $("filter-button"),
  });
}

/** "up to 14:03:21, 2 s behind": how far the numbers reach, and why not further. */
function drawFreshness() {
  if (!freshness) return;
  const { text, details, isSlow } = reach(freshness.answer);
  const ago = Date.now() - freshness.at;
  if ($("fresh").textContent !== text) {
    const phrases = text.split(/(?<=,) /).flatMap((phrase) => [" ", h("span", { class: "phrase" }, phrase)]);
    $("fresh").replaceChildren(...phrases.slice(1)); // said aloud when it changes, unlike the age
  }
  $("age").textContent = ago > ASKED_LONG_AGO_MS ? `, asked ${lasting(ago)} ago` : "";
  $("freshness-menu").replaceChildren(...details.map((sentence) => h("p", { class: "hint" }, sentence)));
  $("freshness").classList.toggle("is-slow", isSlow);
}
setInterval(drawFreshness, AGES_EVERY_MS);
hang($("freshness-menu"), $("freshness-button"));

// ---- what stands out, and what is not there ----

/** A summary has come. */
function heard(answer) {
  if (!answer) return;
  freshness = { answer, at: Date.now() };
  drawFreshness();
}

/** All that the first glance needs has come or failed: say what stands out, or where the range is empty what to do. */
function look() {
  const refusedAll = glance.map(({ problem }) => problem).find((problem) => problem && refused(problem)?.isOfAll);
  if (refusedAll) return strip.say(alarm(refusedAll));
  const requestBars = requests.answer && requests.bars;
  const tokenBars = tokens.answer && tokens.bars;
  if (requestBars) numbers.shape("total_requests", requestBars.map(({ total }) => total));
  if (tokenBars) {
    numbers.shape("input_tokens", tokenBars.map(({ parts: [input] }) => Number(input)));
    numbers.shape("output_tokens", tokenBars.map(({ parts: [, output] }) => Number(output)));
    numbers.shape("total_tokens", tokenBars.map(({ total }) => total));
  }
  if (numbers.answer?.data.total_requests === 0) return explainEmpty();
  const found = findings({
    requests: requestBars, tokens: tokenBars, filters: state.filters, endpoints: endpoints.answer?.data, countries: countries.answer?.data,
  });
  if (found.length || glance.every(({ answer }) => answer)) return strip.show(found);
  strip.say(h("p", { class: "note" }, "What stands out cannot be told: some of the answers did not come."));
}

/** No request in the range: say why, or when the last one was, and offer what would show some. */
async function explainEmpty() {
  const mine = turn;
  if (state.filters.length) {
    return strip.say(
      h("p", {}, "No request in this range matches the filters."),
      h("button", { class: "action", type: "button", onclick: () => go({ ...state, filters: [] }) }, "Remove the filters"),
    );
  }
  const last = await lastRequest(state);
  if (mine !== turn) return;
  isAwaited = last !== null && moment(last).ms >= resolved.from.ms && (isGoingOn() || moment(last).ms < resolved.to.ms);
  if (isAwaited || (isGoingOn() && reach(freshness.answer).isCounting)) {
    follow();
    return strip.say(h("p", {}, "The first requests of this range are being counted. They appear here by themselves."));
  }
  if (last === null) return strip.say(h("p", {}, "No requests in this range."));
  const { wall } = moment(last);
  const day = (days) => new Date(wall.getTime() + days * DAY_MS).toISOString().slice(0, 10);
  strip.say(
    h("p", {}, `No requests in this range. The last one was on ${write.day(wall)} at ${write.second(wall)}.`),
    h("button", { class: "action", type: "button", onclick: () => go({ ...state, range: { from: day(-6), to: day(1) } }) }, "Show the 7 days up to it"),
  );
}

/** When the bot's last request was, whatever the range; null where there is none, or no answer. */
async function lastRequest({ bot, zone }) {
  try {
    const { data } = await get(botPath(bot, "requests"), [["from", "2000-01-01"], ["tz", zone], ["limit", 1]]);
    return data.rows[0]?.time ?? null;
  } catch (error) {
    if (!(error instanceof Problem)) throw error; // the page does without
    return null;
  }
}

/** Ask for all bots, a page of a thousand at a time; `bots` grows meanwhile. The last answer. */
async function loadBots() {
  const found = [];
  let answer;
  do {
    const cursor = answer ? [["cursor", answer.data.next]] : [];
    answer = await get("/bots", [["limit", 1000], ["tz", state.zone], ...cursor]);
    found.push(...answer.data.rows);
    bots = found;
    botMenu.update();
  } while (answer.data.next !== null);
  return answer;
}

/** Fill the list of bots when it is opened. */
async function offerBots() {
  botMenu.update("Loading…");
  try {
    await loadBots();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    botMenu.update(error.message);
  }
}

/** There is no bot to show: take away all that is about one. */
function leave() {
  follower.stop();
  for (const id of ["main", "strip", "controls", "notes", "bot-button"]) $(id).hidden = true;
  document.title = "Footfall";
}

/** There is no such bot, or none at all, or none was named. */
async function greet() {
  const { bot } = state;
  let answer;
  leave();
  if (bot === null) {
    const isFirst = $("welcome").hidden;
    if (isFirst) awaitBots($("welcome"));
    $("welcome").hidden = false;
    try {
      answer = await loadBots();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      $("welcome").hidden = isFirst;
      return complain(error);
    } finally {
      $("welcome").setAttribute("aria-busy", "false");
    }
    if (bots.length === 1) return arrive(bots[0].bot_id);
  }
  $("welcome").hidden = false;
  if (!bots.length || bot !== null) return welcome($("welcome"), bot, bot === null ? greet : arrive);
  listBots($("welcome"), bots, answer, state.zone);
  follower.heard(reach(answer).isCounting || bots.every(({ requests_7d }) => !requests_7d));
}

/** Go on to a bot from a page that had none to show. */
function arrive(bot) {
  state = { ...state, bot };
  history.replaceState(null, "", address(state));
  return refresh();
}

// ---- controls ----

const botMenu = searchable($("bot-menu"), $("bot-button"), {
  label: "Bots",
  items: () => bots.map(({ bot_id, requests_7d }) => ({ value: bot_id, name: bot_id, note: `${count(requests_7d, "request")} in 7 days` })),
  current: () => state.bot,
  open: offerBots,
  pick: (bot) => bot !== state.bot && go({ ...read({ pathname: "", search: "" }), bot, range: state.range, zone: state.zone }),
});

filterMenu($("filter-menu"), $("filter-button"), { values, view: shown, toggle });

const TOP = { client_class: "Top Clients", browser: "Top Browsers", region: "Top Regions", city: "Top Cities", page_url: "Top Pages", source: "Tokens by Source", model: "Tokens by Model" };
$("top").append(...RANKED.map((name) => h("option", { value: name }, filterName(name))));
$("top").addEventListener("change", () => go({ ...state, ranked: $("top").value }));

const MEASURE = { requests: "Requests", unique_ips: "Unique IPs", unique_conversations: "Unique Conversations" };
const measures = document.querySelectorAll(".measure");
for (const select of measures) {
  select.append(...MEASURED.map((name) => h("option", { value: name }, MEASURE[name])));
  select.addEventListener("change", () => {
    go({ ...state, measured: select.value });
    [...measures].find((other) => other.checkVisibility()).focus();
  });
}

searchable($("zone-menu"), $("zone-button"), {
  label: "Time zones",
  placeholder: "Place, or offset such as +5:30",
  items: (written) => zones(written, state.zone),
  current: () => state.zone,
  pick: (zone) => zone !== state.zone && go({ ...state, zone }),
});

$("presets").append(...PRESETS.map(([range, name]) =>
  h("button", { class: "choice", type: "button", dataset: { range }, onclick: () => ($("range-menu").hidePopover(), go({ ...state, range: { range } })) }, name)));

const form = rangeForm($("custom"), (range) => {
  $("range-menu").hidePopover();
  go({ ...state, range });
});
hang($("range-menu"), $("range-button"), () => form.fill(state.range, resolvedNow(), state.zone));

$("refresh").addEventListener("click", refresh);

const THEMES = { "": "Auto", light: "Light", dark: "Dark" };
function drawTheme() {
  const theme = document.documentElement.dataset.theme ?? "";
  $("theme").textContent = `◐ ${THEMES[theme]}`;
  $("theme").setAttribute("aria-label", `Theme: ${THEMES[theme]}`);
}
$("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  const next = names[(names.indexOf(document.documentElement.dataset.theme ?? "") + 1) % names.length];
  if (next) document.documentElement.dataset.theme = next;
  else delete document.documentElement.dataset.theme;
  localStorage.setItem("footfall.theme", next);
  drawTheme();
});
drawTheme();

document.addEventListener("scroll", () => tip(null), { passive: true, capture: true });
document.addEventListener("keydown", (event) => event.key === "Escape" && tip(null));
addEventListener("popstate", start);

/** Show what the address says. */
function start() {
  state = read(location);
  if (state.bot === null) return greet();
  if (state.bot === undefined) {
    leave();
    $("welcome").hidden = false;
    return lost($("welcome"));
  }
  history.replaceState(history.state, "", address(state));
  return show();
}

start();
