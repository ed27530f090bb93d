// What carried a match: one bar per part of the body, beside the picture and at the height of that part. A bar shows the
// contrast: by how many standard deviations this part is nearer to the query than other people of the gallery.

import { el, icon } from "./dom.js";

/** @typedef {import("./types.js").Answer} Answer */
/** @typedef {import("./types.js").Block} Block */
/** @typedef {import("./types.js").Match} Match */
/** @typedef {Block & {contrast: number}} Part */

/**
 * The parts that are drawn, from head to feet: the blocks of the finest stripes, or else all blocks that have a
 * contrast.
 *
 * @param {Block[]} blocks
 * @returns {Part[]}
 */
export function partsOf(blocks) {
  const known = /** @type {Part[]} */ (blocks.filter((block) => block.contrast !== null && block.contrast !== undefined));
  const counts = known.map((block) => Number(/^stripe-\d+-of-(\d+)$/.exec(block.name)?.[1] ?? 0));
  const finest = Math.max(0, ...counts);
  return finest > 0 ? known.filter((_, place) => counts[place] === finest) : known;
}

/**
 * The contrasts of an empty and of a full bar. Those of good matches differ little from each other, so the lowest of an
 * answer has an empty bar. The bars of a single match begin at 0.
 *
 * @param {Match[]} matches
 * @returns {[number, number]}
 */
export function scaleOf(matches) {
  const values = matches.flatMap((match) => partsOf(match.blocks ?? []).map((part) => part.contrast));
  const low = Math.min(...values, ...(matches.length < 2 ? [0] : []));
  return values.length ? [low, Math.max(...values)] : [0, 0];
}

/** @param {number} contrast */
function signed(contrast) {
  return `${contrast < 0 ? "−" : "+"}${Math.abs(contrast).toFixed(1)}`;
}

/**
 * The bars of one match.
 *
 * @param {Match} match
 * @param {Answer | null} answer that the match belongs to.
 * @returns {HTMLElement | null} null if nothing is known.
 */
export function regionBars(match, answer) {
  const parts = partsOf(match.blocks ?? []);
  if (!parts.length) return null;
  const scale = scaleOf(answer?.matches ?? [match]);
  const marked = match.rank <= 2 ? answer?.separation : null;
  const words = parts.map(({ region, name, contrast }) => `${region} (${name}) ${signed(contrast)}`).join(", ");
  const mark = marked ? `. What separates rank 1 from rank 2${doubt(marked)}: ${marked.block}` : "";
  return el(
    "div",
    { class: "bars", role: "img", "aria-label": `What carried the match, against other people: ${words}${mark}` },
    parts.map((part) => bar(part, scale, part.name === marked?.block ? marked : null)),
  );
}

/** @param {{clear: boolean}} separation */
function doubt({ clear }) {
  return clear ? "" : ", but not clearly";
}

/** @param {{clear: boolean} | null} separation */
function markClass(separation) {
  return separation ? `is-separating${separation.clear ? "" : " is-unclear"}` : "";
}

/** @param {Part} part @param {[number, number]} scale @param {{clear: boolean} | null} separation of this part. */
function bar({ region, name, contrast, share }, [low, high], separation) {
  const value = el("span", { class: contrast < 0 ? "bar-fill is-below" : "bar-fill" });
  value.style.width = `${high > low ? (100 * (contrast - low)) / (high - low) : 0}%`;
  const mark = separation ? `; it separates rank 1 from rank 2${doubt(separation)}` : "";
  const title = `${region}, ${name}: ${signed(contrast)} standard deviations nearer than other people; ${share.toFixed(3)} of the score${mark}`;
  return el(
    "div",
    { class: `bar ${markClass(separation)}`, title },
    el("span", { class: "bar-name" }, `${region} `, name === "descriptor" ? null : el("small", {}, name)),
    el("span", { class: "bar-number" }, signed(contrast)),
    el("span", { class: "bar-line" }, value),
  );
}

/**
 * What the bars mean.
 *
 * @param {Answer} answer
 */
export function legend(answer) {
  return el(
    "details",
    { class: "legend" },
    el("summary", {}, icon("question"), "What the bars mean"),
    el(
      "p",
      {},
      `Each bar compares one part of the body with ${answer.others} crops of other people in this gallery, in standard deviations. `,
      el("span", { class: "legend-key" }),
      " Nearer to the query than they usually are. ",
      el("span", { class: "legend-key is-below" }),
      " Farther than usual. The lowest value of this answer has an empty bar, the highest a full one. ",
      answer.separation && [
        el("span", { class: `legend-key ${markClass(answer.separation)}` }),
        ` The part that separates rank 1 from rank 2${doubt(answer.separation)}. `,
      ],
      "“1 in 10,000” beside a score is a measured rate: of so many pairs of different people, one reaches this score.",
    ),
  );
}
