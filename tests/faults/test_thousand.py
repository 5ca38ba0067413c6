"""A thousand items through a server that fails one call in five, in every way a server fails."""

import random
import re

from fakes import FakeOllama

from cerebro_nb import Client, OllamaBackend, load_settings, process_in_batches
from cerebro_nb.loop import LOOP

FAULTS = [
    (500, {}, '{"error": "boom"}'),
    (502, {"content-type": "text/html"}, "<h1>Bad gateway</h1>"),
    (503, {"retry-after": "0"}, ""),
    (429, {}, '{"error": "slow down"}'),
    (429, {"retry-after": "0.01"}, ""),
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


def test_a_thousand_items_end_with_a_thousand_answers(ledger):
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    faults = [chance.choice(FAULTS) if chance.random() < 0.2 else None for _ in range(5_000)]
    profile = load_settings({}).profile("auto").replace(concurrency=16, backoff_s=0.01, timeout_s=1.0, max_attempts=12)
    with FakeOllama(slots=16) as server:
        server.faults = faults
        client = Client(OllamaBackend(server.url), "tiny")
        run = process_in_batches(range(1000), "item {item}", profile, client=client, ledger=ledger, show_progress=False)
        LOOP.run(client.aclose())
        asked = [
            re.search(r"\d+", payload["messages"][-1]["content"])[0]
            for path, payload, _ in server.requests
            if "chat" in path
        ]
    assert run.results == [f"echo item {n}" for n in range(1000)]
    rows = ledger.attempts(run.task_id)
    assert len(rows) == len(asked) == 1000 + run.progress.retried
    kinds = {row["error"]["type"] for row in rows if row["error"]}
    assert {
        "ServerFailed",
        "ServerBusy",
        "RateLimited",
        "ConnectionFailed",
        "RequestTimeout",
        "InvalidResponse",
        "StreamCut",
    } <= kinds
    print(f"{run.progress.retried} attempts failed of {len(rows)}, by {sorted(kinds)}")
