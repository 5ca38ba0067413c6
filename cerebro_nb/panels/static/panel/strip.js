// The run: how far it is, how fast, what went wrong; and what steers it. Every number is of the task that is shown.

import { chart } from "./charts.js";
import { make, set, write } from "./dom.js";

// "18 of 40 · 2 failed · 2.7/s · 0:06, about 0:08 left"
export function stripText(run, passed, speak) {
  const { say, decimal, clock, number } = speak;
  if (run.status === "getting ready") return say("Getting ready: the model is loaded first.");
  const done = run.ok + run.failed;
  const parts = [say("{done} of {total}", { done, total: run.total ?? "?" })];
  if (run.failed) parts.push(say("{failed} failed", { failed: run.failed }));
  if (run.rate) parts.push(run.rate >= 0.1 ? say("{rate}/s", { rate: decimal(run.rate, 1) }) : say("{rate}/min", { rate: decimal(run.rate * 60, 1) }));
  const time = clock(run.elapsed_s + passed);
  const left = run.live && run.status === "in_progress" && run.eta_s != null ? Math.max(0, run.eta_s - passed) : null;
  parts.push(left == null ? time : say("{time}, about {left} left", { time, left: clock(left) }));
  if (run.tokens) parts.push(say("{tokens} tokens", { tokens: number(run.tokens) }));
  return parts.join(" · ");
}

// The shares of the bar: what went well, what failed, what the gates refused, what is left.
export function shares(run) {
  const refused = Math.min(run.refused ?? 0, run.failed);
  const left = Math.max(0, (run.total ?? run.ok + run.failed) - run.ok - run.failed);
  return { ok: run.ok, failed: run.failed - refused, refused, left };
}

// A task that was cut off can go on; a run that failed before it had a task has nothing to go on with.
export function isCut(run) {
  if (!run.task || run.live || run.status === "completed") return false;
  return run.total == null || run.ok + run.failed < run.total;
}

