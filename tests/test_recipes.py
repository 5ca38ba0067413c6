"""Recipes: read from files, worked on like every kind, held to the gates, as many accepted as were wanted."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from fakes import FakeOllama, prose
from hypothesis import given
from hypothesis import strategies as st

from cerebro_nb import (
    Client,
    Ledger,
    OllamaBackend,
    Recipe,
    ScriptedBackend,
    errors,
    examples,
    export_dataset,
    generate,
    generate_qa,
    load_settings,
    read_recipe,
    rerun,
    resume,
    retry_failed,
)
from cerebro_nb.batching.plans import How, Plan, Where
from cerebro_nb.batching.run import Run
from cerebro_nb.forms.reading import as_code
from cerebro_nb.gates.distinct import UsedUp
from cerebro_nb.launching.kind import kind_of
from cerebro_nb.panels.form import RunForm
from cerebro_nb.recipes.library import as_recipe, library, starter_text
from cerebro_nb.recipes.prompting import in_one_language
from cerebro_nb.recipes.recipe import definition_of
from cerebro_nb.recipes.wordings import filled

TEN_LINES = """
name = "tickets"
plan.axes.tone = ["angry", "polite"]
[fields]
text = { min = 20, about = "what the customer writes" }
label = { type = "choice", of = ["bug", "billing", "how-to"] }
[[steps]]
prompt = "Write a support ticket about {subject}; the customer is {tone}."
[chat]
turns = [["user", "{text}"], ["assistant", "{label}"]]
"""


@pytest.fixture
def tickets(tmp_path):
    place = tmp_path / "tickets.toml"
    place.write_text(TEN_LINES, encoding="utf-8")
    return place


@pytest.fixture
def options(quick, ledger):
    return {"profile": quick, "ledger": ledger, "show_progress": False}


def ticket(number):
    return {"text": prose(f"ticket {number}", 40), "label": "bug"}


def answering(*texts):
    """Return a client whose model says these texts, then the last one for ever."""
    left = list(texts)
    return Client(ScriptedBackend(lambda request: left.pop(0) if len(left) > 1 else left[0]), "tiny")


def numbered(payload, count=[0]):  # noqa: B006 - it counts
    count[0] += 1
    return json.dumps(ticket(count[0]))


# --- the file


WRONG = {
    "a broken line": ("[fields", "is no TOML"),
    "no field": ('name = "x"\n[[steps]]\nprompt = "Write."', "fields: Field required"),
    "a wrong type": (TEN_LINES.replace('type = "choice"', 'type = "chioce"'), "line 6: fields.label"),
    "a range": (TEN_LINES.replace("min = 20", "min = -1"), "line 5: fields.text.min: it should be greater than"),
    "a place": (TEN_LINES.replace("{subject}", "{thing}"), "nobody fills {thing}"),
    "a name": (
        TEN_LINES.replace("[chat]", "[chatt]"),
        "line 9: chatt: there is no such name here; is it meant to be chat?",
    ),
    "a gate": (TEN_LINES + '[gates]\nleave_out = ["langage"]', "'langage'"),
    "its name": (TEN_LINES.replace('"tickets"', '"My tickets"'), "line 2: name"),
    "what is said": (TEN_LINES.replace('"{label}"', '"{lable}"'), "chat: {lable} is no field"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_file_is_told_with_its_line_and_name(tmp_path, case):
    text, expected = WRONG[case]
    place = tmp_path / "wrong.toml"
    place.write_text(text, encoding="utf-8")
    with pytest.raises(errors.InputError) as refused:
        read_recipe(place)
    assert expected in refused.value.message, refused.value.message


def test_a_file_that_is_none_is_refused(tmp_path):
    big, binary = tmp_path / "big.toml", tmp_path / "binary.toml"
    big.write_text("# " + "x" * 300_000)
    binary.write_bytes(b"\xff\xfe\x00name")
    for place in (big, binary, tmp_path, tmp_path / "nothing.toml"):
        with pytest.raises(errors.InputError, match="the recipe"):
            read_recipe(place)


@pytest.mark.parametrize("name", library())
def test_a_recipe_is_the_same_after_it_was_kept(name):
    recipe = as_recipe(name)
    assert Recipe.model_validate(json.loads(json.dumps(definition_of(recipe)))) == recipe
    for tag in ("en", "pt", "pt-PT", "es-MX", "fr", "de-AT", "it", "ja"):
        one = in_one_language(recipe, tag)
        assert Recipe.model_validate(json.loads(json.dumps(definition_of(one)))) == one


def test_a_recipe_to_begin_with_is_one(tmp_path):
    place = tmp_path / "mine.toml"
    place.write_text(starter_text("mine"), encoding="utf-8")
    assert read_recipe(place).name == "mine"


@given(st.text(), st.text())
def test_what_is_put_into_a_place_is_never_read_for_places(subject, topic):
    values = {"subject": subject, "topic": topic}
    assert filled("{subject}|{topic}", values) == f"{subject}|{topic}"


# --- ten lines have all the machinery


def test_ten_lines_are_generated_shown_and_exported_in_every_shape(tickets, options, tmp_path):
    client = answering(*(json.dumps(ticket(number)) for number in range(9)))
    run = generate(tickets, "a bank's app", 4, client=client, **options)
    assert run.progress.ok == 4 and {"text", "label", "tone"} <= set(run.df.columns)
    assert {row["metadata"]["tone"] for row in examples(run)} == {"angry", "polite"}
    assert run.task.kind == "tickets" and run.task.manifest["definition"]["name"] == "tickets"
    for shape in ("records", "openai", "sharegpt", "alpaca", "chatml", "prompt-completion"):
        made = export_dataset(run, tmp_path / shape, shape=shape, gates=False)
        assert made.parts == {"train": 4}
    first = json.loads((tmp_path / "openai" / "train.jsonl").read_text().splitlines()[0])
    assert [turn["role"] for turn in first["messages"]] == ["user", "assistant"]
    assert first["messages"][1]["content"] == "bug"


SOMEBODY = """
    import sys
    from cerebro_nb import Client, Ledger, OllamaBackend, generate, load_settings
    profile = load_settings({}).profile("synthetic").replace(delay_s=0, batch_size=2)
    generate(sys.argv[1], "a bank", 30, client=Client(OllamaBackend(sys.argv[2]), "tiny"), profile=profile,
             ledger=Ledger(sys.argv[3]), show_progress=False)
