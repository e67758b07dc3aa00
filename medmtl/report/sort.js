for (const head of document.querySelectorAll("table.sortable thead th")) {
  head.firstElementChild.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending", body = head.closest("table").tBodies[0], at = head.cellIndex;
    const missing = (cell) => !("sort" in cell.dataset) && cell.textContent === "–";
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    [...body.rows].sort((first, second) => {
      const a = first.cells[at], b = second.cells[at];
      if (missing(a) || missing(b)) return missing(a) - missing(b);
      const order = "sort" in a.dataset && "sort" in b.dataset ? a.dataset.sort - b.dataset.sort : a.textContent.localeCompare(b.textContent);
      return up ? order : -order;
    }).forEach((row) => body.append(row));
  });
}
