// The panel: what the kernel tells goes to its parts, what a person does goes to the kernel.

import { make, write } from "./dom.js";
import { exporting } from "./exporting.js";
import { kernelGone } from "./gone.js";
import { review } from "./review.js";
import { runs } from "./runs.js";
import { storage } from "./store.js";
import { speaker } from "./words.js";

const PARTS = { review, exporting, runs };

function render({ model, el }) {
  const speak = speaker(model.get("words"), model.get("language"));
  const parts = [];
  const send = (message) => {
    model.send(message);
    if (message.do === "mark" || message.do === "edit") parts.forEach((part) => part.changed?.());
  };
  const told = model.get("labels");
  // JupyterLab's own keys, of which "a" adds a cell, are not meant here.
  const root = make("div", { class: "cb-panel", "data-lm-suppress-shortcuts": "true", lang: model.get("language") });
  const gone = kernelGone({ speak, model });
  const problem = make("p", { class: "cb-error", role: "alert", hidden: true });
  root.append(gone.el, problem);
  const made = model.get("parts").map((name) => PARTS[name]({ speak, send, store: storage(name), title: told.title, empty: told.empty }));
  parts.push(...made);
  root.append(...parts.map((part) => part.el));
  for (const name of ["keydown", "keypress"]) root.addEventListener(name, (event) => event.stopPropagation());
  const heard = (message, buffers) => parts.forEach((part) => part.heard?.(message, buffers));
  const shown = () => {
    const snapshot = model.get("snapshot");
    problem.hidden = !snapshot?.problem;
    write(problem, snapshot?.problem ?? "");
    parts.forEach((part) => part.shown?.(snapshot));
  };
  model.on("msg:custom", heard);
  model.on("change:snapshot", shown);
  el.append(root);
  shown();
  send({ do: "ready" });
  return () => {
    model.off("msg:custom", heard);
    model.off("change:snapshot", shown);
    gone.stop();
    parts.forEach((part) => part.stop?.());
  };
}

export default { render };
