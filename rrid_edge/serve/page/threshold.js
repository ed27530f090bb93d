// The threshold: a slider over scores, marked where false-positive rates were measured.

import { button, el, fill } from "./dom.js";
import { oneIn, rateMeaning, score } from "./formats.js";

/** @typedef {import("./types.js").Mark} Mark */
/** @typedef {{min_score?: string, fpr?: string, fpir?: string}} Chosen at most one of them; none is no threshold. */

const STEP = 0.005;

/**
 * @param {(chosen: Chosen) => void} onChoice
 * @returns {{root: HTMLElement, show: (chosen: Chosen, marks: Mark[] | null, used: Mark | null) => void}} `marks` is null while they
 *     are not known.
 */
export function thresholdControl(onChoice) {
  const slider = /** @type {HTMLInputElement} */ (
    el("input", { type: "range", id: "threshold", min: 0, max: 1, step: STEP, value: 0, "aria-describedby": "threshold-says" })
  );
  const value = el("output", { for: "threshold", class: "threshold-value" }, "off");
  const ticks = el("div", { class: "ticks", "aria-hidden": "true" });
  const chips = el("div", { class: "chips", role: "group", "aria-label": "Measured rates" });
  const says = el("p", { class: "hint", id: "threshold-says" });
  slider.addEventListener("input", () => {
    value.textContent = Number(slider.value) > 0 ? score(Number(slider.value)) : "off";
    slider.setAttribute("aria-valuetext", value.textContent);
  });
  slider.addEventListener("change", () => onChoice(Number(slider.value) > 0 ? { min_score: slider.value } : {}));

  /** @type {(chosen: Chosen, marks: Mark[] | null, used: Mark | null) => void} */
  const show = (chosen, known, used) => {
    const marks = known ?? [];
    const now = chosen.min_score ? Number(chosen.min_score) : markOf(chosen, marks)?.score ?? used?.score ?? 0;
    slider.value = String(Math.max(0, now));
    value.textContent = now > 0 ? score(now) : "off";
    slider.setAttribute("aria-valuetext", value.textContent);
    fill(ticks, marks.filter((mark) => mark.score >= 0 && mark.score <= 1).map(tick));
    fill(chips, marks.length > 0 && rateChips(chosen, marks, onChoice));
    const mark = reached(now, marks);
    says.textContent = known === null ? "" : sentence(now, marks, mark);
  };
  const root = el(
    "div",
    { class: "field threshold" },
    el("div", { class: "field-head" }, el("label", { for: "threshold" }, "Lowest score"), value),
    el("div", { class: "slider" }, ticks, slider),
    chips,
    says,
  );
  show({}, null, null);
  return { root, show };
}

/**
 * @param {number} now
 * @param {Mark[]} marks
 * @param {Mark | null} mark
 */
function sentence(now, marks, mark) {
  if (!marks.length) return "False-positive rates were not measured for this model.";
  if (now <= 0) return "No threshold: the best crops are shown, however low their scores.";
  return mark ? rateMeaning(mark) : "Below every score with a measured rate.";
}

/**
 * The strictest measured rate that a score reaches.
 *
 * @param {number} value
 * @param {Mark[]} marks
 */
function reached(value, marks) {
  const passed = marks.filter((mark) => value >= mark.score - STEP / 2);
  return passed.sort((one, other) => other.score - one.score)[0] ?? null;
}

/** @param {Chosen} chosen @param {Mark[]} marks */
function markOf(chosen, marks) {
  return marks.find((mark) => isChosen(mark, chosen)) ?? null;
}

/** @param {Mark} mark @param {Chosen} chosen */
function isChosen(mark, chosen) {
  const rate = mark.kind === "fpir" ? chosen.fpir : chosen.fpr;
  return rate !== undefined && Number(rate) === mark.rate;
}

/** @param {Mark} mark */
function tick(mark) {
  const line = el("span", { class: "tick" });
  line.style.left = `${100 * mark.score}%`;
  return line;
}

/**
 * @param {Chosen} chosen
 * @param {Mark[]} marks
 * @param {(chosen: Chosen) => void} onChoice
 */
function rateChips(chosen, marks, onChoice) {
  const ordered = [...marks].sort((one, other) => one.score - other.score);
  const isOff = !chosen.min_score && !chosen.fpr && !chosen.fpir;
  const kinds = new Set(marks.map((mark) => mark.kind));
  const off = button("Off", () => onChoice({}), { class: "chip", "aria-pressed": String(isOff) });
  const chips = ordered.map((mark) =>
    button(
      `${oneIn(mark.rate)}${kinds.size > 1 ? (mark.kind === "fpir" ? " searches" : " pairs") : ""}`,
      () => onChoice({ [mark.kind]: String(mark.rate) }),
      { class: "chip", title: rateMeaning(mark), "aria-pressed": String(isChosen(mark, chosen)) },
    ),
  );
  return [off, ...chips];
}
