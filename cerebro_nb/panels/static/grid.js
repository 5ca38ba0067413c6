// A table of many rows that grows while it is looked at. Rows arrive as messages; only those in sight are in the page.
// Whatever a model wrote is put into the page as text (textContent, value), never as HTML.

const ROW = 44; // pixels; grid.css says the same
const BESIDE = 8; // rows kept ready above and below those in sight

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

let grids = 0;

function render({ model, el }) {
  const prefix = `cerebro-grid-${++grids}`;
  const label = (name) => model.get("labels")[name] ?? name;
  const rows = new Map(); // id -> row
  const selected = new Set(model.get("selected"));
  let visible = []; // the rows that fit the search, in the order shown
  let active = null; // the row the keyboard is at
  let open = null; // the row whose details are shown
  let sort = { name: "", ascending: true };
  let stale = false;

  // --- the bar

  const search = make("input", { type: "search", id: `${prefix}-search`, oninput: () => changed() });
  const status = make("select", { id: `${prefix}-status`, onchange: () => changed() });
  const count = make("span", { class: "cerebro-count", role: "status" });
  const buttons = make("span", { class: "cerebro-actions", role: "group", "aria-label": label("actions") });
  const bar = make(
    "div",
    { class: "cerebro-bar" },
    make("label", { for: search.id, text: label("search") }),
    search,
    make("label", { for: status.id, text: label("show") }),
    status,
    buttons,
    count,
  );

  function drawBar() {
    status.replaceChildren(make("option", { value: "", text: label("all") }));
    for (const name of model.get("statuses")) status.append(make("option", { value: name, text: label(name) }));
    status.hidden = status.previousElementSibling.hidden = model.get("statuses").length === 0;
    buttons.replaceChildren(
      ...model.get("actions").map((action) =>
        make("button", {
          type: "button",
          class: `cerebro-button ${action.danger ? "cerebro-danger" : ""}`,
          "data-action": action.name,
          text: action.label,
          onclick: () => model.send({ type: "action", name: action.name, ids: [...selected] }),
        }),
      ),
    );
    drawCount();
  }

  function drawCount() {
    const parts = [`${visible.length.toLocaleString()} / ${rows.size.toLocaleString()}`];
    if (selected.size) parts.push(`${selected.size.toLocaleString()} ${label("selected")}`);
    const text = parts.join(" · ");
    if (count.textContent !== text) count.textContent = text;
    for (const action of model.get("actions")) {
      const button = buttons.querySelector(`[data-action="${action.name}"]`);
      const fits = { any: true, some: selected.size > 0, one: selected.size === 1, two: selected.size === 2 };
      if (button) button.disabled = !fits[action.needs];
    }
  }

  // --- the grid

  const everything = make("input", { type: "checkbox", "aria-label": label("select all"), onchange: selectAll });
  const head = make("div", { role: "row", class: "cerebro-row cerebro-head", "aria-rowindex": 1 });
  const body = make("div", { role: "rowgroup", class: "cerebro-body" });
  const empty = make("p", { class: "cerebro-empty", text: label("empty") });
  const grid = make(
    "div",
    {
      role: "grid",
      class: "cerebro-scroll",
      tabindex: 0,
      "aria-label": label("table"),
      "aria-multiselectable": "true",
      onscroll: () => soon(),
      onkeydown: keyed,
    },
    make("div", { role: "rowgroup", class: "cerebro-headgroup" }, head),
    body,
  );
  const detail = make("section", { class: "cerebro-detail", "aria-label": label("details"), hidden: true });

  function drawHead() {
    const columns = model.get("columns");
    const widths = ["36px", ...columns.map((one) => one.width)];
    const least = widths.reduce((sum, width) => sum + Number(width.match(/(\d+)px/)[1]), 0);
    el.style.setProperty("--cerebro-columns", widths.join(" "));
    el.style.setProperty("--cerebro-least", `${least}px`);
    const cells = columns.map((column) => {
      const sorted = sort.name !== column.name ? "none" : sort.ascending ? "ascending" : "descending";
      const arrow = { none: "", ascending: " ▲", descending: " ▼" }[sorted];
      const button = make("button", { type: "button", text: column.label, onclick: () => sortBy(column.name) });
      button.append(make("span", { "aria-hidden": "true", text: arrow }));
      return make("div", { role: "columnheader", class: "cerebro-cell", "aria-sort": sorted }, button);
    });
    head.replaceChildren(make("div", { role: "columnheader", class: "cerebro-cell" }, everything), ...cells);
    grid.setAttribute("aria-colcount", columns.length + 1);
  }

  function drawRows() {
    stale = false;
    empty.hidden = rows.size > 0;
    grid.hidden = rows.size === 0;
    grid.setAttribute("aria-rowcount", visible.length + 1);
    body.style.height = `${visible.length * ROW}px`;
    const first = Math.max(0, Math.floor(grid.scrollTop / ROW) - BESIDE);
    const last = Math.min(visible.length, Math.ceil((grid.scrollTop + grid.clientHeight) / ROW) + BESIDE);
    const drawn = [];
    for (let place = first; place < last; place++) drawn.push(drawRow(visible[place], place));
    body.replaceChildren(...drawn);
    const there = active != null && document.getElementById(`${prefix}-${active}`);
    if (there) grid.setAttribute("aria-activedescendant", there.id);
    else grid.removeAttribute("aria-activedescendant");
    everything.checked = visible.length > 0 && visible.every((row) => selected.has(row.id));
    drawCount();
  }

  function drawRow(row, place) {
    const box = make("input", {
      type: "checkbox",
      tabindex: -1,
      "aria-label": `${label("select")} ${row.cells[0]}`,
      onclick: (event) => event.stopPropagation(),
      onchange: () => toggle(row.id),
    });
    box.checked = selected.has(row.id);
    const cells = model.get("columns").map((column, number) => {
      const text = column.translated ? (row.cells[number] ? label(row.cells[number]) : "") : row.cells[number];
      return make(
        "div",
        { role: "gridcell", class: `cerebro-cell ${column.number ? "cerebro-number" : ""}` },
        make("span", { class: "cerebro-text", dir: "auto", text }),
      );
    });
    const drawn = make(
      "div",
      {
        role: "row",
        id: `${prefix}-${row.id}`,
        class: "cerebro-row",
        "data-id": row.id,
        "data-status": row.status,
        "data-mark": row.mark ?? "",
        "aria-rowindex": place + 2,
        "aria-selected": String(selected.has(row.id)),
        onclick: () => {
          active = row.id;
          openRow(row.id);
        },
      },
      make("div", { role: "gridcell", class: "cerebro-cell" }, box),
      ...cells,
    );
    if (row.id === active) drawn.classList.add("cerebro-active");
    drawn.style.top = `${place * ROW}px`;
    return drawn;
  }

  // --- what is shown, in which order

  function arrange() {
    const wanted = search.value.toLocaleLowerCase();
    const only = status.value;
    const number = model.get("columns").findIndex((column) => column.name === sort.name);
    visible = [...rows.values()].filter(
      (row) =>
        (!only || row.status === only || row.mark === only) &&
        (!wanted || row.cells.some((cell) => cell.toLocaleLowerCase().includes(wanted))),
    );
    if (number >= 0) {
      const numeric = model.get("columns")[number].number;
      const compare = new Intl.Collator(undefined, { numeric: true }).compare;
      const by = (row) => row.cells[number];
      visible.sort((a, b) => (numeric ? Number(by(a)) - Number(by(b)) : compare(by(a), by(b))));
      if (!sort.ascending) visible.reverse();
    }
  }

  function soon() {
    if (stale) return;
    stale = true;
    requestAnimationFrame(drawRows);
  }

  function changed() {
    arrange();
    model.set("search", search.value);
    model.set("status", status.value);
    model.set("sort_by", sort.name);
    model.set("ascending", sort.ascending);
    model.save_changes();
    soon();
  }

  function sortBy(name) {
    sort = { name, ascending: sort.name === name ? !sort.ascending : true };
    drawHead();
    changed();
  }

  // --- selecting

  function told() {
    model.set("selected", [...selected]);
    model.save_changes();
    soon();
  }

  function toggle(id) {
    selected.has(id) ? selected.delete(id) : selected.add(id);
    told();
  }

  function selectAll() {
    for (const row of visible) everything.checked ? selected.add(row.id) : selected.delete(row.id);
    told();
  }

  function keyed(event) {
    if (event.target !== grid || !visible.length) return;
    const page = Math.max(1, Math.floor(grid.clientHeight / ROW) - 2);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    const place = visible.findIndex((row) => row.id === active);
    if (event.key in steps) {
      const next = Math.min(visible.length - 1, Math.max(0, place + steps[event.key]));
      active = visible[next].id;
      const [top, bottom] = [next * ROW, (next + 2) * ROW]; // the head covers one row
      if (top < grid.scrollTop) grid.scrollTop = top;
      else if (bottom > grid.scrollTop + grid.clientHeight) grid.scrollTop = bottom - grid.clientHeight;
      soon();
    } else if (event.key === "Enter" && place >= 0) openRow(active);
    else if (event.key === " " && place >= 0) toggle(active);
    else return;
    event.preventDefault();
  }

  // --- one row, opened

  function openRow(id) {
    soon();
    if (!model.get("opens")) return;
    open = id;
    model.send({ type: "open", id });
  }

  function close() {
    open = null;
    detail.hidden = true;
    grid.focus();
  }

  function drawDetail(told) {
    const fields = told.fields.map(([name, text], number) => {
      const area = make("textarea", { id: `${prefix}-field-${number}`, rows: Math.min(12, 2 + text.length / 90) });
      area.value = text;
      area.dir = "auto";
      return { name, area, parts: [make("label", { for: area.id, text: name }), area] };
    });
    const edited = () => Object.fromEntries(fields.map(({ name, area }) => [name, area.value]));
    const act = (name, text, more = () => ({})) =>
      make("button", {
        type: "button",
        class: "cerebro-button",
        "data-action": name,
        text,
        onclick: () => model.send({ type: name, id: told.id, ...more() }),
      });
    const actions = fields.length
      ? [
          act("edit", label("save"), () => ({ output: edited() })),
          ...(told.edited ? [act("restore", label("restore"))] : []),
          act("accept", label("accept")),
          act("reject", label("reject")),
        ]
      : [];
    const sections = told.sections.flatMap(([title, text]) => [
      make("h4", { text: title }),
      make("pre", { text, dir: "auto", tabindex: 0 }),
    ]);
    const shut = make("button", { type: "button", class: "cerebro-button", text: label("close"), onclick: close });
    detail.replaceChildren(
      make("div", { class: "cerebro-bar" }, make("h3", { text: told.title }), ...actions, shut),
      ...fields.flatMap((field) => field.parts),
      ...sections,
    );
    detail.onkeydown = (event) => event.key === "Escape" && close();
    detail.hidden = false;
    shut.focus({ preventScroll: true });
    detail.scrollIntoView({ block: "nearest" });
  }

  // --- what Python says

  const heard = {
    rows: (told) => {
      const plain = !search.value && !status.value && !sort.name;
      const grows = plain && told.rows.every((row) => !rows.has(row.id));
      for (const row of told.rows) rows.set(row.id, row);
      if (grows && (!visible.length || told.sorted)) visible.push(...told.rows);
      else arrange();
      soon();
    },
    clear: () => {
      rows.clear();
      selected.clear();
      visible = [];
      active = open = null;
      detail.hidden = true;
      soon();
    },
    detail: (told) => told.id === open && drawDetail(told),
  };
  const hear = (told) => heard[told.type]?.(told);
  const unselect = () => {
    const now = model.get("selected");
    if (now.length === selected.size && now.every((id) => selected.has(id))) return;
    selected.clear();
    for (const id of now) selected.add(id);
    soon();
  };
  const redraw = () => {
    drawHead();
    arrange();
    soon();
  };
  model.on("msg:custom", hear);
  model.on("change:columns", redraw);
  model.on("change:actions", drawBar);
  model.on("change:selected", unselect);

  el.classList.add("cerebro-grid");
  el.style.setProperty("--cerebro-height", model.get("height"));
  el.append(bar, empty, grid, detail);
  drawBar();
  drawHead();
  drawRows();
  const sized = new ResizeObserver(() => soon());
  sized.observe(grid);
  model.send({ type: "ready" });
  return () => {
    sized.disconnect();
    model.off("msg:custom", hear);
    model.off("change:columns", redraw);
    model.off("change:actions", drawBar);
    model.off("change:selected", unselect);
  };
}

export default { render };
