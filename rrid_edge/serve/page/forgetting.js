// What forgetting erases, what it leaves, and what the page does afterwards.

import { openDialog } from "./dialogs.js";
import { button, el } from "./dom.js";

/** Forgetting keeps away from image files. */
export const FILES_STAY = "Image files stay in the gallery's folder: delete them yourself. They are not indexed again.";

/**
 * Take the crops off the page, and say what is left of them.
 *
 * @param {{ids?: number[], left?: string[]} | true} done the service's answer; `left` are lines for the reader.
 */
export async function afterForgetting(done) {
  if (done === true) return;
  document.dispatchEvent(new CustomEvent("crops-forgotten", { detail: done.ids ?? [] }));
  const left = done.left ?? [];
  if (!left.length) return;
  await openDialog("Not everything is erased yet", (close) => [
    el("p", {}, "The crops are forgotten. Something of them is still on a disk:"),
    el("ul", { class: "left-files", tabindex: 0, "aria-label": "What is left" }, left.map((line) => el("li", {}, line))),
    el("div", { class: "dialog-actions" }, button("Close", () => close(), { class: "button is-primary", autofocus: true })),
  ]);
}
