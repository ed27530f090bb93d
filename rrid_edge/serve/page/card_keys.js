// Arrow keys move among cards. One card at a time can be reached with Tab; the arrows move that place.

import { cardOf } from "./dom.js";

/**
 * @param {HTMLElement} list whose cards have `data-crop`.
 * @param {Record<string, (card: HTMLElement) => void>} actions by key, in small letters.
 */
export function cardKeys(list, actions) {
  list.addEventListener("keydown", (event) => {
    const card = cardOf(event.target);
    if (!card || event.ctrlKey || event.metaKey || event.altKey) return;
    const isTyping = event.target instanceof HTMLInputElement && event.target.type !== "checkbox";
    if (isTyping) return;
    const next = neighbour(list, card, event.key);
    if (next) {
      event.preventDefault();
      focusCard(list, next);
      return;
    }
    const isOnCard = event.target === card;
    const action = actions[event.key.toLowerCase()];
    if (!action || (!isOnCard && (event.key === "Enter" || event.key === " "))) return;
    event.preventDefault();
    action(card);
  });
  list.addEventListener("focusin", (event) => {
    const card = cardOf(event.target);
    if (card) rove(list, card);
  });
}

/**
 * Make the first card, or the one that was in use, the one that Tab reaches.
 *
 * @param {HTMLElement} list
 * @param {string | undefined} crop
 */
export function startRoving(list, crop = undefined) {
  const cards = cardsOf(list);
  const card = cards.find((one) => one.dataset.crop === crop) ?? cards[0];
  if (card) rove(list, card);
  return card;
}

/** @param {HTMLElement} list */
function cardsOf(list) {
  return /** @type {HTMLElement[]} */ ([...list.querySelectorAll("[data-crop]")]);
}

/** @param {HTMLElement} list @param {HTMLElement} card */
function rove(list, card) {
  for (const one of cardsOf(list)) one.tabIndex = one === card ? 0 : -1;
}

/** @param {HTMLElement} list @param {HTMLElement} card */
export function focusCard(list, card) {
  rove(list, card);
  card.focus();
  card.scrollIntoView({ block: "nearest" });
}

/**
 * The card that an arrow key leads to: beside, above or below, or the first and last.
 *
 * @param {HTMLElement} list
 * @param {HTMLElement} card
 * @param {string} key
 * @returns {HTMLElement | null}
 */
function neighbour(list, card, key) {
  const cards = cardsOf(list);
  const place = cards.indexOf(card);
  if (key === "ArrowRight") return cards[place + 1] ?? null;
  if (key === "ArrowLeft") return cards[place - 1] ?? null;
  if (key === "Home") return cards[0];
  if (key === "End") return cards[cards.length - 1];
  if (key !== "ArrowDown" && key !== "ArrowUp") return null;
  const here = card.getBoundingClientRect();
  const isBeyond = (/** @type {DOMRect} */ box) => (key === "ArrowDown" ? box.top > here.top + 4 : box.top < here.top - 4);
  const far = cards.filter((one) => isBeyond(one.getBoundingClientRect()));
  const away = (/** @type {HTMLElement} */ one) => {
    const box = one.getBoundingClientRect();
    return Math.abs(box.top - here.top) * 100 + Math.abs(box.left - here.left);
  };
  return far.sort((one, other) => away(one) - away(other))[0] ?? null;
}
