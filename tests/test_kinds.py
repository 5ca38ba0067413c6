"""One contract for every kind of work: what it is, its work made again, reused, shown and exported."""

import asyncio
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import threading
from typing import Literal

import pytest
from fakes import FakeOllama, written
from processes import run_forked
from pydantic import BaseModel, Field

import cerebro_nb
from cerebro_nb import (
    Client,
    Document,
    How,
    Kind,
    Ledger,
    OllamaBackend,
    Plan,
    Run,
    Where,
    errors,
    examples,
    export_dataset,
    generate,
    generate_qa,
    load_settings,
    process_in_batches,
    register_kind,
    rerun,
    resume,
    retry_failed,
    search_prompts,
    synthetic_run,
)
from cerebro_nb.batching.work import next_seed
from cerebro_nb.client.call import answer
from cerebro_nb.concurrency.loop import LOOP
from cerebro_nb.datasets.shapes import shaped
from cerebro_nb.evaluating.preferences import AnswerPair
from cerebro_nb.forms.fields import offered
from cerebro_nb.forms.options import FIELDS, fields_of
from cerebro_nb.forms.reading import as_code
from cerebro_nb.judging.trials import Contest, Scoring
from cerebro_nb.launching import kind as registry
from cerebro_nb.launching.batches import batch_run
from cerebro_nb.launching.kind import asked_and_answered, kind_named, kinds
from cerebro_nb.launching.launch import RunArguments, launch, whole_signature
from cerebro_nb.panels.form import RunForm, told_form
from cerebro_nb.recipes.recipe import Recipe

LEAFLET = Document("\n\n".join(f"Tea number {n} wants patience: wait {n} minutes." for n in range(40)), "tea.txt")


@pytest.fixture
def ledger_url(tmp_path):
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def server():
    with FakeOllama(written) as fake:
        fake.models.append("judge")
        yield fake


@pytest.fixture
def client(server):
    made = Client(OllamaBackend(server.url), "tiny")
    yield made
    LOOP.run(made.aclose())


def asked(server):
    """Return all that the server was asked, one text a request, in an order that does not depend on time."""
    chats = [payload for path, payload, _ in server.requests if path == "/api/chat"]
    return sorted(json.dumps([chat["model"], chat["messages"], chat["options"].get("seed")]) for chat in chats)


async def shout(item):
    return item.upper()


# How a run of each kind is made: positional and named arguments; `task` is the id of a task of Q&A pairs.
ARGUMENTS = {
    "qa": lambda task: (("tea", 5), {"seed": 1}),
    "failure_cases": lambda task: (("tea", 5), {"seed": 1}),
    "success_patterns": lambda task: (("tea", 5), {"seed": 1}),
    "preference_pairs": lambda task: (("tea", 5), {"seed": 1}),
    "reasoning": lambda task: (("tea", 5), {"seed": 1, "think": False}),
    "tool_calls": lambda task: (("tea", 5), {"seed": 1}),
    "topics": lambda task: (("tea", 5), {"seed": 1, "topics": ["water", "leaves", "cups", "trade", "growing"]}),
    "conversation": lambda task: (("tea", 5), {"seed": 1}),
    "instruction": lambda task: (("tea", 5), {"seed": 1}),
    "classification": lambda task: (("tea", 5), {"seed": 1}),
    "summary": lambda task: (("", 5), {"seed": 1, "from_documents": [LEAFLET], "chunk_tokens": 40}),
    "rewriting": lambda task: (("", 5), {"seed": 1, "from_documents": [LEAFLET], "chunk_tokens": 40}),
    "research": lambda task: ((["How hot?", "How long?", "Who?", "Why?", "When?"],), {"seed": 1}),
    "judge": lambda task: ((task,), {"seed": 1, "calibrate": False}),
    "calibration": lambda task: (("en",), {}),
    "prompt": lambda task: ((["a", "b", "c", "d", "e"], "Say {item}."), {"seed": 1}),
    "function": lambda task: ((["a", "b", "c", "d", "e"], shout), {}),
    "prompt_variants": lambda task: (("Name the fruit.", 5), {"seed": 1}),
    "prompt_trials": lambda task: (
        (
            Contest("Name it.", [{"prompt": "Name {input}", "manner": "x"}], ["a", "b", "c", "d", "e"], task),
            Scoring(calibrate=False),
        ),
        {"seed": 1, "language": "en"},
    ),
    "held_out": lambda task: (
        ([{"prompt": f"How hot, {n}?", "completion": f"So: {n}."} for n in "abcde"],),
        {"seed": 1},
    ),
    "preferences": lambda task: (
        ([AnswerPair(f"How hot, {n}?", "", f"So: {n}.", "Hot.") for n in "abcde"],),
        {"seed": 1, "language": "en"},
    ),
    "vectors": lambda task: (([LEAFLET],), {"chunk_tokens": 40, "embedder": "embedder"}),
    "imported": lambda task: (([{"prompt": f"How hot, {n}?", "completion": f"So: {n}."} for n in "abcde"],), {}),
}


