// The runs of before and of now, each in words; what can be done with one stands in its menu.

import { labelled, choice, make, set, write } from "./dom.js";

const DAY_MS = 86_400_000;

export function whenText(seconds, { say, language }, now = Date.now()) {
  const then = new Date(seconds * 1000);
  const time = new Intl.DateTimeFormat(language, { hour: "numeric", minute: "2-digit" }).format(then);
  const day = (date) => new Date(date).setHours(0, 0, 0, 0);
  const days = Math.round((day(now) - day(then)) / DAY_MS);
  if (days === 0) return say("today {time}", { time });
  if (days === 1) return say("yesterday {time}", { time });
  return `${new Intl.DateTimeFormat(language, { dateStyle: "medium" }).format(then)} ${time}`;
}

export function taskText(task, speak, now) {
  const { say, clock } = speak;
  const total = task.total ?? "?";
  const parts = [task.kind, task.subject, say("{ok} of {total}", { ok: task.ok, total })];
  if (task.failed) parts.push(say("{failed} failed", { failed: task.failed }));
  parts.push(whenText(task.created, speak, now));
  if (task.seconds) parts.push(clock(task.seconds));
  if (task.model) parts.push(task.model);
  return parts.filter(Boolean).join(" · ");
}

export function runs({ speak, send, title, empty }) {
  const { say } = speak;
  const chosen = new Set();
  const drawn = new Map();
  let tasks = [];
  let last = {};

  const search = make("input", { type: "search", oninput: draw });
  const compare = make("button", { type: "button", class: "cb-button", text: say("Compare"), onclick: () => act("compare", { tasks: [...chosen] }) });
  const remove = make("button", { type: "button", class: "cb-button cb-danger", text: say("Delete"), onclick: ask });
  const refresh = make("button", { type: "button", class: "cb-button", text: say("Refresh"), onclick: () => act("refresh") });
  const count = make("span", { class: "cb-count", role: "status" });
  const list = make("ul", { class: "cb-runs", "aria-label": title });
  const nothing = make("p", { class: "cb-empty", text: empty });
  const error = make("p", { class: "cb-error", role: "alert", hidden: true });
  const compared = make("div", { class: "cb-compared" });
  const path = make("input", { type: "text", placeholder: say("path of a CSV, XLSX, JSONL, JSON or Parquet file, or of a folder") });
  const form = choice([["imported", say("rows as they are")], ["qa", say("questions and answers")]]);
  const bring = make("button", { type: "button", class: "cb-button", text: say("Import"), onclick: () => path.value.trim() && act("import", { path: path.value.trim(), kind: form.value }) });
  const importing = make("details", {}, make("summary", { text: say("Import…") }), make("div", { class: "cb-bar" }, labelled(say("File"), path), labelled(say("What it holds"), form), bring));
  const question = make("p");
  const sure = make(
    "dialog",
    { class: "cb-help", "aria-label": say("Delete") },
    question,
    make(
      "form",
      { method: "dialog", class: "cb-bar" },
      make("button", { class: "cb-button", value: "keep", text: say("Keep") }),
      make("button", { class: "cb-button cb-danger", value: "delete", text: say("Delete") }),
    ),
  );
  sure.addEventListener("close", () => {
    if (sure.returnValue === "delete") act("delete", { tasks: [...chosen] });
    sure.returnValue = "";
    remove.focus();
  });
  const el = make(
    "section",
    { class: "cb-runlist", "aria-label": title },
    make("div", { class: "cb-bar" }, labelled(say("Search"), search), compare, remove, refresh, count),
    error,
    list,
    nothing,
    importing,
    compared,
    sure,
  );

  function act(what, more = {}) {
    send({ do: what, ...more });
    if (what === "delete") chosen.clear();
    draw();
  }

  function ask() {
    const those = tasks.filter((task) => chosen.has(task.id));
    const [answers, marked] = [those.reduce((sum, task) => sum + task.ok, 0), those.length];
    write(question, say("Delete {count} runs for ever? {answers} answers are lost, with their marks and edits.", { count: marked, answers }));
    sure.showModal();
  }

  const labels = {
    open: say("Open"),
    resume: say("Resume"),
    retry: say("Retry what failed"),
    rerun: say("Run it again"),
    judge: say("Judge the answers"),
  };

  function draw() {
    const words = speak.lower(search.value);
    const shownTasks = tasks.filter((task) => !words || speak.lower(taskText(task, speak)).includes(words));
    const order = shownTasks.map((task) => patch(task));
    if (order.length !== list.children.length || order.some((row, place) => list.children[place] !== row)) list.replaceChildren(...order);
    nothing.hidden = tasks.length > 0;
    const running = tasks.some((task) => chosen.has(task.id) && task.running);
    compare.disabled = chosen.size !== 2;
    remove.disabled = !chosen.size || running;
    set(remove, "title", running ? say("It runs: cancel it first.") : null);
    write(count, say("{shown} of {all}", { shown: shownTasks.length, all: tasks.length }));
  }

  function patch(task) {
    let there = drawn.get(task.id);
    if (!there) {
      const box = make("input", { type: "checkbox", onchange: () => { box.checked ? chosen.add(task.id) : chosen.delete(task.id); draw(); } });
      const text = make("span", { dir: "auto" });
      const state = make("span", { class: "cb-state" });
      const openIt = make("button", { type: "button", class: "cb-run", onclick: () => act("open", { task: task.id }) }, text);
      const menu = make("span", { class: "cb-actions" });
      there = { box, text, state, menu, row: make("li", { "data-id": task.id }, box, openIt, state, menu) };
      drawn.set(task.id, there);
    }
    const text = taskText(task, speak);
    write(there.text, text);
    set(there.box, "aria-label", say("Select {name}", { name: text }));
    there.box.checked = chosen.has(task.id);
    write(there.state, task.running ? say("running") : say(task.status.replaceAll("_", " ")));
    set(there.state, "data-state", task.running ? "running" : task.status);
    const can = task.can.join();
    if (there.can !== can) {
      there.can = can;
      there.menu.replaceChildren(...task.can.map((what) => make("button", { type: "button", class: "cb-button cb-quiet", text: labels[what], onclick: () => act(what, { task: task.id }) })));
    }
    return there.row;
  }

  function drawCompared(now) {
    if (!now) return compared.replaceChildren();
    const names = new Map(tasks.map((task) => [task.id, taskText(task, speak)]));
    const head = (first) => make("thead", {}, make("tr", {}, [first, names.get(now.first) ?? now.first, names.get(now.second) ?? now.second].map((text) => make("th", { scope: "col", text }))));
    const line = ([name, one, other]) => make("tr", {}, make("th", { scope: "row", text: name }), make("td", { text: one, dir: "auto" }), make("td", { text: other, dir: "auto" }));
    const settings = now.settings.filter(([name]) => !/sha256|digest|version/.test(name));
    const hashes = now.settings.filter(([name]) => /sha256|digest|version/.test(name));
    compared.replaceChildren(
      make("h3", { tabindex: -1, text: say("{equal} of {total} answers are the same", { equal: now.equal, total: now.total }) }),
      make("table", { class: "cb-facts" }, make("caption", { text: say("What differs in the settings") }), head(""), make("tbody", {}, settings.map(line))),
      make("details", {}, make("summary", { text: say("Versions and hashes") }), make("table", { class: "cb-facts" }, make("tbody", {}, hashes.map(line)))),
      make("table", { class: "cb-facts" }, make("caption", { text: say("Answers side by side") }), head("#"), make("tbody", {}, now.answers.map(line))),
    );
    compared.firstChild.focus();
  }

  function shown(snapshot) {
    const now = snapshot?.runs;
    if (!now) return;
    tasks = now.tasks;
    for (const id of [...chosen]) if (!tasks.some((task) => task.id === id)) chosen.delete(id);
    error.hidden = !now.error;
    write(error, now.error ?? "");
    if (JSON.stringify(now.compared) !== JSON.stringify(last.compared)) drawCompared(now.compared);
    last = now;
    draw();
  }

  return { el, shown };
}
