"""A soak: for an hour, or as many minutes as are given, runs of all kinds while everything around them goes wrong.

    python tests/soak.py [MINUTES] [SEED]

Two notebooks work on one ledger, and a third that is killed with -9 again and again; the server refuses, cuts its
answers off, hangs, and is restarted. At the end each task is gone on with until nothing is left of it, and all is
looked at: every item once and with its answer, memory flat, nothing left open.
"""

import json
import logging
import queue
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import soaking
from fakes import FakeOllama, written

from cerebro_nb import Ledger

FAULTS = [
    (429, {"retry-after": "0"}, '{"error": "slow down"}'),
    (429, {}, '{"error": "slow down"}'),
    (503, {}, '{"error": "server busy, please try again.  maximum pending requests exceeded"}'),
    (500, {}, '{"error": "boom"}'),
    "reset",
    "cut stream",
    "cut json",
    "broken connection",
    "error in stream",
    "html",
    "hang",
]
#: Seconds between two restarts of the server, how long it is away, and how long a notebook lives that is killed.
RESTARTS_S, AWAY_S, LIVES_S = (8.0, 20.0), (0.2, 2.0), (0.0, 4.0)
#: How far the middle of the last quarter of the rounds may be above that of the second, in MB, where a quarter is at
#: least so many rounds; the first is the warm-up.
MOST_GROWN_MB, SETTLED = 16.0, 10


def said(payload):
    """Answer an item with itself, so that its answer is known, and all else as its form wants it."""
    last = (payload.get("messages") or [{"content": payload.get("prompt", "")}])[-1]["content"]
    return f"echo {last}" if last.startswith("item ") else written(payload)


class Weather(FakeOllama):
    """A server that fails one call in ten, is quick or slow, and keeps no record of what it was asked."""

    def __init__(self, dice, told, **options):
        super().__init__(said, slots=8, **options)
        self.dice, self.told, self.share = dice, told, 0.1

    async def received(self, request):
        payload = await super().received(request)
        self.requests.clear()
        self.seconds = self.dice.choice((0.0, 0.0, 0.01, 0.02, 0.05, 0.2))
        return payload

    async def fail(self, request, faults):
        fault = self.dice.choice(FAULTS) if self.dice.random() < self.share else None
        if fault:
            self.told[str(fault[0] if isinstance(fault, tuple) else fault)] += 1
        return await super().fail(request, [fault])


class Process:
    """A notebook in a process of its own, whose lines come into a queue."""

    def __init__(self, name, lines, ledger_url, url, seed, keeps):
        words = [sys.executable, soaking.__file__, ledger_url, url, str(seed), keeps]
        self.name, self.states = name, []
        self.child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.noise = []
        self.readers = [
            threading.Thread(target=lambda: [lines.put((self, json.loads(line))) for line in self.child.stdout]),
            threading.Thread(target=lambda: self.noise.extend(self.child.stderr)),
        ]
        for reader in self.readers:
            reader.start()

    def end(self, kills=False):
        """End it, or let it end its round."""
        if kills:
            self.child.kill()
        self.child.stdin.close()
        self.code = self.child.wait(180)
        for reader in self.readers:
            reader.join()
        self.child.stdout.close()
        self.child.stderr.close()
        self.told = f"exit code {self.code}, {b''.join(self.noise).decode()}"


