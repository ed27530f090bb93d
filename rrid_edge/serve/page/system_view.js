// System: what runs here, whether it was proved, how busy and how full it is.

import { el } from "./dom.js";
import { count, span } from "./formats.js";
import { Loader, skeleton } from "./states.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {[string, Node | string | number | (Node | string)[] | null | undefined]} Pair */

const REFRESH_MS = 5000;

/**
 * @param {App} app
 * @returns {import("./types.js").View}
 */
export function systemView(app) {
  const place = el("div", {});
  const loader = new Loader(place, () => skeleton("panel", 4, "panels"));
  const load = (isQuiet = false) =>
    loader.run(
      async (signal) => {
        const [info, galleries] = await Promise.all([app.api.get("info", {}, signal), app.api.get("galleries", {}, signal)]);
        app.galleries = galleries;
        return info;
      },
      (info) => draw(app, info),
      { isQuiet },
    );
  const timer = setInterval(() => !document.hidden && load(true), REFRESH_MS);
  load();
  return {
    root: el("div", { class: "stack" }, el("h1", { class: "view-title" }, "System"), place),
    title: "System",
    onOnline: () => loader.retry(),
    stop: () => (clearInterval(timer), loader.stop()),
  };
}

/** @param {string} title @param {Pair[]} pairs @param {...(Node | null)} more */
function panel(title, pairs, ...more) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el(
    "section",
    { class: "panel", "aria-label": title },
    el("h2", { class: "small-title" }, title),
    el("dl", { class: "pairs" }, known.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, /** @type {any} */ (value))])),
    more,
  );
}

/**
 * @param {App} app
 * @param {any} _info of `GET /info`.
 */
function draw(app, _info) {
  return el("div", { class: "panels" }, app.galleries.map(galleryPanel));
}

/** @param {import("./types.js").Gallery} gallery */
function galleryPanel(gallery) {
  return panel(`Gallery ${gallery.name}`, [
    ["Crops", count(gallery.rows)],
    ["People", count(gallery.people)],
    ["Cameras", gallery.cameras.map(({ name, crops }) => `${name ?? "none"} (${count(crops)})`).join(", ")],
    ["Time", gallery.first ? span(gallery.first, gallery.last) : null],
    ["Sources", Object.entries(gallery.sources).map(([name, crops]) => `${name} (${count(crops)})`).join(", ")],
    ["Model", gallery.model],
    ["Fingerprint", el("code", { title: gallery.fingerprint }, gallery.fingerprint.slice(0, 12))],
    ["Writing", gallery.writable ? "allowed" : "read-only"],
    ["Folder", gallery.following ? "followed" : "not followed"],
  ]);
}