export function strip({ speak, send, isWhole }) {
  const { say, number } = speak;
  let run = null;
  let heardAt = 0;
  let timer = 0;

  const title = make("strong", { dir: "auto", class: "cb-what" });
  const state = make("span", { class: "cb-state", role: "status" });
  const edit = make("button", { type: "button", class: "cb-button cb-quiet", "data-go": "form", text: say("Edit"), hidden: !isWhole });
  const bar = make("progress", { class: "cb-sr", "aria-label": say("Progress") });
  const segments = Object.fromEntries(["ok", "failed", "refused", "left"].map((name) => [name, make("span", { class: `cb-${name}-share` })]));
  const track = make("div", { class: "cb-track", "aria-hidden": "true" }, Object.values(segments));
  const text = make("span", { class: "cb-numbers" });
  const pause = make("button", { type: "button", class: "cb-button", onclick: () => send({ do: run.status === "paused" ? "go_on" : "pause" }) });
  const cancel = make("button", { type: "button", class: "cb-button", text: say("Cancel"), onclick: () => send({ do: "cancel" }) });
  const resume = make("button", { type: "button", class: "cb-button", text: say("Resume"), onclick: () => send({ do: "resume", task: run.task }) });
  const retry = make("button", { type: "button", class: "cb-button", onclick: () => send({ do: "retry", task: run.task }) });
  const problem = make("p", { class: "cb-error", role: "alert", hidden: true });
  const speed = chart({ title: say("Throughput"), unit: say("items/s"), speak });
  const wait = chart({ title: say("Latency"), unit: "s", speak });
  const counts = make("p", { class: "cb-note" });
  const causes = make("tbody");
  const failures = make("table", { class: "cb-facts" }, make("caption", { text: say("What failed") }), causes);
  const log = make("pre", { tabindex: 0, class: "cb-log", "aria-label": say("Log") });
  const summary = make("summary", { text: say("Details") });
  const details = make("details", { ontoggle: () => drawDetails() }, summary, make("div", { class: "cb-figures" }, speed.el, wait.el), counts, failures, log);
  const el = make(
    "section",
    { class: "cb-strip", "aria-label": say("Run"), tabindex: -1, hidden: true },
    make("div", { class: "cb-strip-line" }, title, state, edit, make("span", { class: "cb-spacer" }), text, pause, cancel, resume, retry),
    make("div", { class: "cb-progress" }, bar, track),
    problem,
    details,
  );

  const passed = () => (run?.live && run.status === "in_progress" ? (performance.now() - heardAt) / 1000 : 0);

  function tick() {
    clearTimeout(timer);
    if (!run) return;
    write(text, stripText(run, passed(), speak));
    if (run.live) timer = setTimeout(tick, 1000);
  }

  // A button that goes away does not take the focus with it.
  function offer(button, isOffered) {
    const had = document.activeElement === button;
    button.hidden = !isOffered;
    if (had && !isOffered) ([pause, resume, retry].find((other) => !other.hidden) ?? el).focus();
  }

  function shown(snapshot) {
    run = snapshot.run;
    heardAt = performance.now();
    el.hidden = !run;
    if (!run) return tick();
    const ready = run.status !== "getting ready";
    write(title, [run.label, run.subject].filter(Boolean).join(" · "));
    const status = run.waiting_for ? say("{server} does not answer: the run waits until it is back", { server: run.waiting_for }) : say(run.status.replaceAll("_", " "));
    write(state, status);
    set(state, "data-state", run.waiting_for ? "waiting" : run.status);
    const done = (run.ok ?? 0) + (run.failed ?? 0);
    if (ready && run.total) {
      set(bar, "max", run.total);
      set(bar, "value", done);
    } else {
      bar.removeAttribute("value");
    }
    if (ready) for (const [name, share] of Object.entries(shares(run))) segments[name].style.flexGrow = share;
    set(track, "title", ready ? Object.entries(shares(run)).filter(([, share]) => share).map(([name, share]) => `${number(share)} ${names[name]}`).join(", ") : null);
    write(pause, run.status === "paused" ? say("Resume") : say("Pause"));
    offer(pause, run.live && ready);
    offer(cancel, run.live && ready);
    const isBusy = Boolean(snapshot.underWay);
    offer(resume, isWhole && isCut(run) && !isBusy);
    offer(retry, isWhole && !run.live && run.failed > 0 && !isBusy);
    write(retry, say("Retry {count} failed", { count: run.failed ?? 0 }));
    problem.hidden = !run.problem;
    write(problem, run.problem ?? "");
    details.hidden = !ready;
    drawDetails();
    tick();
  }

  const names = { ok: say("ok"), failed: say("failed"), refused: say("refused by gates"), left: say("left") };

  function drawDetails() {
    if (!run || !details.open) return;
    const pace = run.pace ?? [];
    speed.show(pace.map(([time, rate]) => [time, rate]));
    wait.show(pace.map(([time, , seconds]) => [time, seconds]));
    const gates = Object.entries(run.gates ?? {}).map(([gate, count]) => `${say(gate.replaceAll("_", " "))} ${number(count)}`);
    const parts = [];
    if (run.retried) parts.push(say("{count} tries beyond the first", { count: run.retried }));
    if (gates.length) parts.push(say("Refused by gates: {gates}", { gates: gates.join(", ") }));
    write(counts, parts.join(" · "));
    counts.hidden = !parts.length;
    const found = run.causes ?? [];
    failures.hidden = !found.length;
    causes.replaceChildren(...found.map(([cause, count, said]) => make("tr", {}, make("th", { scope: "row", text: cause }), make("td", { text: number(count), class: "cb-number" }), make("td", { text: said, dir: "auto" }))));
    log.hidden = !run.log?.length;
    const isBelow = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
    write(log, (run.log ?? []).join("\n"));
    if (isBelow) log.scrollTop = log.scrollHeight;
  }

  return { el, shown, focus: () => (pause.hidden ? el : pause).focus(), stop: () => clearTimeout(timer) };
}
