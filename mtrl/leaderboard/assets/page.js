"use strict";
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), table = head.closest("table");
    const now = head.getAttribute("aria-sort");
    const falling = now === null ? !head.classList.contains("method") : now === "ascending";
    for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const value = (row) => {
      const text = row.cells[head.cellIndex].dataset.value, number = Number(text);
      return text === "" || Number.isNaN(number) ? text : number;
    };
    const order = (a, b) => {
      const x = value(a), y = value(b);
      if (x === "" || y === "") return (x === "") - (y === "");
      const side = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en");
      return falling ? -side : side;
    };
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter((row) => !row.classList.contains("budget"));
      if (!body.classList.contains("published")) body.append(...rows.sort(order));
    }
  });
}
const reveal = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) {
    target.open = true;
    target.scrollIntoView();
  }
};
addEventListener("hashchange", reveal);
reveal();
