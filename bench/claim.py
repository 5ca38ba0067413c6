"""Whether one example a call is better than ten: on a real model, ten in one call, before, against one a call, after.

An example counts if it has the form of a pair, does not repeat itself, and is none that was counted before. Seconds are
of the wall; the embedded model answers, and the Ollama of this machine too if there is one.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from cerebro_nb import Client, Ledger, acall_llm, call_llm, generate_qa, get_client
from cerebro_nb.concurrency.loop import LOOP
from cerebro_nb.errors import CerebroError
from cerebro_nb.gates.spans import repeats_itself
from cerebro_nb.recipes.fields import answer_model
from cerebro_nb.recipes.library import as_recipe

SUBJECT = "copywriting"
WISH = (
    "Write ten different question and answer pairs about copywriting. Reply with a JSON list of ten objects, each with "
    '"question" and "answer", and nothing else.'
)


PAIR: Any = answer_model("qa", as_recipe("qa").fields)


class TenPairs(BaseModel):
    """Ten pairs in one answer."""

    pairs: list[PAIR] = Field(min_length=10, max_length=10)


def pairs_in(text: str) -> Iterator[Any]:
    """Yield what a free answer holds, read as leniently as the product reads."""
    import json_repair

    found = json_repair.loads(text)
    found = found.get("pairs", [found]) if isinstance(found, dict) else found
    yield from found if isinstance(found, list) else []


def counted(candidates: Iterable[Any], calls_for: int) -> dict[str, float]:
    """Return which share of the examples asked for is valid, and which share of these is distinct."""
    seen: set[str] = set()
    valid = 0
    for candidate in candidates:
        try:
            pair = PAIR.model_validate(candidate)
        except ValidationError:
            continue
        if repeats_itself(pair.answer):
            continue
        valid += 1
        seen.add(" ".join(pair.question.casefold().split()))
    return {"valid": valid / calls_for, "distinct": len(seen) / (valid or 1), "examples": len(seen)}


def before(backend: str, calls: int, schema: bool) -> dict[str, float]:
    """Ask for ten in one call: a context of 4,096 tokens, no limit to the answer but that."""
    began = time.perf_counter()
    candidates: list[Any] = []
    for seed in range(calls):
        try:
            reply = call_llm(
                WISH,
                "You write question and answer pairs. You reply with one compact JSON object and nothing else.",
                backend=backend,
                num_ctx=4096,
                max_tokens=3_900,
                timeout=900,
                seed=seed,
                response_model=TenPairs if schema else None,
            )
            candidates += [pair.model_dump() for pair in reply.parsed.pairs] if schema else pairs_in(reply.text)
        except CerebroError as error:
            print(f"  a call failed: {error.message}", flush=True)
    seconds = time.perf_counter() - began
    found = counted(candidates, 10 * calls)
    return {**found, "seconds": seconds, "a second": found["examples"] / seconds}


def after(client: Client, profile: str, items: int, ledger: Ledger) -> dict[str, float]:
    """Ask for one a call, as the profile has it."""
    LOOP.run(acall_llm("Say yes.", client=client, max_tokens=4, num_ctx=2048))  # loaded before the clock starts
    began = time.perf_counter()
    run = generate_qa(SUBJECT, items, profile=profile, client=client, seed=1, ledger=ledger, show_progress=False)
    seconds = time.perf_counter() - began
    answers = (output for output in run.results if output is not None)
    found = counted(json.loads(json.dumps(list(answers))), items)
    return {**found, "seconds": seconds, "a second": found["examples"] / seconds}


def measured(backend: str, ledger: Ledger) -> dict[str, Any]:
    """Compare the ways on one backend."""
    LOOP.run(acall_llm("Say yes.", backend=backend, max_tokens=4))
    one = get_client(backend=backend)
    found: dict[str, Any] = {
        "before, ten in a call": before(backend, 3, schema=False),
        "before, ten in a call with a schema": before(backend, 3, schema=True),
        "after, profile synthetic": after(one, "synthetic", 18, ledger),
        "after, profile auto": after(one, "auto", 60, ledger),
    }
    auto = found["after, profile auto"]["a second"]
    if backend == "embedded":
        cores = get_client(backend=backend, embedded={"processes": os.cpu_count() or 1})
        found["after, profile auto, an engine a core"] = after(cores, "auto", 60, ledger)
        auto = max(auto, found["after, profile auto, an engine a core"]["a second"])
    for name in ("before, ten in a call", "before, ten in a call with a schema"):
        # Where nothing came of it, one example more than nothing is counted: the ratio is then at least that.
        least = 1 / found[name]["seconds"]
        found[f"auto / {name}"] = auto / max(found[name]["a second"], least)
    return found


def backends() -> list[str]:
    """Return whom to measure: the embedded model, and Ollama where one answers with a model."""
    try:
        has_models = LOOP.run(get_client(backend="ollama").amodels())
    except CerebroError:
        has_models = []
    return ["embedded", *(["ollama"] if has_models else [])]