def made(name, task, **given):
    """Return a run of a kind, not started."""
    kind = kind_named(name)
    positional, named = ARGUMENTS[name](task)
    if "client" not in kind.takes and not kind.asks_a_model:
        given.pop("client", None)
    return kind.make(*positional, **named, **given)


NAMES = sorted(kinds())


def test_every_kind_is_held_to_the_contract():
    assert set(NAMES) == set(ARGUMENTS)


@pytest.mark.parametrize("name", NAMES)
def test_a_kind_says_what_it_is(name):
    kind = kind_named(name)
    assert kind.name == name and {"en", "pt-BR"} <= set(kind.label)
    assert kind.profile in load_settings({}).profiles
    assert not kind.function or getattr(cerebro_nb, kind.function)
    assert not kind.essential or kind.essential in kind.columns
    takes = set(whole_signature(getattr(kind.make, "func", kind.make)).parameters)
    assert set(kind.needs) <= set(kind.fields) <= set(FIELDS) and set(kind.fields.values()) <= takes
    if kind.fields:
        assert kind.function and kind.needs and kind in offered()


@pytest.mark.parametrize("name", ["", "poems", "cerebro_nb"])
def test_a_kind_that_is_not_there_is_refused_with_those_that_are(name):
    with pytest.raises(errors.InputError) as refused:
        kind_named(name)
    assert all(known in refused.value.hint for known in NAMES)


def killed_after_two(name: str, task: str, url: str, server: str) -> None:
    """Work on a task in this process, and kill it when two items are done."""
    client = Client(OllamaBackend(server), "tiny")
    one_by_one = load_settings({}).profile("synthetic").replace(delay_s=0, batch_size=1, concurrency=1)
    run = made(name, task, client=client, profile=one_by_one, ledger=Ledger(url), show_progress=False)
    run.on_progress(lambda now: now.event == "item" and now.processed == 2 and os.kill(os.getpid(), signal.SIGKILL))
    run.wait()


@pytest.fixture
def task(client, ledger, quick):
    """Return the id of a task with five Q&A pairs."""
    return generate_qa("tea", 5, seed=3, client=client, profile=quick, ledger=ledger, show_progress=False).task_id


@pytest.mark.costly
@pytest.mark.parametrize("name", [name for name in NAMES if name != "function"])
def test_a_killed_run_is_gone_on_with_by_another_process_as_if_nothing_had_been(
    name, server, client, ledger, quick, task, tmp_path
):
    given = {"client": client, "profile": quick, "ledger": ledger, "show_progress": False}
    collection = {"collection": "whole"} if name == "vectors" else {}
    server.requests.clear()
    whole = made(name, task, **given, **collection).wait()
    assert whole.progress.ok >= 5 and whole.progress.failed == 0
    expected = asked(server)

    server.requests.clear()
    told = tmp_path / "told.txt"
    ended = run_forked(killed_after_two, name, task, ledger.database.url, server.url, told=told)
    assert ended == -signal.SIGKILL, told.read_text()
    (cut_off,) = ledger.unfinished()
    kind = kind_named(name)
    whom = {"client": client} if kind.asks_a_model or "client" in kind.takes else {}
    profile = None if name == "vectors" else quick
    again = resume(cut_off.id, **whom, profile=profile, ledger=ledger, show_progress=False)
    assert again.task.status == "completed" and again.progress.failed == 0
    assert set(asked(server)) == set(expected)
    outputs = [item["output"] for item in ledger.items(again.task_id)]
    assert outputs == [item["output"] for item in ledger.items(whole.task_id)]


