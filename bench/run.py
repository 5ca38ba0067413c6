"""Measure Cerebro against the ideal and against raw clients, in the same run.

`make bench` runs all parts, `python bench/run.py claim` one. Every figure is a ratio or a median of rounds;
bench/results.json holds them all, and docs/benchmarks.svg shows them.
"""

import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import adaptive
import aiohttp
import claim
import httpx
import many
import picture
from common import ROUNDS, cerebro, median, middle_half, new_ledger, server, window
from httpx_aiohttp import AiohttpTransport

from cerebro_nb import Client, OllamaBackend, generate_qa, load_settings
from cerebro_nb.backends.ollama import ollama_options
from cerebro_nb.client.schemas import json_schema
from cerebro_nb.concurrency.loop import LOOP
from cerebro_nb.generating.angles import plan_angles
from cerebro_nb.recipes.fields import answer_model
from cerebro_nb.recipes.library import as_recipe
from cerebro_nb.recipes.prompting import shots_of, step_messages

HERE = Path(__file__).parent
PAYLOAD = {"model": "tiny", "messages": [{"role": "user", "content": "One short answer."}], "stream": True}


def raw(send: Callable[[Any], Any], items: int, at_once: int) -> tuple[float, float]:
    """Send requests by a bare client; return wall and CPU seconds."""

    async def all_of_them() -> tuple[float, float]:
        async with send("open") as client:  # type: ignore[attr-defined]
            left = iter(range(items))

            async def worker() -> None:
                for _ in left:
                    await send(client)

            await send(client)
            wall, cpu = time.perf_counter(), time.process_time()
            await asyncio.gather(*(worker() for _ in range(at_once)))
            return time.perf_counter() - wall, time.process_time() - cpu

    return asyncio.run(all_of_them())


def by_httpx(url: str, transport: Any = None) -> Callable[[Any], Any]:
    """Return the sender of bare httpx, or of httpx over another transport."""

    def send(client: Any) -> Any:
        if client == "open":
            limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
            return httpx.AsyncClient(transport=transport() if transport else None, limits=limits, timeout=60)
        return client.post(f"{url}/api/chat", json=PAYLOAD)

    return send


def by_aiohttp(url: str) -> Callable[[Any], Any]:
    """Return the sender of bare aiohttp."""

    async def post(client: Any) -> bytes:
        async with client.post(f"{url}/api/chat", json=PAYLOAD) as response:
            return bytes(await response.read())

    def send(client: Any) -> Any:
        if client == "open":
            return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        return post(client)

    return send


def by_ollama(url: str) -> Callable[[Any], Any]:
    """Return the sender of the official client."""
    import ollama

    @contextmanager
    def nothing() -> Iterator[Any]:
        yield ollama.AsyncClient(host=url)

    class Opened:
        async def __aenter__(self) -> Any:
            return ollama.AsyncClient(host=url)

        async def __aexit__(self, *_: Any) -> None:
            return None

    async def chat(client: Any) -> None:
        async for _ in await client.chat(model="tiny", messages=PAYLOAD["messages"], stream=True):
            pass

    return lambda client: Opened() if client == "open" else chat(client)


