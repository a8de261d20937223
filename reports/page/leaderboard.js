"use strict";

// One select for each field, of the values that the fields before it leave; a table for each entry chosen.
const entries = JSON.parse(document.getElementById("data").textContent);
const fields = { log: "Log", budget: "Budget", task: "Task", metric: "Metric" };
const form = document.getElementById("choices");
const boards = document.getElementById("boards");

function make(name, text = "", attributes = {}) {
  const element = document.createElement(name);
  element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

const signed = (value, digits) => `${value < 0 ? "\u2212" : "+"}${Math.abs(value).toFixed(digits)}`;

function short(exact) {
  const value = Number(exact.toPrecision(3)); // rounded first: 999,600 is 1.00 M
  for (const [factor, prefix] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= factor) return `${(value / factor).toPrecision(3)} ${prefix}`;
  }
  return value.toPrecision(3);
}

function difference(diff, low, high, digits = 2) {
  if (diff === null) return "base";
  const points = (value) => signed(100 * value, digits);
  return low === null ? points(diff) : `${points(diff)} (${points(low)} to ${points(high)})`;
}

function board(entry) {
  const part = make("section", "", { class: "board" });
  const heading = make("h2");
  heading.append(make("a", `${entry.suite} on ${entry.log}`, { href: entry.page }));
  part.append(heading, make("p", `budget: ${entry.budget}; base: ${entry.base}`, { class: "aside" }));
  const side = make("div", "", { class: "side" });
  const box = make("div", "", { class: "scroll", tabindex: "0", role: "region", "aria-label": entry.suite });
  const table = make("table");
  const titles = ["", "model", `${entry.task} ${entry.metric}`, "vs base", "params", "FLOPs/sample", "p99 ms"];
  const head = table.createTHead().insertRow();
  titles.forEach((title, i) => head.append(make("th", title, { scope: "col", class: i > 1 ? "number" : "" })));
  const body = table.createTBody();
  entry.rows.forEach(([model, mean, diff, low, high, resolved, params, flops, p99], i) => {
    const row = body.insertRow();
    const texts = [
      mean === null ? "failed" : mean.toFixed(4),
      difference(diff, low, high),
      params === null ? "\u2013" : short(params),
      flops === null ? "\u2013" : short(flops),
      p99 === null ? "\u2013" : p99.toFixed(2),
    ];
    const name = make("th", "", { scope: "row" });
    name.append(make("a", model, { href: entry.page }));
    row.append(make("td", String(i + 1), { class: "number" }), name);
    texts.forEach((text, place) => {
      const cell = make("td", "", { class: `number${place === 1 && resolved ? " resolved" : ""}` });
      cell.append(make("a", text, { href: entry.runs }));
      row.append(cell);
    });
  });
  box.append(table);
  side.append(box);
  if (entry.picture) {
    const link = make("a", "", { href: entry.page });
    link.append(make("img", "", { src: entry.picture, loading: "lazy", width: 280, alt: `differences of ${entry.suite}` }));
    side.append(link);
  }
  part.append(side);
  return part;
}

const chosen = {};
const names = Object.keys(fields);

// The entries that have the values chosen for the first fields.
const left = (number) =>
  entries.filter((entry) => names.slice(0, number).every((field) => entry[field] === chosen[field]));

function show() {
  form.replaceChildren();
  names.forEach((field, number) => {
    const label = make("label", `${fields[field]} `);
    const select = make("select", "", { name: field });
    for (const value of new Set(left(number).map((entry) => entry[field]))) {
      select.append(make("option", value, { value }));
    }
    select.value = chosen[field];
    select.addEventListener("change", () => choose(number, select.value));
    label.append(select);
    form.append(label);
  });
  const shown = left(names.length);
  document.getElementById("count").textContent = `${shown.length} of ${entries.length} tables`;
  boards.replaceChildren(...shown.map(board));
}

// A later field whose value is ruled out takes the first that is left.
function choose(number, value) {
  chosen[names[number]] = value;
  for (let later = number + 1; later < names.length; later += 1) {
    const possible = left(later);
    const field = names[later];
    if (!possible.some((entry) => entry[field] === chosen[field])) chosen[field] = possible[0][field];
  }
  show();
}

if (entries.length) {
  const first = entries.find((entry) => entry.budget !== "none") || entries[0];
  for (const field of names) chosen[field] = first[field];
  show();
}
