// Export: what is in it and what is not, told before it is written; then every shape it can have.

import { choice, fresh, labelled, make, set, write } from "./dom.js";

const WAIT_MS = 250;

export function whyNot({ say }) {
  const texts = {
    pending: say("not answered yet"),
    failed: say("failed"),
    rejected: say("rejected"),
    unmarked: say("unmarked"),
    score: say("below the score"),
    "not judged": say("not judged"),
    unanswerable: say("not answerable without its text"),
    exact: say("copies"),
    near: say("nearly copies"),
    meaning: say("copies in other words"),
  };
  return (why) => texts[why] ?? say(why.replaceAll("_", " "));
}

// "10 of 30 (8 failed, 2 rejected, 10 unmarked left out)"
export function countsText(counts, speak) {
  const { say, number } = speak;
  const because = whyNot(speak);
  const parts = Object.entries(counts.left_out).map(([why, count]) => `${number(count)} ${because(why)}`);
  const kept = say("{kept} of {items} answers", { kept: counts.kept, items: counts.items });
  return parts.length ? `${kept} (${say("left out: {why}", { why: parts.join(", ") })})` : kept;
}

// Which marks are wanted: what was chosen, until another task is shown.
export function marksChoice() {
  let chosen = null;
  let generation = null;
  return {
    choose: (value) => { chosen = value; },
    began(now) {
      if (now !== generation) chosen = null;
      generation = now;
    },
    get chosen() { return chosen; },
    get wanted() { return chosen ?? "auto"; },
  };
}

