// What can be done with people: name, rename, merge, forget. Each returns whether it was done.

import { confirmedBadge, picture, suggestedBadge } from "./crop_parts.js";
import { askName, askTyped, openDialog } from "./dialogs.js";
import { afterForgetting, FILES_STAY } from "./forgetting.js";
import { button, el } from "./dom.js";
import { counted } from "./formats.js";
import { complain, notice } from "./notices.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Person} Person */

/**
 * Do something that the service may refuse, and say how it went.
 *
 * @param {() => Promise<any>} action
 * @param {string} done what to say afterwards.
 * @returns {Promise<any>} the answer (true if it is empty), or null if it was refused.
 */
export async function attempt(action, done) {
  try {
    const answer = (await action()) ?? true;
    notice(done);
    return answer;
  } catch (error) {
    complain(error);
    return null;
  }
}

/**
 * The names that are known, to be offered.
 *
 * @param {App} app
 * @returns {Promise<Person[]>}
 */
async function confirmedPeople(app) {
  try {
    return (await app.api.get("people")).people;
  } catch {
    return [];
  }
}

/**
 * Name the person of chosen crops. With the name of somebody who is known already, they become hers.
 *
 * @param {App} app
 * @param {number[]} ids
 * @param {import("./types.js").Crop | null} [query] a crop that was searched by: it can be named too.
 */
export async function nameCrops(app, ids, query = null) {
  const known = await confirmedPeople(app);
  const box = /** @type {HTMLInputElement} */ (el("input", { type: "checkbox", checked: true }));
  const offersQuery = query !== null && query.person === null && !ids.includes(query.id);
  const name = await askName({
    title: "Name this person",
    text: `${counted(ids.length, "crop")} will show this person, confirmed by you.`,
    action: "Name",
    names: known.flatMap((person) => person.name ?? []),
    extra: offersQuery ? el("label", { class: "choice" }, box, `Crop ${query.id}, which was searched by, too`) : null,
  });
  if (!name) return null;
  const crops = offersQuery && box.checked ? [query.id, ...ids] : ids;
  const person = known.find((one) => one.name === name);
  if (!person) return attempt(() => app.api.send("POST", "people", { name, crops }), `${counted(crops.length, "crop")} named ${name}.`);
  const add = async () => {
    const own = person.cover[0].id;
    for (const crop of crops) {
      if (crop !== own) await app.api.send("POST", "feedback", { query: { crop: own }, crop, verdict: "same" });
    }
  };
  return attempt(add, `${counted(crops.length, "crop")} added to ${name}.`);
}

/**
 * Name a suggested person, which confirms it, or rename a confirmed one.
 *
 * @param {App} app
 * @param {Person} person
 */
export async function namePerson(app, person) {
  const isSuggested = person.kind === "suggested";
  const seen = isSuggested ? await cropsOf(app, person) : null;
  if (isSuggested && !seen) return null;
  const name = await askName({
    title: isSuggested ? "Confirm and name" : "Rename",
    text: isSuggested
      ? `You confirm that all ${counted(person.crops, "crop")} show one person. Look at them first.`
      : "All crops of this person get the new name.",
    action: isSuggested ? "Confirm and name" : "Rename",
    value: person.name ?? "",
    extra: seen ? el("ul", { class: "covers is-all", tabindex: 0, "aria-label": "All crops" }, seen.map((crop) => el("li", {}, picture(crop)))) : null,
  });
  if (!name || name === person.name) return null;
  const body = seen?.length === person.crops ? { name, crops: seen.map((crop) => crop.id) } : { name };
  return attempt(() => app.api.send("PATCH", `people/${person.id}`, body), `Named ${name}.`);
}

/**
 * All crops of a suggested person, so that nobody confirms what nobody saw.
 *
 * @param {App} app
 * @param {Person} person
 * @returns {Promise<import("./types.js").Crop[] | null>} null if the group is gone.
 */
async function cropsOf(app, person) {
  try {
    const detail = await app.api.get(`people/${encodeURIComponent(person.id)}`);
    return detail.timeline.flatMap((/** @type {{crops: import("./types.js").Crop[]}} */ lane) => lane.crops);
  } catch (error) {
    complain(error);
    return null;
  }
}

