"""The work of a run, made again in a process of its own from what its manifest or its job says."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest
from fakes import FakeOllama
from pydantic import BaseModel

from cerebro_nb import OllamaBackend, generate_qa, process_in_batches
from cerebro_nb.client.client import Client
from cerebro_nb.cluster.remaking import Order

WORKER = """
import importlib, json, sys
from cerebro_nb.batching.work import WorkItem
from cerebro_nb.cluster.bench import Bench
from cerebro_nb.cluster.remaking import Order, job_again
from cerebro_nb.concurrency.loop import LOOP

async def worked_on(order, values, given):
    named = {name: getattr(importlib.import_module(module), of) for name, (module, of) in given.items()}
    bench, ended = Bench(await job_again(Order.from_text(order), given=named)), {}
    exchange = await bench.exchange([WorkItem(position, value) for position, value in enumerate(values)])
    while exchange.ended:
        ended |= {item.position: item.rows.row for item in exchange.ended}
        exchange = await bench.exchange([])
    return [[ended[position]["status"], ended[position]["output"]] for position in sorted(ended)], exchange.failure

for order in json.load(sys.stdin):
    try:
        ended, failure = LOOP.run(worked_on(*order))
    except Exception as error:
        ended, failure = [], error
    print(json.dumps([ended, failure and f"{type(failure).__name__}: {failure}"]))
"""


def elsewhere(*orders, **environment):
    """Work in a process of its own on values, given what no manifest holds; return how they ended, and why no more."""
    child = subprocess.run(
        [sys.executable, "-c", WORKER],
        input=json.dumps([(order.as_text(), values, given) for order, values, given in orders]),
        env={**os.environ, "PYTHONPATH": os.path.dirname(__file__), **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert child.returncode == 0, child.stderr
    lines = [json.loads(line) for line in child.stdout.splitlines()]
    return [([(status, json.loads(output or "null")) for status, output in ended], why) for ended, why in lines]


def asking(order, base_url):
    return dataclasses.replace(order, whom={**order.whom, "base_url": base_url})


class Word(BaseModel):
    word: str


def chats(server):
    return [payload for path, payload, _ in server.requests if "chat" in path]


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
class TestAnotherProcess:
    def test_asks_what_the_run_would_ask(self, ledger, ollama):
        numbers = iter(range(1000))

        def pair(payload):
            if "format" not in payload:
                return "tea"
            number = next(numbers)
            question = f"How many cups of tea number {number} does a guest in house {number * 7} drink?"
            answer = f"A guest of house {number * 7} drinks {number + 2} cups of the green tea each day."
            return json.dumps({"question": question, "answer": answer})

        ollama.answer = pair
        with Client(OllamaBackend(ollama.url), "tiny") as client:
            more = {"client": client, "ledger": ledger, "seed": 7, "show_progress": False}
            prompt = process_in_batches(["tea", "rice"], "Say {item}.", system_prompt="Be brief.", **more).task
            recipe = generate_qa("tea", 3, embedder="none", one_call=True, **more).task
        asked = chats(ollama)
        ollama.requests.clear()
        planned = [item["input"] for item in ledger.items(recipe.id)]
        words, pairs = elsewhere((Order.of_task(prompt), ["tea", "rice"], {}), (Order.of_task(recipe), planned, {}))
        assert words == ([("ok", "tea")] * 2, None)
        assert [status for status, _ in pairs[0]] == ["ok"] * 3
        assert sorted(chats(ollama), key=str) == sorted(asked, key=str)

    def test_is_given_again_what_no_manifest_holds(self, ledger, ollama):
        ollama.answer = lambda payload: '{"word": "tea"}'
        with Client(OllamaBackend(ollama.url), "tiny") as client:
            more = {"client": client, "ledger": ledger, "show_progress": False}
            form = process_in_batches(["tea"], "Say {item}.", response_model=Word, **more).task
        function = Order.of_task(process_in_batches(["tea"], len, ledger=ledger, show_progress=False).task)
        objects, lengths, without = elsewhere(
            (Order.of_task(form), ["tea"], {"response_model": (__name__, "Word")}),
            (function, ["tea", "rice"], {"processor": ("builtins", "len")}),
            (function, ["tea"], {}),
        )
        assert objects == ([("ok", {"word": "tea"})], None) and lengths == ([("ok", 3), ("ok", 4)], None)
        assert not without[0] and without[1].startswith("InputError")

    def test_has_its_own_key_and_no_other(self, ledger, openai, monkeypatch):
        openai.key = "of-here"
        monkeypatch.setenv("CEREBRO_API_KEY", "of-here")
        more = {"backend": "openai", "base_url": openai.url, "model": "tiny", "ledger": ledger}
        order = Order.of_task(process_in_batches(["tea"], "Say {item}.", show_progress=False, **more).task)
        assert "of-here" not in order.as_text()
        openai.key = "of-there"
        ((ended, failure),) = elsewhere((order, ["tea"], {}), CEREBRO_API_KEY="of-there")
        assert ended[0][0] == "ok" and failure is None
        ((ended, failure),) = elsewhere((order, ["tea"], {}))
        assert not ended and failure.startswith("AuthenticationFailed")

    def test_finds_an_address_that_nobody_named_and_says_that_a_model_is_missing(self, ledger, ollama):
        with Client(OllamaBackend(ollama.url), "tiny") as client:
            task = process_in_batches(["tea"], "Say {item}.", client=client, ledger=ledger, show_progress=False).task
        order = Order.of_task(task)
        with FakeOllama(lambda payload: "of another machine") as other, FakeOllama() as third:
            third.models = ["another:latest"]
            orders = [(each, ["tea"], {}) for each in (order, asking(order, None), asking(order, third.url))]
            named, found, missing = elsewhere(*orders, OLLAMA_HOST=other.url)
        assert named[0][0][1] != "of another machine" and found == ([("ok", "of another machine")], None)
        assert not missing[0] and missing[1].startswith("ModelNotFound")
