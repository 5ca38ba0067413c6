"""The Ollama backend against a fake server, and the official client against the same: it is the oracle for the fake."""

import asyncio

import ollama as official
import pytest
from fakes import FakeOllama, closed_port, using
from virtual import virtual_time

from cerebro_nb import GenerationOptions, Message, OllamaBackend, errors
from cerebro_nb.concurrency.loop import LOOP
from cerebro_nb.protocol.messages import ChatRequest, Usage


def ask(backend, text="how are you", model="tiny", schema=None, **options):
    request = ChatRequest(model, (Message("user", text),), GenerationOptions(**options), schema)
    return using(backend, lambda backend: backend.complete(request))


# --- the oracle


@pytest.fixture
def client(ollama):
    with official.Client(ollama.url) as opened:
        yield opened


def test_the_official_client_reads_a_chat_of_the_fake(client):
    reply = client.chat("tiny", [{"role": "user", "content": "how are you"}])
    assert (reply.message.content, reply.done, reply.done_reason) == ("echo how are you", True, "stop")
    assert (reply.prompt_eval_count, reply.eval_count, reply.eval_duration) == (3, 4, 1_000_000)


def test_the_official_client_reads_a_stream_of_the_fake(client):
    pieces = [part.message.content for part in client.chat("tiny", [{"role": "user", "content": "a b"}], stream=True)]
    assert "".join(pieces) == "echo a b" and len(pieces) == 4


def test_the_official_client_reads_lists_vectors_and_facts_of_the_fake(client):
    assert client.list().models[0].model == "tiny:latest"
    assert client.embed("embedder", ["ab", "c"]).embeddings == [[2.0, 1.0], [1.0, 1.0]]
    assert client.show("tiny").modelinfo["llama.context_length"] == 8192
    client.generate("tiny", "")
    assert client.ps().models[0].model == "tiny"
    assert client.generate("tiny", "one two").response == "echo one two"


def test_the_official_client_meets_the_fake_s_refusals(client, ollama):
    with pytest.raises(official.ResponseError, match="model 'none' not found") as missing:
        client.chat("none", [{"role": "user", "content": "x"}])
    assert missing.value.status_code == 404
    ollama.faults.append("error in stream")
    with pytest.raises(official.ResponseError, match="the model crashed"):
        list(client.chat("tiny", [{"role": "user", "content": "x"}], stream=True))


# --- our backend


def test_our_backend_and_the_official_client_read_the_same(client, ollama):
    theirs = client.chat("tiny", [{"role": "user", "content": "how are you"}], options={"num_predict": 2})
    ours = ask(OllamaBackend(ollama.url), num_predict=2)
    assert ours.text == theirs.message.content == "echo how" and ours.finish_reason == theirs.done_reason == "length"
    assert ours.usage == Usage(theirs.prompt_eval_count, theirs.eval_count)
    assert ours.timings.generate_s == theirs.eval_duration / 1e9


def test_every_option_reaches_the_server_in_the_form_the_official_client_sends(client, ollama):
    options = {"num_predict": 9, "num_ctx": 2048, "temperature": 0.1, "top_p": 0.5, "seed": 3, "stop": ["\n"]}
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    client.chat(
        "tiny", [{"role": "user", "content": "x"}], options=options, format=schema, keep_alive="5m", think=False
    )
    ask(OllamaBackend(ollama.url), "x", schema=schema, keep_alive="5m", **{**options, "stop": ("\n",)})
    (_, theirs, _), (_, ours, _) = ollama.requests
    for name in ("model", "messages", "options", "format", "keep_alive", "think"):
        assert ours[name] == theirs[name], name
    assert ours["truncate"] is False and ours["shift"] is False


def test_generate_serves_a_model_without_a_chat_template(ollama):
    request = ChatRequest("tiny", (Message("system", "Be brief."), Message("user", "one two")))
    assert using(OllamaBackend(ollama.url), lambda backend: backend.generate(request)).text == "echo one two"
    assert ollama.requests[0][1]["system"] == "Be brief."


def test_models_loading_vectors_and_facts(ollama):
    options = GenerationOptions(num_ctx=2048)

    async def look(backend):
        before = await backend.models()
        await backend.load("tiny:latest", options)
        await backend.complete(ChatRequest("tiny:latest", (Message("user", "x"),), options))
        vectors = await backend.embed("embedder", ["ab", "c"], options)
        return before, await backend.models(), await backend.show("tiny"), await backend.version(), vectors

    before, after, facts, version, vectors = using(OllamaBackend(ollama.url), look)
    assert [info.loaded for info in before] == [False, False] and after[0].loaded
    assert after[0].digest == "0" * 64 and after[1].capabilities == ("embedding",)
    assert facts.context_length == 8192 and "completion" in facts.capabilities and version == "0.33.0"
    assert ollama.reloads == 1, "loading and calling must send the same options"
    assert vectors.vectors == ((2.0, 1.0), (1.0, 1.0)) and vectors.usage.prompt_tokens == 2


