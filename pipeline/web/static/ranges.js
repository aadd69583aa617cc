// The range in words, and the form that asks for one by its ends.

import { $, h } from "./dom.js";
import { DAY_MS, briefly, isMidnight, offsetName, write } from "./format.js";
import { PRESETS } from "./state.js";
import { isKnown, momentIn, momentsAt, spelled } from "./zones.js";

/** A range as short as a button. `resolved` are its ends as the server understood them; null before that. */
export function rangeName(range, zone, resolved) {
  if (range.range) return PRESETS.find(([name]) => name === range.range)?.[1] ?? range.range;
  const [from, to] = resolved ? [resolved.from, resolved.to] : [range.from, range.to].map((end) => end && written(end, zone));
  if (!from || to === null) return "Custom range";
  return range.to ? briefly(from, to) : `Since ${write.date(from.wall)}`;
}

/** The moment in `zone` that an end in the address means, a time or a date; null where it is neither. */
export function written(end, zone) {
  const isDate = /^\d{4}-\d\d-\d\d$/.test(end);
  const ms = Date.parse(end);
  if (!isKnown(zone) || Number.isNaN(ms) || !(isDate || /T.*(Z|[+-]\d\d:\d\d)$/.test(end))) return null;
  return isDate ? momentsAt(new Date(ms), zone)[0] : momentIn(ms, zone);
}

/**
 * The form. `choose(range)` is told what it asks for. `fill(range, resolved, zone)` of the result writes a range into
 * it: ends that a reader leaves as they are stay so to the millisecond, whatever the fields can show.
 */
export function rangeForm(form, choose) {
  let zone = "UTC";
  let filled = {}; // {from, to}: what was written into the fields, {fields, ms, value}
  const field = (which, part) => form.elements[`${which}_${part}`];
  const fieldsOf = (which) => ["date", "time", "offset"].map((part) => field(which, part).value).join(" ");
  const wallOf = (which) => new Date(`${field(which, "date").value}T${field(which, "time").value}Z`);
  const say = (text) => {
    $("custom-fault").textContent = text;
    $("custom-fault").hidden = !text;
  };

  /** The moments that a date and a time mean: two where the clocks go back. */
  const momentsOf = (which) => (field(which, "date").value && field(which, "time").value && isKnown(zone) ? momentsAt(wallOf(which), zone) : []);

  /** Offer both moments of a time that comes twice, and tell of one that does not come. The first begins a range, the second ends it. */
  function offer(which, offset = null) {
    const moments = momentsOf(which);
    const select = field(which, "offset");
    const chosen = offset ?? moments.at(which === "from" ? 0 : -1)?.offset;
    const options = moments.length > 1 ? moments.map((one, i) => h("option", { value: one.offset }, `${["First", "Second"][i]}, ${offsetName(one.offset)}`)) : [];
    select.replaceChildren(...options);
    select.value = chosen ?? "";
    select.hidden = !options.length;
    const [{ wall } = {}] = moments;
    const isSkipped = wall && wall.getTime() !== wallOf(which).getTime();
    const note = $(`${which}-note`);
    note.textContent = isSkipped ? `The clocks skip this time: ${write.minute(wall)} is meant.` : "";
    note.hidden = !isSkipped;
  }

  /** What the fields of an end mean: {ms, value}, the value as the API takes it; null where there is none. */
  function end(which) {
    if (!field(which, "date").value) return null;
    if (filled[which]?.fields === fieldsOf(which)) return filled[which];
    const moments = momentsOf(which);
    if (moments.length) {
      const { ms, text } = moments.find(({ offset }) => offset === field(which, "offset").value) ?? moments[0];
      return { ms, value: text };
    }
    const day = new Date(Date.parse(field(which, "date").value) + (which === "to" ? DAY_MS : 0)); // an end includes its day
    return { ms: momentsAt(day, zone)[0].ms, value: day.toISOString().slice(0, 10) };
  }

  form.addEventListener("input", ({ target }) => {
    say("");
    const [which, part] = target.name.split("_");
    if (part !== "offset") offer(which);
  });

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!isKnown(zone)) return say(`This browser does not know the clocks of ${spelled(zone)}. Choose another time zone.`);
    const [from, to] = [end("from"), end("to")];
    if (to && from.ms >= to.ms) return say("The end must be after the beginning.");
    if (!to && from.ms >= Date.now()) return say("A range up to now cannot begin in the future. Choose an end too.");
    choose(to ? { from: from.value, to: to.value } : { from: from.value });
  });

  return {
    fill: (range, resolved, chosen) => {
      say("");
      zone = chosen;
      filled = {};
      if (!resolved) return;
      for (const which of ["from", "to"]) {
        const { wall, ms, offset, text } = resolved[which];
        const isDay = isMidnight(wall);
        const shown = new Date(wall.getTime() - (which === "to" && isDay ? DAY_MS : 0)).toISOString();
        field(which, "date").value = shown.slice(0, 10);
        field(which, "time").value = isDay ? "" : shown.slice(11, 19);
        offer(which, offset);
        filled[which] = { fields: fieldsOf(which), ms, value: range[which] ?? (isDay ? wall.toISOString().slice(0, 10) : text) };
      }
    },
  };
}
