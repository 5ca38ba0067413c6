"""Forks, signals, exits, and a loop that is gone: every run ends, and every process does."""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
from fakes import FakeOllama

from cerebro_nb import Client, How, Ledger, OllamaBackend, Plan, Run, Where, errors, process_in_batches
from cerebro_nb.concurrency.loop import LOOP, LoopEnded, LoopThread
from cerebro_nb.concurrency.threads import MOST_LEFT, in_thread

COMMON = """
import asyncio, os, sys, threading, time
from cerebro_nb import Ledger, load_settings, process_in_batches
ledger = Ledger(sys.argv[1])
quick = load_settings({}).profile("auto").replace(concurrency=2, backoff_s=0, max_attempts=1, timeout_s=2)

def run(items, work, profile=quick):
    return process_in_batches(items, work, profile, ledger=ledger, show_progress=False)
"""


def begun(script, *words, **options):
    """Start a Python process."""
    words = [sys.executable, "-c", COMMON + textwrap.dedent(script), *words]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


async def echo(value):
    return value


# --- forks


def in_a_fork(work):
    """Call a function in a forked child; return what it returned, or fail after a while."""
    context = multiprocessing.get_context("fork")
    told = context.SimpleQueue()
    child = context.Process(target=lambda: told.put(work()))
    child.start()
    child.join(60)
    hangs = child.is_alive()
    child.kill()
    child.join()
    assert not hangs, "the child hangs"
    assert child.exitcode == 0
    return told.get()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_can_use_everything_that_its_parent_used(ledger, quick):
    def run(first):
        items = range(first, first + 20)
        ended = process_in_batches(items, lambda n: n + 1, quick, ledger=ledger, show_progress=False)
        return ended.results, ended.task_id

    assert run(0)[0] == list(range(1, 21))
    results, task_id = in_a_fork(lambda: run(100))
    assert results == list(range(101, 121))
    assert [item["output"] for item in ledger.items(task_id)] == results  # it is on disk, and the parent reads it
    assert run(200)[0] == list(range(201, 221))
    assert in_a_fork(lambda: in_a_fork(lambda: run(300)[0])) == list(range(301, 321))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_in_mid_run_leaves_the_run_to_its_parent(ledger, quick):
    ready, go_on = threading.Event(), asyncio.Event()

    async def work(n):
        if n == 10:
            ready.set()
            await go_on.wait()
        return n

    patient = quick.replace(timeout_s=600)
    run = Run(Plan(range(60), lambda item: work(item.value)), How(patient), Where(ledger, show_progress=False)).start()
    assert ready.wait(60)

    def look():
        try:
            run.wait()
        except errors.InputError as error:
            mine = process_in_batches([1, 2], echo, quick, ledger=ledger, show_progress=False).results
            return error.message, mine, run.task.status

    said, mine, status = in_a_fork(look)
    LOOP.loop.call_soon_threadsafe(go_on.set)
    assert "forked" in said and mine == [1, 2] and status == "in_progress"
    assert run.wait().results == list(range(60)) and run.task.status == "completed"


def test_a_fork_writes_on_after_its_parent_has_closed_the_ledger(tmp_path):
    """With a connection carried over the fork, the parent takes the log away under the child's hands."""
    script = """
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # as Python warns of every fork of a process with threads
    run(range(3), lambda n: n)
    parent_ended, parent_lives = os.pipe()
    child_wrote, child_writes = os.pipe()
    if os.fork() == 0:
        os.close(parent_lives)
        run(range(3), lambda n: n)
        os.write(child_writes, b"x")
        os.read(parent_ended, 1)  # ends when the parent does
        run(range(5), lambda n: n)
        sys.exit(0)
    os.read(child_wrote, 1)
    ledger.close()
    """
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    parent = begun(script, url)
    _, noise = parent.communicate(timeout=60)  # the pipe ends with the child
    assert parent.returncode == 0 and noise == ""
    ledger = Ledger(url)
    assert sorted(task.ok_items for task in ledger.tasks()) == [3, 3, 5]
    assert all(len(ledger.items(task.id, "ok")) == task.ok_items for task in ledger.tasks())
    ledger.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_exit_of_a_fork_closes_nothing_of_its_parents(quick, ledger):
    with FakeOllama() as server:
        client = Client(OllamaBackend(server.url), "tiny")
        LOOP.at_exit(client.aclose)

        def run():
            return process_in_batches(["a"], "{item}", quick, client=client, ledger=ledger, show_progress=False).results

        assert run() == ["echo a"]
        child = os.fork()
        if child == 0:
            try:
                import atexit

                atexit._run_exitfuncs()
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert run() == ["echo a"]
        LOOP.run(client.aclose())