export function exporting({ speak, send, isWhole }) {
  const { say, number, percent } = speak;
  const because = whyNot(speak);
  let last = {};
  let timer = 0;
  const chosenMarks = marksChoice();

  const group = fresh("marks");
  const marks = [
    ["accepted", say("accepted only")],
    ["unrejected", say("all but the rejected")],
  ].map(([value, text]) => {
    const input = make("input", { type: "radio", name: group, value, onchange: () => { chosenMarks.choose(value); asked(); } });
    return { input, label: make("label", { class: "cb-radio" }, input, text) };
  });
  const least = choice([["", say("any")], ...["2", "3", "4", "5"].map((score) => [score, score])], { onchange: asked });
  const gates = box(say("Leave out what the gates refuse"), true);
  const distinct = box(say("Leave out copies"), true);
  const source = box(say("With the text it was made from"), true);
  const shape = make("select", { onchange: asked });
  const format = make("select", { onchange: asked });
  const trainer = make("select", { onchange: asked });
  const share = make("input", { type: "number", min: 0, max: 90, step: 5, value: 0, oninput: asked });
  const path = make("input", { type: "text", placeholder: say("a folder; empty: in the data folder"), oninput: asked });
  const counts = make("p", { class: "cb-counts", role: "status", text: say("Counting…") });
  const save = make("button", { type: "button", class: "cb-button cb-primary", text: say("Save"), onclick: () => act("save") });
  const download = make("button", { type: "button", class: "cb-button", text: say("Download"), onclick: () => act("download") });
  const report = make("button", { type: "button", class: "cb-button", text: say("Quality report"), onclick: () => act("report") });
  const told = make("p", { class: "cb-saved", role: "status" });
  const error = make("p", { class: "cb-error", role: "alert", hidden: true });
  const code = make("pre", { tabindex: 0 });
  const copy = make("button", { type: "button", class: "cb-button cb-quiet", text: say("Copy"), onclick: copied });
  const found = make("div", { class: "cb-report" });
  const el = make(
    "details",
    { class: "cb-export", open: Boolean(isWhole), ontoggle: () => el.open && asked() },
    make("summary", { hidden: Boolean(isWhole) }, make("h3", { text: say("Export") })),
    counts,
    make(
      "div",
      { class: "cb-form" },
      make("fieldset", {}, make("legend", { text: say("Which answers") }), marks.map((one) => one.label)),
      labelled(say("Score at least"), least),
      labelled(say("Shape"), shape),
      labelled(say("Format"), format),
      labelled(say("Trainer"), trainer),
      labelled(say("For testing, %"), share),
      labelled(say("Folder"), path),
    ),
    make("div", { class: "cb-form" }, gates.label, distinct.label, source.label),
    make("div", { class: "cb-bar" }, save, download, report),
    error,
    told,
    make("details", {}, make("summary", { text: say("The line of code") }), code, copy),
    found,
  );

  function box(text, isOn) {
    const input = make("input", { type: "checkbox", onchange: asked });
    input.checked = isOn;
    return { input, label: make("label", { class: "cb-check" }, input, text) };
  }

  const wanted = () => ({
    marks: chosenMarks.wanted,
    min_score: least.value ? Number(least.value) : null,
    gates: gates.input.checked,
    distinct: distinct.input.checked,
    source_text: source.input.checked,
    shape: shape.value || null,
    format: format.value || "jsonl",
    trainer: trainer.value || null,
    test_share: Math.min(90, Math.max(0, Number(share.value) || 0)) / 100,
    path: path.value.trim(),
  });

  function asked() {
    clearTimeout(timer);
    timer = setTimeout(() => send({ do: "count", wanted: wanted() }), WAIT_MS);
  }

  function act(what) {
    clearTimeout(timer);
    send({ do: what, wanted: wanted() });
  }

  async function copied() {
    try {
      await navigator.clipboard.writeText(code.textContent);
      write(copy, say("Copied"));
    } catch {
      // Without the right to the clipboard the text is selected, so that a key copies it.
      getSelection().selectAllChildren(code);
    }
  }

  function fill(select, values, called = (name) => name) {
    if (select.options.length) return;
    for (const value of values) select.append(make("option", { value, text: called(value) }));
  }

  function shown(snapshot) {
    const now = snapshot?.export;
    el.hidden = !now;
    if (!now) return;
    fill(shape, ["", ...now.choices.shape], (name) => name || say("as the trainer has it, or records"));
    fill(format, now.choices.format);
    fill(trainer, ["", ...now.choices.trainer], (name) => name || say("none"));
    if (!chosenMarks.chosen && now.counts) for (const one of marks) one.input.checked = one.input.value === now.counts.marks;
    write(counts, now.counts ? countsText(now.counts, speak) : say("Counting…"));
    save.disabled = download.disabled = now.busy || !now.counts?.kept;
    report.disabled = now.busy;
    set(el, "aria-busy", now.busy ? "true" : null);
    error.hidden = !now.error;
    write(error, now.error ?? "");
    write(told, now.saved ? savedText(now.saved) : now.busy ? say("Working…") : "");
    write(code, now.code ?? "");
    if (now.report !== last.report) drawReport(now.report);
    last = now;
  }

  function savedText(saved) {
    const parts = Object.entries(saved.parts).map(([name, count]) => `${number(count)} ${name}`);
    const left = Object.entries(saved.dropped).map(([why, count]) => `${number(count)} ${because(why)}`);
    const more = left.length ? ` · ${say("left out: {why}", { why: left.join(", ") })}` : "";
    const command = saved.command ? ` · ${saved.command}` : "";
    return `${say("Saved: {path}", { path: saved.path })} · ${parts.join(", ")}${more}${command}`;
  }

  function drawReport(now) {
    if (!now) return found.replaceChildren();
    const lines = now.measures.map(([name, value]) =>
      make("tr", {}, make("th", { scope: "row", text: say(name) }), make("td", { text: name.startsWith("share") ? percent(value) : number(Math.round(value * 10) / 10) })),
    );
    const topics = now.coverage.map(([topic, planned, good]) =>
      make("tr", {}, make("th", { scope: "row", text: topic, dir: "auto" }), make("td", {}, make("meter", { min: 0, max: Math.max(1, planned), value: good, "aria-label": topic })), make("td", { text: say("{good} of {planned}", { good, planned }) })),
    );
    const part = (name, rows) => (rows.length ? make("table", { class: "cb-facts" }, make("caption", { text: name }), make("tbody", {}, rows)) : null);
    found.replaceChildren(...[part(say("Quality report"), lines), part(say("Topics, the least covered first"), topics)].filter(Boolean));
  }

  // What was counted before is not true any more.
  function changed() {
    if (el.open && el.checkVisibility()) asked();
  }

  function heard(message, buffers) {
    if (message.type === "task") {
      chosenMarks.began(message.generation);
      changed();
    }
    if (message.type === "rows") changed();
    if (message.type !== "download") return;
    const address = URL.createObjectURL(new Blob([buffers[0]], { type: "application/zip" }));
    make("a", { href: address, download: message.name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  }

  return { el, shown, heard, changed, entered: asked, stop: () => clearTimeout(timer) };
}
