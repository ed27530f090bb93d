// Sorts a table by the heading that was clicked: ascending, then descending. Empty cells come last. Numbers in names
// are compared as numbers.
const names = new Intl.Collator(undefined, {numeric: true});
function sortBy(header) {
  const table = header.closest("table"), body = table.tBodies[0], column = header.cellIndex;
  const descending = header.getAttribute("aria-sort") === "ascending";
  const key = row => row.cells[column].dataset.value;
  const compare = (a, b) => {
    if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
    const order = header.dataset.kind === "number" ? Number(key(a)) - Number(key(b))
      : header.dataset.kind === "name" ? names.compare(key(a), key(b))
      : (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0);
    return descending ? -order : order;
  };
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  body.append(...Array.from(body.rows).sort(compare));
}
document.addEventListener("click", event => {
  const button = event.target.closest("th button");
  if (button) sortBy(button.closest("th"));
});
