// Sorts a table by a column; without scripts the tables read as they are.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  if (body.rows.length < 2) continue;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const rising = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const sign = rising ? 1 : -1;
      const key = (row) => row.cells[column];
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [key(a).dataset.number, key(b).dataset.number];
        if (x !== undefined && y !== undefined) return sign * (x - y);
        if (x !== undefined || y !== undefined) return x === undefined ? 1 : -1;
        return sign * key(a).textContent.localeCompare(key(b).textContent);
      });
      body.append(...rows);
    });
  });
}
