"""Workers that share a ledger of PostgreSQL beside the plain run: slots used, what a claim takes, CPU an item.

`python bench/sharing.py` prints all; it starts a PostgreSQL of its own, as the tests do.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from common import HERE, cerebro, middle_half, server, window

from cerebro_nb import Client, Ledger, OllamaBackend, Progress, load_settings
from cerebro_nb.batching.plans import How, Plan, Where
from cerebro_nb.batching.run import Run
from cerebro_nb.batching.work import prompt_work
from cerebro_nb.concurrency.loop import LOOP
from cerebro_nb.sharing.handing_out import Claim, Lease, PostedJob, claim_leases, open_job, post_job, post_leases
from cerebro_nb.sharing.sharing import Sharing

sys.path.append(str(HERE.parent / "tests"))
from servers import PostgresServer

SLOTS, SECONDS, SPAN_S = 8, 0.25, 8.0
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(process: int, with_ended: bool = False) -> float:
    """Return the CPU seconds of a process, and of its children that ended."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if with_ended else 13])) / TICKS


def postgres_seconds(postgres: PostgresServer) -> float:
    """Return the CPU seconds of a PostgreSQL."""
    first = int((postgres.folder / "data" / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    return cpu_seconds(first, with_ended=True) + sum(cpu_seconds(int(child)) for child in children)


@contextmanager
def worker(url: str, ollama: str) -> Iterator[subprocess.Popen[str]]:
    """Have a worker at work that asks one server."""
    words = [str(Path(sys.executable).parent / "cerebro"), "work", "--ledger", url]
    child = subprocess.Popen(
        words, stderr=subprocess.PIPE, text=True, env={**os.environ, "OLLAMA_HOST": ollama, "CEREBRO_MODEL": "tiny"}
    )
    assert child.stderr is not None
    while "is at work" not in child.stderr.readline():
        assert child.poll() is None
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        child.stderr.close()


def shared(postgres: PostgresServer, workers: int) -> dict[str, float]:
    """Return what a run by so many workers used, each with a server of its own."""
    items, url = round(workers * SLOTS / SECONDS * SPAN_S), postgres.new_database()
    with ExitStack() as stack:
        served = stack.enter_context(server(SLOTS, SECONDS, endpoints=workers))
        ledger = stack.enter_context(closing(Ledger(url)))
        there = [stack.enter_context(worker(url, address)) for address in served.urls]
        client, options = Client(OllamaBackend(served.url), "tiny"), load_settings({}).options(is_training=True)
        manifest = {"prompt": "One short answer: {item}.", "system_prompt": None, "response_model": None}
        plan = Plan(range(items), prompt_work(client, manifest["prompt"], options), manifest=manifest)
        where = Where(ledger, show_progress=False, place=lambda: Sharing(lambda: ledger))
        run = Run(plan, How(window(SLOTS), client, options=options), where)
        names, spent = ("driver", "PostgreSQL", "workers"), list[tuple[float, ...]]()

        def note(now: Progress) -> None:  # what is made ready for the first items is none of theirs
            if now.processed >= items // 8 and not spent:
                spent.append((time.process_time(), postgres_seconds(postgres), sum(cpu_seconds(c.pid) for c in there)))

        run.on_progress(note).start().wait()
        spent.append((time.process_time(), postgres_seconds(postgres), sum(cpu_seconds(c.pid) for c in there)))
        counted = items - items // 8
        LOOP.run(client.aclose())
        assert run.progress.ok == items
        ended = sorted(item["finished_at"] for page in ledger.pages(run.task_id) for item in page)
    rate = items / 2 / middle_half(ended)
    each = {
        f"{name} ms an item": (after - before) / counted * 1e3
        for name, before, after in zip(names, *spent, strict=True)
    }
    return {"slots used": rate * SECONDS / SLOTS / workers, "items a second": rate, **each}


def plain() -> dict[str, float]:
    """Return what a run on one machine used."""
    items, ended = round(SLOTS / SECONDS * SPAN_S), list[float]()
    with server(SLOTS, SECONDS) as served:
        _, cpu = cerebro(served.url, items, window(SLOTS), ended)
    rate = items / 2 / middle_half(ended)
    return {"slots used": rate * SECONDS / SLOTS, "items a second": rate, "CPU ms an item": cpu / items * 1e3}


def claims(postgres: PostgresServer, count: int = 200_000, rounds: int = 50) -> dict[str, float]:
    """Return the milliseconds of a claim of 16 items, of a task of which the database knows nothing yet."""
    with closing(Ledger(postgres.new_database())) as ledger:
        database = ledger.database
        task_id = ledger.create_task("numbers", "", count, leased=True)
        fresh = sql.text(
            "INSERT INTO items (task_id, position, key, input, status, attempts) "
            "SELECT :task, number, 'k', '1', 'pending', 0 FROM generate_series(0, :last) AS number"
        )
        with database.connections.writing() as connection:
            connection.execute(fresh, {"task": task_id, "last": count - 1})
        job, taken, seconds = PostedJob(task_id, "run", {}), 0, []
        # As many as a run of 500 endpoints has handed out at once.
        leases = [Lease.of(task_id, range(first, first + 8)) for first in range(0, 16_000, 8)]
        for write, value in ((post_job, job), (open_job, (task_id, True)), (post_leases, leases)):
            database.submit(write, value, urgent=True).result()
        cpu, of_postgres = time.process_time(), postgres_seconds(postgres)
        for number in range(rounds):
            claim, began = Claim(job, f"worker {number}", room=16), time.perf_counter()
            claimed: Any = database.submit(claim_leases, claim, urgent=True).result()
            seconds.append(time.perf_counter() - began)
            taken += sum(len(items) for _, items in claimed.leases)
        assert taken == 16 * rounds
        own, servers = time.process_time() - cpu, postgres_seconds(postgres) - of_postgres
    found = {"median ms": statistics.median(seconds) * 1e3, "most ms": max(seconds) * 1e3}
    return {**found, "own CPU ms": own / rounds * 1e3, "PostgreSQL CPU ms": servers / rounds * 1e3}


def measured() -> Iterator[tuple[str, dict[str, float]]]:
    """Measure all of it, and yield each part as it is known."""
    with PostgresServer() as postgres:
        yield "a claim at 200,000 fresh items", claims(postgres)
        yield "one process", plain()
        for workers in (1, 2, 4):
            yield f"{workers} workers", shared(postgres, workers)


if __name__ == "__main__":
    for name, figures in measured():
        print(f"{name}:", json.dumps({of: round(figure, 3) for of, figure in figures.items()}), flush=True)
