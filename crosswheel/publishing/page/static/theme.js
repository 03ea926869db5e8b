// The chosen theme, before anything is drawn. Without a choice the system's own stands (prefers-color-scheme).
"use strict";
(function () {
  try {
    var chosen = window.localStorage.getItem("crosswheel-theme");
    if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
  } catch (refused) {
    // Storage may be switched off: then the system's theme stands.
  }
})();
