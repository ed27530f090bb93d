// System: what runs here, whether it was proved, how busy and how full it is.

import { el, icon } from "./dom.js";
import { count, counted, duration, moment, oneIn, size, span } from "./formats.js";
import { Loader, skeleton } from "./states.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").EngineFacts} EngineFacts */
/** @typedef {import("./types.js").Info} Info */
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

/**
 * @param {App} app
 * @param {Info} info
 */
function draw(app, info) {
  const engines = info.engines.flatMap((engine) => [enginePanel(engine), proofPanel(engine)]);
  return el("div", { class: "panels" }, servicePanel(info), app.galleries.map((one) => galleryPanel(one, info)), engines);
}

/**
 * @param {string} title
 * @param {Pair[]} pairs
 * @param {...(Node | Node[] | null)} more
 */
function panel(title, pairs, ...more) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  const entries = known.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, /** @type {any} */ (value))]);
  return el(
    "section",
    { class: "panel", "aria-label": title },
    el("h2", { class: "small-title" }, title),
    entries.length > 0 && el("dl", { class: "pairs" }, entries),
    more.flat(),
  );
}

/** @param {Info} info */
function servicePanel(info) {
  return panel("Service", [
    ["State", info.ready ? yes("ready") : no("opening its engines")],
    ["Version", info.version],
    ["Running for", [duration(info.uptime_s), " since ", /** @type {Node} */ (moment(info.started))]],
    ["Changes", info.read_only ? "refused (read-only)" : "allowed"],
    ["Followers", counted(info.followers, "open page or program", "open pages and programs")],
    ["Memory", meter(info.memory.resident, info.memory.limit, "memory")],
  ]);
}

/**
 * @param {import("./types.js").Gallery} gallery
 * @param {Info} info
 */
function galleryPanel(gallery, info) {
  const disk = info.disks.find((one) => one.gallery === gallery.name);
  const cameras = gallery.cameras.map(({ name, crops }) => `${name ?? "none"} (${count(crops)})`);
  const sources = Object.entries(gallery.sources).map(([name, crops]) => `${name} (${count(crops)})`);
  return panel(`Gallery ${gallery.name}`, [
    ["Crops", count(gallery.rows)],
    ["Confirmed people", count(gallery.people)],
    ["Cameras", cameras.join(", ")],
    ["Sources", sources.join(", ")],
    ["Seen", gallery.first ? span(gallery.first, gallery.last) : null],
    ["Writing", gallery.writable ? "allowed" : "read-only"],
    ["Its folder", gallery.following ? "followed: new files come in by themselves" : "not followed"],
    ["Disk", disk ? meter(disk.total - disk.free, disk.total, "disk") : null],
  ]);
}

/** @param {EngineFacts} engine */
function enginePanel(engine) {
  const states = /** @type {Record<string, Node>} */ ({ open: yes("open"), opening: el("span", {}, "opening…"), failed: no("failed") });
  const problems = engine.problems.map((line) => el("p", { class: "warning" }, icon("warning"), el("span", {}, line)));
  return panel(
    `Engine of ${engine.galleries.join(", ")}`,
    [
      ["State", states[engine.state] ?? engine.state],
      ["Model", engine.model],
      ["Network", `${engine.family}, ${engine.backbone}`],
      ["Fingerprint", el("code", {}, engine.fingerprint)],
      ["Runtime", engine.runtime],
      ["Precision", engine.precision],
      ["Arithmetic", engine.arithmetic],
      ["Input", `${engine.height_px} × ${engine.width_px} px`],
      ["Descriptor", counted(engine.dimension, "value")],
      ["Images per batch", engine.max_batch],
      ["Queue", meter(engine.queue, engine.queue_limit, "queue", count)],
    ],
    problems,
  );
}

/** @param {EngineFacts} engine */
function proofPanel({ parity, thresholds, galleries }) {
  const rates = thresholds?.fpr.length ? thresholds.fpr.map(oneIn).join(", ") : null;
  const searches = thresholds?.fpir.length ? thresholds.fpir.map(oneIn).join(", ") : null;
  return panel(`Proof for ${galleries.join(", ")}`, [
    ["Parity", parity ? (parity.passed ? yes(parity.verdict) : no(parity.verdict)) : "not measured; run rrid-edge parity"],
    ["Compared", parity ? `${parity.engine} with ${parity.reference}` : null],
    ["Arithmetic", parity?.arithmetic],
    ["Mean cosine", parity?.mean_cosine.toFixed(6)],
    ["Lowest cosine", parity?.min_cosine.toFixed(6)],
    ["Rates", thresholds ? `measured on ${thresholds.dataset}, ${counted(thresholds.people, "person", "people")}` : "not measured; run rrid-edge evaluate"],
    ["Pairs", rates],
    ["Searches", searches],
  ]);
}

/** @param {string} text */
function yes(text) {
  return el("span", { class: "yes" }, icon("check"), text);
}

/** @param {string} text */
function no(text) {
  return el("span", { class: "no" }, icon("warning"), text);
}

/**
 * How much of something is in use, in numbers and as a bar.
 *
 * @param {number | null} used
 * @param {number} limit
 * @param {string} name
 * @param {(value: number) => string} [shown]
 */
function meter(used, limit, name, shown = size) {
  if (used === null || limit <= 0) return null;
  const bar = el("span", {});
  bar.style.width = `${Math.min(100, (100 * used) / limit)}%`;
  const words = `${shown(used)} of ${shown(limit)}`;
  return el("div", {}, words, el("span", { class: "meter", role: "img", "aria-label": `${name}: ${words}` }, bar));
}
