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
const filter = document.querySelector(".filter");
const choose = () => {
  const { suite, budget } = Object.fromEntries(new FormData(filter));
  let rows = 0;
  for (const section of document.querySelectorAll("section[data-suite]")) {
    const bodies = [...section.querySelectorAll("tbody[data-budget]")];
    for (const body of bodies) body.hidden = budget !== "" && body.dataset.budget !== budget;
    const shown = bodies.filter((body) => !body.hidden);
    section.hidden = (suite !== "" && section.dataset.suite !== suite) || shown.length === 0;
    if (!section.hidden) rows += shown.reduce((sum, body) => sum + body.rows.length - 1, 0);
  }
  const all = suite === "" && budget === "";
  filter.querySelector("output").textContent = all ? "" : rows === 0 ? "no row" : rows === 1 ? "1 row" : `${rows} rows`;
};
filter.hidden = false;
filter.addEventListener("change", choose);
choose(); // a browser may restore earlier choices
const reveal = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target === null) return;
  const section = target.closest("section");
  if (section !== null && section.hidden) {
    filter.reset();
    choose();
  }
  if (target instanceof HTMLDetailsElement) {
    target.open = true;
    target.scrollIntoView();
  }
};
addEventListener("hashchange", reveal);
reveal();
