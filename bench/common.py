"""What the parts share: the server in a process of its own, and a run against it."""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from cerebro_nb import Client, Ledger, OllamaBackend, Profile, Progress, load_settings, process_in_batches
from cerebro_nb.backends.pool import EndpointPool
from cerebro_nb.concurrency.loop import LOOP

HERE = Path(__file__).parent
ROUNDS = 5


@contextmanager
def server(slots: int, mean: float = 0.0, spread: float = 0.0, **more: str | float) -> Iterator[Any]:
    """Serve, as server.py says; yields an object with its url (and those of all), and at the end the most in flight."""
    named = [f"{name}={value}" for name, value in more.items()]
    words = [sys.executable, str(HERE / "server.py"), str(slots), str(mean), str(spread), *named]
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child.urls = [f"http://127.0.0.1:{port}" for port in child.stdout.readline().split()]
    child.url = child.urls[0]
    try:
        yield child
        child.stdin.write("\n")
        child.stdin.flush()
        child.most = int(child.stdout.readline())
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()


@contextmanager
def new_ledger() -> Iterator[Ledger]:
    """Keep a ledger in a folder of its own."""
    folder = tempfile.mkdtemp(prefix="cerebro-bench-")
    ledger = Ledger(f"sqlite:///{folder}/bench.db")
    try:
        yield ledger
    finally:
        ledger.close()
        shutil.rmtree(folder)


def window(concurrency: int, adaptive: bool = False) -> Profile:
    """Return a sliding window."""
    return load_settings({}).profile("auto").replace(concurrency=concurrency, adaptive=adaptive)


def cerebro(
    urls: str | Sequence[str],
    items: int,
    profile: Profile,
    ended: list[float] | None = None,
    ledger: Ledger | None = None,
) -> tuple[float, float]:
    """Run prompts; return wall and CPU seconds, and put the seconds at which items ended into a list."""

    def note(now: Progress) -> None:
        if now.event == "item":
            ended.append(time.perf_counter())

    with nullcontext(ledger) if ledger else new_ledger() as opened:
        backends = [OllamaBackend(url) for url in ([urls] if isinstance(urls, str) else urls)]
        client = Client(EndpointPool(backends) if len(backends) > 1 else backends[0], "tiny")
        LOOP.run(client.aprepare(load_settings({}).options(is_training=True)))
        wall, cpu = time.perf_counter(), time.process_time()
        run = process_in_batches(
            range(items),
            "One short answer: {item}.",
            profile,
            on_progress=None if ended is None else note,
            client=client,
            ledger=opened,
            show_progress=False,
        )
        spent = time.perf_counter() - wall, time.process_time() - cpu
        LOOP.run(client.aclose())
        assert run.progress.ok == items, run
    return spent


def median(measure: Callable[[], float], rounds: int = ROUNDS) -> float:
    """Return the median of some rounds."""
    return statistics.median(measure() for _ in range(rounds))


def middle_half(ended: list[float]) -> float:
    """Return the seconds in which the items ended that are neither of the first nor of the last quarter."""
    return ended[3 * len(ended) // 4] - ended[len(ended) // 4]
