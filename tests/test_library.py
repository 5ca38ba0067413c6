"""The recipes of the package: what they ask, step by step, and what becomes of it in a data set."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import prose
from pydantic import ValidationError
from simulated import SimulatedServer

from cerebro_nb import (
    Client,
    Document,
    Recipe,
    ScriptedBackend,
    errors,
    examples,
    export_dataset,
    generate,
    import_rows,
    refused_by,
    rerun,
    resume,
    retry_failed,
)
from cerebro_nb.cli.setup_commands import recipes
from cerebro_nb.datasets.shapes import shaped
from cerebro_nb.gates.gates import refusals
from cerebro_nb.launching.kind import kind_named
from cerebro_nb.recipes.library import as_recipe, recipe_text, starter_text
from cerebro_nb.recipes.quality import candidate_of

LANGUAGES = ("en", "pt-BR", "es", "fr", "de", "it")
NEW = ("conversation", "instruction", "classification", "summary", "rewriting")
LEAFLET = Document(
    "\n\n".join(prose(f"leaflet {number}", 300) for number in range(4)), "leaflet.txt", title="An old harbour"
)


@pytest.fixture
def options(quick, ledger):
    return {"profile": quick, "ledger": ledger, "show_progress": False, "seed": 4}


class Writer:
    """A model that writes something else each time, and remembers what it was asked."""

    def __init__(self, *refused):
        self.requests, self._refused = [], list(refused)
        self.client = Client(ScriptedBackend(self.write), "tiny")

    def write(self, request):
        self.requests.append(request)
        said = self._refused.pop(0) if self._refused else None
        return said or prose(f"reply {len(self.requests)}", 60)

    @property
    def asked(self):
        return [request.messages[-1].content for request in self.requests]


# --- conversations


def test_a_conversation_has_as_many_exchanges_as_its_plan_says(options, tmp_path):
    writer = Writer()
    run = generate("conversation", "tea", 8, client=writer.client, **options)
    assert run.progress.ok == 8 and run.progress.failed == 0
    rows = list(examples(run))
    exchanges = [int(row["metadata"]["exchanges"]) for row in rows]
    assert sorted(exchanges) == [1, 1, 2, 2, 3, 3, 4, 4] and len(writer.requests) == 2 * sum(exchanges)
    for row, count in zip(rows, exchanges, strict=True):
        assert [f"user_{place}" in row for place in (1, 2, 3, 4)] == [place <= count for place in (1, 2, 3, 4)]
    for chat, count in zip(shaped(rows, "openai"), exchanges, strict=True):
        assert [turn["role"] for turn in chat["messages"]] == ["user", "assistant"] * count
    assert export_dataset(run, tmp_path / "records").parts["train"] >= 1
    assert export_dataset(run, tmp_path / "chats", shape="sharegpt", gates=True).parts == {"train": 8}
    written = [json.loads(line) for line in (tmp_path / "records" / "train.jsonl").read_text().splitlines()]
    assert {name for row in written for name in row} == {*as_recipe("conversation").fields, "metadata"}


def test_an_answer_is_asked_for_in_the_conversation_and_a_message_with_what_was_said(options):
    writer = Writer()
    run = generate("conversation", "tea", 1, client=writer.client, axes={"exchanges": ["2"]}, **options)
    first, answered, further, last = writer.requests
    made = run.results[0]
    assert [message.content for message in answered.messages[1:]] == [made["user_1"]]
    assert made["user_1"] in further.messages[-1].content and made["assistant_1"] in further.messages[-1].content
    said = [(message.role, message.content) for message in last.messages[1:]]
    assert said == [("user", made["user_1"]), ("assistant", made["assistant_1"]), ("user", made["user_2"])]
    assert "tea" in first.messages[-1].content and all(request.json_schema is None for request in writer.requests)


def test_a_conversation_goes_on_at_the_turn_that_was_refused(options):
    refusal = "As an AI language model, I cannot answer that."
    writer = Writer(None, None, None, refusal)
    run = generate("conversation", "tea", 1, client=writer.client, axes={"exchanges": ["2"]}, **options)
    assert run.progress.ok == 1 and run.progress.refused == {"refusal": 1} and len(writer.requests) == 5
    assert "without apologies" in writer.asked[4] and writer.asked[4].startswith(writer.asked[3])


def test_a_turn_that_says_an_earlier_one_again_is_refused_and_one_that_points_back_is_not():
    talk = {
        "user_1": "How long should I let green tea stand before I drink it?",
        "assistant_1": "Two minutes are enough for most leaves; longer makes the cup bitter.",
        "user_2": "And how long should I let green tea stand before I drink it cold?",
        "assistant_2": "Cold water takes its time: leave the leaves in the fridge overnight.",
    }
    assert refused_by(talk, subject="tea", language="en", recipe="conversation") == ["echo"]
    pointing = {**talk, "user_2": "As mentioned above, two minutes. Does that hold for black tea too?"}
    assert refused_by(pointing, subject="tea", language="en", recipe="conversation") == []
    first = {**talk, "user_1": pointing["user_2"], "user_2": "What about white tea in a cold pot?"}
    assert refused_by(first, subject="tea", language="en", recipe="conversation") == ["self_contained"]


def test_a_cut_off_run_of_conversations_is_gone_on_with(options, ledger):
    writer = Writer()

    def write(request):
        if len(writer.requests) == 12:
            raise errors.AuthenticationFailed("the key is gone", hint="Give it.")
        return writer.write(request)

    with Client(ScriptedBackend(write), "tiny") as client, pytest.raises(errors.AuthenticationFailed):
        generate("conversation", "tea", 6, client=client, **options)
    (task,) = ledger.tasks()
    assert 0 < task.ok_items < 6
    other = Writer()
    run = resume(task.id, client=other.client, ledger=ledger, show_progress=False)
    assert run.progress.ok == 6 and run.progress.failed == 0
    again = rerun(task.id, client=Writer().client, ledger=ledger, show_progress=False)
    assert again.progress.ok == 6 and again.task.manifest["definition"] == run.task.manifest["definition"]


# --- instructions


def test_some_instructions_have_an_input_and_alpaca_has_its_three_columns(options, tmp_path):
    writer = Writer()
    run = generate("instruction", "tea", 10, client=writer.client, **options)
    rows = list(examples(run))
    assert run.progress.ok == 10 and sum("input" in row for row in rows) == 5 and len(writer.requests) == 25
    made = list(shaped(rows, "alpaca"))
    for row, alpaca in zip(rows, made, strict=True):
        assert alpaca == {"instruction": row["instruction"], "input": row.get("input", ""), "output": row["output"]}
    assert export_dataset(run, tmp_path / "alpaca", shape="alpaca", gates=True).parts == {"train": 10}
    outputs = [request for request in writer.requests if "exactly" in request.messages[0].content]
    with_input = next(row for row in rows if "input" in row)
    assert f"{with_input['instruction']}\n\n{with_input['input']}" in [one.messages[-1].content for one in outputs]


# --- classification


def test_a_text_is_written_for_its_label_and_the_labels_are_balanced(options):
    writer = Writer()
    run = generate("classification", "a hotel", 9, client=writer.client, **options)
    labels = [row["label"] for row in run.results]
    assert sorted(labels) == ["negative"] * 3 + ["neutral"] * 3 + ["positive"] * 3
    assert all(f'"{label}"' in asked for label, asked in zip(labels, writer.asked, strict=True))
    rows = list(examples(run))
    assert all("label" not in row["metadata"] for row in rows)
    for row, chat in zip(rows, shaped(rows, "openai"), strict=True):
        assert [turn["content"] for turn in chat["messages"]] == [row["text"], row["label"]]


def test_labels_are_given_at_the_call(options, tmp_path):
    run = generate(
        "classification", "a bank", 6, client=Writer().client, axes={"label": ["bug", "billing", "how-to"]}, **options
    )
    assert sorted(row["label"] for row in run.results) == ["billing", "billing", "bug", "bug", "how-to", "how-to"]
    assert export_dataset(run, tmp_path / "out", gates=True).parts["train"] >= 1
    for axes in ({"labels": ["bug"]}, {"label": []}, {"label": "bug"}):
        with pytest.raises(errors.InputError):
            generate("classification", "a bank", 6, client=Writer().client, axes=axes, **options)
    with pytest.raises(errors.InputError, match="exchanges cannot have the words"):
        generate("conversation", "a bank", 6, client=Writer().client, axes={"exchanges": ["9"]}, **options)


# --- texts that are given


@pytest.mark.parametrize(("name", "field"), [("summary", "summary"), ("rewriting", "rewritten")])
def test_a_given_text_is_the_user_and_what_was_made_of_it_the_answer(name, field, options, tmp_path):
    writer = Writer()
    run = generate(name, n=3, client=writer.client, from_documents=LEAFLET, chunk_tokens=100, **options)
    rows = list(examples(run))
    assert run.progress.ok == 3 and run.task.subject == "An old harbour"
    for row, alpaca, asked in zip(rows, shaped(rows, "alpaca"), writer.asked, strict=True):
        assert alpaca["input"] == row["metadata"]["text"] and alpaca["output"] == row[field]
        assert alpaca["instruction"].endswith(":") and row["metadata"]["text"] in asked
    assert export_dataset(run, tmp_path / "out", shape="openai", gates=True).parts["train"] >= 1


@pytest.mark.parametrize("name", ["summary", "rewriting"])
def test_without_a_text_there_is_nothing_to_work_on(name, options):
    with pytest.raises(errors.InputError) as refused:
        generate(name, "tea", 3, client=Writer().client, **options)
    assert "from texts, and there are none" in refused.value.message and "from_documents" in refused.value.hint


def test_the_text_itself_is_no_summary(options):
    text = prose("a short text", 200)
    run = generate("summary", n=1, client=Writer(text).client, from_documents=Document(text, "a.txt"), **options)
    assert run.progress.ok == 1 and run.progress.refused == {"echo": 1}


# --- what is made of steps


THREE_STEPS = {
    "name": "verse",
    "fields": {"request": {}, "verse": {}, "title": {}},
    "steps": [
        {"makes": ["request"], "prompt": "What does somebody want to read about {subject}?"},
        {"makes": ["verse"], "prompt": "Write it: {request}"},
        {"makes": ["title"], "prompt": "Name it: {verse}"},
    ],
    "chat": {"turns": [["user", "{request}"], ["assistant", "{verse}"]]},
}
REFUSAL = "As an AI language model, I cannot answer that."


def test_a_word_on_a_later_step_is_not_said_of_the_first(options):
    writer = Writer(None, REFUSAL, REFUSAL)
    run = generate(Recipe.model_validate(THREE_STEPS), "tea", 1, client=writer.client, **options)
    assert run.progress.ok == 1 and run.progress.refused == {"refusal": 2}
    begun_anew = writer.asked[3]
    assert begun_anew.startswith("What does somebody want") and "apologies" not in begun_anew
    assert ["apologies" in asked for asked in writer.asked] == [False, False, True, False, False, False]


def test_what_a_recipe_says_of_its_subject_is_in_its_conversation(options):
    talk = {"turns": [["user", "{subject}"], ["assistant", "{verse}"]]}
    run = generate(Recipe.model_validate({**THREE_STEPS, "chat": talk}), "tea", 1, client=Writer().client, **options)
    (chat,) = shaped(examples(run), "openai")
    assert chat["messages"][0] == {"role": "user", "content": "tea"}


def test_samples_are_held_to_the_bounds_of_their_list_and_each_has_a_seed_of_its_own(options):
    fields = {"names": {"type": "list", "of": {}, "min": 3}}
    recipe = Recipe.model_validate({"name": "names", "fields": {**fields, "why": {}}, "steps": [
        {"makes": ["names"], "samples": 3, "prompt": "Name {subject}."}, {"makes": ["why"], "prompt": "Why {names}?"},
    ]})  # fmt: skip
    writer = Writer(*["Darjeeling is a fine one."] * 3)
    run = generate(recipe, "tea", 1, client=writer.client, **options)
    assert run.progress.ok == 1 and len(run.results[0]["names"]) == 3
    seeds = [request.options.seed for request in writer.requests[:6]]
    assert len({*seeds}) == 6


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_number_that_json_does_not_have_is_asked_for_again(options, number):
    recipe = Recipe.model_validate({"name": "prices", "fields": {"what": {}, "price": {"type": "number"}},
                                    "steps": [{"prompt": "Price {subject}."}]})  # fmt: skip
    writer = Writer(
        f'{{"what": "{prose("tea", 30)}", "price": {number}}}', f'{{"what": "{prose("tea", 30)}", "price": 3}}'
    )
    run = generate(recipe, "tea", 1, client=writer.client, **options)
    assert run.progress.ok == 1 and run.results[0]["price"] == 3


def test_two_recipes_of_one_name_are_exported_each_as_it_is(options):
    other = {**THREE_STEPS, "chat": {"turns": [["system", "Be brief."], ["user", "{title}"], ["assistant", "{verse}"]]}}
    runs = [
        generate(Recipe.model_validate(one), "tea", 1, client=Writer().client, **options)
        for one in (THREE_STEPS, other)
    ]
    roles = [[turn["role"] for turn in next(iter(shaped(examples(run), "openai")))["messages"]] for run in runs]
    assert roles == [["user", "assistant"], ["system", "user", "assistant"]]


OWN = """name = "notices"
[fields]
event = { type = "text", min = 3 }
notice = { type = "long text", min = 3 }
[[steps]]
prompt = "Write a notice of a harbour office about {subject}."
[chat]
turns = [["user", "{event}"], ["assistant", "{notice}"]]
[gates]
leave_out = ["whole"]
"""
NOTICE = {"event": "The bridge is closed.", "notice": "Boats wait at the north quay until six"}


@pytest.fixture
def notices(tmp_path):
    file = tmp_path / "notices.toml"
    file.write_text(OWN)
    return file


def test_the_gates_take_a_recipe_of_ones_own_or_its_file(notices):
    refusal = {**NOTICE, "notice": "As an AI language model, I cannot write that."}
    for recipe in (notices, str(notices), as_recipe(notices)):
        assert refused_by(NOTICE, subject="a harbour", language="en", recipe=recipe) == []
        assert refused_by(refusal, subject="a harbour", language="en", recipe=recipe) == ["refusal"]
    assert refused_by({"event": NOTICE["event"]}, subject="a harbour", language="en", recipe=notices) == ["empty"]


def test_rows_are_imported_by_a_recipe_of_ones_own_and_exported_by_its_chat(notices, ledger, ledger_url, tmp_path):
    rows = [
        NOTICE,
        {"event": "Fog."},
        {"event": "The quay is wet.", "notice": "As an AI model, I cannot see the quay."},
    ]
    given = {"ledger": ledger, "show_progress": False}
    run = import_rows(rows, kind=notices, subject="a harbour", language="en", **given)
    assert (run.progress.ok, run.progress.failed, run.task.kind) == (2, 1, "notices")
    command = Path(sys.executable).parent / "cerebro"
    known = subprocess.run(
        [command, "export", run.task_id, "--shape", "openai", "--to", str(tmp_path / "out")],
        env=os.environ | {"CEREBRO_DATABASE_URL": ledger_url},
        capture_output=True,
        text=True,
    )
    assert known.returncode == 0, known.stderr
    written = [json.loads(line) for line in (tmp_path / "out" / "train.jsonl").read_text().splitlines()]
    assert [[turn["content"] for turn in row["messages"]] for row in written] == [[*NOTICE.values()]]
    with pytest.raises(errors.InputError, match="no failed items at"):
        retry_failed(run, positions=[0])
    assert retry_failed(run, show_progress=False).progress.failed == 1


def test_a_file_cannot_be_called_as_a_recipe_of_the_package_is(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(recipe_text("qa"))
    with pytest.raises(errors.InputError, match="is called qa"):
        as_recipe(file)


def test_a_question_may_have_the_form_that_was_asked_for(options):
    question = "Stimmt es, dass eine Kette geschmiert werden muss, bevor sie rostet?"
    said = json.dumps({"question": question, "answer": "Ja, denn Fett hält das Wasser von den Gliedern fern."})
    client = Client(ScriptedBackend(lambda request: said), "tiny")
    given = {"language": "de", "axes": {"question_type": ["Stimmt es, dass ...?"]}}
    run = generate("qa", "Fahrräder", 1, client=client, **given, **options)
    assert run.progress.ok == 1 and run.progress.refused == {}


def test_a_word_twice_on_an_axis_is_one(options):
    recipe = {**THREE_STEPS, "plan": {"axes": {"tone": ["calm", "calm", "glad"]}}}
    recipe["steps"] = [
        {"makes": ["request"], "prompt": "Ask for something {tone} about {subject}."},
        *recipe["steps"][1:],
    ]
    run = generate(Recipe.model_validate(recipe), "tea", 4, client=Writer().client, **options)
    assert sorted(run.df["tone"]) == ["calm", "calm", "glad", "glad"]


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ({"pattern": "(?=a)"}, "look-around"),
        ({"pattern": "("}, "unclosed"),
        ({"type": "integer", "min": 1.5}, "integer"),
    ],
)
def test_bounds_that_cannot_be_kept_are_told_before_anything_is_asked(field, said):
    with pytest.raises(ValidationError, match=said):
        Recipe.model_validate({**THREE_STEPS, "fields": {**THREE_STEPS["fields"], "title": field}})


@pytest.mark.parametrize("name", ["seed", "answerable", "row", "topic", "tool_schema"])
def test_an_axis_cannot_have_the_name_of_what_an_item_has(name):
    with pytest.raises(ValidationError, match="is the name of something else"):
        Recipe.model_validate({**THREE_STEPS, "plan": {"axes": {name: ["a"]}}})


@pytest.mark.parametrize(
    "axes", ["tone=a", {"exchanges": 2}, {"exchanges": "12"}, {"exchanges": [["1"]]}, {"tone": ["a"]}]
)
def test_words_for_axes_are_lists_of_words(options, axes):
    with pytest.raises(errors.InputError):
        generate("conversation", "tea", 1, client=Writer().client, axes=axes, **options)


def test_a_copy_of_an_earlier_task_is_one_when_it_is_tried_again(options, ledger):
    def client():
        return Client(ScriptedBackend(lambda request: prose(request.messages[-1].content[:12], 60)), "tiny")

    recipe = Recipe.model_validate(THREE_STEPS)
    assert generate(recipe, "tea", 1, client=client(), **options).progress.ok == 1
    run = generate(recipe, "tea", 1, client=client(), against_earlier=True, **options)
    assert run.progress.ok == 0
    again = retry_failed(run.task_id, client=client(), ledger=ledger, show_progress=False)
    assert again.progress.ok == 0


# --- all of them


@pytest.mark.parametrize("name", NEW)
def test_each_has_prompts_of_its_own_in_six_languages(name):
    recipe = as_recipe(name)
    steps = [*recipe.steps, *recipe.from_text]
    assert all(tuple(texts) == LANGUAGES for step in steps for texts in (step.prompt, step.system))
    for step in steps:
        for texts in (step.prompt, step.system):
            assert len({frozenset(re.findall(r"\{\w+\}", text)) for text in texts.values()}) == 1
    for words in recipe.plan.axes.values():
        assert len({len(listed) for listed in words.values()}) == 1
    kind = kind_named(name)
    assert kind.answers and set(kind.answers) <= set(kind.columns) and kind.label["pt-BR"]


@pytest.mark.parametrize("name", NEW)
def test_what_their_prompts_show_is_good_but_for_being_shown(name):
    kind = kind_named(name)
    for language, shots in kind.shots.items():
        for shot in shots:
            made = {field: value for field, value in shot.items() if field in kind.columns}
            found = refusals(candidate_of(kind, {**made, "metadata": {"language": language}}))
            assert set(found) <= {"shot_leak"}, found


TALK = {
    "name": "talk",
    "plan": {"axes": {"exchanges": ["1", "2"]}},
    "fields": {name: {"type": "text"} for name in ("ask", "say", "more", "said")},
    "steps": [
        {"makes": ["ask"], "prompt": "Ask about {subject}."},
        {"makes": ["say"], "prompt": "{ask}"},
        {"makes": ["more"], "prompt": "Ask further: {say}", "when": {"exchanges": ["2"]}},
        {"makes": ["said"], "prompt": "{more}", "continues": True, "when": {"exchanges": ["2"]}},
    ],
    "chat": {"turns": [["user", "{ask}"], ["assistant", "{say}"], ["user", "{more}"], ["assistant", "{said}"]]},
}


def changed(place=None, **changes):
    steps = [{**step, **(changes if number == place else {})} for number, step in enumerate(TALK["steps"])]
    return {**TALK, **({"steps": steps} if place is not None else changes)}


WRONG = {
    "an axis": (changed(2, when={"turns": ["2"]}), "steps[2].when: there is no axis 'turns'; there are: exchanges"),
    "a word": (changed(2, when={"exchanges": ["3"]}), "steps[2].when.exchanges: '3' is no word of the axis"),
    "its languages": (changed(2, when={"exchanges": {"en": ["2"]}}), "its languages are not those of the axis"),
    "a prompt": (changed(3, when={}), "steps[3].prompt: with exchanges = '1' nobody fills {more}; put it into [[ ]]"),
    "who speaks": (
        changed(3, when={}, prompt="Say more."),
        "chat: with exchanges = '1' user and assistant do not speak in turn: user, assistant, assistant",
    ),
    "a turn": (
        changed(chat={"turns": [["user", "{ask}"], ["assistant", "{say} And: {said}"]]}),
        "chat.turns[1]: with exchanges = '1' nobody fills {said}; put it into [[ ]]",
    ),
    "what tells": (changed(distinct=["said"]), "no step makes said, which tells two examples apart"),
    "no chat": (changed(chat=None), "steps[3].continues: the recipe has no chat to go on with"),
    "what is drawn": (
        changed(plan={"axes": {"exchanges": ["1", "2"], "say": ["So."]}}),
        "steps[1].makes: say is drawn, see plan.axes",
    ),
    "no steps": (changed(steps=[]), "steps: there is none"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_step_that_is_not_always_asked_is_checked_with_all_that_hangs_on_it(case):
    definition, expected = WRONG[case]
    with pytest.raises(ValueError, match=re.escape(expected)):
        Recipe.model_validate(definition)
    assert Recipe.model_validate(TALK).steps[2].is_asked({"exchanges": "2"})


def test_a_new_recipe_begins_as_a_copy_of_one_of_the_package(tmp_path, monkeypatch, capsys, options):
    monkeypatch.chdir(tmp_path)
    assert recipes.run("new", "mine", "--from", "conversation") == recipes.run("check", "mine.toml") == 0
    assert "mine: mine, 6 unless a number is given" in capsys.readouterr().out
    assert recipes.run("new", "short", "--from", "summary") == 0
    assert "cerebro generate short.toml --documents FOLDER" in capsys.readouterr().out
    run = generate("mine.toml", "tea", 2, client=Writer().client, **options)
    assert run.progress.ok == 2 and run.task.kind == "mine"
    assert starter_text("mine", "conversation").count("\n") == recipe_text("conversation").count("\n")
    with pytest.raises(errors.InputError, match="there is no recipe 'poems'"):
        recipes.run("new", "other", "--from", "poems")
    with pytest.raises(Exception, match="--from names what a new recipe is a copy of"):
        recipes.run("show", "qa", "--from", "summary")


def test_an_example_has_the_time_of_a_question_for_each_of_its_steps(quick, ledger, virtual):
    with Client(SimulatedServer(seconds=5, answer=Writer().write), "tiny") as client:
        profile = quick.replace(timeout_s=8, max_attempts=1)
        run = generate(
            "conversation", "tea", 1, client=client, profile=profile, ledger=ledger, axes={"exchanges": ["4"]}, seed=1
        )
    assert run.progress.ok == 1 and virtual.time() >= 40
