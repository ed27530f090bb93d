// What carried a match: one bar per region of the body, beside the picture and at the height of that region.
// A bar is the contrast: how far this region's share of the score lies from what it usually is for this query.

import { el, icon } from "./dom.js";

/** @typedef {import("./types.js").Block} Block */
/** @typedef {{region: string, contrast: number, share: number, blocks: number}} Region */

const FULL = 3; // standard deviations that fill a bar

/**
 * The regions that are drawn, from head to feet: the blocks of the finest stripes, or else all blocks that have a
 * contrast. Blocks of one region count as one, with their mean.
 *
 * @param {Block[]} blocks
 * @returns {Region[]}
 */
export function regionsOf(blocks) {
  const known = blocks.filter((block) => block.contrast !== null && block.contrast !== undefined);
  const counts = known.map((block) => Number(/^stripe-\d+-of-(\d+)$/.exec(block.name)?.[1] ?? 0));
  const finest = Math.max(0, ...counts);
  const drawn = finest > 0 ? known.filter((_, place) => counts[place] === finest) : known;
  /** @type {Map<string, Block[]>} */
  const byRegion = new Map();
  for (const block of drawn) byRegion.set(block.region, [...(byRegion.get(block.region) ?? []), block]);
  return [...byRegion].map(([region, group]) => ({
    region,
    contrast: group.reduce((sum, block) => sum + Number(block.contrast), 0) / group.length,
    share: group.reduce((sum, block) => sum + block.share, 0),
    blocks: group.length,
  }));
}

/** @param {number} contrast */
function signed(contrast) {
  return `${contrast < 0 ? "−" : "+"}${Math.abs(contrast).toFixed(1)}`;
}

/**
 * The bars of one match.
 *
 * @param {Block[]} blocks
 * @returns {HTMLElement | null} null if nothing is known.
 */
export function regionBars(blocks) {
  const regions = regionsOf(blocks);
  if (!regions.length) return null;
  const words = regions.map(({ region, contrast }) => `${region} ${signed(contrast)}`).join(", ");
  return el(
    "div",
    { class: "bars", role: "img", "aria-label": `What carried the match, against the usual: ${words}` },
    regions.map(bar),
  );
}

/** @param {Region} region */
function bar({ region, contrast, share, blocks }) {
  const length = Math.min(1, Math.abs(contrast) / FULL) * 50;
  const value = el("span", { class: contrast < 0 ? "bar-fill is-below" : "bar-fill" });
  value.style.width = `${length}%`;
  value.style.left = contrast < 0 ? `${50 - length}%` : "50%";
  const title = `${region}: ${signed(contrast)} standard deviations from the usual; ${share.toFixed(3)} of the score`;
  const drawn = el(
    "div",
    { class: "bar", title },
    el("span", { class: "bar-name" }, region),
    el("span", { class: "bar-number" }, signed(contrast)),
    el("span", { class: "bar-line" }, value),
  );
  drawn.style.flexGrow = String(blocks); // as high as its stripes are in the picture beside it
  return drawn;
}

/** What the bars mean. */
export function legend() {
  return el(
    "details",
    { class: "legend" },
    el("summary", {}, icon("question"), "What the bars mean"),
    el(
      "p",
      {},
      "Each bar compares one part of the body with a sample of 256 crops of this gallery. ",
      el("span", { class: "legend-key is-above" }),
      " To the right: this part speaks for the match more than usual. ",
      el("span", { class: "legend-key is-below" }),
      ` To the left: less than usual. A full bar is ${FULL} standard deviations or more. `,
      "“1 in 10,000” beside a score is a measured rate: of so many pairs of different people, one reaches this score.",
    ),
  );
}
