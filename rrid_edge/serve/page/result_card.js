// One match: picture, what carried it, score, the rate it passes, and the reader's verdict.

import { confirmedBadge, facts, pictureButton } from "./crop_parts.js";
import { button, el, icon } from "./dom.js";
import { cameraName, oneIn, rateMeaning, score } from "./formats.js";
import { regionBars } from "./region_bars.js";
import { go } from "./router.js";

/** @typedef {import("./types.js").Answer} Answer */
/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Match} Match */
/** @typedef {import("./types.js").Verdict} Verdict */

/** Verdicts with their names, icons and keys. */
export const VERDICTS = /** @type {const} */ ([
  ["same", "Same", "check", "s"],
  ["different", "Different", "cross", "d"],
  ["unsure", "Unsure", "question", "u"],
]);

/**
 * @param {App} app
 * @param {Match} match
 * @param {{answer: Answer | null, others: () => Match[], hasMarks: boolean, box: Node | null,
 *     judge: ((match: Match, verdict: Verdict) => void) | null}} options `judge` null: verdicts are not offered.
 */
export function resultCard(app, match, { answer, others, hasMarks, box, judge }) {
  const name = `Rank ${match.rank}, score ${score(match.score)}, ${cameraName(match.camera)}`;
  return el(
    "li",
    {},
    el(
      "article",
      {
        class: `card${match.verdict ? ` is-${match.verdict}` : ""}`, tabindex: -1,
        data: { crop: match.id, score: match.score }, "aria-label": match.person?.name ? `${name}, ${match.person.name}` : name,
      },
      el(
        "div",
        { class: "card-head" },
        el("span", { class: "rank" }, match.rank),
        el("span", { class: "score" }, score(match.score)),
        passes(match, hasMarks),
        button(icon("search"), () => go("search", { crop: match.id }), {
          class: "button is-icon search-by", "aria-label": `Search by crop ${match.id}`, title: "Search by this crop (f)",
        }),
        box,
      ),
      el("div", { class: "card-body" }, pictureButton(app, match, others), regionBars(match, answer)),
      facts(match),
      el("div", { class: "card-foot" }, match.person ? confirmedBadge(match.person) : toldBy(match)),
      judge && verdictButtons(match, judge),
    ),
  );
}

/** @param {Match} match @param {boolean} hasMarks */
function passes(match, hasMarks) {
  if (match.passes) {
    return el("span", { class: "rate", title: rateMeaning(match.passes) }, oneIn(match.passes.rate));
  }
  return hasMarks && el("span", { class: "rate is-none", title: "Its score is below every measured rate." }, "below all rates");
}

/** @param {Match} match */
function toldBy(match) {
  return match.told && el("span", { class: "told", title: "The file name says so" }, `file: ${match.told}`);
}

/**
 * @param {Match} match
 * @param {(match: Match, verdict: Verdict) => void} judge
 */
function verdictButtons(match, judge) {
  return el(
    "div",
    { class: "verdicts", role: "group", "aria-label": "Is this the same person?" },
    VERDICTS.map(([verdict, text, picture, key]) =>
      button([icon(picture), el("span", {}, text)], () => judge(match, verdict), {
        class: `verdict is-${verdict}`, "aria-pressed": String(match.verdict === verdict), "aria-keyshortcuts": key,
        title: `${text} (${key})`,
      }),
    ),
  );
}

/**
 * Show a verdict on a card that is there already.
 *
 * @param {HTMLElement} card
 * @param {Verdict | null} verdict
 */
export function showVerdict(card, verdict) {
  for (const [name] of VERDICTS) {
    card.classList.toggle(`is-${name}`, name === verdict);
    card.querySelector(`.verdict.is-${name}`)?.setAttribute("aria-pressed", String(name === verdict));
  }
}