# --- the loop


class Fragile(LoopThread):
    """A loop that can be made to end, as nothing that we know of does."""

    def end(self):
        thread, loop = self.keeper.at_work.thread, self.loop
        loop.call_soon_threadsafe(lambda: setattr(loop, "is_closed", lambda: True) or loop.stop())
        thread.join(60)
        assert not thread.is_alive()
        del loop.is_closed
        loop.close()


def test_who_waits_on_a_loop_that_ended_is_told_and_the_next_call_has_a_new_one():
    fragile, waits, forgotten = Fragile(), threading.Event(), []
    fragile.when_lost(lambda: forgotten.append(True))
    stuck = asyncio.Event()

    async def wait():
        waits.set()
        await stuck.wait()

    waiting = fragile.submit(wait())
    assert waits.wait(60)
    fragile.end()
    with pytest.raises(LoopEnded):
        waiting.result(60)
    assert forgotten == [True] and fragile.run(echo(1)) == 1


def test_a_loop_that_cannot_go_on_ends_once_and_tells_who_waits(caplog):
    broken, waits = LoopThread(), threading.Event()

    async def wait():
        waits.set()
        await asyncio.Event().wait()

    def fail(timeout):
        raise OSError("the selector is closed")

    waiting, keeper, at_work = broken.submit(wait()), broken.keeper, broken.keeper.at_work
    lock, thread, loop = keeper.lock, at_work.thread, at_work.loop
    assert waits.wait(60)
    loop.call_soon_threadsafe(setattr, loop._selector, "select", fail)
    with pytest.raises(LoopEnded):
        waiting.result(60)
    thread.join(60)
    assert not thread.is_alive()
    assert len([record for record in caplog.records if record.name == "cerebro_nb.concurrency.loop"]) == 1
    assert keeper.lock is lock  # whoever waited for it and who comes next keep each other out
    assert broken.run(echo(1)) == 1
    del loop._selector.select
    loop.close()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_task_that_leaves_takes_no_loop_with_it(error):
    async def leave():
        raise error

    async def start():
        task = asyncio.get_running_loop().create_task(leave())
        await asyncio.wait([task])
        assert isinstance(task.exception(), error)
        return threading.current_thread()

    assert LOOP.run(start()) is LOOP.run(start()) is LOOP.keeper.at_work.thread


# --- functions that block


def test_a_function_that_blocks_for_ever_fails_its_item_alone_and_holds_nobody_up(tmp_path):
    script = """
    def work(n):
        if n < 6:
            threading.Event().wait()
        return n
    ended = run(range(30), work)
    print(ended.progress.ok, ended.progress.failed, sorted(ended.errors), flush=True)
    """
    process = begun(script, f"sqlite:///{tmp_path / 'ledger.db'}")
    said, noise = process.communicate(timeout=60)
    assert process.returncode == 0, noise
    assert said == "24 6 [0, 1, 2, 3, 4, 5]\n"


