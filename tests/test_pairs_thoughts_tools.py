"""Preference pairs, thoughts and calls of tools: what two answers, a thinking model and a schema have to give."""

import json
import tomllib
from pathlib import Path

import pytest
from fakes import FakeOllama, prose

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
    read_recipe,
    refused_by,
)
from cerebro_nb.datasets.shapes import shaped
from cerebro_nb.recipes.library import as_recipe, recipe_text


@pytest.fixture
def options(quick, tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield {"profile": quick, "ledger": ledger, "show_progress": False}
    ledger.close()


def asking(write):
    """Return a client whose model answers with what a function of the request returns, and the requests it was sent."""
    seen = []

    def answered(request):
        seen.append(request)
        return write(request)

    return Client(ScriptedBackend(answered), "tiny"), seen


def rows_of(folder, shape, run, **more):
    """Return the rows of a run in a shape, as they stand in the file."""
    export_dataset(run, folder / shape, shape=shape, **more)
    return [json.loads(line) for line in (folder / shape / "train.jsonl").read_text().splitlines()]


# --- preference pairs


def of_a_pair(better):
    """Return what a model writes of a pair whose better answer is made by a function of the draft."""

    def write(request):
        asked = request.messages[-1].content
        if request.json_schema:
            return json.dumps({"question": prose(f"question {request.options.seed}", asks=True)})
        if "for an editor" in request.messages[0].content:
            return prose(f"criticism {asked}", 30)
        return better(asked) if "Notes for" in asked else prose(f"draft {asked}", 90)

    return write


def test_pairs_are_two_answers_to_one_question_and_exported_as_preferences(options, tmp_path):
    client, seen = asking(of_a_pair(lambda asked: prose(f"better {asked}", 90)))
    run = generate("preference_pairs", "tea", 3, client=client, seed=1, **options)
    assert run.progress.ok == 3 and not run.progress.refused
    for row, result in zip(rows_of(tmp_path, "preference", run), run.results, strict=True):
        assert (row["prompt"], row["chosen"], row["rejected"]) == (
            result["question"],
            result["better"],
            result["draft"],
        )
    drafts = [request for request in seen if request.messages[-1].content.endswith("two to four sentences.")]
    assert len(drafts) == 3 and {request.options.temperature for request in drafts} == {1.1}
    asked = [request.messages[-1].content for request in seen]
    (second,) = [text for text in asked if run.results[0]["criticism"] in text]
    assert run.results[0]["draft"] not in second  # it is written anew, not touched up


TOUCHED_UP = {
    "the same": lambda draft: draft,
    "a mark more": lambda draft: f"{draft[:-1]}!",
    "a word": lambda draft: draft.replace("The ", "This ", 1),
}


@pytest.mark.parametrize("case", TOUCHED_UP)
@pytest.mark.parametrize("without", [(), ("echo",)])
def test_a_second_answer_that_changes_nothing_is_refused_whatever_gates_are_left_out(options, case, without):
    drafts = []

    def write(request):
        asked = request.messages[-1].content
        if request.json_schema or "Notes for" in asked or "for an editor" in request.messages[0].content:
            return of_a_pair(lambda asked: TOUCHED_UP[case](drafts[-1]))(request)
        drafts.append(of_a_pair(str)(request))
        return drafts[-1]

    client, _ = asking(write)
    run = generate("preference_pairs", "tea", 1, client=client, seed=1, without_gates=without, **options)
    assert run.progress.ok == 0 and set(run.progress.refused) <= {"conversation", *({"echo"} - {*without})}
    assert run.errors[0]["type"] == "ExampleRefused"


NEAR = "The water for green tea has about eighty degrees, or the leaves turn bitter."


@pytest.mark.parametrize(
    ("better", "passes"),
    [
        (NEAR, False),
        (NEAR.replace("about", "some"), False),
        (f"  {NEAR.upper()}", False),
        ("Boil the water and let it stand for a while, since boiling water burns the leaves.", True),
    ],
)
def test_no_near_copy_gets_into_a_data_set(options, better, passes):
    recipe = Recipe(
        name="pairs",
        fields={"asked": {}, "draft": {}, "better": {}},
        steps=[{"prompt": "Ask about {subject} and answer twice."}],
        chat={"turns": [["user", "{asked}"], ["assistant", "{better}"]], "rejected": "{draft}"},
    )
    other = "Whatever the leaves are, the kettle is off and the cup is warm before anybody pours."
    said = {"asked": "How hot should the water for green tea be?", "draft": NEAR, "better": other}
    client, _ = asking(lambda request: json.dumps(said))
    run = generate(recipe, "tea", 1, client=client, **options)
    edited = [{**row, "better": better} for row in examples(run)]
    if passes:
        assert next(shaped(edited, "preference"))["chosen"] == better
    else:
        with pytest.raises(errors.InputError, match="two answers that are"):
            next(shaped(edited, "preference"))


JUDGED = {
    "name": "judged",
    "fields": {"asked": {}, "first": {}, "second": {}, "winner": {"type": "choice", "of": ["first", "second", "tie"]}},
    "steps": [
        {"makes": ["asked"], "prompt": "Ask about {subject}."},
        {"makes": ["first"], "prompt": "{asked}", "temperature": 0.2},
        {"makes": ["second"], "prompt": "{asked}", "temperature": 1.3, "model": "weaker"},
        {"makes": ["winner"], "prompt": "Which is better? first: {first} second: {second}", "model": "judge"},
    ],
    "chat": {"turns": [["user", "{asked}"], ["assistant", "{chosen}"]], "rejected": "{rejected}", "choice": "winner"},
}


@pytest.mark.parametrize("winner", ["first", "second", "tie"])
def test_a_choice_says_which_of_two_answers_is_chosen(options, tmp_path, winner):
    def write(request):
        if request.json_schema:
            return json.dumps({"winner": winner})
        text = request.messages[-1].content
        return prose("question", asks=True) if text.startswith("Ask") else prose(f"{request.model} {text}", 60)

    client, seen = asking(write)
    run = generate(Recipe(**JUDGED), "tea", 1, client=client, **options)
    assert {request.model for request in seen} == {"tiny", "weaker", "judge"}
    if winner == "tie":
        assert run.progress.ok == 0 and set(run.progress.refused) == {"conversation"}
        return
    (row,) = rows_of(tmp_path, "preference", run)
    other = "second" if winner == "first" else "first"
    assert (row["chosen"], row["rejected"]) == (run.results[0][winner], run.results[0][other])


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"winner": {}}, "winner is no choice"), ({"winner": {"type": "choice", "of": ["first", "third"]}}, "two words")],
)
def test_a_choice_that_names_no_two_answers_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        Recipe(**{**JUDGED, "fields": {**JUDGED["fields"], **fields}})