"""


def test_a_killed_run_of_a_file_is_gone_on_with_where_the_file_is_gone(tickets, tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with FakeOllama(numbered, seconds=0.05) as server:
        words = [sys.executable, "-c", textwrap.dedent(SOMEBODY), str(tickets), server.url, url]
        child = subprocess.Popen(words, env={**os.environ})
        try:
            while sum(path == "/api/chat" for path, *_ in list(server.requests)) < 8:
                assert child.poll() is None
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        tickets.unlink()
        with Ledger(url) as ledger, Client(OllamaBackend(server.url), "tiny") as client:
            (task,) = ledger.tasks()
            run = resume(task.id, client=client, ledger=ledger, show_progress=False)
            assert run.progress.ok == 30 and kind_of(run.task).columns == ("text", "label")
            again = rerun(task.id, client=client, ledger=ledger, show_progress=False)
            assert again.progress.ok == run.progress.total and again.task.kind == "tickets"


def test_several_steps_are_asked_one_after_the_other_and_each_as_it_wants(options):
    recipe = Recipe(
        name="riddles",
        fields={"riddle": {"type": "text"}, "answer": {"type": "text"}, "hints": {"type": "list"}},
        steps=[
            {"makes": ["riddle"], "prompt": "Write a riddle about {subject}.", "temperature": 1.2, "max_tokens": 77},
            {"makes": ["answer"], "prompt": "Solve it: {riddle}", "model": "larger"},
            {"makes": ["hints"], "prompt": "Give a hint on {answer} for: {riddle}", "samples": 3},
        ],
    )
    asked, said = [], ["What has keys and no locks?", "A piano.", "It is heavy.", "It has strings.", "It is heavy."]

    def write(request):
        asked.append((request.model, request.messages[-1].content, request.options.temperature, request.json_schema))
        return said[len(asked) - 1]

    with Client(ScriptedBackend(write), "tiny") as client:
        run = generate(recipe, "music", 1, client=client, **options)
    hints = ["It is heavy.", "It has strings."]
    assert run.results == [{"riddle": "What has keys and no locks?", "answer": "A piano.", "hints": hints}]
    assert [model for model, *_ in asked] == ["tiny", "larger", "tiny", "tiny", "tiny"]
    assert asked[1][1].startswith("Solve it: What has keys") and asked[0][2] == 1.2
    assert all(schema is None for *_, schema in asked)


def test_own_rows_are_shown_before_those_of_the_recipe(options):
    seen = []

    def write(request):
        seen.append([message.content for message in request.messages])
        return json.dumps({"question": "Why is tea bitter?", "answer": "Tannins make it so."})

    shots = [{"question": "Where does mate grow?", "answer": "In the south of Brazil."}]
    with Client(ScriptedBackend(write), "tiny") as client:
        run = generate_qa("tea", 1, client=client, shots=shots, one_call=True, **options)
    assert run.progress.ok == 1 and run.task.manifest["shots"] == shots
    assert json.loads(seen[0][2]) == shots[0] and "tomato" not in "".join(seen[0])


# --- gates at work


REFUSAL = {"question": "Why is tea bitter?", "answer": "As an AI language model, I cannot answer that."}
GOOD = {"question": "Why is tea bitter?", "answer": "Tannins make it so."}


def test_what_a_gate_refuses_is_asked_again_with_a_word_on_it(options, ledger):
    seen = []

    def write(request):
        seen.append(request.messages[-1].content)
        return json.dumps(REFUSAL if len(seen) == 1 else GOOD)

    with Client(ScriptedBackend(write), "tiny") as client:
        run = generate_qa("tea", 1, client=client, one_call=True, **options)
    assert run.progress.ok == 1 and run.progress.refused == {"refusal": 1}
    assert "without apologies" in seen[1] and "without apologies" not in seen[0]
    error = ledger.attempts(run.task_id, 0)[0]["error"]
    assert error["type"] == "ExampleRefused" and error["details"]["gates"] == ["refusal"]
    assert run.task.results["refused"] == {"refusal": 1}


def test_a_gate_may_be_left_out_by_the_run_or_by_the_recipe(options):
    with pytest.raises(errors.InputError, match="there is no gate 'manners'"):
        generate_qa("tea", 1, client=answering(json.dumps(REFUSAL)), without_gates=["manners"], **options)
    run = generate_qa("tea", 1, client=answering(json.dumps(REFUSAL)), without_gates=["refusal"], **options)
    assert run.progress.ok == 1 and run.task.manifest["without_gates"] == ["refusal"]
    own = as_recipe("qa").model_copy(update={"gates": Recipe.model_fields["gates"].annotation(leave_out=["refusal"])})
    assert generate(own, "tea", 1, client=answering(json.dumps(REFUSAL)), **options).progress.ok == 1


# --- as many accepted as were wanted


def pair(number):
    return json.dumps({"question": prose(f"question {number}", asks=True), "answer": prose(f"answer {number}", 40)})


def test_refused_items_are_replaced_from_the_plan_until_there_are_as_many_as_were_wanted(options, quick):
    bad = [json.dumps(REFUSAL)] * quick.max_attempts
    run = generate_qa("tea", 4, client=answering(pair(1), *bad, *map(pair, range(2, 9))), **options)
    assert (run.progress.ok, run.progress.failed, run.progress.total) == (4, 1, 5)
    assert run.progress.status == "completed" and run.task.total_items == 5 and run.task.manifest["wanted"] == 4
    inputs = [item["input"] for item in run.ledger.items(run.task_id)]
    assert len({json.dumps(item, sort_keys=True) for item in inputs}) == 5


def test_a_run_that_goes_on_replaces_what_was_refused_before(options, quick, ledger):
    bad = [json.dumps(REFUSAL)] * quick.max_attempts
    seen = []

    def write(request):
        seen.append(request)
        if len(seen) <= quick.max_attempts:
            return bad[0]
        if len(seen) == quick.max_attempts + 1:
            raise errors.AuthenticationFailed("the key is gone", hint="Give it.")
        return pair(len(seen))

    with Client(ScriptedBackend(write), "tiny") as client:
        with pytest.raises(errors.AuthenticationFailed):
            generate_qa("tea", 3, client=client, **options)
        (task,) = ledger.tasks()
        assert (task.ok_items, task.failed_items, task.total_items) == (0, 1, 3)
        run = resume(task.id, client=client, ledger=ledger, show_progress=False)
        assert (run.progress.ok, run.progress.failed, run.progress.total) == (3, 1, 4)
        assert resume(task.id, client=client, ledger=ledger, show_progress=False).progress.total == 4
        tried = retry_failed(task.id, client=client, ledger=ledger, show_progress=False)
        assert (tried.progress.ok, tried.progress.total) == (4, 4)


def test_what_fails_for_another_reason_is_not_replaced(options):
    def write(request):
        raise errors.ServerFailed("it is broken")

    with Client(ScriptedBackend(write), "tiny") as client:
        run = generate_qa("tea", 2, client=client, **options)
    assert (run.progress.failed, run.progress.total) == (2, 2)


def test_a_subject_that_gives_copies_only_is_said_to_be_used_up(options, caplog, quick):
    run = generate_qa("tea", 50, client=answering(pair(1), pair(2), pair(3)), **options)
    assert run.progress.ok == 3 and run.progress.processed == run.progress.total == 50
    assert "8 of the last 10 answers were copies: the subject is used up at 3 examples" in caplog.text
    # Seven items use up their tries; the first copy of the eighth ends it, and no further call is made.
    assert run.task.results["refused"] == {"copy": 7 * quick.max_attempts + 1}
    assert run.errors[49]["type"] == "UsedUp" and "topics or documents" in run.errors[49]["hint"]


class UsedUpElsewhere:
    """Work of which other processes say that the subject is used up; here nobody knows, and there is always more."""

    def __init__(self):
        self.given = 0

    async def __call__(self, item):
        raise UsedUp("it gives copies only") if item.position else errors.DuplicateOutput("it was there")

    def more(self, refused, first):
        self.given += 1
        assert self.given < 5, "what is used up is replaced for ever"
        return ["again"] * len(refused)


def test_what_is_used_up_is_not_replaced_whoever_says_so(quick, ledger):
    work = UsedUpElsewhere()
    run = Run(Plan(["a", "b", "c"], work), How(quick), Where(ledger, show_progress=False)).wait()
    assert (run.progress.failed, run.progress.total, work.given) == (4, 4, 1)  # one was a copy, and replaced
    assert [error["type"] for error in run.errors.values()] == ["DuplicateOutput", *["UsedUp"] * 3]


def test_a_model_that_gives_nothing_good_is_not_asked_for_ever(options, caplog):
    run = generate_qa("tea", 5, client=answering(json.dumps(REFUSAL)), **options)
    assert run.progress.ok == 0 and run.progress.total == 5 and "take a larger model" in caplog.text


# --- from the command line and in the panel


def cerebro(*words):
    command = Path(sys.executable).parent / "cerebro"
    return subprocess.run([command, *words], capture_output=True, text=True, timeout=120)


def test_a_file_is_a_word_of_generate(tickets, tmp_path):
    with FakeOllama(numbered) as server:
        whom = ("--backend", "ollama", "--base-url", server.url, "--model", "tiny")
        made = cerebro(
            "generate", str(tickets), "a bank's app", "-n", "2", *whom, "--out", str(tmp_path / "made.jsonl")
        )
    assert made.returncode == 0 and "Saved 2 examples" in made.stdout, made.stderr
    rows = [json.loads(line) for line in (tmp_path / "made.jsonl").read_text().splitlines()]
    assert [row["label"] for row in rows] == ["bug", "bug"]
    tickets.write_text(TEN_LINES.replace("min = 20", "min = -1"))
    refused = cerebro("generate", str(tickets), "a bank's app")
    assert refused.returncode == 1 and "line 5: fields.text.min" in refused.stderr and "Traceback" not in refused.stderr


def test_recipes_are_listed_shown_checked_and_begun(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    listed, begun = cerebro("recipes"), cerebro("recipes", "new", "haiku")
    assert {line.split()[0] for line in listed.stdout.splitlines() if line} >= {
        name.replace("_", "-") for name in library()
    }
    assert begun.returncode == 0 and len(listed.stdout.splitlines()) <= 20
    assert cerebro("recipes", "check", "haiku.toml").returncode == 0
    assert 'name = "qa"' in cerebro("recipes", "show", "qa").stdout
    assert cerebro("recipes", "new", "haiku").returncode == cerebro("recipes", "check", "none.toml").returncode == 1


def test_the_form_takes_a_file_and_its_code_names_it(tickets):
    form = RunForm(load_settings({}))
    form.heard({"do": "recipe", "file": str(tickets)}).result(30)
    assert form.values["kind"] == "tickets" and form.values["n"] == "6"
    form.fill(subject="a bank's app")
    code = as_code(form.arguments(), load_settings({}))
    assert code.startswith("from cerebro_nb import generate\n") and repr(str(tickets)) in code
    sent = []
    form.tell = lambda **facts: sent.append(facts["form_told"]["errors"])  # what the browser is told
    form.heard({"do": "recipe", "file": "nothing.toml"}).result(30)
    assert "cannot be read" in sent[-1]["recipe"] and form.values["kind"] == "tickets"


@pytest.mark.parametrize("name", ["sentences", "section", "other_text", "other_section"])
@pytest.mark.parametrize("part", ["fields", "axes"])
def test_what_a_text_puts_into_a_prompt_is_the_name_of_nothing_else(name, part):
    from pydantic import ValidationError

    from cerebro_nb import Recipe

    fields = {"note": {"type": "text"}, **({name: {"type": "text"}} if part == "fields" else {})}
    made = {"makes": [*fields], "prompt": {"en": "Write about {topic}."}}
    plan = {"axes": {name: ["a", "b"]}} if part == "axes" else {}
    with pytest.raises(ValidationError, match=f"{name} is the name of something else"):
        Recipe(name="notes", fields=fields, plan=plan, steps=[made])
