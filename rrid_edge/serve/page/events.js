// News from the service: server-sent events, or polling where those fail.

import { parsed } from "./ids.js";

const KINDS = [
  "crop-added", "crop-forgotten", "person-changed", "index-progress", "gallery-changed", "reset",
];
const PATIENCE_MS = 8000; // then polling begins, while the browser goes on trying
const POLL_MS = 4000;
const HIDDEN_MS = 60000; // a tab that nobody sees gives its connection back
const REOPEN_MS = 30000;

/** @typedef {import("./types.js").ServiceEvent} ServiceEvent */

/** Follows one gallery. */
export class News {
  /**
   * @param {import("./api.js").Api} api
   * @param {(event: ServiceEvent) => void} onEvent also gets `poll` while events fail, and `reset` after a gap.
   * @param {(mode: "live" | "polling" | "connecting") => void} onMode
   */
  constructor(api, onEvent, onMode) {
    this._api = api;
    this._onEvent = onEvent;
    this._onMode = onMode;
    /** @type {EventSource | null} */
    this._source = null;
    this._hadGap = false;
    /** @type {Record<string, number>} */
    this._timers = {};
    document.addEventListener("visibilitychange", () => this._seen());
    window.addEventListener("pagehide", () => this.stop());
    window.addEventListener("pageshow", (event) => event.persisted && this._reopen());
  }

  /** Open the connection; an earlier one, perhaps to another gallery, ends. */
  start() {
    this.stop();
    this._onMode("connecting");
    const source = (this._source = new EventSource(this._api.route("events")));
    this._later("patience", PATIENCE_MS, () => this._poll());
    source.addEventListener("open", () => this._opened());
    source.addEventListener("error", () => this._failed(source));
    for (const kind of KINDS) {
      source.addEventListener(kind, (event) => this._onEvent({ kind, data: read(event) }));
    }
  }

  /** Close the connection. */
  stop() {
    this._source?.close();
    this._source = null;
    for (const name of Object.keys(this._timers)) this._cancel(name);
  }

  _opened() {
    this._cancel("patience");
    this._cancel("poll");
    this._onMode("live");
    if (this._hadGap) this._onEvent({ kind: "reset", data: {} });
    this._hadGap = false;
  }

  /** @param {EventSource} source */
  _failed(source) {
    if (source !== this._source) return;
    if (source.readyState === EventSource.CLOSED) {
      this._poll();
      this._later("reopen", REOPEN_MS, () => this._reopen());
    } else if (!("patience" in this._timers) && !("poll" in this._timers)) {
      this._onMode("connecting");
      this._later("patience", PATIENCE_MS, () => this._poll());
    }
  }

  _poll() {
    this._cancel("patience");
    this._onMode("polling");
    this._onEvent({ kind: "poll", data: {} });
    this._later("poll", POLL_MS, () => this._poll());
  }

  _reopen() {
    this._hadGap = true;
    this.start();
  }

  _seen() {
    if (document.hidden) this._later("hidden", HIDDEN_MS, () => this.stop());
    else if (this._source === null) this._reopen();
    else this._cancel("hidden");
  }

  /**
   * @param {string} name
   * @param {number} wait_ms
   * @param {() => void} action
   */
  _later(name, wait_ms, action) {
    this._cancel(name);
    this._timers[name] = window.setTimeout(() => (delete this._timers[name], action()), wait_ms);
  }

  /** @param {string} name */
  _cancel(name) {
    clearTimeout(this._timers[name]);
    delete this._timers[name];
  }
}

/** @param {Event} event */
function read(event) {
  try {
    return parsed(/** @type {MessageEvent} */ (event).data) ?? {};
  } catch {
    return {};
  }
}
