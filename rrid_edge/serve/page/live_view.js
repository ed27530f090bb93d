// Live: the newest crops, as they come in.

import { smallCard } from "./crop_parts.js";
import { button, el, fill, icon } from "./dom.js";
import { count, counted } from "./formats.js";
import { announce } from "./notices.js";
import { go } from "./router.js";
import { cameraChips } from "./search_filters.js";
import { empty, Loader, skeleton } from "./states.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Crop} Crop */

const PAGE = 24;
const MOST = 480; // cards that are kept on the page
const TOGETHER_MS = 150;
const MODES = /** @type {Record<string, string>} */ ({
  live: "Live", polling: "Asking every 4 s", connecting: "Connecting…",
});

/**
 * @param {App} app
 * @param {URLSearchParams} given
 * @returns {import("./types.js").View}
 */
export function liveView(app, given) {
  let parameters = given;
  /** @type {Crop[]} */
  let crops = [];
  /** @type {string | null} */
  let older = null;
  let isPaused = false;
  let waiting = 0;
  /** @type {Set<number>} crops that the service announced and that are not on the page yet. */
  const announced = new Set();
  let timer = 0;
  const list = el("ul", { class: "small-cards", "aria-label": "Newest crops" });
  const place = el("div", {});
  const mode = el("span", { class: "mode", role: "status" });
  const pause = button("", () => setPaused(!isPaused), { class: "button", id: "pause" });
  const cameras = cameraChips(app, (camera) => go("live", { camera }));
  const more = button("Show older crops", () => void loadOlder(), { class: "button", hidden: true });
  const loader = new Loader(place, () => skeleton("small-card", PAGE / 2, "small-cards"));
  const camera = () => parameters.getAll("camera");

  const load = (isQuiet = false) =>
    loader.run((signal) => app.api.get("crops", { limit: PAGE, order: "newest", camera: camera() }, signal), (page) => {
      older = page.next;
      crops = page.crops;
      fill(list, crops.map(card));
      more.hidden = older === null;
      return crops.length ? el("div", { class: "stack" }, list, more) : nothing();
    }, { isQuiet });
  /** @param {Crop} crop */
  const card = (crop) => smallCard(app, crop, { others: () => crops });

  const nothing = () =>
    camera().length
      ? empty("live", "No crop of these cameras", "New crops appear here by themselves.")
      : empty("live", "No crops yet", "New crops appear here by themselves as soon as the gallery has them.");

  /** Take what is new, in front of what is there. */
  const catchUp = async () => {
    if (place.hasAttribute("aria-busy")) return later(); // a page is on its way and may be older than this news
    let page;
    try {
      page = await app.api.get("crops", { limit: PAGE, order: "newest", camera: camera() });
    } catch {
      return; // the banner says that the service is away; the next event or poll tries again
    }
    const known = new Set(crops.map((crop) => crop.id));
    const listed = page.crops.filter((/** @type {Crop} */ crop) => !known.has(crop.id));
    if (crops.length && listed.length === page.crops.length) return void load(true);
    const fresh = [...(await untimed([...known, ...listed.map((/** @type {Crop} */ crop) => crop.id)])), ...listed];
    if (!fresh.length) return;
    if (!crops.length) return void load(true);
    crops = [...fresh, ...crops].slice(0, MOST);
    const cards = fresh.map(card);
    for (const one of cards) one.classList.add("is-new");
    list.prepend(...cards);
    while (list.childElementCount > MOST) list.lastElementChild?.remove();
    announce(`${counted(fresh.length, "new crop")}`);
  };
  /**
   * New crops that the list of the newest does not show, for example because they have no time.
   *
   * @param {number[]} shown
   * @returns {Promise<Crop[]>}
   */
  const untimed = async (shown) => {
    const ids = [...announced].filter((id) => !shown.includes(id)).slice(-PAGE);
    announced.clear();
    const found = await Promise.allSettled(ids.map((id) => app.api.get(`crops/${id}`)));
    const read = found.flatMap((one) => (one.status === "fulfilled" ? [/** @type {Crop} */ (one.value)] : []));
    return read.filter((crop) => !camera().length || camera().includes(crop.camera ?? "")).reverse();
  };
  const later = () => {
    clearTimeout(timer);
    timer = window.setTimeout(() => void catchUp(), TOGETHER_MS);
  };

  const loadOlder = async () => {
    more.disabled = true;
    try {
      const page = await app.api.get("crops", { limit: PAGE, order: "newest", camera: camera(), cursor: older });
      older = page.next;
      const known = new Set(crops.map((crop) => crop.id));
      const found = page.crops.filter((/** @type {Crop} */ crop) => !known.has(crop.id));
      crops = [...crops, ...found];
      list.append(...found.map(card));
      more.hidden = older === null || crops.length >= MOST;
    } catch {
      // the banner says so
    } finally {
      more.disabled = false;
    }
  };

  const setPaused = (/** @type {boolean} */ now) => {
    isPaused = now;
    if (!now) {
      waiting = 0;
      void catchUp();
    }
    drawPause();
  };
  const drawPause = () => {
    fill(pause, icon(isPaused ? "play" : "pause"), isPaused ? `Go on${waiting ? ` (${waiting} new)` : ""}` : "Pause");
    mode.textContent = isPaused ? "Paused" : MODES[app.newsMode()];
    mode.dataset.mode = isPaused ? "paused" : app.newsMode();
  };

  const progress = el("span", { class: "muted" });
  const head = el(
    "div",
    { class: "results-head" },
    el("h1", { class: "view-title" }, "Live"),
    mode,
    progress,
    pause,
  );
  drawPause();
  cameras.show(camera());
  load();
  return {
    root: el("div", { class: "stack" }, head, cameras.root, place),
    title: "Live",
    update: (next) => {
      parameters = next;
      cameras.show(camera());
      load();
    },
    onEvent: ({ kind, data }) => {
      if (kind === "mode") drawPause();
      if (kind === "index-progress") progress.textContent = data.done < data.total ? `Indexing ${count(data.done)} of ${count(data.total)}` : "";
      if (kind === "crop-forgotten" && data.count > data.ids?.length) load(true);
      if (kind === "crop-forgotten") crops = crops.filter((crop) => !(data.ids ?? []).includes(crop.id));
      if (!["crop-added", "gallery-changed", "reset", "poll"].includes(kind)) return;
      for (const id of data.ids ?? []) announced.add(id);
      if (kind === "crop-added") void app.refresh().then(() => cameras.show(camera()), () => undefined);
      if (isPaused) {
        waiting += kind === "crop-added" ? (data.count ?? data.ids?.length ?? 1) : 0;
        drawPause();
      } else later();
    },
    onOnline: () => (loader.retry(), later()),
    stop: () => (clearTimeout(timer), loader.stop()),
  };
}
