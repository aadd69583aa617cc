// Export of a table: all rows that match, not the visible page. The file is gathered here first and saved only once it
// is known to be whole, so that half a file never looks like all of it. (The browser keeps the gathered parts on
// disk when they grow.) What is too large for that is left to the browser's own download.

import { ask, Problem } from "./api.js";
import { h } from "./dom.js";
import { count, integer } from "./format.js";
import { hang } from "./menus.js";

const GATHERED_ROWS = 5_000_000; // 1 to 2 GB
const PART_BYTES = 4 << 20;
const FORMATS = [["csv", "CSV"], ["json", "JSON"]];

const announced = (response) => Number(response.headers.get("footfall-row-count"));

/** How many rows an export holds: its header, before the first byte. */
async function rowsOf(url) {
  const abort = new AbortController();
  const response = await ask(url, { signal: abort.signal });
  abort.abort();
  return announced(response);
}

/** Counts the rows of a CSV as its bytes pass: line ends outside quotes, less the header. */
class CsvRows {
  #lines = 0;
  #isQuoted = false;

  add(bytes) {
    for (const byte of bytes) {
      if (byte === 0x22) this.#isQuoted = !this.#isQuoted;
      else if (byte === 0x0a && !this.#isQuoted) this.#lines += 1;
    }
  }

  get rows() {
    return Math.max(0, this.#lines - 1);
  }
}

/** Reads the count that stands at the end of a JSON export; none before that. */
class JsonRows {
  #tail = "";

  add(bytes) {
    this.#tail = (this.#tail + new TextDecoder("latin1").decode(bytes.subarray(-64))).slice(-64);
  }

  get rows() {
    const found = this.#tail.match(/"row_count"\s*:\s*(\d+)\s*\}\s*$/);
    return found ? Number(found[1]) : null;
  }
}

/** Gather the export at `url`: {blob, rows} once whole, a Problem otherwise. `onProgress(bytes, rows, expected)`. */
async function gather(response, format, onProgress) {
  const expected = announced(response);
  const counter = format === "csv" ? new CsvRows() : new JsonRows();
  const type = response.headers.get("content-type");
  const parts = [];
  let chunks = [];
  let pending = 0;
  let bytes = 0;
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    counter.add(value);
    chunks.push(value);
    pending += value.length;
    bytes += value.length;
    if (pending >= PART_BYTES) {
      parts.push(new Blob(chunks));
      chunks = [];
      pending = 0;
    }
    onProgress(bytes, counter.rows, expected);
  }
  if (counter.rows !== expected)
    throw new Problem({ detail: `The file held ${integer(counter.rows ?? 0)} of ${integer(expected)} rows. It was not saved.` });
  return { blob: new Blob([...parts, ...chunks], { type }), rows: expected };
}

function save(href, name) {
  const link = h("a", { href, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}

const megabytes = (bytes) => (bytes < 1e5 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

/**
 * The Export menu of the table `name`: a button and what it opens. `target(format)` gives {url, file} of what
 * the table shows now, or null where nothing can match; `refused(problem)` as of a panel's view.
 */
export function exportMenu(name, label, target, refused) {
  const status = h("p", { class: "hint", role: "status" });
  const meter = h("progress", { hidden: true, "aria-label": "Export" });
  const stop = h("button", { class: "quiet", type: "button", hidden: true }, "Cancel");
  const choices = FORMATS.map(([format, title]) =>
    h("button", { class: "choice", type: "button", dataset: { format }, onclick: () => run(format) }, `Export ${title}`));
  const menu = h("div", { class: "menu export-menu", popover: "auto", id: `${name}-export`, role: "dialog", "aria-label": `Export ${label}` },
    ...choices, meter, status, stop);
  const button = h("button", { class: "picker", type: "button", popovertarget: menu.id, "aria-label": `Export ${label}` }, "Export");
  let running = null;

  const say = (text, isFault = false) => {
    status.textContent = text;
    status.classList.toggle("is-fault", isFault);
  };
  const enable = (isEnabled) => choices.forEach((choice) => (choice.disabled = !isEnabled));

  hang(menu, button, async () => {
    if (running) return;
    const wanted = target("csv");
    enable(wanted !== null);
    if (!wanted) return say("No row can match the filters.");
    say("Counting rows…");
    try {
      const rows = await rowsOf(wanted.url);
      if (!running && target("csv")?.url === wanted.url) say(`${count(rows, "row")}: all that match the range and the filters.`);
    } catch (error) {
      say((refused(error) ?? error).message, true);
    }
  });

  async function run(format) {
    const { url, file } = target(format);
    running = new AbortController();
    enable(false);
    stop.hidden = meter.hidden = false;
    meter.removeAttribute("value");
    say("Asking…");
    try {
      const response = await ask(url, { signal: running.signal, limited: false });
      const expected = announced(response);
      if (expected > GATHERED_ROWS) {
        running.abort();
        save(url, file);
        say(`${count(expected, "row")}: your browser's downloads show the progress; one that was cut off ends as failed there.`);
        return;
      }
      meter.max = Math.max(1, expected);
      const { blob, rows } = await gather(response, format, (bytes, counted) => {
        if (counted !== null) meter.value = counted;
        say(`${counted === null ? "" : `${integer(counted)} of `}${count(expected, "row")}, ${megabytes(bytes)}`);
      });
      const local = URL.createObjectURL(blob);
      save(local, file);
      setTimeout(() => URL.revokeObjectURL(local), 60_000);
      say(`Complete: ${count(rows, "row")}, ${megabytes(blob.size)}.`);
    } catch (error) {
      if (error.name === "AbortError") say("Cancelled. Nothing was saved.");
      else if (error instanceof Problem) say((refused(error) ?? error).message, true);
      else say("The connection broke before the end. Nothing was saved; try again.", true);
    } finally {
      running = null;
      stop.hidden = meter.hidden = true;
      enable(true);
    }
  }
  stop.addEventListener("click", () => running?.abort());

  return { button, menu };
}
