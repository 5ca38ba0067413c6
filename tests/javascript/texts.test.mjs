// What is said, in two languages; and what changed in a text.

import assert from "node:assert/strict";
import test from "node:test";

import { changes, marked } from "../../cerebro_nb/panels/static/panel/diff.js";
import { countsText } from "../../cerebro_nb/panels/static/panel/exporting.js";
import { taskText, whenText } from "../../cerebro_nb/panels/static/panel/runs.js";
import { storage } from "../../cerebro_nb/panels/static/panel/store.js";
import { speaker } from "../../cerebro_nb/panels/static/panel/words.js";

const english = speaker({}, "en");
const brazilian = speaker({ "{count} selected": "Selecionadas: {count}" }, "pt-BR");

test("numbers are written as the reader writes them", () => {
  assert.equal(english.say("{count} selected", { count: 3600 }), "3,600 selected");
  assert.equal(brazilian.say("{count} selected", { count: 3600 }), "Selecionadas: 3.600");
  assert.equal(brazilian.decimal(2.75), "2,8");
  assert.equal(english.clock(3671), "1:01:11");
  assert.equal(english.clock(6.4), "0:06");
});

test("a text that names something of every object is no word", () => {
  assert.equal(english.say("constructor"), "constructor");
  assert.equal(english.say("{toString}"), "{toString}");
});

test("both texts can be told from what changed", () => {
  for (const [before, after] of [["a red fox", "a blue fox jumps"], ["", "new"], ["old", ""], ["same", "same"], ["x y ".repeat(2000), "y"]]) {
    const found = changes(before, after);
    const side = (left) => found.filter(([kind]) => kind !== left).map(([, text]) => text).join("");
    assert.equal(side("new"), before);
    assert.equal(side("gone"), after);
  }
});

test("a quote is found in its text, whatever lies between its words", () => {
  assert.deepEqual(marked("Pour it at\n eighty (80) degrees.", "at eighty (80)"), [["same", "Pour it "], ["quote", "at\n eighty (80)"], ["same", " degrees."]]);
  assert.deepEqual(marked("Pour.", "boil"), [["same", "Pour."]]);
  assert.deepEqual(marked("Pour.", " "), [["same", "Pour."]]);
});

test("what is left out of a data set is said with why", () => {
  const counts = { items: 30, kept: 10, left_out: { failed: 8, rejected: 2, unmarked: 10 } };
  assert.equal(countsText(counts, english), "10 of 30 answers (left out: 8 failed, 2 rejected, 10 unmarked)");
  assert.equal(countsText({ items: 2, kept: 2, left_out: {} }, english), "2 of 2 answers");
});

test("a run is told in words", () => {
  const now = new Date(2026, 10, 26, 12).getTime();
  const at = (day) => new Date(2026, 10, day, 10, 13).getTime() / 1000;
  assert.match(whenText(at(26), english, now), /^today 10:13/);
  assert.match(whenText(at(25), english, now), /^yesterday/);
  assert.match(whenText(at(2), brazilian, now), /nov/);
  const task = { kind: "Q&A", subject: "copywriting", ok: 6, total: 6, failed: 0, created: at(26), seconds: 39, model: "llama3.2" };
  assert.match(taskText(task, english, now), /^Q&A · copywriting · 6 of 6 · today 10:13.* · 0:39 · llama3\.2$/);
});

test("what was chosen of the looks is kept, and forgotten where nothing can be", () => {
  const held = new Map();
  const place = { getItem: (key) => held.get(key) ?? null, setItem: (key, value) => held.set(key, value) };
  storage("review", place).keep("hidden", ["seed"]);
  assert.deepEqual(storage("review", place).kept("hidden", []), ["seed"]);
  const none = storage("review", { getItem: () => { throw new Error("no"); }, setItem: () => { throw new Error("no"); } });
  none.keep("hidden", ["seed"]);
  assert.deepEqual(none.kept("hidden", []), ["seed"]);
});

test("a page that may not even ask for a storage is shown all the same", (context) => {
  const before = Object.getOwnPropertyDescriptor(globalThis, "localStorage");
  Object.defineProperty(globalThis, "localStorage", { configurable: true, get: () => { throw new Error("SecurityError"); } });
  context.after(() => (before ? Object.defineProperty(globalThis, "localStorage", before) : delete globalThis.localStorage));
  const none = storage("review");
  none.keep("hidden", ["seed"]);
  assert.deepEqual(none.kept("hidden", []), ["seed"]);
});