class Soak:
    """Makes the weather for some time, then looks at what it has left.

    Parameters
    ----------
    seconds
        For how long.
    seed
        Of all dice.
    folder
        Where the ledger is.
    """

    def __init__(self, seconds, seed, folder):
        self.dice, self.seconds = random.Random(seed), seconds
        self.file = Path(folder) / "soak.db"
        self.ledger_url, self.lines = f"sqlite:///{self.file}", queue.Queue()
        self.count, self.faults, self.killed = Counter(), Counter(), []
        self.server = Weather(self.dice, self.faults).__enter__()

    def run(self):
        """Soak, settle, and return what is wrong, a sentence each."""
        self.began = time.monotonic()
        end = self.began + self.seconds
        self.stayers = [self.open("keeps"), self.open("closes")]
        self.mortal = self.open("closes")
        self.due = {self.restart: self.began + self.dice.uniform(*RESTARTS_S), self.say: self.began + 60}
        while (now := time.monotonic()) < end:
            act = min(self.due, key=self.due.__getitem__)
            try:
                self.hear(*self.lines.get(timeout=max(0.0, min(self.due[act], end) - now)))
            except queue.Empty:
                if self.due[act] <= time.monotonic():
                    del self.due[act]
                    act()
        self.settle()
        return [*self.wrong_in_processes(), *self.wrong_in_ledger()]

    def hear(self, process, line):
        """Take what a notebook says; the one that is to be killed is, a while after it has begun its first runs."""
        if "rss" in line:
            process.states.append(line)
        if process is self.mortal and self.kill not in self.due:
            self.due[self.kill] = time.monotonic() + self.dice.uniform(*LIVES_S)

    def open(self, keeps):
        """Start a notebook."""
        return Process(keeps, self.lines, self.ledger_url, self.server.url, self.dice.randrange(2**32), keeps)

    # --- what is done to them

    def kill(self):
        """Kill the notebook that is mortal, and start another."""
        self.count["kills"] += 1
        self.mortal.end(kills=True)
        self.killed.append(self.mortal)
        self.mortal = self.open("closes")

    def restart(self):
        """Stop the server, and start it again where it was."""
        self.server.__exit__()
        time.sleep(self.dice.uniform(*AWAY_S))
        self.server = Weather(self.dice, self.faults, port=self.server.port).__enter__()
        self.count["restarts"] += 1
        self.due[self.restart] = time.monotonic() + self.dice.uniform(*RESTARTS_S)

    def say(self):
        """Print a line on how far it is."""
        states = [process.states[-1] for process in self.stayers if process.states]
        items, held = sum(state["done"]["items"] for state in states), [f"{state['rss']:.0f} MB" for state in states]
        minutes = (time.monotonic() - self.began) / 60
        around = ", ".join(f"{count} {name}" for name, count in self.count.items())
        told = f"{items:,} items, {self.faults.total():,} faults, {around}"
        print(f"{minutes:5.1f} min: {told}; {', '.join(held)}", flush=True)
        self.due[self.say] = time.monotonic() + 60

    # --- what is left of it

    def settle(self):
        """End the notebooks, go on with each task where the weather is fair, and close all."""
        self.mortal.end(kills=True)
        self.killed.append(self.mortal)
        for process in self.stayers:
            process.end()
        while not self.lines.empty():
            self.hear(*self.lines.get())
        self.server.share = 0.0
        with closing(Ledger(self.ledger_url)) as ledger, soaking.asking(self.server.url) as client:
            for _ in range(3):  # those that failed may fail again: a gate may have refused all that there is
                for task in ledger.tasks(1_000_000):
                    if task.status == "completed" and not task.failed_items:
                        continue
                    self.count["gone on with at the end"] += 1
                    soaking.again(task, ledger, client).wait()
        self.server.__exit__()

    def wrong_in_processes(self):
        """Yield what the notebooks have done wrong, or have kept: memory, files, threads, children."""
        for process in self.killed:
            if process.code != -9:
                yield f"a notebook that was to be killed ended before that: {process.told}"
        for process in self.stayers:
            name, states = f"the notebook that {process.name} its ledger", process.states
            if process.code or process.noise:
                yield f"{name} ended: {process.told}"
            if not states:
                yield f"{name} did not come to the end of a round"
                continue
            before, after = memory(states)
            if len(states) >= 4 * SETTLED and after > before + MOST_GROWN_MB:
                yield f"{name} grew from {before:.0f} to {after:.0f} MB"
            closed = [state for state in states if state.get("closed")]
            first, last = closed[0], closed[-1]
            if last["files"] > first["files"]:
                yield f"{name} had {first['files']} files open with all closed, and has {last['files']}"
            if last["others"] or last["children"]:
                yield f"{name} has the threads {last['others']} and {last['children']} children left"

    def wrong_in_ledger(self):
        """Yield what is wrong in the ledger: an item that is lost, answered twice or with another's answer, a lease."""
        with closing(Ledger(self.ledger_url)) as ledger:
            self.tasks = ledger.tasks(1_000_000)
            for task in self.tasks:
                yield from wrong_in_task(task, list(ledger.items(task.id)))
        for path in (self.file.with_name(f"{self.file.name}-{kind}") for kind in ("wal", "shm")):
            if path.exists():
                yield f"{path.name} is left, so somebody has the ledger open"
        with closing(sqlite3.connect(self.file)) as database:
            for table in ("leases", "jobs", "endings"):
                if rows := database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]:
                    yield f"{rows} rows are left in {table}"
            self.attempts = database.execute("SELECT count(*) FROM attempts").fetchone()[0]
            twice = database.execute(ANSWERED_TWICE).fetchall()
            if twice:
                yield f"{len(twice)} items of batches were answered more than once: {twice[:5]}"

    def table(self):
        """Yield how it went, a line each."""
        kinds, done = Counter(task.kind for task in self.tasks), Counter()
        ok, failed = (sum(getattr(task, name) for task in self.tasks) for name in ("ok_items", "failed_items"))
        for process in self.stayers:
            done.update(process.states[-1]["done"])
            done.update({f"told {name}": count for name, count in process.states[-1]["told"].items()})
        yield f"tasks      {len(self.tasks):,}: {listed(kinds)}"
        yield f"items      {ok:,} ok, {failed:,} failed, in {self.attempts:,} attempts"
        yield f"around     {listed(self.count)}"
        yield f"faults     {self.faults.total():,}: {listed(self.faults)}"
        yield f"notebooks  {listed(done)}"
        for process in self.stayers:
            last, (before, after) = process.states[-1], memory(process.states)
            kept = f"{last['files']} files, {last['threads']} threads, {last['children']} children at the end"
            told = f"{len(process.states)} rounds; {before:.0f} MB after the warm-up, {after:.0f} MB at the end; {kept}"
            yield f"{process.name:10} {told}"


