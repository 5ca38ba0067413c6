"""Workers that share a ledger of PostgreSQL: processes of their own, of which any may end at any moment."""

import contextlib
import itertools
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sql
from fakes import FakeOllama
from servers import PostgresServer
from sqlalchemy.exc import OperationalError

import cerebro_nb
from cerebro_nb import (
    Client,
    Ledger,
    OllamaBackend,
    errors,
    load_settings,
    process_in_batches,
    resume,
    retry_failed,
)
from cerebro_nb.batching.plans import How, Plan, Where
from cerebro_nb.batching.run import Run
from cerebro_nb.batching.work import function_work, prompt_work
from cerebro_nb.cluster.assignments import MOST_DEATHS
from cerebro_nb.concurrency.loop import LOOP
from cerebro_nb.generating.builtin import qa_run
from cerebro_nb.judging.trials import Contest, Scoring, trials_run
from cerebro_nb.launching.batches import batch_run
from cerebro_nb.sharing.handing_out import (
    Claim,
    Lease,
    LeasedRows,
    PostedJob,
    Sign,
    claim_leases,
    give_sign,
    open_job,
    post_job,
    post_leases,
    write_leased,
)
from cerebro_nb.sharing.serving import Serving
from cerebro_nb.sharing.sharing import LOST_S, Sharing, workers_df
from cerebro_nb.tasks.schema import ENDINGS, JOBS, LEASES, WORKERS
from cerebro_nb.tasks.writing import EndedRows

CEREBRO = str(Path(sys.executable).parent / "cerebro")
FOUR_AT_ONCE = load_settings({}).profile("auto").replace(concurrency=4, adaptive=False, backoff_s=0.01)
SOON_S = 4.0  # two signs of life: on a busy machine a living worker may miss them

CHORES = '''
"""Functions of a user's own."""

import os, signal

async def double(value):
    return 2 * value

async def deadly(value):
    if value == 17:
        os.kill(os.getpid(), signal.SIGKILL)
    return value

def is_short(case, text):
    return len(text) < 1_000

async def unfit(value):
    if value % 5 == 0 and not os.path.exists("mended"):
        raise ValueError("not yet")
    return value
'''


@pytest.fixture
def url(postgres):
    return postgres.new_database()


@pytest.fixture
def shared(url):
    with contextlib.closing(Ledger(url)) as ledger:
        yield ledger


@pytest.fixture
def chores(tmp_path, monkeypatch):
    """Return a module of functions that this process and the workers can import."""
    (tmp_path / "chores.py").write_text(CHORES)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("chores", None)
    import chores

    return chores


class Team:
    """`cerebro work` several times."""

    def __init__(self, url, *words, **environment):
        self.words = [CEREBRO, "work", "--ledger", url, *words]
        self.environment = {**os.environ, **environment}
        self.there = []

    def start(self, **environment):
        """Start a worker, and return when it is at work."""
        worker = subprocess.Popen(
            self.words, stderr=subprocess.PIPE, text=True, env={**self.environment, **environment}
        )
        self.there.append(worker)
        worker.lines = []
        while "is at work" not in (line := worker.stderr.readline()):
            assert line, worker.lines
            worker.lines.append(line)
        worker.reader = threading.Thread(target=lambda: worker.lines.extend(worker.stderr), daemon=True)
        worker.reader.start()
        return worker

    def end(self, worker, number=signal.SIGKILL):
        """End a worker, and return how it ended."""
        worker.send_signal(number)
        code = worker.wait(60)
        worker.reader.join(60)
        worker.stderr.close()
        self.there.remove(worker)
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for worker in [*self.there]:
            self.end(worker)


def a_run(ledger, items, function, profile=FOUR_AT_ONCE, **more):
    """Return a run of a function by workers, not started."""
    place = Sharing(lambda: ledger)
    given = {"processor": function}
    plan = Plan(items, function_work(function), manifest={"processor": function.__qualname__}, given=given, **more)
    run = Run(plan, How(profile), Where(ledger, show_progress=False, place=lambda: place))
    run.place = place
    return run


