// One person: where and when she was seen, all crops, and what can be done.

import { confirmedBadge, smallCard } from "./crop_parts.js";
import { openDialog } from "./dialogs.js";
import { button, el } from "./dom.js";
import { cameraName, counted, moment, span } from "./formats.js";
import { announce } from "./notices.js";
import { attempt, badgeOf, choosePerson, forgetPerson, mergePeople, namePerson } from "./people_actions.js";
import { go, hash } from "./router.js";
import { Selection } from "./selection.js";
import { empty, Loader, skeleton } from "./states.js";
import { timeline } from "./timeline.js";
import { ApiError } from "./api.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").PersonDetail} PersonDetail */
/** @typedef {import("./types.js").Merge} Merge */

const QUIET_MS = 400;

/**
 * @param {App} app
 * @param {string} id
 * @returns {import("./types.js").View}
 */
export function personView(app, id) {
  const place = el("div", {});
  const loader = new Loader(place, () => skeleton("small-card", 8, "small-cards"));
  const root = el("div", { class: "stack" }, el("a", { class: "back", href: hash("people") }, "← All people"), place);
  const selection = new Selection([{ text: "Move to another person…", run: (ids) => split(ids), isPrimary: true }], place);
  let timer = 0;
  let isGone = false;
  const path = `people/${encodeURIComponent(id)}`;
  const load = (isQuiet = false) => loader.run((signal) => read(app, path, signal), draw, { isQuiet });
  const reload = (/** @type {any} */ done) => done && load(true);

  /** @param {import("./ids.js").CropId[]} ids */
  const split = async (ids) => {
    const name = await askSplit(ids.length);
    if (name === undefined) return;
    const done = await attempt(() => app.api.send("POST", `${path}/split`, { crops: ids, name }), `${counted(ids.length, "crop")} moved.`);
    if (done) selection.clear();
    reload(done);
  };

  /** @param {PersonDetail | null} person */
  const draw = (person) => {
    if (!person) return gone();
    document.title = `${person.name ?? "Person"} · rrid-edge`;
    const lanes = person.timeline;
    selection.keep(lanes.flatMap(({ crops }) => crops.map((crop) => crop.id)));
    const canSplit = app.canLabel() && person.kind === "confirmed" && person.crops > 1;
    const card = (/** @type {import("./types.js").Crop} */ crop, /** @type {import("./types.js").Crop[]} */ crops) =>
      smallCard(app, { ...crop, person: null }, { others: () => crops, extra: canSplit && selection.box(crop.id) });
    return el(
      "div",
      { class: "stack" },
      head(app, person, { reload, load, onForgotten: () => ((isGone = true), go("people")) }),
      timeline(app, lanes),
      el(
        "div",
        { class: "camera-groups" },
        lanes.map(({ camera, crops }) =>
          el(
            "section",
            { class: "stack", "aria-label": cameraName(camera) },
            el("h2", { class: "small-title" }, `${cameraName(camera)} `, el("span", { class: "muted" }, crops.length)),
            el("ul", { class: "small-cards" }, crops.map((crop) => card(crop, crops))),
          ),
        ),
      ),
      merges(app, path, person.merges ?? [], reload),
      selection.bar,
    );
  };

  load();
  return {
    root,
    title: "Person",
    onEvent: ({ kind }) => {
      if (isGone || !["person-changed", "crop-forgotten", "reset"].includes(kind)) return;
      clearTimeout(timer);
      timer = window.setTimeout(() => load(true), QUIET_MS);
    },
    onOnline: () => loader.retry(),
    stop: () => (clearTimeout(timer), loader.stop()),
  };
}

/**
 * @param {App} app
 * @param {string} path
 * @param {AbortSignal} signal
 * @returns {Promise<PersonDetail | null>} null if there is no such person, for example any more.
 */
