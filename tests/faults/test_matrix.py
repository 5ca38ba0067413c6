"""Every way a server fails: what becomes of the item, and what is kept. docs/faults.md has a row for each."""

import re
from contextlib import nullcontext
from pathlib import Path

import pytest
from fakes import HTML, FakeOllama, closed_port
from pydantic import BaseModel, Field
from virtual import virtual_time

from cerebro_nb import Client, OllamaBackend, errors, process_in_batches
from cerebro_nb.concurrency.loop import LOOP

JSON = {"content-type": "application/json"}


class Pair(BaseModel):
    question: str = Field(max_length=60)
    answer: str = Field(max_length=60)


# By their names in docs/faults.md: what the server does once, the error of that attempt, whether it is tried again.
SERVER_FAULTS = {
    "500": ((500, JSON, '{"error": "boom"}'), "ServerFailed", True),
    "502 with a web page": ((502, {"content-type": "text/html"}, HTML), "ServerFailed", True),
    "503": ((503, {}, ""), "ServerBusy", True),
    "503 with Retry-After": ((503, {"retry-after": "0"}, ""), "ServerBusy", True),
    "429": ((429, JSON, '{"error": "slow down"}'), "RateLimited", True),
    "429 with Retry-After": ((429, {"retry-after": "0.01"}, ""), "RateLimited", True),
    "408": ((408, {}, ""), "ServerFailed", True),
    "connection reset": ("reset", "ConnectionBroken", True),
    "connection broken in mid-answer": ("broken connection", "ConnectionBroken", True),
    "hang": ("hang", "RequestTimeout", True),
    "stall in mid-answer": ("stall", "RequestTimeout", True),
    "a byte a second": ("drip", "RequestTimeout", True),
    "cut JSON": ("cut json", "InvalidResponse", True),
    "cut stream": ("cut stream", "StreamCut", True),
    "error object in mid-stream": ("error in stream", "ServerFailed", True),
    "a web page with 200": ("html", "InvalidResponse", True),
    "text that is no JSON": ("not json", "InvalidResponse", True),
    "empty response": ("empty", "StreamCut", True),
    "wrong content type": ("wrong content type", None, False),
    "bad request": ((400, JSON, '{"error": "unknown format"}'), "BadRequest", False),
    "prompt too long": ((400, JSON, '{"error": "input length exceeds the context length"}'), "ContextExceeded", False),
}
ANSWER_FAULTS = {
    "invalid JSON": ("I cannot do that.", "InvalidOutput"),
    "wrong schema": ('{"question": "Why?"}', "InvalidOutput"),
    "empty answer": ("", "EmptyOutput"),
    "answer cut by its limit": ('{"question": "Why is it', "OutputTruncated"),
}
GOOD = '{"question":"Why?","answer":"Because."}'
RUN_FAULTS = {"connection refused", "model missing", "key refused", "server gone", "item that kills the server"}


def rows(server, quick, ledger, **options):
    """Run three items, of which the second meets the fault, and return the run and the attempts at that item."""
    client = Client(OllamaBackend(server.url), "tiny")
    try:
        run = process_in_batches(
            ["a", "b", "c"], "{item}", quick, client=client, ledger=ledger, show_progress=False, **options
        )
    finally:
        LOOP.run(client.aclose())
    return run, ledger.attempts(run.task_id, 1)


@pytest.mark.parametrize("fault", SERVER_FAULTS)
def test_a_server_s_fault_costs_an_item_a_try_and_nothing_else(fault, quick, ledger):
    given, kind, again = SERVER_FAULTS[fault]
    is_late = kind == "RequestTimeout"
    with FakeOllama() as server, virtual_time(ledger, left_s=0) if is_late else nullcontext() as loop:
        server.faults = [None, given]
        if is_late:
            server.when_stuck = lambda: loop.give(quick.timeout_s)
        run, attempts = rows(server, quick, ledger)
    assert [run.results[0], run.results[2]] == ["echo a", "echo c"]
    assert [row["error"] and row["error"]["type"] for row in attempts] == [kind, *([None] if again else [])]
    assert run.results[1] == ("echo b" if again or kind is None else None)
    if kind is not None:
        assert attempts[0]["error"]["message"] and attempts[0]["error"]["hint"] is not None
    if kind in ("StreamCut", "RequestTimeout") and given not in ("hang", "empty", "drip"):
        assert attempts[0]["error"]["details"]["partial_text"] == "Once upon a time"


@pytest.mark.parametrize("fault", ANSWER_FAULTS)
def test_an_answer_that_does_not_fit_is_kept_and_asked_again(fault, quick, ledger):
    text, kind = ANSWER_FAULTS[fault]
    given = iter([GOOD, text, GOOD, GOOD])
    with FakeOllama(lambda _: next(given)) as server:
        limit = {"max_tokens": 3} if kind == "OutputTruncated" else {}  # a word is a token: the good ones have one
        run, attempts = rows(server, quick, ledger, response_model=Pair, **limit)
    assert run.progress.ok == 3
    assert attempts[0]["error"]["type"] == kind and attempts[1]["error"] is None
    assert attempts[0]["reply"] is None or attempts[0]["reply"]["text"] == attempts[0]["error"]["details"]["text"]
    assert attempts[0]["error"]["details"]["text"] == (text if kind != "OutputTruncated" else '{"question": "Why is')


def test_an_item_that_kills_the_server_fails_alone(quick, ledger):
    with FakeOllama() as server:
        server.poison = "poison"
        client = Client(OllamaBackend(server.url), "tiny")
        items = ["a", "poison", "c", "d"]
        run = process_in_batches(items, "{item}", quick, client=client, ledger=ledger, show_progress=False)
        LOOP.run(client.aclose())
    assert run.results == ["echo a", None, "echo c", "echo d"]
    assert len(ledger.attempts(run.task_id, 1)) == 2 * quick.max_attempts
    assert run.errors[1]["type"] == "ConnectionBroken"


def test_a_refused_connection_or_a_missing_model_is_told_before_anything_is_recorded(quick, ledger):
    for url, kind in ((f"http://127.0.0.1:{closed_port()}", errors.ConnectionFailed), (None, errors.ModelNotFound)):
        with FakeOllama() as server:
            client = Client(OllamaBackend(url or server.url), "tiny" if url else "none")
            with pytest.raises(kind) as told:
                process_in_batches(["a"], "{item}", quick, client=client, ledger=ledger, show_progress=False)
            LOOP.run(client.aclose())
        assert told.value.hint and ledger.tasks() == []


def test_the_table_of_the_documentation_has_a_row_for_every_fault():
    table = (Path(__file__).parents[2] / "docs" / "faults.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| ([^|]+?) \|", table, re.MULTILINE)) - {"fault", "---"}
    missing = {*SERVER_FAULTS, *ANSWER_FAULTS, *RUN_FAULTS} - told
    assert not missing