CLIENTS = []


@pytest.fixture(autouse=True)
def clients_are_closed():
    yield
    while CLIENTS:
        LOOP.run(CLIENTS.pop().aclose())


def a_prompt_run(ledger, items, server, profile=FOUR_AT_ONCE, lost_s=LOST_S, **more):
    """Return a run of a prompt by workers, not started."""
    place, client = Sharing(lambda: ledger, lost_s=lost_s), Client(OllamaBackend(server.url), "tiny")
    CLIENTS.append(client)
    prompt, options = "item {item};", load_settings().options(is_training=True)
    manifest = {"prompt": prompt, "system_prompt": None, "response_model": None, "json_schema": None}
    plan = Plan(items, prompt_work(client, prompt, options), manifest=manifest, **more)
    run = Run(plan, How(profile, client, options=options), Where(ledger, show_progress=False, place=lambda: place))
    run.place = place
    return run


def sent(server):
    """Return how often each item was asked for."""
    texts = [payload["messages"][-1]["content"] for path, payload, _ in list(server.requests) if path == "/api/chat"]
    return Counter(int(re.search(r"item (\d+);", text)[1]) for text in texts)


def outputs(ledger, run):
    return [item["output"] for page in ledger.pages(run.task_id, "ok") for item in page]


def reached(run, count):
    """Return an event that is set when so many items of a run have ended."""
    event = threading.Event()
    run.on_progress(lambda now: event.set() if now.processed >= count or now.event == "finished" else None)
    return event


# --- deaths


