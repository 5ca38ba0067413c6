"""Models of an Ollama are pulled by the server, and what to expect of a model is said before it is used."""

import concurrent.futures
import json
import threading

import pytest
from fakes import PULL_LINES, FakeOllama
from hub import FakeHub

from cerebro_nb import Ledger, apull_model, errors, load_settings, pull_model
from cerebro_nb.backends.pulling import packaged_model_path
from cerebro_nb.cli.main import main
from cerebro_nb.client.choosing import advice_on
from cerebro_nb.concurrency.loop import LOOP
from cerebro_nb.language import texts
from cerebro_nb.panels.panel import Panel
from cerebro_nb.protocol.gguf import parameters_in, read_gguf
from cerebro_nb.protocol.messages import ModelInfo


@pytest.fixture
def ollama():
    with FakeOllama() as server:
        yield server


def pull_requests(server):
    return [payload for path, payload, _ in server.requests if path == "/api/pull"]


# --- from an Ollama


def test_an_ollama_pulls_and_tells_how_far_it_is(ollama):
    heard = []
    assert pull_model("new-0.5b", base_url=ollama.url, on_progress=heard.append) is None
    assert pull_requests(ollama) == [{"model": "new-0.5b", "stream": True}] and "new-0.5b" in ollama.models
    fetched = [(now.done_bytes, now.total_bytes) for now in heard if not now.status]
    assert fetched == [(0, 1000), (400, 1000), (1000, 1000), (1200, 1200)]
    assert [now.status for now in heard if now.status] == ["pulling manifest", "verifying sha256 digest", "success"]


def test_the_command_pulls_from_the_server_of_the_environment(ollama, monkeypatch, capsys):
    monkeypatch.setenv("OLLAMA_HOST", ollama.url)
    assert main(["pull", "new-0.5b"]) == 0
    told = capsys.readouterr()
    assert "Ollama has new-0.5b" in told.out
    assert main(["models"]) == 0
    listed = capsys.readouterr().out
    assert "new-0.5b" in listed and ollama.url in listed


def test_a_name_that_is_both_is_the_servers_where_it_is_named(ollama):
    pull_model("smollm2", backend="ollama", base_url=ollama.url)
    assert pull_requests(ollama) == [{"model": "smollm2", "stream": True}]


def test_every_server_that_shares_a_run_gets_the_model(ollama):
    with FakeOllama() as other:
        pull_model("new-0.5b", base_url=[ollama.url, other.url])
        assert len(pull_requests(ollama)) == len(pull_requests(other)) == 1


def test_an_error_in_the_stream_is_the_servers_word(ollama, capsys):
    ollama.pull_lines = [PULL_LINES[0], {"error": "pull model manifest: file does not exist"}]
    assert main(["pull", "nu", "--base-url", ollama.url]) == 1
    told = capsys.readouterr().err
    assert "cannot pull nu: pull model manifest: file does not exist" in told and "Is the name right?" in told


def test_a_stream_that_is_cut_is_no_success(ollama):
    ollama.pull_lines = list(PULL_LINES[:3])
    with pytest.raises(errors.PullFailed, match="stopped before it had all of new") as cut:
        pull_model("new-0.5b", base_url=ollama.url)
    assert "goes on" in cut.value.hint


def test_a_cancelled_pull_leaves_the_server(ollama):
    ollama.pull_lines, ollama.pull_holds = list(PULL_LINES[:3]), True
    begun = threading.Event()
    heard = []

    def hear(now):
        heard.append(now)
        if now.done_bytes:
            begun.set()

    pulling = LOOP.submit(apull_model("new-0.5b", base_url=ollama.url, on_progress=hear))
    assert begun.wait(60)
    pulling.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        pulling.result(60)
    assert ollama.client_left.wait(60) and heard[-1].share == 0.4


def test_nobody_pulls_for_an_openai_server():
    with pytest.raises(errors.InputError, match="pulls no models"):
        pull_model("gpt-4o", backend="openai")


# --- in the panel


@pytest.fixture
def shown(ollama, tmp_path):
    """A panel of that Ollama, whose form says tea."""
    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        made = Panel(load_settings(backend="ollama", base_url=ollama.url), None, ledger)
        made.form.fill(subject="tea")
        yield made


def form_of(shown, **values):
    """What is told of the form once these values are typed."""
    shown.heard({"do": "check", "form": {**shown.form.values, **values}}).result(60)
    return shown.form._told


def test_the_panel_pulls_what_the_server_lacks(ollama, shown):
    shown.heard({"do": "models"}).result(60)
    assert form_of(shown)["pull"] is None
    told = form_of(shown, model="new-0.5b")
    assert "does not have the model new-0.5b" in told["forecast"] and "facts will be wrong" in told["forecast"]
    assert told["pull"]["name"] == "new-0.5b"
    shown.heard({"do": "pull"}).result(60)
    shown._pull.pulling.result(60)
    assert pull_requests(ollama) == [{"model": "new-0.5b", "stream": True}]
    assert "does not have" not in shown.form._told["forecast"] and shown.form._told["pull"] is None
    assert "new-0.5b" in [name for name, *_ in shown.form._told["models"]["models"]]


