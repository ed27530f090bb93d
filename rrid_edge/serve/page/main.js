// Starts the page: who is here, which galleries are served, which view the address asks for.

import { Api } from "./api.js";
import { closeDialogs } from "./dialogs.js";
import { button, el, fill, icon } from "./dom.js";
import { News } from "./events.js";
import { liveView } from "./live_view.js";
import { complain, Connection } from "./notices.js";
import { peopleView } from "./people_view.js";
import { personView } from "./person_view.js";
import { hash, route } from "./router.js";
import { searchView } from "./search_view.js";
import { empty, failed, skeleton } from "./states.js";
import { systemView } from "./system_view.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").View} View */

const RANKS = { read: 0, label: 1, admin: 2 };
const VIEWS = /** @type {const} */ ([
  ["search", "Search", "search"],
  ["people", "People", "people"],
  ["live", "Live", "live"],
  ["system", "System", "system"],
]);

/** @param {string} id */
const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
const main = byId("main");
const api = new Api();
const connection = new Connection(() => (app ? view?.onOnline?.() : start()));
/** @type {App | null} */
let app = null;
/** @type {View | null} */
let view = null;
let shown = "";
let mode = "connecting";
const news = new News(api, onEvent, (now) => {
  if (now === "polling" || mode === "live") void connection.check();
  mode = now;
  document.documentElement.dataset.news = now;
  view?.onEvent?.({ kind: "mode", data: now });
});

api.onAnswer = () => connection.found();
api.onTrouble = (error) => (error.isOffline ? connection.lost() : sessionEnded());

/** The service does not know this session any more: it shows its login page at the same address. */
function sessionEnded() {
  if (app?.session.csrf) location.reload();
}

async function start() {
  drawNavigation();
  fill(main, skeleton("card", 8));
  try {
    const [session, galleries] = await Promise.all([api.get("session"), api.get("galleries")]);
    api.csrf = session.csrf;
    app = makeApp(session, galleries);
  } catch (error) {
    fill(main, failed(error, start));
    return;
  }
  useGallery();
  drawTools();
  render();
  news.start();
}

/**
 * @param {import("./types.js").Session} session
 * @param {import("./types.js").Gallery[]} galleries
 * @returns {App}
 */
function makeApp(session, galleries) {
  /** @type {App} */
  const made = {
    api,
    session,
    galleries,
    gallery: () => made.galleries.find((one) => one.name === api.gallery) ?? made.galleries[0],
    can: (role) => RANKS[session.role] >= RANKS[role],
    canLabel: () => made.can("label") && made.gallery().writable,
    newsMode: () => mode,
    refresh: async () => {
      made.galleries = await api.get("galleries");
    },
  };
  return made;
}

/** Take the gallery that the address names, or else the first. */
function useGallery() {
  if (!app) return false;
  const asked = route().parameters.get("gallery");
  const found = app.galleries.find((one) => one.name === asked) ?? app.galleries[0];
  const name = app.galleries.length > 1 && found ? found.name : null;
  const isOther = api.gallery !== name;
  api.gallery = name;
  return isOther;
}

function drawNavigation() {
  const links = VIEWS.map(([path, name, picture]) =>
    el("a", { href: hash(path), class: "nav-link", data: { view: path } }, icon(picture), el("span", {}, name)),
  );
  fill(byId("nav"), links);
}

function drawTools() {
  if (!app) return;
  const { galleries, session } = app;
  const choose = (/** @type {Event} */ event) => {
    const chosen = /** @type {HTMLSelectElement} */ (event.target).value;
    location.hash = hash(route().path[0], { gallery: chosen });
  };
  const selector =
    galleries.length > 1 &&
    el(
      "label",
      { class: "gallery-choice" },
      el("span", { class: "spoken" }, "Gallery"),
      el(
        "select",
        { id: "gallery", on: { change: choose } },
        galleries.map((one) => el("option", { value: one.name, selected: one.name === api.gallery }, one.name)),
      ),
    );
  const leave = session.csrf && button("Log out", logout, { class: "button is-quiet", id: "logout" });
  const who = session.csrf && el("span", { class: "who", title: `Role: ${session.role}` }, session.name);
  fill(byId("tools"), selector, who, leave);
}

async function logout() {
  try {
    await api.send("POST", "logout");
    location.reload();
  } catch (error) {
    complain(error);
  }
}

/** Show the view of the address; a view that is there already takes the new address itself. */
function render() {
  if (!app) return;
  const isOther = useGallery();
  const { path, parameters } = route();
  const place = path.join("/");
  if (!isOther && view?.update && shown === place) {
    view.update(parameters);
    return;
  }
  view?.stop?.();
  closeDialogs();
  if (isOther) {
    news.start();
    drawTools();
  }
  const hadView = view !== null;
  view = app.galleries.length ? makeView(app, path, parameters) : emptyView();
  shown = place;
  document.title = `${view.title} · rrid-edge`;
  markNavigation(path[0]);
  fill(main, view.root);
  if (hadView) {
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

/**
 * @param {App} made
 * @param {string[]} path
 * @param {URLSearchParams} parameters
 * @returns {View}
 */
function makeView(made, path, parameters) {
  if (path[0] === "search") return searchView(made, parameters);
  if (path[0] === "people" && path[1] && path[1] !== "questions") return personView(made, path[1]);
  if (path[0] === "people") return peopleView(made, path[1] === "questions" && made.canLabel() ? "questions" : "all");
  if (path[0] === "live") return liveView(made, parameters);
  if (path[0] === "system") return systemView(made);
  const link = el("a", { class: "button is-primary", href: hash("search") }, "Go to Search");
  return { title: "Not found", root: empty("question", "There is no such view", "The address may be mistyped.", link) };
}

/** @returns {View} */
function emptyView() {
  return { title: "No gallery", root: empty("system", "No gallery is served", "Start the service with a gallery.") };
}

/** @param {string} current */
function markNavigation(current) {
  drawNavigation();
  for (const link of byId("nav").querySelectorAll("a")) {
    if (link.dataset.view === current) link.setAttribute("aria-current", "page");
  }
}

/** @param {import("./types.js").ServiceEvent} event */
function onEvent(event) {
  if (event.kind === "crop-forgotten") forgetCards(event.data.ids ?? []);
  view?.onEvent?.(event);
}

/**
 * Take crops that were erased off the page, whatever view shows them.
 *
 * @param {import("./ids.js").CropId[]} ids
 */
function forgetCards(ids) {
  for (const id of ids) {
    for (const card of document.querySelectorAll(`[data-crop="${CSS.escape(String(id))}"]`)) {
      const dialog = card.closest("dialog");
      if (dialog) dialog.close();
      (card.closest("li") ?? card).remove();
    }
  }
}

window.addEventListener("hashchange", render);
document.addEventListener("crops-forgotten", (event) => {
  onEvent({ kind: "crop-forgotten", data: { ids: /** @type {CustomEvent} */ (event).detail } });
});
byId("skip").addEventListener("click", () => main.focus());
start();
