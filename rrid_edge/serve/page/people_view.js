// People: those whom somebody confirmed, groups that scores suggest, and the queue of "same person?".

import { badgeOf, covers, mergePeople, namePerson } from "./people_actions.js";
import { button, el, fill } from "./dom.js";
import { cameraName, counted, oneIn, score, span } from "./formats.js";
import { questionsView } from "./questions.js";
import { hash } from "./router.js";
import { empty, Loader, skeleton } from "./states.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Person} Person */
/**
 * @typedef {{people: Person[], suggested: Person[], total: number, suggested_total: number, considered: number,
 *     left_out: number, computing: boolean, threshold: {score: number, kind: string, rate: number | null,
 *     dataset: string | null} | null}} People
 */

const QUIET_MS = 500;
const COMPUTING_MS = 1500;
const DRAWN = 60; // cards at first; more on demand

/**
 * @param {App} app
 * @param {"all" | "questions"} tab
 * @returns {import("./types.js").View}
 */
export function peopleView(app, tab) {
  const tabs = el(
    "nav",
    { class: "tabs", "aria-label": "People" },
    link("people", "All people", tab === "all"),
    app.canLabel() && link("people/questions", "Same person?", tab === "questions"),
  );
  const place = el("div", {});
  const root = el("div", { class: "stack" }, el("div", { class: "results-head" }, el("h1", { class: "view-title" }, "People"), tabs), place);
  const inner = tab === "questions" ? questionsView(app, place) : listView(app, place);
  return { root, title: tab === "questions" ? "Same person?" : "People", ...inner };
}

/** @param {string} path @param {string} text @param {boolean} isCurrent */
function link(path, text, isCurrent) {
  return el("a", { class: "tab", href: hash(path), "aria-current": isCurrent ? "page" : null }, text);
}

/**
 * @param {App} app
 * @param {HTMLElement} place
 */
function listView(app, place) {
  const loader = new Loader(place, () => skeleton("person-card", 8, "person-cards"));
  /** @type {Map<string, Person>} */
  const chosen = new Map();
  /** @type {People} */
  let people = { people: [], suggested: [], total: 0, suggested_total: 0, considered: 0, left_out: 0, computing: false, threshold: null };
  let words = "";
  let limit = DRAWN;
  let timer = 0;
  const lists = el("div", { class: "stack" });
  const bar = el("div", { class: "selection", role: "region", "aria-label": "Chosen people", hidden: true });
  const filter = el("input", { type: "search", id: "people-filter", placeholder: "Find a name", "aria-label": "Find a name", autocomplete: "off" });
  filter.addEventListener("input", () => {
    words = /** @type {HTMLInputElement} */ (filter).value.trim().toLowerCase();
    drawLists();
  });

  const load = (isQuiet = false) =>
    loader.run((signal) => app.api.get("people", {}, signal), draw, { isQuiet });
  /** @param {People} found */
  const draw = (found) => {
    people = found;
    if (found.computing) later(COMPUTING_MS);
    const known = new Map([...found.people, ...found.suggested].map((person) => [person.id, person]));
    for (const id of [...chosen.keys()]) if (!known.has(id)) chosen.delete(id);
    if (!known.size && found.computing) return skeleton("person-card", 8, "person-cards");
    if (!known.size) {
      const text = "Name crops from a search, or let more crops come in: groups that look alike are suggested here.";
      return empty("people", "Nobody is known yet", text, el("a", { class: "button is-primary", href: hash("search") }, "Go to Search"));
    }
    drawLists();
    drawBar();
    return el("div", { class: "stack" }, filter, lists, bar);
  };
  const later = (/** @type {number} */ wait_ms) => {
    clearTimeout(timer);
    timer = window.setTimeout(() => load(true), wait_ms);
  };
  const drawLists = () => {
    const has = (/** @type {Person} */ person) => !words || (person.name ?? "").toLowerCase().includes(words);
    const confirmed = people.people.filter(has);
    const suggested = words ? [] : people.suggested;
    fill(
      lists,
      section("Confirmed", "Somebody looked and gave a name.", confirmed),
      suggested.length > 0 && section("Suggested", "Only scores say that these crops show one person. Nobody has confirmed it.", suggested),
      !words && el("p", { class: "hint" }, howSuggested(people)),
    );
  };
  /** @param {string} title @param {string} text @param {Person[]} group */
  const section = (title, text, group) => {
    const more = group.length > limit && button(`Show all ${group.length}`, () => ((limit = Infinity), drawLists()), { class: "button" });
    return el(
      "section",
      { class: "stack", "aria-label": title },
      el("div", { class: "field-head" }, el("h2", { class: "small-title" }, `${title} `, el("span", { class: "muted" }, group.length)), el("p", { class: "muted" }, text)),
      group.length
        ? el("ul", { class: "person-cards" }, group.slice(0, limit).map((person) => personCard(app, person, { chosen, toggle, reload: load, find })))
        : el("p", { class: "muted" }, words ? "No such name." : "Nobody yet."),
      more,
    );
  };
  const find = (/** @type {string} */ id) => people.people.find((one) => one.id === id);
  /** @param {Person} person @param {boolean} isChosen */
  const toggle = (person, isChosen) => {
    if (isChosen) chosen.set(person.id, person);
    else chosen.delete(person.id);
    drawBar();
  };
  const drawBar = () => {
    bar.hidden = chosen.size === 0;
    const [one, other] = chosen.values();
    const merge = async () => {
      if (!(await mergePeople(app, one, other))) return;
      clear();
      load(true);
    };
    const clear = () => {
      chosen.clear();
      for (const box of lists.querySelectorAll("input")) box.checked = false;
      drawBar();
    };
    fill(
      bar,
      el("span", { class: "selection-count" }, chosen.size === 2 ? "2 people chosen" : `${counted(chosen.size, "person", "people")} chosen: choose two to merge them`),
      button("Merge…", merge, { class: "button is-primary", disabled: chosen.size !== 2 }),
      button("Clear", clear, { class: "button is-quiet" }),
    );
  };
  load();
  return {
    onEvent: (/** @type {import("./types.js").ServiceEvent} */ { kind }) => {
      if (["person-changed", "crop-forgotten", "crop-added", "reset"].includes(kind)) later(QUIET_MS);
    },
    onOnline: () => loader.retry(),
    stop: () => (clearTimeout(timer), loader.stop()),
  };
}

