// What the page can do with scripts: answer the question, copy lines, filter the table, change the theme. All text comes
// into the page by textContent: nothing of a wheel, a log or the address is ever read as HTML.
"use strict";

const byId = (id) => document.getElementById(id);

function make(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (name === "class") element.className = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

function say(text) {
  const said = byId("said");
  said.textContent = "";
  window.setTimeout(() => { said.textContent = text; }, 30);
}

// --- the theme --------------------------------------------------------------------------------------------------

const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : prefersDark.matches;
}

function setUpTheme() {
  const button = byId("theme");
  const show = () => button.setAttribute("aria-pressed", String(isDark()));
  button.hidden = false;
  show();
  prefersDark.addEventListener("change", show);
  button.addEventListener("click", () => {
    const chosen = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = chosen;
    try {
      window.localStorage.setItem("crosswheel-theme", chosen);
    } catch (refused) {
      // It holds for this page, then.
    }
    show();
  });
}

// --- copying ----------------------------------------------------------------------------------------------------

function select(element) {
  const range = document.createRange();
  range.selectNodeContents(element);
  const selection = window.getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
}

async function copy(button) {
  const line = byId(button.dataset.copy);
  let done = false;
  try {
    await navigator.clipboard.writeText(line.textContent);
    done = true;
  } catch (refused) {
    // The clipboard is there for https and localhost alone: elsewhere the old way, on the selected line.
    select(line);
    done = document.execCommand("copy");
  }
  button.textContent = done ? "Copied" : "Press Ctrl+C";
  say(done ? "The line is in the clipboard." : "The line is selected: copy it with Control and C.");
  window.setTimeout(() => { button.textContent = "Copy"; }, 2500);
}

function setUpCopying() {
  for (const button of document.querySelectorAll("button.copy")) button.hidden = false;
  document.addEventListener("click", (event) => {
    const button = event.target.closest && event.target.closest("button.copy");
    if (button) copy(button);
  });
}

// --- the address keeps what was chosen --------------------------------------------------------------------------

function isPlaceOnly() {
  return window.location.hash !== "" && !window.location.hash.includes("=");
}

function chosenInAddress() {
  return new URLSearchParams(isPlaceOnly() ? "" : window.location.hash.slice(1));
}

function keepInAddress(names, values) {
  const kept = chosenInAddress();
  for (const name of names) {
    if (values[name]) kept.set(name, values[name]);
    else kept.delete(name);
  }
  const text = kept.toString();
  const here = window.location.pathname + window.location.search;
  // Replaced, not added: a filter is not a place to go back to.
  window.history.replaceState(null, "", text ? `#${text}` : here);
}

function choose(field, value) {
  const known = field.tagName !== "SELECT" || [...field.options].some((option) => option.value === value);
  field.value = known ? value : "";
}

// --- the question -----------------------------------------------------------------------------------------------

const ASKED = ["board", "python", "package"];
let lines = 0;

function lineBox(text, label) {
  const name = `answer-${(lines += 1)}`;
  const button = make("button", { type: "button", class: "copy", "data-copy": name, "aria-label": `Copy: ${label}` }, "Copy");
  return make("div", { class: "line" }, make("pre", {}, make("code", { id: name }, text)), button);
}

function chips(words) {
  return words.map((word) => make("span", { class: "chip" }, word));
}

function offerBox(answer, offer) {
  const name = `${answer.p} ${offer.v}`;
  const box = make("div", { class: "offer" });
  const what = make("p", { class: "what" }, make("a", { href: offer.h }, name), " ", ...chips(offer.f));
  if (offer.c) what.append(" ", make("span", { class: "small" }, `for ${offer.c}`));
  what.append(" ", make("span", { class: "small" }, offer.z));
  box.append(what);
  if (offer.a) {
    box.append(make("p", { class: "step" }, "The system's own libraries first:"), lineBox(offer.a, `packages that ${name} wants`));
  }
  box.append(lineBox(offer.l, `the line that installs ${name}`));
  for (const said of offer.s) box.append(make("p", { class: "small" }, said));
  return box;
}

function address(board, python, name) {
  const asked = new URLSearchParams({ board, python });
  if (name) asked.set("package", name);
  return `#${asked}`;
}

function absentBox(answer, shown) {
  const box = make("div", { class: "absence" });
  const mark = make("span", { "aria-hidden": "true" }, shown.symbols[answer.s]);
  const state = make("span", { class: `state ${shown.classes[answer.s]}` }, mark, ` ${answer.s}`);
  const said = make("p", {}, state, " ", answer.t);
  if (answer.h) said.append(" ", make("a", { href: answer.h }, "More", make("span", { class: "unseen" }, ` of ${answer.p}`)));
  box.append(said);
  if (answer.w.length) box.append(make("ul", { class: "small" }, ...answer.w.map((why) => make("li", {}, why))));
  if (answer.n.length) {
    const near = make("p", { class: "small" }, "Nearest: ");
    answer.n.forEach((each, index) => {
      near.append(index ? "; " : "", make("a", { href: address(each.b, each.p, answer.p) }, each.t));
    });
    box.append(near);
  }
  if (answer.b) box.append(make("p", { class: "small" }, "To build it: ", make("code", {}, answer.b)));
  return box;
}