/** @param {Person} person */
export function covers(person) {
  return el("ul", { class: "covers" }, person.cover.map((crop) => el("li", {}, picture(crop))));
}

/** @param {Person} person */
export function badgeOf(person, isLink = false) {
  return person.kind === "confirmed" ? confirmedBadge(person, { isLink }) : suggestedBadge(person.confidence);
}

/**
 * Merge two people. Both are shown first; the reader chooses whose name stays.
 *
 * @param {App} app
 * @param {Person} one
 * @param {Person} other
 */
export async function mergePeople(app, one, other) {
  const isUnnamed = one.kind === "suggested" && other.kind === "suggested";
  /** @type {{kept: Person, name: string | null} | undefined} */
  const chosen = await openDialog(
    "Merge two people?",
    (close) => {
      const mayKeep = [one, other].filter((person) => isUnnamed || person.kind === "confirmed");
      let kept = mayKeep[0];
      const input = /** @type {HTMLInputElement} */ (
        el("input", { id: "merged-name", type: "text", maxlength: 200, required: true, autocomplete: "off" })
      );
      const choice = (/** @type {Person} */ person) =>
        mayKeep.length > 1 && !isUnnamed
          ? el(
              "label",
              { class: "choice" },
              el("input", { type: "radio", name: "kept", checked: person === kept, on: { change: () => (kept = person) } }),
              `Keep the name ${person.name ?? "of this one"}`,
            )
          : null;
      const side = (/** @type {Person} */ person) =>
        el("div", { class: "merge-side" }, badgeOf(person), el("p", { class: "muted" }, counted(person.crops, "crop")), covers(person), choice(person));
      const submit = (/** @type {Event} */ event) => {
        event.preventDefault();
        const name = input.value.trim();
        if (!isUnnamed || name) close({ kept, name: isUnnamed ? name : null });
      };
      return [
        el(
          "form",
          { class: "form", on: { submit } },
          el("p", {}, "All crops of both become one person. You can undo this on the page of the person."),
          el("div", { class: "merge-sides" }, side(one), side(other)),
          isUnnamed && el("label", { for: "merged-name" }, "Name"),
          isUnnamed && input,
          el(
            "div",
            { class: "dialog-actions" },
            button("Cancel", () => close()),
            el("button", { type: "submit", class: "button is-primary", autofocus: !isUnnamed }, "Merge"),
          ),
        ),
      ];
    },
    "is-wide",
  );
  if (!chosen) return null;
  const gone = chosen.kept === one ? other : one;
  const merge = async () => {
    const kept = chosen.name ? await app.api.send("PATCH", `people/${chosen.kept.id}`, { name: chosen.name }) : chosen.kept;
    return app.api.send("POST", `people/${kept.id}/merge`, { other: gone.id });
  };
  return attempt(merge, "Merged. It can be undone on the page of the person.");
}

/**
 * Erase all crops of a person.
 *
 * @param {App} app
 * @param {Person} person
 */
export async function forgetPerson(app, person) {
  const isSure = await askTyped({
    title: `Forget ${person.name ?? "this person"}?`,
    lines: [
      `All ${counted(person.crops, "crop")} are erased from the gallery: rows, descriptors and stored pictures.`,
      "The name, merges, verdicts and kept queries that belong to them are erased.",
      FILES_STAY,
      "This cannot be undone.",
    ],
    word: person.name ?? "forget",
    action: "Forget this person",
  });
  if (!isSure) return null;
  const done = await attempt(() => app.api.send("DELETE", `people/${person.id}`), `${person.name ?? "The person"} was forgotten.`);
  if (done) await afterForgetting(done);
  return done;
}

/**
 * Choose one of the other confirmed people to merge with.
 *
 * @param {App} app
 * @param {Person} person
 * @returns {Promise<Person | undefined>}
 */
export async function choosePerson(app, person) {
  const others = (await confirmedPeople(app)).filter((one) => one.id !== person.id);
  return openDialog(
    "Merge with whom?",
    (close) => {
      if (!others.length) return [el("p", {}, "Nobody else is confirmed yet.")];
      const entry = (/** @type {Person} */ one) =>
        el("li", {}, button([covers(one), badgeOf(one)], () => close(one), { class: "person-choice" }));
      return [el("ul", { class: "person-choices" }, others.map(entry))];
    },
    "is-wide",
  );
}