async function read(app, path, signal) {
  try {
    return await app.api.get(path, {}, signal);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

function gone() {
  announce("This person is not here.");
  return empty("people", "This person is not here", "She was merged with somebody, forgotten, or her suggested group changed.",
    el("a", { class: "button is-primary", href: hash("people") }, "Show all people"));
}

/**
 * @param {App} app
 * @param {PersonDetail} person
 * @param {{reload: (done: any) => void, load: () => void, onForgotten: () => void}} then
 */
function head(app, person, { reload, onForgotten }) {
  const isConfirmed = person.kind === "confirmed";
  const rename = async () => {
    const done = await namePerson(app, person);
    if (done && done.id && done.id !== person.id) go(`people/${done.id}`);
    else reload(done);
  };
  const merge = async () => {
    const other = await choosePerson(app, person);
    const done = other && (await mergePeople(app, person, other));
    if (done && done.id && done.id !== person.id) go(`people/${done.id}`);
    else reload(done);
  };
  const forget = async () => {
    if (await forgetPerson(app, person)) onForgotten();
  };
  const isWritable = app.gallery().writable;
  const archive = app.api.route(`people/${encodeURIComponent(person.id)}/export`);
  return el(
    "header",
    { class: `person-title is-${person.kind}` },
    el(
      "div",
      { class: "stack is-tight" },
      el("h1", { class: "view-title" }, person.name ?? (isConfirmed ? "Unnamed person" : "Suggested group"), " ", isConfirmed ? confirmedBadge({ id: null, name: "confirmed" }) : badgeOf(person)),
      el("p", { class: "muted" }, `${counted(person.crops, "crop")} · ${counted(person.cameras.length, "camera")} `, person.first && "· ", span(person.first, person.last)),
      !isConfirmed && el("p", { class: "muted" }, "Only scores say that these crops show one person. Nobody has confirmed it."),
    ),
    el(
      "div",
      { class: "row" },
      app.canLabel() && button(isConfirmed ? "Rename…" : "Confirm and name…", rename, { class: isConfirmed ? "button" : "button is-primary" }),
      app.canLabel() && button("Merge with…", merge),
      app.can("admin") && isConfirmed && el("a", { class: "button", href: archive, download: "" }, "Export"),
      app.can("admin") && isConfirmed && isWritable && button("Forget…", forget, { class: "button is-danger-quiet" }),
    ),
  );
}

/**
 * @param {App} app
 * @param {string} path
 * @param {Merge[]} done
 * @param {(done: any) => void} reload
 */
function merges(app, path, done, reload) {
  if (!done.length) return null;
  const undo = (/** @type {Merge} */ merge) => async () =>
    reload(await attempt(() => app.api.send("POST", `${path}/split`, { merge: merge.id }), "Undone."));
  const entry = (/** @type {Merge} */ merge) =>
    el(
      "li",
      { class: "merge" },
      el("span", {}, whatHappened(merge), el("span", { class: "muted" }, ` · ${counted(merge.crops, "crop")} · `, moment(merge.time))),
      app.canLabel() && button("Undo", undo(merge), { class: "button is-small", "aria-label": `Undo: ${whatHappened(merge)}` }),
    );
  return el(
    "section",
    { class: "panel", "aria-label": "Merges and splits" },
    el("h2", { class: "small-title" }, "Merges and splits"),
    el("ul", { class: "plain-list" }, done.map(entry)),
  );
}

/** @param {Merge} merge */
function whatHappened(merge) {
  if (merge.kind === "split") return merge.name ? `Moved to ${merge.name}` : "Taken from this person";
  return `Merged with ${merge.name ?? "a suggested group"}`;
}

/**
 * Ask who the moved crops show.
 *
 * @param {number} number of crops.
 * @returns {Promise<string | null | undefined>} a name, null for nobody yet, undefined if the reader left.
 */
function askSplit(number) {
  return openDialog("Move to another person", (close) => {
    const input = /** @type {HTMLInputElement} */ (el("input", { id: "split-name", type: "text", maxlength: 200, autocomplete: "off", autofocus: true }));
    const submit = (/** @type {Event} */ event) => (event.preventDefault(), close(input.value.trim() || null));
    return [
      el(
        "form",
        { class: "form", on: { submit } },
        el("p", {}, `${counted(number, "crop")} leave this person. Without a name they belong to nobody again.`),
        el("label", { for: "split-name" }, "Name (may be empty)"),
        input,
        el("div", { class: "dialog-actions" }, button("Cancel", () => close()), el("button", { type: "submit", class: "button is-primary" }, "Move")),
      ),
    ];
  });
}
