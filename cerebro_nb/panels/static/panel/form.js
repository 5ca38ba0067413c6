// Generate: what to make, of what, how; one message carries all of it.

import { make, set, write } from "./dom.js";
import { fieldOf } from "./fields.js";
import { whom } from "./whom.js";

const QUIET_MS = 250;

// The kinds as segments: those that make so many examples are one, with a list beside it; a recipe's file is the last.
export function segmentsOf(kinds, say) {
  const recipes = kinds.filter((kind) => kind.n);
  const others = kinds.filter((kind) => !kind.n);
  return [
    { name: "examples", text: say("Examples"), kinds: recipes.map((kind) => kind.name) },
    ...others.map((kind) => ({ name: kind.name, text: kind.label, kinds: [kind.name] })),
    { name: "file", text: say("Recipe file"), kinds: [] },
  ];
}

// What a kind brings when it is chosen: its number and its profile; and a profile its numbers.
export function brought(values, told) {
  const kind = told.kinds.find((one) => one.name === values.kind);
  const profile = values.profile && values.kind === undefined ? values.profile : kind?.profile;
  const numbers = { ...told.profiles[profile] };
  delete numbers.meaning;
  return { ...(kind?.n ? { n: kind.n } : {}), profile, ...numbers, ...values };
}

export function form({ speak, send, store, isWhole }) {
  const { say } = speak;
  const fields = {};
  let told = null;
  let timer = 0;
  let segment = "examples";
  let kind = "";

  const change = () => {
    clearTimeout(timer);
    timer = setTimeout(() => send({ do: "check", form: values() }), QUIET_MS);
    chip.drawn();
  };
  const chip = whom({ speak, send, values, change, fill: (given) => { fill(given); change(); } });
  const unfinished = make("ul", { class: "cb-unfinished", "aria-label": say("Not finished") });
  const segments = make("fieldset", { class: "cb-segments" }, make("legend", { class: "cb-sr", text: say("Make") }));
  const recipe = make("select", { "aria-label": say("Make"), onchange: () => choose(recipe.value) });
  const parts = Object.fromEntries(["main", "topics", "documents", "examples", "speed", "gates"].map((name) => [name, make("div", { class: name === "gates" ? "cb-gates" : "cb-form" })]));
  const ask = make("button", { type: "button", class: "cb-button", text: say("Propose topics"), onclick: () => { send({ do: "topics", form: values() }); write(asking, say("Working…")); } });
  const asking = make("small", { role: "status" });
  const meaning = make("small", { class: "cb-meaning" });
  const folds = Object.fromEntries(
    [["topics", say("Topics")], ["documents", say("Documents")], ["examples", say("My examples")], ["speed", say("Speed and limits")], ["gates", say("Gates and judge")]].map(([name, text]) => [name, make("details", { class: "cb-fold" }, make("summary", { text }), parts[name])]),
  );
  folds.topics.append(make("div", { class: "cb-bar" }, ask, asking));
  folds.speed.append(meaning);
  const forecast = make("p", { class: "cb-forecast", role: "status" });
  const pulling = make("span", { class: "cb-bar", hidden: true });
  const error = make("p", { class: "cb-error", role: "alert", hidden: true });
  const start = make("button", { type: "submit", class: "cb-button cb-primary", text: say("Run") });
  const few = make("button", { type: "button", class: "cb-button", text: say("Try 3 first"), onclick: () => run(3) });
  const code = make("button", { type: "button", class: "cb-button", "aria-label": say("Copy as code"), title: say("Copy as code"), text: "</>", onclick: () => send({ do: "code", form: values() }) });
  const copied = make("span", { role: "status" });
  const shownCode = make("pre", { tabindex: 0, hidden: true, class: "cb-code" });
  const el = make(
    "form",
    { class: "cb-generate", "aria-label": say("Generate"), novalidate: true, onsubmit: (event) => { event.preventDefault(); run(); } },
    ...(isWhole ? [] : [chip.el]),
    unfinished,
    make("div", { class: "cb-kinds" }, segments, recipe),
    parts.main,
    Object.values(folds),
    error,
    make("div", { class: "cb-foot" }, forecast, pulling),
    make("div", { class: "cb-bar cb-foot" }, ...(isWhole ? [start, few] : []), code, copied),
    shownCode,
  );

  const kindNow = () => told.kinds.find((one) => one.name === kind);

  function values() {
    return { kind, ...Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field.get()])) };
  }

  function fill(given) {
    if (given.kind && given.kind !== kind) kind = given.kind;
    for (const [name, value] of Object.entries(given)) fields[name]?.set(value);
    draw();
  }

  function choose(name) {
    fill(brought({ kind: name }, told));
    change();
  }

  function run(most) {
    clearTimeout(timer);
    send({ do: "run", form: values(), ...(most ? { first: most } : {}) });
  }

  // --- drawing

  function build() {
    for (const field of told.fields) {
      const changed = field.name === "profile" ? () => { fill(brought({ profile: fields.profile.get() }, told)); change(); } : change;
      fields[field.name] = fieldOf(field, changed);
      if (field.group === "whom") chip.take(field.name, fields[field.name]);
      else if (field.shape === "choice") parts[field.group].prepend(fields[field.name].el);
      else parts[field.group].append(fields[field.name].el);
    }
    // A file is read when it is named whole.
    fields.recipe.entry.addEventListener("change", () => fields.recipe.get().trim() && send({ do: "recipe", file: fields.recipe.get().trim() }));
    const kept = store.kept("left", null);
    if (kept?.place === location.pathname) store.keep("left", null);
    kind = told.values.kind;
    fill({ ...told.values, ...(kept?.place === location.pathname ? kept.values : {}) });
    segment = told.kinds.find((one) => one.name === kind)?.n ? "examples" : kind;
    draw();
    if (kept?.place === location.pathname) change();
  }

  function drawKinds() {
    const made = segmentsOf(told.kinds, say);
    const legend = segments.firstChild;
    const name = `${recipe.id ||= `cb-kind-${Math.random().toString(36).slice(2)}`}-segment`;
    segments.replaceChildren(legend, ...made.map((one) => {
      const box = make("input", { type: "radio", name, value: one.name, class: "cb-sr", onchange: () => picked(one) });
      box.checked = one.name === segment;
      return make("label", { class: "cb-segment" }, box, make("span", { text: one.text }));
    }));
    recipe.replaceChildren(...told.kinds.filter((one) => one.n).map((one) => make("option", { value: one.name, text: one.label })));
  }

  function picked(one) {
    segment = one.name;
    if (one.kinds.length && !one.kinds.includes(kind)) choose(one.kinds[0]);
    else draw();
    if (one.name === "file") fields.recipe.focus();
  }

  function draw() {
    const taken = new Set(kindNow()?.fields ?? []);
    if (kindNow()?.n && segment !== "file") segment = "examples";
    recipe.hidden = segment !== "examples";
    if (recipe.value !== kind) recipe.value = kind;
    for (const field of told.fields) {
      const isFile = field.name === "recipe";
      fields[field.name].el.hidden = segment === "file" ? !isFile && field.group === "main" : isFile || (!taken.has(field.name) && field.group !== "whom");
    }
    for (const [name, fold] of Object.entries(folds)) fold.hidden = segment === "file" || ![...parts[name].children].some((child) => !child.hidden);
    if (!folds.topics.hidden) ask.hidden = !taken.has("topics");
    const isTold = segment !== "file";
    for (const one of [start, few, code]) one.disabled = !isTold || isBusy;
    // What is the heart of a kind stands open: notes and vectors are made from documents.
    if (taken.has("documents") && !taken.has("subject")) folds.documents.open = true;
    const profile = told.profiles[fields.profile.get()] ?? {};
    // What may be empty says what that means; of a number that the profile has it would be untrue.
    for (const { name, placeholder } of told.fields) if (name in profile) fields[name].entry.placeholder = profile[name] ? "" : placeholder;
    write(meaning, told.profiles[fields.profile.get()]?.meaning ?? "");
    chip.drawn();
  }

  function refuse(errors) {
    for (const [name, field] of Object.entries(fields)) field.refuse(errors[name]);
    error.hidden = !errors[""];
    write(error, errors[""] ?? "");
  }

  function focusFirst(errors) {
    const name = told.fields.map((field) => field.name).find((one) => errors[one]);
    if (!name) return;
    const field = fields[name];
    const fold = field.el.closest("details");
    if (fold) fold.open = true;
    field.focus();
  }

  let isBusy = false;
  let drawnKinds = "";
  let drawnUnfinished = "";

  function shown(snapshot) {
    if (!snapshot.form) return;
    const isFirst = !told;
    told = snapshot.form;
    isBusy = Boolean(snapshot.underWay || snapshot.run?.live);
    if (isFirst) build();
    const names = JSON.stringify(told.kinds.map((one) => one.name));
    if (names !== drawnKinds) {
      drawnKinds = names;
      drawKinds();
      draw();
    }
    refuse(told.errors ?? {});
    write(forecast, told.forecast ?? "");
    drawPull(snapshot);
    drawUnfinished(told.unfinished ?? []);
    chip.shown(told);
    for (const one of [start, few]) one.disabled = segment === "file" || isBusy;
    set(start, "title", isBusy ? say("A run is under way: wait for it or cancel it.") : null);
  }

  function drawUnfinished(tasks) {
    const now = JSON.stringify(tasks);
    if (now === drawnUnfinished) return;
    drawnUnfinished = now;
    unfinished.hidden = !tasks.length;
    unfinished.replaceChildren(...tasks.map(([id, subject, done, total]) => make("li", {}, make("span", { dir: "auto", text: say("Not finished: {subject}, {done} of {total}.", { subject, done, total: total ?? "?" }) }), make("button", { type: "button", class: "cb-button", text: say("Resume"), onclick: () => send({ do: "resume", task: id }) }))));
  }

  // --- a model that is not here

  const pull = make("button", { type: "button", class: "cb-button", text: say("Pull it"), onclick: () => send({ do: "pull" }) });
  const stop = make("button", { type: "button", class: "cb-button", text: say("Stop"), onclick: () => send({ do: "stop_pull" }) });
  const pulled = make("progress", { max: 1, "aria-label": say("Pull it") });
  const pullText = make("span", { role: "status" });
  pulling.append(pulled, pullText, pull, stop);

  function drawPull({ pull: now }) {
    const going = Boolean(now?.going);
    pulling.hidden = !going && !told.pull;
    pulled.hidden = stop.hidden = !going;
    pull.hidden = going || !told.pull;
    if (going) set(pulled, "value", now.total ? now.share : null);
    const mega = (bytes) => speak.number(Math.round(bytes / 1e6));
    const said = going ? now.said || (now.total ? `${mega(now.done)} / ${mega(now.total)} MB` : "") : now?.stopped ? say("Stopped; the next pull goes on from there.") : now?.error ?? "";
    write(pullText, said);
  }

  async function copy(text) {
    write(shownCode, text);
    shownCode.hidden = false;
    try {
      await navigator.clipboard.writeText(text);
      write(copied, say("Copied"));
    } catch {
      getSelection().selectAllChildren(shownCode); // without the right to the clipboard a key copies it
    }
  }

  function heard(message) {
    if (message.type === "refused") {
      refuse(message.errors);
      focusFirst(message.errors);
      write(asking, "");
    }
    if (message.type === "filled" && told) {
      write(asking, "");
      segment = segment === "file" && message.values.kind ? "examples" : segment;
      fill(message.values);
      change();
    }
    if (message.type === "code") copy(message.code);
  }

  return {
    el,
    whom: chip.el,
    shown,
    heard,
    enter: () => fields.subject?.focus(),
    gone: () => told && store.keep("left", { place: location.pathname, values: values() }),
    stop: () => { clearTimeout(timer); chip.stop(); },
  };
}
