// What a view shows while it has nothing to show: loading, empty, failed.

import { ApiError, isAbort } from "./api.js";
import { button, el, fill, icon } from "./dom.js";
import { announce } from "./notices.js";

/**
 * Grey shapes of the size of what will come, so that nothing jumps.
 *
 * @param {string} kind class of one shape, for example `card`.
 * @param {number} number
 * @param {string} [list] class of the list that holds them.
 */
export function skeleton(kind, number, list = "cards") {
  const shapes = Array.from({ length: number }, () => el("div", { class: `skeleton ${kind}` }));
  return el("div", { class: list, "aria-hidden": "true" }, shapes);
}

/**
 * Nothing is here, and why.
 *
 * @param {Parameters<typeof icon>[0]} picture
 * @param {string} title
 * @param {string} text
 * @param {...(Node | null | false)} actions
 */
export function empty(picture, title, text, ...actions) {
  return el("div", { class: "state" }, icon(picture), el("h2", {}, title), el("p", {}, text), actions);
}

/**
 * Something failed: the service's one line, and a way to try again.
 *
 * @param {unknown} error
 * @param {() => void} retry
 */
export function failed(error, retry) {
  const isOffline = error instanceof ApiError && error.isOffline;
  const line = error instanceof Error ? error.message : String(error);
  const again = isOffline ? "This view loads by itself when the service answers again." : line;
  return el(
    "div",
    { class: "state is-error" },
    icon(isOffline ? "offline" : "warning"),
    el("h2", {}, isOffline ? "The service cannot be reached" : "This did not work"),
    el("p", {}, again),
    button("Try again", retry, { class: "button is-primary" }),
  );
}

/** Loads one part of a view: a skeleton first, then the content or the error. */
export class Loader {
  /**
   * @param {HTMLElement} place that shows the content.
   * @param {() => Node} drawSkeleton
   */
  constructor(place, drawSkeleton) {
    this._place = place;
    this._drawSkeleton = drawSkeleton;
    this._control = new AbortController();
    this._hasContent = false;
    /** @type {(() => void) | null} */
    this._again = null;
  }

  /**
   * Load and draw. A later call ends an earlier one.
   *
   * @template T
   * @param {(signal: AbortSignal) => Promise<T>} load
   * @param {(content: T) => Node | null} draw null if `place` was filled already.
   * @param {{isQuiet?: boolean}} [options] quiet: what is shown stays until its successor is there.
   */
  async run(load, draw, { isQuiet = false } = {}) {
    this._control.abort();
    const control = (this._control = new AbortController());
    this._again = null;
    const isSilent = isQuiet && this._hasContent;
    this._place.setAttribute("aria-busy", "true");
    if (!isSilent) fill(this._place, this._drawSkeleton());
    try {
      const content = await load(control.signal);
      if (control.signal.aborted) return;
      const drawn = draw(content);
      if (drawn) fill(this._place, drawn);
      this._hasContent = true;
    } catch (error) {
      if (control.signal.aborted || isAbort(error)) return;
      this._again = () => this.run(load, draw);
      if (isSilent && error instanceof ApiError && error.isOffline) return; // the banner says so; what is shown stays
      this._hasContent = false;
      if (error instanceof ApiError && error.retryAfterS !== null) this._later(error.retryAfterS, control);
      fill(this._place, failed(error, this._again));
      announce(error instanceof Error ? error.message : String(error));
    } finally {
      if (!control.signal.aborted) this._place.removeAttribute("aria-busy");
    }
  }

  /**
   * Try again when a busy service asks for it.
   *
   * @param {number} wait_s
   * @param {AbortController} control of the try that failed: another one makes this one void.
   */
  _later(wait_s, control) {
    setTimeout(() => !control.signal.aborted && this.retry(), wait_s * 1000);
  }

  /** Try again what failed last, if something did. */
  retry() {
    this._again?.();
  }

  /** End what is on its way. */
  stop() {
    this._control.abort();
  }
}
