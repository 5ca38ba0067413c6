"""One call: which backend, how it is retried, and the repair of answers."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field
from simulated import SimulatedServer
from virtual import virtual_time

from cerebro_nb import Client, Message, OllamaBackend, ScriptedBackend, acall_llm, call_llm, errors, load_settings
from cerebro_nb.client.choosing import choose_backend
from cerebro_nb.client.schemas import json_schema
from cerebro_nb.client.structured import parse_reply
from cerebro_nb.concurrency.loop import LOOP
from cerebro_nb.concurrency.retries import RetryPolicy
from cerebro_nb.protocol.messages import LoadedModel, Reply, Timings, Usage


class Pair(BaseModel):
    model_config = ConfigDict(extra="forbid")
    question: str = Field(max_length=200)
    answer: str = Field(max_length=200)


GOOD = '{"question":"Why?","answer":"Because."}'


@pytest.fixture
def clock():
    """Let the waits between tries pass at once."""
    with virtual_time() as loop:
        yield loop


@pytest.fixture
def on_fake(ollama):
    client = Client(OllamaBackend(ollama.url), "tiny")
    yield client
    LOOP.run(client.aclose())


def chosen(**arguments):
    async def choose():
        backend = await choose_backend(load_settings(**arguments))
        await backend.aclose()
        return backend

    return LOOP.run(choose())


def test_the_rule_named_else_an_ollama_with_a_model(ollama, openai, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", ollama.url)
    assert (chosen().name, chosen().base_url) == ("ollama", ollama.url)
    ollama.models.clear()
    assert chosen(backend="ollama").name == "ollama"
    assert chosen(backend="embedded", base_url=openai.url).name == "embedded"
    assert chosen(base_url=openai.url).name == "openai"


def test_a_base_url_of_an_ollama_is_known_as_one(ollama):
    assert chosen(base_url=ollama.url).name == "ollama"


def test_without_a_model_the_loaded_one_is_taken_and_never_an_embedder(ollama):
    ollama.models[:] = ["first:latest", "second:latest", "embedder:latest"]
    ollama.loaded = {"second:latest": 4096}
    client = Client(OllamaBackend(ollama.url))
    assert client and LOOP.run(client.aprepare()) == "second:latest"
    LOOP.run(client.aclose())


def test_one_model_load_serves_all_calls_of_a_context_size(on_fake, ollama):
    for _ in range(3):
        call_llm("x", client=on_fake)
    assert [path for path, _, _ in ollama.requests].count("/api/generate") == 1 and ollama.reloads == 1


def test_defaults_of_a_call_are_those_of_the_design_note(on_fake, ollama):
    call_llm("x", "be brief", client=on_fake, is_training=True)
    sent = ollama.requests[-1][1]
    assert sent["options"] == {"num_predict": 800, "num_ctx": 2048, "temperature": 0.7}
    assert sent["messages"][0] == {"role": "system", "content": "be brief"}
    assert load_settings({}).generation.timeout_s == 30 and load_settings({}).profile("synthetic").timeout_s == 25


def test_what_may_pass_is_tried_again_outside_a_run(clock):
    def broken():
        return errors.ConnectionFailed("the connection broke")

    def busy():
        return errors.ServerBusy("try again", retry_after_s=20)

    server = SimulatedServer(1, 1.0, faults=[broken, busy])
    assert call_llm("x", client=Client(server, "tiny")).text == "echo x"
    _, second, third = server.calls
    assert second.sent_at <= RetryPolicy().backoff_s and third.sent_at == pytest.approx(second.ended_at + 20)
    with pytest.raises(errors.ConnectionFailed):
        call_llm("x", client=Client(SimulatedServer(faults=[broken] * 3), "tiny"))


def test_pieces_arrive_as_they_are_written(on_fake):
    pieces = []
    reply = call_llm("one two three", client=on_fake, on_text=pieces.append)
    assert len(pieces) == 4 and "".join(pieces) == reply.text and reply.timings.first_token_s <= reply.timings.total_s


@pytest.mark.parametrize("prompt", ["", "  \n", [Message("user", "")]])
def test_an_empty_prompt_is_refused(prompt):
    with pytest.raises(errors.InputError, match="empty"):
        call_llm(prompt, backend=ScriptedBackend(["x"]))


def test_the_sync_face_on_our_own_loop_says_what_to_do():
    async def wrong():
        return call_llm("x", backend=ScriptedBackend(["x"]))

    with pytest.raises(errors.InputError, match="acall_llm"):
        LOOP.run(wrong())


def test_many_loops_share_a_client(on_fake):
    async def ask():
        return (await acall_llm("x", client=on_fake)).text

    assert [asyncio.run(ask()) for _ in range(3)] == ["echo x"] * 3


# --- structured output


def reply(text, reason="stop"):
    return Reply(text, reason, Usage(1, 5), Timings(0.1), "tiny", "scripted")


def test_the_schema_is_sent_and_the_answer_checked(ollama, on_fake):
    ollama.answer = lambda payload: GOOD
    assert call_llm("x", client=on_fake, response_model=Pair).parsed == Pair(question="Why?", answer="Because.")
    assert ollama.requests[-1][1]["format"] == json_schema(Pair)


def test_the_ladder_lenient_then_one_re_ask_then_retries(clock):
    scripted = ScriptedBackend(["```json\n{'question': 'Why?', answer: 'Because.'}\n```"])
    assert (
        call_llm("x", backend=scripted, response_model=Pair).parsed.answer == "Because." and len(scripted.requests) == 1
    )
    scripted = ScriptedBackend(["no", "no", "no", GOOD])
    assert call_llm("x", backend=scripted, response_model=Pair).parsed.question == "Why?"
    assert [len(request.messages) for request in scripted.requests] == [1, 3, 1, 3]
    scripted = ScriptedBackend(["never"])
    with pytest.raises(errors.InvalidOutput) as refused:
        call_llm("x", backend=scripted, response_model=Pair)
    assert refused.value.details["text"] == "never" and len(scripted.requests) == 6


def test_an_answer_cut_short_is_not_mended_into_a_whole_one(clock):
    cut = ScriptedBackend([reply('{"question": "Why?", "answer": "Because it', "length")])
    with pytest.raises(errors.OutputTruncated) as refused:
        call_llm("x", backend=cut, response_model=Pair, max_tokens=3)
    assert refused.value.details["text"].startswith('{"question"')


@given(
    st.text(max_size=50),
    st.text(max_size=50),
    st.sampled_from(["{}", "```json\n{}\n```", "Sure! Here:\n{}", "{} Done."]),
)
def test_an_object_in_any_wrapping_is_the_same_object_or_refused(question, answer, wrapping):
    pair = Pair(question=question, answer=answer)
    try:
        assert parse_reply(reply(wrapping.replace("{}", pair.model_dump_json())), Pair) == pair
    except errors.InvalidOutput as refused:
        assert refused.details["text"] and wrapping != "{}"


@given(st.text(max_size=200))
def test_any_text_is_an_object_or_an_error_of_ours(text):
    try:
        assert isinstance(parse_reply(reply(text), Pair), Pair)
    except errors.InvalidOutput as refused:
        assert refused.details["text"] == text


def test_nested_models_are_sent_without_references():
    class Inner(BaseModel):
        title: str

    class Outer(BaseModel):
        inner: Inner
        more: list[Inner] = []

    schema = json_schema(Outer)
    assert "$ref" not in json.dumps(schema) and schema["properties"]["inner"]["properties"]["title"] == {
        "type": "string"
    }

    class Chain(BaseModel):
        following: "Chain | None" = None

    with pytest.raises(errors.InputError, match="contains itself"):
        json_schema(Chain)


def test_no_more_requests_are_in_flight_than_the_server_has_slots():
    class TwoSlots(SimulatedServer):
        async def load(self, model, options):
            return LoadedModel(slots=2)

    server = TwoSlots(8, 1.0)
    client = Client(server, "tiny")

    async def many():
        await asyncio.gather(*(acall_llm("x", client=client) for _ in range(10)))

    with virtual_time() as loop:
        LOOP.run(many())
        assert server.most_present == 2 and loop.time() == 5