function answerFor(shown, board, python, name) {
  const place = byId("answer");
  place.textContent = "";
  place.hidden = !board;
  if (!board) return;
  if (!python) {
    place.append(make("p", { class: "empty" }, `Which Python? ${board.short} has ${board.pythons.join(", ")}: python3 --version tells.`));
    return;
  }
  const all = board.answers[python];
  if (!all) {
    const has = board.pythons.map((each) => make("a", { href: address(board.id, each, name) }, `Python ${each}`));
    const said = make("p", { class: "empty" }, `There are no wheels for ${board.short} with Python ${python}. `);
    if (has.length) said.append("Its systems have ", ...has.flatMap((link, index) => (index ? [", ", link] : [link])), ".");
    place.append(said);
    return;
  }
  const asked = name ? all.filter((answer) => answer.p === name) : all;
  const there = asked.filter((answer) => answer.o.length);
  const absent = asked.filter((answer) => !answer.o.length);
  if (!there.length && !name) {
    place.append(make("p", { class: "empty" }, `There is no wheel for ${board.short} with Python ${python} yet.`));
  }
  for (const answer of there) {
    const offers = name ? answer.o : answer.o.slice(0, 1);
    place.append(...offers.map((offer) => offerBox(answer, offer)));
  }
  if (absent.length) {
    const boxes = absent.map((answer) => absentBox(answer, shown));
    if (name) place.append(...boxes);
    else {
      const count = absent.length === 1 ? "One package is" : `${absent.length} packages are`;
      const more = make("details", { class: "absent" }, make("summary", {}, `${count} not there, and why`), ...boxes);
      more.open = !there.length;
      place.append(more);
    }
  }
  if (there.length) {
    if (board.managed.includes(python)) {
      const fails = make("p", { class: "small" }, "Where pip says ", make("code", {}, "externally-managed-environment"), ": ");
      fails.append(make("code", {}, `python${python} -m venv ~/wheels && . ~/wheels/bin/activate`), ", and the line again.");
      place.append(fails);
    }
    place.append(make("p", { class: "small" }, make("a", { href: board.page }, `All versions for ${board.short}`)));
  }
}

function setUpQuestion() {
  const form = byId("question");
  if (!form) return;
  const shown = JSON.parse(byId("data").textContent);
  const boards = new Map(shown.boards.map((board) => [board.id, board]));
  const fields = Object.fromEntries(ASKED.map((name) => [name, byId(`ask-${name}`)]));
  const everyPython = [...fields.python.options].map((option) => option.value).filter(Boolean);
  form.hidden = false;

  function listPythons(board, wanted) {
    const option = (python) => make("option", { value: python }, python);
    const own = board ? board.pythons : [];
    const others = everyPython.filter((python) => !own.includes(python));
    fields.python.replaceChildren(make("option", { value: "" }, "…"));
    if (board) {
      fields.python.append(make("optgroup", { label: "this board has" }, ...own.map(option)));
      fields.python.append(make("optgroup", { label: "others" }, ...others.map(option)));
    } else fields.python.append(...others.map(option));
    choose(fields.python, wanted || (own.length === 1 ? own[0] : ""));
  }

  function answer() {
    answerFor(shown, boards.get(fields.board.value), fields.python.value, fields.package.value);
  }

  function fromAddress() {
    const kept = chosenInAddress();
    choose(fields.board, kept.get("board") || "");
    listPythons(boards.get(fields.board.value), kept.get("python") || "");
    choose(fields.package, kept.get("package") || "");
    answer();
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", (event) => {
    if (event.target === fields.board) listPythons(boards.get(fields.board.value), "");
    keepInAddress(ASKED, Object.fromEntries(ASKED.map((name) => [name, fields[name].value])));
    answer();
  });
  window.addEventListener("hashchange", () => {
    if (isPlaceOnly()) return; // a link to a part of the page: what was chosen stays
    fromAddress();
    if (chosenInAddress().has("board")) byId("ask").scrollIntoView();
  });
  fromAddress();
}

// --- the table --------------------------------------------------------------------------------------------------

const FILTERS = { q: "q", on: "board", py: "python", feature: "feature", state: "state" };

function readTable(table) {
  const heads = [...table.tHead.rows[1].cells];
  const groups = [...table.tHead.rows[0].cells].slice(1);
  let next = 0;
  const spans = groups.map((group) => {
    const first = next;
    next += group.colSpan;
    return { group, first, end: next };
  });
  const columns = heads.map((head) => ({
    head, board: head.dataset.b, python: head.dataset.p, text: head.dataset.t.toLowerCase(),
  }));
  const rows = [...table.tBodies[0].rows].map((row) => ({
    row,
    features: row.dataset.f ? row.dataset.f.split(" ") : [],
    text: row.dataset.t.toLowerCase(),
    cells: [...row.cells].slice(1).map((cell) => ({ cell, state: cell.lastChild ? stateOf(cell) : "", off: false, hidden: false })),
    hidden: false,
  }));
  return { columns, rows, spans };
}

