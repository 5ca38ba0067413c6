"""Runs on a real Ray cluster of two nodes, of which processes are killed as the operating system kills them."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec

import pytest
from fakes import FakeOllama

from cerebro_nb import errors, load_settings, process_in_batches, resume
from cerebro_nb.cluster.clusters import Caretaker
from cerebro_nb.launching.batches import batch_run

# Found, and not imported: Ray reads once whether it wants a token.
pytestmark = [
    pytest.mark.costly,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is an extra: cerebro-nb[ray]"),
]
TOKEN = "0123456789abcdef" * 4


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def start_node(*words):
    more = ["--num-cpus=0", "--object-store-memory=80000000", "--disable-usage-stats"]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *words, *more]
    started = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert started.returncode == 0, started.stdout[-1000:] + started.stderr[-2000:]


def started_cluster():
    """Start two nodes; return who cleans them up, and their port."""
    caretaker, port = Caretaker(), free_port()
    # Ray gives its workers the ports from 10002 on.
    port = port if port > 20_000 else port + 20_000
    try:
        start_node("--head", f"--port={port}", f"--temp-dir={caretaker.folder}", "--include-dashboard=false")
        start_node(f"--address=127.0.0.1:{port}")
    except BaseException:
        caretaker.clean()
        raise
    return caretaker, port


@pytest.fixture(scope="module")
def two_nodes():
    """Start two nodes that want a token, and end all that is theirs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", TOKEN)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        try:
            caretaker, port = started_cluster()
        except AssertionError:  # Ray waits 30 s for its own parts: on a machine that is busy they may take longer
            caretaker, port = started_cluster()
        patch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
        yield
    caretaker.clean()


@pytest.fixture
def four():
    return load_settings({}).profile("auto").replace(concurrency=4, adaptive=False)


def asked(server):
    chats = [payload for path, payload, _ in server.requests if path == "/api/chat"]
    return Counter(payload["messages"][-1]["content"] for payload in chats)


def where(server, ledger, profile):
    named = {"model": "tiny", "backend": "ollama", "base_url": server.url}
    return {"profile": profile, "ledger": ledger, "show_progress": False, "on": "auto", **named}


def outputs(ledger, run):
    return [item["output"] for page in ledger.pages(run.task_id, "ok") for item in page]


def workers():
    """The process ids of the workers of runs, as Ray names them in the list of processes."""
    told = subprocess.run(["ps", "-axww", "-o", "pid=,command="], capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in told.splitlines() if "ray::BenchActor" in line]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
class TestOnTwoNodes:
    def test_each_item_is_once_in_the_ledger_though_workers_are_killed(self, two_nodes, ledger, four):
        with FakeOllama(seconds=0.1, slots=16) as server:
            run = batch_run(range(300), "Say {item}.", **where(server, ledger, four))
            killed = []

            def kill(now):
                if now.event == "item" and now.ok in (20, 90, 160) and (there := workers()):
                    os.kill(there[0], signal.SIGKILL)
                    killed.append(there[0])

            run.on_progress(kill)
            run.wait()
            calls = asked(server)
        assert len(outputs(ledger, run)) == 300 and run.progress.failed == 0
        assert len(killed) == 3 and len(set(killed)) == 3
        # What was under way at a death is asked again, and what was answered and not yet told.
        assert len(calls) == 300 and calls.total() <= 300 + 3 * 2 * 4

    def test_what_is_cancelled_ends_at_once_and_goes_on_here(self, two_nodes, ledger, four):
        with FakeOllama(seconds=0.1, slots=16) as server:
            run = batch_run(range(100), "Say {item}.", **where(server, ledger, four))
            run.on_progress(lambda now: run.cancel() if now.event == "item" and now.ok == 20 else None)
            run.wait()
            assert run.progress.status == "cancelled" and workers() == []
            resume(run.task_id, ledger=ledger, show_progress=False, profile=four)
        assert len(outputs(ledger, run)) == 100

    def test_a_function_of_ones_own_travels(self, two_nodes, ledger, four):
        run = process_in_batches(
            range(20), lambda value: value * 2, four, ledger=ledger, show_progress=False, on="auto"
        )
        assert outputs(ledger, run) == [value * 2 for value in range(20)]


def clusters():
    """The folders of clusters that processes name."""
    told = subprocess.run(["ps", "-axww", "-o", "command="], capture_output=True, text=True).stdout
    return set(re.findall(r"cerebro-ray-\w+", told))


ON_RAY = """
import sys
from cerebro_nb import Ledger, process_in_batches
more = {"ledger": Ledger(sys.argv[1]), "show_progress": False, "on": "ray"}
run = process_in_batches(range(20), lambda value: value * 2, "auto", **more)
print(run.task_id)
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
def test_a_cluster_of_this_machine_is_started_and_gone_afterwards(ledger, ledger_url):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    words, before = [sys.executable, "-c", ON_RAY, ledger_url], clusters()
    for _ in range(2):  # on a machine that is busy Ray may wait too short for its own parts
        ended = subprocess.run(words, capture_output=True, text=True, timeout=140, env=environment)
        if "Ray does not start here" not in ended.stderr:
            break
    assert ended.returncode == 0, ended.stderr[-2000:]
    answers = [item["output"] for page in ledger.pages(ended.stdout.strip(), "ok") for item in page]
    assert answers == [value * 2 for value in range(20)]
    assert clusters() <= before


def test_no_cluster_is_started_without_a_token(monkeypatch, ledger, four):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(errors.InputError, match="RAY_AUTH_MODE"):
        process_in_batches(range(2), str, four, ledger=ledger, show_progress=False, on="ray")


def test_another_place_is_refused(ledger):
    with pytest.raises(errors.InputError, match="no place"):
        process_in_batches(range(2), str, ledger=ledger, show_progress=False, on="mars")
