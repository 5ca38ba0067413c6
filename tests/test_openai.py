"""The OpenAI backend against a fake server and the embedded engine, and the official client against both."""

import openai as official
import pytest
from fakes import using
from virtual import virtual_time

from cerebro_nb import EmbeddedBackend, GenerationOptions, Message, OpenAIBackend, errors
from cerebro_nb.protocol.messages import ChatRequest, Usage

TURNS = [{"role": "user", "content": "how are you"}]


def ask(backend, text="how are you", model="tiny", schema=None, **options):
    request = ChatRequest(model, (Message("user", text),), GenerationOptions(**options), schema)
    return using(backend, lambda backend: backend.complete(request))


@pytest.fixture
def client(openai):
    with official.OpenAI(base_url=f"{openai.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def test_the_official_client_reads_the_fake(client):
    whole = client.chat.completions.create(model="tiny", messages=TURNS)
    assert whole.choices[0].message.content == "echo how are you" and whole.usage.completion_tokens == 4
    stream = client.chat.completions.create(
        model="tiny", messages=TURNS, stream=True, stream_options={"include_usage": True}
    )
    events = list(stream)
    assert "".join(event.choices[0].delta.content or "" for event in events if event.choices) == "echo how are you"
    assert events[-1].usage.completion_tokens == 4
    assert [model.id for model in client.models.list()] == ["tiny"]
    embedded = client.embeddings.create(model="tiny", input=["ab", "c"], encoding_format="float")
    assert sorted(row.embedding for row in embedded.data) == [[1.0, 1.0], [2.0, 1.0]]


def test_the_official_client_meets_the_fake_s_refusals(client, openai):
    with pytest.raises(official.NotFoundError):
        client.chat.completions.create(model="none", messages=TURNS)
    openai.key = "secret"
    with pytest.raises(official.AuthenticationError):
        client.chat.completions.create(model="tiny", messages=TURNS)


def test_our_backend_and_the_official_client_read_the_same(client, openai):
    theirs = client.chat.completions.create(model="tiny", messages=TURNS, max_tokens=2)
    ours = ask(OpenAIBackend(openai.url), num_predict=2)
    assert (
        ours.text == theirs.choices[0].message.content
        and ours.finish_reason == theirs.choices[0].finish_reason == "length"
    )
    assert ours.usage == Usage(theirs.usage.prompt_tokens, theirs.usage.completion_tokens)


def test_options_reach_the_server_in_the_form_the_official_client_sends(client, openai):
    closed = {"additionalProperties": False, "required": ["a"]}
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, **closed}
    described = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
    client.chat.completions.create(
        model="tiny",
        messages=TURNS,
        max_tokens=9,
        temperature=0.1,
        top_p=0.5,
        seed=3,
        stop=["\n"],
        response_format=described,
        stream=True,
        stream_options={"include_usage": True},
    ).close()
    ask(OpenAIBackend(openai.url), schema=schema, num_predict=9, temperature=0.1, top_p=0.5, seed=3, stop=("\n",))
    (_, theirs, _), (_, ours, _) = openai.requests
    assert ours == theirs


def test_vectors_come_in_the_order_of_the_texts(openai):
    reply = using(OpenAIBackend(openai.url), lambda backend: backend.embed("tiny", ["ab", "c"], GenerationOptions()))
    assert reply.vectors == ((2.0, 1.0), (1.0, 1.0))


FAULTS = [
    ((500, {}, '{"error": {"message": "boom"}}'), errors.ServerFailed),
    ((503, {"retry-after": "2"}, ""), errors.ServerBusy),
    ((429, {"retry-after": "2"}, '{"error": {"message": "slow down"}}'), errors.RateLimited),
    ((401, {}, ""), errors.AuthenticationFailed),
    ((400, {}, '{"error": {"message": "bad", "type": "exceed_context_size_error"}}'), errors.ContextExceeded),
    ((400, {}, '{"error": {"message": "bad"}}'), errors.BadRequest),
    ("html", errors.InvalidResponse),
    ("cut stream", errors.StreamCut),
    ("empty", errors.StreamCut),
    ("cut json", errors.InvalidResponse),
    ("broken connection", errors.ConnectionBroken),
    ("reset", errors.ConnectionBroken),
    ("error in stream", errors.ServerFailed),
    ("stall", errors.RequestTimeout),
]


@pytest.mark.parametrize(("fault", "kind"), FAULTS, ids=lambda value: getattr(value, "__name__", str(value)[:20]))
def test_each_fault_is_one_error_of_ours(openai, fault, kind):
    openai.faults.append(fault)
    with virtual_time(left_s=0) as loop, pytest.raises(errors.BackendError) as failed:
        openai.when_stuck = lambda: loop.give(30)
        ask(OpenAIBackend(openai.url), timeout_s=30)
    assert type(failed.value) is kind and failed.value.hint


def test_a_missing_model_names_those_that_are_there(openai):
    with pytest.raises(errors.ModelNotFound, match="it has: tiny"):
        ask(OpenAIBackend(openai.url), model="none")


def test_the_key_comes_from_the_environment_and_goes_to_its_own_host_only(openai, monkeypatch):
    openai.key = "right"
    monkeypatch.setenv("OPENAI_API_KEY", "right")  # meant for another host
    with pytest.raises(errors.AuthenticationFailed):
        ask(OpenAIBackend(openai.url))
    assert all("authorization" not in headers for _, _, headers in openai.requests)
    monkeypatch.setenv("CEREBRO_API_KEY", "right")
    assert ask(OpenAIBackend(openai.url)).text == "echo how are you"


def test_the_official_client_and_ours_read_the_embedded_engine_alike():
    backend = EmbeddedBackend()
    ours = ask(backend, "Say hello.", model=backend.engine.model, seed=5, num_predict=12, prompt_cache=False)
    with official.OpenAI(base_url=f"{backend.engine.address}/v1", api_key=backend.engine.key, max_retries=0) as client:
        theirs = client.chat.completions.create(
            model=backend.engine.model,
            messages=[{"role": "user", "content": "Say hello."}],
            seed=5,
            max_tokens=12,
            temperature=0.7,
            extra_body={"cache_prompt": False},
        )
    assert ours.text == theirs.choices[0].message.content
    assert ours.usage == Usage(theirs.usage.prompt_tokens, theirs.usage.completion_tokens)