# --- thoughts


def server_that(can, answer):
    """Return a server of one model that can do what is listed."""
    server = FakeOllama(answer)
    model = {"name": "tiny:latest", "model": "tiny:latest", "size": 9, "capabilities": ["completion", *can]}
    listed = {"models": [model]}
    server.odd["/api/tags"] = (200, {"content-type": "application/json"}, json.dumps(listed))
    return server


HM = "Hm. Wait, let me start over. I think that as an AI model I should first ask: is it 4? I believe it is 4!"


def a_thinker(payload):
    if payload.get("format"):
        words = json.dumps([payload["messages"], payload["options"]["seed"]])
        return json.dumps({"question": prose(words, 40, asks=True)})
    return f"<think>{HM}</think>{prose(json.dumps(payload['messages']), 40)}" if payload.get("think") else "It is so."


def test_what_a_thinking_model_thought_is_a_field_that_is_exported(options, tmp_path):
    with server_that(["thinking"], a_thinker) as server, Client(OllamaBackend(server.url), "tiny") as client:
        run = generate("reasoning", "sums", 2, client=client, seed=1, **options)
    chats = [payload for path, payload, _ in server.requests if path == "/api/chat"]
    assert run.progress.ok == 2 and not run.progress.refused and len(chats) == 4
    assert [result["thought"] for result in run.results] == [HM, HM]
    answered = [chat for chat in chats if chat.get("think")]
    assert [chat["messages"] for chat in answered] == [
        [{"role": "user", "content": result["question"]}] for result in run.results
    ]
    assert all(chat["options"]["num_ctx"] > 2048 for chat in chats)  # a thought needs more room than an answer
    (first, _) = rows_of(tmp_path, "openai", run)
    assert first["messages"][1]["content"].startswith(f"<think>\n{HM}\n</think>")
    (field, _) = rows_of(tmp_path / "field", "openai", run, thinking="field")
    assert field["messages"][1]["reasoning_content"] == HM


