// Tables that sort by a click on a heading. Cells sort by `data-sort`, numbers as numbers; missing values come last.
// Rows with different `data-group` are not ranked against each other unless the box `.across` is ticked.
function sortable(table, across = null) {
  const body = table.tBodies[0], headings = [...table.tHead.rows[0].cells];
  let column = -1, direction = 1;

  const key = (row, n) => row.cells[n].dataset.sort ?? row.cells[n].textContent.trim();
  function compare(a, b) {
    if (a === "" || b === "") return (a === "") - (b === "");  // missing: last in both directions
    const [x, y] = [Number(a), Number(b)];
    return direction * (Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y);
  }
  function sort() {
    const grouped = across && !across.checked && headings[column].hasAttribute("data-by-kind");
    const group = (row) => (grouped ? row.dataset.group : "");
    const groups = [...new Set([...body.rows].map((row) => row.dataset.group))].sort();
    const rows = [...body.rows].sort((a, b) =>
      groups.indexOf(group(a)) - groups.indexOf(group(b)) || compare(key(a, column), key(b, column)));
    body.append(...rows);
    rows.forEach((row, n) => row.classList.toggle("first-of-kind", grouped && n > 0 && group(row) !== group(rows[n - 1])));
    headings.forEach((heading, n) => heading.setAttribute("aria-sort", n !== column ? "none" : direction > 0 ? "ascending" : "descending"));
  }
  headings.forEach((heading, n) => {
    const button = element("button", { type: "button" });
    button.append(...heading.childNodes);
    heading.append(button);
    heading.setAttribute("aria-sort", "none");
    button.onclick = () => {
      direction = n === column ? -direction : heading.dataset.first === "down" ? -1 : 1;
      column = n;
      sort();
    };
  });
  if (across) across.onchange = () => { if (column >= 0) sort(); };
}
