// Builds the page's elements. Text always goes in as text: nothing here reads HTML, so a file name or a person's
// name that looks like markup is shown as it is written.

/** @typedef {Node | string | number | null | undefined | false} Child */
/** @typedef {Record<string, any>} Attributes */

/**
 * Make an element.
 *
 * @param {string} tag name of the element.
 * @param {Attributes} [attributes] attributes by name. `class` is text, `data` and `on` hold data attributes and
 *     listeners by name, `true` writes an empty attribute; false, null and undefined write none.
 * @param {...(Child | Child[])} children what the element holds; empty values are left out.
 * @returns {HTMLElement}
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, /** @type {any} */ (listener));
    } else if (name === "data") {
      for (const [key, text] of Object.entries(value)) element.dataset[key] = String(text);
    } else {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  fill(element, ...children);
  return element;
}

/**
 * Replace what an element holds.
 *
 * @param {Element} element
 * @param {...(Child | Child[])} children
 */
export function fill(element, ...children) {
  const kept = children.flat().filter((child) => child !== null && child !== undefined && child !== false);
  element.replaceChildren(...kept.map((child) => (child instanceof Node ? child : String(child))));
}

/**
 * A button with a listener.
 *
 * @param {Child | Child[]} content
 * @param {(event: MouseEvent) => void} action
 * @param {Attributes} [attributes]
 * @returns {HTMLButtonElement}
 */
export function button(content, action, attributes = {}) {
  const children = Array.isArray(content) ? content : [content];
  return /** @type {HTMLButtonElement} */ (
    el("button", { type: "button", class: "button", ...attributes, on: { click: action, ...attributes.on } }, ...children)
  );
}

const SVG = "http://www.w3.org/2000/svg";

/** Outlines of the icons, drawn in a box of 24 x 24. */
const ICONS = {
  check: "M5 12.5l4.5 4.5L19 7.5",
  cross: "M6 6l12 12M18 6L6 18",
  question: "M9 9a3 3 0 1 1 4.2 2.8c-.8.4-1.2 1-1.2 2.2M12 17.5v.5",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM20 20l-4-4",
  people: "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20c0-3.6 2.9-6 6.5-6s6.5 2.4 6.5 6M16 4.3a3.5 3.5 0 0 1 0 6.4M18 14.6c2.2.8 3.5 2.8 3.5 5.4",
  live: "M12 13.5a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3zM8 16a5.7 5.7 0 0 1 0-8M16 8a5.7 5.7 0 0 1 0 8M5 19a10 10 0 0 1 0-14M19 5a10 10 0 0 1 0 14",
  system: "M4 6h16M4 12h16M4 18h16M8 4v4M16 10v4M10 16v4",
  upload: "M12 16V5M7.5 9.5L12 5l4.5 4.5M4 16v3h16v-3",
  camera: "M4 8h3.5L9 5.5h6L16.5 8H20v11H4zM12 16.5a3.3 3.3 0 1 0 0-6.6 3.3 3.3 0 0 0 0 6.6z",
  expand: "M9 4H4v5M15 4h5v5M9 20H4v-5M15 20h5v-5",
  pause: "M9 5v14M15 5v14",
  play: "M8 5l11 7-11 7z",
  warning: "M12 4l9 16H3zM12 10v4.5M12 17v.5",
  offline: "M3 3l18 18M6.2 9.5A9 9 0 0 1 12 7.4c2.2 0 4.2.8 5.8 2.1M9 13.4a5 5 0 0 1 6 0M12 17.5v.3",
  plus: "M12 5v14M5 12h14",
  link: "M10 14l4-4M8.5 11.5l-2 2a3 3 0 0 0 4.2 4.2l2-2M15.5 12.5l2-2a3 3 0 0 0-4.2-4.2l-2 2",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
};

/**
 * An icon. It says nothing to a screen reader: the control that holds it has a name.
 *
 * @param {keyof typeof ICONS} name
 * @returns {SVGElement}
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({ viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" })) {
    svg.setAttribute(key, value);
  }
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/**
 * The closest card of a crop around an element, or null.
 *
 * @param {EventTarget | null} target
 * @returns {HTMLElement | null}
 */
export function cardOf(target) {
  return target instanceof Element ? target.closest("[data-crop]") : null;
}
