"""What OpenTelemetry is told of a run, an item, an attempt and a call: by the SDK's own exporter, on real runs."""

import json
import subprocess
import sys

import pytest
from fakes import FakeOllama
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cerebro_nb import Ledger, call_llm, get_client, process_in_batches
from cerebro_nb.concurrency.loop import LOOP

EXPORTER = InMemorySpanExporter()


@pytest.fixture(scope="module", autouse=True)
def provider():
    """Set up a tracer provider as a program does: once, for the process."""
    known = trace.get_tracer_provider()
    if not isinstance(known, TracerProvider):
        trace.set_tracer_provider(known := TracerProvider())
    known.add_span_processor(SimpleSpanProcessor(EXPORTER))


@pytest.fixture(autouse=True)
def traced(monkeypatch):
    EXPORTER.clear()
    monkeypatch.setenv("CEREBRO_TRACES", "true")


def spans(name=""):
    return [span for span in EXPORTER.get_finished_spans() if span.name.startswith(name)]


def children(parent):
    return sorted(
        (span for span in spans() if span.parent and span.parent.span_id == parent.context.span_id),
        key=lambda span: span.start_time,
    )


def answered(server, prompt="What of {item}?", items=("tea",), **options):
    whom = {"backend": "ollama", "model": "tiny", "base_url": server.url, "show_progress": False}
    return process_in_batches(list(items), prompt, **{**whom, **options})


def test_a_run_has_items_that_have_attempts_that_have_calls(ollama, quick):
    run = answered(ollama, items=["tea", "rye"], profile=quick, temperature=0.2, seed=7, max_tokens=50)
    (whole,) = spans("invoke_workflow")
    assert whole.name == "invoke_workflow batch" and whole.parent is None
    assert whole.attributes["gen_ai.operation.name"] == "invoke_workflow"
    assert whole.attributes["cerebro.task.id"] == run.task_id and whole.attributes["cerebro.items.ok"] == 2
    items = [span for span in children(whole) if span.name == "item"]
    assert [item.attributes["cerebro.item.position"] for item in items] == [0, 1]
    (attempt,) = children(items[0])
    (call,) = children(attempt)
    assert (attempt.name, call.name, call.kind.name) == ("attempt", "chat tiny", "CLIENT")
    told = call.attributes
    assert (told["gen_ai.operation.name"], told["gen_ai.provider.name"]) == ("chat", "ollama")
    assert (told["gen_ai.request.temperature"], told["gen_ai.request.seed"]) == (0.2, 7)
    assert told["gen_ai.request.max_tokens"] == 50 and told["gen_ai.response.finish_reasons"] == ("stop",)
    assert f"http://{told['server.address']}:{told['server.port']}" == ollama.url
    (row,) = Ledger().attempts(run.task_id, 0)
    assert told["gen_ai.usage.output_tokens"] == row["reply"]["usage"]["completion_tokens"] > 0
    assert told["gen_ai.usage.input_tokens"] == row["reply"]["usage"]["prompt_tokens"] > 0


def test_what_failed_and_was_tried_again_is_told(quick):
    with FakeOllama() as server:
        server.faults = [(500, {}, "broken"), None]
        answered(server, profile=quick)
    (item,) = spans("item")
    first, second = children(item)
    assert first.attributes["error.type"] == "ServerFailed" and first.status.status_code.name == "ERROR"
    assert [span.attributes["cerebro.attempt"] for span in (first, second)] == [1, 2]
    assert second.status.is_unset and item.status.is_unset and item.attributes["cerebro.item.attempts"] == 2


def test_an_item_that_is_given_up_is_an_error_and_the_run_is_none(quick):
    answered_run = process_in_batches(
        [1, 0], lambda number: 1 // number, quick.replace(max_attempts=1), show_progress=False
    )
    assert answered_run.progress.failed == 1
    whole, items = spans("invoke_workflow")[0], sorted(spans("item"), key=lambda item: item.start_time)
    assert items[1].attributes["error.type"] == "ProcessorFailed" and "error.type" not in items[0].attributes
    assert whole.attributes["cerebro.items.failed"] == 1 and whole.status.is_unset


def test_a_call_of_a_users_function_is_within_its_attempt(ollama, quick):
    def ask(item):
        return call_llm(item, backend="ollama", model="tiny", base_url=ollama.url).text

    process_in_batches(["tea"], ask, quick, show_progress=False)
    (call,), (attempt,) = spans("chat"), spans("attempt")
    assert call.parent.span_id == attempt.context.span_id


def test_a_run_is_within_what_the_program_does(ollama, quick):
    with trace.get_tracer("a program").start_as_current_span("nightly"):
        answered(ollama, profile=quick)
    (outer,), (whole,) = spans("nightly"), spans("invoke_workflow")
    assert whole.parent.span_id == outer.context.span_id


def test_a_call_by_itself_is_a_span_and_so_is_a_request_for_vectors(ollama):
    client = get_client(backend="ollama", model="tiny", base_url=ollama.url)
    call_llm("What of tea?", client=client)
    LOOP.run(client.aembed(["tea"], "tiny"))
    (call,), (vectors,) = spans("chat"), spans("embeddings")
    assert call.parent is vectors.parent is None
    assert vectors.attributes["gen_ai.operation.name"] == "embeddings" and "server.port" in vectors.attributes


def test_no_text_is_told(ollama, quick):
    answered(ollama, "Tell SECRET of {item}.", ["SECRET"], system_prompt="SECRET", profile=quick)
    assert spans() and "SECRET" not in json.dumps([span.to_json() for span in spans()])


def test_nothing_is_told_unless_it_is_asked_for(ollama, quick, monkeypatch):
    monkeypatch.delenv("CEREBRO_TRACES")
    answered(ollama, profile=quick)
    assert spans() == []


def test_opentelemetry_is_not_imported_unless_it_is_asked_for(monkeypatch):
    code = "import sys, cerebro_nb; cerebro_nb.process_in_batches([1], lambda x: x, 'auto', show_progress=False);"
    code += "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    monkeypatch.delenv("CEREBRO_TRACES")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