/**
 * @param {App} app
 * @param {Person} person
 * @param {{chosen: Map<string, Person>, toggle: (person: Person, isChosen: boolean) => void,
 *     reload: (isQuiet: boolean) => void, find: (id: string) => Person | undefined}} list that holds the card.
 */
function personCard(app, person, { chosen, toggle, reload, find }) {
  const isSuggested = person.kind === "suggested";
  const name = person.name ?? (isSuggested ? `suggested group ${person.id}` : "unnamed");
  const box = /** @type {HTMLInputElement} */ (el("input", { type: "checkbox", "aria-label": `Choose ${name}`, checked: chosen.has(person.id) }));
  box.addEventListener("change", () => toggle(person, box.checked));
  const confirm = async () => {
    if (await namePerson(app, person)) reload(true);
  };
  const alike = person.resembles ? find(person.resembles.person.id) : undefined;
  const merge = async () => {
    if (alike && (await mergePeople(app, alike, person))) reload(true);
  };
  return el(
    "li",
    {},
    el(
      "article",
      { class: `person-card is-${person.kind}`, data: { person: person.id }, "aria-label": name },
      el("a", { class: "person-open", href: hash(`people/${person.id}`), "aria-label": `Show ${name}` }, covers(person)),
      el("div", { class: "person-head" }, badgeOf(person, true), app.canLabel() && el("label", { class: "choose" }, box)),
      el("p", { class: "muted" }, `${counted(person.crops, "crop")} · ${cameras(person.cameras)}`),
      el("p", { class: "muted person-span" }, span(person.first, person.last)),
      person.resembles && el("p", { class: "resembles" }, `may be ${person.resembles.person.name}, ${person.resembles.score.toFixed(2)}`),
      isSuggested && app.canLabel() &&
        el(
          "div",
          { class: "row person-actions" },
          button("Confirm and name…", confirm, { class: "button is-small" }),
          alike && button(`Merge with ${alike.name}…`, merge, { class: "button is-small" }),
        ),
    ),
  );
}

/**
 * Where suggestions come from, and what they leave out.
 *
 * @param {People} people
 */
function howSuggested({ people, total, suggested, suggested_total, considered, left_out, computing, threshold }) {
  const source = threshold?.kind === "fpr" && threshold.rate ? `, measured: ${oneIn(threshold.rate)} pairs of different people` : ", estimated from this gallery";
  return [
    computing && "Suggestions are being computed again.",
    threshold && `Suggestions group crops whose mean score is at least ${score(threshold.score)}${source}.`,
    considered > 0 && `${counted(considered, "unnamed crop")} considered.`,
    left_out > 0 && `${counted(left_out, "older crop")} left out.`,
    total > people.length && `The ${people.length} who were seen last of ${total} are shown.`,
    suggested_total > suggested.length && `The ${suggested.length} largest of ${suggested_total} groups are shown.`,
  ]
    .filter(Boolean)
    .join(" ");
}

/** @param {string[]} names */
function cameras(names) {
  if (!names.length) return "no camera";
  return names.length === 1 ? cameraName(names[0]) : counted(names.length, "camera");
}
