"""Whatever a user's function, backend, value or source does: items fail alone, and a run always ends."""

import asyncio
import collections
import dataclasses
import enum
import math
import threading

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from cerebro_nb import Client, Ledger, ScriptedBackend, errors, process_in_batches, resume
from cerebro_nb.protocol.messages import Reply, Timings, Usage

# --- what there may be


@pytest.fixture
def ledger_url(tmp_path):
    """Return the URL of an empty database: what is foreign is made plain before it comes to one."""
    return f"sqlite:///{tmp_path / 'ledger.db'}"


class Silent(Exception):
    """Raises when it is asked what it says."""

    def __str__(self):
        raise SystemExit(5)


class OursByName(errors.CerebroError):
    """An error of ours by its class, and by nothing else."""

    def __init__(self):
        pass


class Everything:
    """Has every attribute there is."""

    def __getattr__(self, name):
        return lambda *given, **named: self


class Leaves:
    """Leaves the process when it is looked at."""

    def tolist(self):
        raise SystemExit(4)

    def __repr__(self):
        raise KeyboardInterrupt


class Model(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    held: object


@dataclasses.dataclass
class Pair:
    one: object
    other: object


class Number(enum.IntEnum):
    ONE = 1


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


def within_itself():
    value = {}
    value["itself"] = value
    return value


def laughs():
    value = ["ha"]
    for _ in range(60):
        value = [value, value]
    return value


RAISED = {
    "KeyboardInterrupt": KeyboardInterrupt,
    "SystemExit": lambda: SystemExit(3),
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "StopIteration": StopIteration,
    "StopAsyncIteration": StopAsyncIteration,
    "MemoryError": MemoryError,
    "RecursionError": RecursionError,
    "ExceptionGroup": lambda: ExceptionGroup("two", [ValueError(1), OSError()]),
    "BaseExceptionGroup": lambda: BaseExceptionGroup("two", [KeyboardInterrupt(), SystemExit()]),
    "silent": Silent,
    "ours by name": OursByName,
    "a detail that cannot be kept": lambda: errors.InvalidOutput("no", text=object()),
    "a wait that is none": lambda: errors.RateLimited("no", retry_after_s="soon"),
    "surrogates": lambda: ValueError("\ud800\x1b[31m"),
}
RETURNED = {
    "huge number": lambda: 10**5000,
    "deep": lambda: deep(100_000),
    "circular": within_itself,
    "larger than the memory": laughs,
    "set": lambda: {1, 2},
    "everything": Everything,
    "leaves": Leaves,
    "a model that does not serialise": lambda: Model(held=object()),
    "a model that leaves": lambda: Pair(1, Leaves()),
    "two keys that are one": lambda: {1: 2, "1": 3},
    "a key that is none": lambda: {(1, 2): 3},
    "a class": lambda: Pair,
    "a function": lambda: deep,
    "a generator": lambda: (n for n in range(3)),
    "NaN": lambda: {"score": math.nan},
    "infinity": lambda: [-math.inf],
    "NaN in an array": lambda: numpy.array([1.0, numpy.nan]),
    "NaN of numpy": lambda: numpy.float32("nan"),
    "infinity of numpy": lambda: {numpy.float64("inf"): 1},
}


def raising(name):
    raise RAISED[name]()


async def raising_later(name):
    await asyncio.sleep(0)
    raise RAISED[name]()


async def in_a_task_of_its_own(name):
    # A task's GeneratorExit would be Python's own way to end whoever awaits it.
    return await asyncio.gather(raising_later("SystemExit" if name == "GeneratorExit" else name))


async def cancels_itself(name):
    asyncio.current_task().cancel()
    await asyncio.sleep(1)


async def cancels_itself_and_raises(name):
    asyncio.current_task().cancel()
    raise ValueError(name)


def whole(run, failed):
    """Check that only these items failed, that all ended, and that the process can go on."""
    statuses = {item["position"]: item["status"] for item in run.ledger.items(run.task_id)}
    assert {position for position, status in statuses.items() if status == "failed"} == set(failed)
    assert set(statuses.values()) <= {"ok", "failed"}
    task = run.task
    assert task.ok_items + task.failed_items == task.total_items and task.status in ("completed", "failed")
    assert process_in_batches([1, 2], lambda n: n, run.profile, ledger=run.ledger, show_progress=False).results == [
        1,
        2,
    ]


@pytest.mark.parametrize("how", [raising, raising_later, in_a_task_of_its_own])
@pytest.mark.parametrize("name", RAISED)
def test_an_item_fails_alone_whatever_is_raised(quick, ledger, name, how):
    def sync_work(n):
        return raising(name) if n == 0 else n

    async def work(n):
        return await how(name) if n == 0 else n

    once = quick.replace(max_attempts=1, timeout_s=20)
    run = process_in_batches(range(6), sync_work if how is raising else work, once, ledger=ledger, show_progress=False)
    whole(run, {0})
    assert run.errors[0]["type"] in ("ProcessorFailed", "InvalidOutput", "RateLimited") and run.errors[0]["message"]
    (attempt,) = ledger.attempts(run.task_id, 0)
    assert attempt["error"]["type"] == run.errors[0]["type"]


def test_a_timeout_of_the_functions_own_is_not_taken_for_a_late_answer(quick, ledger):
    async def work(n):
        async with asyncio.timeout(0):
            await asyncio.sleep(60)

    def sync_work(n):
        raise TimeoutError("the database did not answer")

    for function in (work, sync_work):
        run = process_in_batches([0], function, quick, ledger=ledger, show_progress=False)
        assert run.errors[0]["type"] == "ProcessorFailed" and run.errors[0]["details"]["error"] == "TimeoutError"
        assert len(ledger.attempts(run.task_id, 0)) == 1  # like all that a function raises


@pytest.mark.parametrize("how", [cancels_itself, cancels_itself_and_raises])
def test_an_item_that_cancels_itself_fails_alone(quick, ledger, how):
    async def work(n):
        return await how("x") if n in (0, 4) else n

    for profile in (quick, quick.replace(batch_size=None, concurrency=3)):
        run = process_in_batches(range(8), work, profile, ledger=ledger, show_progress=False)
        whole(run, {0, 4})


@pytest.mark.parametrize("name", RETURNED)
def test_a_result_that_cannot_be_kept_is_the_items_failure(quick, ledger, name):
    async def work(n):
        return RETURNED[name]() if n == 0 else n

    run = process_in_batches(range(3), work, quick, ledger=ledger, show_progress=False)
    whole(run, {0})
    assert run.errors[0]["type"] == "ProcessorFailed" and "cannot be kept" in run.errors[0]["message"]


@pytest.mark.parametrize("name", RETURNED)
def test_an_item_that_cannot_be_kept_is_refused_before_the_run(quick, ledger, name):
    worked = []
    with pytest.raises(errors.InputError, match=r"item 1 .*cannot be kept"):
        process_in_batches(["a", RETURNED[name]()], worked.append, quick, ledger=ledger, show_progress=False)
    assert worked == [] and ledger.tasks() == []


@pytest.fixture(scope="module")
def kept_open(tmp_path_factory):
    ledger = Ledger(f"sqlite:///{tmp_path_factory.mktemp('foreign')}/ledger.db")
    yield ledger
    ledger.close()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None, exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
ODD = st.one_of(
    st.binary(),
    st.decimals(),
    st.datetimes(),
    st.complex_numbers(),
    st.sets(st.integers()),
    st.dictionaries(st.none() | st.integers() | st.floats() | st.tuples(st.integers()), JSON, max_size=3),
    st.builds(Pair, JSON, st.builds(object) | JSON),
    st.builds(Model, held=JSON | st.builds(object)),
    st.integers(min_value=10**900),
    st.integers(0, 300).map(deep),
    st.sampled_from(list(RETURNED)).map(lambda name: RETURNED[name]()),
    st.just(Number.ONE),
    st.lists(JSON, max_size=3).map(collections.UserList),
)
ACTS = st.one_of(
    JSON.map(lambda value: ("gives", value)),
    ODD.map(lambda value: ("gives", value)),
    st.lists(JSON | ODD, max_size=3).map(lambda value: ("gives", value)),
    st.sampled_from(list(RAISED)).map(lambda name: ("raises", name)),
    st.sampled_from([cancels_itself, cancels_itself_and_raises]).map(lambda how: ("does", how)),
)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(acts=st.lists(ACTS, min_size=1, max_size=8), sync=st.booleans(), batch=st.sampled_from([None, 1, 3]))
def test_a_processor_may_return_or_raise_anything(kept_open, quick, acts, sync, batch):
    async def work(n):
        kind, what = acts[n]
        if kind == "does":
            return await what("x")
        return what if kind == "gives" else raising(what)

    def sync_work(n):
        kind, what = acts[n]
        return raising("SystemExit") if kind == "does" else what if kind == "gives" else raising(what)

    profile = quick.replace(batch_size=batch, concurrency=2, max_attempts=1)
    run = process_in_batches(
        range(len(acts)), sync_work if sync else work, profile, ledger=kept_open, show_progress=False
    )
    must = {n for n, (kind, _) in enumerate(acts) if kind != "gives"}
    failed = {item["position"] for item in kept_open.items(run.task_id, "failed")}
    assert must <= failed
    whole(run, failed)


# --- a backend of somebody's own


@dataclasses.dataclass
class Own(ScriptedBackend):
    """A backend whose every method can be told to do something odd."""

    def __init__(self, does):
        super().__init__(lambda request: request.messages[-1].content)
        self.does, self.name = does, does.get("name", "own")

    async def complete(self, request, on_text=None):
        if "item 0" in request.messages[-1].content and "complete" in self.does:
            return self.does["complete"]()
        return await super().complete(request, on_text)

    async def version(self):
        return self.does.get("version", lambda: "1")()


def reply(**changes):
    told = {"text": "x", "finish_reason": "stop", "usage": Usage(1, 1), "timings": Timings(0.1), "raw": {}, **changes}
    return Reply(model="tiny", backend="own", **told)


def test_a_backend_may_give_or_raise_anything(quick, ledger):
    once = quick.replace(max_attempts=1, timeout_s=20)
    for complete in (
        *(lambda name=name: raising(name) for name in RAISED),
        lambda: None,
        lambda: {"text": "x"},
        lambda: reply(raw={"at": object()}),
        lambda: reply(raw=deep(100_000)),
        lambda: reply(raw={"n": 10**5000}),
        lambda: reply(usage=Usage(10**30, 10**30)),
        lambda: reply(usage=Usage("many", [1])),
        lambda: reply(timings=Timings("long", prompt_s="x", generate_s="y")),
        lambda: reply(finish_reason="\x00" * 100),
        lambda: reply(text=["a", object()]),
    ):
        client = Client(Own({"complete": complete}), "tiny")
        run = process_in_batches(range(4), "item {item}", once, client=client, ledger=ledger, show_progress=False)
        whole(run, {item["position"] for item in ledger.items(run.task_id, "failed")} & {0})
        assert run.task.ok_items >= 3 and ledger.attempts(run.task_id, 0)


def test_a_backend_that_raises_when_it_is_asked_whether_it_is_there(quick, ledger):
    does = {"complete": lambda: raising("ExceptionGroup"), "version": lambda: "1"}
    client = Client(Own(does), "tiny")

    def gone(request):
        does["version"] = lambda: raising("SystemExit")
        raise errors.ConnectionFailed("gone")

    does["complete"] = lambda: gone(None)
    once = quick.replace(max_attempts=1)
    run = process_in_batches(range(3), "item {item}", once, client=client, ledger=ledger, show_progress=False)
    whole(run, {0})


def test_a_backend_that_leaves_when_it_is_made_ready_ends_its_run_alone(quick, ledger):
    class Unready(ScriptedBackend):
        async def models(self):
            raise SystemExit(3)

        async def load(self, model, options):
            raise KeyboardInterrupt

    client = Client(Unready("x"), "tiny")
    with pytest.raises(errors.BackendError, match="made ready"):
        process_in_batches([1], "{item}", quick, client=client, ledger=ledger, show_progress=False)
    assert process_in_batches([1], lambda n: n, quick, ledger=ledger, show_progress=False).results == [1]


# --- a source and a listener of somebody's own


@pytest.mark.parametrize("name", [name for name in RAISED if name not in ("StopIteration", "ours by name")])
def test_a_source_that_raises_ends_the_run_and_keeps_what_was_answered(quick, ledger, name):
    def source(whole=False):
        yield "a"
        yield "b"
        if not whole:
            raising(name)
        yield "c"

    with pytest.raises(errors.CerebroError) as told:
        process_in_batches(source(), str.upper, quick, ledger=ledger, show_progress=False)
    (task,) = ledger.tasks()
    assert task.status == "failed" and task.lease_holder is None and task.metadata["error"]["message"]
    if told.type is errors.InputError:
        assert "item 2 could not be read" in told.value.message
    run = resume(task.id, str.upper, items=source(whole=True), ledger=ledger, show_progress=False)
    assert run.results == ["A", "B", "C"] and run.task.status == "completed"


@pytest.mark.parametrize("name", RAISED)
def test_a_listener_that_raises_hinders_nothing(quick, ledger, name):
    heard = threading.Event()

    def listen(now):
        heard.set()
        raising(name)

    run = process_in_batches(range(3), lambda n: n, quick, ledger=ledger, show_progress=False, on_progress=listen)
    assert heard.is_set() and run.results == [0, 1, 2]


@pytest.mark.parametrize("items", [None, 5, object(), ValueError])
def test_what_holds_no_items_is_refused(quick, ledger, items):
    with pytest.raises(errors.InputError, match="holds no items"):
        process_in_batches(items, lambda n: n, quick, ledger=ledger, show_progress=False)


def test_an_array_is_a_list_of_items(quick, ledger):
    import numpy

    run = process_in_batches(numpy.arange(3), lambda n: n, quick, ledger=ledger, show_progress=False)
    assert run.results == [0, 1, 2]
