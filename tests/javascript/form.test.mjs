// What the form chooses, what the strip and the header say, and where a chart draws its points.

import assert from "node:assert/strict";
import test from "node:test";

import { nearest, placed, roundUp } from "../../cerebro_nb/panels/static/panel/charts.js";
import { brought, segmentsOf } from "../../cerebro_nb/panels/static/panel/form.js";
import { goneText } from "../../cerebro_nb/panels/static/panel/gone.js";
import { pillText } from "../../cerebro_nb/panels/static/panel/header.js";
import { isCut, shares, stripText } from "../../cerebro_nb/panels/static/panel/strip.js";
import { chipText, sizeText } from "../../cerebro_nb/panels/static/panel/whom.js";
import { speaker } from "../../cerebro_nb/panels/static/panel/words.js";

const english = speaker({}, "en");
const brazilian = speaker({ "{time}, about {left} left": "{time}, faltam cerca de {left}" }, "pt-BR");

const run = { task: "a1", status: "in_progress", live: true, total: 40, ok: 16, failed: 2, refused: 1, rate: 2.7, elapsed_s: 6, eta_s: 8, tokens: 4800 };

test("the strip says how far the run is, at which rate, and how long it takes yet", () => {
  assert.equal(stripText(run, 0, english), "18 of 40 · 2 failed · 2.7/s · 0:06, about 0:08 left · 4,800 tokens");
  assert.equal(stripText(run, 3, english), "18 of 40 · 2 failed · 2.7/s · 0:09, about 0:05 left · 4,800 tokens");
  assert.match(stripText(run, 0, brazilian), /2,7\/s · 0:06, faltam cerca de 0:08 · 4\.800 tokens$/);
});

test("of a run that has ended nothing is left, and a slow one is told by the minute", () => {
  assert.equal(stripText({ ...run, live: false, status: "completed", tokens: 0 }, 0, english), "18 of 40 · 2 failed · 2.7/s · 0:06");
  assert.match(stripText({ ...run, rate: 0.05 }, 0, english), /3\.0\/min/);
  assert.equal(stripText({ status: "getting ready" }, 0, english), "Getting ready: the model is loaded first.");
});

test("the bar tells what went well from what failed, what was refused and what is left", () => {
  assert.deepEqual(shares(run), { ok: 16, failed: 1, refused: 1, left: 22 });
  assert.deepEqual(shares({ ok: 3, failed: 0, total: null }), { ok: 3, failed: 0, refused: 0, left: 0 });
});

test("only a task that was begun and cut off can go on", () => {
  const cut = { task: "t", live: false, status: "cancelled", total: 40, ok: 16, failed: 2 };
  assert.equal(isCut(cut), true);
  assert.equal(isCut({ ...cut, total: null }), true);
  assert.equal(isCut({ ...cut, live: true }), false);
  assert.equal(isCut({ ...cut, ok: 38 }), false);
  assert.equal(isCut({ ...cut, total: null, status: "completed" }), false);
  assert.equal(isCut({ ...cut, task: "" }), false);
});

test("the pill says what goes on, whichever task is shown", () => {
  assert.equal(pillText({ run: null }, english), "Ready");
  assert.equal(pillText({ run: { task: "old", ok: 1, failed: 0 }, underWay: run }, english), "Running 45%");
  assert.equal(pillText({ run: { ...run, status: "paused" } }, english), "Paused");
  assert.equal(pillText({ run: { ...run, live: false, ok: 22, failed: 8 } }, english), "22 ok, 8 failed");
});

const told = {
  kinds: [
    { name: "qa", label: "Q&A", n: "6", profile: "synthetic" },
    { name: "research", label: "notes", n: "", profile: "research" },
  ],
  profiles: { synthetic: { meaning: "slow", batch_size: "3" }, research: { meaning: "quick", batch_size: "5" } },
};

test("a kind brings its number and its profile, a profile its numbers", () => {
  assert.deepEqual(brought({ kind: "qa" }, told), { n: "6", profile: "synthetic", batch_size: "3", kind: "qa" });
  assert.deepEqual(brought({ kind: "research" }, told), { profile: "research", batch_size: "5", kind: "research" });
  assert.deepEqual(brought({ profile: "research" }, told), { profile: "research", batch_size: "5" });
  assert.deepEqual(segmentsOf(told.kinds, english.say).map((one) => one.name), ["examples", "research", "file"]);
});

test("the chip names the model and the server, or that any will do", () => {
  assert.equal(chipText({ model: "", backend: "", base_url: "" }, [], english), "whatever answers");
  assert.equal(chipText({ model: "", backend: "ollama", base_url: "" }, [["tiny", 9, true]], english), "tiny · Ollama");
  assert.equal(chipText({ model: "x", backend: "", base_url: "http://a:1, http://b:2" }, [], english), "x · 2 servers");
  assert.equal(sizeText(4_700_000_000, english), "4.7 GB");
});

test("a chart ends at a round number, and finds the point under the pointer", () => {
  assert.deepEqual([0, 0.3, 1, 2.1, 23].map(roundUp), [1, 0.5, 1, 5, 50]);
  const places = placed([[0, 0], [5, 10], [10, 5]], 10);
  assert.ok(places[0][1] > places[2][1] && places[2][1] > places[1][1]);
  assert.equal(nearest(places, places[1][0] + 3), 1);
});

test("where the kernel is gone it is said what is saved", () => {
  assert.match(goneText({ task: "a1", ok: 220, failed: 2, total: 900 }, english), /Run the cell again to go on\. 222 of 900 are saved\.$/);
  assert.doesNotMatch(goneText(null, english), /saved/);
});
