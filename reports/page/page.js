"use strict";

// Figures: a mark's title is shown next to it when a reader points at it, taps it or reaches it by keyboard.
const tip = document.getElementById("tip");

function show(mark) {
  const box = mark.getBoundingClientRect();
  tip.textContent = mark.dataset.value;
  tip.hidden = false;
  const left = box.left + box.width / 2 - tip.offsetWidth / 2;
  const above = box.top - tip.offsetHeight - 8;
  tip.style.left = `${Math.max(4, Math.min(left, document.documentElement.clientWidth - tip.offsetWidth - 4))}px`;
  tip.style.top = `${above > 4 ? above : Math.min(box.bottom + 8, innerHeight - tip.offsetHeight - 4)}px`;
}

for (const svg of document.querySelectorAll("svg")) {
  const marks = [...svg.querySelectorAll(".value")];
  marks.forEach((mark, i) => {
    const title = mark.querySelector("title");
    mark.dataset.value = title.textContent;
    mark.setAttribute("aria-label", title.textContent);
    mark.setAttribute("role", "img");
    mark.setAttribute("tabindex", i === 0 ? "0" : "-1");
    title.remove();
    mark.addEventListener("pointerenter", () => show(mark));
    mark.addEventListener("pointerleave", () => { tip.hidden = true; });
    mark.addEventListener("click", () => show(mark));
    mark.addEventListener("focus", () => show(mark));
    mark.addEventListener("blur", () => { tip.hidden = true; });
    mark.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = marks[(i + step + marks.length) % marks.length];
      mark.setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    });
  });
}

addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });
addEventListener("scroll", () => { tip.hidden = true; }, { capture: true, passive: true });

// What is folded opens where a link or the address leads into it, and for print.
const folds = [...document.querySelectorAll("details")];

function unfold() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const fold = target && target.closest("details");
  if (fold && !fold.open) {
    fold.open = true;
    target.scrollIntoView();
  }
}

addEventListener("hashchange", unfold);
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='#']");
  if (link && link.hash === location.hash) unfold();
});
unfold();

let folded = [];
addEventListener("beforeprint", () => {
  folded = folds.filter((fold) => !fold.open);
  for (const fold of folded) fold.open = true;
});
addEventListener("afterprint", () => { for (const fold of folded) fold.open = false; });

// A table that is wider than the page says so.
function sayWide() {
  for (const note of document.querySelectorAll(".wide")) {
    const box = note.nextElementSibling;
    note.hidden = box.scrollWidth <= box.clientWidth + 4; // a border more is not wider
  }
}

addEventListener("resize", sayWide);
addEventListener("toggle", sayWide, { capture: true });
sayWide();

// The bar at the top marks the section that the reader is in, and scrolls sideways to show it.
const bar = document.querySelector(".jump");
const places = [...bar.querySelectorAll("a[href^='#']")]
  .map((link) => [link, document.getElementById(decodeURIComponent(link.hash.slice(1)))]);

function markPlace() {
  const line = bar.getBoundingClientRect().bottom + 24;
  const passed = places.filter(([, place]) => place.getBoundingClientRect().top <= line);
  const atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
  const [current] = (atEnd && scrollY > 0 ? places : passed).at(-1) || [];
  for (const [link] of places) link.toggleAttribute("aria-current", false);
  if (!current) return;
  current.setAttribute("aria-current", "true");
  const before = current.offsetLeft - bar.offsetLeft;
  if (before < bar.scrollLeft || before + current.offsetWidth > bar.scrollLeft + bar.clientWidth) {
    bar.scrollLeft = before - 16;
  }
}

addEventListener("scroll", markPlace, { passive: true });
markPlace();

// Light or dark: what the system asks for, until the button says otherwise.
const root = document.documentElement;
const button = document.getElementById("theme");
const remembered = { get: () => null, set: () => {} };
try {
  localStorage.getItem("theme");
  remembered.get = () => localStorage.getItem("theme");
  remembered.set = (theme) => localStorage.setItem("theme", theme);
} catch { /* a browser that keeps nothing for files */ }

function setTheme(theme) {
  if (theme) root.dataset.theme = theme;
  const isDark = (theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  button.textContent = isDark ? "Light" : "Dark";
  button.setAttribute("aria-label", `Show the page ${isDark ? "light" : "dark"}`);
  return isDark;
}

button.hidden = false;
let isDark = setTheme(remembered.get());
button.addEventListener("click", () => {
  const theme = isDark ? "light" : "dark";
  remembered.set(theme);
  isDark = setTheme(theme);
});
