// The answer to a search: how it was found, warnings, and the ranked cards.

import { cardKeys, focusCard, startRoving } from "./card_keys.js";
import { openCrop } from "./crop_dialog.js";
import { button, el, fill, icon } from "./dom.js";
import { count, counted } from "./formats.js";
import { announce, complain, notice } from "./notices.js";
import { legend, partsOf } from "./region_bars.js";
import { resultCard, showVerdict } from "./result_card.js";
import { go } from "./router.js";
import { nameCrops } from "./people_actions.js";
import { Selection } from "./selection.js";
import { empty } from "./states.js";
import { idOf } from "./ids.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Answer} Answer */
/** @typedef {import("./types.js").Match} Match */
/** @typedef {import("./types.js").Verdict} Verdict */

/** Shows answers and takes verdicts on them. */
export class Results {
  /**
   * @param {App} app
   * @param {() => void} clearFilters
   */
  constructor(app, clearFilters) {
    this._app = app;
    this._clearFilters = clearFilters;
    /** @type {Answer | null} */
    this._answer = null;
    /** @type {import("./types.js").Crop | null} the crop that was searched by. */
    this.queryCrop = null;
    this._list = el("ol", { class: "cards", "aria-label": "Matches, best first" });
    this._selection = new Selection(
      [{ text: "Name this person…", run: (ids) => this._name(ids), isPrimary: true }], this._list,
    );
    cardKeys(this._list, {
      s: (card) => this._judgeCard(card, "same"),
      d: (card) => this._judgeCard(card, "different"),
      u: (card) => this._judgeCard(card, "unsure"),
      f: (card) => go("search", { crop: card.dataset.crop }),
      x: (card) => app.canLabel() && this._selection.toggle(idOf(card.dataset.crop)),
      enter: (card) => this._open(card),
    });
  }

  /**
   * @param {Answer} answer
   * @returns {Node}
   */
  draw(answer) {
    const focused = this._list.contains(document.activeElement) ? document.activeElement?.closest("[data-crop]") : null;
    const crop = /** @type {HTMLElement | null} */ (focused)?.dataset.crop;
    this._answer = answer;
    this._selection.keep(answer.matches.map((match) => match.id));
    fill(this._list, answer.matches.map((match) => this._card(match)));
    const card = startRoving(this._list, crop);
    announce(answer.matches.length ? `${counted(answer.matches.length, "match", "matches")}, best first` : "No match");
    if (crop && card) queueMicrotask(() => focusCard(this._list, card));
    const hasBars = answer.matches.some((match) => partsOf(match.blocks ?? []).length);
    return el(
      "div",
      { class: "stack" },
      this._head(answer, hasBars),
      answer.warnings.map((line) => el("p", { class: "warning" }, icon("warning"), line)),
      answer.matches.length ? this._list : this._none(answer),
      this._selection.bar,
    );
  }

  /** @param {Match} match */
  _card(match) {
    const app = this._app;
    return resultCard(app, match, {
      answer: this._answer,
      others: () => this._answer?.matches ?? [],
      hasMarks: Boolean(this._answer?.marks.length),
      box: app.canLabel() ? this._selection.box(match.id) : null,
      judge: app.canLabel() && this._subject() ? (one, verdict) => this._judge(one, verdict) : null,
    });
  }

  /** @param {Answer} answer @param {boolean} hasBars */
  _head(answer, hasBars) {
    const { total } = answer.milliseconds;
    const how = [
      `${counted(answer.matches.length, "match", "matches")} among ${counted(answer.searched, "crop")}`,
      total === undefined ? null : `${total < 10 ? total.toFixed(1) : Math.round(total)} ms`,
      answer.mode,
    ];
    const copy = async () => {
      try {
        await navigator.clipboard.writeText(location.href);
        notice("The address of this search was copied. It shows the same query for a day.");
      } catch {
        notice(`This browser does not let the page copy. The address is ${location.href}`);
      }
    };
    return el(
      "div",
      { class: "results-head" },
      el("h1", { class: "view-title" }, "Matches"),
      el("p", { class: "muted" }, how.filter(Boolean).join(" · ")),
      this._subject() && button([icon("link"), "Copy address"], copy, { class: "button is-quiet" }),
      hasBars && legend(answer),
      this._app.canLabel() && answer.matches.length > 0 && keysHint(),
    );
  }

  /** @param {Answer} answer */
  _none(answer) {
    const why = answer.searched === 0
      ? "No crop of this gallery passes the filters."
      : `None of ${count(answer.searched)} crops reaches the lowest score.`;
    return empty("search", "No match", why, button("Clear filters", this._clearFilters, { class: "button is-primary" }));
  }

  /** The query as feedback names it, or null if the service keeps no query. */
  _subject() {
    const query = this._answer?.query;
    if (query?.crop !== null && query?.crop !== undefined) return { crop: query.crop };
    return query?.id ? { query: query.id } : null;
  }

  /** @param {HTMLElement} card */
  _matchOf(card) {
    return this._answer?.matches.find((match) => match.id === idOf(card.dataset.crop));
  }

  /** @param {HTMLElement} card @param {Verdict} verdict */
  _judgeCard(card, verdict) {
    const match = this._matchOf(card);
    if (match && this._app.canLabel() && this._subject()) this._judge(match, verdict);
  }

  /** @param {HTMLElement} card */
  _open(card) {
    const match = this._matchOf(card);
    if (match) openCrop(this._app, match, this._answer?.matches);
  }

  /**
   * Send a verdict. The card shows it at once, and the earlier one again if the service refuses.
   *
   * @param {Match} match
   * @param {Verdict} verdict
   */
  async _judge(match, verdict) {
    const before = match.verdict;
    if (before === verdict) return;
    const card = /** @type {HTMLElement | null} */ (this._list.querySelector(`[data-crop="${match.id}"]`));
    const show = (/** @type {Verdict | null} */ one) => {
      match.verdict = one;
      if (card) showVerdict(card, one);
    };
    show(verdict);
    try {
      await this._app.api.send("POST", "feedback", { query: this._subject(), crop: match.id, verdict });
      announce(`Crop ${match.id}: ${verdict}`);
    } catch (error) {
      show(before);
      complain(error);
    }
  }

  /** @param {import("./ids.js").CropId[]} ids */
  async _name(ids) {
    if (await nameCrops(this._app, ids, this.queryCrop)) this._selection.clear();
  }
}

function keysHint() {
  const key = (/** @type {string} */ name) => el("kbd", {}, name);
  return el(
    "p",
    { class: "hint keys-hint" },
    "Keys on a card: ", key("←"), key("→"), " move, ", key("s"), " same, ", key("d"), " different, ", key("u"), " unsure, ",
    key("x"), " choose, ", key("f"), " search by it, ", key("Enter"), " open",
  );
}
