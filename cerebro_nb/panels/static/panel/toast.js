// What was just done, with a button that undoes it. It is read out, and moves nothing.

import { make, write } from "./dom.js";

const SHOWN_MS = 10_000;

export function toaster({ say }, undo) {
  const text = make("span");
  const button = make("button", { type: "button", class: "cb-button cb-quiet", text: say("Undo"), onclick: undo });
  const el = make("div", { class: "cb-toast", role: "status", "aria-live": "polite" }, text, button);
  let timer = 0;
  el.hidden = true;

  function show(said, canUndo = true) {
    clearTimeout(timer);
    write(text, said);
    button.hidden = !canUndo;
    el.hidden = !said;
    if (said) timer = setTimeout(() => { el.hidden = true; }, SHOWN_MS);
  }

  return { el, show, stop: () => clearTimeout(timer) };
}
