// Ids of crops. A gallery on a server numbers its crops with 63 bits, and a number of JavaScript holds 53.

/** @typedef {any} CropId a number, or its digits as text where a number would round it. */

const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g; // texts are passed over whole, so that digits in them stay
const LONG = /^\d{16,}$/;

/**
 * What a text of JSON holds; ids that a number would round become texts.
 *
 * @param {string} text
 * @returns {any}
 */
export function parsed(text) {
  return JSON.parse(text.replace(TOKENS, (found) => (LONG.test(found) && !isExact(found) ? `"${found}"` : found)));
}

/**
 * The id that an attribute or an address writes.
 *
 * @param {string | null | undefined} text
 * @returns {CropId}
 */
export function idOf(text) {
  return text && LONG.test(text) && !isExact(text) ? text : Number(text ?? NaN);
}

/** @param {string} digits */
function isExact(digits) {
  return Number.isSafeInteger(Number(digits));
}
