// Search: a query, filters and the answer. The address says all of it, so it can be shared and reloaded.

import { smallCard } from "./crop_parts.js";
import { button, el } from "./dom.js";
import { filterPanel } from "./search_filters.js";
import { queryPanel } from "./search_query.js";
import { Results } from "./search_results.js";
import { go, hash, record } from "./router.js";
import { empty, Loader, skeleton } from "./states.js";
import { uploadForm } from "./uploads.js";
import { idOf } from "./ids.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Answer} Answer */
/** @typedef {import("./types.js").Crop} Crop */
/** @typedef {import("./types.js").View} View */

const FILTERS = ["camera", "exclude_camera", "since", "until", "min_score", "fpr", "fpir", "top_k", "rerank"];
const QUIET_MS = 400;
const NEWEST = 12;
const MOST_SHAPES = 24;

/** Pictures of the search that is shown, so that another of the same person can be added: `id` is its kept query. */
const held = { id: /** @type {string | null} */ (null), files: /** @type {File[]} */ ([]) };

/**
 * @param {App} app
 * @param {URLSearchParams} given
 * @returns {View}
 */
export function searchView(app, given) {
  let parameters = given;
  /** @type {Answer | null} */
  let answer = null;
  let timer = 0;
  const place = el("div", { class: "results", "aria-live": "off" });
  const loader = new Loader(place, () => skeleton("card", Math.min(Number(parameters.get("top_k") ?? 8) || 8, MOST_SHAPES)));
  const change = (/** @type {Record<string, any>} */ changes) => go("search", changed(parameters, changes));
  const clearFilters = () => change(Object.fromEntries(FILTERS.map((name) => [name, undefined])));
  const query = queryPanel({ onFiles: (files) => upload(files), onClear: () => (hold(null, []), go("search", {})) });
  const filters = filterPanel(app, change);
  const results = new Results(app, clearFilters);

  /** @param {Answer} found */
  const draw = (found) => {
    answer = found;
    results.queryCrop = null;
    filters.show(parameters, found.marks, found.threshold);
    if (held.id === null || held.id !== parameters.get("query")) {
      query.show({ files: held.id === null ? held.files : [], crop: null, thumbnail: found.query.thumbnail, images: found.query.images });
    }
    return results.draw(found);
  };

  const search = (isQuiet = false) => {
    const asked = parameters.get("query") ?? null;
    const crop = parameters.get("crop");
    const chosen = Object.fromEntries(FILTERS.map((name) => [name, parameters.getAll(name)]));
    if (asked !== held.id) hold(null, []);
    filters.show(parameters, answer?.marks ?? null, null);
    if (crop !== null) {
      if (!isQuiet) query.show({ files: [], crop: null, thumbnail: null, images: 0 });
      return void searchByCrop(idOf(crop), chosen, isQuiet);
    }
    if (asked !== null) {
      const files = held.files;
      query.show({ files, crop: null, thumbnail: answer?.query.id === asked ? answer.query.thumbnail : null, images: 1 });
      return void loader.run((signal) => app.api.send("POST", "search", { query: asked }, chosen, signal), draw, { isQuiet });
    }
    if (held.files.length) return void upload(held.files);
    answer = null;
    query.show({ files: [], crop: null, thumbnail: null, images: 0 });
    void loader.run((signal) => app.api.get("crops", { limit: NEWEST, order: "newest" }, signal), (page) => start(app, page.crops));
  };

  /** @param {number} id @param {Record<string, any>} chosen @param {boolean} isQuiet */
  const searchByCrop = (id, chosen, isQuiet) => {
    const load = async (/** @type {AbortSignal} */ signal) => {
      const [crop, found] = await Promise.all([
        app.api.get(`crops/${id}`, {}, signal),
        app.api.send("POST", "search", { crop: id }, chosen, signal),
      ]);
      return { crop, found };
    };
    const drawBoth = (/** @type {{crop: Crop, found: Answer}} */ { crop, found }) => {
      answer = found;
      results.queryCrop = crop;
      query.show({ files: [], crop, thumbnail: null, images: 1 });
      filters.show(parameters, found.marks, found.threshold);
      return results.draw(found);
    };
    void loader.run(load, drawBoth, { isQuiet });
  };

  /** @param {File[]} files */
  const upload = (files) => {
    hold(null, files);
    parameters = changed(parameters, { query: undefined, crop: undefined });
    query.show({ files, crop: null, thumbnail: null, images: files.length });
    const chosen = Object.fromEntries(FILTERS.map((name) => [name, parameters.getAll(name)]));
    const load = async (/** @type {AbortSignal} */ signal) =>
      app.api.send("POST", "search", await uploadForm(files), chosen, signal);
    const drawUploaded = (/** @type {Answer} */ found) => {
      hold(found.query.id, files);
      parameters = changed(parameters, { query: found.query.id ?? undefined });
      record("search", parameters);
      return draw(found);
    };
    void loader.run(load, drawUploaded);
  };

  const root = el("div", { class: "search" }, el("aside", { class: "side", "aria-label": "Query and filters" }, query.root, filters.root), place);
  search();
  return {
    root,
    title: "Search",
    update: (next) => {
      const isSameQuery = next.get("query") === parameters.get("query") && next.get("crop") === parameters.get("crop");
      parameters = next;
      search(isSameQuery && answer !== null);
    },
    onEvent: ({ kind, data }) => {
      const isLost = kind === "crop-forgotten" && data.ids?.includes(idOf(parameters.get("crop")));
      if (isLost) return go("search", {});
      if (!["person-changed", "crop-forgotten", "reset"].includes(kind) || answer === null) return;
      clearTimeout(timer);
      timer = window.setTimeout(() => answer && !place.hasAttribute("aria-busy") && search(true), QUIET_MS);
    },
    onOnline: () => loader.retry(),
    stop: () => {
      clearTimeout(timer);
      loader.stop();
      query.stop();
    },
  };
}

