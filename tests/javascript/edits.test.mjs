// What is sent of an edit, what undoes it, and what is not kept.

import assert from "node:assert/strict";
import test from "node:test";

import { byName, isOfKind, same, sent, sifted } from "../../cerebro_nb/panels/static/panel/edits.js";
import { marksChoice } from "../../cerebro_nb/panels/static/panel/exporting.js";

const original = { question: "Why?", ok: "true", tags: '["x"]' };

test("only what was typed is sent", () => {
  assert.deepEqual(sent({ ...original, question: "How?" }, original, original), { output: { question: "How?" }, undone: null });
});

test("an edit of an edit is undone to the edit, the first one to the model's answer", () => {
  const first = { ...original, question: "How?" };
  const second = { ...first, tags: '["y"]' };
  assert.deepEqual(sent(second, first, original), { output: { tags: '["y"]' }, undone: { tags: '["x"]' } });
  assert.equal(sent(original, second, original).output, null);
  assert.deepEqual(sent(original, first, original, false).output, { question: "Why?" }, "what is cut may be edited where nobody sees it");
});

test("a text is not another one for the ends of its lines", () => {
  assert.deepEqual(byName([["question", "Why?\r\nHow?\rWhen?"]]), { question: "Why?\nHow?\nWhen?" });
});

test("a list that is typed half is not kept, and keeps nothing else from being kept", () => {
  const now = { question: "How?", ok: "yes", tags: '["x", ' };
  const kinds = { question: "text", ok: "boolean", tags: "list" };
  const { kept, unkept } = sifted(now, original, kinds);
  assert.deepEqual([kept, unkept], [{ ...original, question: "How?" }, { ok: "yes", tags: '["x", ' }]);
  const whole = { ...now, ok: "false", tags: "[]" };
  assert.deepEqual(sifted(whole, original, kinds), { kept: whole, unkept: {} });
});

test("the order of the fields makes no other answer", () => {
  assert.ok(same({ a: "1", b: "2" }, { b: "2", a: "1" }));
  assert.ok(!same({ a: "1" }, { a: "1", b: "2" }) && !same({ a: "1" }, { a: "2" }));
});

test("a value keeps its kind", () => {
  for (const [text, kind] of [["[1]", "list"], ['{"a": 1}', "object"], ["-1.5", "number"], ["false", "boolean"], ["anything", "text"]]) {
    assert.ok(isOfKind(text, kind));
    for (const other of ["list", "object", "number", "boolean"]) if (other !== kind) assert.ok(!isOfKind(text, other));
  }
});

test("the marks of a data set are chosen for one task alone", () => {
  const marks = marksChoice();
  marks.began(1);
  assert.equal(marks.wanted, "auto");
  marks.choose("unrejected");
  marks.began(1);
  assert.equal(marks.wanted, "unrejected");
  marks.began(2);
  assert.equal(marks.wanted, "auto");
});