def test_a_function_is_given_again(ledger, quick):
    given = {"profile": quick.replace(max_attempts=1), "ledger": ledger, "show_progress": False}

    def fragile(item):
        if item == "c":
            raise ValueError("not this one")
        return item.upper()

    run = kind_named("function").make(["a", "b", "c"], fragile, **given).wait()
    with pytest.raises(errors.InputError, match="Give it again"):
        retry_failed(run.task_id, ledger=ledger, show_progress=False)
    assert ledger.task(run.task_id).failed_items == 1  # nothing was touched
    assert retry_failed(run.task_id, processor=str.upper, ledger=ledger, show_progress=False).results == ["A", "B", "C"]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("function", "vectors", "imported")])
def test_what_was_answered_before_is_not_asked_again(name, server, client, ledger, quick, task):
    given = {"client": client, "profile": quick, "ledger": ledger, "show_progress": False}
    first = made(name, task, **given).wait()
    server.requests.clear()
    wished = {} if name == "calibration" else {"reuse": True}  # a calibration never asks again
    second = made(name, task, **given, **wished).wait()
    assert second.progress.failed == 0 and asked(server) == []
    assert second.results == first.results


@pytest.mark.parametrize("name", NAMES)
def test_what_it_made_is_exported_and_trained_on_where_it_is_a_talk(name, client, ledger, quick, task, tmp_path):
    run = made(name, task, client=client, profile=quick, ledger=ledger, show_progress=False).wait()
    rows = list(examples(run))
    parts = getattr(kind_named(name).response_model, "model_fields", {})
    optional = {part for part, field in parts.items() if not field.is_required()}
    assert len(rows) == run.progress.ok >= 5 and {*kind_named(name).columns} - optional <= {*rows[0]}
    assert export_dataset(run, tmp_path / "records").parts["train"] >= 1
    if kind_named(name).conversation(rows[0]) is not None:
        chats = list(shaped(rows, "openai"))
        last = [chat["messages"][-1] for chat in chats]
        assert all(message["content"].strip() or message["tool_calls"] for message in last)


def test_a_trial_is_judged_again_by_who_judged_it(server, client, ledger, quick):
    judge = Client(OllamaBackend(server.url), "judge")
    broken = lambda payload: (500, {}, "no") if "judge" in payload["model"] else None  # noqa: E731
    server.refuse = broken
    once = quick.replace(max_attempts=1)
    search = search_prompts(
        "Name it.", ["a", "b"], 1, judge=judge, client=client, profile=once, ledger=ledger, show_progress=False
    )
    assert search.trials.progress.failed == 4
    server.refuse = lambda payload: None
    server.requests.clear()
    again = retry_failed(search.trials.task_id, client=client, ledger=ledger, show_progress=False)
    models = [payload["model"] for path, payload, _ in server.requests if path == "/api/chat"]
    assert again.progress.ok == 4 and models.count("judge") == 4 and models.count("tiny") == 4
    LOOP.run(judge.aclose())


def test_a_recipe_may_have_fields_that_are_no_text(server, client, ledger, quick):
    tickets = Recipe(
        name="tickets",
        fields={
            "text": {"type": "text", "min": 20},
            "tags": {"type": "list", "min": 2, "max": 2},
            "urgent": {"type": "boolean"},
            "hours": {"type": "integer", "min": 1},
        },
        steps=[{"prompt": "Write a ticket about {subject}."}],
    )
    run = generate(tickets, "a bank", 3, client=client, profile=quick, ledger=ledger, show_progress=False)
    assert run.progress.ok == 3 and all(len(result["tags"]) == 2 for result in run.results)


# --- a run is made without reading or asking, and opened once it is started


