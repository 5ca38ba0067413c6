"""`auto` beside the best fixed number: at the start, on a server seen before, under faults, and in company."""

import asyncio
import socket
import statistics

import pytest
import sqlalchemy as sql
from simulated import SimulatedServer, at_a_rate
from virtual import virtual_time

from cerebro_nb import Client, Ledger, abatch_run, errors, load_settings, process_in_batches
from cerebro_nb.backends.pool import EndpointPool
from cerebro_nb.concurrency.control import ConcurrencyControl, Served
from cerebro_nb.concurrency.loop import LOOP

pytestmark = pytest.mark.costly

AUTO = load_settings({}).profile("auto")
REFUSALS = (
    lambda: errors.RateLimited("slow down"),
    lambda: errors.ServerBusy("busy"),
    lambda: errors.ConnectionFailed("refused"),
)


def uneven(dice):
    """Return a time to answer of 200 +- 150 ms."""
    return max(0.001, dice.gauss(0.2, 0.15))


def fixed(number):
    return AUTO.replace(adaptive=False, concurrency=number)


def timed(server, items, profile, ledger, model="tiny"):
    """Run, in virtual time; return its seconds and the run."""
    with virtual_time(ledger) as loop:
        run = process_in_batches(
            range(items), "{item}", profile, client=Client(server, model), ledger=ledger, show_progress=False
        )
        assert run.progress.ok == items
        return loop.time(), run


@pytest.fixture
def new_ledger(tmp_path):
    """Return a function that opens a ledger that has seen nothing."""
    opened = []

    def open_one():
        opened.append(Ledger(f"sqlite:///{tmp_path}/{len(opened)}.db"))
        return opened[-1]

    yield open_one
    for ledger in opened:
        ledger.close()


@pytest.mark.parametrize(("items", "on_a_new_one", "on_one_seen_before"), [(30, 0.6, 0.85), (200, 0.8, 0.95)])
def test_auto_is_not_far_behind_the_best_number(items, on_a_new_one, on_one_seen_before, new_ledger):
    new, seen = [], []
    for seed in range(7):
        ledger = new_ledger()
        best = timed(SimulatedServer(8, uneven, tells_times=True, seed=seed), items, fixed(8), ledger)[0]
        new.append(best / timed(SimulatedServer(8, uneven, tells_times=True, seed=seed), items, AUTO, ledger)[0])
        timed(SimulatedServer(8, uneven, tells_times=True, seed=seed + 100), 200, AUTO, ledger)
        again = SimulatedServer(8, uneven, tells_times=True, seed=seed)
        seen.append(best / timed(again, items, AUTO, ledger)[0])
        assert again.most_present <= 1.5 * 8
    print(
        f"{items} items: {statistics.median(new):.2f} on a new server, {statistics.median(seen):.2f} on one seen before"
    )
    assert statistics.median(new) >= on_a_new_one and statistics.median(seen) >= on_one_seen_before


