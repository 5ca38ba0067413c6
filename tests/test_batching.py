"""Runs under faults, load, pause, cancel and interrupt, through the public names."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from itertools import pairwise

import pytest
from fakes import FakeOllama, closed_port
from pydantic import BaseModel
from simulated import SimulatedServer, never
from virtual import virtual_time

from cerebro_nb import (
    PROFILES,
    Client,
    Fallback,
    How,
    Message,
    OllamaBackend,
    Plan,
    Run,
    ScriptedBackend,
    Where,
    acall_llm,
    aprocess_in_batches,
    call_llm,
    errors,
    get_ledger,
    process_in_batches,
    rerun,
    resume,
    retry_failed,
    tasks_df,
    unfinished,
)
from cerebro_nb.batching.work import WorkItem
from cerebro_nb.client.scope import AttemptClock
from cerebro_nb.concurrency.loop import LOOP
from cerebro_nb.tasks.leases import LEASE_S


class Gate:
    """A processor that waits until it is opened, and tells how many wait."""

    def __init__(self):
        self.inside = 0
        self.entered = threading.Event()
        self._opened = asyncio.Event()

    def open(self):
        LOOP.loop.call_soon_threadsafe(self._opened.set)

    async def __call__(self, value):
        self.inside += 1
        self.entered.set()
        try:
            await self._opened.wait()
            return value
        finally:
            self.inside -= 1


async def echo(value):
    return value


def started(items, function, profile, ledger, **options):
    """Start a run of an async function without waiting for it."""

    async def work(item: WorkItem):
        return await function(item.value)

    return Run(Plan(items, work, **options), How(profile), Where(ledger, show_progress=False)).start()


def heard(run, event):
    """Return an event of threading that is set when the run tells an event."""
    told = threading.Event()
    run.on_progress(lambda now: now.event == event and told.set())
    return told


# --- order, batches, concurrency


def test_a_thousand_results_keep_the_order_of_the_input(quick, ledger):
    async def uneven(n):
        await asyncio.sleep((n * 7919 % 13) / 5_000)
        return n * n

    run = process_in_batches(
        range(1000), uneven, quick.replace(batch_size=100, concurrency=16), ledger=ledger, show_progress=False
    )
    assert run.results == [n * n for n in range(1000)]
    assert run.task.processed_items == 1000 and run.task.status == "completed"


@pytest.mark.parametrize("name", ["synthetic", "research", "prompts", "vectorization"])
def test_a_profile_s_batches_rest_between_and_stay_within_their_concurrency(name, ledger, virtual):
    profile = PROFILES[name]
    inside, most = 0, 0
    begun, sizes, ended = [], [], []

    async def count(value):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(1)
        inside -= 1

    def listen(now):
        if now.event == "batch_started":
            begun.append(virtual.time())
            sizes.append(now.batch_items)
        if now.event == "batch_finished":
            ended.append(virtual.time())

    n = profile.batch_size * 2 + 1
    process_in_batches(range(n), count, name, ledger=ledger, show_progress=False, on_progress=listen)
    assert sizes == ([1] * n if profile.batch_size == 1 else [profile.batch_size, profile.batch_size, 1])
    rests = [start - end for end, start in zip(ended, begun[1:], strict=False)]
    assert rests == pytest.approx([profile.delay_s] * (len(sizes) - 1)) and most == profile.concurrency


def test_a_slow_item_holds_up_nobody_in_a_window(quick, ledger):
    slow = asyncio.Event()
    done = []

    async def work(n):
        if n == 0:
            await slow.wait()
        done.append(n)
        if len(done) == 49:
            slow.set()

    process_in_batches(
        range(50),
        work,
        quick.replace(batch_size=10, concurrency=2).model_copy(update={"batch_size": None}),
        ledger=ledger,
        show_progress=False,
    )
    assert done[-1] == 0 and len(done) == 50


def test_a_generator_is_read_as_the_run_goes_on(quick, ledger):
    read = 0

    def items():
        nonlocal read
        for read in range(1, 31):  # noqa: UP028 - it counts what was read
            yield read

    ahead = []

    async def work(n):
        ahead.append(read - n)

    run = process_in_batches(items(), work, quick, ledger=ledger, show_progress=False)
    assert max(ahead) <= quick.batch_size and run.task.total_items == run.progress.total == 30


# --- processors


def test_async_sync_and_prompt_processors_are_recorded_alike(quick, ledger):
    client = Client(ScriptedBackend(lambda request: request.messages[-1].content.upper()), "tiny")

    async def asynchronous(value):
        return (await acall_llm(f"say {value}", client=client)).text

    def synchronous(value):
        return call_llm(f"say {value}", client=client).text

    for processor, whom in ((asynchronous, None), (synchronous, None), ("say {item}", client)):
        run = process_in_batches(["a", "b"], processor, quick, client=whom, ledger=ledger, show_progress=False)
        assert run.results == ["SAY A", "SAY B"]
        rows = ledger.attempts(run.task_id)
        assert [row["reply"]["text"] for row in rows] == ["SAY A", "SAY B"]
        assert rows[0]["request"]["messages"] == [{"role": "user", "content": "say a"}]


def test_the_sync_face_works_inside_a_running_loop_and_the_async_face_too(quick, ledger):
    async def as_in_jupyter():
        first = process_in_batches([1, 2], echo, quick, ledger=ledger, show_progress=False)
        second = await aprocess_in_batches([3], echo, quick, ledger=ledger, show_progress=False)
        return first.results + second.results

    assert asyncio.run(as_in_jupyter()) == [1, 2, 3]


def test_results_may_be_models_dataclasses_and_replies_but_nothing_json_cannot_hold(quick, ledger):
    class Note(BaseModel):
        text: str

    message = Message("user", "hi")
    answers = {1: Note(text="x"), 2: message, 3: {"a": (1, 2)}, 4: {1, 2}}

    async def give(n):
        return answers[n]

    run = process_in_batches([1, 2, 3, 4], give, quick, ledger=ledger, show_progress=False)
    assert run.results == [{"text": "x"}, {"role": "user", "content": "hi"}, {"a": [1, 2]}, None]
    assert run.errors[3]["type"] == "ProcessorFailed" and "cannot be kept" in run.errors[3]["message"]


# --- failures


def test_failing_items_leave_the_others_running_and_keep_their_reason(quick, ledger):
    async def risky(n):
        if n % 3 == 0:
            raise ValueError(f"no {n}")
        return n

    run = process_in_batches(range(9), risky, quick, ledger=ledger, show_progress=False)
    assert run.results == [None, 1, 2, None, 4, 5, None, 7, 8]
    assert run.errors[3]["message"] == "the processor raised ValueError: no 3"
    assert (run.progress.ok, run.progress.failed, run.progress.retried) == (6, 3, 0)
    assert run.task.status == "completed"
    assert list(run.df["status"]).count("failed") == 3


def test_a_run_in_which_everything_fails_has_failed(quick, ledger):
    async def never(n):
        raise ValueError("no")

    run = process_in_batches([1, 2], never, quick, ledger=ledger, show_progress=False)
    assert run.task.status == "failed" and run.progress.ok == 0


def test_transient_faults_are_tried_again_and_each_try_is_a_row(quick, ledger):
    with FakeOllama() as server:
        server.faults = ["reset", (503, {}, "busy"), "cut stream"]
        client = Client(OllamaBackend(server.url), "tiny")
        run = process_in_batches(["x"], "{item}", quick, client=client, ledger=ledger, show_progress=False)
        LOOP.run(client.aclose())
    assert run.results == ["echo x"] and run.progress.retried == 3
    kinds = [row["error"] and row["error"]["type"] for row in ledger.attempts(run.task_id)]
    assert kinds == ["ConnectionBroken", "ServerBusy", "StreamCut", None]
    assert ledger.attempts(run.task_id)[2]["error"]["details"]["partial_text"] == "Once upon a time"


def test_a_busy_server_at_the_start_is_tried_again(quick, ledger):
    with FakeOllama() as server:
        server.look_faults = [(500, {}, "boom"), (503, {}, "busy")]
        client = Client(OllamaBackend(server.url), "tiny:latest")
        run = process_in_batches(["x"], "{item}", quick, client=client, ledger=ledger, show_progress=False)
        LOOP.run(client.aclose())
    assert run.results == ["echo x"] and run.task.manifest["model_digest"] == "0" * 64


def test_what_cannot_pass_is_not_tried_again(quick, ledger):
    with FakeOllama() as server:
        server.faults = [(400, {}, '{"error": "bad"}')]
        client = Client(OllamaBackend(server.url), "tiny")
        run = process_in_batches(["x", "y"], "{item}", quick, client=client, ledger=ledger, show_progress=False)
        LOOP.run(client.aclose())
    assert run.results == [None, "echo y"] and run.progress.retried == 0


@pytest.mark.parametrize(("fault", "kind"), [((401, {}, "no"), errors.AuthenticationFailed)])
def test_a_refused_key_stops_the_run_and_loses_nothing(quick, ledger, fault, kind):
    with FakeOllama() as server:
        server.faults = [None, fault]
        client = Client(OllamaBackend(server.url), "tiny")
        told = []
        with pytest.raises(kind):
            process_in_batches(
                range(20), "{item}", quick, client=client, ledger=ledger, show_progress=False, on_progress=told.append
            )
        LOOP.run(client.aclose())
        assert len(server.requests) < 8
    task = ledger.task(told[-1].task_id)
    assert task.status == "failed" and task.metadata["error"]["type"] == kind.__name__
    assert ledger.items(task.id)[0]["output"] == "echo 0"
    assert len(ledger.items(task.id, "pending")) == 19  # the item that met it is not failed for it


def test_a_missing_model_or_server_is_said_before_the_first_item(quick, ledger):
    with FakeOllama() as server:
        client = Client(OllamaBackend(server.url), "none")
        with pytest.raises(errors.ModelNotFound, match="it has: tiny"):
            process_in_batches(["x"], "{item}", quick, client=client, ledger=ledger, show_progress=False)
        LOOP.run(client.aclose())
    client = Client(OllamaBackend(f"http://127.0.0.1:{closed_port()}"), "tiny")
    with pytest.raises(errors.ConnectionFailed):
        process_in_batches(["x"], "{item}", quick, client=client, ledger=ledger, show_progress=False)
    LOOP.run(client.aclose())
    assert ledger.tasks() == []


def test_an_attempt_has_its_own_time_limit(quick, ledger, virtual):
    begun = []

    async def slow(n):
        begun.append((n, virtual.time()))
        await asyncio.sleep(3600 if n == 1 else 0)
        return n

    once_more = quick.replace(timeout_s=25, max_attempts=2, concurrency=3)
    run = process_in_batches([0, 1, 2], slow, once_more, ledger=ledger, show_progress=False)
    assert run.results == [0, None, 2] and run.errors[1]["type"] == "RequestTimeout"
    assert run.df["attempts"].tolist() == [1, 2, 1]
    limit_s = 25 + AttemptClock.GRACE_S
    assert begun == [(0, 0), (1, 0), (2, 0), (1, limit_s)] and virtual.time() == 2 * limit_s


def test_waiting_for_a_slot_is_not_part_of_the_time_limit(quick, ledger, virtual):
    """Eight calls of 20 s on one slot take 160 s; the limit of 25 s is for each call alone."""
    server = SimulatedServer(1, 20.0, tells_slots=True)
    wide = quick.replace(batch_size=8, concurrency=8, timeout_s=25, max_attempts=1)
    client = Client(server, "tiny")
    run = process_in_batches(range(8), "{item}", wide, client=client, ledger=ledger, show_progress=False)
    assert run.progress.ok == 8 and server.most_present == 1 and virtual.time() == 8 * 20


def test_a_late_answer_leaves_its_beginning_in_the_ledger(quick, ledger):
    with FakeOllama() as server, virtual_time(ledger, left_s=0) as loop:
        server.faults, server.when_stuck = ["stall"], lambda: loop.give(quick.timeout_s)
        client = Client(OllamaBackend(server.url), "tiny")
        once = quick.replace(max_attempts=1)
        run = process_in_batches(["x"], "{item}", once, client=client, ledger=ledger, show_progress=False)
        LOOP.run(client.aclose())
    assert run.errors[0]["type"] == "RequestTimeout" and run.errors[0]["details"]["partial_text"] == "Once upon a time"


def test_after_a_timeout_a_smaller_answer_then_the_fallback_then_failed(quick, ledger, virtual):
    three = quick.replace(max_attempts=3)

    def asked(hangs, spare_hangs=0, spared=True):
        server, spare = SimulatedServer(faults=[never] * hangs), SimulatedServer(faults=[never] * spare_hangs)
        return process_in_batches(
            ["x"],
            "{item}",
            three,
            client=Client(server, "tiny"),
            fallback=Fallback(client=Client(spare, "spare")) if spared else None,
            ledger=ledger,
            show_progress=False,
            max_tokens=600,
        )

    def steps(run):
        rows = ledger.attempts(run.task_id)
        return [(row["step"], row["model"], row["request"]["options"]["num_predict"]) for row in rows]

    smaller, spared, failed = asked(1, spared=False), asked(9), asked(9, 9)
    assert steps(smaller) == [("call", "tiny", 600), ("smaller", "tiny", 300)] and smaller.results == ["echo x"]
    ladder = [("call", "tiny", 600), ("smaller", "tiny", 300), ("fallback", "spare", 600)]
    assert steps(spared) == ladder and spared.results == ["echo x"]
    assert steps(failed) == ladder and failed.errors[0]["type"] == "RequestTimeout"


def test_waits_between_tries_grow_and_a_server_s_own_wait_is_the_least(quick, ledger, virtual):
    def slow_down():
        return errors.RateLimited("slow down", retry_after_s=40)

    gone = [lambda: errors.StreamCut("cut")] * 6
    server = SimulatedServer(1, 1.0, faults=[slow_down, *gone])
    patient = quick.replace(backoff_s=2, max_attempts=8)
    client = Client(server, "tiny")
    run = process_in_batches(["x"], "{item}", patient, client=client, ledger=ledger, show_progress=False)
    assert run.results == ["echo x"] and len(server.calls) == 8
    waits = [later.sent_at - earlier.ended_at for earlier, later in pairwise(server.calls)]
    assert waits[0] == 40
    assert all(0 <= wait <= min(60, 2 * 2**number) for number, wait in enumerate(waits[1:], 1))
    assert max(waits[1:]) > 4  # more than the second may be


def test_a_listener_that_fails_is_logged_and_the_run_goes_on(quick, ledger, caplog):
    def broken(now):
        raise RuntimeError("no screen")

    run = process_in_batches([1], echo, quick, ledger=ledger, show_progress=False, on_progress=broken)
    assert run.results == [1] and "no screen" in caplog.text


@pytest.mark.parametrize(("items", "match"), [([], "no items"), ([{1, 2}], "item 0"), (["ok", object()], "item 1")])
def test_items_that_cannot_be_worked_on_are_refused_before_the_task(quick, ledger, items, match):
    with pytest.raises(errors.InputError, match=match):
        process_in_batches(items, echo, quick, ledger=ledger, show_progress=False)
    assert ledger.tasks() == []


# --- pause, resume, cancel, interrupt


def test_pause_starts_no_further_item_and_resume_goes_on(quick, ledger, virtual):
    async def a_second(n):
        await asyncio.sleep(1)
        return n

    async def scenario():
        run = started(range(6), a_second, quick, ledger)
        await asyncio.sleep(0.5)
        run.pause()
        await asyncio.sleep(100)
        assert run.progress.status == "paused" and run.progress.processed == 1
        run.resume()
        return await run

    run = LOOP.run(scenario())
    assert run.results == list(range(6)) and run.task.status == "completed" and virtual.time() == 100.5 + 5


def test_a_run_can_be_paused_before_it_starts(quick, ledger):
    run = Run(Plan([1], lambda item: echo(item.value)), How(quick), Where(ledger, show_progress=False))
    run.pause()
    begun = heard(run, "batch_started")
    run.start()
    assert begun.wait(60) and run.progress.processed == 0
    run.resume()
    assert run.wait().results == [1]


def test_cancel_keeps_what_was_answered_and_the_next_run_works(quick, ledger):
    gate = Gate()

    async def second_waits(n):
        return n if n == 0 else await gate(n)

    run = started(range(6), second_waits, quick, ledger)
    assert gate.entered.wait(60)
    run.cancel()
    run.wait()
    assert run.task.status == "cancelled" and run.results == [0, None, None, None, None, None] and gate.inside == 0
    assert [item["status"] for item in ledger.items(run.task_id)] == ["ok"] + ["pending"] * 5
    assert process_in_batches([1], echo, quick, ledger=ledger, show_progress=False).results == [1]


def test_cancel_while_the_model_loads_leaves_no_task(quick, ledger):
    loading = threading.Event()

    class Slow(ScriptedBackend):
        async def load(self, model, options):
            loading.set()
            await asyncio.sleep(3600)

    client = Client(Slow(["x"]), "tiny")
    run = Run(
        Plan(["a"], lambda item: echo(item.value)), How(quick, client), Where(ledger, show_progress=False)
    ).start()
    assert loading.wait(60)
    run.cancel()
    assert run.wait().progress.status == "cancelled" and ledger.tasks() == []


def test_cancelling_the_await_cancels_the_run_and_frees_the_server(quick, ledger):
    with FakeOllama(seconds=3600) as server:
        client = Client(OllamaBackend(server.url), "tiny")

        async def cell():
            work = aprocess_in_batches(
                ["x"], "{item}", quick.replace(timeout_s=3600), client=client, ledger=ledger, show_progress=False
            )
            waiting = asyncio.create_task(work)
            assert await asyncio.to_thread(server.chat_arrived.wait, 60)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert await asyncio.to_thread(server.client_left.wait, 60)

        asyncio.run(cell())
        LOOP.run(client.aclose())
    assert ledger.tasks()[0].status == "cancelled"


INTERRUPTED = """
import sys, time
from cerebro_nb import process_in_batches
def work(n):
    if n == 2:
        print("working", flush=True)
        time.sleep(60)
    return n
