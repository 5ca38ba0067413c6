// The open row: what was made, to edit and to mark; what it was made from; how it was made. An edit is kept as it is typed.

import { changes, marked } from "./diff.js";
import { fresh, labelled, make, set, write } from "./dom.js";
import { byName, isOfKind, same, sent, sifted } from "./edits.js";

const KEPT_MS = 400; // after the last letter

export function detail({ speak, send, onMark, onEdited, onStep, onClose }) {
  const { say } = speak;
  const title = make("h3", { tabindex: -1 });
  const state = make("span", { class: "cb-state" });
  const button = (text, key, act, more = "") =>
    make("button", { type: "button", class: `cb-button ${more}`, "aria-keyshortcuts": key, title: `${text} (${key})`, text, onclick: act });
  const accept = button(say("Accept"), "a", () => onMark(row.id, "accepted"), "cb-accept");
  const reject = button(say("Reject"), "r", () => onMark(row.id, "rejected"), "cb-reject");
  const clear = button(say("Clear mark"), "c", () => onMark(row.id, null), "cb-quiet");
  const fields = make("div", { class: "cb-fields" });
  const revert = make("button", { type: "button", class: "cb-button cb-quiet", text: say("Undo the edit"), onclick: () => restore() });
  const edited = make("p", { class: "cb-edited", hidden: true }, make("span", { text: say("Edited") }), revert);
  const changed = make("div", { class: "cb-diff", dir: "auto" });
  const difference = make("details", { hidden: true }, make("summary", { text: say("What changed") }), changed);
  const below = make("div");
  const inner = make(
    "div",
    { class: "cb-detail-scroll" },
    make(
      "header",
      {},
      title,
      state,
      make("span", { class: "cb-spacer" }),
      button(say("Previous"), "k", () => onStep(-1), "cb-quiet"),
      button(say("Next"), "j", () => onStep(1), "cb-quiet"),
      make("button", { type: "button", class: "cb-button cb-quiet", text: say("Close"), onclick: onClose }),
    ),
    make("div", { class: "cb-marks", role: "group", "aria-label": say("Mark") }, accept, reject, clear),
    edited,
    fields,
    difference,
    below,
  );
  const el = make("section", { class: "cb-detail", "aria-label": say("The open answer"), hidden: true }, inner);
  let row = null; // the row of the table
  let told = null; // what the ledger has of it
  let entries = new Map(); // a field's name -> its box
  let timer = 0;
  const drafts = new Map(); // what was typed and is not known to be kept, by row

  const unkept = new Map(); // what was typed and cannot be kept yet, by row
  const written = {
    list: say("Not kept yet: write a list, as JSON has it."),
    object: say("Not kept yet: write an object, as JSON has it."),
    number: say("Not kept yet: write a number."),
    boolean: say("Not kept yet: write true or false."),
  };

  const typed = () => Object.fromEntries([...entries].map(([name, { box }]) => [name, box.value]));
  const original = () => byName(told.original);
  const kept = () => drafts.get(row.id) ?? byName(told.fields);
  const boxes = () => [...entries.values()].map(({ box }) => box);

  function keep(isRestored = false) {
    clearTimeout(timer);
    timer = 0;
    if (!row || !told) return;
    const [id, before] = [row.id, kept()];
    const { kept: now, unkept: half } = sifted(typed(), before, told.kinds);
    unkept.set(id, half);
    if (same(now, before) && !isRestored) return;
    const { output: others, undone } = sent(now, before, original(), !told.cut.length);
    const output = isRestored ? null : others;
    drafts.set(id, now);
    told = { ...told, edited: output !== null };
    send({ do: "edit", id, output });
    onEdited(id, output !== null, () => {
      drafts.set(id, before);
      send({ do: "edit", id, output: undone });
      if (row?.id === id) fill(before, undone !== null);
    });
    sayEdited();
  }

  function fill(texts, isEdited) {
    told = { ...told, edited: isEdited };
    unkept.delete(row.id);
    for (const [name, { box, sayKind }] of entries) {
      if (box.value !== texts[name] && !box.readOnly) box.value = texts[name] ?? "";
      grow(box);
      sayKind();
    }
    sayEdited();
  }

  function restore() {
    const texts = original();
    for (const [name, { box }] of entries) if (name in texts && !box.readOnly) box.value = texts[name];
    keep(true);
    fill(texts, false);
    boxes()[0]?.focus();
  }

  function sayEdited() {
    edited.hidden = !told.edited;
    difference.hidden = !told.edited;
    if (!told.edited) return;
    const now = typed();
    const lines = Object.entries(original())
      .filter(([name, text]) => now[name] !== undefined && now[name] !== text)
      .map(([name, text]) =>
        make(
          "p",
          {},
          make("strong", { text: `${name}: ` }),
          changes(text, now[name]).map(([kind, part]) => make({ same: "span", gone: "del", new: "ins" }[kind], { text: part })),
        ),
      );
    changed.replaceChildren(...lines);
  }

  function grow(box) {
    box.rows = Math.min(14, Math.max(2, Math.ceil(box.value.length / 70) + box.value.split("\n").length - 1));
  }

  function field([name, text]) {
    const isCut = told.cut.includes(name);
    const note = make("small", { id: fresh("note"), class: "cb-error", role: "status" });
    const sayKind = () => write(note, isCut ? say("Too long to edit here: only its beginning is shown.") : isOfKind(box.value, told.kinds[name]) ? "" : written[told.kinds[name]]);
    const box = make("textarea", {
      dir: "auto",
      readonly: isCut,
      "aria-describedby": note.id,
      oninput: () => {
        grow(box);
        sayKind();
        sayEditedSoon();
        clearTimeout(timer);
        timer = setTimeout(() => keep(), KEPT_MS);
      },
      onblur: () => keep(),
    });
    box.value = unkept.get(row.id)?.[name] ?? text;
    grow(box);
    entries.set(name, { box, sayKind });
    sayKind();
    const shown = labelled(name.replaceAll("_", " "), box);
    shown.append(note);
    return shown;
  }

  function sayEditedSoon() {
    const isEdited = !same(typed(), original());
    if (told.edited !== isEdited) told = { ...told, edited: isEdited };
    sayEdited();
  }

  const texts = (parts) => make("pre", { tabindex: 0, dir: "auto" }, parts.map(([kind, text]) => make(kind === "quote" ? "mark" : "span", { text })));

  function show(next, answer) {
    if (row && row.id !== next.id) keep();
    const isNew = !told || row?.id !== next.id;
    row = next;
    told = answer;
    el.hidden = false;
    write(title, answer.title);
    if (answer.edited !== undefined) drafts.delete(row.id);
    if (!isNew && entries.size && boxes().includes(document.activeElement)) {
      showRow(next); // who is writing is not disturbed
      return;
    }
    entries = new Map();
    fields.replaceChildren(...answer.fields.map(field));
    const made = answer.sections.flatMap(([name, text]) => [make("h4", { text: name }), texts([["same", text]])]);
    below.replaceChildren(
      ...(answer.error ? [make("h4", { text: say("Error") }), make("pre", { class: "cb-error", tabindex: 0, dir: "auto", text: answer.error })] : []),
      ...(answer.source ? [make("h4", { text: say("The text it was made from") }), texts(marked(answer.source, answer.quote))] : []),
      make("details", {}, make("summary", { text: say("How it was made") }), ...made),
    );
    inner.scrollTop = 0;
    sayEdited();
    showRow(next);
  }

  function showRow(next) {
    if (!next || next.id !== row?.id) return;
    row = next;
    const isOk = next.status === "ok";
    for (const one of [accept, reject, clear]) one.disabled = !isOk;
    set(accept, "aria-pressed", String(next.mark === "accepted"));
    set(reject, "aria-pressed", String(next.mark === "rejected"));
    clear.hidden = !next.mark;
    write(state, next.mark ? say(next.mark) : say(next.status));
    set(state, "data-state", next.mark ?? next.status);
  }

  return {
    el,
    show,
    showRow,
    keep: () => keep(),
    get id() { return el.hidden ? null : row?.id; },
    edit() {
      const first = boxes()[0];
      first?.focus();
      return Boolean(first);
    },
    // Of another task from now on: what was typed is kept first, and nothing of it is left.
    forget() {
      this.close();
      drafts.clear();
      unkept.clear();
    },
    close() {
      keep();
      el.hidden = true;
      row = told = null;
      entries = new Map();
    },
  };
}
