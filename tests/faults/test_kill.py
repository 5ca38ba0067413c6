"""kill -9 at random moments: no answered item runs again, none is lost."""

import re
import subprocess
import sys
import threading

import pytest
from fakes import FakeOllama

from cerebro_nb import Ledger

pytestmark = pytest.mark.costly

ITEMS = 2_000
KILLS = 50
CONCURRENCY = 4

BEGIN = """
import sys
from cerebro_nb.concurrency.loop import LOOP
from cerebro_nb import Client, Ledger, OllamaBackend, load_settings, process_in_batches, resume
ledger = Ledger(sys.argv[1])
client = Client(OllamaBackend(sys.argv[2]), "tiny")
profile = load_settings().profile("auto").replace(concurrency=int(sys.argv[3]), backoff_s=0.01)
print("ready", flush=True)
tasks = ledger.tasks()
if tasks:
    resume(tasks[0].id, client=client, profile=profile, ledger=ledger, show_progress=False)
else:
    items = range(int(sys.argv[4]))
    process_in_batches(items, "item {item};", profile, client=client, ledger=ledger, show_progress=False)
LOOP.run(client.aclose())
ledger.close()
"""


def sent(server):
    """Return the positions asked for, in order."""
    texts = [payload["messages"][-1]["content"] for path, payload, _ in list(server.requests) if path == "/api/chat"]
    return [int(re.search(r"item (\d+);", text)[1]) for text in texts]


@pytest.mark.timeout(1_200)
def test_random_kills_lose_no_answer_and_repeat_none(ledger_url, chance):
    # It takes 50 s to the end, and it is killed the fiftieth time long before.
    with FakeOllama(seconds=0.1, slots=CONCURRENCY) as server:
        words = [sys.executable, "-c", BEGIN, ledger_url, server.url, str(CONCURRENCY), str(ITEMS)]
        kills = repeated_answers = in_flight = 0
        while True:
            before = len(sent(server))
            server.chat_arrived.clear()
            ledger = Ledger(ledger_url)
            tasks = ledger.tasks()
            answered = {item["position"] for item in ledger.items(tasks[0].id, "ok")} if tasks else set()
            ledger.close()
            child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
            with child:
                assert child.stdout.readline() == "ready\n"
                if kills < KILLS:
                    # Half of them at once, while the task is opened; half with requests in flight.
                    if kills % 2 and not server.chat_arrived.wait(60):
                        raise AssertionError("no request came")
                    threading.Timer(chance.uniform(0.0, 0.2), child.kill).start()
                code = child.wait(300)
            asked = sent(server)[before:]
            repeated_answers += len(answered & set(asked))
            if code == 0:
                break
            assert code == -9
            kills += 1
            if kills == KILLS:
                server.seconds = 0.0
        ledger = Ledger(ledger_url)
        (task,) = ledger.tasks()
        outputs = [item["output"] for item in ledger.items(task.id)]
        ledger.close()
        in_flight = len(sent(server)) - ITEMS
    assert outputs == [f"echo item {n};" for n in range(ITEMS)] and task.status == "completed"
    assert (task.processed_items, task.ok_items) == (ITEMS, ITEMS)
    assert repeated_answers == 0
    # What was sent twice was in flight when its process was killed, or its answer was on its way to the disk.
    assert in_flight <= kills * 2 * CONCURRENCY
    print(f"{kills} kills, {in_flight} requests sent twice, {repeated_answers} answers repeated, 0 lost")
    assert kills == KILLS, "the run ended before it was killed often enough"
