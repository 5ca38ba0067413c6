"""Measure what comes after a run by its size: the export, the report, near copies and the ledger itself.

`make size` measures 10,000 and 100,000 rows; `python bench/size.py 10_000 100_000 1_000_000` takes some 30 minutes
more. Each figure is of a process of its own; the questions are of templates, as a model's are, and resemble each other.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TEMPLATES = (
    "How can a {who} use {what} to {aim} without spending more than is needed?",
    "What is the most common mistake that a {who} makes with {what} when trying to {aim}?",
    "Why does {what} matter to a {who} who wants to {aim}?",
    "Which signs tell a {who} that {what} no longer helps to {aim}?",
    "When should a {who} stop relying on {what} to {aim}?",
    "What are the steps for a {who} to {aim} by means of {what}?",
    "Can {what} help a {who} to {aim}, and what does it depend on?",
    "What would you tell a {who} who thinks that {what} is too slow to {aim}?",
)
ANSWER = (
    "It depends on the {what}: a {who} begins with a small part of the work, looks at what came of it, and goes on "
    "from there. To {aim}, the {what} has to be checked each week, and what is not needed is left out."
)
SYLLABLES = "ba co di fu ga he ki lo mu na pe ri so tu va wi za bro cle dri fla gro pla ste tri".split()
AIMS = (
    "keep save reach teach sell plan write grow cut find move build clean cook paint mend sort count learn test".split()
)
KINDS = (
    "small large quiet busy young old new local rural careful patient hurried seasoned thrifty curious modern".split()
)


KIND = "sized"


def known() -> None:
    """Make the kind of the examples known: pairs that no gate looks at, for what a gate costs is the same for each."""
    from cerebro_nb.generating.synthetic import synthetic_run
    from cerebro_nb.launching.kind import Kind, register_kind

    async def never(again: Any) -> Any:
        raise NotImplementedError

    columns = ("question", "answer")
    label = {"en": "pairs"}
    register_kind(Kind(KIND, label, synthetic_run, never, task_kind=KIND, columns=columns, essential="question"))


def words(count: int, seed: int) -> list[str]:
    """Return as many words that no dictionary has."""
    dice = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(dice.choices(SYLLABLES, k=dice.choice((2, 3, 3, 4))))] = None
    return list(found)


def pairs(count: int, seed: int = 0) -> Iterator[dict[str, str]]:
    """Yield questions of templates with their answers; of a hundred, two are said again with a word more."""
    dice, things, people = random.Random(seed), words(2_000, 1), words(400, 2)
    last: dict[str, str] = {}
    for number in range(count):
        if number % 50 == 49:
            yield {**last, "question": last["question"].replace(" to ", " really to ", 1)}
            continue
        said = {
            "who": f"{dice.choice(KINDS)} {dice.choice(people)}",
            "what": dice.choice(things),
            "aim": f"{dice.choice(AIMS)} {dice.choice(things)}",
        }
        last = {"question": dice.choice(TEMPLATES).format(**said), "answer": ANSWER.format(**said)}
        yield last


def filled(url: str, count: int) -> str:
    """Fill a ledger with a task of so many answered items, and return its id."""
    from cerebro_nb import Ledger
    from cerebro_nb.tasks.writing import FinishedItem

    with Ledger(url) as ledger:
        manifest = {"kind": KIND, "language": "en", "model": "none", "backend": "none"}
        task_id = ledger.create_task(KIND, "work", count, manifest=manifest)
        made, first = pairs(count), 0
        while page := list(islice(made, 1_000)):
            items = [({"topic": f"topic {(first + place) % 40}"}, f"{first + place:064}") for place in range(len(page))]
            ledger.add_items(task_id, first, items)
            now = time.time()
            for place, (pair, item) in enumerate(zip(page, items, strict=True), first):
                done = ledger.finish_item(FinishedItem(task_id, place, item, "ok", pair, None, [], now, now))
            done.result()
            first += len(page)
        ledger.update_task(task_id, status="completed", finished_at=time.time())
    return task_id


def export(url: str, task_id: str, count: int) -> None:
    """Export with a split, without copies, through the gates."""
    from cerebro_nb import Ledger, export_dataset

    with Ledger(url) as ledger, tempfile.TemporaryDirectory() as folder:
        made = export_dataset(task_id, f"{folder}/set", test_share=0.1, embedder="none", ledger=ledger)
        print(json.dumps({"parts": made.parts, "dropped": made.dropped}), file=sys.stderr)


def report(url: str, task_id: str, count: int) -> None:
    """Report."""
    from cerebro_nb import Ledger, quality_report

    with Ledger(url) as ledger:
        print(json.dumps(quality_report(task_id, embedder="none", ledger=ledger).measures), file=sys.stderr)


def found_copies(count: int, embedder: str) -> None:
    """Find copies, and nothing else."""
    from cerebro_nb.rows.stored import StoredRows
    from cerebro_nb.texts.duplicates import find_duplicates

    texts = StoredRows(pair["question"] for pair in pairs(count))
    start = time.process_time()
    found = find_duplicates(texts, embedder)
    print(Counter(copy.kind for copy in found), time.process_time() - start, file=sys.stderr)


def copies(url: str, task_id: str, count: int) -> None:
    """Find near copies."""
    found_copies(count, "none")


def meaning(url: str, task_id: str, count: int) -> None:
    """Find near copies, and those in other words by WordLlama; the vectors are made, too."""
    found_copies(count, "wordllama")


PARTS = {"export": export, "report": report, "copies": copies, "meaning": meaning}


def measured(part: str, url: str, task_id: str, count: int) -> dict[str, float]:
    """Return CPU milliseconds a row and peak megabytes of a part, measured in a process of its own."""
    child = [sys.executable, __file__, "--part", part, url, task_id, str(count)]
    told = subprocess.run(child, capture_output=True, text=True, check=False)
    if told.returncode:
        sys.exit(told.stderr)
    print(part, count, told.stderr.strip()[-300:], file=sys.stderr)
    return dict(json.loads(told.stdout.splitlines()[-1]))


def main(counts: list[int]) -> None:
    """Measure all parts, and print a table."""
    print(f"{'part':<10}{'rows':>12}{'CPU ms a row':>16}{'peak MB':>10}")
    for count in counts:
        with tempfile.TemporaryDirectory(prefix="cerebro-size-") as folder:
            url = f"sqlite:///{folder}/size.db"
            task_id = filled(url, count)
            size = sum(file.stat().st_size for file in Path(folder).iterdir())
            print(f"{'ledger':<10}{count:>12,}{size / count:>16.0f} bytes an item", flush=True)
            for part in PARTS:
                found = measured(part, url, task_id, count)
                print(f"{part:<10}{count:>12,}{found['ms']:>16.3f}{found['mb']:>10.0f}", flush=True)


def the_part(name: str, url: str, task_id: str, count: int) -> None:
    """Do one part, and print what it took; what a start takes is not counted as the rows' CPU."""
    from cerebro_nb.datasets import exports  # noqa: F401
    from cerebro_nb.evaluating import report  # noqa: F401

    known()
    start = time.process_time()
    PARTS[name](url, task_id, count)
    spent = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"ms": 1e3 * spent / count, "mb": peak}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--part"]:
        the_part(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
    else:
        main([int(word.replace("_", "")) for word in sys.argv[1:]] or [10_000, 100_000])
