// Crops that the reader has chosen, and the bar that says what can be done with them.

import { button, el, fill } from "./dom.js";
import { counted } from "./formats.js";
import { idOf } from "./ids.js";

/** @typedef {{text: string, run: (ids: number[]) => void, isPrimary?: boolean}} Action */

/** Chosen crops of one view. */
export class Selection {
  /**
   * @param {Action[]} actions
   * @param {HTMLElement} place whose cards show the choice.
   */
  constructor(actions, place) {
    this._actions = actions;
    this._place = place;
    /** @type {Set<number>} */
    this._ids = new Set();
    this.bar = el("div", { class: "selection", role: "region", "aria-label": "Chosen crops", hidden: true });
  }

  /** Ids in the order in which they were chosen. */
  get ids() {
    return [...this._ids];
  }

  /**
   * A checkbox that chooses a crop.
   *
   * @param {number} id
   */
  box(id) {
    const input = /** @type {HTMLInputElement} */ (
      el("input", { type: "checkbox", "aria-label": `Choose crop ${id}`, data: { choose: id } })
    );
    input.checked = this._ids.has(id);
    input.addEventListener("change", () => this.set(id, input.checked));
    return el("label", { class: "choose" }, input);
  }

  /**
   * @param {number} id
   * @param {boolean} isChosen
   */
  set(id, isChosen) {
    if (isChosen) this._ids.add(id);
    else this._ids.delete(id);
    this._draw();
  }

  /** @param {number} id */
  toggle(id) {
    this.set(id, !this._ids.has(id));
  }

  /** Choose nothing. */
  clear() {
    this._ids.clear();
    this._draw();
  }

  /**
   * Drop what is not shown any more.
   *
   * @param {Iterable<number>} shown
   */
  keep(shown) {
    const known = new Set(shown);
    for (const id of this._ids) if (!known.has(id)) this._ids.delete(id);
    this._draw();
  }

  _draw() {
    for (const input of this._place.querySelectorAll("[data-choose]")) {
      const box = /** @type {HTMLInputElement} */ (input);
      box.checked = this._ids.has(idOf(box.dataset.choose));
      box.closest("[data-crop]")?.classList.toggle("is-chosen", box.checked);
    }
    this.bar.hidden = this._ids.size === 0;
    fill(
      this.bar,
      el("span", { class: "selection-count" }, `${counted(this._ids.size, "crop")} chosen`),
      this._actions.map(({ text, run, isPrimary }) =>
        button(text, () => run(this.ids), { class: isPrimary ? "button is-primary" : "button" }),
      ),
      button("Clear", () => this.clear(), { class: "button is-quiet" }),
    );
  }
}
