"use strict";

// DataTables sorts by the raw numbers (data-order). Missing values stay last in both directions; reference
// rows have a body of their own, which DataTables leaves where it is.
const FILTERED_FROM = 8; // rows: fewer can be seen at one glance
const byText = new Intl.Collator(undefined, { numeric: true }).compare;

for (const [type, compare, isMissing] of [
  ["number", (a, b) => a - b, (value) => value === "" || Number.isNaN(Number(value))],
  ["text", byText, (value) => value === ""],
]) {
  const missingLast = (sign) => (a, b) => isMissing(a) - isMissing(b) || (isMissing(a) ? 0 : sign * compare(a, b));
  DataTable.type(type, "order", { asc: missingLast(1), desc: missingLast(-1) });
}

for (const table of document.querySelectorAll("table")) {
  new DataTable(table, {
    paging: false,
    info: false,
    autoWidth: false,
    order: [],
    columnDefs: [...table.tHead.rows[0].cells].map((heading, target) =>
      heading.classList.contains("number")
        ? { target, type: "number", orderSequence: ["desc", "asc", ""] }
        : { target, type: "text", orderSequence: ["asc", "desc", ""] }),
    language: { search: "Rows with", zeroRecords: "no such row" },
    layout: {
      topStart: table.tBodies[0].rows.length >= FILTERED_FROM ? "search" : null,
      topEnd: null,
      bottomStart: null,
      bottomEnd: null,
    },
  });
}
