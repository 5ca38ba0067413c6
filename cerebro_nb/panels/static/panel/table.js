// A table of many rows of one height: those in sight are in the page, and are patched when they change.

import { fresh, make, set, write } from "./dom.js";

const ROW = 44; // pixels; panel.css says the same
const BESIDE = 8; // rows kept ready above and below those in sight
const LEAST = 48; // pixels of a column

export function table({ speak, title, empty, onOpen, onToggle, onToggleAll, onSort, onKey }) {
  const { say } = speak;
  const prefix = fresh("table");
  const drawn = new Map(); // id -> the row's element and its cells
  let state = { rows: [], columns: [], selected: new Set(), active: null, sort: "", ascending: true, total: 0 };
  let widths = {};
  let waiting = false;

  const everything = make("input", { type: "checkbox", "aria-label": say("Select all that are shown"), onchange: () => onToggleAll(everything.checked) });
  const head = make("div", { role: "row", class: "cb-row cb-head", "aria-rowindex": 1 });
  const body = make("div", { role: "rowgroup", class: "cb-body" });
  const nothing = make("p", { class: "cb-empty", text: empty });
  const grid = make(
    "div",
    { role: "grid", class: "cb-scroll", tabindex: 0, "aria-label": title, "aria-multiselectable": "true", onscroll: soon, onkeydown: keyed },
    make("div", { role: "rowgroup", class: "cb-headgroup" }, head),
    body,
  );
  const el = make("div", { class: "cb-table" }, grid, nothing);
  const watcher = new ResizeObserver(soon);
  watcher.observe(grid);

  function layOut() {
    const found = ["40px", ...state.columns.map((column) => (widths[column.name] ? `${widths[column.name]}px` : column.width))];
    const least = found.reduce((sum, width) => sum + Number(width.match(/(\d+)px/)[1]), 0);
    grid.style.setProperty("--cb-columns", found.join(" "));
    grid.style.setProperty("--cb-least", `${least}px`);
  }

  function drawHead() {
    const cells = state.columns.map((column) => {
      const sorted = state.sort !== column.name ? "none" : state.ascending ? "ascending" : "descending";
      const button = make("button", { type: "button", "data-column": column.name, onclick: () => onSort(column.name) }, column.label);
      button.append(make("span", { "aria-hidden": "true", text: { none: "", ascending: " ▲", descending: " ▼" }[sorted] }));
      return make("div", { role: "columnheader", class: "cb-cell", "aria-sort": sorted }, button, resizer(column));
    });
    const focused = document.activeElement?.dataset?.column;
    head.replaceChildren(make("div", { role: "columnheader", class: "cb-cell" }, everything), ...cells);
    if (focused) head.querySelector(`[data-column="${CSS.escape(focused)}"]`)?.focus();
    set(grid, "aria-colcount", state.columns.length + 1);
    layOut();
  }

  function resizer(column) {
    const handle = make("span", { class: "cb-resizer", "aria-hidden": "true" });
    const resize = (width) => {
      widths = { ...widths, [column.name]: Math.round(Math.max(LEAST, width)) };
      layOut();
      remember();
    };
    handle.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      const [start, before] = [event.clientX, handle.parentElement.offsetWidth];
      const move = (now) => resize(before + now.clientX - start);
      handle.setPointerCapture(event.pointerId);
      handle.addEventListener("pointermove", move);
      handle.addEventListener("pointerup", () => handle.removeEventListener("pointermove", move), { once: true });
    });
    handle.addEventListener("dblclick", () => {
      delete widths[column.name];
      layOut();
      remember();
    });
    return handle;
  }

  let remember = () => {};

  function soon() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(draw);
  }

  function draw() {
    waiting = false;
    const { rows, active } = state;
    nothing.hidden = rows.length > 0;
    write(nothing, state.total ? say("Nothing fits the filters.") : empty);
    grid.hidden = rows.length === 0;
    set(grid, "aria-rowcount", rows.length + 1);
    body.style.height = `${rows.length * ROW}px`;
    const first = Math.max(0, Math.floor(grid.scrollTop / ROW) - BESIDE);
    const last = Math.min(rows.length, Math.ceil((grid.scrollTop + grid.clientHeight) / ROW) + BESIDE);
    const kept = new Set(rows.slice(first, last).map((row) => row.id));
    for (const [id, { row }] of drawn) {
      if (kept.has(id)) continue;
      row.remove();
      drawn.delete(id);
    }
    // A screen reader reads rows as they stand in the page, wherever they are drawn.
    for (let place = first; place < last; place++) {
      const row = patch(rows[place], place);
      const there = body.children[place - first] ?? null;
      if (there !== row) body.insertBefore(row, there);
    }
    set(grid, "aria-activedescendant", drawn.has(active) ? `${prefix}-${active}` : null);
    const chosen = rows.filter((row) => state.selected.has(row.id)).length;
    everything.checked = rows.length > 0 && chosen === rows.length;
    everything.indeterminate = chosen > 0 && chosen < rows.length;
  }

  function patch(row, place) {
    let there = drawn.get(row.id);
    if (!there || there.columns !== state.columns) {
      there?.row.remove();
      there = begin(row);
      drawn.set(row.id, there);
    }
    const chosen = state.selected.has(row.id);
    state.columns.forEach((column, number) => {
      const text = row.cells[column.place ?? number] ?? "";
      write(there.cells[number], column.translated && text ? say(text.replaceAll("_", " ")) : text);
    });
    there.box.checked = chosen;
    set(there.row, "data-status", row.status);
    set(there.row, "data-mark", row.mark ?? "");
    set(there.row, "data-edited", row.edited ? "yes" : null);
    set(there.row, "aria-rowindex", place + 2);
    set(there.row, "aria-selected", String(chosen));
    there.row.classList.toggle("cb-active", row.id === state.active);
    const top = `${place * ROW}px`;
    if (there.row.style.top !== top) there.row.style.top = top;
    return there.row;
  }

  function begin({ id, cells: [name] }) {
    const box = make("input", { type: "checkbox", tabindex: -1, "aria-label": say("Select {name}", { name }), onclick: (event) => event.stopPropagation(), onchange: () => onToggle(id) });
    const cells = state.columns.map(() => make("span", { class: "cb-text", dir: "auto" }));
    const row = make(
      "div",
      { role: "row", id: `${prefix}-${id}`, class: "cb-row", "data-id": id, onclick: () => onOpen(id) },
      make("div", { role: "gridcell", class: "cb-cell" }, box),
      ...state.columns.map((column, number) => make("div", { role: "gridcell", class: `cb-cell ${column.number ? "cb-number" : ""}` }, cells[number])),
    );
    return { row, box, cells, columns: state.columns };
  }

  function keyed(event) {
    if (event.target === grid) onKey(event);
  }

  return {
    el,
    focus: () => grid.focus({ preventScroll: true }),
    isFocused: () => document.activeElement === grid,
    page: () => Math.max(1, Math.floor(grid.clientHeight / ROW) - 2),
    show(next) {
      const before = state;
      state = { ...state, ...next };
      if (before.columns !== state.columns || before.sort !== state.sort || before.ascending !== state.ascending) drawHead();
      soon();
    },
    reveal(id) {
      const place = state.rows.findIndex((row) => row.id === id);
      if (place < 0) return;
      const [top, head] = [place * ROW, ROW];
      if (top < grid.scrollTop) grid.scrollTop = top;
      else if (top + ROW + head > grid.scrollTop + grid.clientHeight) grid.scrollTop = top + ROW + head - grid.clientHeight;
      soon();
    },
    remembered(kept, told) {
      widths = kept ?? {};
      remember = () => told(widths);
      layOut();
    },
    stop: () => watcher.disconnect(),
  };
}
