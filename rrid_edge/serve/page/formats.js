// Times, numbers and rates as people read them.

const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;
const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const BOTH = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const NUMBER = new Intl.NumberFormat();

import { el } from "./dom.js";

/**
 * A moment in the reader's own zone; the zone and the UTC time are in its tooltip.
 *
 * @param {string | null} text ISO 8601, UTC.
 * @param {"both" | "day" | "clock"} [shown]
 * @returns {HTMLElement | null}
 */
export function moment(text, shown = "both") {
  if (!text) return null;
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) return el("span", {}, text);
  const format = { both: BOTH, day: DAY, clock: CLOCK }[shown];
  return el("time", { datetime: text, title: `${BOTH.format(time)} ${ZONE}\n${text} (UTC)` }, format.format(time));
}

/**
 * A moment as plain text in the reader's zone.
 *
 * @param {string} text
 */
export function momentText(text) {
  const time = new Date(text);
  return Number.isNaN(time.getTime()) ? text : BOTH.format(time);
}

/**
 * From the first to the last moment.
 *
 * @param {string | null} first
 * @param {string | null} last
 * @returns {(Node | string)[]}
 */
export function span(first, last) {
  if (!first || !last) return [];
  const ends = [new Date(first), new Date(last)];
  if (ends.some((end) => Number.isNaN(end.getTime()))) return [first, " – ", last];
  if (ends[0].getTime() === ends[1].getTime()) return [/** @type {Node} */ (moment(first))];
  const isOneDay = DAY.format(ends[0]) === DAY.format(ends[1]);
  return [/** @type {Node} */ (moment(first)), " – ", /** @type {Node} */ (moment(last, isOneDay ? "clock" : "both"))];
}

/** @param {number} value */
export function count(value) {
  return NUMBER.format(value);
}

/**
 * A number with its noun.
 *
 * @param {number} number
 * @param {string} one
 * @param {string} [many]
 */
export function counted(number, one, many = `${one}s`) {
  return `${NUMBER.format(number)} ${number === 1 ? one : many}`;
}

/** @param {number} value a cosine. */
export function score(value) {
  return value.toFixed(3);
}

/**
 * "1 in 10 000".
 *
 * @param {number} rate
 */
export function oneIn(rate) {
  return rate > 0 ? `1 in ${NUMBER.format(Math.round(1 / rate))}` : "none measured";
}

/**
 * What a measured rate means, in one sentence.
 *
 * @param {{kind: string, rate: number, score: number, dataset?: string}} mark
 */
export function rateMeaning(mark) {
  const what = mark.kind === "fpir" ? "searches for somebody who is not in the gallery" : "pairs of different people";
  const where = mark.dataset ? ` (measured on ${mark.dataset})` : "";
  return `${oneIn(mark.rate)} ${what} reaches a score of ${score(mark.score)}${where}.`;
}

/** @param {number} bytes */
export function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${(seconds / 3600).toFixed(1)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

/**
 * The camera of a crop in words.
 *
 * @param {string | null} camera
 */
export function cameraName(camera) {
  return camera === null || camera === "" ? "no camera" : `Camera ${camera}`;
}

/** The name of the reader's time zone. */
export const zone = ZONE;