def aloud(payload):
    text = payload["messages"][-1]["content"]
    if payload.get("format"):
        return a_thinker(payload)
    return f"I count. {prose(text, 40)}" if "first person" in text else prose(f"answer {text}", 40)


@pytest.mark.parametrize("how", ["the server says so", "think=False"])
def test_a_model_that_does_not_think_is_asked_for_its_thought_as_text(options, caplog, how):
    caplog.set_level("INFO")
    can, asked = ([], {}) if how == "the server says so" else (["thinking"], {"think": False})
    with server_that(can, aloud) as server, Client(OllamaBackend(server.url), "tiny") as client:
        run = generate("reasoning", "sums", 2, client=client, seed=1, **asked, **options)
    assert run.progress.ok == 2 and all(result["thought"].startswith("I count.") for result in run.results)
    assert "tiny does not think: its thoughts are asked for as text" in caplog.text
    last = [payload for path, payload, _ in server.requests if path == "/api/chat"][-1]
    assert run.results[-1]["thought"] in last["messages"][-1]["content"] and not last.get("think")
    assert len(run.task.manifest["definition"]["steps"]) == 3  # so a resume asks for them in the same way


def test_a_thought_that_is_not_there_fails_the_item_and_says_what_to_do(options):
    client, seen = asking(
        lambda request: json.dumps({"question": prose("q", 40, asks=True)}) if request.json_schema else prose("a", 40)
    )
    run = generate("reasoning", "sums", 1, client=client, **options)
    assert run.progress.ok == 0 and run.errors[0]["type"] == "NoThought" and len(seen) == 2
    assert "tiny does not think" in run.errors[0]["message"] and "think=False" in run.errors[0]["hint"]
    assert "qwen3" in run.errors[0]["hint"]


def test_no_gate_reads_a_thought_and_all_read_the_answer():
    example = {"question": "What is two and two?", "thought": HM, "answer": "Four."}
    assert refused_by(example, subject="sums", language="en", recipe="reasoning") == []
    sorry = {**example, "answer": "As an AI language model, I cannot answer that."}
    assert refused_by(sorry, subject="sums", language="en", recipe="reasoning") == ["refusal"]


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"thinking": "mood"}, "there is no field 'mood'"),
        ({"thinking": "answer"}, "answer is made twice"),
        ({"thinking": "score"}, "a thought is one text"),
    ],
)
def test_a_thought_goes_into_a_text_of_its_own(step, said):
    fields = {"answer": {}, "score": {"type": "number"}}
    with pytest.raises(ValueError, match=said):
        Recipe(name="odd", fields=fields, steps=[{"makes": ["answer"], "prompt": "Answer {subject}.", **step}])


# --- calls of tools

CALLS = {
    "search_products": {"query": "smoker", "max_price": 40},
    "set_reminder": {"text": "check the hives", "in_minutes": 90},
    "convert_units": {"amount": 5, "from_unit": "kg", "to_unit": "lb"},
}


DOES = {"Looks for": "search_products", "Reminds the": "set_reminder", "Converts an": "convert_units"}


def drawn(request):
    return next(name for does, name in DOES.items() if does in request.messages[-1].content)


def a_caller(request):
    if "request" in request.json_schema["properties"]:
        return json.dumps({"request": prose(f"{drawn(request)} {request.options.seed}", 30)})
    return json.dumps(CALLS[drawn(request)])


