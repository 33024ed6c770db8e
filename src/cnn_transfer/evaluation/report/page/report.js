// Tables sort by the column whose heading is pressed; details open for the printer.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const table = heading.closest("table");
    const body = table.tBodies[0];
    const column = heading.cellIndex;
    const [first, second] = heading.classList.contains("text") ? ["ascending", "descending"] : ["descending", "ascending"];
    const order = heading.getAttribute("aria-sort") === first ? second : first;  // of numbers, the largest first
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", order);
    const key = (row) => {
      const cell = row.cells[column];
      const value = cell.dataset.value;
      return value === undefined ? cell.textContent.trim() : value === "" ? null : Number(value);
    };
    const sign = order === "ascending" ? 1 : -1;
    const rows = [...body.rows].map((row, index) => [key(row), index, row]);
    rows.sort(([a, i], [b, j]) => {
      if (a === null || b === null) return (a === null) - (b === null) || i - j;  // what is missing comes last
      const compared = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
      return sign * compared || i - j;
    });
    for (const [, , row] of rows) body.append(row);
  });
}
const opened = [];
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details:not([open])")) {
    details.open = true;
    opened.push(details);
  }
});
addEventListener("afterprint", () => {
  while (opened.length) opened.pop().open = false;
});
