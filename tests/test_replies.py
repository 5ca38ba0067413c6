"""What a server says: whatever it is, an item fails alone, and its answer is its answer."""

import asyncio
import json

import httpx
import pytest
from fakes import FakeOllama, FakeOpenAI, using
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from virtual import virtual_time

from cerebro_nb import (
    Client,
    GenerationOptions,
    Ledger,
    Message,
    OllamaBackend,
    OpenAIBackend,
    ScriptedBackend,
    call_llm,
    errors,
    process_in_batches,
)
from cerebro_nb.client.schemas import grammar_pattern
from cerebro_nb.client.structured import parse_reply
from cerebro_nb.concurrency.loop import LOOP
from cerebro_nb.protocol.answers import PartialAnswer
from cerebro_nb.protocol.events import openai_event
from cerebro_nb.protocol.http import HttpDoor
from cerebro_nb.protocol.messages import ChatRequest, Reply, Timings, Usage
from cerebro_nb.protocol.thoughts import ThoughtSplitter, answer_and_thoughts

GOOD = {
    "ollama": {"model": "tiny", "message": {"content": "fine"}, "done": True, "done_reason": "stop", "eval_count": 1},
    "openai": {"model": "tiny", "choices": [{"delta": {"content": "fine"}, "finish_reason": "stop"}], "usage": {}},
}


def line(kind, event):
    text = json.dumps(event)
    return (text if kind == "ollama" else f"data: {text}\n").encode() + b"\n"


def server(kind, body, content_type):
    """Return a client of a server that answers poison with a body and all else well."""

    def answer(request):
        path = request.url.path
        if path in ("/api/chat", "/v1/chat/completions"):
            poisoned = b"poison" in request.content
            return httpx.Response(
                200, content=body if poisoned else line(kind, GOOD[kind]), headers={"content-type": content_type}
            )
        known = {
            "/api/show": {"capabilities": ["completion"]},
            "/api/generate": {"done": True},
            "/api/tags": {"models": [{"name": "tiny"}]},
            "/v1/models": {"data": [{"id": "tiny"}]},
        }
        return httpx.Response(200, json=known.get(path, {}))

    opened = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    backend = (OllamaBackend if kind == "ollama" else OpenAIBackend)("http://odd.test", opened)
    return Client(backend, "tiny")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def places(value, path=()):
    """Return the paths of all the values within a JSON value."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield from places(one, (*path, name))


def changed(value, path, other):
    if not path:
        return other
    copied = value.copy()
    copied[path[0]] = changed(value[path[0]], path[1:], other)
    return copied


@st.composite
def bodies(draw, kind):
    """Bytes of any kind, or a good reply in which one value is any other."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
    event = changed(GOOD[kind], draw(st.sampled_from(list(places(GOOD[kind])))), draw(json_values))
    return line(kind, event) * draw(st.integers(1, 2))


@pytest.mark.parametrize("kind", ["ollama", "openai"])
def test_whatever_a_server_sends_only_that_item_fails_and_its_reply_is_kept(kind, quick, tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path}/any.db")
    once = quick.replace(max_attempts=1)

    @settings(max_examples=60)
    @given(bodies(kind), st.sampled_from(["application/x-ndjson", "text/event-stream", "application/json", ""]))
    def anything(body, content_type):
        client = server(kind, body, content_type)
        run = process_in_batches(["poison", "good"], "{item}", once, client=client, ledger=ledger, show_progress=False)
        first, second = ledger.items(run.task_id)
        assert second["status"] == "ok" and second["output"] == "fine"
        assert run.progress.status == "completed" and run.progress.ok + run.progress.failed == 2
        assert first["status"] == "ok" or issubclass(
            getattr(errors, first["error"]["type"]), errors.BackendError | errors.OutputError
        )
        assert first["status"] == "failed" or first["output"].strip()
        if first["status"] == "failed" and first["error"]["type"] == "InvalidResponse":
            assert "raw" in first["error"]["details"]
        run.df.to_string()
        LOOP.run(client.aclose())

    anything()
    ledger.close()