def used(calls, slots, seconds):
    """Return which share of so many slots calls of so many seconds used, the first and the last quarter left out."""
    ended = sorted(call.ended_at for call in calls)
    return len(ended) / 2 * seconds / slots / (ended[3 * len(ended) // 4] - ended[len(ended) // 4])


def test_a_server_of_hundreds_of_slots_is_used_to_the_full(new_ledger):
    server = SimulatedServer(256, 0.5, tells_times=True)
    timed(server, 256 * 12, AUTO, new_ledger())
    assert used(server.calls, 256, 0.5) >= 0.95 and server.most_present <= 2 * 256


def test_a_hundred_servers_are_used_to_the_full(new_ledger):
    servers = [SimulatedServer(8, 0.25, tells_times=True, base_url=f"http://{number}") for number in range(100)]
    timed(EndpointPool(servers), 100 * 8 * 8, AUTO, new_ledger())
    assert used([call for server in servers for call in server.calls], 100 * 8, 0.25) >= 0.95
    assert max(server.most_present for server in servers) <= 2 * 8


def test_one_request_in_five_refused_costs_no_item_and_little_time(new_ledger):
    ratios = []
    for seed in range(5):
        walls = []
        for profile in (fixed(32), AUTO):
            faults = at_a_rate(0.2, *REFUSALS, seed=seed)
            server = SimulatedServer(32, 0.02, tells_times=True, faults=faults)
            walls.append(timed(server, 1_000, profile, new_ledger())[0])
        ratios.append(walls[1] / walls[0])
    print(f"auto takes {statistics.median(ratios):.2f} of the fixed number's time")
    assert statistics.median(ratios) <= 1.3


@pytest.mark.parametrize("tells_times", [True, False])
def test_after_a_storm_of_refusals_it_grows_again(tells_times, ledger):
    storm = [REFUSALS[1]] * 60
    server = SimulatedServer(16, 0.1, tells_times=tells_times, faults=[None] * 100 + storm)
    run = timed(server, 1_500, AUTO.replace(backoff_s=0.1), ledger)[1]
    assert run.progress.retried == 60 and 16 <= run.control.limit <= 1.5 * 16 + 2


@pytest.mark.parametrize("slots", [1, 2, 8])
def test_a_server_that_takes_no_more_than_so_many_is_asked_for_little_more(slots, new_ledger):
    server = SimulatedServer(slots, 0.1, queue=0, tells_times=True)
    run = timed(server, 150 * slots + 500, AUTO, new_ledger())[1]
    print(f"{run.progress.retried} refusals of {len(server.calls)}, at the end {run.control.limit} at once")
    assert run.progress.retried < 0.3 * len(server.calls) and run.control.limit <= 2 * slots + 4


def test_where_all_is_refused_it_does_not_grow(ledger):
    server = SimulatedServer(8, 0.1, faults=[REFUSALS[0]] * 10_000)
    profile = AUTO.replace(max_attempts=2, backoff_s=0.1)
    with virtual_time(ledger):
        run = process_in_batches(
            range(50), "{item}", profile, client=Client(server, "tiny"), ledger=ledger, show_progress=False
        )
    assert run.progress.failed == 50 and run.control.limit == 1
    assert len(server.calls) == 50 * 2 * 3


# --- what is remembered


def test_what_was_found_out_is_where_the_next_run_begins(ledger):
    timed(SimulatedServer(12, 0.1, tells_times=True), 300, AUTO, ledger)
    assert ledger.served("tiny") == {"simulated:": Served(12, True)}
    again = SimulatedServer(12, 0.1, tells_times=True)
    run = timed(again, 12, AUTO, ledger)[1]
    assert 12 <= run.control.limit <= 14 and [call.sent_at for call in again.calls] == [again.calls[0].sent_at] * 12
    other = SimulatedServer(12, 0.1, tells_times=True)
    timed(other, 12, AUTO, ledger, model="another")
    assert other.calls[1].sent_at > other.calls[0].sent_at


def test_a_server_that_serves_fewer_by_now_is_followed_down(ledger):
    timed(SimulatedServer(16, 0.1, tells_times=True), 300, AUTO, ledger)
    run = timed(SimulatedServer(2, 0.1, tells_times=True), 300, AUTO, ledger)[1]
    assert 2 <= run.control.limit <= 4 and ledger.served("tiny") == {"simulated:": Served(2, True)}


def test_a_short_run_takes_nothing_back(ledger):
    timed(SimulatedServer(16, 0.1, tells_times=True), 400, AUTO, ledger)
    found = ledger.served("tiny")
    timed(SimulatedServer(16, 0.1, tells_times=True), 3, AUTO, ledger)
    assert ledger.served("tiny") == found and 15 <= found["simulated:"].count <= 18


def test_a_number_of_the_user_s_own_is_neither_learned_nor_changed(ledger):
    run = timed(SimulatedServer(4, 0.1), 100, fixed(2), ledger)[1]
    assert ledger.served("tiny") == {} and run.progress.ok == 100


def test_a_run_that_is_cancelled_leaves_what_it_found_out(ledger):
    server = SimulatedServer(4, 0.1, tells_times=True)

    def stop(now):
        if now.ok == 100:
            run.cancel()

    async def until_stopped():
        nonlocal run
        client = Client(server, "tiny")
        run = await abatch_run(range(1_000), "{item}", AUTO, client=client, ledger=ledger, show_progress=False)
        await run.on_progress(stop)

    run = None
    with virtual_time(ledger):
        LOOP.run(until_stopped())
    assert run.progress.status == "cancelled" and ledger.served("tiny") == {"simulated:": Served(4, True)}


def test_each_server_of_a_pool_has_its_own_number(ledger):
    def pool():
        return EndpointPool([SimulatedServer(n, 0.1, tells_times=True, base_url=f"simulated:{n}") for n in (2, 6)])

    timed(pool(), 400, AUTO, ledger)
    assert ledger.served("tiny") == {"simulated:2": Served(2, True), "simulated:6": Served(6, True)}
    again = pool()
    timed(again, 8, AUTO, ledger)
    assert [len(endpoint.backend.calls) for endpoint in again.endpoints] == [2, 6]


def test_a_run_beside_it_takes_nothing_from_what_a_pool_has_learned(ledger):
    servers = [SimulatedServer(6, 0.1, tells_times=True, base_url=f"simulated:{n}") for n in range(2)]
    client = Client(EndpointPool(servers), "tiny")

    async def both():
        first = await abatch_run(range(600), "{item}", AUTO, client=client, ledger=ledger, show_progress=False)
        first.start()
        await asyncio.sleep(2)
        await (await abatch_run(range(3), "{item}", fixed(1), client=client, ledger=ledger, show_progress=False))
        return await first

    with virtual_time(ledger) as loop:
        LOOP.run(both())
        assert loop.time() <= 1.2 * 603 * 0.1 / 12
    assert all(known.count >= 6 for known in ledger.served("tiny").values())


def test_what_is_noted_again_takes_the_place_of_what_was(ledger_url):
    ledgers = [Ledger(ledger_url) for _ in range(2)]
    for number, ledger in enumerate(ledgers * 3, 1):
        ledger.note_served("tiny", {"http://somewhere": Served(number, False)})
    assert ledgers[0].served("tiny") == {"http://somewhere": Served(6, False)}
    for ledger in ledgers:
        ledger.close()


@pytest.mark.parametrize("tells_times", [True, False])
def test_what_was_noted_and_is_far_too_much_by_now_fails_no_item(tells_times, ledger):
    ledger.note_served("tiny", {"simulated:": Served(36, True)})
    server = SimulatedServer(1, 10.0, tells_times=tells_times)
    run = timed(server, 60, AUTO, ledger)[1]
    assert run.control.limit <= 3 and ledger.served("tiny")["simulated:"].count <= 3


@pytest.mark.parametrize("first", [1, 2, 5])
def test_a_first_short_run_makes_no_later_one_slower(first, ledger, new_ledger):
    unknown = timed(SimulatedServer(16, 1.0, tells_times=True), 100, AUTO, new_ledger())[0]
    timed(SimulatedServer(16, 1.0, tells_times=True), first, AUTO, ledger)
    assert timed(SimulatedServer(16, 1.0, tells_times=True), 100, AUTO, ledger)[0] <= unknown


def test_what_cannot_be_noted_ends_no_run(ledger, caplog):
    with ledger.database.connections.writing() as connection:
        connection.exec_driver_sql("DROP TABLE servers")
    run = timed(SimulatedServer(4, 0.1, tells_times=True), 50, AUTO, ledger)[1]
    assert run.progress.status == "completed" and ledger.task(run.task_id).lease_holder is None
    assert "what was learned of the model's servers is not kept" in caplog.text


@pytest.mark.parametrize("address", ['"simulated:"', "not json", "[1]"])
@pytest.mark.parametrize("served", [0, -5, 2**31 - 1, 4])
def test_an_odd_row_is_as_none(address, served, ledger):
    row = {"host": socket.gethostname()[:120], "address": address, "model": '"tiny"', "served": served}
    with ledger.database.connections.writing() as connection:
        connection.execute(
            sql.text("INSERT INTO servers VALUES (:host, :address, :model, :served, :is_most, 0)"),
            {**row, "is_most": True},
        )
    run = timed(SimulatedServer(4, 0.1, tells_times=True), 30, AUTO, ledger)[1]
    assert run.progress.ok == 30 and run.control.limit <= 8


def test_no_more_is_noted_than_was_under_way(ledger):
    timed(SimulatedServer(4, 0.1, tells_times=True), 300, AUTO.replace(batch_size=4), ledger)
    assert ledger.served("tiny")["simulated:"].count <= 4


@pytest.mark.parametrize("tells_times", [True, False])
@pytest.mark.parametrize("slots", [1, 2])
def test_answers_that_take_most_of_the_time_allowed_cost_no_item(slots, tells_times, ledger):
    server = SimulatedServer(slots, 18.0, tells_times=tells_times)
    seconds, run = timed(server, 100 * slots, AUTO, ledger)
    print(f"{run.progress.retried} late, {seconds / 1800:.2f} of the least time, {run.control.limit} at the end")
    assert seconds <= 1.5 * 1800


def test_an_item_that_is_always_refused_keeps_the_others_waiting_for_seconds(ledger):
    def answer(request):
        if request.messages[-1].content in ("3", "7", "11"):
            raise errors.RateLimited("too large", retry_after_s=30)
        return "well"

    server = SimulatedServer(1, 0.1, answer=answer)
    profile = load_settings({}).profile("synthetic").replace(delay_s=0, batch_size=30)
    with virtual_time(ledger) as loop:
        run = process_in_batches(
            range(30), "{item}", profile, client=Client(server, "tiny"), ledger=ledger, show_progress=False
        )
        seconds = loop.time()
    ended = sorted(call.ended_at for call in server.calls if call.failed is None)
    print(f"{seconds:.0f} s, the last answer after {ended[-1]:.0f} s")
    assert run.progress.ok == 27 and server.most_present == 1 and ended[-1] <= 30


def test_a_server_that_tells_its_slots_need_not_be_remembered(ledger):
    timed(SimulatedServer(4, 0.1, tells_slots=True), 50, AUTO, ledger)
    assert ledger.served("tiny") == {}


def test_a_server_that_refuses_all_ends_the_run_as_one_that_is_gone_does(ledger):
    server = SimulatedServer(4, 0.1, faults=[None] * 20 + [REFUSALS[0]] * 10_000)
    with virtual_time(ledger) as loop:
        client = Client(server, "tiny")
        with pytest.raises(errors.RateLimited):
            process_in_batches(range(500), "{item}", AUTO, client=client, ledger=ledger, show_progress=False)
        seconds = loop.time()
    task = ledger.tasks()[0]
    assert 600 <= seconds <= 900 and task.ok_items == 20 and task.processed_items < 80


def test_answers_of_unequal_length_are_no_queue(ledger):
    server = SimulatedServer(64, lambda dice: dice.lognormvariate(0, 0.8), seed=1)
    run = timed(server, 600, AUTO, ledger)[1]
    assert run.control.limit >= 8


# --- in company


def test_two_runs_share_a_server(ledger):
    server = SimulatedServer(8, 0.1, tells_times=True)

    async def both():
        runs = [
            await abatch_run(
                range(400), "{item}", AUTO, client=Client(server, "tiny"), ledger=ledger, show_progress=False
            )
            for _ in range(2)
        ]
        return await asyncio.gather(*runs)

    with virtual_time(ledger) as loop:
        runs = LOOP.run(both())
        seconds = loop.time()
    print(f"{seconds:.1f} s, the ideal is 10; at most {server.most_present} at the server, {runs}")
    assert seconds <= 1.15 * 800 * 0.1 / 8 and server.most_present <= 4 * 8


# --- a refusal is no answer of the model's


def test_after_a_refusal_the_very_same_is_asked_again(ledger):
    server = SimulatedServer(1, 0.1, faults=[REFUSALS[0], REFUSALS[2]])
    run = timed(server, 1, AUTO.replace(max_attempts=2), ledger)[1]
    assert len(server.requests) == 3 and server.requests[0] == server.requests[1] == server.requests[2]
    assert run.progress.retried == 2


def test_an_answer_is_found_at_once_where_times_are_told():
    control = ConcurrencyControl(64)
    for _ in range(1 + 3 + 4 + 8 + 16 + 32):
        control.end(control.begin(), 0.1, 0.0)
    assert control.limit == 64