@pytest.mark.timeout(300)
def test_workers_are_killed_at_random_and_each_item_is_once_in_the_ledger(url, shared, chance):
    items, kills = 200, 5
    with FakeOllama(slots=12, seconds=0.2) as server, Team(url, OLLAMA_HOST=server.url) as team:
        for _ in range(3):
            team.start()
        run = a_prompt_run(shared, range(items), server)
        marks = [reached(run, (number + 1) * items // (kills + 2)) for number in range(kills)]
        run.start()
        for mark in marks:
            assert mark.wait(120)
            team.end(chance.choice(team.there))
            team.start()
        run.wait()
        asked = sent(server)
    assert outputs(shared, run) == [f"echo item {n};" for n in range(items)]
    task = shared.task(run.task_id)
    assert (task.ok_items, task.processed_items, task.status) == (items, items, "completed")
    assert len(shared.attempts(run.task_id)) == items and run.progress.ok == items
    assert run.place.deaths <= kills and shared.database.read(sql.select(LEASES)) == []
    # What was in flight at a death is asked again, and what was answered and not yet written.
    assert set(asked) == set(range(items)) and asked.total() <= items + kills * 2 * 4
    print(f"{kills} kills, {asked.total() - items} requests sent twice")


def test_a_worker_that_falls_silent_is_too_late_and_goes_on_afterwards(url, shared):
    with FakeOllama(slots=8, seconds=0.3) as server, Team(url, OLLAMA_HOST=server.url) as team:
        silent = team.start()
        run = a_prompt_run(shared, range(60), server, lost_s=SOON_S)
        ten = reached(run, 10)
        run.start()
        assert ten.wait(60)
        silent.send_signal(signal.SIGSTOP)
        team.start()
        run.wait()
        silent.send_signal(signal.SIGCONT)
        assert outputs(shared, run) == [f"echo item {n};" for n in range(60)] and run.place.deaths == 1
        assert len(shared.attempts(run.task_id)) == 60
        team.end(next(worker for worker in team.there if worker is not silent))
        again = a_prompt_run(shared, range(20), server)
        again.start().wait()
        assert again.progress.ok == 20
        team.end(silent, signal.SIGINT)
    assert any("taken for dead" in line or "silent for so long" in line for line in silent.lines)


def test_one_that_was_taken_for_dead_and_lives_gets_nothing_taken_again(url, shared):
    """It says that it lives before it claims, so nobody takes it for dead once more."""
    with FakeOllama(slots=8, seconds=0.3) as server, Team(url, OLLAMA_HOST=server.url) as team:
        worker = team.start()
        run = a_prompt_run(shared, range(60), server)
        marks = [reached(run, number) for number in (8, 24, 40)]
        run.start()
        for mark in marks:
            assert mark.wait(60)
            shared.database.write(WORKERS.delete())  # as another run does that takes it for dead
        run.wait()
        assert outputs(shared, run) == [f"echo item {n};" for n in range(60)]
        assert 1 <= run.place.deaths <= len(marks)  # each time once, for what it held
        team.end(worker, signal.SIGINT)


def test_settings_that_are_half_saved_end_no_worker(url, shared, tmp_path):
    config = tmp_path / "cerebro.toml"
    with FakeOllama(slots=8, seconds=0.1) as server, Team(url, OLLAMA_HOST=server.url) as team:
        config.write_text("outage_s = 600\n")
        worker = team.start(CEREBRO_CONFIG=str(config))
        run = a_prompt_run(shared, range(300), server, lost_s=SOON_S)
        ten = reached(run, 10)
        run.start()
        assert ten.wait(60)
        config.write_text("outage_s = [")
        run.wait()
        assert run.progress.ok == 300 and run.place.deaths == 0
        assert team.end(worker, signal.SIGINT) == 130


def test_an_item_that_kills_its_workers_fails_alone(url, shared, chores):
    run = a_run(shared, range(60), chores.deadly)
    known = reached(run, 0)
    run.start()
    assert known.wait(60)
    with Team(url, "--functions", "chores", "--task", run.task_id) as team:

        def keep(number):
            while (worker := team.start()).wait(120):  # until the task is over
                team.end(worker)

        with ThreadPoolExecutor(2) as pool:
            kept = [pool.submit(keep, number) for number in range(2)]
            run.wait()
            for one in kept:
                one.result(120)
    assert run.progress.ok == 59 and run.progress.failed == 1
    ((failed,),) = shared.pages(run.task_id, "failed")
    assert failed["input"] == 17 and failed["error"]["type"] == "WorkerLost" and run.place.deaths >= MOST_DEATHS


# --- by name


def pair(number):
    """Return an example that is like no other."""
    question = f"How many cups of tea number {number} does a guest in house {number * 7} drink?"
    answer = f"A guest of house {number * 7} drinks {number + 2} cups of the green tea each day."
    return json.dumps({"question": question, "answer": answer})


def test_a_generator_s_run_is_worked_on_by_workers(url, shared):
    numbers = itertools.count()

    def answer(_):
        return pair(next(numbers))

    with FakeOllama(answer, slots=8, seconds=0.2) as one, FakeOllama(answer, slots=8, seconds=0.2) as other:
        more = {"model": "tiny", "backend": "ollama", "base_url": one.url, "embedder": "none", "one_call": True}
        with Team(url) as team:
            for server in (one, other):
                team.start(OLLAMA_HOST=server.url)
            run = qa_run("tea", 40, profile=FOUR_AT_ONCE, ledger=shared, on="workers", show_progress=False, **more)
            run.start().wait()
    assert run.progress.ok == 40 and len({output["question"] for output in outputs(shared, run)}) == 40
    made = [sum("format" in payload for _, payload, _ in server.requests) for server in (one, other)]
    assert sum(made) >= 40 and min(made) > 0


def stubborn_run(server, ledger, on):
    """Return a run of a generator, not started."""
    more = {"model": "tiny", "backend": "ollama", "base_url": server.url, "embedder": "none", "one_call": True}
    return qa_run("tea", 10, profile=FOUR_AT_ONCE, ledger=ledger, on=on, show_progress=False, **more)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("answer", [pair(1), '{"question": "?"}'], ids=["always the same", "never fit"])
def test_a_generator_stops_where_nothing_good_comes_as_it_does_here(url, shared, answer):
    with FakeOllama(lambda _: answer, slots=8) as server, Team(url) as team:
        here = stubborn_run(server, shared, "here").wait().progress
        team.start(OLLAMA_HOST=server.url)
        elsewhere = stubborn_run(server, shared, "workers")
        # Without an end it would be cancelled.
        elsewhere.on_progress(lambda now: elsewhere.cancel() if now.processed > 5 * here.processed else None)
        there = elsewhere.wait().progress
    assert there.status != "cancelled" and there.ok == here.ok
    assert there.processed <= 3 * here.processed, (there, here)


# --- going, pausing, ending


def test_a_worker_that_is_stopped_gives_back_at_once_what_it_holds(url, shared):
    with FakeOllama(slots=8, seconds=0.3) as server, Team(url, OLLAMA_HOST=server.url) as team:
        first = team.start()
        run = a_prompt_run(shared, range(60), server)
        ten = reached(run, 10)
        run.start()
        assert ten.wait(60)
        assert team.end(first, signal.SIGINT) == 130
        held = [row["holder"] for row in shared.database.read(sql.select(LEASES.c.holder)) if row["holder"]]
        assert held == [] and shared.database.read(sql.select(WORKERS)) == [] and server.in_flight == 0
        second = team.start()
        run.wait()
        assert team.end(second, signal.SIGTERM) == 143
    assert run.progress.ok == 60 and run.place.deaths == 0
    assert len(shared.attempts(run.task_id)) == 60


def test_a_pause_begins_nothing_more_and_a_cancel_ends_what_is_under_way(url, shared):
    left = threading.Event()
    with FakeOllama(slots=8, seconds=0.2) as server, Team(url, OLLAMA_HOST=server.url) as team:
        for _ in range(2):
            team.start()
        run = a_prompt_run(shared, range(400), server)
        ten, again = reached(run, 10), reached(run, 60)
        run.start()
        assert ten.wait(60)
        run.pause()
        begun = -1
        while begun != (begun := len(server.requests)):  # until nothing more begins, for longer than a request takes
            left.wait(1.0)
        assert server.in_flight == 0 and run.progress.processed < 60 and run.progress.status == "paused"
        there, environment = workers_df(ledger=shared), {**os.environ, "CEREBRO_DATABASE_URL": url}
        told = subprocess.run([CEREBRO, "tasks"], capture_output=True, text=True, env=environment, check=True).stdout
        assert list(there["at_once"]) == [4, 4] and set(there["task_id"]) == {run.task_id}
        assert all(name in told for name in there["worker"])
        run.resume()
        assert again.wait(60)
        server.seconds = 60.0
        while server.in_flight < 4:
            left.wait(0.1)
        began = time.monotonic()
        run.cancel()
        run.wait()
        while server.in_flight:
            left.wait(0.05)
        print(f"no request in service {time.monotonic() - began:.2f} s after a cancel")
        assert run.progress.status == "cancelled" and 60 <= run.progress.ok < 400
        assert shared.database.read(sql.select(JOBS)) == shared.database.read(sql.select(LEASES)) == []
        server.seconds = 0.0
        # It goes on where it was, by the workers, or without.
        before = sent(server)
        resumed = a_prompt_run(shared, (), server, task_id=run.task_id).start()
        resumed.wait()
        assert outputs(shared, resumed) == [f"echo item {n};" for n in range(400)]
        assert (sent(server) - before).total() == 400 - run.progress.ok


def test_failed_items_are_tried_again_by_workers_of_one_task_alone(url, shared, chores, tmp_path):
    once = FOUR_AT_ONCE.replace(max_attempts=1)
    run = a_run(shared, range(50), chores.unfit, once)
    known = reached(run, 0)
    run.start()
    assert known.wait(60)
    with Team(url, "--functions", "chores", "--task", run.task_id[:8]) as team:
        worker = team.start()
        run.wait()
        assert worker.wait(60) == 0  # the task is over
        team.end(worker)
        assert run.progress.failed == 10 and {error["type"] for error in run.errors.values()} == {"ProcessorFailed"}
        (tmp_path / "mended").touch()
        again = a_run(
            shared, (), chores.unfit, once, task_id=run.task_id, before=lambda: shared.reopen_failed(run.task_id)
        )
        again.start()
        team.start()
        again.wait()
    assert outputs(shared, run) == list(range(50)) and again.progress.failed == 0
    assert len(shared.attempts(run.task_id)) == 60  # the earlier ones stay


# --- who cannot work


def test_a_worker_without_the_model_leaves_the_items_to_the_others(url, shared):
    with FakeOllama(slots=8) as server, FakeOllama() as poor, Team(url) as team:
        poor.models = ["another:latest"]
        without = team.start(OLLAMA_HOST=poor.url)
        run = a_prompt_run(shared, range(40), server).start()
        with pytest.raises(errors.ModelNotFound):
            run.wait()
        assert run.progress.status == "failed" and shared.unanswered(run.task_id) == 40
        team.start(OLLAMA_HOST=server.url)
        again = a_prompt_run(shared, (), server, task_id=run.task_id).start()
        again.wait()
        assert outputs(shared, again) == [f"echo item {n};" for n in range(40)]
        assert team.end(without, signal.SIGINT) == 130
    assert sum(f"works on task {run.task_id} no more" in line for line in without.lines) >= 1


def test_another_version_and_a_module_that_is_not_named_are_refused_in_words(url, shared, chores, monkeypatch):
    with Team(url) as team:
        team.start()
        run = a_run(shared, range(4), chores.double).start()
        with pytest.raises(errors.InputError, match="calls nothing of the module chores") as refused:
            run.wait()
        assert "--functions chores" in refused.value.hint
        monkeypatch.setattr(cerebro_nb, "__version__", "0.0.1")
        run = a_run(shared, range(4), chores.double).start()
        with pytest.raises(errors.InputError, match=r"the run is of Cerebro 0\.0\.1") as refused:
            run.wait()
        assert "pip install cerebro-nb==0.0.1" in refused.value.hint


def test_a_worker_of_another_task_is_none_of_those_that_must_say_it(url, shared, chores):
    other = shared.create_task("numbers", "", 1)
    with Team(url) as team:
        team.start()  # it may call no function of ours
        team.words += ["--task", other]
        team.start()
        run = a_run(shared, range(4), chores.double).start()
        with pytest.raises(errors.InputError, match="calls nothing of the module chores"):
            run.wait()


def test_a_run_of_which_no_worker_may_take_anything_says_so(url, shared, chores, caplog):
    other, told = shared.create_task("numbers", "", 1), threading.Event()
    with Team(url, "--task", other) as team:
        team.start()
        run = a_run(shared, range(4), chores.double)

        with heard(lambda words: told.set() if "no worker is there" in words else None):
            run.start()
            assert told.wait(30)
            run.cancel()
            run.wait()


def test_an_idle_worker_shows_no_task(url, shared, chores):
    left = threading.Event()
    with Team(url, "--functions", "chores") as team:
        team.start()
        a_run(shared, range(4), chores.double).start().wait()
        until = time.monotonic() + 30
        while (tasks := [*workers_df(ledger=shared)["task_id"]]) != [None] and time.monotonic() < until:
            left.wait(0.2)
        assert tasks == [None]


def test_what_cannot_be_found_by_its_name_is_refused_before_anything_is_asked(shared):
    async def nearby(value):
        return value

    run = a_run(shared, range(4), nearby).start()
    with pytest.raises(errors.InputError, match="nearby cannot be found by its name"):
        run.wait()


def test_a_check_of_one_s_own_goes_along_by_its_name(url, shared, chores):
    contest = Contest("Repeat it.", [{"prompt": "Repeat {input}", "manner": "short"}], ["tea", "rice"], "t1")
    with FakeOllama() as server, Team(url, "--functions", "chores", OLLAMA_HOST=server.url) as team:
        team.start()
        more = {"ledger": shared, "show_progress": False, "on": "workers", "profile": FOUR_AT_ONCE}
        with Client(OllamaBackend(server.url), "tiny") as client:
            run = trials_run(contest, Scoring(chores.is_short), client=client, **more).start().wait()
            asked = len(server.requests)
            with pytest.raises(errors.InputError, match="cannot be found by its name"):
                trials_run(contest, Scoring(lambda case, text: True), client=client, **more)
        assert [row["score"] for row in outputs(shared, run)] == [1.0, 1.0] and run.progress.failed == 0
        assert not any(path == "/api/chat" for path, _, _ in server.requests[asked:])


def test_a_file_is_no_ledger_to_share(tmp_path, chores):
    words = [CEREBRO, "work", "--ledger", f"sqlite:///{tmp_path / 'x.db'}"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1 and "PostgreSQL" in done.stderr and "CEREBRO_DATABASE_URL" in done.stderr
    assert not (tmp_path / "x.db").exists()
    with contextlib.closing(Ledger(f"sqlite:///{tmp_path / 'y.db'}")) as ledger:
        run = a_run(ledger, range(4), chores.double).start()
        with pytest.raises(errors.InputError, match="share a ledger of PostgreSQL"):
            run.wait()


def test_what_workers_could_not_take_is_refused_before_anything_is_asked_or_written(tmp_path, shared, chores):
    with FakeOllama() as server, contextlib.closing(Ledger(f"sqlite:///{tmp_path / 'y.db'}")) as ledger:
        more = {"model": "tiny", "backend": "ollama", "base_url": server.url, "on": "workers", "show_progress": False}
        with pytest.raises(errors.InputError, match="share a ledger of PostgreSQL"):
            qa_run("tea", 4, ledger=ledger, min_score=4, **more)
        with pytest.raises(errors.InputError, match="cannot be found by its name"):
            batch_run(range(4), lambda value: value, ledger=shared, on="workers")
        done = process_in_batches(range(4), chores.unfit, "auto", ledger=ledger, show_progress=False)
        with pytest.raises(errors.InputError, match="share a ledger of PostgreSQL"):
            retry_failed(done.task_id, processor=chores.unfit, ledger=ledger, on="workers")
        assert server.requests == [] and shared.tasks() == [] and len(ledger.tasks()) == 1


@contextlib.contextmanager
def heard(listener):
    """Have a function called with each line that is logged meanwhile."""
    handler, logger = logging.Handler(), logging.getLogger("cerebro_nb")
    handler.emit = lambda record: listener(record.getMessage())
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize(("profile", "is_said"), [("synthetic", True), ("auto", False)])
def test_a_profile_that_lets_out_few_items_for_many_workers_says_so(url, shared, chores, profile, is_said):
    words = []
    with Team(url, "--functions", "chores") as team, heard(words.append):
        team.start()
        a_run(shared, range(3), chores.double, load_settings({}).profile(profile)).start().wait()
    assert any("lets out 3 items at a time" in line for line in words) == is_said


def test_a_task_is_gone_on_with_and_done_again_by_workers_from_the_command_line(url, shared):
    with FakeOllama(slots=8) as server, Team(url, OLLAMA_HOST=server.url) as team:
        run = a_prompt_run(shared, range(6), server)
        known = reached(run, 0)
        run.start()
        assert known.wait(60)
        run.cancel()
        run.wait()
        assert shared.unanswered(run.task_id) == 6
        worker = team.start()
        environment = {**team.environment, "CEREBRO_DATABASE_URL": url}
        for verb in ("resume", "rerun"):
            words = [CEREBRO, verb, run.task_id, "--on", "workers"]
            done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=120)
            assert done.returncode == 0, done.stderr
        assert len(outputs(shared, run)) == 6
        team.end(worker, signal.SIGINT)
    assert sum("works on task" in line for line in worker.lines) == 2


# --- the database


class Away(Ledger):
    """A ledger that is away each other time that it is read."""

    def __init__(self, url):
        super().__init__(url)
        self.looks = Counter()

    def _be_away(self, name):
        self.looks[name] += 1
        if self.looks[name] % 2:
            gone = OperationalError("SELECT", {}, Exception("the server closed the connection"))
            raise errors.LedgerError("the ledger is away") from gone

    def items(self, *of):
        self._be_away("items")
        return super().items(*of)

    def reusable(self, keys):
        self._be_away("reusable")
        return super().reusable(keys)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("on", ["here", "workers"])
def test_who_reads_waits_for_a_ledger_that_is_away(url, monkeypatch, on):
    with FakeOllama(slots=8) as server, contextlib.ExitStack() as stack:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        ledger, worker_s = (stack.enter_context(contextlib.closing(Away(url))) for _ in range(2))
        more = {"ledger": ledger, "show_progress": False, "profile": "auto", "backend": "ollama", "model": "tiny"}
        serving = LOOP.submit(Serving(worker_s).run())
        try:
            run = batch_run(range(120), "item {item};", on=on, reuse=True, **more)
            twenty = reached(run, 20)
            run.start()
            assert twenty.wait(60)
            run.cancel()
            run.wait()
            del more["profile"]
            run = resume(run.task_id, on=on, **more)
        finally:
            serving.cancel()
            with contextlib.suppress(CancelledError):
                serving.result(30)
        assert outputs(ledger, run) == [f"echo item {n};" for n in range(120)]
        assert ledger.looks["items"] > 1
        # Who works on an item looks for its answer, and nobody else does.
        looked = [bool(known.looks["reusable"]) for known in (ledger, worker_s)]
        assert looked == [on == "here", on == "workers"]


def test_a_database_that_is_restarted_in_mid_run_loses_nothing(monkeypatch):
    with PostgresServer() as postgres, FakeOllama(slots=8, seconds=0.1) as server:
        url = postgres.new_database()
        with contextlib.closing(Ledger(url)) as ledger, Team(url, OLLAMA_HOST=server.url) as team:
            for _ in range(2):
                team.start()
            run = a_prompt_run(ledger, range(200), server)
            marks = [reached(run, 40), reached(run, 120)]
            run.start()
            for mark in marks:
                assert mark.wait(60)
                postgres.restart()
            run.wait()
            assert outputs(ledger, run) == [f"echo item {n};" for n in range(200)]
            assert run.place.deaths == 0 and run.progress.status == "completed"
            assert sent(server).total() == len(ledger.attempts(run.task_id)) == 200


def test_two_writers_of_one_item_end_it_once(url):
    ledgers = [Ledger(url) for _ in range(2)]
    values = [(value, str(value)) for value in range(200)]
    task_id = ledgers[0].create_task("numbers", "", len(values), items=values)

    def rows(position, output):
        row = {"task_id": task_id, "position": position, "input": str(position), "key": "k", "status": "ok"}
        row |= {"output": json.dumps(output), "attempts": 1, "started_at": 1.0, "finished_at": 2.0}
        attempt = {"task_id": task_id, "position": position, "number": 1, "step": "call"}
        return EndedRows(row, [attempt])

    def end_all(number):
        refused = []
        for position in range(len(values)):
            ledgers[number].post_item(rows(position, number), lambda rows, _, error: error and refused.append(error))
            if position % 7 == number:
                ledgers[number].database.flush()
        ledgers[number].close()
        return refused

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(end_all, range(2))) == [[], []]
    with contextlib.closing(Ledger(url)) as ledger:
        task = ledger.task(task_id)
        assert task.ok_items == task.processed_items == len(ledger.attempts(task_id)) == 200
        assert {item["output"] for item in ledger.items(task_id)} <= {0, 1}


def test_of_two_workers_that_end_an_item_the_one_that_holds_it_is_heard(shared):
    values = [(value, str(value)) for value in range(4)]
    task_id = shared.create_task("numbers", "", len(values), items=values, leased=True)
    job = PostedJob(task_id, "run 1", {})

    def now(write, value):
        return shared.database.submit(write, value, urgent=True).result()

    now(post_job, job)
    now(open_job, (task_id, True))
    now(post_leases, [Lease.of(task_id, [0, 1, 2, 3])])
    now(give_sign, Sign("worker 1"))
    assert len(now(claim_leases, Claim(job, "worker 1", room=4)).leases) == 1

    def ended(holder, position, output):
        row = {"task_id": task_id, "position": position, "input": "0", "key": "k", "status": "ok", "attempts": 0}
        row |= {"output": json.dumps(output), "started_at": 1.0, "finished_at": 2.0}
        return LeasedRows(holder, 0, EndedRows(row, ()), position, {"tries": 1})

    for position in range(2):
        now(write_leased, ended("worker 2", position, "late"))
        now(write_leased, ended("worker 1", position, "in time"))
        now(write_leased, ended("worker 1", position, "again"))
    assert [item["output"] for item in shared.items(task_id, "ok")] == ["in time", "in time"]
    assert [len(row["told"]) for row in shared.database.read(sql.select(ENDINGS))] == [1, 1]


def test_a_claim_looks_at_what_it_takes_however_many_items_there_are(shared):
    """200,000 fresh items of which the database knows nothing yet: no statement of a claim reads them all."""
    count = 200_000
    task_id = shared.create_task("numbers", "", count, leased=True)
    database, job = shared.database, PostedJob(task_id, "run 1", {})
    fresh = sql.text(
        "INSERT INTO items (task_id, position, key, input, status, attempts) "
        "SELECT :task, number, 'k', '1', 'pending', 0 FROM generate_series(0, :last) AS number"
    )
    with database.connections.writing() as connection:
        connection.execute(fresh, {"task": task_id, "last": count - 1})
    leases = [Lease.of(task_id, range(first, first + 8)) for first in range(0, 8_000, 8)]
    prepared = ((post_job, job), (open_job, (task_id, True)), (post_leases, leases), (give_sign, Sign("worker 1")))
    for write, value in prepared:
        database.submit(write, value, urgent=True).result()
    statements = []

    @sql.event.listens_for(database.connections.engine, "before_cursor_execute")
    def note(connection, cursor, statement, parameters, context, executemany):
        statements.append((statement, parameters))

    claimed = database.submit(claim_leases, Claim(job, "worker 1", room=16), urgent=True).result()
    sql.event.remove(database.connections.engine, "before_cursor_execute", note)
    assert [len(items) for _, items in claimed.leases] == [8, 8] and len(statements) > 3
    read = 0
    with database.connections.reading() as connection:
        for statement, parameters in statements:
            if not statement.startswith("SELECT"):
                continue
            explained = f"EXPLAIN (ANALYZE, FORMAT JSON, TIMING OFF) {statement}"
            (plan,) = connection.exec_driver_sql(explained, parameters).scalar()
            read += rows_read(plan["Plan"])
    assert read < 3_000, "rows that the statements of a claim look at"


def rows_read(plan):
    """Return how many rows of tables a plan looked at, those among them that it passed over."""
    own = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0) if "Relation Name" in plan else 0
    return own * plan["Actual Loops"] + sum(map(rows_read, plan.get("Plans", ())))
