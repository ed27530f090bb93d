// Short notices at the edge of the page, words for screen readers, and the banner of a service that is away.

import { button, el, fill, icon } from "./dom.js";
import { address } from "./api.js";

const NOTICE_MS = 7000;
const WAITS_S = [1, 2, 4, 8, 10];

/** @param {string} id */
const region = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/**
 * Say something to screen readers only.
 *
 * @param {string} text
 */
export function announce(text) {
  region("spoken").textContent = "";
  requestAnimationFrame(() => (region("spoken").textContent = text));
}

/**
 * Show a notice that goes by itself. Errors stay until they are closed.
 *
 * @param {string} text
 * @param {{isError?: boolean, action?: {text: string, run: () => void}}} [options]
 */
export function notice(text, { isError = false, action = undefined } = {}) {
  const remove = () => box.remove();
  const box = el(
    "div",
    { class: isError ? "notice is-error" : "notice" },
    icon(isError ? "warning" : "check"),
    el("p", {}, text),
    action && button(action.text, () => (remove(), action.run()), { class: "button is-quiet" }),
    button(icon("cross"), remove, { class: "button is-icon", "aria-label": "Close this notice" }),
  );
  const notices = region("notices");
  notices.append(box);
  while (notices.childElementCount > 4) notices.firstElementChild?.remove();
  if (!isError) setTimeout(remove, action ? 2 * NOTICE_MS : NOTICE_MS);
}

/**
 * Show what went wrong with something that the reader asked for.
 *
 * @param {unknown} error
 */
export function complain(error) {
  notice(error instanceof Error ? error.message : String(error), { isError: true });
}

/** Watches whether the service answers, and tries by itself until it does. */
export class Connection {
  /** @param {() => void} onBack called when the service answers again. */
  constructor(onBack) {
    this._onBack = onBack;
    this._tries = 0;
    this._isChecking = false;
    /** @type {number | undefined} */
    this._timer = undefined;
    window.addEventListener("online", () => this._timer !== undefined && this._try());
    window.addEventListener("offline", () => this.lost());
  }

  /** Whether the service is away. */
  get isLost() {
    return this._timer !== undefined;
  }

  /** Ask whether the service is there: something else than a call has failed. */
  async check() {
    if (this.isLost || this._isChecking) return;
    this._isChecking = true;
    try {
      await fetch(address("healthz"), { cache: "no-store", signal: AbortSignal.timeout(5000) });
    } catch {
      this.lost();
    } finally {
      this._isChecking = false;
    }
  }

  /** A call had no answer. */
  lost() {
    if (this.isLost) return;
    this._tries = 0;
    this._wait();
  }

  /** A call was answered. */
  found() {
    if (!this.isLost) return;
    clearTimeout(this._timer);
    this._timer = undefined;
    region("banner").hidden = true;
    announce("The service answers again.");
    this._onBack();
  }

  _wait() {
    const wait = WAITS_S[Math.min(this._tries, WAITS_S.length - 1)];
    this._tries += 1;
    const banner = region("banner");
    fill(
      banner,
      icon("offline"),
      el("p", {}, `The service cannot be reached. The page tries again every few seconds.`),
      button("Try now", () => this._try(), { class: "button is-quiet" }),
    );
    banner.hidden = false;
    this._timer = window.setTimeout(() => this._try(), wait * 1000);
  }

  async _try() {
    clearTimeout(this._timer);
    this._timer = 0;
    try {
      await fetch(address("healthz"), { cache: "no-store", signal: AbortSignal.timeout(5000) });
      this.found();
    } catch {
      this._wait();
    }
  }
}
