// Where and when to look: cameras, time, the lowest score, how many crops.

import { button, el, fill } from "./dom.js";
import { cameraName, count, zone } from "./formats.js";
import { thresholdControl } from "./threshold.js";

/** @typedef {import("./types.js").Mark} Mark */
/** @typedef {Record<string, any>} Changes parameters of the address; undefined takes one away. */

const COUNTS = ["8", "20", "50", "100"];
const NONE = { min_score: undefined, fpr: undefined, fpir: undefined };

/**
 * @param {import("./types.js").App} app
 * @param {(changes: Changes) => void} onChange
 * @returns {{root: HTMLElement, show: (parameters: URLSearchParams, marks: Mark[] | null, used: Mark | null) => void}}
 */
export function filterPanel(app, onChange) {
  const cameras = cameraChips(app, (camera) => onChange({ camera }));
  const times = timeRange(onChange);
  const threshold = thresholdControl((chosen) => onChange({ ...NONE, ...chosen }));
  const counts = /** @type {HTMLSelectElement} */ (
    el("select", { id: "top-k" }, COUNTS.map((number) => el("option", { value: number }, number)))
  );
  counts.addEventListener("change", () => onChange({ top_k: counts.value === COUNTS[0] ? undefined : counts.value }));
  const reset = button(
    "Clear filters",
    () => onChange({ ...NONE, camera: undefined, since: undefined, until: undefined, top_k: undefined }),
    { class: "button is-quiet", id: "clear-filters" },
  );
  const summary = el("summary", {}, "Filters");
  const details = /** @type {HTMLDetailsElement} */ (
    el(
      "details",
      { class: "panel filters", "aria-label": "Filters" },
      summary,
      el(
        "div",
        { class: "filter-fields" },
        cameras.root,
        times.root,
        threshold.root,
        el("div", { class: "field is-row" }, el("label", { for: "top-k" }, "Crops to show"), counts),
        reset,
      ),
    )
  );
  details.open = matchMedia("(min-width: 60rem)").matches;
  /** @type {(parameters: URLSearchParams, marks: Mark[] | null, used: Mark | null) => void} */
  const show = (parameters, marks, used) => {
    cameras.show(parameters.getAll("camera"));
    times.show(parameters.get("since"), parameters.get("until"));
    threshold.show(chosenOf(parameters), marks, used);
    const asked = parameters.get("top_k") ?? COUNTS[0];
    if (!COUNTS.includes(asked) && !counts.querySelector(`option[value="${CSS.escape(asked)}"]`)) {
      counts.append(el("option", { value: asked }, asked));
    }
    counts.value = asked;
    const active = ["camera", "since", "until", "min_score", "fpr", "fpir"].filter((name) => parameters.has(name));
    reset.hidden = !active.length && !parameters.has("top_k");
    fill(summary, "Filters", active.length > 0 && el("span", { class: "pill" }, active.length));
  };
  return { root: details, show };
}

/** @param {URLSearchParams} parameters */
function chosenOf(parameters) {
  return {
    min_score: parameters.get("min_score") ?? undefined,
    fpr: parameters.get("fpr") ?? undefined,
    fpir: parameters.get("fpir") ?? undefined,
  };
}

/**
 * One chip per camera with its number of crops. Several may be chosen; none chosen means all.
 *
 * @param {import("./types.js").App} app
 * @param {(cameras: string[]) => void} onChoice
 */
export function cameraChips(app, onChoice) {
  const chips = el("div", { class: "chips", role: "group", "aria-label": "Cameras" });
  const root = el("div", { class: "field" }, el("div", { class: "field-head" }, el("span", { class: "label" }, "Cameras")), chips);
  const show = (/** @type {string[]} */ chosen) => {
    const cameras = app.gallery().cameras.filter((camera) => camera.name !== null);
    const toggle = (/** @type {string} */ name) => {
      onChoice(chosen.includes(name) ? chosen.filter((one) => one !== name) : [...chosen, name]);
      // the chips are drawn anew with the choice: the focus goes to the same chip
      queueMicrotask(() => /** @type {HTMLElement | null} */ (chips.querySelector(`[data-camera="${CSS.escape(name)}"]`))?.focus());
    };
    const had = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.camera : undefined;
    fill(
      chips,
      cameras.map(({ name, crops }) =>
        button([cameraName(name), el("span", { class: "chip-count" }, count(crops))], () => toggle(/** @type {string} */ (name)), {
          class: "chip", data: { camera: name }, "aria-pressed": String(chosen.includes(/** @type {string} */ (name))),
        }),
      ),
    );
    if (had !== undefined) /** @type {HTMLElement | null} */ (chips.querySelector(`[data-camera="${CSS.escape(had)}"]`))?.focus();
    root.hidden = cameras.length === 0;
  };
  show([]);
  return { root, show };
}

/** @param {(changes: Changes) => void} onChange */
function timeRange(onChange) {
  const input = (/** @type {string} */ id, /** @type {string} */ name) => {
    const made = /** @type {HTMLInputElement} */ (el("input", { type: "datetime-local", id, step: 1 }));
    made.addEventListener("change", () => onChange({ [name]: made.value ? new Date(made.value).toISOString() : undefined }));
    return made;
  };
  const since = input("since", "since");
  const until = input("until", "until");
  const last = (/** @type {string} */ text, /** @type {number} */ hours) =>
    button(text, () => onChange({ since: new Date(Date.now() - hours * 3600000).toISOString(), until: undefined }), { class: "chip" });
  const root = el(
    "fieldset",
    { class: "field" },
    el("legend", { title: `Times are in your zone, ${zone}` }, "Time ", el("span", { class: "muted" }, zone)),
    el("div", { class: "times" }, el("label", { for: "since" }, "From"), since, el("label", { for: "until" }, "To"), until),
    el("div", { class: "chips" }, last("Last hour", 1), last("Last 24 hours", 24)),
  );
  const show = (/** @type {string | null} */ from, /** @type {string | null} */ to) => {
    since.value = localValue(from);
    until.value = localValue(to);
  };
  return { root, show };
}

/**
 * A moment as an input of the browser takes it: in the reader's zone, without saying which.
 *
 * @param {string | null} text
 */
function localValue(text) {
  const time = text ? new Date(text) : null;
  if (!time || Number.isNaN(time.getTime())) return "";
  const local = new Date(time.getTime() - time.getTimezoneOffset() * 60000);
  return local.toISOString().slice(0, 19);
}
