// The top of the panel: what goes on, who answers, and the four places to be.

import { fresh, make, set, write } from "./dom.js";

export function pillText(snapshot, { say, percent }) {
  const { run, underWay } = snapshot;
  const now = underWay ?? (run?.live ? run : null);
  if (now) {
    const done = (now.ok ?? 0) + (now.failed ?? 0);
    if (now.status === "getting ready") return say("Getting ready");
    if (now.status === "paused") return say("Paused");
    if (now.waiting_for) return say("Waiting");
    return now.total ? say("Running {share}", { share: percent(done / now.total) }) : say("Running");
  }
  if (!run?.task) return say("Ready");
  return run.failed ? say("{ok} ok, {failed} failed", { ok: run.ok, failed: run.failed }) : say("{ok} ok", { ok: run.ok });
}

export function header({ speak, send, parts }) {
  const { say } = speak;
  const PLACES = [["form", say("Generate")], ["review", say("Review")], ["exporting", say("Export")], ["runs", say("Runs")]];
  let awaited = false;
  let now = "form";
  let snapshot = {};

  const pill = make("button", { type: "button", class: "cb-pill", onclick: back });
  const tabs = {};
  const pages = {};
  for (const [name, text] of PLACES) {
    const id = fresh(name);
    tabs[name] = make("button", { type: "button", role: "tab", id: `${id}-tab`, class: "cb-tab", "aria-controls": id, text, onclick: () => go(name) });
    pages[name] = make("div", { role: "tabpanel", id, class: "cb-page", "aria-labelledby": `${id}-tab` }, parts[name].el);
  }
  const list = make("div", { role: "tablist", class: "cb-tabs", "aria-label": say("Panel"), onkeydown: keyed }, Object.values(tabs));
  const bar = make("header", { class: "cb-top" }, pill, parts.form.whom, make("span", { class: "cb-spacer" }), list);
  const body = make("div", { class: "cb-pages" }, parts.strip.el, ...Object.values(pages));
  body.addEventListener("click", (event) => {
    const wanted = event.target.closest?.("[data-go]")?.dataset.go;
    if (!wanted) return;
    go(wanted);
    parts[wanted].enter?.();
  });

  function go(name) {
    now = name;
    for (const [place, tab] of Object.entries(tabs)) {
      set(tab, "aria-selected", String(place === name));
      set(tab, "tabindex", place === name ? 0 : -1);
      pages[place].hidden = place !== name;
    }
    parts[name].entered?.();
  }

  function keyed(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const at = PLACES.findIndex(([name]) => name === now);
    const [next] = PLACES.at((at + by) % PLACES.length);
    go(next);
    tabs[next].focus();
  }

  // From an earlier task back to the run.
  function back() {
    if (snapshot.underWay?.task) send({ do: "open", task: snapshot.underWay.task });
    else if (snapshot.run) go("review");
  }

  function sent(message) {
    if (message.do === "run") awaited = true;
    if (["open", "resume", "retry", "rerun", "judge"].includes(message.do)) {
      go("review");
      tabs.review.focus();
    }
  }

  function heard(message) {
    if (message.type === "refused") awaited = false;
  }

  function shown(told) {
    snapshot = told;
    write(pill, pillText(told, speak));
    set(pill, "data-state", told.underWay || told.run?.live ? "running" : told.run?.failed ? "failed" : "ready");
    const began = awaited && told.run?.live;
    if (awaited && told.problem) awaited = false;
    if (!began) return;
    awaited = told.run.status === "getting ready"; // what steers the run is there once it runs
    if (now === "form") go("review");
    parts.strip.focus();
  }

  go("form");
  return { bar, body, shown, heard, sent };
}
