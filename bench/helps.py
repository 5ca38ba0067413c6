"""Measure whether training on the rows that Cerebro makes helps: SmolLM2-135M before and after, on held-out questions.

    make helps MODEL=/models/qwen2.5-1.5b.gguf PYTHON=/venvs/train/bin/python
    python bench/helps.py rows --model /models/qwen2.5-1.5b.gguf --pairs 400     # the rows alone, into bench/helps
    python bench/helps.py rows --model NAME --base-url http://127.0.0.1:8000/v1 --concurrency 32     # by a server
    python bench/helps_train.py bench/helps --model SmolLM2-135M-Instruct.gguf   # the rest, where a GPU is

The document is a manual of a machine that never was (bench/examples/kelp_press.md), so what the trained model knows of
it, it has from the rows. Two things are held out: whole sections (`test.jsonl`), of which the training says nothing,
and further questions on the sections that it does teach (`asked.jsonl`), none of them nearly one that was trained on.
Of the second a model can learn the answers; of the first only how such questions are answered. Training wants torch,
transformers and gguf in an environment of its own, which `--python` names; `helps_train.py` imports nothing of this
package: it goes to another machine with folder and model.
"""

import argparse
import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FOLDER = HERE / "helps"
DOCUMENT = HERE / "examples" / "kelp_press.md"
SUBJECT = "the Ostrand 40 kelp press"


def generated(words: argparse.Namespace) -> Any:
    """Have a model make pairs of the sections, and return the run; what an earlier call made is taken."""
    from cerebro_nb import Ledger, generate_qa, load_settings

    whom = {"backend": "openai", "base_url": words.base_url, "model": words.model}
    if words.base_url is None:
        os.environ["CEREBRO_EMBEDDED__MODEL_PATH"] = os.environ["CEREBRO_EMBEDDED__MODEL"] = words.model
        whom = {"backend": "embedded"}
    words.folder.mkdir(parents=True, exist_ok=True)
    settings = load_settings()
    profile = settings.profile("synthetic").replace(
        delay_s=0, concurrency=words.concurrency, batch_size=10 * words.concurrency, timeout_s=900
    )
    return generate_qa(
        words.subject,
        words.pairs,
        from_documents=words.document,
        chunk_tokens=words.chunk_tokens,
        language="en",
        **whom,
        seed=words.seed,
        profile=profile,
        timeout=900,
        reuse=True,
        ledger=Ledger(f"sqlite:///{words.folder.resolve()}/helps.db"),
    )


def without_sections(rows: Sequence[Mapping[str, Any]], share: float, seed: int) -> tuple[list[Any], list[Any]]:
    """Return the rows on some sections, and those on the others; of the latter, none that asks nearly the same is kept.

    The split of an export joins whatever is alike by a third, which on one machine is soon everything.
    """
    from cerebro_nb.texts.duplicates import NearTexts

    sections = sorted({row["metadata"]["section"] for row in rows})
    random.Random(seed).shuffle(sections)
    held, test = set[str](), list[Mapping[str, Any]]()
    while len(test) < share * len(rows):
        held.add(sections.pop())
        test = [row for row in rows if row["metadata"]["section"] in held]
    near = NearTexts(row["question"] for row in test)
    others = [row for row in rows if row["metadata"]["section"] not in held]
    return [row for row in others if near.near(row["question"]) is None], test


def divided(rows: Sequence[Mapping[str, Any]], asked_share: float, seed: int) -> tuple[list[Any], list[Any]]:
    """Return the rows to train on, and others on the same sections that are not nearly any of them."""
    from cerebro_nb.datasets.splitting import places_for_testing

    bare = [{name: value for name, value in row.items() if name != "metadata"} for row in rows]
    asked = places_for_testing(bare, asked_share, seed)
    return [row for n, row in enumerate(rows) if n not in asked], [rows[n] for n in sorted(asked)]


def write(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write examples as chats, one a line."""
    from cerebro_nb.datasets.shapes import shaped

    lines = [json.dumps(row, ensure_ascii=False) for row in shaped(rows, "openai")]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def make_rows(words: argparse.Namespace) -> None:
    """Make the pairs, and write those to train on and both kinds of held-out ones."""
    from cerebro_nb import export_dataset, read_rows

    run = generated(words)
    made = export_dataset(run, words.folder / "dataset", overwrite=True)
    print(f"{run.progress.ok} pairs of {words.pairs}; {sum(made.dropped.values())} left out: {dict(made.dropped)}")
    taught, test = without_sections(read_rows(made.path), words.sections_share, words.seed)
    train, asked = divided(taught, words.asked_share, words.seed)
    parts = {"train": train, "asked": asked, "test": test}
    for name, rows in parts.items():
        # The question stands alone: beside its text it would be answered by reading.
        bare = [{**row, "metadata": {}} for row in rows]
        random.Random(words.seed).shuffle(bare)
        write(bare, words.folder / f"{name}.jsonl")
    print(", ".join(f"{len(rows)} {name}" for name, rows in parts.items()), f"in {words.folder}")


def train(words: argparse.Namespace, further: Sequence[str]) -> int:
    """Train and measure in the other environment, and return the exit status."""
    from cerebro_nb.backends.pulling import packaged_model_path

    learner = words.learner or packaged_model_path()
    script = [str(words.python), str(HERE / "helps_train.py"), str(words.folder), "--model", str(learner), *further]
    return subprocess.run(script, check=False).returncode


def main() -> int:
    """Make rows, train on them and measure; or one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("all", "rows", "train"), nargs="?", default="all")
    parser.add_argument("--model", help="a .gguf file of the model that makes the rows, or a server's name of it")
    parser.add_argument("--base-url", help="a server of the OpenAI protocol that has the model")
    parser.add_argument("--concurrency", type=int, default=1, help="requests at once, for a server")
    parser.add_argument("--learner", type=Path, help="what is trained; the SmolLM2 of `cerebro pull smollm2`")
    parser.add_argument("--python", type=Path, default=sys.executable, help="a Python with torch, transformers, gguf")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where rows and results are written")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="a Markdown file with sections")
    parser.add_argument("--subject", default=SUBJECT, help="what it is about")
    parser.add_argument("--pairs", type=int, default=400, help="pairs to make")
    parser.add_argument("--chunk-tokens", type=int, default=200, help="tokens of the text that a pair is made from")
    parser.add_argument("--sections-share", type=float, default=0.15, help="share of the pairs on unseen sections")
    parser.add_argument("--asked-share", type=float, default=0.2, help="share of the others that are only asked")
    parser.add_argument("--seed", type=int, default=16)
    words, further = parser.parse_known_args()
    if words.what != "train":
        if words.model is None:
            parser.error("--model names the .gguf file that makes the rows")
        make_rows(words)
    return train(words, further) if words.what != "rows" else 0


if __name__ == "__main__":
    sys.exit(main())
