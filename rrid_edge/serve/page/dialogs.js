// Dialogs. The browser's own <dialog> keeps the focus inside, closes on Esc and gives the focus back.

import { button, el, fill, icon } from "./dom.js";

let dialogs = 0;

/**
 * Open a dialog.
 *
 * @param {string} title
 * @param {(close: (result?: any) => void) => (Node | null | false)[]} draw the content; `close` ends the dialog.
 * @param {string} [kind] class of the dialog.
 * @returns {Promise<any>} what `close` was given; undefined if the dialog was left.
 */
export function openDialog(title, draw, kind = "") {
  const before = document.activeElement;
  dialogs += 1;
  const heading = el("h2", { id: `dialog-${dialogs}`, class: "dialog-title" }, title);
  const dialog = /** @type {HTMLDialogElement} */ (
    el("dialog", { class: `dialog ${kind}`, "aria-labelledby": heading.id })
  );
  return new Promise((resolve) => {
    /** @type {any} */
    let result;
    const close = (/** @type {any} */ given = undefined) => {
      result = given;
      dialog.close();
    };
    const leave = button(icon("cross"), () => close(), { class: "button is-icon", "aria-label": "Close" });
    fill(dialog, el("div", { class: "dialog-head" }, heading, leave), ...draw(close));
    dialog.addEventListener("click", (event) => event.target === dialog && close());
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
      resolve(result);
    });
    document.body.append(dialog);
    dialog.showModal();
    /** @type {HTMLElement | null} */ (dialog.querySelector("[autofocus]"))?.focus();
  });
}

/** Close all dialogs that are open. */
export function closeDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
}

/**
 * Ask for a name.
 *
 * @param {{title: string, text: string, action: string, value?: string, names?: string[], extra?: Node | null}} asked
 *     `names` are offered while the reader types.
 * @returns {Promise<string | undefined>}
 */
export function askName({ title, text, action, value = "", names = [], extra = null }) {
  return openDialog(title, (close) => {
    const input = /** @type {HTMLInputElement} */ (
      el("input", {
        id: "asked-name", type: "text", value, required: true, maxlength: 200, autocomplete: "off", list: "known-names",
        autofocus: true,
      })
    );
    const options = el("datalist", { id: "known-names" }, names.map((name) => el("option", { value: name })));
    const submit = (/** @type {Event} */ event) => {
      event.preventDefault();
      const name = input.value.trim();
      if (name) close(name);
    };
    return [
      el(
        "form",
        { class: "form", on: { submit } },
        el("p", {}, text),
        extra,
        el("label", { for: "asked-name" }, "Name"),
        input,
        options,
        el(
          "div",
          { class: "dialog-actions" },
          button("Cancel", () => close()),
          el("button", { type: "submit", class: "button is-primary" }, action),
        ),
      ),
    ];
  });
}

/**
 * Ask before something that cannot be undone. The reader types a word first.
 *
 * @param {{title: string, lines: (string | Node)[], word: string, action: string}} asked
 * @returns {Promise<boolean | undefined>}
 */
export function askTyped({ title, lines, word, action }) {
  return openDialog(
    title,
    (close) => {
      const go = /** @type {HTMLButtonElement} */ (
        el("button", { type: "submit", class: "button is-danger", disabled: true }, action)
      );
      const input = /** @type {HTMLInputElement} */ (
        el("input", { id: "typed-word", type: "text", autocomplete: "off", spellcheck: "false", autofocus: true })
      );
      input.addEventListener("input", () => (go.disabled = input.value.trim() !== word));
      const submit = (/** @type {Event} */ event) => {
        event.preventDefault();
        if (!go.disabled) close(true);
      };
      return [
        el(
          "form",
          { class: "form", on: { submit } },
          el("ul", { class: "plain-list" }, lines.map((line) => el("li", {}, line))),
          el("label", { for: "typed-word" }, "Type ", el("strong", {}, word), " to go on"),
          input,
          el("div", { class: "dialog-actions" }, button("Cancel", () => close()), go),
        ),
      ];
    },
    "is-danger",
  );
}
