"""How far one process goes: over pools of servers, on a server of hundreds of slots, and what choosing one costs."""

import statistics
import time
from collections import deque

from common import ROUNDS, cerebro, middle_half, server, window

from cerebro_nb import ScriptedBackend, load_settings
from cerebro_nb.backends.pool import Endpoint, Turns


def pools() -> dict[str, dict[str, float]]:
    """8: `auto` over pools, all served by one process: which share of the slots is used once it knows them.

    Beside the fixed number that is right, in turn; 100 servers of 8 slots of 250 ms are 3,200 items a second, which is
    more than two cores serve and ask, so their requests take 2 s.
    """
    auto, found = load_settings({}).profile("auto"), {}
    for count, seconds in ((2, 0.25), (8, 0.25), (100, 2.0)):
        slots, rounds = 8 * count, []
        items = round(slots / seconds * 12)
        for _ in range(3):
            shares = []
            for profile in (auto, window(slots)):
                ended: list[float] = []
                with server(8, seconds, endpoints=count) as served:
                    cpu = cerebro(served.urls, items, profile, ended)[1] / items * 1e6
                shares.append(items / 2 * seconds / slots / middle_half(ended))
            rounds.append((*shares, served.most / 8, cpu))
        names = ("auto", "the right number", "most in flight / slots", "CPU microseconds an item")
        medians = (statistics.median(column) for column in zip(*rounds, strict=True))
        found[f"{count} servers of 8 slots of {seconds * 1000:.0f} ms"] = dict(zip(names, medians, strict=True))
    return found


def large_server() -> dict[str, float]:
    """8b: `auto` on one server of 256 slots of 1 s, beside 64 at once and 256 at once: throughput after warm-up."""
    rounds = []
    for _ in range(3):
        halves = []
        for profile in (load_settings({}).profile("auto"), window(64, adaptive=True), window(256)):
            ended: list[float] = []
            with server(256, 1.0) as served:
                cerebro(served.url, 256 * 10, profile, ended)
            halves.append((middle_half(ended), served.most))
        (auto, most), (narrow, _), (best, _) = halves
        rounds.append((best / auto, best / narrow, most / 256))
    names = ("auto / 256 at once", "at most 64 at once / 256 at once", "most in flight / slots")
    return dict(zip(names, (statistics.median(column) for column in zip(*rounds, strict=True)), strict=True))


def choosing() -> dict[str, dict[str, float]]:
    """8c: CPU microseconds to choose one of so many servers and to note it, and of all that a request notes there."""
    found = {}
    for count in (10, 100, 1_000):
        both = [(_choosing(count, 0), _choosing(count, 8 * count)) for _ in range(ROUNDS)]
        chosen, whole = (statistics.median(column) for column in zip(*both, strict=True))
        looked = statistics.median(_looking(count) for _ in range(ROUNDS))
        found[f"{count:,} servers"] = {"choosing": chosen, "a whole request": whole, "looking at each": looked}
    return found


def _endpoints(count: int) -> list[Endpoint]:
    return [Endpoint(ScriptedBackend(["yes"])) for _ in range(count)]


def _choosing(count: int, at_once: int, requests: int = 20_000) -> float:
    """Return the microseconds of a request; with so many at once the first of them ends then, with 0 none does."""
    turns, under_way = Turns(_endpoints(count)), deque[Endpoint]()
    began = time.process_time()
    for _ in range(requests):
        chosen = turns.next()
        chosen.in_flight += 1
        chosen.sent += 1
        turns.note(chosen)
        if at_once:
            under_way.append(chosen)
            if len(under_way) > at_once:
                ended = under_way.popleft()
                ended.in_flight -= 1
                turns.note(ended)
                turns.note(ended)  # what it bears may be another number
    return (time.process_time() - began) / requests * 1e6


def _looking(count: int, requests: int = 200) -> float:
    endpoints = _endpoints(count)
    began = time.process_time()
    for _ in range(requests):
        min(endpoints, key=lambda endpoint: endpoint.load).in_flight += 1
    return (time.process_time() - began) / requests * 1e6
