"""A notebook that works for as long as it is let: runs of all kinds, steered by dice, some of them begun by others.

A process of its own, which `soak.py` starts, and kills as it likes. After each round, with no run under way and no
client open, it says in a line of JSON what it has done and what it holds. It ends when its standard input does.

Arguments: the ledger's URL, the server's, the seed of its dice, and whether one ledger is kept open all the time.
"""

import gc
import json
import logging
import os
import random
import select
import sys
import threading
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path

from fakes import prose

from cerebro_nb import (
    Client,
    Document,
    Ledger,
    OllamaBackend,
    errors,
    load_settings,
    notes_run,
    synthetic_run,
    vectorize_run,
)
from cerebro_nb.concurrency.loop import LOOP
from cerebro_nb.launching.batches import batch_run
from cerebro_nb.launching.resuming import aresume_run, aretry_run

_PATIENT = {"delay_s": 0, "backoff_s": 0.02, "timeout_s": 2, "max_attempts": 12}
PROFILES = [
    load_settings({}).profile(name).replace(**_PATIENT, **changes)
    for name, changes in (
        ("synthetic", {}),
        ("auto", {"concurrency": 6}),
        ("auto", {"concurrency": 6, "adaptive": False}),
    )
]

#: What the threads are called that stay: Python's own, the loop's, and those that wait for the next call that blocks.
POOLS = ("MainThread", "cerebro-loop", "asyncio_", "cerebro-function")


@contextmanager
def asking(url):
    """Have a client of a server, closed in the end."""
    client = Client(OllamaBackend(url), "tiny")
    try:
        yield client
    finally:
        LOOP.run(client.aclose())


def items_of(name, count):
    """Return the items of a batch, each of which says how many there are."""
    return [f"item {number} of {count} in {name};" for number in range(count)]


def begun(dice, **given):
    """Return a run of any kind, not started."""
    name, kind = (
        f"{dice.randrange(16**8):08x}",
        dice.choice(("qa", "failure_cases", "batch", "batch", "notes", "vectors")),
    )
    given["profile"] = dice.choice(PROFILES)
    if kind == "batch":
        count = dice.randint(1, 80)
        return batch_run(
            items_of(name, count), "{item}", kind="batch", subject=name, reuse=dice.random() < 0.2, **given
        )
    if kind == "vectors":
        texts = "\n\n".join(prose(f"{name} {number}", 300) for number in range(dice.randint(2, 12)))
        return vectorize_run(Document(texts, f"{name}.txt"), embedder="embedder", chunk_tokens=60, **given)
    if kind == "notes":
        questions = [prose(f"{name} {number}", asks=True) for number in range(dice.randint(1, 10))]
        return notes_run(questions, seed=dice.randrange(1000), **given)
    return synthetic_run(kind, f"the {name} harbour", dice.randint(2, 12), seed=dice.randrange(1000), **given)


def again(task, ledger, client):
    """Return the run that goes on with a task, or works on what failed of it."""
    is_over = task.status in ("completed", "failed") and task.failed_items and not ledger.unanswered(task.id)
    make = aretry_run if is_over else aresume_run
    return LOOP.run(make(task, client=client, ledger=ledger, show_progress=False))


class Notebook:
    """Starts runs, round after round, and counts what became of them."""

    def __init__(self, dice):
        self.dice, self.done, self.told = dice, Counter(), Counter()

    def steered(self, run):
        """Have a run paused for a while, or cancelled, when some of its items are done; or leave it alone."""
        act, at = self.dice.choice(("", "", "pause", "cancel")), self.dice.randint(1, 20)

        def steer(now):
            if now.event == "item" and now.processed == at:
                self.done[act] += 1
                if act == "cancel":
                    run.cancel()
                else:
                    run.pause()
                    LOOP.loop.call_later(0.3, run.resume)

        return run.on_progress(steer) if act else run

    def begin(self, make):
        """Make a run and start it; return it, or None if it could not be made."""
        try:
            return self.steered(make()).start()
        except errors.CerebroError as error:
            self.told[type(error).__name__] += 1
            return None

    def round(self, ledger, client):
        """Go on with some tasks that nobody works on, begin others, and wait until all have ended."""
        left = ledger.unfinished()
        chosen = self.dice.sample(left, min(len(left), self.dice.randint(0, 1)))
        makes = [lambda task=task: again(task, ledger, client) for task in chosen]
        given = {"client": client, "ledger": ledger, "show_progress": False}
        makes += [lambda: begun(self.dice, **given) for _ in range(self.dice.randint(1, 2))]
        runs = [run for make in makes if (run := self.begin(make))]
        print(json.dumps({"begun": len(runs)}), flush=True)
        self.done["gone on with"] += len(chosen)
        for run in runs:
            try:
                run.wait()
            except errors.CerebroError as error:  # another was faster, or the server is away for longer
                self.told[type(error).__name__] += 1
            self.done["runs"] += 1
            self.done["items"] += run.progress.processed


def held():
    """Return what this process holds: memory in MB, open files, threads, those of them that no pool keeps, children."""
    gc.collect()
    names = [thread.name for thread in threading.enumerate()]
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    status = dict(line.split(":", 1) for line in lines)
    children = [path.read_text(encoding="ascii").split() for path in Path("/proc/self/task").glob("*/children")]
    return {
        "rss": int(status["VmRSS"].split()[0]) / 1024,
        "files": len(os.listdir("/proc/self/fd")) - 1,  # the one that lists them
        "threads": int(status["Threads"]),
        "others": [name for name in names if not name.startswith(POOLS)],
        "children": sum(map(len, children)),
    }


def is_let():
    """Whether this process is to go on."""
    return not select.select([sys.stdin], [], [], 0)[0]


def main(ledger_url, url, seed, keeps):
    """Work round after round; the first and the last end with all closed."""
    logging.getLogger("cerebro_nb").setLevel("ERROR")  # that the server is away is no news
    notebook, is_first = Notebook(random.Random(seed)), True
    while is_first or is_let():
        with closing(Ledger(ledger_url)) as ledger:
            while is_first or is_let():
                with asking(url) as client:
                    notebook.round(ledger, client)
                if is_first or keeps != "keeps":
                    break
                print(json.dumps({"done": notebook.done, "told": notebook.told, **held()}), flush=True)
        is_first = False
        print(json.dumps({"closed": True, "done": notebook.done, "told": notebook.told, **held()}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
