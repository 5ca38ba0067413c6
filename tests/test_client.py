"""One call: which backend, how it is retried, and the repair of answers."""

import asyncio
import inspect
import json
import pydoc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field
from simulated import SimulatedServer
from virtual import virtual_time

from cerebro_nb import (
    Client,
    How,
    Message,
    OllamaBackend,
    Plan,
    Run,
    ScriptedBackend,
    Where,
    acall_llm,
    aget_client,
    call_llm,
    errors,
    get_client,
    load_settings,
    resume,
)
from cerebro_nb.batching.work import prompt_work
from cerebro_nb.client.call import GenerationArguments
from cerebro_nb.client.choosing import choose_backend
from cerebro_nb.client.client import SHARED_CLIENTS, ClientClosed
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


# --- what is taken


@pytest.mark.parametrize("twins", [(acall_llm, call_llm), (aget_client, get_client)])
def test_a_twin_has_the_whole_signature_and_says_that_it_blocks(twins):
    awaited, blocking = twins
    assert inspect.signature(awaited) == inspect.signature(blocking)
    kinds = {parameter.kind for parameter in inspect.signature(blocking).parameters.values()}
    assert not kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
    assert "block" in inspect.getdoc(blocking).splitlines()[0]
    assert (blocking.__module__, blocking.__name__) == (awaited.__module__, awaited.__name__.removeprefix("a"))


def test_help_shows_every_parameter_of_a_call_with_its_type():
    shown = pydoc.plain(pydoc.render_doc(call_llm))
    for name, kind in GenerationArguments.__annotations__.items():
        assert f"{name}: {kind.__forward_arg__!r} = None" in shown
    assert "the turns of a conversation" in shown


def test_a_misspelt_argument_is_told_by_the_name_that_was_called():
    with pytest.raises(TypeError, match=r"^call_llm\(\) got an unexpected keyword argument 'max_token'"):
        call_llm("x", max_token=3)


def test_the_sync_face_works_where_a_loop_runs(on_fake):
    async def cell():
        with Client(ScriptedBackend(["well"])) as client:
            return call_llm("x", client=client).text

    assert asyncio.run(cell()) == "well"


# --- closing


class Closing(SimulatedServer):
    """Notes when it is closed."""

    closed_at = ()

    async def aclose(self):
        self.closed_at = (*self.closed_at, asyncio.get_running_loop().time())


def test_a_client_is_closed_by_with_once_and_then_says_what_to_do(clock):
    server = Closing()
    with Client(server, "tiny") as client:
        assert call_llm("x", client=client).text == "echo x" and not server.closed_at
    client.close()
    LOOP.run(client.aclose())
    assert len(server.closed_at) == 1
    uses = (
        lambda: call_llm("x", client=client),
        lambda: LOOP.run(client.amodels()),
        lambda: LOOP.run(client.aprepare()),
        lambda: LOOP.run(client.manifest()),
        lambda: LOOP.run(client.aembed(["x"], "letters")),
    )
    for use in uses:
        with pytest.raises(ClientClosed, match=r"simulated .* is closed") as refused:
            use()
        assert "Make another one" in refused.value.hint
    assert len(server.calls) == 1


def test_a_with_that_fails_closes_too(ollama):
    with pytest.raises(ZeroDivisionError), Client(OllamaBackend(ollama.url), "tiny") as client:
        call_llm("x", client=client)
        raise ZeroDivisionError
    with pytest.raises(ClientClosed):
        call_llm("x", client=client)


def test_closing_waits_for_the_calls_under_way(clock):
    server = Closing(1, 5.0)
    client = Client(server, "tiny")

    async def scenario():
        calls = [asyncio.create_task(acall_llm(text, client=client)) for text in ("sent", "queued")]
        await asyncio.sleep(1)
        await asyncio.gather(client.aclose(), client.aclose())
        return [(await call).text for call in calls]

    assert LOOP.run(scenario()) == ["echo sent", "echo queued"] and server.closed_at == (10,)


def test_a_client_that_was_not_closed_for_impatience_can_be_closed_again(clock):
    server = Closing(1, 5.0)
    client = Client(server, "tiny")

    async def scenario():
        call = asyncio.create_task(acall_llm("x", client=client))
        await asyncio.sleep(1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.aclose(), 1)
        assert not server.closed_at
        await client.aclose()
        return (await call).text

    assert LOOP.run(scenario()) == "echo x" and server.closed_at == (5,)


def test_a_client_closed_under_a_run_ends_it_and_no_item_fails_by_it(quick, ledger, virtual):
    server = Closing(1, 5.0)
    client = Client(server, "tiny")
    options = load_settings({}).options(is_training=True, timeout_s=quick.timeout_s)
    manifest = {"prompt": "item {item}", "system_prompt": None}
    plan = Plan(range(8), prompt_work(client, "item {item}", options), manifest=manifest)
    run = Run(plan, How(quick, client, options=options), Where(ledger, show_progress=False))

    async def scenario():
        run.start()
        await asyncio.sleep(7)
        await client.aclose()
        await run

    with pytest.raises(ClientClosed, match="is closed"):
        LOOP.run(scenario())
    assert server.closed_at == (10,) and run.task.status == "failed"
    assert (run.task.ok_items, run.task.failed_items) == (2, 0)
    with Client(server, "tiny") as another:
        again = resume(run.task_id, client=another, ledger=ledger, show_progress=False)
    assert again.results == [f"echo item {n}" for n in range(8)]


def test_all_shared_clients_are_closed_at_once_and_made_anew(ollama, openai):
    def both():
        return (
            get_client(backend="ollama", base_url=ollama.url, model="tiny"),
            get_client(backend="openai", base_url=openai.url, model="tiny"),
        )

    clients = both()
    assert both() == clients
    SHARED_CLIENTS.close()
    for client in clients:
        with pytest.raises(ClientClosed):
            call_llm("x", client=client)
    assert not set(both()) & set(clients) and both() == both()
    for client in both():
        assert call_llm("x", client=client).text == "echo x"
    SHARED_CLIENTS.close()
    SHARED_CLIENTS.close()


def test_a_shared_client_closed_by_who_had_it_is_not_given_to_the_next(ollama):
    whom = {"backend": "ollama", "base_url": ollama.url, "model": "tiny"}
    with get_client(**whom) as client:
        assert call_llm("x", **whom).text == "echo x"
    assert get_client(**whom) is not client and call_llm("x", **whom).text == "echo x"
    SHARED_CLIENTS.close()


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
