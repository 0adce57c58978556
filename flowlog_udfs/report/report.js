"use strict";
// Sorts and filters the page's tables, and pages through findings that are too many to stand in it. Everything is set as text.
const PAGE = 100;
const valueOf = (cell) => cell.dataset.value !== undefined ? Number(cell.dataset.value) : cell.textContent.trim().toLowerCase();
const compare = (a, b) => a < b ? -1 : a > b ? 1 : 0;
const element = (name, text, className) => { const made = document.createElement(name); if (text !== undefined) made.textContent = text; if (className) made.className = className; return made; };
const humanBytes = (count) => { let value = count, unit = "B"; for (const larger of ["kB", "MB", "GB", "TB", "PB"]) { if (value < 999.5) break; value /= 1000; unit = larger; } return `${unit === "B" || value >= 99.95 ? value.toFixed(0) : value.toFixed(1)} ${unit}`; };
const count = (number) => number.toLocaleString("en-US");

class Rows { // of a table that stands in the page
  constructor(table) { this.body = table.tBodies[0]; this.all = [...this.body.rows]; this.texts = this.all.map((row) => row.textContent.toLowerCase()); this.order = this.all.map((_, place) => place); this.size = this.all.length; }
  key(place, column) { return valueOf(this.all[place].cells[column]); }
  matches(place, words, severity) { return words.every((word) => this.texts[place].includes(word)) && (!severity || this.all[place].cells[0].textContent === severity); }
  show(places) { this.body.replaceChildren(...places.map((place) => this.all[place])); return places.length; }
}

class Island { // of findings that are kept as cells
  constructor(table, kept) {
    this.body = table.tBodies[0]; this.words = kept.words; this.all = kept.rows; this.size = kept.rows.length; this.page = 0; this.order = kept.rows.map((_, place) => place);
    this.severities = ["critical", "high", "medium", "low", "info"];
    this.texts = kept.rows.map((row) => this.cells(row).join(" ").toLowerCase());
    this.pages = document.querySelector(`[data-pages="${table.id}"]`);
    const button = (text, step) => { const made = element("button", text); made.type = "button"; made.addEventListener("click", () => { this.page += step; this.draw(); }); return made; };
    this.back = button("← Back", -1); this.next = button("Next →", 1); this.place = element("span"); this.place.setAttribute("role", "status");
    this.pages.append(this.back, this.place, this.next); this.pages.hidden = false;
  }
  // The first nine are the table's columns; then an example, controls and id, and the exception.
  cells(row) { const w = this.words; return [w.severity[row[1]], w.status[row[2]], `${w.rule[row[0]]} ${w.vpc_id[row[3]]}`, row[4], row[5], row[6], row[7], row[8], row[9], row[10], `${w.controls[row[12]]} · ${row[11]}`, w.exception[row[13]]]; }
  key(place, column) { const cell = this.cells(this.all[place])[column]; return column === 0 ? this.severities.indexOf(cell) : typeof cell === "string" ? cell.toLowerCase() : cell; }
  matches(place, words, severity) { return words.every((word) => this.texts[place].includes(word)) && (!severity || this.words.severity[this.all[place][1]] === severity); }
  show(places) { this.shown = places; this.page = 0; this.draw(); return places.length; }
  draw() {
    const last = Math.max(0, Math.ceil(this.shown.length / PAGE) - 1), first = this.page * PAGE;
    this.body.replaceChildren(...this.shown.slice(first, first + PAGE).map((place) => this.row(this.all[place])));
    this.back.disabled = this.page === 0; this.next.disabled = this.page >= last;
    this.place.textContent = `page ${count(this.page + 1)} of ${count(last + 1)}`;
  }
  row(row) {
    const cells = this.cells(row), made = element("tr", undefined, cells[1]);
    cells.slice(0, 9).forEach((cell, column) => {
      const td = element("td");
      if (column === 0) td.append(element("span", cell, `chip ${cell}`));
      else if (column === 2) td.append(this.words.rule[row[0]], element("br"), element("span", this.words.vpc_id[row[3]], "quiet"));
      else if (column === 4) {
        td.className = "told"; td.append(cell);
        if (cells[9]) { const details = element("details"); details.append(element("summary", "evidence"), element("p", cells[9], "examples")); td.append(details); }
        td.append(element("p", cells[10], "named"));
        if (cells[11]) td.append(element("p", cells[11], "named"));
      }
      else if (column === 5 || column === 6) { td.className = "number"; td.textContent = column === 6 ? humanBytes(cell) : count(cell); if (column === 6) td.title = `${count(cell)} bytes`; }
      else { td.textContent = cell; if (column === 7 || column === 8) td.className = "time"; if (column === 3) td.className = "subject"; }
      made.append(td);
    });
    return made;
  }
}

const island = document.getElementById("rows");
for (const table of document.querySelectorAll("table.sortable")) {
  const rows = island && table.id === "t-findings" ? new Island(table, JSON.parse(island.textContent)) : new Rows(table);
  const box = document.querySelector(`[data-filter="${table.id}"]`), choice = document.querySelector(`[data-choose="${table.id}"]`), output = document.querySelector(`[data-shown="${table.id}"]`);
  const refresh = () => {
    const words = box ? box.value.toLowerCase().split(/\s+/).filter(Boolean) : [], severity = choice ? choice.value : "";
    const shown = rows.show(rows.order.filter((place) => rows.matches(place, words, severity)));
    if (output) output.textContent = `${count(shown)} of ${count(rows.size)} shown`;
  };
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = element("button", heading.textContent);
    button.type = "button";
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const keys = rows.order.map((place) => [rows.key(place, column), place]).sort((a, b) => (descending ? -1 : 1) * compare(a[0], b[0]) || a[1] - b[1]);
      rows.order = keys.map((key) => key[1]);
      refresh();
    });
  });
  for (const control of [box, choice]) if (control) { control.addEventListener("input", refresh); control.closest(".tools").hidden = false; }
  if (box || rows instanceof Island) refresh();
}
for (const note of document.querySelectorAll(".without-script")) note.hidden = true;
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
