"use strict";
(() => {
  const specs = JSON.parse(document.getElementById("charts").textContent);
  const options = { mode: "vega-lite", renderer: "svg", actions: false, tooltip: { theme: "report" } };
  for (const box of document.querySelectorAll("[data-chart]")) {
    vegaEmbed(box, specs[box.dataset.chart], options).catch((error) => {
      box.textContent = "This picture could not be drawn (" + error.message + "); its numbers are in the table below.";
    });
  }
  // A closed part is not printed, and one that a link leads to is to be seen.
  const open = (part) => part.setAttribute("open", "");
  window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(open));
  const follow = () => {
    const part = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (part && part.tagName === "DETAILS") { open(part); part.scrollIntoView(); }
  };
  window.addEventListener("hashchange", follow);
  follow();
  for (const head of document.querySelectorAll("table.sortable th > button")) {
    head.addEventListener("click", () => {
      const cell = head.parentElement, table = cell.closest("table"), body = table.tBodies[0];
      const down = cell.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => {
        const key = row.cells[cell.cellIndex].dataset.value;
        return key === "" ? Infinity : isNaN(key) ? key : Number(key);
      };
      const order = (a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0) * (down ? -1 : 1);
      body.append(...[...body.rows].sort(order));
    });
  }
})();