def test_what_a_server_has_says_nothing_of_another(ollama, shown):
    shown.heard({"do": "models"}).result(60)
    assert "does not have" in form_of(shown, model="new-0.5b")["forecast"]
    told = form_of(shown, model="new-0.5b", base_url="http://127.0.0.1:9")
    assert "does not have" not in told["forecast"] and told["pull"] is None


def test_the_panels_pull_can_be_stopped(ollama, shown):
    ollama.pull_lines, ollama.pull_holds = list(PULL_LINES[:3]), True
    shown.heard({"do": "models"}).result(60)
    form_of(shown, model="new-0.5b")
    told, begun, stopped, tell = [], threading.Event(), threading.Event(), shown.tell

    def hear(**facts):
        told.append(facts.get("pull") or {})
        (begun if told[-1].get("done") else threading.Event()).set()
        (stopped if told[-1].get("stopped") else threading.Event()).set()
        tell(**facts)

    shown.tell = hear
    shown.heard({"do": "pull"}).result(60)
    assert begun.wait(60)
    shown.heard({"do": "stop_pull"}).result(60)
    assert ollama.client_left.wait(60) and stopped.wait(60)
    assert form_of(shown)["pull"]["name"] == "new-0.5b", "it is offered again"


def test_the_panel_pulls_a_file_of_a_hub(tmp_path, monkeypatch):
    name = "hf:owner/tiny-GGUF:tiny.gguf"
    with FakeHub() as hub, Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        hub.files["owner/tiny-GGUF"] = {"tiny.gguf": b"GGUF" + bytes(1000)}
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        shown = Panel(load_settings(model=name), None, ledger)
        assert f"The model {name} is not here yet." in form_of(shown, subject="tea")["forecast"] and hub.requests == []
        shown.heard({"do": "pull"}).result(60)
        shown._pull.pulling.result(60)
        assert "is not here yet" not in shown.form._told["forecast"] and shown.form._told["pull"] is None


# --- what to expect


@pytest.mark.parametrize(
    ("info", "said"),
    [
        (ModelInfo("qwen2.5:0.5b"), "facts will be wrong"),
        (ModelInfo("some:latest", parameters=494_000_000), "facts will be wrong"),
        (ModelInfo("Llama-3.2-1B-Instruct"), "check the facts"),
        (ModelInfo("gemma3:1b", parameters=999_890_000), "check the facts"),
        (ModelInfo("gemma3:4b", parameters=4_300_000_000), "check the facts"),
        (ModelInfo("nomic-embed-text"), "cannot chat"),
        (ModelInfo("some", capabilities=("embedding",)), "cannot chat"),
        (ModelInfo("base-7b", has_chat_template=False), "no instruction model"),
        (ModelInfo("llama3.1:8b"), None),
        (ModelInfo("llama3.2"), None),
        (ModelInfo("phi3:mini-4k-instruct-q4_K_M"), None),
    ],
    ids=lambda value: value.name if isinstance(value, ModelInfo) else None,
)
def test_what_is_known_of_a_model_decides_what_is_said(info, said):
    sentences = advice_on(info)
    assert (said is None and sentences == []) or (said is not None and said in sentences[0])


def test_it_is_said_in_portuguese():
    say = texts("pt-BR").gettext
    told = advice_on(ModelInfo("qwen2.5:0.5b", has_chat_template=False), say) + advice_on(ModelInfo("bge-m3"), say)
    assert "fatos" in told[0] and "instruções" in told[1] and "embeddings" in told[2] and len(told) == 3


def test_ollama_tells_the_size_and_the_command_says_it_once(ollama, monkeypatch, capsys, tmp_path):
    size = {"models": [{"name": "some:latest", "details": {"parameter_size": "494.03M"}}]}
    ollama.odd["/api/tags"] = (200, {"content-type": "application/json"}, json.dumps(size))
    pair = '{"question": "What is tea, number %d?", "answer": "A drink made of leaves, number %d."}'
    numbers = iter(range(1000))
    ollama.answer = lambda payload: pair % ((number := next(numbers)), number)
    words = [
        "generate",
        "qa",
        "tea",
        "-n",
        "2",
        "--model",
        "some:latest",
        "--backend",
        "ollama",
        "--base-url",
        ollama.url,
    ]
    ollama.models.append("some:latest")
    main([*words, "--profile", "auto", "--out", str(tmp_path / "out.jsonl")])
    told = capsys.readouterr().err
    assert told.count("some:latest has 494M parameters: facts will be wrong") == 1


def test_a_gguf_says_what_is_in_it():
    facts = read_gguf(packaged_model_path())
    assert (facts.parameters, facts.has_chat_template, facts.makes_embeddings) == (135_000_000, True, False)
    assert facts.context_length == 8192 and parameters_in("4bit q8_0 128k") is None