def test_each_tool_is_called_evenly_and_its_calls_are_exported_with_the_tools(options, tmp_path):
    client, seen = asking(a_caller)
    run = generate("tool_calls", "bees", 6, client=client, seed=1, **options)
    assert run.progress.ok == 6 and not run.progress.refused
    called = [result["calls"] for result in run.results]
    assert all(calls == [{"name": calls[0]["name"], "arguments": CALLS[calls[0]["name"]]}] for calls in called)
    assert sorted(calls[0]["name"] for calls in called) == sorted([*CALLS, *CALLS])
    held = next(request.json_schema for request in seen if "in_minutes" in request.json_schema["properties"])
    assert held["required"] == ["text", "in_minutes"] and held["additionalProperties"] is False
    for row, result in zip(rows_of(tmp_path, "openai", run), run.results, strict=True):
        (call,) = row["messages"][1]["tool_calls"]
        assert row["messages"][0] == {"role": "user", "content": result["request"]}
        assert json.loads(call["function"]["arguments"]) == result["calls"][0]["arguments"]
        assert [tool["function"]["name"] for tool in json.loads(row["tools"])] == list(CALLS)
    for row in rows_of(tmp_path, "sharegpt", run):
        assert [said["from"] for said in row["conversations"]] == ["human", "function_call"]
        assert json.loads(row["tools"])[0]["parameters"]["required"] == ["query"]
    records = rows_of(tmp_path, "records", run)
    assert len(records) == 6 and all(json.loads(record["tools"])[0]["name"] == "search_products" for record in records)