function stateOf(cell) {
  return cell.textContent.trim().replace(/^\S+\s+/, "");
}

function setHidden(item, element, hidden) {
  if (item.hidden === hidden) return;
  item.hidden = hidden;
  element.hidden = hidden;
}

function applyFilter(read, wanted) {
  const words = wanted.q.toLowerCase().split(/\s+/).filter(Boolean);
  const columnFits = read.columns.map((column) =>
    (!wanted.on || column.board === wanted.on) && (!wanted.py || column.python === wanted.py));
  const columnUsed = read.columns.map(() => false);
  const found = new Map();
  const fitting = read.rows.map((row) => {
    const rowFits = !wanted.feature || row.features.includes(wanted.feature);
    const left = words.filter((word) => !row.text.includes(word));
    return row.cells.map((item, index) => {
      const fits = rowFits && columnFits[index] && (!wanted.state || item.state === wanted.state)
        && left.every((word) => read.columns[index].text.includes(word));
      if (fits) {
        columnUsed[index] = true;
        found.set(item.state, (found.get(item.state) || 0) + 1);
      }
      return fits;
    });
  });
  read.columns.forEach((column, index) => { column.head.hidden = !columnUsed[index]; });
  for (const { group, first, end } of read.spans) {
    const used = columnUsed.slice(first, end).filter(Boolean).length;
    group.hidden = used === 0;
    if (used) group.colSpan = used;
  }
  read.rows.forEach((row, at) => {
    setHidden(row, row.row, !fitting[at].some(Boolean));
    if (row.hidden) return;
    row.cells.forEach((item, index) => {
      setHidden(item, item.cell, !columnUsed[index]);
      const off = !fitting[at][index];
      if (item.off !== off) item.cell.classList.toggle("off", off);
      item.off = off;
    });
  });
  return found;
}

function tell(found, total) {
  const count = [...found.values()].reduce((sum, each) => sum + each, 0);
  const parts = ["built", "failed", "refused", "never tried"].filter((state) => found.get(state))
    .map((state) => `${found.get(state).toLocaleString("en")} ${state}`);
  const all = total.toLocaleString("en");
  if (!count) return `None of ${all} cells fits.`;
  const shown = count === total ? `All ${all} cells` : `${count.toLocaleString("en")} of ${all} cells`;
  return `${shown}: ${parts.join(", ")}.`;
}

function setUpFilter() {
  const form = byId("filter");
  if (!form) return;
  const read = readTable(byId("table"));
  const total = read.rows.length * read.columns.length;
  const fields = Object.fromEntries(Object.entries(FILTERS).map(([key, name]) => [key, byId(`filter-${name}`)]));
  form.hidden = false;

  const values = () => Object.fromEntries(Object.entries(fields).map(([key, field]) => [key, field.value.trim()]));

  function apply(keep) {
    const wanted = values();
    byId("count").textContent = tell(applyFilter(read, wanted), total);
    if (keep) keepInAddress(Object.keys(FILTERS), wanted);
  }

  function fromAddress() {
    const kept = chosenInAddress();
    for (const [key, field] of Object.entries(fields)) choose(field, kept.get(key) || "");
    apply(false);
  }

  let waiting = 0;
  form.addEventListener("submit", (event) => event.preventDefault());
  const soon = () => {
    window.clearTimeout(waiting);
    waiting = window.setTimeout(() => apply(true), 120);
  };
  form.addEventListener("input", soon);
  form.addEventListener("change", soon);
  form.addEventListener("reset", () => window.setTimeout(() => apply(true), 0));
  for (const tile of document.querySelectorAll("a.tile")) {
    tile.addEventListener("click", (event) => {
      event.preventDefault();
      choose(fields.state, fields.state.value === tile.dataset.state ? "" : tile.dataset.state);
      apply(true);
    });
  }
  window.addEventListener("hashchange", () => { if (!isPlaceOnly()) fromAddress(); });
  fromAddress();
  if (Object.keys(FILTERS).some((key) => chosenInAddress().has(key)) && !chosenInAddress().has("board")) {
    byId("matrix").scrollIntoView();
  }
}

// --- the keyboard -----------------------------------------------------------------------------------------------

const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

function setUpKeys() {
  const table = byId("table");
  if (!table) return;
  table.addEventListener("keydown", (event) => {
    const move = MOVES[event.key];
    const from = event.target.closest && event.target.closest("tbody td");
    if (!move || !from || event.ctrlKey || event.metaKey || event.altKey) return;
    const rows = [...table.tBodies[0].rows];
    let row = rows.indexOf(from.parentElement) + move[0];
    let column = from.cellIndex + move[1];
    for (; rows[row] && rows[row].cells[column]; row += move[0], column += move[1]) {
      const link = rows[row].cells[column].querySelector("a");
      if (link && link.offsetParent !== null) {
        event.preventDefault();
        link.focus();
        link.scrollIntoView({ block: "nearest", inline: "nearest" });
        return;
      }
    }
  });
}

setUpTheme();
setUpCopying();
setUpQuestion();
setUpFilter();
setUpKeys();
