// Tabs, theme, sorting and filtering of tables, enlarged images.
"use strict";
const tabs = [...document.querySelectorAll('[role="tab"]')];

function open(id, focus) {
  const chosen = tabs.find((tab) => tab.getAttribute("aria-controls") === id) ?? tabs[0];
  for (const tab of tabs) {
    const selected = tab === chosen;
    tab.setAttribute("aria-selected", String(selected));
    tab.tabIndex = selected ? 0 : -1;
    document.getElementById(tab.getAttribute("aria-controls")).classList.toggle("open", selected);
  }
  const strip = chosen.parentElement;
  strip.scrollLeft = chosen.offsetLeft - strip.offsetLeft - (strip.clientWidth - chosen.offsetWidth) / 2;
  if (focus) chosen.focus();
}
function choose(tab, focus) {
  const id = tab.getAttribute("aria-controls");
  history.replaceState(null, "", "#" + id);
  open(id, focus);
  const top = document.querySelector("nav").offsetTop;
  if (scrollY > top) scrollTo({ top, behavior: "instant" });
}
tabs.forEach((tab, index) => {
  tab.addEventListener("click", (event) => {
    event.preventDefault();
    choose(tab, false);
  });
  tab.addEventListener("keydown", (event) => {
    const to = { ArrowRight: index + 1, ArrowLeft: index - 1 + tabs.length, Home: 0, End: tabs.length - 1 }[event.key];
    if (event.key === " ") choose(tab, true);
    else if (to !== undefined) choose(tabs[to % tabs.length], true);
    else return;
    event.preventDefault();
  });
});
addEventListener("hashchange", () => open(location.hash.slice(1)));
open(location.hash.slice(1));

const theme = document.getElementById("theme"), system = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
const nameTheme = () => (theme.textContent = isDark() ? "Light theme" : "Dark theme");
theme.addEventListener("click", () => {
  const next = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem("report-theme", next);
  } catch { /* it holds for this time only */ }
  nameTheme();
});
system.addEventListener("change", nameTheme);
nameTheme();
theme.hidden = false;

for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th").forEach((head, column) => {
    head.querySelector("button")?.addEventListener("click", () => {
      const numeric = head.classList.contains("number");
      const ascending = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") !== "ascending" : !numeric;
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const body = table.tBodies[0], rows = [...body.rows];
      const key = (row) => (numeric ? parseFloat(row.cells[column].dataset.value) : row.cells[column].textContent);
      rows.sort((a, b) => compare(key(a), key(b), ascending));
      body.append(...rows);
    });
  });
}
// what has no number comes last in both directions
function compare(a, b, ascending) {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
  const order = typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
  return ascending ? order : -order;
}

for (const field of document.querySelectorAll(".filter")) {
  const rows = [...field.nextElementSibling.querySelectorAll("tbody tr")];
  field.addEventListener("input", () => {
    const wanted = field.value.toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
}

const large = document.getElementById("large");
for (const button of document.querySelectorAll(".enlarge")) {
  button.addEventListener("click", () => {
    const image = button.querySelector("img"), shown = large.querySelector("img");
    shown.src = image.src;
    shown.alt = image.alt;
    large.querySelector("p").textContent = image.alt;
    large.showModal();
  });
}
large.addEventListener("click", (event) => event.target.tagName !== "P" && large.close());

