"""What the tests' own clock promises: what is timed by it comes out the same on any machine."""

import asyncio
import threading

from simulated import SimulatedServer, at_a_rate
from virtual import virtual_time

from cerebro_nb import Client, errors, load_settings, process_in_batches
from cerebro_nb.concurrency.loop import LOOP


def test_time_jumps_to_what_comes_next_in_its_order():
    woken = []

    async def sleeper(seconds):
        await asyncio.sleep(seconds)
        woken.append((seconds, asyncio.get_running_loop().time()))

    async def all_of_them():
        await asyncio.gather(*map(sleeper, [3600, 0.3, 0.1, 86_400 * 3]))

    with virtual_time() as loop:
        LOOP.run(all_of_them())
        assert loop.time() == 86_400 * 3
    assert woken == [(seconds, seconds) for seconds in (0.1, 0.3, 3600, 86_400 * 3)]


def test_a_time_limit_is_hit_at_its_time():
    async def late():
        try:
            async with asyncio.timeout(25):
                await asyncio.sleep(3600)
        except TimeoutError:
            return asyncio.get_running_loop().time()

    with virtual_time():
        assert LOOP.run(late()) == 25


def test_work_in_a_thread_takes_no_time_however_long_it_takes():
    clock_moved = threading.Event()

    async def clock():
        await asyncio.sleep(0.001)
        clock_moved.set()

    async def both():
        moving = asyncio.create_task(clock())
        moved = await asyncio.to_thread(clock_moved.wait, 0.05)
        assert not moved and asyncio.get_running_loop().time() == 0
        await moving

    with virtual_time():
        LOOP.run(both())
    assert clock_moved.is_set()


def test_time_that_is_given_passes_and_no_more():
    woken = threading.Event()

    async def sleep():
        await asyncio.sleep(10)
        woken.set()

    with virtual_time(left_s=0) as loop:
        sleeping = LOOP.submit(sleep())
        loop.give(9.5)
        LOOP.run(asyncio.to_thread(int))
        assert not woken.is_set()
        loop.give(1)
        sleeping.result()
        assert loop.time() == 10


def test_a_whole_run_takes_the_same_course_every_time(ledger):
    def course():
        faults = at_a_rate(
            0.1, lambda: errors.RateLimited("slow down"), lambda: errors.ConnectionFailed("gone"), seed=1
        )
        server = SimulatedServer(4, lambda dice: dice.expovariate(1), faults=faults)
        profile = (
            load_settings({}).profile("synthetic").replace(batch_size=25, concurrency=6, delay_s=9, max_attempts=9)
        )
        with virtual_time(ledger) as loop:
            client = Client(server, "tiny")
            run = process_in_batches(range(100), "{item}", profile, client=client, ledger=ledger, show_progress=False)
            assert run.progress.ok == 100 and run.progress.elapsed_s == loop.time()
            return loop.time(), [(call.text, call.sent_at, call.begun_at, call.ended_at) for call in server.calls]

    first = course()
    assert course() == first and first[0] > 3 * 9
