"""Answers that the ledger has are not paid for twice, and never taken for others."""

import json

import pytest
from fakes import FakeOllama
from pydantic import BaseModel, Field
from virtual import virtual_time

from cerebro_nb import Client, Fallback, OllamaBackend, errors, generate_qa, process_in_batches
from cerebro_nb.concurrency.loop import LOOP


class Word(BaseModel):
    word: str = Field(max_length=40)


class Saying(BaseModel):
    saying: str = Field(max_length=40, default="x")


def asked(server):
    return sum(path == "/api/chat" for path, *_ in server.requests)


@pytest.fixture
def run(ollama, ledger, quick):
    """Return a function that runs three prompts and tells the results and how many requests they took."""
    clients = []

    def make(items=("a", "b", "c"), prompt="say {item}", model="tiny", server=ollama, **options):
        client = Client(OllamaBackend(server.url), model)
        clients.append(client)
        before = asked(server)
        options = {"seed": 7, "reuse": True, **options}
        done = process_in_batches(items, prompt, quick, client=client, ledger=ledger, show_progress=False, **options)
        return done, asked(server) - before

    yield make
    for client in clients:
        LOOP.run(client.aclose())


def test_the_same_request_is_answered_from_the_ledger(run, ledger):
    first, paid = run(reuse=False)
    assert paid == 3
    again, paid = run(items=("c", "new", "a"))
    assert paid == 1 and again.results == ["echo say c", "echo say new", "echo say a"]
    assert [item["step"] for item in ledger.items(again.task_id)] == ["reuse", "call", "reuse"]
    third, paid = run()  # a taken answer can be taken again
    assert paid == 0 and third.results == first.results
    assert run(reuse=False)[1] == 3


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "tell {item}"},
        {"system_prompt": "be brief"},
        {"temperature": 0.2},
        {"max_tokens": 99},
        {"seed": 8},
        {"num_ctx": 1024},
        {"model": "embedder"},
    ],
    ids=str,
)
def test_anything_that_decides_the_answer_asks_anew(run, change):
    run()
    assert run(**change)[1] == 3


def test_another_model_under_the_same_name_and_another_schema_ask_anew(run, ollama):
    ollama.answer = lambda _: '{"word":"x","saying":"x"}'
    run(response_model=Word)
    assert run(response_model=Saying)[1] == 3
    Saying.__name__ = "Word"  # the same name, another shape
    assert run(response_model=Saying)[1] == 0
    ollama.models.insert(0, "pulled:latest")  # every digest of the fake changes with its place in the list
    assert run(response_model=Word)[1] == 3


def test_another_address_or_time_limit_is_the_same_request(run):
    run()
    with FakeOllama() as other:
        assert run(server=other, timeout=3.0, keep_alive="1m")[1] == 0


def test_a_failure_and_a_fallback_s_answer_are_never_reused(run, ollama, quick, ledger):
    ollama.faults = [(400, {}, "no")]
    failed, _ = run(items=["a"])
    assert failed.progress.failed == 1
    assert run(items=["a"])[1] == 1
    with virtual_time(ledger, left_s=0) as loop:
        ollama.faults, ollama.when_stuck = ["hang"], lambda: loop.give(quick.timeout_s)
        late, _ = run(items=["b"], fallback=Fallback(shrink=0.5))
        LOOP.run(late.client.aclose())
    assert late.progress.ok == 1 and late.progress.retried == 1
    assert run(items=["b"])[1] == 1


def test_a_function_s_answers_cannot_be_reused(ledger, quick):
    with pytest.raises(errors.InputError, match="wants a prompt"):
        process_in_batches(["a"], str.upper, quick, ledger=ledger, show_progress=False, reuse=True)


def test_the_same_plan_of_examples_is_taken_from_the_ledger_and_stays_distinct(ollama, ledger, quick):
    numbers = iter(range(100))

    def pair(payload):
        n = next(numbers)
        answer = f"It is good for {n} things of many kinds in the house."
        return json.dumps({"question": f"What is tea number {n} good for?", "answer": answer})

    ollama.answer = pair
    client = Client(OllamaBackend(ollama.url), "tiny")
    options = {"client": client, "profile": quick, "ledger": ledger, "show_progress": False, "seed": 1}
    first = generate_qa("tea", 3, **options)
    paid = asked(ollama)
    again = generate_qa("tea", 5, reuse=True, **options)
    LOOP.run(client.aclose())
    assert asked(ollama) - paid == 2 and again.results[:3] == first.results
    assert again.df["question"].is_unique
