// Talks to the service. All addresses are relative to the document, so the page works below any root path.

import { parsed } from "./ids.js";

/** @typedef {import("./types.js").Session} Session */

const ROOT = new URL(".", document.baseURI);
const OF_ALL = new Set(["session", "logout", "galleries", "info"]); // routes that concern no single gallery
const PATIENCE_MS = 40000; // the service itself gives up after 30 s

/** A refusal of the service, or a service that cannot be reached. */
export class ApiError extends Error {
  /**
   * @param {string} message one line for the reader.
   * @param {number} status HTTP status; 0 if there was no answer.
   * @param {number | null} retryAfterS seconds after which the service asks to try again.
   */
  constructor(message, status, retryAfterS = null) {
    super(message);
    this.status = status;
    this.retryAfterS = retryAfterS;
  }

  /** Whether there was no answer at all. */
  get isOffline() {
    return this.status === 0;
  }
}

/**
 * The address of something of the service.
 *
 * @param {string} path below the root, without a slash at its start.
 * @param {Record<string, any>} [parameters] query parameters; lists repeat, empty values are left out.
 * @returns {string}
 */
export function address(path, parameters = {}) {
  const url = new URL(path, ROOT);
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") url.searchParams.append(name, String(one));
    }
  }
  return url.href;
}

/** Calls the routes of the service for one gallery. */
export class Api {
  constructor() {
    /** @type {string | null} name of the gallery in use, if several are served. */
    this.gallery = null;
    /** @type {string | null} */
    this.csrf = null;
    /** @type {(error: ApiError) => void} told about every call without an answer, and about sessions that ended. */
    this.onTrouble = () => undefined;
    /** @type {() => void} told about every answer. */
    this.onAnswer = () => undefined;
  }

  /**
   * The address of a route, with the gallery in use where the route has one.
   *
   * @param {string} route below `api/v1/`.
   * @param {Record<string, any>} [parameters]
   */
  route(route, parameters = {}) {
    const gallery = OF_ALL.has(route) ? null : this.gallery;
    return address(`api/v1/${route}`, { ...parameters, gallery });
  }

  /**
   * @param {string} route
   * @param {Record<string, any>} [parameters]
   * @param {AbortSignal} [signal]
   * @returns {Promise<any>}
   */
  get(route, parameters = {}, signal = undefined) {
    return this._call("GET", this.route(route, parameters), undefined, signal);
  }

  /**
   * @param {string} method
   * @param {string} route
   * @param {any} [body] a FormData, or what is sent as JSON.
   * @param {Record<string, any>} [parameters]
   * @param {AbortSignal} [signal]
   * @returns {Promise<any>}
   */
  send(method, route, body = undefined, parameters = {}, signal = undefined) {
    return this._call(method, this.route(route, parameters), body, signal);
  }

  /**
   * @param {string} method
   * @param {string} url
   * @param {any} body
   * @param {AbortSignal | undefined} signal
   */
  async _call(method, url, body, signal) {
    /** @type {Record<string, string>} */
    const headers = { Accept: "application/json" };
    if (this.csrf && method !== "GET") headers["X-CSRF-Token"] = this.csrf;
    const isForm = body instanceof FormData;
    if (body !== undefined && !isForm) headers["Content-Type"] = "application/json";
    const sent = body === undefined || isForm ? body : JSON.stringify(body);
    const control = new AbortController();
    const end = () => control.abort();
    const patience = setTimeout(end, PATIENCE_MS);
    if (signal?.aborted) end();
    signal?.addEventListener("abort", end);
    let response;
    let text;
    try {
      response = await fetch(url, { method, headers, body: sent, signal: control.signal, credentials: "same-origin" });
      text = await response.text();
    } catch (error) {
      if (signal?.aborted) throw error;
      const trouble = new ApiError("The service cannot be reached.", 0);
      this.onTrouble(trouble);
      throw trouble;
    } finally {
      clearTimeout(patience);
      signal?.removeEventListener("abort", end);
    }
    this.onAnswer();
    if (response.ok) return text ? parsed(text) : null;
    const trouble = problemOf(response, text);
    if (trouble.status === 401) this.onTrouble(trouble);
    throw trouble;
  }
}

/**
 * @param {Response} response
 * @param {string} text
 * @returns {ApiError}
 */
function problemOf(response, text) {
  const wait = Number(response.headers.get("Retry-After"));
  let line = `The service answered ${response.status}.`;
  if ((response.headers.get("Content-Type") ?? "").includes("json")) {
    try {
      const problem = JSON.parse(text);
      line = problem.detail || problem.title || line;
    } catch {
      // the status alone has to do
    }
  }
  return new ApiError(line, response.status, Number.isFinite(wait) && wait > 0 ? wait : null);
}

/**
 * Whether an error only says that its view went away.
 *
 * @param {unknown} error
 */
export function isAbort(error) {
  return error instanceof DOMException && error.name === "AbortError";
}
