"""Items worked on by several workers, of which any may end at any moment: each item ends once."""

import asyncio
import importlib.machinery
import itertools
import random
import sys
import threading
import types
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebro_nb import errors, load_settings
from cerebro_nb.batching.plans import How, Plan, Where
from cerebro_nb.batching.run import Run
from cerebro_nb.batching.work import WorkItem
from cerebro_nb.cluster.assignments import MOST_DEATHS, Assignments
from cerebro_nb.cluster.bench import Bench
from cerebro_nb.cluster.workers import Workers
from cerebro_nb.concurrency.loop import LOOP
from cerebro_nb.launching.batches import batch_run

FOUR_AT_ONCE = How(load_settings({}).profile("auto").replace(concurrency=4, adaptive=False))


def items(count):
    return iter([WorkItem(position, position) for position in range(count)])


@given(
    st.integers(0, 30),
    st.lists(st.tuples(st.sampled_from(["give", "end", "lose", "late"]), st.integers(0, 3), st.integers(0, 9))),
)
def test_each_item_is_pending_held_or_ended_whatever_happens(count, events):
    book, names = Assignments(items(count)), [f"worker {number}" for number in range(4)]
    further, held, ended, late, lost = itertools.count(4), {name: [] for name in names}, [], 0, []

    def give(name, most):
        given = [item.position for item in asyncio.run(book.give(name, most))]
        assert len(given) <= most
        held[name] += given

    def end(name, position):
        assert book.end(name, position).position == position
        held[name].remove(position)
        ended.append(position)

    def lose(number, name):
        ended.extend(item.position for item in book.lose(name))
        lost.extend((name, position) for position in held.pop(name))
        names[number] = f"worker {next(further)}"
        held[names[number]] = []

    for event, number, size in events:
        name = names[number]
        if event == "give":
            give(name, size)
        elif event == "end" and held[name]:
            end(name, held[name][size % len(held[name])])
        elif event == "lose":
            lose(number, name)
        elif event == "late" and lost:
            assert book.end(*lost[size % len(lost)]) is None
            late += 1
        assert {name: book.held(name) for name in names} == {name: len(held[name]) for name in names}
        of_all = Counter([*ended, *itertools.chain(*held.values())])
        assert not of_all or max(of_all.values()) == 1
    while not book.is_over:  # in the end some worker stays
        for name in names:
            give(name, 9)
            for position in [*held[name]]:
                end(name, position)
    assert sorted(ended) == list(range(count)) and book.late == late


@given(st.integers(1, 40), st.data(), st.randoms(use_true_random=False))
def test_only_the_item_that_kills_its_workers_is_given_up(count, data, dice):
    deadly = data.draw(st.sets(st.integers(0, count - 1), max_size=3))
    book, names = Assignments(items(count)), itertools.count()
    workers, held, ended, given_up = [next(names) for _ in range(3)], {}, [], []
    while not book.is_over:
        number = dice.randrange(3)
        name = str(workers[number])
        given = asyncio.run(book.give(name, 8 - book.held(name)))
        held.setdefault(name, []).extend(item.position for item in given)
        if deadly.intersection(held[name]):
            given_up += [item.position for item in book.lose(name)]
            workers[number] = next(names)
        elif held[name]:
            ended.append(book.end(name, held[name].pop(0)).position)
    assert set(given_up) <= deadly | (set(range(count)) if len(deadly) > 1 else set())
    assert deadly <= set(given_up) and sorted(ended + given_up) == list(range(count))
    if len(deadly) == 1:
        assert given_up == [*deadly]


class Nearby:
    """A worker in this process, that dies when it is told to or is given a certain item."""

    def __init__(self, job, name, deadly):
        self.bench, self.name, self.deadly, self.dies = Bench(job), name, deadly, asyncio.Event()

    async def exchange(self, given):
        if self.deadly in [item.value for item in given]:
            self.dies.set()
        asked, dies = asyncio.ensure_future(self.bench.exchange(given)), asyncio.ensure_future(self.dies.wait())
        try:
            await asyncio.wait([asked, dies], return_when=asyncio.FIRST_COMPLETED)
            if self.dies.is_set():
                raise errors.WorkerLost(f"{self.name} died", worker=self.name)
            return asked.result()
        finally:
            asked.cancel()
            dies.cancel()
            if self.dies.is_set():
                await self.bench.close()

    async def close(self):
        await self.bench.close()


