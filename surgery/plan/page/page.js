// A filter by name, and the arrow keys. All else is there without it.
"use strict";
(() => {
  const entry = document.querySelector(".search input");
  const said = document.querySelector(".search output");
  const layers = [...document.querySelectorAll(".layer")];
  const boxes = [...document.querySelectorAll(".box")];
  const rows = [...document.querySelectorAll("tbody tr")];
  const folds = [...document.querySelectorAll(".fold > details")];
  const opened = new Set();
  const words = new Map([...layers, ...rows].map((element) => [element, element.textContent.toLowerCase()]));

  // What was typed as a pattern: a star stands for anything within a name.
  const pattern = (text) => new RegExp(
    text.split("*").map((part) => part.replace(/[\\^$.|?+()[\]{}]/g, "\\$&")).join("\\S*"));

  function filter() {
    const text = entry.value.trim().toLowerCase();
    const wanted = pattern(text);
    const found = layers.filter((layer) => {
      // The path of a layer and the names of its tensors, so that `layers.0.*weight` finds some.
      const path = layer.getAttribute("aria-label").toLowerCase();
      const names = [...layer.querySelectorAll("figcaption b")].map((name) => `${path}.${name.textContent.toLowerCase()}`);
      const fits = wanted.test(words.get(layer)) || names.some((name) => wanted.test(name));
      layer.classList.toggle("away", !fits);
      return fits;
    });
    boxes.forEach((box) => box.classList.toggle("away", !box.querySelector(".layer:not(.away)")));
    rows.forEach((row) => row.classList.toggle("away", !wanted.test(words.get(row))));
    folds.forEach((fold) => {
      const inside = text && fold.querySelector(".layer:not(.away)");
      if (inside && !fold.open) { fold.open = true; opened.add(fold); }
      if (!text && opened.delete(fold)) fold.open = false;
    });
    said.textContent = text ? `${found.length} of ${layers.length} layers` : "";
  }

  // The next layer that is seen, for the arrow keys.
  function step(layer, by) {
    const seen = layers.filter((other) => other.getClientRects().length);
    const next = seen[seen.indexOf(layer) + by];
    if (next) next.focus();
  }

  entry.addEventListener("input", filter);
  layers.forEach((layer) => layer.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") layer.blur();
    if (!by) return;
    event.preventDefault();
    step(layer, by);
  }));
  document.documentElement.classList.add("live");
})();