@pytest.mark.parametrize("kind", ["ollama", "openai"])
@pytest.mark.parametrize(
    "path", [("usage",), ("usage", "completion_tokens"), ("model",), ("eval_count",), ("timings",)]
)
def test_what_only_informs_costs_no_answer(kind, path):
    for odd in (None, [1], "many", -1, 10**30, {"a": 1}, float("nan")):
        event = {**GOOD[kind], path[0]: odd if len(path) == 1 else {path[1]: odd}}
        reply = call_llm("poison", client=server(kind, line(kind, event), "text/event-stream"))
        assert reply.text == "fine" and reply.usage.completion_tokens in (None, 1)


BODIES = {
    "an end without a reason": line("openai", {"choices": [{"delta": {"content": "fine"}}]}) + b"data: [DONE]\n\n",
    "one body": json.dumps({"choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}]}).encode(),
    "one body on many lines": json.dumps({"choices": [{"message": {"content": "fine"}}]}, indent=1).encode(),
    "parts": line(
        "openai", {"choices": [{"delta": {"content": [{"type": "text", "text": "fine"}]}, "finish_reason": "stop"}]}
    ),
    "comments and other fields": b": hi\r\n\r\nevent: message\r\nid: 7\r\n" + line("openai", GOOD["openai"]),
    "a null delta": line("openai", {"choices": [{"delta": None}]}) + line("openai", GOOD["openai"]),
}


@pytest.mark.parametrize("body", BODIES)
def test_forms_of_an_answer_that_servers_send_are_read(body):
    kind = "application/json" if "body" in body else "text/event-stream"
    reply = call_llm("poison", client=server("openai", BODIES[body], kind))
    assert (reply.text, reply.finish_reason) == ("fine", "stop")


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thinking_that_a_server_tells_apart_is_kept_apart(name):
    events = [{"choices": [{"delta": {name: "hm "}}]}, {"choices": [{"delta": {name: "so", "content": ""}}]}]
    told = call_llm(
        "poison", client=server("openai", b"".join(line("openai", one) for one in [*events, GOOD["openai"]]), "")
    )
    assert (told.text, told.thinking) == ("fine", "hm so")
    told = call_llm(
        "poison",
        client=server(
            "ollama", line("ollama", {"message": {"thinking": "hm so"}}) + line("ollama", GOOD["ollama"]), ""
        ),
    )
    assert (told.text, told.thinking) == ("fine", "hm so")


def reply(text, finish_reason="stop", thinking=""):
    return Reply(text, finish_reason, Usage(1, 1), Timings(0.1), "tiny", "scripted", thinking=thinking)


NO_ANSWERS = [
    (reply(""), errors.EmptyOutput),
    (reply(" \n\t"), errors.EmptyOutput),
    (reply("", "tool_calls"), errors.EmptyOutput),
    (reply("", thinking="I think of it"), errors.EmptyOutput),
    (reply("", "length", "I think of"), errors.OutputTruncated),
    (reply("", "load"), errors.ServerFailed),
]


@pytest.mark.parametrize(("odd", "kind"), NO_ANSWERS)
def test_a_reply_that_is_no_answer_is_asked_again_and_kept(odd, kind, quick, tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path}/runs.db")
    client = Client(ScriptedBackend([odd, "fine"]))
    run = process_in_batches(["a"], "{item}", quick, client=client, ledger=ledger, show_progress=False)
    first, second = ledger.attempts(run.task_id)
    assert run.results == ["fine"] and first["error"]["type"] == kind.__name__ and second["error"] is None
    assert first["reply"]["thinking"] == odd.thinking
    ledger.close()


# --- thoughts

SPELLINGS = [
    "<think>{}</think>",
    "<THINK>{}</THINK>",
    "[THINK]{}[/THINK]",
    "<seed:think>{}</seed:think>",
    "◁think▷{}◁/think▷",
    "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>",
    "{}</think>",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
@given(data=st.data())
@settings(max_examples=40)
def test_a_thought_cut_anywhere_is_told_from_the_answer(spelling, data):
    text = spelling.format("\nFirst a draft: Lyon?\n") + "\n\nIt is Paris."
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    splitter = ThoughtSplitter()
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        splitter.add(text[start:end])
    answer, thoughts = splitter.whole()
    assert answer == "It is Paris." and "Lyon" in thoughts and "Paris" not in thoughts


@given(st.text(st.characters(exclude_characters="<[◁|/"), max_size=80).filter(lambda text: text.strip()))
def test_a_text_without_marks_is_left_alone(text):
    assert answer_and_thoughts(text) == (text, "")


def test_what_an_answer_says_about_thoughts_is_no_thought():
    for text in (
        '{"question": "Which mark ends a thought?", "answer": "It is </think>."}',
        "The marks `<think>` and `</think>` stand around it.",
        "It ends with `</think>`.",
    ):
        assert answer_and_thoughts(text) == (text, "")


# --- objects


class Pair(BaseModel):
    question: str
    answer: str


@given(st.text(max_size=60), st.text(max_size=60), st.data())
def test_an_object_that_was_cut_anywhere_is_never_taken(question, answer, data):
    text = json.dumps({"question": question, "answer": answer}, ensure_ascii=data.draw(st.booleans()))
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    for around in (cut, f"Here it is:\n```json\n{cut}\n```", f"[{cut}"):
        with pytest.raises(errors.InvalidOutput):
            parse_reply(reply(around), Pair)


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40),
    st.sampled_from(["{}", "```json\n{}\n```", "Sure, {{a pair}}:\n{}\nDone.", "[{}]", '{{"pair": {}}}', "{{\n{}"]),
)
def test_what_is_wrapped_around_an_object_is_taken_off(text, wrapping):
    given_pair = {"question": text, "answer": "Because."}
    parsed = parse_reply(reply(wrapping.format(json.dumps(given_pair))), Pair)
    assert parsed.model_dump() == given_pair


def test_of_several_objects_none_is_guessed():
    pair = {"question": "Why?", "answer": "Because."}
    twice = json.dumps(pair) + json.dumps({**pair, "question": "How?"})
    with pytest.raises(errors.InvalidOutput, match="holds several of them"):
        parse_reply(reply(twice), Pair)
    assert parse_reply(reply(json.dumps(pair) * 2), Pair).question == "Why?"


def test_an_object_in_the_thinking_is_read_only_if_it_is_all_of_it():
    text = '{"question": "Why?", "answer": "Because."}'
    assert parse_reply(reply("", thinking=text), Pair).answer == "Because."
    with pytest.raises(errors.InvalidOutput):
        parse_reply(reply("", thinking=f"Maybe {text}? No."), Pair)


@pytest.mark.parametrize("text", ["[" * 100_000, "{" * 100_000, '{"a":' * 50_000, '"' * 100_000])
def test_a_deep_or_odd_text_is_read_in_no_time(text):
    with pytest.raises(errors.InvalidOutput):
        parse_reply(reply(text), Pair)


def test_an_answer_too_long_to_be_shown_again_is_not(quick, tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path}/runs.db")
    with FakeOllama(lambda payload: "x" * 100_000) as ollama:
        client = Client(OllamaBackend(ollama.url), "tiny")
        run = process_in_batches(["a"], "{item}", quick, response_model=Pair, client=client, ledger=ledger)
        LOOP.run(client.aclose())
    assert run.errors[0]["type"] == "InvalidOutput" and run.progress.retried == quick.max_attempts - 1
    ledger.close()


# --- patterns


PATTERNS = [
    r"^\d{3}-\d{2}$",
    r"[A-Z]{2}\d",
    r"^\w{2,4}\s\w+$",
    r"^(?:yes|no)$",
    r"^[^a-c]+$",
    r"^.{3,9}$",
    r"^a+?b*$",
    r"^[\d.]+$",
]


@pytest.mark.parametrize("pattern", PATTERNS)
@given(data=st.data())
@settings(max_examples=30)
def test_a_pattern_for_grammars_allows_nothing_that_the_given_one_refuses(pattern, data):
    import re

    text = data.draw(st.from_regex(re.compile(grammar_pattern(pattern), re.ASCII), fullmatch=True))
    assert re.search(pattern, text.rstrip("\n")) and json.loads(f'"{text.rstrip(chr(10))}"') is not None


@given(st.text(max_size=30))
def test_any_pattern_is_said_in_simple_words_or_not_at_all(pattern):
    import re

    said = grammar_pattern(pattern)
    if said is not None:
        assert said.startswith("^") and said.endswith("$") and re.compile(said)
        assert not re.search(r"\\[dDwWsSbB0-9]|\(\?", said)


def test_the_pattern_of_a_recipe_is_told_to_servers():
    from cerebro_nb.client.schemas import json_schema
    from cerebro_nb.recipes.fields import answer_model
    from cerebro_nb.recipes.recipe import Recipe

    recipe = Recipe(
        name="dates",
        fields={"day": {"pattern": r"^\d{4}-\d\d$"}, "words": {"type": "list"}},
        steps=[{"prompt": "Write."}],
    )
    form = answer_model(recipe.name, recipe.fields)
    assert json_schema(form)["properties"]["day"]["pattern"] == "^[0-9]{4}-[0-9][0-9]$"


# --- keys


def test_a_short_key_is_a_word_like_others_and_a_long_one_is_taken_out_of_refusals(monkeypatch):
    with FakeOpenAI(lambda payload: "ollama runs; the list is EMPTY; sk-long-planted-key") as server:
        request = ChatRequest("tiny", (Message("user", "x"),), GenerationOptions())
        for key in ("ollama", "EMPTY", "test", "1", "sk-long-planted-key"):
            monkeypatch.setenv("CEREBRO_API_KEY", key)
            reply = using(OpenAIBackend(server.url), lambda backend: backend.complete(request))
            assert reply.text == "ollama runs; the list is EMPTY; sk-long-planted-key"
        server.faults.append((500, {}, "EMPTY sk-long-planted-key"))
        with pytest.raises(errors.ServerFailed, match=r"EMPTY \*\*\*"):
            using(OpenAIBackend(server.url), lambda backend: backend.complete(request))


def test_a_password_in_an_address_is_a_header_and_nowhere_else():
    door = HttpDoor("http://bob:s3cret-planted@gpu-1:8000")
    assert "s3cret" not in door.base_url and door.redact("said s3cret-planted") == "said ***"
    with FakeOllama() as ollama:
        backend = OllamaBackend(ollama.url.replace("http://", "http://bob:s3cret-planted@"))
        client = Client(backend, "tiny")
        assert "s3cret" not in json.dumps(LOOP.run(client.manifest())) + repr(client)
        assert call_llm("x", client=client).text == "echo x"
        assert ollama.requests[-1][2]["authorization"].startswith("Basic ")
        LOOP.run(client.aclose())


# --- what a reviewer would try


@pytest.mark.parametrize("pieces", [1, 3, 100])
def test_letters_that_change_their_length_shift_no_answer(pieces):
    text = "<think>İİİİ İstanbul</THINK>Merhaba dünya"
    splitter = ThoughtSplitter()
    for start in range(0, len(text), pieces):
        splitter.add(text[start : start + pieces])
    assert splitter.whole() == ("Merhaba dünya", "İİİİ İstanbul")


@pytest.mark.parametrize("text", ["\n<think>a</think>b" * 60_000, "\n<think>a" * 100_000, "<think>" + "x" * 1_000_000])
def test_many_marks_are_read_once(text):
    answer, thoughts = answer_and_thoughts(text)
    assert len(answer) + len(thoughts) <= len(text) + 1


def test_a_sentence_about_a_mark_is_no_thought():
    text = "Write </think> where the thought ends."
    assert answer_and_thoughts(text) == (text, "")


def test_many_objects_are_refused_at_the_second():
    with pytest.raises(errors.InvalidOutput, match="several"):
        parse_reply(reply("".join(f'{{"question": "{n}", "answer": "a"}}' for n in range(4_000))), Pair)


def test_a_text_or_nothing_stays_so_where_its_pattern_cannot_be_told():
    from typing import Annotated

    from pydantic import Field

    from cerebro_nb.client.schemas import json_schema

    class Maybe(BaseModel):
        word: Annotated[str, Field(pattern=r"(?i)^yes$")] | None = None

    forms = json_schema(Maybe)["properties"]["word"]["anyOf"]
    assert forms == [{"type": "string"}, {"type": "null"}]


def test_a_range_over_the_quotation_mark_is_no_pattern_for_a_grammar():
    assert grammar_pattern("^[ -~]+$") is None and grammar_pattern("^[a-z]+$") == "^[a-z]+$"


def test_a_key_that_a_server_repeats_is_in_no_message(monkeypatch):
    key = "sk-long-planted-key"
    monkeypatch.setenv("CEREBRO_API_KEY", key)
    said = [
        line("openai", {"error": {"message": f"bad key {key}"}}),
        f"data: no JSON but {key}\n\n".encode(),
        line("openai", {"choices": [f"{key}"]}),
    ]
    for body in said:
        with pytest.raises(errors.BackendError) as failed:
            call_llm("poison", client=server("openai", body, "text/event-stream"))
        assert key not in str(failed.value) + repr(failed.value.args) + json.dumps(failed.value.details)


HALVES = [
    '{"question":"Why?","answer":"Say "yes", "no": "maybe"."}',
    '{"question":"Why?","answer":"Call f("a", "b": 1)","tags":["x"]}',
    '{"question":"Why?","answer":}',
    '{"question":"Why?","answer":,}',
    '{"draft":{"question":"Q","answer":"WRONG"},"final":{"question":"Q","answer":"right"}}',
    'Draft: {"question":"Q","answer":"WRONG"} Final: {"question":"Q","answer":7}',
    'Like {"question":"...","answer":"..."}: [1, 2',
    '[{"question":"Q","answer":"A"},',
]


@pytest.mark.parametrize("text", HALVES)
def test_half_a_text_or_a_guess_is_never_an_answer(text):
    with pytest.raises(errors.InvalidOutput):
        parse_reply(reply(text), Pair)


@pytest.mark.parametrize(
    "text",
    [
        "{question: 'Why?', 'answer': 'Because.',}",
        "{'question': \"Why?\", 'answer': 'Because.'}",
        "{“question”: “Why?”, “answer”: “Because.”}",
        '{"question": "Why?", "answer": "Because.",\n}',
    ],
)
def test_small_slips_around_whole_texts_are_mended(text):
    assert parse_reply(reply(text), Pair) == Pair(question="Why?", answer="Because.")


@pytest.mark.parametrize("reason", ["error", "abort", "insufficient_system_resource", "cancelled", "content_filter"])
def test_an_answer_that_the_server_broke_off_is_asked_again(reason):
    event = {"choices": [{"delta": {"content": "The first half of"}, "finish_reason": reason}]}
    with pytest.raises(errors.ServerFailed, match=reason):
        call_llm("poison", client=server("openai", line("openai", event), "text/event-stream"))


@pytest.mark.parametrize("reason", ["max_tokens", "MAX_TOKENS", "model_context_window_exceeded"])
def test_an_answer_that_was_cut_has_one_word_for_it(reason):
    event = {"choices": [{"delta": {"content": "The first half of"}, "finish_reason": reason}]}
    told = call_llm("poison", client=server("openai", line("openai", event), "text/event-stream"))
    assert told.finish_reason == "length"


@pytest.mark.parametrize(
    "text", ["\u200b\ufeff", "\u00ad", "\u3164\u2800", "\u202e", "</s>", "<|eot_id|><|eot_id|>", "<end_of_turn>"]
)
def test_an_answer_in_which_nothing_is_seen_is_none(text):
    with pytest.raises(errors.EmptyOutput):
        call_llm("x", client=Client(ScriptedBackend([text])))


AFTER = [
    (b"", "nothing"),
    (b": ping\n\n" * 3, "pings"),
    (line("openai", {"choices": [{"delta": {"content": " and more"}}]}), "text"),
    (b"data: {odd\n\n", "an odd event"),
    (line("openai", {"error": {"message": "too late"}}), "an error"),
]


@pytest.mark.parametrize(("after", "what"), AFTER)
def test_what_comes_after_the_end_of_an_answer_takes_nothing_back(after, what):
    told = call_llm("poison", client=server("openai", line("openai", GOOD["openai"]) + after, "text/event-stream"))
    assert told.text == "fine", what


def test_a_connection_that_stays_open_after_the_end_costs_no_answer():
    async def answered():
        answer = PartialAnswer(ChatRequest("tiny", (Message("user", "x"),), GenerationOptions()), "openai")

        async def lines():
            yield [line("openai", GOOD["openai"]).decode()]
            await asyncio.sleep(3600)

        async with answer:
            return await answer.read(lines(), openai_event)

    with virtual_time():
        assert LOOP.run(answered()).text == "fine"


def test_only_the_first_choice_is_the_answer_and_a_mark_before_it_loses_nothing():
    body = "\ufeff".encode() + line("openai", {"choices": [{"index": 0, "delta": {"content": "fine"}}]})
    body += line("openai", {"choices": [{"index": 1, "delta": {"content": "No sir"}}]})
    body += line(
        "openai", {"choices": [{"index": 0, "delta": {}, "message": {"content": "fine"}, "finish_reason": "stop"}]}
    )
    assert call_llm("poison", client=server("openai", body, "text/event-stream")).text == "fine"


def test_a_reply_of_brackets_is_refused_before_it_becomes_objects():
    body = json.dumps({"message": {"content": "x"}, "done": True, "z": [{}] * 200_000}).encode()
    with pytest.raises(errors.InvalidResponse):
        call_llm("poison", client=server("ollama", body, "application/json"))


@pytest.mark.parametrize("body", ['{"object":"error","message":"overloaded"}', '{"detail":"overloaded"}'])
def test_an_error_of_another_form_with_200_is_told_in_its_words(body):
    with pytest.raises(errors.ServerFailed, match="overloaded"):
        call_llm("poison", client=server("openai", body.encode(), "application/json"))


THOUGHTS = [
    ("<|START_THINKING|>Lyon?<|END_THINKING|>Paris", "Paris"),
    ("\u200b\xa0<think>Lyon?</think>Paris", "Paris"),
    ("Lyon?\n</think>\nNice?\n</think>\nParis", "Paris"),
    ("<|channel|>analysis<|message|>hm<|end|><|start|>final <|constrain|>json<|message|>{}", "{}"),
    ("<|start|>assistant<|channel|>analysis<|message|>hm<|channel|>final<|message|>{}", "{}"),
    ("In R1 the reasoning ends at </think> and then the answer follows.", None),
    ("As in\n```\n<think>\n2+2\n</think>\n```\nthere.", None),
    ("The end of a turn is <|im_end|>", None),
    ("<reasoning>so</reasoning><answer>yes</answer>", None),
]


@pytest.mark.parametrize(("text", "answer"), THOUGHTS)
def test_a_thought_is_told_from_a_text_about_thoughts(text, answer):
    assert answer_and_thoughts(text)[0] == (text if answer is None else answer)


@pytest.mark.parametrize("text", ["{x} " * 40_000, "{'a': (1} " * 10_000, "```\n" + "\n<think>a" * 100_000])
def test_many_odd_things_are_read_in_no_time(text):
    with pytest.raises(errors.InvalidOutput):
        parse_reply(reply(text), Pair)