class Machines(Workers):
    """Several of them; whoever has it may kill one."""

    def __init__(self, count, deadly=None, others=()):
        super().__init__([*others, *[self.make] * count])
        self.there, self.names, self.deadly = [], itertools.count(), deadly

    async def make(self, job):
        worker = Nearby(job, f"worker {next(self.names)}", self.deadly)
        self.there.append(worker)
        return worker

    def kill(self, dice):
        worker = dice.choice([worker for worker in self.there if not worker.dies.is_set()])
        worker.dies.set()


class Service:
    """Answers after a second, and counts."""

    def __init__(self):
        self.calls, self.in_service = Counter(), 0

    async def answer(self, item):
        self.calls[item.value] += 1
        self.in_service += 1
        try:
            await asyncio.sleep(1)
        finally:
            self.in_service -= 1
        return item.value


def a_run(count, service, ledger, place, **more):
    plan = Plan(range(count), service.answer, kind="numbers", **more)
    return Run(plan, FOUR_AT_ONCE, Where(ledger, show_progress=False, place=lambda: place))


def outputs(ledger, run):
    return [item["output"] for page in ledger.pages(run.task_id, "ok") for item in page]


def test_workers_die_at_random_and_each_item_is_once_in_the_ledger(ledger, virtual):
    service, place, dice = Service(), Machines(3), random.Random(1)

    async def scenario():
        run = a_run(300, service, ledger, place).start()
        for _ in range(10):
            await asyncio.sleep(dice.uniform(0.5, 4))
            place.kill(dice)
        return await run

    run = LOOP.run(scenario())
    assert outputs(ledger, run) == list(range(300)) and run.progress.failed == 0 and run.progress.status == "completed"
    assert place.deaths == 10 and len(ledger.attempts(run.task_id)) == 300
    # What was under way at a death is asked again, and what was answered and not yet told.
    assert 300 < service.calls.total() <= 300 + 10 * 2 * 4
    assert service.in_service == 0


def test_the_slots_of_all_workers_are_used(ledger, virtual):
    seconds = []
    for workers in (1, 2, 4):
        began = virtual.time()
        a_run(160, Service(), ledger, Machines(workers)).start().wait()
        seconds.append(virtual.time() - began)
    used = [160 / 4 / workers / wall for workers, wall in zip((1, 2, 4), seconds, strict=True)]
    print("of the slots used:", [round(share, 3) for share in used])
    assert min(used) >= 0.9


def test_an_item_that_kills_its_workers_fails_alone(ledger, virtual):
    place = Machines(2, deadly=17)
    run = a_run(60, Service(), ledger, place).start()
    run.wait()
    assert run.progress.ok == 59 and run.progress.failed == 1 and place.deaths == MOST_DEATHS
    ((failed,),) = ledger.pages(run.task_id, "failed")
    assert failed["input"] == 17 and failed["error"]["type"] == "WorkerLost"


@pytest.mark.timeout(60)
def test_a_place_without_a_worker_says_so(ledger, virtual):
    run = a_run(3, Service(), ledger, Machines(0)).start()
    with pytest.raises(errors.WorkerLost, match="no worker is left"):
        run.wait()
    assert outputs(ledger, a_run(3, Service(), ledger, Machines(1)).start().wait()) == [0, 1, 2]


def test_what_is_cancelled_is_in_service_no_longer_and_another_place_goes_on(ledger, virtual):
    service, place = Service(), Machines(2)

    async def scenario():
        run = a_run(100, service, ledger, place).start()
        await asyncio.sleep(3.5)
        run.cancel()
        await asyncio.sleep(0.5)
        assert service.in_service == 0
        return await run

    run = LOOP.run(scenario())
    assert run.progress.status == "cancelled" and 0 < run.progress.ok < 100
    again = Run(Plan((), service.answer, task_id=run.task_id), FOUR_AT_ONCE, Where(ledger, show_progress=False))
    again.start().wait()
    assert outputs(ledger, again) == list(range(100))


def test_a_pause_begins_nothing_more(ledger, virtual):
    service = Service()

    async def scenario():
        run = a_run(100, service, ledger, Machines(2)).start()
        await asyncio.sleep(3.5)
        run.pause()
        await asyncio.sleep(10)
        seen = service.calls.total()
        assert service.in_service == 0 and seen < 100
        await asyncio.sleep(10)
        assert service.calls.total() == seen
        run.resume()
        return await run

    assert LOOP.run(scenario()).progress.ok == 100


