// The panel: what the kernel tells goes to its parts, what a person does goes to the kernel.

import { make, write } from "./dom.js";
import { exporting } from "./exporting.js";
import { first } from "./first.js";
import { form } from "./form.js";
import { kernelGone } from "./gone.js";
import { header } from "./header.js";
import { review } from "./review.js";
import { runs } from "./runs.js";
import { storage } from "./store.js";
import { strip } from "./strip.js";
import { speaker } from "./words.js";

const PARTS = { exporting, first, form, review, runs, strip };
const TOLD = { problem: "problem", form: "form_told", pull: "pull", run: "run_shown", underWay: "under_way", export: "export", runs: "runs_told" };

function render({ model, el }) {
  const speak = speaker(model.get("words"), model.get("language"));
  const { say } = speak;
  const titles = { review: [say("Answers"), say("No answers yet.")], runs: [say("Runs"), say("No runs yet.")] };
  const parts = [];
  let top = null;
  const send = (message) => {
    model.send(message);
    if (message.do === "mark" || message.do === "edit") parts.forEach((part) => part.changed?.());
    top?.sent(message);
  };
  // JupyterLab's own keys, of which "a" adds a cell, are not meant here.
  const root = make("div", { class: "cb-panel", "data-lm-suppress-shortcuts": "true", lang: model.get("language") });
  const gone = kernelGone({ speak, model, onGone: () => parts.forEach((part) => part.gone?.()), root, place: el });
  const problem = make("p", { class: "cb-error cb-problem", role: "alert", hidden: true });
  const names = model.get("parts").filter((name) => name in PARTS);
  const isWhole = model.get("parts").includes("header");
  const made = Object.fromEntries(
    names.map((name) => [name, PARTS[name]({ speak, send, store: storage(name), title: titles[name]?.[0], empty: titles[name]?.[1], isWhole })]),
  );
  parts.push(...Object.values(made));
  if (isWhole) top = header({ speak, send, parts: made });
  root.append(gone.el, ...(isWhole ? [top.bar, problem, top.body] : [problem, ...parts.map((part) => part.el)]));
  for (const name of ["keydown", "keypress"]) root.addEventListener(name, (event) => event.stopPropagation());
  const heard = (message, buffers) => {
    parts.forEach((part) => part.heard?.(message, buffers));
    top?.heard(message);
  };
  const shown = () => {
    const snapshot = Object.fromEntries(Object.entries(TOLD).map(([name, told]) => [name, model.get(told)]));
    problem.hidden = !snapshot.problem;
    write(problem, snapshot.problem || "");
    parts.forEach((part) => part.shown?.(snapshot));
    top?.shown(snapshot);
  };
  let waiting = false;
  // What changes together is told in one message, and drawn once.
  const soon = () => {
    if (!waiting) queueMicrotask(() => { waiting = false; shown(); });
    waiting = true;
  };
  model.on("msg:custom", heard);
  for (const told of Object.values(TOLD)) model.on(`change:${told}`, soon);
  el.append(root);
  shown();
  gone.look();
  model.send({ do: "ready" });
  return () => {
    model.off("msg:custom", heard);
    for (const told of Object.values(TOLD)) model.off(`change:${told}`, soon);
    gone.stop();
    parts.forEach((part) => part.stop?.());
  };
}

export default { render };
