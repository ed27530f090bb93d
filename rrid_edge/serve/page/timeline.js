// When a person was seen where: one lane per camera over a common axis of time.

import { openCrop } from "./crop_dialog.js";
import { cropName } from "./crop_parts.js";
import { button, el } from "./dom.js";
import { cameraName, moment, momentText } from "./formats.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Crop} Crop */
/** @typedef {{camera: string | null, crops: Crop[]}} Lane */

/**
 * @param {App} app
 * @param {Lane[]} lanes
 * @returns {HTMLElement | null} null if fewer than two crops have a time.
 */
export function timeline(app, lanes) {
  const times = lanes.flatMap(({ crops }) => crops.flatMap((crop) => (isDated(crop) ? [Date.parse(/** @type {string} */ (crop.time))] : [])));
  if (times.length < 2) return null;
  const first = Math.min(...times);
  const length = Math.max(...times) - first || 1;
  const place = (/** @type {number} */ time) => `${2 + (96 * (time - first)) / length}%`;
  const drawn = lanes.filter(({ crops }) => crops.some(isDated));
  const ends = [new Date(first).toISOString(), new Date(first + length).toISOString()];
  return el(
    "section",
    { class: "panel timeline", "aria-label": "Timeline" },
    drawn.map(({ camera, crops }) =>
      el(
        "div",
        { class: "lane" },
        el("span", { class: "lane-name" }, cameraName(camera)),
        el("div", { class: "lane-line" }, crops.filter(isDated).map((crop) => dot(app, crop, crops, place))),
      ),
    ),
    el("div", { class: "lane lane-ends" }, el("span", {}), el("div", { class: "field-head" }, moment(ends[0]), moment(ends[1]))),
  );
}

/** @param {Crop} crop */
function isDated(crop) {
  return crop.time !== null && !Number.isNaN(Date.parse(crop.time)); // a time before the year 1 has no date here
}

/**
 * @param {App} app
 * @param {Crop} crop
 * @param {Crop[]} crops
 * @param {(time: number) => string} place
 */
function dot(app, crop, crops, place) {
  const time = /** @type {string} */ (crop.time);
  const made = button([], () => openCrop(app, crop, crops), {
    class: "lane-dot", "aria-label": `${cropName(crop)}, ${momentText(time)}`, title: momentText(time), data: { crop: crop.id },
  });
  made.style.left = place(Date.parse(time));
  return made;
}
