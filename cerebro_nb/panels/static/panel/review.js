// Review: the table left, the open row right; filters above; keys for everything.

import { detail } from "./detail.js";
import { choice, isTyping, labelled, make, set, write } from "./dom.js";
import { CHIPS, History, arranged, beside, counted, distinct, noFilter, reached } from "./rows.js";
import { table } from "./table.js";
import { toaster } from "./toast.js";

function spoken(say) {
  return {
    names: {
      all: say("All"), review: say("To review"), accepted: say("Accepted"), rejected: say("Rejected"),
      refused: say("Refused by gates"), failed: say("Failed"), edited: say("Edited"),
    },
    did: { accepted: say("Accepted"), rejected: say("Rejected"), null: say("Mark cleared") },
  };
}

export function review({ speak, send: toKernel, store, title, empty }) {
  const { say, number } = speak;
  const { names, did } = spoken(say);
  const rows = new Map(); // id -> row, of one task
  const history = new History();
  let generation = -1;
  const send = (message) => toKernel({ ...message, generation }); // of the task that is shown, whatever the kernel shows by now
  let columns = [];
  let hidden = new Set();
  let filter = noFilter();
  let visible = [];
  let selected = new Set();
  let active = null;
  let place = 0; // where the active row stood, should it be filtered out

  // --- above the table

  const chips = Object.fromEntries(CHIPS.map((chip) => [chip, chipButton(chip)]));
  const search = make("input", { type: "search", oninput: () => filtered({ search: search.value }) });
  const gate = make("select", { onchange: () => filtered({ gate: gate.value }) });
  const topic = make("select", { onchange: () => filtered({ topic: topic.value }) });
  const least = choice([["0", say("any")], ...["2", "3", "4", "5"].map((score) => [score, score])], {
    onchange: () => filtered({ least: Number(least.value) }),
  });
  const filters = {
    gate: labelled(say("Gate"), gate),
    topic: labelled(say("Topic"), topic),
    least: labelled(say("Score at least"), least),
  };
  const columnList = make("div", { class: "cb-menu" });
  const columnMenu = make("details", { class: "cb-columns" }, make("summary", { class: "cb-button", text: say("Columns") }), columnList);
  const undoButton = make("button", { type: "button", class: "cb-button", "aria-keyshortcuts": "u", text: say("Undo"), onclick: () => undo() });
  const count = make("span", { class: "cb-count", role: "status" });
  const bulk = make(
    "div",
    { class: "cb-bulk", role: "group", "aria-label": say("The selected answers"), hidden: true },
    make("span", { class: "cb-reached" }),
    bulkButton(say("Accept"), "accepted"),
    bulkButton(say("Reject"), "rejected"),
    bulkButton(say("Clear marks"), null),
  );
  const help = make(
    "dialog",
    { class: "cb-help", "aria-label": say("Keys") },
    make("h3", { text: say("Keys") }),
    make(
      "dl",
      {},
      [
        ["j / k", say("next, previous")],
        ["a", say("accept, and go on")],
        ["r", say("reject, and go on")],
        ["c", say("clear the mark")],
        ["e", say("edit; Esc leaves")],
        ["u", say("undo")],
        ["x", say("select")],
        ["/", say("search")],
        ["?", say("these keys")],
      ].flatMap(([key, does]) => [make("dt", {}, make("kbd", { text: key })), make("dd", { text: does })]),
    ),
    make("form", { method: "dialog" }, make("button", { class: "cb-button", text: say("Close") })),
  );
  help.addEventListener("close", () => list.focus());
  const toast = toaster(speak, () => undo());

  function chipButton(chip) {
    const amount = make("b");
    const button = make("button", { type: "button", class: "cb-chip", "data-chip": chip, onclick: () => filtered({ chip }) }, make("span", { text: names[chip] }), amount);
    return { button, amount };
  }

  function bulkButton(text, mark) {
    return make("button", { type: "button", class: "cb-button", "data-mark": mark ?? "none", text, onclick: () => markAll(mark) });
  }

  // --- the table and the open row

  const list = table({
    speak,
    title,
    empty,
    onOpen: (id) => open(id),
    onToggle: toggle,
    onToggleAll: (isOn) => {
      for (const row of visible) isOn ? selected.add(row.id) : selected.delete(row.id);
      draw();
    },
    onSort: (name) => filtered({ sort: name, ascending: filter.sort === name ? !filter.ascending : true }),
    onKey: keyedInTable,
  });
  const shown = detail({
    speak,
    send,
    onMark: (id, mark) => markRows([id], mark, true),
    onEdited: (id, isEdited, undoIt) => {
      history.did(say("Edited {id}", { id }), undoIt);
      change(id, { edited: isEdited });
      toast.show(say("Kept: your edit of {id}", { id }));
    },
    onStep: step,
    onClose: close,
  });
  const bar = make("div", { class: "cb-bar" }, labelled(say("Search"), search), filters.gate, filters.topic, filters.least, columnMenu, undoButton, count);
  const el = make(
    "section",
    { class: "cb-review", "aria-label": title },
    make("div", { class: "cb-chips", role: "group", "aria-label": say("Show") }, CHIPS.map((chip) => chips[chip].button)),
    bar,
    bulk,
    make("div", { class: "cb-split" }, list.el, shown.el),
    toast.el,
    help,
  );
  el.addEventListener("keydown", keyed);

  // --- what is shown

  function filtered(change) {
    filter = { ...filter, ...change };
    arrange();
    draw();
    tell();
  }

  function tell() {
    const { chip, search: words, gate: by, topic: on, least: score, sort, ascending } = filter;
    send({ do: "look", chip, search: words, gate: by, topic: on, least: score, sort, ascending });
  }

  function arrange() {
    visible = arranged(rows.values(), filter, columns, speak);
    const at = visible.findIndex((row) => row.id === active);
    if (at >= 0) place = at;
  }

  let waiting = false;
  function soon() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      arrange();
      draw();
    });
  }

  function draw() {
    const counts = counted(rows.values());
    for (const chip of CHIPS) {
      const { button, amount } = chips[chip];
      write(amount, number(counts[chip]));
      set(button, "aria-pressed", String(filter.chip === chip));
      button.hidden = !counts[chip] && filter.chip !== chip && !["all", "review"].includes(chip);
    }
    options(gate, filters.gate, distinct(rows.values(), (row) => row.gates), filter.gate, (name) => say(name.replaceAll("_", " ")));
    options(topic, filters.topic, distinct(rows.values(), (row) => row.topic), filter.topic, (name) => name);
    filters.least.hidden = ![...rows.values()].some((row) => row.score != null);
    write(count, say("{shown} of {all}", { shown: visible.length, all: rows.size }));
    undoButton.disabled = !history.last;
    set(undoButton, "title", history.last || null);
    const { shown: chosen, hidden: beyond } = reached(visible, selected);
    bulk.hidden = !selected.size;
    const told = say("{count} selected", { count: chosen.length });
    write(bulk.firstChild, beyond ? `${told} · ${say("{count} not shown, left as they are", { count: beyond })}` : told);
    for (const button of bulk.querySelectorAll("button")) button.disabled = !chosen.length;
    const seen = columns.map((column, at) => ({ ...column, place: at })).filter((column) => !hidden.has(column.name));
    list.show({ rows: visible, columns: settled(seen), selected, active, sort: filter.sort, ascending: filter.ascending, total: rows.size });
    set(el, "data-open", shown.id == null ? null : "yes");
    el.style.setProperty("--cb-rows", visible.length);
  }

  let lastSeen = [];
  function settled(seen) {
    if (JSON.stringify(seen) !== JSON.stringify(lastSeen)) lastSeen = seen;
    return lastSeen;
  }

  const drawnOptions = new Map();
  function options(select, field, values, value, called) {
    field.hidden = !values.length;
    const key = JSON.stringify(values);
    if (drawnOptions.get(select) !== key) {
      drawnOptions.set(select, key);
      select.replaceChildren(make("option", { value: "", text: say("any") }), ...values.map((one) => make("option", { value: one, text: called(one) })));
    }
    select.value = value;
  }

  function drawColumns() {
    columnList.replaceChildren(
      ...columns.map((column) => {
        const box = make("input", {
          type: "checkbox",
          onchange: () => {
            box.checked ? hidden.delete(column.name) : hidden.add(column.name);
            store.keep("hidden", [...hidden]);
            draw();
          },
        });
        box.checked = !hidden.has(column.name);
        return make("label", {}, box, column.label);
      }),
    );
  }

  // --- what a reader does

  function change(id, what) {
    const row = rows.get(id);
    if (!row) return;
    rows.set(id, { ...row, ...what });
    shown.showRow(rows.get(id));
    soon();
  }

  function toggle(id) {
    selected.has(id) ? selected.delete(id) : selected.add(id);
    draw();
  }

  function markRows(ids, mark, goesOn = false) {
    const before = ids.map((id) => rows.get(id)).filter((row) => row?.status === "ok" && (row.mark ?? null) !== mark).map((row) => [row.id, row.mark ?? null]);
    if (goesOn) step(1, true);
    if (!before.length) return;
    apply(before.map(([id]) => [id, mark]));
    const said = before.length === 1 ? `${did[mark]}: ${before[0][0]}` : say("{did}: {count} answers", { did: did[mark], count: before.length });
    history.did(said, () => apply(before));
    toast.show(said);
  }

  function apply(marks) {
    for (const [id, mark] of marks) change(id, { mark });
    send({ do: "mark", marks });
  }

  function markAll(mark) {
    markRows(reached(visible, selected).shown.map((row) => row.id), mark);
    selected = new Set();
    draw();
    list.focus();
  }

  function undo() {
    shown.keep();
    const said = history.undo();
    if (said) toast.show(say("Undone: {what}", { what: said }), false);
    draw();
    if (!el.contains(document.activeElement)) list.focus();
  }

  function open(id) {
    active = id;
    arrange();
    send({ do: "read", id });
    list.reveal(id);
    draw();
  }

  function close() {
    shown.close();
    draw();
    list.focus();
  }

  function step(by, keepsFocus = false) {
    shown.keep();
    const id = active == null ? visible[0]?.id : beside(visible, active, by, place);
    if (id == null || id === active) return;
    const isIn = shown.el.contains(document.activeElement);
    open(id);
    if (isIn && !keepsFocus) list.focus();
  }

  function keyedInTable(event) {
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: list.page(), PageUp: -list.page(), Home: -Infinity, End: Infinity }[event.key];
    if (by === undefined || !visible.length) return;
    event.preventDefault();
    if (Number.isFinite(by)) step(by);
    else open(visible.at(by < 0 ? 0 : -1).id);
  }

  function keyed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    if (event.key === "Escape") {
      if (isTyping(event.target)) list.focus();
      else if (shown.id != null) close();
      return;
    }
    if (isTyping(event.target)) return;
    const acts = {
      j: () => step(1),
      k: () => step(-1),
      a: () => active != null && markRows([active], "accepted", true),
      r: () => active != null && markRows([active], "rejected", true),
      c: () => active != null && markRows([active], null),
      e: () => shown.edit(),
      u: undo,
      x: () => active != null && toggle(active),
      "/": () => search.focus(),
      "?": () => help.showModal(),
    };
    const act = acts[event.key] ?? (event.target.getAttribute("role") === "grid" ? { " ": acts.x, Enter: () => active != null && open(active) }[event.key] : undefined);
    if (!act) return;
    event.preventDefault();
    act();
  }

  // --- what the kernel tells

  function heard(message) {
    if (message.type === "task" && message.generation !== generation) begin(message);
    if (message.generation !== generation) return; // of a task that is not shown any more
    if (message.type === "columns") {
      columns = message.columns;
      drawColumns();
      soon();
    }
    if (message.type === "rows") {
      for (const row of message.rows) {
        rows.set(row.id, row);
        shown.showRow(row);
      }
      soon();
    }
    if (message.type === "detail" && message.id === active) {
      shown.show(rows.get(message.id) ?? message.row, message);
      draw();
    }
  }

  function begin(message) {
    shown.forget(); // with the number of the task that it is of
    generation = message.generation;
    rows.clear();
    history.forget();
    selected = new Set();
    active = null;
    columns = [];
    filter = { ...noFilter() };
    search.value = gate.value = topic.value = "";
    least.value = "0";
    hidden = new Set(store.kept("hidden", []));
    list.remembered(store.kept("widths", {}), (widths) => store.keep("widths", widths));
    tell();
    soon();
  }

  // Of a notebook reopened without its kernel there are no rows here: that is not to say that there are none.
  const gone = () => { el.hidden = !rows.size; };
  return { el, heard, gone, counts: () => counted(rows.values()), stop() { shown.keep(); toast.stop(); list.stop(); } };
}