def test_a_missing_model_names_those_that_are_there_and_how_to_pull(ollama):
    with pytest.raises(errors.ModelNotFound, match="it has: tiny:latest") as missing:
        ask(OllamaBackend(ollama.url), model="none")
    assert missing.value.details["models"] == ["tiny:latest", "embedder:latest"]
    assert missing.value.hint == "Pull it: ollama pull none"
    for look in (lambda backend: backend.load("none", GenerationOptions()), lambda backend: backend.show("none")):
        with pytest.raises(errors.ModelNotFound):
            using(OllamaBackend(ollama.url), look)


def test_a_prompt_over_the_context_is_refused_not_cut(ollama):
    with pytest.raises(errors.ContextExceeded):
        ask(OllamaBackend(ollama.url), "word " * 100, num_ctx=50)


FAULTS = [
    ((500, {}, '{"error": "boom"}'), errors.ServerFailed, "transient"),
    ((503, {"retry-after": "2"}, '{"error": "busy"}'), errors.ServerBusy, "pressure"),
    ((429, {"retry-after": "2"}, "{}"), errors.RateLimited, "pressure"),
    ((429, {}, ""), errors.RateLimited, "pressure"),
    ((408, {}, ""), errors.ServerFailed, "transient"),
    ((502, {"content-type": "text/html"}, "<h1>Bad gateway</h1>"), errors.ServerFailed, "transient"),
    ((401, {}, "unauthorized"), errors.AuthenticationFailed, "never"),
    ((403, {}, ""), errors.AuthenticationFailed, "never"),
    ((400, {}, '{"error": "invalid option"}'), errors.BadRequest, "never"),
    ((404, {"content-type": "text/html"}, "<h1>Not found</h1>"), errors.WrongAddress, "never"),
    ((301, {"location": "https://elsewhere"}, ""), errors.WrongAddress, "never"),
    ("html", errors.InvalidResponse, "transient"),
    ("not json", errors.InvalidResponse, "transient"),
    ("empty", errors.StreamCut, "transient"),
    ("cut json", errors.InvalidResponse, "transient"),
    ("cut stream", errors.StreamCut, "transient"),
    ("broken connection", errors.ConnectionBroken, "broken"),
    ("reset", errors.ConnectionBroken, "broken"),
    ("error in stream", errors.ServerFailed, "transient"),
]


@pytest.mark.parametrize(
    ("fault", "kind", "retry"), FAULTS, ids=lambda value: getattr(value, "__name__", str(value)[:20])
)
def test_each_fault_is_one_error_of_ours(ollama, fault, kind, retry):
    ollama.faults.append(fault)
    with pytest.raises(errors.BackendError) as failed:
        ask(OllamaBackend(ollama.url))
    assert type(failed.value) is kind and failed.value.retry == retry and failed.value.hint
    if isinstance(fault, tuple) and "retry-after" in fault[1]:
        assert failed.value.details["retry_after_s"] == 2.0
    assert "<h1>" not in str(failed.value)


@pytest.mark.parametrize("fault", ["cut stream", "broken connection", "error in stream", "stall"])
def test_the_text_that_had_arrived_is_kept(ollama, fault):
    ollama.faults.append(fault)
    with virtual_time(left_s=0) as loop, pytest.raises(errors.BackendError) as failed:
        ollama.when_stuck = lambda: loop.give(30)
        ask(OllamaBackend(ollama.url), timeout_s=30)
    assert failed.value.details["partial_text"] == "Once upon a time"


def test_a_server_that_says_nothing_is_given_up_in_time(ollama):
    ollama.faults.append("hang")
    with virtual_time(left_s=0) as loop, pytest.raises(errors.RequestTimeout, match=r"within 7\.5 s"):
        ollama.when_stuck = lambda: loop.give(60)
        ask(OllamaBackend(ollama.url), timeout_s=7.5)


def test_nobody_there(ollama):
    with pytest.raises(errors.ConnectionFailed, match="nobody answers at"):
        ask(OllamaBackend(f"http://127.0.0.1:{closed_port()}"))


def test_a_cancelled_call_frees_the_slot():
    with FakeOllama(seconds=3600, slots=1) as server:
        backend = OllamaBackend(server.url)

        async def cancel():
            call = asyncio.create_task(backend.complete(ChatRequest("tiny", (Message("user", "x"),))))
            assert await asyncio.to_thread(server.request_arrived.wait, 60)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await asyncio.to_thread(server.client_left.wait, 60)
            await backend.aclose()

        LOOP.run(cancel())
        assert server.in_flight == 0


def test_a_key_is_sent_from_the_environment_and_is_in_no_error(ollama, monkeypatch):
    monkeypatch.setenv("OLLAMA_API_KEY", "sk-planted")
    ollama.faults.append((401, {}, "no"))
    with pytest.raises(errors.AuthenticationFailed) as refused:
        ask(OllamaBackend(ollama.url))
    assert ollama.requests[0][2]["authorization"] == "Bearer sk-planted"
    assert "sk-planted" not in f"{refused.value} {refused.value.details}"


def test_any_text_can_be_sent(ollama):
    odd = "NUL \x00, lone \ud800, emoji 🙂, line\u2028separator"
    assert ask(OllamaBackend(ollama.url), odd).text == f"echo {odd}"
