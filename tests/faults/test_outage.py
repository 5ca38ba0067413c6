"""A server that goes away: the run waits for it and burns nothing."""

import threading

import pytest
from fakes import FakeOllama

from cerebro_nb import Client, OllamaBackend, Run, errors, load_settings, resume, unfinished
from cerebro_nb.loop import LOOP
from cerebro_nb.processors import prompt_work


def begun(server, profile, ledger, outage_s, items=8):
    """Start a run of prompts and return it with events for what it tells."""
    client = Client(OllamaBackend(server.url), "tiny")
    options = load_settings({}).options(is_training=True, timeout_s=profile.timeout_s)
    work = prompt_work(client, "item {item}", options)
    run = Run(
        range(items),
        work,
        profile,
        client=client,
        options=options,
        manifest={"prompt": "item {item}", "system_prompt": None},
        ledger=ledger,
        show_progress=False,
        outage_s=outage_s,
    )
    told = {event: threading.Event() for event in ("item", "waiting", "going_on")}
    run.on_progress(lambda now: now.event in told and told[now.event].set())
    return run.start(), told, client


def test_a_server_that_goes_away_and_comes_back_costs_no_item_a_try(quick, ledger, caplog):
    wide = quick.replace(concurrency=3, max_attempts=2)
    with FakeOllama(seconds=0.05) as server:
        run, told, client = begun(server, wide, ledger, outage_s=60)
        assert told["item"].wait(20)
    assert told["waiting"].wait(20) and run.progress.status == "waiting" and run.progress.waiting_for == server.url
    with FakeOllama(port=server.port) as again:
        run.wait()
        assert again.loaded  # the model was loaded anew before the first call
    LOOP.run(client.aclose())
    assert told["going_on"].is_set() and run.task.status == "completed" and run.progress.failed == 0
    assert run.results == [f"echo item {n}" for n in range(8)]
    assert "does not answer" in caplog.text
    assert any(row["error"] for row in ledger.attempts(run.task_id))  # what failed meanwhile is on record


def test_a_server_that_stays_away_ends_the_run_and_leaves_its_items_to_be_done(quick, ledger):
    with FakeOllama(seconds=0.05) as server:
        run, told, client = begun(server, quick, ledger, outage_s=0.3)
        assert told["item"].wait(20)
    with pytest.raises(errors.ServerGone, match=r"did not come back within 0\.3 s"):
        run.wait()
    task = run.task
    assert task.status == "failed" and task.failed_items == 0 and task.metadata["error"]["type"] == "ServerGone"
    assert unfinished(ledger=ledger)["left_items"].tolist() == [8 - task.ok_items]
    with FakeOllama(port=server.port):
        again = resume(run.task_id, client=client, ledger=ledger, show_progress=False)
        assert again.results == [f"echo item {n}" for n in range(8)]
    LOOP.run(client.aclose())


def test_a_run_that_waits_can_be_cancelled_and_paused(quick, ledger):
    with FakeOllama(seconds=0.05) as server:
        run, told, client = begun(server, quick, ledger, outage_s=600)
        assert told["item"].wait(20)
    assert told["waiting"].wait(20)
    run.cancel()
    run.wait()
    LOOP.run(client.aclose())
    assert run.task.status == "cancelled" and run.task.failed_items == 0


def test_a_server_that_hangs_altogether_is_waited_for_too(quick, ledger, monkeypatch):
    """Calls run into their time limit, and the server does not even tell its version."""
    with FakeOllama() as server:
        seen = OllamaBackend.version
        away = threading.Event()

        async def version(self):
            if away.is_set():
                raise errors.RequestTimeout("no answer")
            return await seen(self)

        monkeypatch.setattr(OllamaBackend, "version", version)
        server.faults = [None, "hang"]
        run, told, client = begun(server, quick.replace(timeout_s=0.3, max_attempts=1), ledger, outage_s=60, items=3)
        assert told["item"].wait(20)
        away.set()
        assert told["waiting"].wait(20)
        away.clear()
        run.wait()
    LOOP.run(client.aclose())
    assert run.progress.ok == 3
