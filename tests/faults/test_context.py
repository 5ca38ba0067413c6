"""Nothing is cut in silence: before a run, before a call, after an answer."""

import pytest
from fakes import FakeOllama
from hypothesis import given
from hypothesis import strategies as st

from cerebro_nb import Client, OllamaBackend, acall_llm, call_llm, errors, process_in_batches
from cerebro_nb.client.context_window import fewest_tokens, likely_tokens
from cerebro_nb.concurrency.loop import LOOP


@pytest.fixture
def tiny(ollama):
    client = Client(OllamaBackend(ollama.url), "tiny")
    yield client
    LOOP.run(client.aclose())


def test_a_context_larger_than_the_model_s_is_refused_before_the_run(quick, ledger, tiny, ollama):
    with pytest.raises(errors.SettingsError, match="num_ctx = 9000: tiny was made for 8,192"):
        process_in_batches(["a"], "{item}", quick, client=tiny, ledger=ledger, show_progress=False, num_ctx=9000)
    assert ledger.tasks() == [] and not ollama.chat_arrived.is_set()


def test_an_answer_as_long_as_the_context_is_refused_before_the_run(quick, ledger, tiny, ollama):
    with pytest.raises(errors.SettingsError, match="leaves no room"):
        process_in_batches(["a"], "{item}", quick, client=tiny, ledger=ledger, show_progress=False, max_tokens=2048)
    assert ledger.tasks() == [] and not ollama.chat_arrived.is_set()


def test_a_prompt_that_cannot_fit_is_not_sent_and_fails_alone(quick, ledger, tiny, ollama):
    items = ["a", "word " * 20_000, "c"]
    run = process_in_batches(items, "{item}", quick, client=tiny, ledger=ledger, show_progress=False)
    assert run.results == ["echo a", None, "echo c"] and run.errors[1]["type"] == "ContextExceeded"
    assert "at least" in run.errors[1]["message"]
    assert sum("chat" in path for path, *_ in ollama.requests) == 2


@pytest.mark.parametrize("keeps", [1.0, 0.5])
def test_a_prompt_the_server_cut_in_silence_is_a_failure_with_its_answer(keeps, quick, ledger):
    """An older Ollama knows no `truncate: false`, cuts, and answers 200."""

    class Cutting(FakeOllama):
        async def stream(self, request, payload, generates, read, most, began):
            read = int(keeps * 2048) if read > 1700 else read
            return await super().stream(request, payload, generates, read, most, began)

    with Cutting(lambda payload: "an answer") as server:
        client = Client(OllamaBackend(server.url), "tiny")
        items = ["a", "because " * 1800]
        run = process_in_batches(items, "{item}", quick, client=client, ledger=ledger, show_progress=False)
        LOOP.run(client.aclose())
    assert run.results == ["an answer", None]
    assert run.errors[1]["type"] == "PromptTruncated" and run.errors[1]["details"]["text"] == "an answer"
    (attempt,) = ledger.attempts(run.task_id, 1)
    assert attempt["reply"]["text"] == "an answer"


def test_how_an_answer_ended_and_its_tokens_are_on_the_item(quick, ledger, tiny):
    run = process_in_batches(
        ["one", "two three four five"], "{item}", quick, client=tiny, ledger=ledger, show_progress=False, max_tokens=3
    )
    first, second = ledger.items(run.task_id)
    assert (first["finish_reason"], first["prompt_tokens"], first["completion_tokens"]) == ("stop", 1, 2)
    assert (second["finish_reason"], second["output"], second["step"]) == ("length", "echo two three", "call")


def test_a_single_call_is_held_to_the_same(tiny):
    with pytest.raises(errors.ContextExceeded, match="at least"):
        call_llm("word " * 50_000, client=tiny)
    with pytest.raises(errors.SettingsError, match="leaves no room"):
        LOOP.run(acall_llm("x", client=tiny, max_tokens=5000, num_ctx=4096))


@given(st.text(max_size=200))
def test_the_lowest_estimate_is_never_above_the_likely_one(text):
    assert 0 <= fewest_tokens(text) <= likely_tokens(text)
    assert fewest_tokens(text) <= len(text.encode("utf-8", "replace"))
