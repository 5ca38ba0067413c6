"""The command line, as a user meets it: by subprocess."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import FakeOllama, closed_port

from cerebro_nb import Ledger

CEREBRO = str(Path(sys.executable).with_name("cerebro"))


def cerebro(*words, timeout=120, **environment):
    return subprocess.run(
        [CEREBRO, *words], capture_output=True, text=True, timeout=timeout, env={**os.environ, **environment}
    )


def test_demo_prints_the_frame_and_where_it_is_saved_and_how_to_go_on(tmp_path):
    ended = cerebro("demo", "--out", str(tmp_path / "demo.jsonl"))
    assert ended.returncode == 0, ended.stderr
    assert "question" in ended.stdout and ended.stdout.count(" ok") >= 6
    assert f"Saved 6 examples: {tmp_path / 'demo.jsonl'}" in ended.stdout and "panel()" in ended.stdout
    assert "[INFO] Processing batch 1/2 (3 items, progress: 0/6)" in ended.stderr
    assert "[INFO] Q&A progress: 50%" in ended.stderr and "Q&A: 100%" in ended.stderr
    rows = [json.loads(line) for line in (tmp_path / "demo.jsonl").read_text().splitlines()]
    assert len({row["question"] for row in rows}) == 6
    listed = cerebro("tasks")
    assert "qa_generation" in listed.stdout and "completed" in listed.stdout
    task = rows[0]["metadata"]["task_id"]
    shown = cerebro("show", task[:6], "--attempts")
    assert "6 of 6, 100 %" in shown.stdout and "model_digest: sha256:" in shown.stdout and "reply: {" in shown.stdout


def test_doctor_says_what_is_there():
    ended = cerebro("doctor")
    assert ended.returncode == 0, ended.stdout
    assert "ok    embedded" in ended.stdout and "ollama serve" in ended.stdout and "ok    ledger" in ended.stdout


def test_doctor_says_what_is_wrong_and_the_fix(tmp_path):
    (tmp_path / "file").write_text("")
    ended = cerebro("doctor", CEREBRO_BACKEND="ollama", CEREBRO_DATA_DIR=str(tmp_path / "file" / "x"))
    assert ended.returncode == 1
    assert "WRONG Ollama" in ended.stdout and "WRONG ledger" in ended.stdout and "Set CEREBRO_DATA_DIR" in ended.stdout
    ended = cerebro("doctor", CEREBRO_GENERATION__TEMPERATURE="hot")
    assert (
        ended.returncode == 1 and "WRONG settings" in ended.stdout and "CEREBRO_GENERATION__TEMPERATURE" in ended.stdout
    )


GENERATE = ("generate", "qa", "copywriting", "-n", "1")
TROUBLE = {
    "no server": (("--backend", "ollama"), {"OLLAMA_HOST": "127.0.0.1:9"}, "nobody answers at http://127.0.0.1:9"),
    "n of zero": (("-n", "0", "--backend", "embedded"), {}, "n = 0 is not between 1 and"),
    "wrong temperature": (("--temperature", "7", "--backend", "embedded"), {}, "temperature = 7.0 (argument)"),
    "wrong address": (("--base-url", "localhost:11434"), {}, "base_url = 'localhost:11434' (argument)"),
    "wrong language": (("--language", "klingonese", "--backend", "embedded"), {}, "'klingonese' is no language tag"),
    "wrong profile": (("--profile", "turbo", "--backend", "embedded"), {}, "no profile is called 'turbo'"),
    "wrong model": (("--backend", "embedded", "--model", "gpt-9"), {}, "serves 'smollm2-135m-instruct', not 'gpt-9'"),
    "no folder": (
        ("--backend", "embedded"),
        {"CEREBRO_DATA_DIR": "/proc/nothing"},
        "the folder of /proc/nothing/cerebro.db",
    ),
    "no place to save": (
        ("--backend", "embedded", "--out", "/proc/x.jsonl"),
        {},
        "the examples are safe in the ledger",
    ),
}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_trouble_is_said_without_a_stack_trace(trouble):
    words, environment, expected = TROUBLE[trouble]
    ended = cerebro("--quiet", *GENERATE, *words, **environment)
    assert ended.returncode == 1 and expected in ended.stderr and "Traceback" not in ended.stderr, ended.stderr
    assert "->" in ended.stderr


@pytest.mark.parametrize(
    ("subject", "expected"), [("", "empty"), ("x" * 100_000, "100,000 characters"), ("a\x07b", "U+0007")]
)
def test_a_wrong_subject_is_said(subject, expected):
    ended = cerebro("--quiet", "generate", "qa", subject, "--backend", "embedded")
    assert ended.returncode == 1 and expected in ended.stderr


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("html", "sent a web page"),
        ((401, {}, "who?"), "answered 401"),
        ((404, {"content-type": "text/html"}, "<h1>no</h1>"), "Is base_url"),
    ],
)
def test_a_server_that_is_not_what_it_should_be(fault, expected):
    with FakeOllama() as server:
        server.faults = [fault] * 9
        ended = cerebro("--quiet", *GENERATE, "--backend", "ollama", "--model", "tiny", OLLAMA_HOST=server.url)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert expected in ended.stderr + cerebro("show", Ledger().tasks()[0].id, "--attempts").stdout


def test_a_missing_model_is_said_with_those_that_are_there(ollama):
    ended = cerebro("--quiet", *GENERATE, "--backend", "ollama", "--model", "llama9", OLLAMA_HOST=ollama.url)
    assert ended.returncode == 1 and "it has: tiny:latest" in ended.stderr and "ollama pull llama9" in ended.stderr


def test_a_trace_is_shown_when_asked_for():
    ended = cerebro("--traceback", *GENERATE, "--backend", "ollama", OLLAMA_HOST=f"127.0.0.1:{closed_port()}")
    assert ended.returncode == 1 and "Traceback" in ended.stderr and "ConnectionFailed" in ended.stderr


def test_what_was_answered_before_a_ctrl_c_is_kept():
    pair = '{"question": "What is %s?", "answer": "It is the first line; a good one sells the second."}'
    count = (hashlib.sha256(bytes([number])).hexdigest() for number in range(200))
    with FakeOllama(lambda payload: pair % next(count), seconds=0.05) as server:
        words = [CEREBRO, "generate", "qa", "copywriting", "-n", "50", "--backend", "ollama", "--model", "tiny"]
        child = subprocess.Popen(
            words,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OLLAMA_HOST": server.url},
        )
        for line in child.stderr:
            if "batch 3/17" in line:
                child.send_signal(signal.SIGINT)
                break
        _, told = child.communicate(timeout=60)
    assert child.returncode == 130 and "what was answered is in the ledger" in told and "Traceback" not in told
    (task,) = Ledger().tasks()
    assert task.status == "cancelled" and task.ok_items >= 6
    assert task.id in cerebro("resume").stdout
    gone = cerebro("--quiet", "resume", task.id)
    assert gone.returncode == 1 and "nobody answers" in gone.stderr, "the server's address is the task's own"
    with FakeOllama(lambda payload: pair % next(count)) as server:
        ended = cerebro("--quiet", "resume", task.id, "--base-url", server.url, "--out", "rest.jsonl")
    assert ended.returncode == 0 and "Saved 50 examples: rest.jsonl" in ended.stdout, ended.stderr
    assert Ledger().tasks()[0].status == "completed" and "Nothing is unfinished" in cerebro("resume").stdout


def test_hostile_text_is_shown_harmless():
    pair = {
        "question": "What is \u202e this \x1b[31m thing?",
        "answer": "<script>alert(1)</script> and more text, so that it is long enough.",
    }
    with FakeOllama(lambda payload: json.dumps(pair)) as server:
        ended = cerebro("--quiet", *GENERATE, "--backend", "ollama", "--model", "tiny", OLLAMA_HOST=server.url)
    assert (
        ended.returncode == 0
        and "\x1b" not in ended.stdout
        and "\u202e" not in ended.stdout
        and "<script>" in ended.stdout
    )


def test_wrong_words_are_exit_status_2():
    assert cerebro("generate", "poems", "x").returncode == 2 and cerebro().returncode == 2
    assert cerebro("--version").stdout.startswith("cerebro 0.")