def test_a_worker_without_the_model_leaves_its_items_to_the_others(ledger, virtual):
    service, made = Service(), itertools.count()

    async def without(job):
        async def no_model(item):
            raise errors.ModelNotFound("no such model", models=[])

        return Nearby(
            type(job)(job.task_id, job.kind, {}, no_model, job.context, job.at_once), f"no {next(made)}", None
        )

    run = a_run(40, service, ledger, Machines(1, others=[without])).start()
    run.wait()
    assert run.progress.ok == 40 and next(made) == 1
    run = a_run(4, service, ledger, Machines(0, others=[without, without])).start()
    with pytest.raises(errors.ModelNotFound):
        run.wait()
    assert run.progress.status == "failed" and ledger.unanswered(run.task_id) == 4


def test_a_machine_that_never_comes_back_holds_up_nobody(ledger, virtual):
    async def nobody(job):
        raise errors.WorkerLost("nobody is there")

    began = virtual.time()
    run = a_run(40, Service(), ledger, Machines(1, others=[nobody])).start()
    run.wait()
    assert run.progress.ok == 40 and virtual.time() - began <= 11


class FakeRay(types.ModuleType):
    """What Ray is to a process: it is in one cluster or in none. Joining and listing nodes wait until they may."""

    def __init__(self):
        super().__init__("ray")
        self.__spec__ = importlib.machinery.ModuleSpec("ray", None)
        self.joined, self.is_in = [], False
        self.left, self.listing = threading.Semaphore(0), threading.Semaphore(0)
        self.joining, self.may_join, self.may_list = (threading.Event() for _ in range(3))

    def is_initialized(self):
        return self.is_in

    def init(self, address, **named):
        self.joining.set()
        assert self.may_join.wait(60)
        self.joined.append(address)
        self.is_in = True

    def nodes(self):
        self.listing.release()
        assert self.may_list.wait(60)
        return []

    def shutdown(self):
        self.is_in = False
        self.left.release()


@pytest.fixture
def fake_ray(monkeypatch):
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    yield fake
    fake.may_join.set()
    fake.may_list.set()


def on_ray(ledger, on):
    more = {"ledger": ledger, "show_progress": False, "on": on}
    return batch_run(range(3), len, FOUR_AT_ONCE.profile, **more).start()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
class TestTheClusterOfAProcess:
    def test_is_one_and_a_run_that_names_another_is_refused(self, ledger, fake_ray):
        fake_ray.may_join.set()
        first = on_ray(ledger, "ray://here:10001")
        assert fake_ray.listing.acquire(timeout=60)
        with pytest.raises(errors.InputError, match=r"ray://here:10001.* not on 'ray://gpu-head:10001' too"):
            on_ray(ledger, "ray://gpu-head:10001").wait()
        assert fake_ray.joined == ["ray://here:10001"] and fake_ray.is_in
        fake_ray.may_list.set()
        with pytest.raises(errors.WorkerLost, match="no worker is left"):  # it lists no node that is alive
            first.wait()
        assert not fake_ray.is_in
        with pytest.raises(errors.WorkerLost):
            on_ray(ledger, "ray://gpu-head:10001").wait()
        assert fake_ray.joined == ["ray://here:10001", "ray://gpu-head:10001"] and not fake_ray.is_in

    def test_is_shared_by_runs_and_left_by_the_last(self, ledger, fake_ray):
        fake_ray.may_join.set()
        runs = [on_ray(ledger, "ray://here:10001") for _ in range(3)]
        assert all(fake_ray.listing.acquire(timeout=60) for _ in runs)
        fake_ray.may_list.set()
        for run in runs:
            with pytest.raises(errors.WorkerLost):
                run.wait()
        assert fake_ray.joined == ["ray://here:10001"] and not fake_ray.is_in

    def test_is_left_though_the_run_was_cancelled_while_it_joined(self, ledger, fake_ray):
        run = on_ray(ledger, "ray://here:10001")
        assert fake_ray.joining.wait(60)
        run.cancel()
        assert run.wait().progress.status == "cancelled" and not fake_ray.is_in
        fake_ray.may_join.set()
        assert fake_ray.left.acquire(timeout=60) and not fake_ray.is_in
        fake_ray.may_list.set()
        with pytest.raises(errors.WorkerLost, match="no worker is left"):
            on_ray(ledger, "ray://another:10001").wait()
        assert fake_ray.joined == ["ray://here:10001", "ray://another:10001"]

    def test_that_the_user_s_own_code_joined_is_used_as_it_is_by_no_other_name(self, ledger, fake_ray):
        fake_ray.is_in = True
        fake_ray.may_list.set()
        with pytest.raises(errors.InputError, match="by itself") as refused:
            on_ray(ledger, "ray://here:10001").wait()
        assert "on='auto'" in refused.value.hint
        with pytest.raises(errors.WorkerLost, match="no worker is left"):
            on_ray(ledger, "auto").wait()
        assert fake_ray.joined == [] and fake_ray.is_in
