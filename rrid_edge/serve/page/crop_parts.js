// Parts of every card of a crop: picture, badges, facts. What a person confirmed has a solid badge with a check; what
// a score suggests has a dashed outline and its number.

import { button, el, icon } from "./dom.js";
import { openCrop } from "./crop_dialog.js";
import { cameraName, moment } from "./formats.js";
import { go, hash } from "./router.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Crop} Crop */

/**
 * The name of a person whom somebody confirmed.
 *
 * @param {{id: string | null, name: string | null}} person
 * @param {{isLink?: boolean}} [options]
 */
export function confirmedBadge(person, { isLink = true } = {}) {
  const content = [icon("check"), el("span", { class: "badge-text" }, person.name ?? "confirmed")];
  if (!isLink || !person.id) return el("span", { class: "badge is-confirmed" }, content);
  const title = "Confirmed by a person. Show all crops.";
  return el("a", { class: "badge is-confirmed", href: hash(`people/${person.id}`), title }, content);
}

/**
 * A group that only scores suggest.
 *
 * @param {number | null} confidence
 */
export function suggestedBadge(confidence) {
  const number = confidence === null ? "" : `, ${confidence.toFixed(2)}`;
  return el("span", { class: "badge is-suggested", title: "Only scores say so. Nobody has confirmed it." }, `suggested${number}`);
}

/**
 * What a crop shows, in words.
 *
 * @param {Crop} crop
 */
export function cropName(crop) {
  return [`Crop ${crop.id}`, crop.person?.name, crop.camera === null ? null : cameraName(crop.camera)]
    .filter(Boolean)
    .join(", ");
}

/**
 * The picture of a crop. A picture that does not come is a grey box that says so.
 *
 * @param {Crop} crop
 * @param {"thumbnail" | "image"} [size]
 */
export function picture(crop, size = "thumbnail") {
  const image = el("img", {
    class: "crop-picture", src: crop[size], alt: cropName(crop), width: 64, height: 128, decoding: "async",
    loading: size === "thumbnail" ? "lazy" : "eager", draggable: "false",
  });
  image.addEventListener("error", () => {
    image.replaceWith(el("span", { class: "crop-picture is-missing", role: "img", "aria-label": cropName(crop) }, "no picture"));
  });
  return image;
}

/**
 * The picture as a button that opens it large.
 *
 * @param {App} app
 * @param {Crop} crop
 * @param {() => Crop[]} [others] the crops beside it, for the dialog's arrows.
 */
export function pictureButton(app, crop, others = () => [crop]) {
  return button(picture(crop), () => openCrop(app, crop, others()), {
    class: "crop-open", "aria-label": `Open ${cropName(crop)}`,
  });
}

/**
 * Search by a crop: a small button with a magnifier.
 *
 * @param {Crop} crop
 */
export function searchButton(crop) {
  return button(icon("search"), () => go("search", { crop: crop.id }), {
    class: "button is-icon crop-search", "aria-label": `Search by crop ${crop.id}`, title: "Search by this crop",
  });
}

/**
 * Camera, time, file and track of a crop.
 *
 * @param {Crop} crop
 */
export function facts(crop) {
  const time = moment(crop.time) ?? (crop.frame === null ? null : `frame ${crop.frame}`);
  return el(
    "div",
    { class: "crop-facts" },
    el("span", { class: "crop-camera" }, cameraName(crop.camera)),
    time && el("span", { class: "crop-time" }, time),
    crop.path && el("span", { class: "crop-path", title: crop.path }, el("bdi", {}, crop.path)),
  );
}

/**
 * The small card of Live and Person.
 *
 * @param {App} app
 * @param {Crop} crop
 * @param {{others?: () => Crop[], extra?: Node | null | false}} [options]
 */
export function smallCard(app, crop, { others = undefined, extra = null } = {}) {
  return el(
    "li",
    {},
    el(
      "article",
      { class: "small-card", data: { crop: crop.id }, "aria-label": cropName(crop) },
      el("div", { class: "crop-frame" }, pictureButton(app, crop, others), searchButton(crop)),
      crop.person && confirmedBadge(crop.person),
      facts(crop),
      extra,
    ),
  );
}