/** @param {string | null} id @param {File[]} files */
function hold(id, files) {
  held.id = id;
  held.files = files;
}

/**
 * The parameters with some changed.
 *
 * @param {URLSearchParams} parameters
 * @param {Record<string, any>} changes lists repeat; undefined and empty values take one away.
 */
function changed(parameters, changes) {
  const made = new URLSearchParams(parameters);
  for (const [name, value] of Object.entries(changes)) {
    made.delete(name);
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null && one !== "") made.append(name, String(one));
    }
  }
  return made;
}

/**
 * Nothing is looked for yet: how to begin, and the newest crops to click on.
 *
 * @param {App} app
 * @param {Crop[]} crops
 */
function start(app, crops) {
  const gallery = app.gallery();
  if (!crops.length) {
    const text = "Index a folder of crops, or push crops to the service. They appear here by themselves.";
    return empty("people", `The gallery "${gallery.name}" has no crops yet`, text);
  }
  const cards = crops.map((crop) => {
    const card = smallCard(app, crop, { others: () => crops });
    /** @type {HTMLElement} */ (card.querySelector(".crop-open")).replaceWith(
      button(/** @type {Node} */ (card.querySelector("img")), () => go("search", { crop: crop.id }), {
        class: "crop-open", "aria-label": `Search by crop ${crop.id}`,
      }),
    );
    card.querySelector(".crop-search")?.remove();
    return card;
  });
  return el(
    "div",
    { class: "stack" },
    el("h1", { class: "view-title" }, "Find a person"),
    el("p", { class: "muted" }, "Give pictures of one person, or click a crop. The best matches of the gallery come first, with their scores."),
    el("div", { class: "field-head" }, el("h2", { class: "small-title" }, "Newest crops"), el("a", { href: hash("live") }, "Show all")),
    el("ul", { class: "small-cards" }, cards),
  );
}
