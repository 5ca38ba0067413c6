"""How near `auto` comes to the best fixed number, which nobody knows beforehand."""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from common import ROUNDS, cerebro, median, middle_half, new_ledger, server, window

AUTO = window(64, adaptive=True)


def stragglers() -> dict[str, float]:
    """3: items of 200 +- 150 ms on 8 slots: `auto` beside fixed batches of 8, as a ratio of throughput."""
    items = 800
    with server(8, 0.2, 0.15) as served:
        fixed = window(8).replace(batch_size=8, delay_s=0.0)
        batches = median(lambda: cerebro(served.url, items, fixed)[0])
        auto = median(lambda: cerebro(served.url, items, AUTO)[0])
    return {"auto / batches of 8": batches / auto}


def hidden_slots() -> dict[str, Any]:
    """4: `auto` on servers that queue silently: throughput / that of the true number, and most in flight / slots.

    Once of the whole run, and once after warm-up: of its items without the first and the last quarter.
    """
    found: dict[str, Any] = {}
    for slots in (1, 2, 4, 8, 32):
        items = 150 * slots if slots < 8 else 100 * slots
        best_ended: list[float] = []
        auto_ended: list[float] = []
        with server(slots, 0.05) as served:
            best = cerebro(served.url, items, window(slots), best_ended)[0]
        with server(slots, 0.05) as served:
            auto = cerebro(served.url, items, AUTO, auto_ended)[0]
        found[f"{slots} slots"] = {
            "after warm-up": middle_half(best_ended) / middle_half(auto_ended),
            "throughput": best / auto,
            "most in flight": served.most / slots,
        }
    ended: list[float] = []
    with server(4, 0.05, change="800:16") as served:
        auto = cerebro(served.url, 4_000, AUTO, ended)[0]
    found["4 slots, 16 from the 800th request on"] = {
        "after warm-up": 1_600 * 0.05 / 16 / (ended[3_200] - ended[1_600]),
        "throughput": (800 * 0.05 / 4 + 3_200 * 0.05 / 16) / auto,
        "most in flight": served.most / 16,
    }
    return found


def short_runs() -> dict[str, dict[str, float]]:
    """4b: 6, 30 and 200 items of 200 +- 150 ms on 8 slots: throughput of `auto` / that of the true number.

    Once with a ledger that has never seen the server, and once with one that has.
    """
    found = {}
    for items in (6, 30, 200):
        rounds = []
        for _ in range(ROUNDS):
            with server(8, 0.2, 0.15) as served, new_ledger() as seen:
                cerebro(served.url, 200, AUTO, ledger=seen)
                best = cerebro(served.url, items, window(8))[0]
                new = cerebro(served.url, items, AUTO)[0]
                again = cerebro(served.url, items, AUTO, ledger=seen)[0]
            rounds.append((best / new, best / again))
        named = zip(("new server", "seen before"), zip(*rounds, strict=True), strict=True)
        found[f"{items} items"] = {name: statistics.median(ratios) for name, ratios in named}
    return found


def faults() -> dict[str, dict[str, float]]:
    """4c: 1,000 items on 32 slots of 20 ms, of which some are refused (429, 503) or cut off: seconds, all answered."""
    found = {}
    for share in (0.02, 0.2):
        rounds = []
        for number in range(ROUNDS):
            walls = []
            for profile in (window(32), AUTO):
                with server(32, 0.02, faults=share, seed=number) as served:
                    walls.append(cerebro(served.url, 1_000, profile)[0])
            rounds.append((*walls, walls[1] / walls[0]))
        fixed, auto, ratio = (statistics.median(column) for column in zip(*rounds, strict=True))
        found[f"{share:.0%} refused"] = {"32 at once": fixed, "auto": auto, "auto / 32 at once": ratio}
    return found


def sharing() -> dict[str, float]:
    """4d: two runs of 400 items at once on 8 slots of 50 ms, each `auto` with a ledger of its own."""
    rounds = []
    for _ in range(ROUNDS):
        with server(8, 0.05) as served, ThreadPoolExecutor(2) as threads:
            began = time.perf_counter()
            walls = [wall for wall, _ in threads.map(lambda url: cerebro(url, 400, AUTO), [served.url] * 2)]
            seconds = time.perf_counter() - began
        rounds.append((800 * 0.05 / 8 / seconds, min(walls) / max(walls), served.most / 8))
    names = ("of the ideal", "the quicker's time / the slower's", "most in flight / slots")
    return {name: statistics.median(values) for name, values in zip(names, zip(*rounds, strict=True), strict=True)}