try:
    process_in_batches(range(5), work, "auto", show_progress=False, on_progress=None)
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(process_in_batches([7], lambda n: n, "auto", show_progress=False).results, flush=True)
import os; os._exit(0)  # the sleeping thread is not waited for
"""


def test_ctrl_c_cancels_the_run_and_the_next_one_works():
    child = subprocess.Popen([sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True, env={**os.environ})
    assert child.stdout.readline() == "working\n"
    child.send_signal(signal.SIGINT)
    assert child.communicate(timeout=60)[0] == "interrupted\n[7]\n"
    cancelled = get_ledger().tasks()[-1]
    assert cancelled.status == "cancelled"
    get_ledger().close()


def test_another_process_reads_the_progress_while_the_run_goes_on(quick, ledger):
    gate = Gate()

    async def third_waits(n):
        return n if n < 2 else await gate(n)

    run = started(range(4), third_waits, quick, ledger)
    assert gate.entered.wait(60)
    reader = f"""
import json, time
from cerebro_nb import Ledger
ledger = Ledger({ledger.database.url!r})
while (task := ledger.tasks()[0]).processed_items < 2: time.sleep(0.02)
print(json.dumps([task.status, task.processed_items, task.progress_percentage]))
"""
    seen = subprocess.run([sys.executable, "-c", reader], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(seen.stdout) == ["in_progress", 2, 50]
    gate.open()
    assert run.wait().progress.percentage == 100


# --- going on


def test_a_cancelled_run_is_resumed_and_only_what_is_left_is_worked_on(quick, ledger):
    gate = Gate()
    worked = []

    async def third_waits(n):
        worked.append(n)
        return n if n < 2 else await gate(n)

    run = started(range(6), third_waits, quick, ledger)
    assert gate.entered.wait(60)
    run.cancel()
    run.wait()
    assert unfinished(ledger=ledger)[["status", "processed_items", "left_items"]].values.tolist() == [
        ["cancelled", 2, 4]
    ]
    gate.open()
    worked.clear()
    again = resume(run.task_id[:6], third_waits, ledger=ledger, show_progress=False)
    assert worked == [2, 3, 4, 5] and again.results == list(range(6))
    assert (again.task.status, again.progress.percentage, again.progress.earlier) == ("completed", 100, 2)
    assert unfinished(ledger=ledger).empty and again.task.lease_holder is None
    assert resume(run.task_id, third_waits, ledger=ledger, show_progress=False).results == list(range(6))


def test_the_bar_of_a_resumed_run_has_the_rate_of_this_run_alone(quick, ledger, capsys):
    gate = Gate()

    async def third_waits(n):
        return n if n < 2 else await gate(n)

    run = started(range(6), third_waits, quick, ledger)
    assert gate.entered.wait(60)
    run.cancel()
    run.wait()
    gate.open()
    resume(run, third_waits, ledger=ledger)
    assert "2/6 [00:00<?, ?item/s]" in capsys.readouterr().err, "what was there before was done at no rate"


def test_a_generator_is_given_again_and_what_is_recorded_is_skipped(quick, ledger):
    async def stop_at_four(n):
        if n == 4:
            raise errors.AuthenticationFailed("who are you?")
        return n

    with pytest.raises(errors.AuthenticationFailed):
        process_in_batches(iter(range(9)), stop_at_four, quick, ledger=ledger, show_progress=False)
    task = ledger.tasks()[0]
    with pytest.raises(errors.InputError, match="generator"):
        resume(task.id, echo, ledger=ledger, show_progress=False)
    run = resume(task.id, echo, items=iter(range(9)), ledger=ledger, show_progress=False)
    assert run.results == list(range(9)) and run.task.total_items == 9


def test_a_task_that_is_worked_on_cannot_be_resumed_by_another(quick, ledger):
    task_id = ledger.create_task("batch", "", 1, manifest={"profile": quick.model_dump()}, items=[(1, "k")])
    ledger.update_task(task_id, lease_holder="elsewhere:1:abc", lease_until=ledger.database.now() + 20)
    with pytest.raises(errors.TaskHeld, match="elsewhere"):
        resume(task_id, echo, ledger=ledger, show_progress=False)
    assert ledger.items(task_id)[0]["status"] == "pending"


def test_a_run_whose_task_another_process_has_taken_ends_at_the_next_renewal_of_its_lease(quick, ledger, virtual):
    async def scenario():
        run = started([1], lambda n: asyncio.sleep(86_400), quick.replace(timeout_s=86_400), ledger)
        await asyncio.sleep(3605)  # in which it was renewed hundreds of times
        until = {"lease_holder": "elsewhere:1:abc", "lease_until": ledger.database.now() + 20}
        ledger.update_task(run.task_id, **until)
        await run

    with pytest.raises(errors.TaskHeld, match="elsewhere"):
        LOOP.run(scenario())
    assert virtual.time() == 3600 + LEASE_S / 3
    (task,) = ledger.tasks()
    assert task.lease_holder == "elsewhere:1:abc" and ledger.items(task.id)[0]["status"] == "pending"


def test_failed_items_are_retried_with_other_options_and_keep_their_attempts(quick, ledger):
    with FakeOllama() as server:
        server.faults = [(400, {}, '{"error": "bad"}')]
        client = Client(OllamaBackend(server.url), "tiny")
        run = process_in_batches(["x", "y"], "{item}", quick, client=client, ledger=ledger, show_progress=False)
        again = retry_failed(
            run.task_id, client=client, ledger=ledger, max_tokens=77, temperature=0.1, show_progress=False
        )
        LOOP.run(client.aclose())
    assert again.results == ["echo x", "echo y"] and (again.task.ok_items, again.task.failed_items) == (2, 0)
    first, second = ledger.attempts(run.task_id, 0)
    assert first["error"]["type"] == "BadRequest" and second["error"] is None
    assert second["request"]["options"]["num_predict"] == 77 and second["number"] == 2


def test_many_runs_at_once_keep_apart(quick, ledger):
    runs = [started(range(n, n + 20), echo, quick, ledger) for n in range(0, 200, 20)]
    assert [run.wait().results for run in runs] == [list(range(n, n + 20)) for n in range(0, 200, 20)]


def test_progress_tells_rate_and_time_left(quick, ledger, virtual):
    told = []

    async def two_seconds(n):
        await asyncio.sleep(2)

    one_by_one = quick.replace(batch_size=3, concurrency=1, delay_s=0)
    quiet = {"ledger": ledger, "show_progress": False}
    run = process_in_batches(range(6), two_seconds, one_by_one, on_progress=told.append, **quiet)
    assert [now.event for now in told][:3] == ["started", "batch_started", "item"] and told[-1].event == "finished"
    middle = next(now for now in told if now.event == "item" and now.processed == 3)
    assert (middle.elapsed_s, middle.rate, middle.eta_s, middle.latency_s) == (6, 0.5, 6, 2) and middle.batches == 2
    assert told[-1].percentage == 100 and told[-1].elapsed_s == 12
    LOOP.run(asyncio.sleep(60))
    assert (run.progress.elapsed_s, run.progress.rate) == (12, 0.5), "an ended run takes no more time"


def test_the_bar_is_text_on_standard_error(quick, ledger, capsys):
    process_in_batches(range(3), echo, quick, ledger=ledger, kind="<b>Q&A</b>")
    assert "<b>Q&A</b>: 100%" in capsys.readouterr().err


# --- a task that ended, or is at work


@pytest.mark.parametrize("name", ["run", "task", "id"])
def test_resuming_a_task_that_ended_changes_nothing(quick, ledger, name):
    run = process_in_batches(range(3), echo, quick, ledger=ledger, show_progress=False)
    before = run.task
    again = resume({"run": run, "task": before, "id": run.task_id}[name], ledger=ledger)
    assert again.ended and again.wait() is again and again.failure is None
    assert again.results == [0, 1, 2] and list(again.df["status"]) == ["ok"] * 3
    assert (again.progress.status, again.progress.ok, again.progress.total) == ("completed", 3, 3)
    with pytest.raises(errors.InputError, match="no failed items"):
        retry_failed(run, processor=echo, ledger=ledger)
    assert ledger.task(run.task_id) == before


def test_resuming_a_task_of_which_every_item_failed_changes_nothing_either(quick, ledger):
    def fail(n):
        raise ValueError(n)

    run = process_in_batches(range(3), fail, quick, ledger=ledger, show_progress=False)
    before = run.task
    assert before.status == "failed" and resume(run).progress.failed == 3 and run.task == before
    assert retry_failed(run, processor=echo, show_progress=False).results == [0, 1, 2]


def test_a_run_is_completed_only_if_every_item_ended(quick, ledger, monkeypatch):
    task_id = ledger.create_task(
        "batch", "", 3, items=[(1, "a"), (2, "b")], manifest={"processor": "echo", "profile": quick.model_dump()}
    )
    with pytest.raises(errors.CerebroError, match=r"1 of the items .* no answer") as told:
        resume(task_id, echo, ledger=ledger, show_progress=False)
    assert "resume" in told.value.hint
    task = ledger.task(task_id)
    assert (task.status, task.ok_items, task.lease_holder) == ("failed", 2, None)


def test_a_task_at_work_is_not_deleted_and_one_that_ended_is(quick, ledger):
    gate = Gate()
    run = Run(Plan(range(3), lambda item: gate(item.value)), How(quick), Where(ledger, show_progress=False)).start()
    assert gate.entered.wait(60)
    with pytest.raises(errors.TaskHeld, match="this process"):
        ledger.delete_task(run.task_id)
    run.cancel()
    run.wait()
    assert run.task.status == "cancelled"
    ledger.delete_task(run.task_id)
    with pytest.raises(errors.TaskNotFound):
        ledger.task(run.task_id)


def test_a_task_that_another_process_works_on_is_not_deleted(ledger):
    task_id = ledger.create_task("batch", "", 1)
    ledger.update_task(task_id, lease_holder="elsewhere:1:abc", lease_until=ledger.database.now() + 20)
    with pytest.raises(errors.TaskHeld, match="elsewhere"):
        ledger.delete_task(task_id)


# --- options that do not fit


@pytest.mark.parametrize(
    ("name", "value"),
    [("system_prompt", "x"), ("temperature", 0.5), ("model", "x"), ("max_tokens", 5), ("is_training", False)],
)
def test_an_option_of_a_prompt_is_refused_with_a_function(quick, ledger, name, value):
    with pytest.raises(errors.InputError, match=name):
        process_in_batches([1], echo, quick, ledger=ledger, **{name: value})
    run = process_in_batches([1], echo, quick, ledger=ledger, show_progress=False)
    if name not in ("system_prompt", "is_training"):
        ledger.update_task(run.task_id, status="cancelled")
        with pytest.raises(errors.InputError, match=name):
            resume(run.task_id, echo, ledger=ledger, **{name: value})


def test_an_unknown_option_is_refused(quick, ledger):
    client = Client(ScriptedBackend(lambda request: "x"), "tiny")
    with pytest.raises(errors.CerebroError, match="colour"):
        process_in_batches([1], "{item}", quick, client=client, ledger=ledger, colour="red")
    run = process_in_batches([1], "{item}", quick, client=client, ledger=ledger, show_progress=False)
    ledger.update_task(run.task_id, status="cancelled")
    with pytest.raises(errors.CerebroError, match="colour"):
        resume(run.task_id, client=client, ledger=ledger, colour="red")
    with pytest.raises(errors.InputError, match="processor"):
        resume(run.task_id, echo, client=client, ledger=ledger)


@pytest.mark.parametrize("changes", [{"model": "x"}, {"profile": "research"}, {"max_tokens": 5}, {"colour": None}])
def test_an_option_is_refused_where_nothing_is_left_to_do(quick, ledger, changes):
    run = process_in_batches([1], echo, quick, ledger=ledger, show_progress=False)
    with pytest.raises(errors.InputError, match=next(iter(changes))):
        resume(run, **changes)
    assert resume(run, echo, model=None).results == [1]  # what is needed where something is left is taken


def test_an_unknown_option_is_refused_whatever_it_is_given_as(quick, ledger):
    run = process_in_batches([1], echo, quick, ledger=ledger, show_progress=False)
    ledger.update_task(run.task_id, status="cancelled")
    for again in (resume, retry_failed, rerun):
        with pytest.raises(errors.InputError, match="colour"):
            again(run, processor=echo, colour=None)


# --- what is shown


def test_texts_that_a_terminal_would_obey_are_shown_clean_and_kept_as_they_are(quick, ledger):
    text = "a\x00b\ud800c\u202e\x1b[31m"
    run = process_in_batches([text], lambda n: {"said\x1b": n}, quick, ledger=ledger, kind=text, show_progress=False)
    shown = run.df.to_csv() + run.page().to_html() + tasks_df(ledger=ledger).to_csv() + repr(run) + repr(run.task)
    shown.encode()
    assert not set(shown) & set("\x00\ud800\u202e\x1b")
    assert run.results == [{"said\x1b": text}]