@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_made_without_reading_asking_or_opening_anything(name, server, tmp_path, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", server.url)
    whom = {"base_url": server.url, "model": "tiny"} if kind_named(name).asks_a_model else {}
    run = made(name, "a1b2c3d4e5f6", show_progress=False, **whom)
    assert not run.ended and run.failure is None and run.task_id == ""
    assert run.progress.status == "in_progress" and run.progress.processed == 0
    assert "not started" in repr(run) and run.on_disk() == []
    assert server.requests == [] and list(tmp_path.iterdir()) == []


def test_what_it_reads_and_asks_it_does_when_it_is_waited_for(server, tmp_path):
    run = made("prompt", "", show_progress=False, base_url=server.url, model="tiny")
    assert run.client is None and run.wait().progress.ok == 5
    assert run.client is not None and len(asked(server)) == 5 and (tmp_path / "data").is_dir()
    LOOP.run(run.client.aclose())


# How a run of each kind that reads documents is made of one.
OF_DOCUMENTS = {
    "qa": lambda document: (("tea", 5), {"from_documents": document}),
    "summary": lambda document: (("", 5), {"from_documents": document}),
    "rewriting": lambda document: (("", 5), {"from_documents": document}),
    "research": lambda document: ((["How hot?"],), {"documents": document}),
    "vectors": lambda document: ((document,), {"embedder": "embedder"}),
}


def test_every_kind_that_reads_documents_is_held_to_it():
    assert {name for name in NAMES if "documents" in kind_named(name).fields} | {"vectors"} == set(OF_DOCUMENTS)


@pytest.mark.parametrize("name", OF_DOCUMENTS)
def test_a_document_that_is_not_there_is_missed_when_the_run_is_waited_for(name, client, ledger, quick, tmp_path):
    positional, named = OF_DOCUMENTS[name](tmp_path / "missing.txt")
    given = {"client": client, "profile": quick, "ledger": ledger, "show_progress": False}
    run = kind_named(name).make(*positional, **named, **given)
    assert not run.ended and run.failure is None
    with pytest.raises(errors.InputError, match=r"missing\.txt"):
        run.wait()
    assert run.progress.status == "failed" and ledger.tasks() == []


class LongOpening:
    """Opens a plan when it is let, and tells that it has begun."""

    def __init__(self):
        self.begun, self.given_up = threading.Event(), threading.Event()
        self._let = asyncio.Event()

    async def open(self, means):
        self.begun.set()
        try:
            await self._let.wait()
        except asyncio.CancelledError:
            self.given_up.set()
            raise
        return Plan(["a", "b", "c"], manifest={"opened": True})

    def let(self):
        LOOP.loop.call_soon_threadsafe(self._let.set)


@pytest.mark.parametrize("is_awaited", [False, True])
def test_a_run_is_watched_and_cancelled_while_it_opens(is_awaited, haiku, server, client, ledger):
    opening, heard = LongOpening(), []
    arguments = {"client": client, "ledger": ledger, "show_progress": False, "on_progress": heard.append}
    run = launch(HAIKU, Plan(subject="rain", open=opening.open, total=9), arguments).start()
    assert opening.begun.wait(60)
    now = run.progress
    assert (now.status, now.total, now.processed, now.elapsed_s) == ("in_progress", 9, 0, 0) and not run.ended
    assert run.task_id == "" and "opened" not in run.manifest and run.client is client
    run.cancel()

    async def joined():
        return await run

    assert (asyncio.run(joined()) if is_awaited else run.wait()) is run
    assert opening.given_up.is_set() and run.ended and run.failure is None
    assert run.progress.status == "cancelled" and run.task_id == ""
    assert ledger.tasks() == [] and heard == [] and asked(server) == []


def test_a_run_that_is_paused_while_it_opens_begins_no_item_until_it_may(haiku, client, ledger, quick):
    opening, paused = LongOpening(), threading.Event()
    arguments = {"client": client, "ledger": ledger, "show_progress": False, "profile": quick}
    run = launch(HAIKU, Plan(open=opening.open), arguments)
    run.on_progress(lambda now: now.event == "batch_started" and paused.set()).start()
    assert opening.begun.wait(60)
    run.pause()
    assert run.progress.status == "in_progress"  # there is nothing to pause yet
    opening.let()
    assert paused.wait(60)
    assert run.progress.status == "paused" and run.progress.total == 3 and ledger.task(run.task_id).processed_items == 0
    run.resume()
    assert run.wait().progress.ok == 3 and run.manifest["opened"]


def test_a_run_is_cancelled_while_it_opens_or_before_it_starts(ledger, quick):
    begun = threading.Event()

    async def opened(means):
        begun.set()
        await asyncio.Event().wait()

    opening, waiting = (Run(Plan(open=one), How(quick), Where(ledger, show_progress=False)) for one in (opened, opened))
    opening.start()
    assert begun.wait(60)
    opening.cancel()
    waiting.cancel()
    for run in (opening, waiting):
        assert run.wait().progress.status == "cancelled" and run.task_id == ""
    assert ledger.tasks() == []


def refusing_the_second(payload):
    return (500, {}, "no") if "Say b." in payload["messages"][-1]["content"] else None


def test_a_retry_that_cannot_begin_leaves_the_task_as_it_was(server, client, ledger, quick):
    server.refuse = refusing_the_second
    once = quick.replace(max_attempts=1)
    run = process_in_batches(list("abc"), "Say {item}.", once, client=client, ledger=ledger, show_progress=False)
    before = run.task, ledger.items(run.task_id)
    gone = Client(OllamaBackend(server.url), "tiny")
    LOOP.run(gone.aclose())
    with pytest.raises(errors.CerebroError):
        retry_failed(run.task_id, client=gone, ledger=ledger, show_progress=False)
    assert (run.task, ledger.items(run.task_id)) == before
    with pytest.raises(errors.InputError, match="no failed items at those"):
        retry_failed(run.task_id, [0], client=client, ledger=ledger, show_progress=False)
    assert (run.task.status, run.task.failed_items, run.task.lease_holder) == ("completed", 1, None)


def test_a_retry_of_a_task_that_is_worked_on_is_refused_and_harms_nothing(ledger, quick):
    failed, go_on = threading.Event(), asyncio.Event()

    async def work(item):
        if item == 0:
            raise ValueError("not this one")
        await go_on.wait()
        return item

    once = quick.replace(max_attempts=1, batch_size=1)
    run = batch_run([0, 1, 2], work, once, ledger=ledger, show_progress=False)
    run.on_progress(lambda now: now.failed and failed.set()).start()
    assert failed.wait(60)
    with pytest.raises(errors.TaskHeld):
        retry_failed(run.task_id, processor=work, ledger=ledger, show_progress=False)
    LOOP.loop.call_soon_threadsafe(go_on.set)
    assert run.wait().results == [None, 1, 2] and run.task.status == "completed"


def test_a_blocking_verb_on_the_loop_itself_is_refused(ledger, quick):
    given = {"profile": quick.replace(max_attempts=1), "ledger": ledger, "show_progress": False}

    async def inner(item):
        return process_in_batches([item], shout, **given).results

    async def waiting(item):
        return batch_run([item], shout, **given).wait().results

    for work in (inner, waiting):
        run = process_in_batches(["a"], work, **given)
        assert "loop" in run.errors[0]["message"] and "await" in run.errors[0]["hint"]


def test_an_argument_that_is_none_is_as_if_it_had_not_been_given(client, ledger, quick):
    none = dict.fromkeys(("show_progress", "reuse", "timeout", "chunk_tokens", "unanswerable", "language", "seed"))
    run = synthetic_run("qa", "tea", 2, profile=quick, client=client, ledger=ledger, **none)
    assert run.options.timeout_s == quick.timeout_s and run.wait().progress.ok == 2


def test_a_package_whose_kind_cannot_be_loaded_leaves_the_others(tmp_path):
    broken = tmp_path / "broken-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_text("[cerebro_nb.kinds]\npoems = no_such_module:POEMS\n")
    script = (
        "import sys; sys.path.append(sys.argv[1])\nfrom cerebro_nb.launching.kind import kinds; print(sorted(kinds()))"
    )
    told = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert "qa" in told.stdout and "poems" in told.stderr and "no_such_module" in told.stderr


# --- a kind of one's own is one object


class Haiku(BaseModel):
    lines: list[str] = Field(min_length=3, max_length=3)
    mood: Literal["calm", "wild"]


def haiku_run(subject: str, n: int = 3, **arguments) -> cerebro_nb.Run:
    async def opened(means):
        client, options = means.asked
        items = [{"subject": subject, "number": number} for number in range(n)]
        return Plan(items, haiku_work(client, options), manifest={"about": subject})

    return launch(HAIKU, Plan(subject=subject, open=opened, total=n), RunArguments(**arguments))


def haiku_work(client, options):
    async def work(item):
        if item.reuses:
            return item.reusable
        wish = f"Haiku {item.value['number']} on {item.value['subject']}"
        seeded = next_seed(options, item.attempt - 1)
        return (await answer(client, wish, options=seeded, response_model=Haiku)).parsed

    return work


async def haiku_again(again):
    return haiku_work(*again.asked)


HAIKU = Kind(
    "haiku",
    {"en": "haiku", "pt-BR": "haicais"},
    make=haiku_run,
    again=haiku_again,
    task_kind="haiku",
    n=3,
    fields={"subject": "subject", "n": "n"},
    needs=("subject",),
    function="haiku_run",
    response_model=Haiku,
    essential="lines",
    conversation=lambda example: asked_and_answered(f"A {example['mood']} haiku, please.", "\n".join(example["lines"])),
)


@pytest.fixture
def haiku():
    yield register_kind(HAIKU)
    del registry._kinds["haiku"]


def test_a_kind_of_ones_own_has_all_the_machinery(haiku, server, client, ledger, quick, tmp_path):
    given = {"client": client, "profile": quick, "ledger": ledger, "show_progress": False}
    server.refuse = lambda payload: (500, {}, "no") if "Haiku 1" in payload["messages"][-1]["content"] else None
    run = haiku_run("rain", 4, seed=1, **{**given, "profile": quick.replace(max_attempts=1)}).wait()
    assert run.progress.ok == 3 and run.progress.failed == 1 and list(run.df["mood"].dropna()) == ["calm"] * 3
    server.refuse = lambda payload: None
    assert retry_failed(run.task_id, client=client, ledger=ledger, show_progress=False).progress.ok == 4
    server.requests.clear()
    assert haiku_run("rain", 4, seed=1, reuse=True, **given).wait().results == run.results and asked(server) == []
    assert rerun(run, client=client, show_progress=False).results == run.results
    (first, *_) = shaped(examples(run), "openai")
    assert (
        first["messages"][0]["content"] == "A calm haiku, please." and first["messages"][1]["content"].count("\n") == 2
    )
    assert export_dataset(run, tmp_path / "haiku", shape="sharegpt").parts["train"] >= 1


PORTUGUESE = {"CEREBRO_LOG_LANGUAGE": "pt-BR"}


def test_a_kind_of_ones_own_stands_in_the_panel(haiku):
    form = RunForm(load_settings(PORTUGUESE))
    assert ("haicais", "haiku") in {
        (kind["label"], kind["name"]) for kind in told_form(load_settings(PORTUGUESE))["kinds"]
    }
    form.fill(kind="haiku")
    assert form.values["n"] == "3" and "documents" not in fields_of(kind_named("haiku"))
    with pytest.raises(errors.InputError, match="Assunto"):
        form.arguments()
    form.fill(subject="chuva")
    code = as_code(form.arguments(), load_settings({}))
    assert "haiku_run(" in code and "'chuva'" in code


def test_a_task_whose_kind_nobody_knows_says_so(haiku, client, ledger, quick):
    run = haiku_run("rain", 1, client=client, profile=quick, ledger=ledger, show_progress=False).wait()
    del registry._kinds["haiku"]
    with pytest.raises(errors.InputError, match="nobody knows"):
        rerun(run.task_id, ledger=ledger, show_progress=False)
    register_kind(HAIKU)


@pytest.mark.parametrize("name", sorted({kind.function for kind in kinds().values() if kind.function}))
def test_help_shows_every_parameter_with_its_type_and_a_word_on_it(name):
    for function in (getattr(cerebro_nb, name), getattr(cerebro_nb, f"a{name}")):
        signature, text = inspect.signature(function), inspect.getdoc(function)
        assert not any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())
        described = {name for names in re.findall(r"^([a-z_, ]+)$", text, re.MULTILINE) for name in names.split(", ")}
        for parameter in signature.parameters.values():
            assert parameter.annotation is not parameter.empty and parameter.name in described, parameter.name
