// Sorts a table by the column whose heading is clicked, or reached with the keyboard; a second time the other way round.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.tabIndex = 0;
    const sort = () => {
      const upward = heading.getAttribute("aria-sort") !== "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", upward ? "ascending" : "descending");
      const key = (row) => {
        const text = row.cells[column].textContent.replaceAll(",", "").replace("−", "-");
        const number = parseFloat(text);
        return Number.isNaN(number) ? text : number;
      };
      const order = (a, b) => {
        const [x, y] = [key(a), key(b)];
        // What is no number, such as a missing figure, stays last.
        if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
        const less = x < y ? -1 : x > y ? 1 : 0;
        return upward ? less : -less;
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
    };
    heading.addEventListener("click", sort);
    heading.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(); }
    });
  });
}
