// Before the page is drawn: the theme that the reader chose last, and that programs run (without, all parts are shown).
document.documentElement.classList.add("scripted");
try {
  const chosen = localStorage.getItem("report-theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch { /* a browser may keep files from storing anything */ }
