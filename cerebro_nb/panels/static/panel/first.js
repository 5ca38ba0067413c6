// The first rows of a run, where it shows itself in a cell.

import { make, write } from "./dom.js";

export function first({ speak }) {
  const { say } = speak;
  const head = make("tr");
  const body = make("tbody");
  const more = make("p", { class: "cb-note" });
  const table = make("table", { class: "cb-facts cb-first", "aria-label": say("The first answers") }, make("thead", {}, head), body);
  const el = make("div", { class: "cb-wide" }, table, more);
  let names = "";

  function shown({ run }) {
    const rows = run?.rows ?? [];
    el.hidden = !rows.length;
    if (el.hidden) return;
    const now = JSON.stringify(run.columns);
    if (now !== names) {
      names = now;
      head.replaceChildren(...run.columns.map((name) => make("th", { scope: "col", text: name === "position" ? "#" : name.replaceAll("_", " ") })));
      body.replaceChildren();
    }
    rows.forEach((cells, place) => {
      const line = body.children[place] ?? body.appendChild(make("tr", {}, cells.map(() => make("td", { dir: "auto" }))));
      cells.forEach((text, cell) => write(line.children[cell], text));
    });
    while (body.children.length > rows.length) body.lastChild.remove(); // those of a longer run before it
    const left = run.ok + run.failed - rows.length;
    write(more, left > 0 ? say("{count} more: run.df has them all", { count: left }) : "");
  }

  return { el, shown };
}
