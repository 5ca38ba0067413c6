"""A server that goes away: the run waits for it and burns nothing."""

import asyncio
import threading

import pytest
from fakes import FakeOllama
from simulated import SimulatedServer

from cerebro_nb import Client, How, OllamaBackend, Plan, Run, Where, errors, load_settings, resume, unfinished
from cerebro_nb.batching.work import prompt_work
from cerebro_nb.concurrency.loop import LOOP


def a_run(backend, profile, ledger, outage_s, items=8):
    """Return a run of prompts, and what it tells."""
    client = Client(backend, "tiny")
    options = load_settings({}).options(is_training=True, timeout_s=profile.timeout_s)
    work = prompt_work(client, "item {item}", options)
    manifest = {"prompt": "item {item}", "system_prompt": None}
    how = How(profile, client, options=options, outage_s=outage_s)
    run = Run(Plan(range(items), work, manifest=manifest), how, Where(ledger, show_progress=False))
    told = []
    return run.on_progress(lambda now: told.append(now.event)), told


def test_a_server_that_goes_away_and_comes_back_costs_no_item_a_try(quick, ledger, virtual, caplog):
    server = SimulatedServer(3, 5.0)
    run, told = a_run(server, quick.replace(concurrency=3, max_attempts=2), ledger, outage_s=60)

    async def scenario():
        run.start()
        await asyncio.sleep(7)
        server.go_away()
        await asyncio.sleep(43)
        assert run.progress.status == "waiting" and run.progress.waiting_for == server.base_url
        server.come_back()
        await run

    LOOP.run(scenario())
    assert told.count("waiting") == told.count("going_on") == 1
    assert run.task.status == "completed" and run.progress.failed == 0
    assert run.results == [f"echo item {n}" for n in range(8)]
    assert server.looked_at[1:] == [7, 7.5, 8.5, 10.5, 14.5, 22.5, 37.5, 52.5]
    assert server.loaded_at == [0, 52.5]  # the model was loaded anew before the first call
    assert not [call for call in server.calls if 7 < call.sent_at < 52.5]
    assert "does not answer" in caplog.text
    assert any(row["error"] for row in ledger.attempts(run.task_id))  # what failed meanwhile is on record


def test_a_server_that_stays_away_ends_the_run_and_leaves_its_items_to_be_done(quick, ledger, virtual):
    server = SimulatedServer(3, 5.0)
    run, _ = a_run(server, quick, ledger, outage_s=60)

    async def scenario():
        run.start()
        await asyncio.sleep(7)
        server.go_away()
        await run

    with pytest.raises(errors.ServerGone, match=r"did not come back within 60 s"):
        LOOP.run(scenario())
    assert virtual.time() == 7 + 60
    task = run.task
    assert task.status == "failed" and task.failed_items == 0 and task.metadata["error"]["type"] == "ServerGone"
    assert unfinished(ledger=ledger)["left_items"].tolist() == [8 - task.ok_items]
    server.come_back()
    again = resume(run.task_id, client=run.client, ledger=ledger, show_progress=False)
    assert again.results == [f"echo item {n}" for n in range(8)]


def test_a_run_that_waits_can_be_cancelled(quick, ledger, virtual):
    server = SimulatedServer(3, 5.0)
    run, _ = a_run(server, quick, ledger, outage_s=600)

    async def scenario():
        run.start()
        await asyncio.sleep(7)
        server.go_away()
        await asyncio.sleep(100)
        run.cancel()
        await run

    LOOP.run(scenario())
    assert run.task.status == "cancelled" and run.task.failed_items == 0 and virtual.time() == 107


def test_a_server_that_hangs_altogether_is_waited_for_too(quick, ledger, virtual):
    """Calls run into their time limit, and the server does not even tell its version."""
    server = SimulatedServer(3, 5.0)
    run, told = a_run(server, quick.replace(max_attempts=1), ledger, outage_s=600, items=3)

    async def scenario():
        run.start()
        await asyncio.sleep(4)
        server.hangs = True
        await asyncio.sleep(200)
        assert run.progress.status == "waiting"
        server.hangs = False
        await run

    LOOP.run(scenario())
    assert run.progress.ok == 3 and told.count("waiting") == 1


def test_a_server_that_ends_and_another_at_its_address_are_one_outage(quick, ledger):
    with FakeOllama() as server:
        stuck = threading.Event()
        server.faults, server.when_stuck = [None, *["hang"] * 100], stuck.set
        run, told = a_run(OllamaBackend(server.url), quick.replace(max_attempts=1), ledger, outage_s=600)
        waits = threading.Event()
        run.on_progress(lambda now: now.event == "waiting" and waits.set()).start()
        assert stuck.wait(60)
    assert waits.wait(60)
    with FakeOllama(port=server.port) as again:
        run.wait()
        assert again.loaded
    LOOP.run(run.client.aclose())
    assert run.results == [f"echo item {n}" for n in range(8)] and told.count("going_on") == 1