WRONG = {
    "a type": ("set_reminder", {"text": "check", "in_minutes": "90"}, "in_minutes"),
    "a range": ("set_reminder", {"text": "check", "in_minutes": 0}, "in_minutes"),
    "a word": ("convert_units", {"amount": 5, "from_unit": "kg", "to_unit": "stone"}, "to_unit"),
    "one too few": ("search_products", {"max_price": 40}, "query"),
    "one too many": ("search_products", {"query": "smoker", "colour": "red"}, "colour"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_call_is_told_why_and_asked_again(options, case):
    name, wrong, place = WRONG[case]
    said = []

    def write(request):
        asked = request.messages[-1].content
        if "cannot be used" in asked:
            said.append(asked)
            return json.dumps(CALLS[name])
        if "request" in request.json_schema["properties"]:
            return a_caller(request)
        return json.dumps(wrong) if drawn(request) == name else a_caller(request)

    client, _ = asking(write)
    run = generate("tool_calls", "bees", 3, client=client, seed=1, **options)
    assert run.progress.ok == 3 and len(said) == 1 and place in said[0]
    assert [{"name": name, "arguments": CALLS[name]}] in [result["calls"] for result in run.results]


def test_a_call_that_stays_wrong_fails_its_item(options):
    client, _ = asking(
        lambda request: a_caller(request) if "request" in request.json_schema["properties"] else '{"city": "Rio"}'
    )
    run = generate("tool_calls", "bees", 1, client=client, seed=1, **options)
    assert run.progress.ok == 0 and run.errors[0]["type"] == "InvalidOutput"


MINE = """
name = "bank"
[fields]
wish = {}
[fields.tools]
type = "tools"
[fields.calls]
type = "calls"
[[fields.calls.of]]
name = "balance"
description = "Tells the balance."
[[fields.calls.of]]
name = "transfer"
description = "Sends money."
[fields.calls.of.parameters]
required = ["to"]
[fields.calls.of.parameters.properties]
note = { type = ["string", "null"] }
tags = { type = "array", items = { enum = ["rent", "gift"] }, maxItems = 2 }
[fields.calls.of.parameters.properties.to]
type = "object"
required = ["iban"]
properties.iban = { type = "string", pattern = "^[A-Z]{2}[0-9]{4}$" }
[[steps]]
makes = ["wish"]
prompt = "Ask for {tool}: {tool_schema}"
[[steps]]
makes = ["calls"]
prompt = "{wish} One of {tools}"
[chat]
tools = "tools"
turns = [["user", "{wish}"], { role = "assistant", tool_calls = "calls" }]
"""


def test_own_tools_are_read_from_a_file_and_checked_in_depth(options, tmp_path):
    place = tmp_path / "bank.toml"
    place.write_text(MINE, encoding="utf-8")
    good = {"to": {"iban": "BR1234"}, "tags": ["gift"], "note": None}
    wrong = [{"to": {"iban": "BR12345"}}, {**good, "tags": ["joke"]}, {**good, "to": {"iban": "BR1234", "name": "Ana"}}]
    left = [json.dumps(value) for value in (wrong[0], wrong[1], wrong[2], good)]

    def write(request):
        text = request.messages[-1].content
        if text.startswith("Ask for"):
            return prose(text, 30)
        return left.pop(0) if "to" in request.json_schema["properties"] else "{}"

    client, _ = asking(write)
    run = generate(place, "money", 2, client=client, seed=1, **options)
    assert run.progress.ok == 2 and not left
    assert sorted((call["name"], call["arguments"]) for (call,) in (result["calls"] for result in run.results)) == [
        ("balance", {}),
        ("transfer", good),
    ]


ODD = {
    "a type": (MINE.replace('"array"', '"list"'), "there is no type 'list'"),
    "a rule": (MINE.replace("maxItems", "uniqueItems"), "'uniqueItems' cannot be checked"),
    "one that is required": (MINE.replace('required = ["iban"]', 'required = ["bic"]'), "'bic' is required"),
    "a name twice": (MINE.replace('"transfer"', '"balance"'), "same name"),
    "an axis": (MINE.replace("[[steps]]", '[plan.axes]\ntool = ["loan"]\n[[steps]]', 1), "there is no tool 'loan'"),
    "a step": (MINE.replace('makes = ["wish"]\n', 'makes = ["wish", "calls"]\n'), "a step of their own"),
    "a place": (MINE.replace("{tool_schema}", "{tool_scheme}"), "nobody fills {tool_scheme}"),
}


@pytest.mark.parametrize("case", ODD)
def test_tools_that_cannot_be_checked_are_refused_when_they_are_read(tmp_path, case):
    text, said = ODD[case]
    place = tmp_path / "bank.toml"
    place.write_text(text, encoding="utf-8")
    with pytest.raises(errors.InputError) as refused:
        read_recipe(place)
    assert said in refused.value.message


def test_an_axis_may_draw_some_of_the_tools(options):
    changed = tomllib.loads(recipe_text("tool_calls"))
    changed["plan"]["axes"]["tool"] = ["set_reminder"]
    client, _ = asking(a_caller)
    run = generate(Recipe.model_validate(changed), "bees", 3, client=client, seed=1, **options)
    assert {result["calls"][0]["name"] for result in run.results} == {"set_reminder"}
    assert all("convert_units" in result["tools"] for result in run.results)


def test_an_example_has_the_tools_that_there_were_whatever_the_recipe_says_now(options, tmp_path):
    client, _ = asking(a_caller)
    run = generate("tool_calls", "bees", 3, client=client, seed=1, **options)
    fewer = tomllib.loads(recipe_text("tool_calls"))
    fewer["fields"]["calls"]["of"] = fewer["fields"]["calls"]["of"][:1]
    generate(Recipe.model_validate(fewer), "wasps", 1, client=client, seed=1, **options)
    for row in rows_of(tmp_path, "openai", run):
        assert [tool["function"]["name"] for tool in json.loads(row["tools"])] == list(CALLS)


@pytest.mark.parametrize("name", ["preference_pairs", "reasoning", "tool_calls"])
def test_their_prompts_are_native_in_six_languages(name):
    recipe = as_recipe(name)
    texts = [step.prompt for step in (*recipe.steps, *recipe.aloud)]
    texts += [step.system for step in (*recipe.steps, *recipe.aloud) if step.system]
    assert {tuple(held) for held in texts} == {("en", "pt-BR", "es", "fr", "de", "it")}
    assert Path(f"{name}.toml").stem == recipe.name
