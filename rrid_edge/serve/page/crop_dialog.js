// One crop, large, with what is known of it.

import { confirmedBadge, cropName, picture } from "./crop_parts.js";
import { askTyped, openDialog } from "./dialogs.js";
import { button, el, fill, icon } from "./dom.js";
import { afterForgetting, FILES_STAY } from "./forgetting.js";
import { cameraName, counted, moment } from "./formats.js";
import { complain, notice } from "./notices.js";
import { go } from "./router.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Crop} Crop */

/**
 * Open a crop in a dialog. The arrow keys go to the crops beside it.
 *
 * @param {App} app
 * @param {Crop} crop
 * @param {Crop[]} others in the order that is shown, `crop` among them.
 */
export function openCrop(app, crop, others = [crop]) {
  let place = Math.max(0, others.findIndex((one) => one.id === crop.id));
  const body = el("div", { class: "crop-dialog", data: { crop: crop.id } });
  const title = () => `Crop ${others[place].id}`;
  /** @type {(result?: any) => void} */
  let leave = () => undefined;
  const step = (/** @type {number} */ by) => {
    const next = place + by;
    if (next < 0 || next >= others.length) return;
    place = next;
    draw();
    const heading = body.closest("dialog")?.querySelector("h2");
    if (heading) heading.textContent = title();
  };
  const draw = () => {
    body.dataset.crop = String(others[place].id);
    fill(body, content(app, others[place], leave, others.length > 1 ? step : null));
  };
  body.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  return openDialog(
    title(),
    (close) => {
      leave = close;
      draw();
      return [body];
    },
    "is-wide",
  );
}

/**
 * @param {App} app
 * @param {Crop} crop
 * @param {(result?: any) => void} close
 * @param {((by: number) => void) | null} step
 */
function content(app, crop, close, step) {
  const search = () => {
    close();
    go("search", { crop: crop.id });
  };
  const actions = [
    button([icon("search"), "Search by this crop"], search, { class: "button is-primary", autofocus: true }),
    app.can("admin") && app.gallery().writable && button("Forget this crop…", () => forget(app, crop, close), { class: "button is-danger-quiet" }),
  ];
  const steps = step && [
    button(icon("left"), () => step(-1), { class: "button is-icon", "aria-label": "Crop before this" }),
    button(icon("right"), () => step(1), { class: "button is-icon", "aria-label": "Crop after this" }),
  ];
  return [
    el("div", { class: "crop-large" }, picture(crop, "image")),
    el(
      "div",
      { class: "crop-about" },
      crop.person && el("p", {}, confirmedBadge(crop.person)),
      el("dl", { class: "pairs" }, pairs(crop)),
      el("div", { class: "row" }, actions),
      steps && el("div", { class: "row" }, steps),
    ),
  ];
}

/** @param {Crop} crop */
function pairs(crop) {
  /** @type {[string, Node | string | number | null][]} */
  const known = [
    ["Camera", crop.camera === null ? null : cameraName(crop.camera)],
    ["Time", moment(crop.time)],
    ["Frame", crop.frame],
    ["Track", crop.track],
    ["File", crop.path],
    ["File name says", crop.told],
    ["Source", crop.source],
    ["Gallery", crop.gallery],
  ];
  return known
    .filter(([, value]) => value !== null && value !== undefined && value !== "")
    .flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]);
}

/**
 * @param {App} app
 * @param {Crop} crop
 * @param {(result?: any) => void} close
 */
async function forget(app, crop, close) {
  const isSure = await askTyped({
    title: `Forget ${cropName(crop)}?`,
    lines: [
      "Its row, descriptor and stored picture are erased from the gallery, with the verdicts and kept queries that name it.",
      FILES_STAY,
      "This cannot be undone.",
    ],
    word: "forget",
    action: "Forget this crop",
  });
  if (!isSure) return;
  try {
    const done = await app.api.send("DELETE", `crops/${crop.id}`);
    close();
    const others = done.ids.length - 1; // crops of the same content
    notice(`Crop ${crop.id} was erased${others ? `, and ${counted(others, "crop")} of the same content` : ""}.`);
    await afterForgetting(done);
  } catch (error) {
    complain(error);
  }
}
