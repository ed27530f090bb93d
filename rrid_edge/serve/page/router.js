// The address decides what is shown. It lies behind `#`, so it can be shared and needs nothing from the service.

/** @typedef {{path: string[], parameters: URLSearchParams}} Route */

/**
 * Read an address such as `#/people/p3?gallery=yard`.
 *
 * @param {string} [hash]
 * @returns {Route}
 */
export function route(hash = location.hash) {
  const [path, query] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  return { path: (path || "search").split("/").map(unescaped), parameters: new URLSearchParams(query ?? "") };
}

/** @param {string} part */
function unescaped(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/**
 * Write an address.
 *
 * @param {string} path such as `people/p3`.
 * @param {Record<string, any> | URLSearchParams} [parameters] lists repeat; empty values are left out.
 * @returns {string} with its `#`.
 */
export function hash(path, parameters = {}) {
  const written = new URLSearchParams();
  const pairs = parameters instanceof URLSearchParams ? [...parameters] : Object.entries(parameters);
  for (const [name, value] of pairs) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") written.append(name, String(one));
    }
  }
  const gallery = route().parameters.get("gallery");
  if (gallery && !written.has("gallery")) written.set("gallery", gallery);
  const query = written.toString();
  return `#/${path}${query ? `?${query}` : ""}`;
}

/**
 * Show another address; a step that the browser's back button takes back.
 *
 * @param {string} path
 * @param {Record<string, any> | URLSearchParams} [parameters]
 */
export function go(path, parameters = {}) {
  location.hash = hash(path, parameters);
}

/**
 * Change the address without telling the view, which shows it already. The back button takes it back.
 *
 * @param {string} path
 * @param {Record<string, any> | URLSearchParams} [parameters]
 */
export function record(path, parameters = {}) {
  history.pushState(null, "", hash(path, parameters));
}
