"""How many requests at once: found out, on servers that queue silently and on those that refuse."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import SimulatedServer

from cerebro_nb import Client, errors, load_settings, process_in_batches
from cerebro_nb.concurrency.control import ConcurrencyControl, Served


def settle(control, slots, tells, lengths, answers):
    """Answer many requests of a simulated server; return the most there were in flight."""
    most = control.limit
    for number in range(answers):
        service = lengths[number % len(lengths)]
        latency = service * max(1.0, control.limit / slots)
        control.end(control.begin(), latency, latency - service if tells else None)
        most = max(most, control.limit)
    return most


@given(slots=st.integers(1, 40), tells=st.booleans(), most=st.integers(1, 128))
def test_the_slots_are_found_and_never_twice_exceeded(slots, tells, most):
    control = ConcurrencyControl(most)
    in_flight = settle(control, slots, tells, [0.1], 2_000)
    assert in_flight <= min(most, 2 * slots)
    assert control.limit >= min(most, slots)
    assert control.limit <= min(most, 1.5 * slots + 2)


@given(slots=st.integers(1, 32), lengths=st.lists(st.floats(0.01, 1.0), min_size=5, max_size=50))
def test_unequal_lengths_fool_nobody_where_the_server_tells_its_times(slots, lengths):
    control = ConcurrencyControl(128)
    assert settle(control, slots, True, lengths, 3_000) <= 2 * slots
    assert slots <= control.limit <= slots + 1 + slots // 4


@given(before=st.integers(1, 16), after=st.integers(1, 16), tells=st.booleans())
def test_a_change_is_followed(before, after, tells):
    control = ConcurrencyControl(64)
    settle(control, before, tells, [0.1], 1_500)
    settle(control, after, tells, [0.1], 3_000)
    assert after <= control.limit <= max(2, 1.5 * after + 2)


def test_where_most_is_refused_the_limit_falls_at_once_and_once():
    control = ConcurrencyControl(64, slots=16)
    under_way = [control.begin() for _ in range(16)]
    for begun in under_way:
        control.pressure(begun)
    assert control.limit == 8


@given(
    st.lists(
        st.tuples(
            st.floats(0, 100),
            st.sampled_from([0.0, 0.5, 1.0]),
            st.booleans(),
            st.sampled_from(["end", "refused", "late"]),
        )
    )
)
def test_no_times_are_too_odd(outcomes):
    for served in (None, Served(20, True), Served(3, False)):
        control = ConcurrencyControl(64, served=served)
        for latency_s, waited, is_told, outcome in outcomes:
            begun = control.begin()
            if outcome == "end":
                control.end(begun, latency_s, latency_s * waited if is_told else None)
            else:
                control.pressure(begun, outcome == "late")
            control.leave()
            assert 1 <= control.limit <= 64


@given(share=st.floats(0.0, 0.4), most=st.integers(1, 128), seed=st.integers(0, 2**32))
def test_a_refusal_now_and_then_keeps_nobody_from_growing(share, most, seed):
    control, dice, reached = ConcurrencyControl(most), random.Random(seed), 0
    for _ in range(5_000):
        begun = control.begin()
        control.pressure(begun) if dice.random() < share else control.end(begun, 0.1, 0.0)
        reached = max(reached, control.limit)
    assert reached == most and control.limit >= most // 3


@given(room=st.integers(4, 40), seed=st.integers(0, 2**32))
def test_what_comes_beyond_the_room_there_is_is_soon_not_asked_for(room, seed):
    control, dice, refused = ConcurrencyControl(64), random.Random(seed), 0
    for _ in range(200):
        under_way = [control.begin() for _ in range(control.limit)]
        dice.shuffle(under_way)
        for number, begun in enumerate(under_way):
            control.end(begun, 0.1, 0.0) if number < room else control.pressure(begun)
        refused += max(0, len(under_way) - room)
    assert refused < 200 * room and room // 2 <= control.limit <= 2 * room + 1


def test_slots_that_the_server_tells_are_where_it_begins_and_the_user_s_limit_holds():
    assert ConcurrencyControl(64, slots=4).limit == 4 and ConcurrencyControl(2, slots=4).limit == 2
    assert ConcurrencyControl(64).limit == 1


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_auto_finds_the_slots_of_a_silent_server(slots, ledger, virtual):
    server = SimulatedServer(slots, 1.0)
    client = Client(server, "tiny")
    run = process_in_batches(range(60 * slots), "{item}", "auto", client=client, ledger=ledger, show_progress=False)
    assert run.progress.ok == 60 * slots and slots <= run.control.limit <= 2 * slots
    assert server.most_in_service == slots and server.most_present <= 2 * slots + 1
    assert virtual.time() <= 60 * 1.25  # a quarter more than with all slots busy from the beginning


def test_a_server_that_refuses_is_asked_less_at_once(ledger, virtual):
    slow_down = [lambda: errors.RateLimited("slow down")] * 3
    server = SimulatedServer(4, 0.05, queue=0, faults=[None] * 40 + slow_down)  # more than four at once are a 503
    profile = load_settings({}).profile("auto").replace(backoff_s=0.02, max_attempts=20)
    client = Client(server, "tiny")
    run = process_in_batches(range(80), "{item}", profile, client=client, ledger=ledger, show_progress=False)
    assert run.progress.ok == 80 and run.progress.retried >= 3 and server.most_present <= 4