def test_a_function_that_hangs_each_time_takes_no_more_threads_than_there_may_be(quick, ledger, caplog):
    released, before = threading.Event(), threading.active_count()

    def hang(n):
        released.wait()
        return n

    limits = {"batch_size": MOST_LEFT // 2, "concurrency": MOST_LEFT // 2, "max_attempts": 1, "timeout_s": 0.2}
    wide = quick.replace(**limits, adaptive=False)
    try:
        run = process_in_batches(range(3 * MOST_LEFT), hang, wide, ledger=ledger, show_progress=False)
        assert run.progress.failed == 3 * MOST_LEFT
        assert threading.active_count() - before < 2 * MOST_LEFT
        last = run.errors[3 * MOST_LEFT - 1]
        assert last["type"] == "ProcessorFailed" and f"given up {MOST_LEFT} times" in last["message"]
        said = [record.getMessage() for record in caplog.records if record.name == "cerebro_nb.concurrency.threads"]
        assert len(said) == 2 and f"in {MOST_LEFT} of them" in said[-1]
        other = process_in_batches([1], lambda n: n, quick, ledger=ledger, show_progress=False)
        assert other.results == [1]  # another function is none of it
    finally:
        released.set()

    async def has_come_back():
        while True:
            with contextlib.suppress(errors.ProcessorFailed):
                return await in_thread(hang, 7)
            await asyncio.sleep(0.01)

    assert LOOP.run(asyncio.wait_for(has_come_back(), 60)) == 7


def test_threads_are_used_again_and_see_what_their_caller_sees():
    import contextvars

    name = contextvars.ContextVar("name", default="nobody")

    async def use():
        name.set("item")
        return [await in_thread(lambda: (name.get(), threading.get_ident())) for _ in range(20)]

    told = LOOP.run(use())
    assert {who for who, _ in told} == {"item"} and len({ident for _, ident in told}) == 1


# --- signals


@pytest.mark.parametrize("face", ["process_in_batches", "wait"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_run_like_ctrl_c(tmp_path, number, face):
    script = {
        "process_in_batches": "run(range(100), work, quick)",
        "wait": """
from cerebro_nb import How, Plan, Run, Where
Run(Plan(range(100), lambda item: work(item.value)), How(quick), Where(ledger, show_progress=False)).wait()
""",
    }
    begin = """
import signal

async def work(n):
    if n == 4:
        while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # nobody waits yet
            await asyncio.sleep(0.01)
        print("there", flush=True)
        await asyncio.sleep(600)
    return n
quick = quick.replace(timeout_s=600)
"""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    process = begun(begin + script[face], url)
    assert process.stdout.readline() == "there\n"
    process.send_signal(number)
    _, noise = process.communicate(timeout=60)
    assert process.returncode == 128 + number, noise
    assert "Traceback" not in noise
    ledger = Ledger(url)
    (task,) = ledger.tasks()
    assert (task.status, task.lease_holder) == ("cancelled", None), noise
    assert task.ok_items >= 4
    ledger.close()


def test_a_handler_of_the_users_own_is_left_and_so_is_nohup(tmp_path):
    script = """
    import signal
    heard, is_heard = [], threading.Event()
    def handler(number, frame):
        heard.append(number)
        is_heard.set()
    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    async def work(n):
        if n == 1:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.to_thread(is_heard.wait)
        return n
    print(run(range(3), work).results, heard, signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)
    """
    process = begun(script, f"sqlite:///{tmp_path / 'ledger.db'}")
    said, noise = process.communicate(timeout=60)
    assert process.returncode == 0 and said == "[0, 1, 2] [15] True\n", noise
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_a_client_that_was_used_is_used_again_on_both_sides_of_a_fork(tmp_path):
    script = """
import os, sys
from cerebro_nb import Client, OllamaBackend, call_llm, get_client
client = Client(OllamaBackend(sys.argv[1]), "tiny")
shared = get_client(backend="ollama", base_url=sys.argv[1], model="tiny")
assert call_llm("one", client=client).text == call_llm("one", client=shared).text == "echo one"
child = os.fork()
said = "two" if child else "three"
assert call_llm(said, client=client).text == f"echo {said}"
assert call_llm(said, backend="ollama", base_url=sys.argv[1], model="tiny").text == f"echo {said}"
if child:
    assert os.waitpid(child, 0)[1] == 0
    print("both")
"""
    with FakeOllama() as ollama:
        words = [sys.executable, "-W", "error", "-c", script, ollama.url]
        ended = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, "both\n"), ended.stderr
