"""A thousand items through a server that fails one call in five, in every way a server fails."""

import re
import threading

import pytest
from fakes import FakeOllama
from virtual import VirtualLoop, virtual_time

from cerebro_nb import Client, OllamaBackend, load_settings, process_in_batches
from cerebro_nb.concurrency.loop import LOOP

pytestmark = pytest.mark.costly

FAULTS = [
    (500, {}, '{"error": "boom"}'),
    (502, {"content-type": "text/html"}, "<h1>Bad gateway</h1>"),
    (503, {"retry-after": "0"}, ""),
    (429, {}, '{"error": "slow down"}'),
    (429, {"retry-after": "0.0"}, ""),
    (408, {}, ""),
    "reset",
    "stall",
    "hang",
    "html",
    "not json",
    "empty",
    "cut json",
    "cut stream",
    "broken connection",
    "error in stream",
]
ITEMS, CONCURRENCY = 1_000, 16


class Patience:
    """Gives the time that a call may take once every call under way is stuck."""

    def __init__(self, loop: VirtualLoop, seconds: float):
        self._loop, self._seconds, self._lock = loop, seconds, threading.Lock()
        self._stuck, self._left = 0, ITEMS

    def one_is_stuck(self):
        with self._lock:
            self._stuck += 1
            self._give()

    def one_ended(self, now):
        with self._lock:
            self._left = ITEMS - now.processed
            self._give()

    def _give(self):
        if self._stuck and self._stuck == min(self._left, CONCURRENCY):
            self._stuck = 0
            self._loop.give(self._seconds)


def test_a_thousand_items_end_with_a_thousand_answers(ledger, chance):
    faults = [chance.choice(FAULTS) if chance.random() < 0.2 else None for _ in range(5_000)]
    changes = {"concurrency": CONCURRENCY, "adaptive": False, "backoff_s": 0, "max_attempts": 12}
    profile = load_settings({}).profile("auto").replace(**changes)
    with FakeOllama(slots=CONCURRENCY) as server, virtual_time(ledger, left_s=0) as loop:
        patience = Patience(loop, profile.timeout_s)
        server.faults, server.when_stuck = faults, patience.one_is_stuck
        client = Client(OllamaBackend(server.url), "tiny")
        run = process_in_batches(
            range(ITEMS),
            "item {item}",
            profile,
            client=client,
            ledger=ledger,
            show_progress=False,
            on_progress=patience.one_ended,
        )
        LOOP.run(client.aclose())
        asked = [
            re.search(r"\d+", payload["messages"][-1]["content"])[0]
            for path, payload, _ in server.requests
            if "chat" in path
        ]
    assert run.results == [f"echo item {n}" for n in range(ITEMS)]
    rows = ledger.attempts(run.task_id)
    assert len(rows) == len(asked) == ITEMS + run.progress.retried
    kinds = {row["error"]["type"] for row in rows if row["error"]}
    assert {
        "ServerFailed",
        "ServerBusy",
        "RateLimited",
        "ConnectionBroken",
        "RequestTimeout",
        "InvalidResponse",
        "StreamCut",
    } <= kinds
    print(f"{run.progress.retried} attempts failed of {len(rows)}, by {sorted(kinds)}")
