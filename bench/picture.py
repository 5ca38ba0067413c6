"""Show what was measured beside what it should be: as bars and as a table, in docs/."""

import json
from html import escape
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SHORT = {
    ("30 items", "new server"): 0.6,
    ("30 items", "seen before"): 0.85,
    ("200 items", "new server"): 0.8,
    ("200 items", "seen before"): 0.95,
}
WIDTH, LEFT, ROW, BAR = 860, 400, 26, 300


def figures(results: dict[str, Any]) -> list[tuple[str, float, float, bool]]:
    """Return what is drawn: what it is, the figure, what it should be, and whether more is better."""
    rows: list[tuple[str, float, float, bool]] = []
    for what, share in results.get("slot use", {}).items():
        rows.append((f"64 slots in use, {what}", share, 0.85 if what.startswith("50 ms") else 0.97, True))
    if found := results.get("overhead"):
        rows.append(("CPU an item / httpx over aiohttp", found["cerebro / httpx over aiohttp"], 1.25, False))
        rows.append(("CPU an item / bare httpx", found["cerebro / bare httpx"], 0.2, False))
    if found := results.get("main job"):
        rows.append(
            ("CPU a Q&A pair in 40 pieces / httpx over aiohttp", found["cerebro / httpx over aiohttp"], 1.25, False)
        )
    if found := results.get("stragglers"):
        rows.append(("unequal items: auto / batches of 8", found["auto / batches of 8"], 1.5, True))
    for slots, told in results.get("hidden slots", {}).items():
        rows.append((f"auto, {slots}, after warm-up", told["after warm-up"], 0.95, True))
        rows.append((f"auto, {slots}, warm-up counted", told["throughput"], 0.95, True))
    for items, told in results.get("short runs", {}).items():
        for where, ratio in told.items():
            if (items, where) in SHORT:
                rows.append((f"auto, {items}, {where}", ratio, SHORT[items, where], True))
    for share, told in results.get("faults", {}).items():
        rows.append((f"auto, {share}: its time / 32 at once", told["auto / 32 at once"], 1.3, False))
    if found := results.get("sharing"):
        rows.append(("two runs on one server, of the ideal", found["of the ideal"], 0.8, True))
        rows.append(("two runs on one server, most in flight / slots", found["most in flight / slots"], 4, False))
    for backend, told in results.get("claim", {}).items():
        rows.append(
            (
                f"{backend}: auto / ten in a call with a schema",
                told["auto / before, ten in a call with a schema"],
                3,
                True,
            )
        )
        rows.append((f"{backend}: auto / ten in a call", told["auto / before, ten in a call"], 20, True))
    if found := results.get("import"):
        rows.append(("import cerebro_nb, seconds", found["seconds"], 0.2, False))
    return rows


def draw(results: dict[str, Any]) -> None:
    """Write the pictures and the page."""
    draw_aims(results)
    if "embedded" in results.get("claim", {}):
        draw_speed(results)
    (HERE.parent / "docs" / "benchmarks.md").write_text(table(results), encoding="utf-8")


def draw_aims(results: dict[str, Any]) -> None:
    """Write the picture of all figures: a bar reaches its mark at the value that was aimed for."""
    rows = figures(results)
    height = 60 + ROW * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        '<text x="12" y="24" font-size="15" font-weight="bold">'
        f"Measured beside its aim: {escape(results['machine'])}</text>",
        '<text x="12" y="42" fill="#555">the line is the aim; green reaches it, orange does not</text>',
    ]
    for number, (what, value, aim, more) in enumerate(rows):
        top = 54 + ROW * number
        length = min(1.5, value / aim) * BAR / 1.5
        colour = "#2e7d32" if (value >= aim) == more or value == aim else "#e65100"
        mark, wish = LEFT + BAR / 1.5, "at least" if more else "at most"
        parts += [
            f'<text x="{LEFT - 10}" y="{top + 15}" text-anchor="end">{escape(what)}</text>',
            f'<rect x="{LEFT}" y="{top + 3}" width="{length:.1f}" height="16" fill="{colour}"/>',
            f'<line x1="{mark}" y1="{top}" x2="{mark}" y2="{top + 22}" stroke="#000"/>',
            f'<text x="{LEFT + BAR + 10}" y="{top + 15}">{value:.3g} ({wish} {aim:g})</text>',
        ]
    (HERE.parent / "docs" / "benchmarks.svg").write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")


def draw_speed(results: dict[str, Any]) -> None:
    """Write the picture of how many good examples a second there are, by the way in which they are asked for."""
    ways = [(way, found) for way, found in results["claim"]["embedded"].items() if isinstance(found, dict)]
    best, height = max(found["a second"] for _, found in ways), 60 + 2 * ROW * len(ways)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="14">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        '<text x="12" y="26" font-size="15" font-weight="bold">Good examples a second, embedded model, '
        f"{escape(results['machine'])}</text>",
    ]
    for number, (way, found) in enumerate(ways):
        top, length = 50 + 2 * ROW * number, found["a second"] / best * BAR
        colour = "#2e7d32" if way.startswith("after") else "#9e9e9e"
        name = way.replace("before, ", "").replace("after, ", "one a call, ")
        parts += [
            f'<text x="{LEFT - 10}" y="{top + 21}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{LEFT}" y="{top}" width="{max(1.0, length):.1f}" height="32" fill="{colour}"/>',
            f'<text x="{LEFT + length + 10:.1f}" y="{top + 21}">{found["a second"]:.2f}</text>',
        ]
    (HERE.parent / "docs" / "speed.svg").write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")


ABOUT = """# What was measured

Made by `make bench`, which measures on your machine and writes this page. Each figure is a ratio within one run, or a
median of rounds; `bench/results.json` has all of them, `bench/run.py` says how each is measured. Where the aim is
missed, the page shows it.

Earlier pages looked better than a user's day is, for three reasons, and each has its part now. They sent a plain prompt
and got two lines back; the main job is a Q&A pair with its schema, in forty pieces that come one by one ("main job").
Their runs were so long that the time in which `auto` finds its number did not show; runs of 6, 30 and 200 items are
what users have ("short runs", on a server never seen and on one that the ledger knows). And nothing ever failed; now
some requests are refused or cut off ("faults"), and two runs share a server ("sharing").

![Each figure as a bar beside its aim](benchmarks.svg)
"""


def table(results: dict[str, Any]) -> str:
    """Return the page of the documentation."""
    lines = [ABOUT, f"Measured on {results['machine']}.", "", "| what | measured | aim |", "| --- | --- | --- |"]
    for what, value, aim, more in figures(results):
        lines.append(f"| {what} | {value:.3g} | {'at least' if more else 'at most'} {aim:g} |")
    for backend, told in results.get("claim", {}).items():
        lines += ["", f"One example a call, on the model `{backend}`:", ""]
        lines += ["| way | valid | distinct of these | examples a second |", "| --- | --- | --- | --- |"]
        ways = {way: found for way, found in told.items() if isinstance(found, dict)}
        lines += [
            f"| {way} | {found['valid']:.0%} | {found['distinct']:.0%} | {found['a second']:.2f} |"
            for way, found in ways.items()
        ]
    if grown := results.get("growth"):
        lines += ["", "A run over a generator of trivial items, the ledger on:", ""]
        lines += ["| items | CPU microseconds an item | peak MB |", "| --- | --- | --- |"]
        for items, found in grown.items():
            lines.append(f"| {items} | {found['CPU microseconds an item']:.0f} | {found['peak MB']:.0f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    draw(json.loads((HERE / "results.json").read_text()))
