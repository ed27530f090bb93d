// "Same person?": pairs of crops that scores cannot decide, two pictures side by side, answered by key.

import { confirmedBadge, facts, picture } from "./crop_parts.js";
import { openCrop } from "./crop_dialog.js";
import { button, el, fill, icon } from "./dom.js";
import { score } from "./formats.js";
import { announce, complain } from "./notices.js";
import { VERDICTS } from "./result_card.js";
import { empty, Loader } from "./states.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Crop} Crop */
/** @typedef {import("./types.js").Verdict} Verdict */
/** @typedef {{a: Crop, b: Crop, score: number}} Question */

const COMPUTING_MS = 1500;

/**
 * @param {App} app
 * @param {HTMLElement} place
 */
export function questionsView(app, place) {
  const loader = new Loader(place, () =>
    el("div", { class: "pair", "aria-hidden": "true" }, el("div", { class: "skeleton pair-side" }), el("div", { class: "skeleton pair-side" })),
  );
  /** @type {Question[]} */
  let questions = [];
  /** @type {Map<number, Verdict>} */
  let given = new Map();
  let at = 0;
  let timer = 0;
  const load = () =>
    loader.run(
      (signal) => app.api.get("people/questions", {}, signal),
      (found) => {
        questions = found.questions;
        if (!questions.length && found.computing) timer = window.setTimeout(load, COMPUTING_MS);
        given = new Map();
        at = 0;
        draw();
        return null;
      },
    );

  const draw = () => {
    if (at >= questions.length) {
      fill(place, end(questions.length, load));
      return;
    }
    const { a, b, score: value } = questions[at];
    const verdict = given.get(at);
    const answers = VERDICTS.map(([name, text, shape, key]) =>
      button([icon(shape), text, el("kbd", {}, key)], () => answer(name), {
        class: `button verdict-large is-${name}`, "aria-pressed": String(verdict === name), "aria-keyshortcuts": key,
      }),
    );
    const back = button([icon("left"), "Back"], () => step(-1), { class: "button is-quiet", disabled: at === 0 });
    const next = button(["Skip", icon("right")], () => step(1), { class: "button is-quiet" });
    const group = el(
      "div",
      { class: "question", tabindex: -1, role: "group", "aria-label": `Question ${at + 1} of ${questions.length}: the same person?` },
      el("p", { class: "muted" }, `${at + 1} of ${questions.length} · score ${score(value)}`),
      el("div", { class: "pair" }, side(app, a, b), side(app, b, a)),
      el("div", { class: "answers" }, answers),
      el("div", { class: "field-head" }, back, next),
    );
    fill(place, group);
    group.focus({ preventScroll: true });
  };

  const step = (/** @type {number} */ by) => {
    at = Math.max(0, at + by);
    draw();
  };

  let isBusy = false;
  const answer = async (/** @type {Verdict} */ verdict) => {
    if (isBusy || at >= questions.length) return;
    const { a, b } = questions[at];
    isBusy = true;
    try {
      await app.api.send("POST", "feedback", { query: { crop: a.id }, crop: b.id, verdict });
      given.set(at, verdict);
      announce(`${verdict}. Next question.`);
      step(1);
    } catch (error) {
      complain(error);
    } finally {
      isBusy = false;
    }
  };

  const keys = Object.fromEntries(VERDICTS.map(([name, , , key]) => [key, name]));
  const control = new AbortController();
  document.addEventListener(
    "keydown",
    (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
      if (event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement) return;
      if (!questions.length) return;
      const verdict = keys[event.key.toLowerCase()];
      if (verdict) void answer(verdict);
      else if (event.key === "ArrowLeft" && at > 0) step(-1);
      else if (event.key === "ArrowRight" && at < questions.length) step(1);
    },
    { signal: control.signal },
  );
  load();
  return {
    onEvent: (/** @type {import("./types.js").ServiceEvent} */ { kind, data }) => {
      if (kind !== "crop-forgotten") return;
      const gone = new Set(data.ids ?? []);
      if (questions.slice(at).some(({ a, b }) => gone.has(a.id) || gone.has(b.id))) load();
    },
    onOnline: () => loader.retry(),
    stop: () => (clearTimeout(timer), control.abort(), loader.stop()),
  };
}

/** @param {number} answered @param {() => void} load */
function end(answered, load) {
  if (!answered) {
    return empty("check", "No open questions", "Every pair that scores cannot decide was answered, or there are too few crops.");
  }
  return empty("check", "That was the last question", "Answers change which pairs are uncertain.", button("Ask for more", load, { class: "button is-primary" }));
}

/** @param {App} app @param {Crop} crop @param {Crop} other */
function side(app, crop, other) {
  return el(
    "figure",
    { class: "pair-side", data: { crop: crop.id } },
    button(picture(crop, "image"), () => openCrop(app, crop, [crop, other]), { class: "crop-open", "aria-label": `Open crop ${crop.id}` }),
    el("figcaption", {}, crop.person && confirmedBadge(crop.person), facts(crop)),
  );
}
