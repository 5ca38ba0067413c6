// The rows of a task as a reader looks at them: sorted out, searched, counted, gone through. No page is needed here.

export const CHIPS = ["all", "review", "accepted", "rejected", "refused", "failed", "edited"];

const TESTS = {
  all: () => true,
  review: (row) => row.status === "ok" && !row.mark,
  accepted: (row) => row.mark === "accepted",
  rejected: (row) => row.mark === "rejected",
  refused: (row) => row.status === "failed" && row.gates.length > 0,
  failed: (row) => row.status === "failed",
  edited: (row) => row.edited,
};

export function counted(rows) {
  const counts = Object.fromEntries(CHIPS.map((chip) => [chip, 0]));
  for (const row of rows) for (const chip of CHIPS) if (TESTS[chip](row)) counts[chip] += 1;
  return counts;
}

export const noFilter = () => ({ chip: "all", search: "", gate: "", topic: "", least: 0, sort: "", ascending: true });

export function fits(row, filter, wanted, lower) {
  if (!TESTS[filter.chip](row)) return false;
  if (filter.gate && !row.gates.includes(filter.gate)) return false;
  if (filter.topic && row.topic !== filter.topic) return false;
  if (filter.least && !(row.score >= filter.least)) return false;
  return !wanted || row.cells.some((cell) => lower(cell).includes(wanted));
}

export function arranged(rows, filter, columns, { compare, lower }) {
  const wanted = lower(filter.search);
  const visible = [...rows].filter((row) => fits(row, filter, wanted, lower));
  const place = columns.findIndex((column) => column.name === filter.sort);
  if (place >= 0) {
    const isNumber = columns[place].number;
    const by = (row) => row.cells[place];
    visible.sort((one, other) => (isNumber ? Number(by(one)) - Number(by(other)) : compare(by(one), by(other))));
    if (!filter.ascending) visible.reverse();
  }
  return visible;
}

export function distinct(rows, of) {
  const found = new Set();
  for (const row of rows) for (const value of [of(row)].flat()) if (value) found.add(value);
  return [...found].sort();
}

// The row beside one: where that one is not shown any more, the one that took its place.
export function beside(visible, id, step, place = 0) {
  if (!visible.length) return null;
  const at = visible.findIndex((row) => row.id === id);
  const next = at >= 0 ? at + step : step > 0 ? place : place - 1;
  return visible[Math.min(Math.max(next, 0), visible.length - 1)].id;
}

// A selection acts on what is shown; the rest of it is said.
export function reached(visible, selected) {
  const shown = visible.filter((row) => selected.has(row.id));
  return { shown, hidden: selected.size - shown.length };
}

// What was done, each with what undoes it.
export class History {
  #done = [];

  did(said, undo) {
    this.#done.push({ said, undo });
    if (this.#done.length > 500) this.#done.shift();
  }

  get last() {
    return this.#done.at(-1)?.said ?? "";
  }

  undo() {
    const last = this.#done.pop();
    last?.undo();
    return last?.said ?? "";
  }

  forget() {
    this.#done = [];
  }
}
