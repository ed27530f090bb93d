// Whom to look for: pictures that are dropped, pasted, chosen or photographed, or a crop of the gallery.

import { picture } from "./crop_parts.js";
import { button, el, fill, icon } from "./dom.js";
import { cameraName, counted, moment } from "./formats.js";
import { notice } from "./notices.js";
import { imagesOf, MOST_IMAGES } from "./uploads.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Crop} Crop */
/** @typedef {{files: File[], crop: Crop | null, thumbnail: string | null, images: number}} Shown */

/**
 * The panel that takes the query.
 *
 * @param {{onFiles: (files: File[]) => void, onClear: () => void}} heard
 * @returns {{root: HTMLElement, show: (shown: Shown) => void, stop: () => void}}
 */
export function queryPanel({ onFiles, onClear }) {
  /** @type {File[]} */
  let held = [];
  /** @type {string[]} */
  let urls = [];
  const preview = el("div", { class: "query-preview" });
  const add = (/** @type {File[]} */ files) => {
    if (!files.length) {
      notice("That holds no picture. Expected an image file, for example a JPEG.", { isError: true });
      return;
    }
    const all = [...held, ...files];
    if (all.length > MOST_IMAGES) notice(`A search takes ${MOST_IMAGES} images at most: the first ${MOST_IMAGES} are used.`);
    onFiles(all.slice(0, MOST_IMAGES));
  };
  const choose = fileInput("query-files", { multiple: true }, add);
  const photograph = fileInput("query-photo", { capture: "environment" }, add);
  const zone = el(
    "div",
    { class: "drop" },
    icon("upload"),
    el("p", { class: "drop-text" }),
    el(
      "div",
      { class: "row" },
      button([icon("upload"), el("span", {}, "Choose", el("span", { class: "not-touch" }, " pictures"))], () => choose.click(), { class: "button is-primary", id: "choose" }),
      button([icon("camera"), "Take a photo"], () => photograph.click(), { class: "button only-touch" }),
    ),
    choose,
    photograph,
  );
  const show = (/** @type {Shown} */ shown) => {
    for (const url of urls) URL.revokeObjectURL(url);
    held = shown.files;
    urls = held.map((file) => URL.createObjectURL(file));
    fill(preview, previewOf(shown, urls, (place) => drop(place), onClear));
    const isEmpty = !shown.files.length && !shown.crop && !shown.thumbnail;
    zone.classList.toggle("is-small", !isEmpty);
    const verb = matchMedia("(pointer: coarse)").matches ? "Give" : "Drop or paste";
    /** @type {HTMLElement} */ (zone.querySelector(".drop-text")).textContent = held.length
      ? `${verb} another picture of the same person`
      : `${verb} pictures of one person`;
  };
  const drop = (/** @type {number} */ place) => {
    const left = held.filter((_, index) => index !== place);
    if (left.length) onFiles(left);
    else onClear();
  };
  const stopTaking = takeDropsAndPastes(zone, add);
  const root = el("section", { class: "panel query", "aria-label": "Query" }, preview, zone);
  return { root, show, stop: () => (stopTaking(), urls.forEach((url) => URL.revokeObjectURL(url))) };
}

/**
 * @param {string} id
 * @param {Record<string, any>} attributes
 * @param {(files: File[]) => void} add
 */
function fileInput(id, attributes, add) {
  const label = attributes.capture ? "Take a photo" : "Choose pictures";
  const input = /** @type {HTMLInputElement} */ (
    el("input", { type: "file", id, accept: "image/*", hidden: true, "aria-label": label, ...attributes })
  );
  input.addEventListener("change", () => {
    const files = imagesOf(input.files);
    input.value = "";
    if (files.length) add(files);
  });
  return input;
}

/**
 * Pictures may be dropped anywhere on the page and pasted at any time.
 *
 * @param {HTMLElement} zone that shows where to drop.
 * @param {(files: File[]) => void} add
 * @returns {() => void} ends it.
 */
function takeDropsAndPastes(zone, add) {
  const control = new AbortController();
  const { signal } = control;
  const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener(
    "dragover",
    (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      zone.classList.add("is-over");
    },
    { signal },
  );
  document.addEventListener("dragleave", (event) => event.relatedTarget === null && zone.classList.remove("is-over"), { signal });
  document.addEventListener(
    "drop",
    (event) => {
      zone.classList.remove("is-over");
      if (!hasFiles(event)) return;
      event.preventDefault();
      add(imagesOf(event.dataTransfer));
    },
    { signal },
  );
  document.addEventListener(
    "paste",
    (event) => {
      const files = imagesOf(event.clipboardData);
      if (files.length) add(files);
    },
    { signal },
  );
  return () => control.abort();
}

/**
 * @param {Shown} shown
 * @param {string[]} urls of the held files.
 * @param {(place: number) => void} drop
 * @param {() => void} clear
 */
function previewOf({ files, crop, thumbnail, images }, urls, drop, clear) {
  const end = button("New search", clear, { class: "button is-quiet", id: "new-search" });
  if (files.length) {
    const pictures = files.map((_, place) =>
      el(
        "li",
        { class: "query-image" },
        el("img", { src: urls[place], alt: `Query image ${place + 1}`, width: 64, height: 128 }),
        button(icon("cross"), () => drop(place), { class: "button is-icon", "aria-label": `Take query image ${place + 1} away` }),
      ),
    );
    return [head(counted(files.length, "image"), end), el("ul", { class: "query-images" }, pictures)];
  }
  if (crop) {
    const about = [cameraName(crop.camera), moment(crop.time)];
    return [
      head(`Crop ${crop.id}`, end),
      el("div", { class: "query-crop" }, picture(crop), el("div", { class: "stack" }, about.map((line) => line && el("span", {}, line)))),
    ];
  }
  if (thumbnail) {
    const image = el("img", { src: thumbnail, alt: "Query image", width: 64, height: 128 });
    return [head(counted(images, "image"), end), el("ul", { class: "query-images" }, el("li", { class: "query-image" }, image))];
  }
  return [];
}

/** @param {string} text @param {Node} action */
function head(text, action) {
  return el("div", { class: "field-head" }, el("h2", { class: "small-title" }, "Looking for ", el("span", { class: "muted" }, text)), action);
}
