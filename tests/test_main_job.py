"""The whole job on a real model: subject in, training examples out."""

import json
import shutil
import subprocess
import time

import pytest

from cerebro_nb import (
    call_llm,
    examples,
    generate_failure_cases,
    generate_qa,
    generate_success_patterns,
    get_ledger,
    plan_angles,
    save_jsonl,
    synthetic_run,
)
from cerebro_nb.backends.pulling import packaged_model_path
from cerebro_nb.launching.kind import kind_named

pytestmark = pytest.mark.costly

PAIR = kind_named("qa").response_model


def test_six_valid_distinct_pairs_in_english(caplog):
    caplog.set_level("INFO")
    run = generate_qa("copywriting", backend="embedded", seed=11, show_progress=False)
    frame = run.df[run.df["status"] == "ok"]
    assert len(frame) == 6 and frame["question"].is_unique
    for row in frame.itertuples():
        PAIR(question=row.question, answer=row.answer)
    task = run.task
    assert (task.status, task.ok_items, task.progress_percentage) == ("completed", 6, 100)
    assert task.processed_items == task.total_items >= 6, "what was refused for good was replaced"
    assert task.kind == "qa_generation" and task.manifest["model"] == "smollm2-135m-instruct"
    assert task.manifest["model_digest"].startswith("sha256:b179c95") and task.manifest["options"]["num_ctx"] == 2048
    assert "Processing batch 1/2 (3 items, progress: 0/6)" in caplog.messages
    told = [line for line in caplog.messages if "progress:" in line and "Q&A" in line]
    assert told[0] == "Q&A progress: 50%" and told[-1] == "Q&A progress: 100%"


def test_the_job_in_portuguese(caplog, monkeypatch):
    """The embedded model's Portuguese is poor, so some items may be refused; prompts, log and run are Portuguese."""
    caplog.set_level("INFO")
    monkeypatch.setenv("CEREBRO_LOG_LANGUAGE", "pt-BR")
    run = generate_qa("copywriting", 6, language="pt-BR", backend="embedded", seed=3, show_progress=False)
    assert run.task.processed_items == run.task.total_items >= 6 and run.progress.ok >= 3
    assert (
        "Processando batch 1/2 (3 itens, progress: 0/6)" in caplog.messages and "Progresso Q&A: 50%" in caplog.messages
    )
    first = get_ledger().attempts(run.task_id, 0)[0]["request"]["messages"]
    assert "português do Brasil" in first[0]["content"] and first[-1]["content"].startswith("Escreva uma pergunta")
    assert run.task.manifest["language"] == "pt-BR"


def test_failure_cases_and_success_patterns_three_each():
    """A model this small may have one refused again and again; what is refused is replaced."""
    failures = generate_failure_cases("copywriting", backend="embedded", seed=5, show_progress=False)
    successes = generate_success_patterns(
        "copywriting", backend="embedded", seed=5, show_progress=False, profile="auto"
    )
    for run in (failures, successes):
        assert run.task.manifest["wanted"] == 3 and run.progress.total >= 3 >= run.progress.ok >= 1
    assert {"situation", "mistake", "why_it_failed", "better"} <= set(failures.df.columns)
    assert {"pattern", "why_it_works", "example"} <= set(successes.df.columns)


def test_the_same_seed_gives_the_same_plan_and_the_same_answers():
    runs = [
        generate_qa("tea", 2, backend="embedded", seed=9, prompt_cache=False, show_progress=False) for _ in range(2)
    ]
    assert runs[0].results == runs[1].results
    planned = plan_angles(2, 9)
    assert [item["input"] for item in runs[0].ledger.items(runs[0].task_id)] == planned


def test_examples_are_saved_whole_with_where_they_come_from(tmp_path):
    run = generate_qa("tea", 2, backend="embedded", seed=9, show_progress=False)
    rows = [json.loads(line) for line in save_jsonl(run, tmp_path / "out" / "tea.jsonl").read_text().splitlines()]
    assert rows == list(examples(run)) and rows[0]["metadata"]["task_id"] == run.task_id
    assert save_jsonl(run).parent.name == "datasets" and save_jsonl(run).name.startswith("tea-qa-generation-")


def test_any_language_is_named_to_the_model():
    run = synthetic_run("qa", "tea", 1, language="de-AT", backend="embedded", show_progress=False).wait()
    wish = get_ledger().attempts(run.task_id, 0)[0]["request"]["messages"]
    assert "German (Austria)" in wish[0]["content"] and "German (Austria)" in wish[-1]["content"]


def test_a_real_ollama_does_the_same_job(tmp_path, monkeypatch):
    if shutil.which("ollama") is None:
        pytest.skip("needs the ollama binary, which is not on this machine")
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:11939")
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "models"))
    server = subprocess.Popen(["ollama", "serve"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 30
        while subprocess.run(["ollama", "list"], capture_output=True).returncode and time.monotonic() < until:
            time.sleep(0.2)
        (tmp_path / "Modelfile").write_text(f"FROM {packaged_model_path()}\n")
        subprocess.run(
            ["ollama", "create", "cerebro-test", "-f", tmp_path / "Modelfile"], check=True, capture_output=True
        )
        reply = call_llm("Say hello.", max_tokens=8)
        assert reply.backend == "ollama" and reply.model.startswith("cerebro-test")
        run = generate_qa("copywriting", seed=11, show_progress=False)
        assert run.progress.ok == 6 and run.df["question"].is_unique
    finally:
        server.terminate()
        server.wait(20)
