"""The work of a run, made again in a process of its own from what its manifest or its job says."""

import dataclasses
import importlib
import json
import operator
import os
import subprocess
import sys

import pytest
from fakes import FakeOllama, FakeOpenAI
from pydantic import BaseModel

import cerebro_nb
from cerebro_nb import OllamaBackend, OpenAIBackend, errors, generate_qa, process_in_batches
from cerebro_nb.batching.work import WorkItem
from cerebro_nb.client.client import Client
from cerebro_nb.cluster.bench import Bench
from cerebro_nb.cluster.remaking import Order
from cerebro_nb.concurrency.loop import LOOP
from cerebro_nb.judging.trials import Contest, Scoring, trials_run
from cerebro_nb.sharing.jobs import made_from, name_of, named

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


TICKETS = '''
"""Functions of a user's own, and what they need."""

import subprocess
from subprocess import getoutput

def priority(value):
    return len(value)

class Desk:
    class Form:
        pass

    @classmethod
    def opened(cls, value):
        return cls.__name__

    @staticmethod
    def closed(value):
        return value

    def process(self, value):
        return value

class Helpdesk(Desk):
    pass

alias, desk = priority, Desk()
'''


@pytest.fixture
def tickets(tmp_path, monkeypatch):
    """Return a module of functions."""
    (tmp_path / "tickets.py").write_text(TICKETS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tickets", raising=False)
    return importlib.import_module("tickets")


@pytest.mark.parametrize("name", ["priority", "Desk", "Desk.Form", "Desk.opened", "Desk.closed"])
def test_what_a_module_defines_is_found_again_by_its_name(tickets, name):
    value = operator.attrgetter(name)(tickets)
    assert name_of(value) == f"tickets:{name}" and named(f"tickets:{name}", ["tickets"]) == value


@pytest.mark.parametrize("name", ["desk.process", "Helpdesk.opened"])
def test_what_its_name_does_not_find_is_refused(tickets, name):
    with pytest.raises(errors.InputError, match="cannot be found by its name"):
        name_of(operator.attrgetter(name)(tickets))


@pytest.mark.parametrize(
    "name",
    [
        "subprocess.getoutput",
        "getoutput",
        "subprocess",
        "alias",
        "desk",
        "Desk.__class__",
        "Desk.mro",
        "Helpdesk.process",
        "__loader__.exec_module",
        "__builtins__",
        "priority.__globals__",
        "",
    ],
)
def test_a_module_that_may_be_called_opens_no_other(tickets, name):
    with pytest.raises(errors.InputError):
        named(f"tickets:{name}", ["tickets"])


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
class TestAPostedOrder:
    @pytest.fixture
    def own(self, openai, monkeypatch):
        """The server that the settings of the worker name, and its key."""
        openai.key = "of-the-worker"
        for name, value in (
            ("API_KEY", openai.key),
            ("BACKEND", "openai"),
            ("BASE_URL", openai.url),
            ("MODEL", "tiny"),
        ):
            monkeypatch.setenv(f"CEREBRO_{name}", value)
        return openai

    @staticmethod
    def work(order, ledger, value):
        async def worked_on():
            record = {"cerebro": cerebro_nb.__version__, "order": order.as_text(), "given": {}}
            return await Bench(await made_from(record, ledger, ())).exchange([WorkItem(0, value)])

        return LOOP.run(worked_on())

    @pytest.mark.parametrize(
        "whom",
        [
            {"backend": "openai", "model": "tiny"},
            {"model": "tiny"},
            {"backend": "openai", "model": "tiny", "training": {"temperature": 0.5}},
        ],
    )
    def test_does_not_say_where_the_worker_s_key_goes(self, ledger, own, whom):
        order = Order.of_task(process_in_batches(["tea"], "Say {item}.", ledger=ledger, show_progress=False).task)
        own.requests.clear()
        with FakeOpenAI() as stranger:
            there = {"base_url": stranger.url}
            manifest = {**order.manifest, **there, "fallback": {**order.manifest["fallback"], **there}}
            posted = dataclasses.replace(order, manifest=manifest, whom={**whom, **there})
            exchange = self.work(posted, ledger, "tea")
            assert stranger.requests == [] and exchange.ended[0].error is None
        assert len(chats(own)) == 1

    @pytest.mark.parametrize("backend", ["openai", None])
    def test_has_a_judge_at_the_worker_s_own_address_too(self, ledger, own, backend):
        own.answer = lambda payload: '{"reason": "It is the word.", "correct": 5, "clear": 5, "score": 5}'
        contest = Contest("Repeat it.", [{"prompt": "Repeat {input}", "manner": "short"}], ["tea"], "t1")
        judge = Client(OpenAIBackend(own.url), "tiny")
        with judge:
            run = trials_run(contest, Scoring(judge=judge), ledger=ledger, show_progress=False).wait()
        (item,) = ledger.items(run.task_id)
        own.requests.clear()
        order = Order.of_task(run.task)
        with FakeOpenAI() as stranger:
            asked = {**order.manifest["judge"], "backend": backend, "base_url": stranger.url}
            posted = dataclasses.replace(order, manifest={**order.manifest, "judge": asked})
            exchange = self.work(posted, ledger, item["input"])
            assert stranger.requests == [] and exchange.ended[0].error is None
        assert len(chats(own)) == 2

    def test_is_refused_where_the_model_of_that_name_is_another(self, ledger, ollama, monkeypatch):
        monkeypatch.setenv("OLLAMA_HOST", ollama.url)
        ollama.models = ["another:latest", "tiny:latest"]
        more = {"ledger": ledger, "show_progress": False, "backend": "ollama", "model": "tiny"}
        order = Order.of_task(process_in_batches(["tea"], "Say {item}.", **more).task)
        begun = order.manifest["model_digest"]
        assert self.work(order, ledger, "tea").ended[0].error is None
        ollama.models.reverse()
        asked = len(chats(ollama))
        with pytest.raises(errors.InputError, match="is not the one that the run was begun with") as refused:
            self.work(order, ledger, "tea")
        assert begun in refused.value.message and f"{0:064x}" in refused.value.message and len(chats(ollama)) == asked
        unknown = dataclasses.replace(order, manifest={**order.manifest, "model_digest": None})
        assert self.work(unknown, ledger, "tea").ended[0].error is None

    def test_is_refused_where_the_judge_is_another(self, ledger, ollama, monkeypatch):
        monkeypatch.setenv("OLLAMA_HOST", ollama.url)
        ollama.answer = lambda payload: '{"reason": "It is the word.", "correct": 5, "clear": 5, "score": 5}'
        contest = Contest("Repeat it.", [{"prompt": "Repeat {input}", "manner": "short"}], ["tea"], "t1")
        more = {"ledger": ledger, "show_progress": False, "backend": "ollama", "model": "tiny"}
        with Client(OllamaBackend(ollama.url), "tiny") as judge:
            order = Order.of_task(trials_run(contest, Scoring(judge=judge), **more).wait().task)
        judge = {**order.manifest["judge"], "model_digest": "f" * 64}
        with pytest.raises(errors.InputError, match="f" * 64):
            self.work(dataclasses.replace(order, manifest={**order.manifest, "judge": judge}), ledger, "tea")


class Own:
    """An embedder of a user's own."""

    name = "my-embedder"

    async def embed(self, texts, purpose="passage"):
        import numpy

        return numpy.eye(384, dtype="float32")[[sum(map(ord, text)) % 384 for text in texts]]

    def count_tokens(self, text):
        return len(text.split())


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
def test_an_embedder_of_one_s_own_stays_in_its_process(ledger, ollama):
    with Client(OllamaBackend(ollama.url), "tiny") as client:
        more = {"client": client, "ledger": ledger, "show_progress": False, "one_call": True, "embedder": Own()}
        for on in ("workers", "ray"):
            with pytest.raises(errors.InputError, match="the embedder is an object of this process"):
                generate_qa("tea", 3, on=on, **more)
        assert ollama.requests == [] and ledger.tasks() == []
        ollama.answer = lambda payload: "no question"
        order = Order.of_task(generate_qa("tea", 1, **more).task)
    ((ended, failure),) = elsewhere((order, ["tea"], {}))
    assert not ended and failure.startswith("InputError") and "'my-embedder'" in failure
    assert not any("embed" in path for path, _, _ in ollama.requests)