def listed(counts):
    """Return counts by name, as a text."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.most_common())


ANSWERED_TWICE = """
SELECT attempts.task_id, position, count(*) FROM attempts JOIN tasks ON tasks.id = task_id
WHERE tasks.kind = '"batch"' AND error IS NULL
GROUP BY attempts.task_id, position HAVING count(*) > 1
"""


def memory(states):
    """Return the memory after the warm-up and at the end, in MB: the medians of the second and of the last quarter."""
    quarter = len(states) // 4
    second, last = states[quarter : 2 * quarter] or states[:1], states[-quarter:]
    return tuple(statistics.median(state["rss"] for state in part) for part in (second, last))


def wrong_in_task(task, items):
    """Yield what is wrong with a task that was gone on with to its end."""
    name = f"task {task.id} ({task.kind}, {task.subject})"
    statuses = Counter(item["status"] for item in items)
    if [item["position"] for item in items] != list(range(task.total_items or 0)):
        yield f"{name} has {len(items)} of {task.total_items} items"
    if (statuses["ok"], statuses["failed"], len(items)) != (task.ok_items, task.failed_items, task.processed_items):
        yield f"{name} counts {task.ok_items} ok and {task.failed_items} failed, but has {dict(statuses)}"
    if task.status not in ("completed", "failed") or (task.status == "failed") != (task.failed_items == len(items) > 0):
        yield f"{name} is {task.status} with {dict(statuses)}"
    if task.lease_holder:
        yield f"{name} is held by {task.lease_holder}"
    if task.kind == "batch":
        count = int(items[0]["input"].split()[3]) if items else 0
        wanted = soaking.items_of(task.subject, count)
        if [item["output"] for item in items] != [f"echo {item}" for item in wanted]:
            yield f"{name} has not the answers to its {count} items: {dict(statuses)}"


def main(minutes="60", seed=""):
    """Soak, show how it went, and return whether all is well."""
    logging.getLogger("aiohttp.server").setLevel("CRITICAL")  # that a client has gone is no news
    seed = int(seed or random.SystemRandom().randrange(2**32))
    with tempfile.TemporaryDirectory(prefix="cerebro-soak-") as folder:
        soak = Soak(60 * float(minutes), seed, folder)
        print(f"{minutes} minutes, seed {seed}", flush=True)
        wrong = soak.run()
        print(*soak.table(), *(wrong or ["all is well"]), sep="\n")
    return not wrong


if __name__ == "__main__":
    sys.exit(not main(*sys.argv[1:]))
