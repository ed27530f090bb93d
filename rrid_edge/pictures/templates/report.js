// Sorts a table by the heading that was clicked. The first click sorts ascending, or best first where higher is better;
// the next one turns the order round. Empty cells come last. Numbers in names are compared as numbers.
const names = new Intl.Collator(undefined, {numeric: true});
const status = document.querySelector("[role=status]");
function sortBy(header) {
  const table = header.closest("table"), body = table.tBodies[0], column = header.cellIndex;
  const first = header.dataset.first ?? "ascending", second = first === "ascending" ? "descending" : "ascending";
  const order = header.getAttribute("aria-sort") === first ? second : first;
  const key = row => row.cells[column].dataset.value;
  const compare = (a, b) => {
    if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
    const way = header.dataset.kind === "number" ? Number(key(a)) - Number(key(b))
      : header.dataset.kind === "name" ? names.compare(key(a), key(b))
      : (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0);
    return order === "descending" ? -way : way;
  };
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order);
  body.append(...Array.from(body.rows).sort(compare));
  status.textContent = `sorted by ${header.textContent}, ${order}`;
}

// Shows a picture in a dialog, a crop beside its query. Names are set as text only.
const dialog = document.querySelector("dialog");
let opener = null;
function figure(image, caption) {
  const figure = document.createElement("figure"), large = document.createElement("img");
  large.src = image.src;
  large.alt = image.alt;
  const text = document.createElement("figcaption");
  text.textContent = caption;
  figure.append(large, text);
  return figure;
}
function captionOf(row) {
  const told = Array.from(row.querySelectorAll("[data-name]")).filter(cell => cell.dataset.value !== "");
  const more = Array.from(row.querySelectorAll(".time, .verdict, .path")).filter(cell => cell.dataset.value !== "");
  return [...told.map(cell => `${cell.dataset.name} ${cell.textContent}`), ...more.map(cell => cell.textContent)]
    .join(" \u00b7 ");
}
function enlarge(button) {
  const row = button.closest("tr"), images = button.closest("section").querySelectorAll(".query img");
  const figures = row === null ? [figure(button.querySelector("img"), button.querySelector("img").alt)]
    : [...Array.from(images).slice(0, 1).map(image => figure(image, "query")),
       figure(button.querySelector("img"), captionOf(row))];
  figures.at(-1).className = row?.className ?? "";
  dialog.querySelector(".shown").replaceChildren(...figures);
  opener = button;
  if (!dialog.open) dialog.showModal();
}
dialog.addEventListener("close", () => opener?.focus());
dialog.addEventListener("keydown", event => {
  const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (step === undefined) return;
  const all = Array.from(opener.closest("section").querySelectorAll(".enlarge"));
  const next = all[all.indexOf(opener) + step];
  if (next) enlarge(next);
  event.preventDefault();
});
document.addEventListener("click", event => {
  const heading = event.target.closest("th button"), picture = event.target.closest(".enlarge");
  if (heading) sortBy(heading.closest("th"));
  else if (picture) enlarge(picture);
  else if (event.target === dialog || event.target.closest(".close")) dialog.close();
});