def clients_of_a_stream(url: str) -> dict[str, Callable[[Any], Any]]:
    """Return senders that ask for a pair as Cerebro asks, with its schema, and read the lines of the stream."""
    qa = as_recipe("qa")
    schema, values = json_schema(answer_model("qa", qa.fields)), {"subject": "copywriting", **plan_angles(1, 1)[0]}
    assert qa.one_call is not None
    asked = step_messages(qa, qa.one_call, [*qa.fields], values, "en", shots_of(qa, qa.one_call, "en"))
    messages = [{"role": message.role, "content": message.content} for message in asked]
    options = ollama_options(load_settings({}).options(is_training=True))
    body = {"model": "tiny", "messages": messages, "format": schema, "options": options, "stream": True}

    async def over_aiohttp(client: Any) -> None:
        async with client.post(f"{url}/api/chat", json=body) as response:
            async for line in response.content:
                json.loads(line)

    async def over_httpx(client: Any) -> None:
        async with client.stream("POST", f"{url}/api/chat", json=body) as response:
            async for line in response.aiter_lines():
                json.loads(line)

    async def over_ollama(client: Any) -> None:
        async for _ in await client.chat(model="tiny", messages=messages, format=schema, options=options, stream=True):
            pass

    limits = httpx.Limits(max_connections=0)
    opened = {
        "bare aiohttp": (by_aiohttp(url), over_aiohttp),
        "httpx over aiohttp": (by_httpx(url, lambda: AiohttpTransport(limits=limits)), over_httpx),
        "ollama client": (by_ollama(url), over_ollama),
    }

    def sender(opener: Callable[[Any], Any], send: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda client: opener("open") if client == "open" else send(client)

    return {name: sender(*way) for name, way in opened.items()}


def pairs(url: str, items: int) -> float:
    """Generate Q&A pairs; return CPU seconds."""
    with new_ledger() as ledger:
        client = Client(OllamaBackend(url), "tiny")
        LOOP.run(client.aprepare(load_settings({}).options(is_training=True)))
        cpu = time.process_time()
        run = generate_qa(
            "copywriting", items, profile=window(64), client=client, seed=1, ledger=ledger, show_progress=False
        )
        spent = time.process_time() - cpu
        LOOP.run(client.aclose())
        assert run.progress.ok == items
        return spent


# --- the parts


def slot_use() -> dict[str, float]:
    """1: how much of 64 slots is used, the ledger on: ideal / wall, of the middle half too, and by bare aiohttp."""
    found = {}
    for seconds, items in ((0.05, 5_000), (0.2, 2_560)):
        ideal = items * seconds / 64
        rounds = []
        with server(64, seconds) as served:
            for _ in range(ROUNDS):
                ended: list[float] = []
                bare = raw(by_aiohttp(served.url), items, 64)[0]
                wall = cerebro(served.url, items, window(64), ended)[0]
                rounds.append((ideal / wall, ideal / 2 / middle_half(ended), ideal / bare))
        for name, *shares in zip(("", ", middle half", ", bare aiohttp"), *rounds, strict=True):
            found[f"{seconds * 1000:.0f} ms{name}"] = statistics.median(shares)
    return found


def overhead() -> dict[str, float]:
    """2: CPU microseconds an item without latency, 64 in flight, the ledger on, beside bare clients."""
    items = 3_000
    with server(64) as served:
        senders = {
            "bare aiohttp": by_aiohttp(served.url),
            "httpx over aiohttp": by_httpx(
                served.url, lambda: AiohttpTransport(limits=httpx.Limits(max_connections=0))
            ),
            "bare httpx": by_httpx(served.url),
            "ollama client": by_ollama(served.url),
        }
        measures = {name: lambda send=send: raw(send, items, 64)[1] for name, send in senders.items()}
        measures["cerebro"] = lambda: cerebro(served.url, items, window(64))[1]
        # In turn, so that a change of the machine's pace meets all of them.
        rounds = [{name: measure() / items * 1e6 for name, measure in measures.items()} for _ in range(5)]
    found = {name: statistics.median(one[name] for one in rounds) for name in measures}
    for name in ("httpx over aiohttp", "bare httpx"):
        found[f"cerebro / {name}"] = statistics.median(one["cerebro"] / one[name] for one in rounds)
    return found


def main_job() -> dict[str, float]:
    """2b: CPU microseconds a Q&A pair, with its schema and in 40 pieces, beside clients that read the same stream."""
    items = 2_000
    with server(64) as served:
        measures: dict[str, Callable[[], float]] = {
            name: lambda send=send: raw(send, items, 64)[1]  # type: ignore[misc]
            for name, send in clients_of_a_stream(served.url).items()
        }
        measures["cerebro"] = lambda: pairs(served.url, items)
        rounds = [{name: measure() / items * 1e6 for name, measure in measures.items()} for _ in range(5)]
    found = {name: statistics.median(one[name] for one in rounds) for name in measures}
    for name in ("httpx over aiohttp", "bare aiohttp", "ollama client"):
        found[f"cerebro / {name}"] = statistics.median(one["cerebro"] / one[name] for one in rounds)
    return found


GROWTH = """
import sys, tempfile, time
from cerebro_nb import Ledger, load_settings, process_in_batches

async def echo(value):
    return value

count = int(sys.argv[1])
with tempfile.TemporaryDirectory() as folder:
    ledger = Ledger(f"sqlite:///{folder}/bench.db")
    profile = load_settings({}).profile("auto").replace(concurrency=64, adaptive=False)
    cpu = time.process_time()
    process_in_batches((n for n in range(count)), echo, profile, ledger=ledger, show_progress=False)
    spent = time.process_time() - cpu
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    print(spent / count * 1e6, peak)
    ledger.close()
"""


def the_note_s_claim() -> dict[str, Any]:
    """5: valid, distinct examples a second on a real model: ten in one call, one a call, and `auto`."""
    found = {}
    for backend in claim.backends():
        with new_ledger() as ledger:
            found[backend] = claim.measured(backend, ledger)
    return found


def growth(counts: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)) -> dict[str, Any]:
    """6: CPU microseconds an item and peak megabytes of runs over a generator."""
    found = {}
    for count in counts:
        words = [sys.executable, "-c", GROWTH, str(count)]
        cpu, peak = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
        found[f"{count:,} items"] = {"CPU microseconds an item": float(cpu), "peak MB": float(peak)}
    return found


def import_time() -> dict[str, float]:
    """7: seconds that `import cerebro_nb` takes beyond the interpreter's own start."""

    def start(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - began

    return {"seconds": median(lambda: start("import cerebro_nb"), 7) - median(lambda: start("pass"), 7)}


PARTS = {
    "slot use": slot_use,
    "overhead": overhead,
    "main job": main_job,
    "stragglers": adaptive.stragglers,
    "hidden slots": adaptive.hidden_slots,
    "short runs": adaptive.short_runs,
    "faults": adaptive.faults,
    "sharing": adaptive.sharing,
    "claim": the_note_s_claim,
    "growth": growth,
    "import": import_time,
    "pools": many.pools,
    "large server": many.large_server,
    "choosing": many.choosing,
}


def main() -> None:
    """Run the parts that are named, or all; write what they found into results.json, and draw it into the docs."""
    place = HERE / "results.json"
    results = json.loads(place.read_text()) if place.exists() else {}
    results["machine"] = f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores"
    for name in sys.argv[1:] or PARTS:
        print(f"{name}: {(PARTS[name].__doc__ or '').strip()}", flush=True)
        results[name] = PARTS[name]()
        print(json.dumps(results[name], indent=2), flush=True)
        place.write_text(json.dumps(results, indent=2) + "\n")
    picture.draw(results)


if __name__ == "__main__":
    main()
