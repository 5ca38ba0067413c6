// What a reader looks at, counted and gone through.

import assert from "node:assert/strict";
import test from "node:test";

import { CHIPS, History, arranged, beside, counted, distinct, noFilter, reached } from "../../cerebro_nb/panels/static/panel/rows.js";
import { speaker } from "../../cerebro_nb/panels/static/panel/words.js";

const speak = speaker({}, "en");
const row = (id, more = {}) => ({ id, cells: [String(id), `text ${id}`], status: "ok", mark: null, edited: false, gates: [], score: null, topic: "", ...more });
const rows = [
  row(0, { mark: "accepted", score: 5 }),
  row(1, { status: "failed", gates: ["echo"] }),
  row(2, { status: "failed" }),
  row(3, { mark: "rejected", edited: true, score: 2 }),
  row(10, { topic: "water" }),
];
const columns = [{ name: "position", number: true }, { name: "text" }];
const ids = (filter) => arranged(rows, { ...noFilter(), ...filter }, columns, speak).map(({ id }) => id);

test("each chip counts what it shows", () => {
  const counts = counted(rows);
  for (const chip of CHIPS) assert.equal(ids({ chip }).length, counts[chip]);
  assert.deepEqual([counts.all, counts.review, counts.failed, counts.refused, counts.edited], [5, 1, 2, 1, 1]);
});

test("filters are joined", () => {
  assert.deepEqual(ids({ gate: "echo" }), [1]);
  assert.deepEqual(ids({ topic: "water" }), [10]);
  assert.deepEqual(ids({ least: 4 }), [0]);
  assert.deepEqual(ids({ search: "TEXT 1" }), [1, 10]);
  assert.deepEqual(ids({ search: "text 1", chip: "failed" }), [1]);
});

test("numbers are sorted as numbers, texts as a reader sorts them", () => {
  assert.deepEqual(ids({ sort: "position", ascending: false }), [10, 3, 2, 1, 0]);
  assert.deepEqual(ids({ sort: "text" }), [0, 1, 2, 3, 10]);
});

test("a selection reaches only what is shown", () => {
  const { shown, hidden } = reached([rows[1], rows[2]], new Set([0, 1]));
  assert.deepEqual([shown.map(({ id }) => id), hidden], [[1], 1]);
});

test("going on from a row that is filtered out takes the one in its place", () => {
  const visible = [row(2), row(5)];
  assert.equal(beside(visible, 2, 1), 5);
  assert.equal(beside(visible, 5, 1), 5);
  assert.equal(beside(visible, 3, 1, 1), 5);
  assert.equal(beside(visible, 3, -1, 1), 2);
  assert.equal(beside([], 3, 1), null);
});

test("what was done last is undone first", () => {
  const [history, undone] = [new History(), []];
  for (const n of [1, 2, 3]) history.did(`did ${n}`, () => undone.push(n));
  assert.equal(history.last, "did 3");
  assert.equal(history.undo(), "did 3");
  history.undo();
  history.undo();
  assert.equal(history.undo(), "");
  assert.deepEqual(undone, [3, 2, 1]);
});

test("values are named once, in order", () => {
  assert.deepEqual(distinct([row(1, { gates: ["b", "a"] }), row(2, { gates: ["a"] })], ({ gates }) => gates), ["a", "b"]);
});
