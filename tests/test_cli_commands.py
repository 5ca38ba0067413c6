"""What the commands of the command line have in common: JSON, two languages, help, errors in its own words."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest
import shtab
from babel.messages.pofile import read_po
from fakes import FakeOllama
from pages import free_port
from test_cli import cerebro

from cerebro_nb import Ledger, Settings
from cerebro_nb.cli.main import COMMANDS, parser
from cerebro_nb.cli.terminal import table_lines
from cerebro_nb.cli.words import Parser, spoken
from cerebro_nb.tasks.writing import FinishedItem

CATALOGUE = Path(__file__).parent.parent / "cerebro_nb" / "locale" / "pt_BR" / "LC_MESSAGES" / "cerebro.po"
NAMES = [command.name for command in COMMANDS]


@pytest.fixture
def task():
    ledger = Ledger()
    rows = [{"question": f"What is tea {number}?", "answer": "It is a leaf."} for number in range(3)]
    task_id = ledger.create_task("qa", "tea", 3, items=[(number, str(number)) for number in range(3)])
    for number, row in enumerate(rows):
        ledger.finish_item(FinishedItem(task_id, number, (number, str(number)), "ok", row, None, [], 1, 2)).result()
    ledger.update_task(task_id, status="completed")
    ledger.close()
    return task_id


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_each_example_of_the_help_can_be_read(command):
    assert command.examples
    for words in command.examples:
        read = Parser(command=command).parse_args(shlex.split(words.split(" > ")[0])[1:])
        assert read is not None and words.split()[0] == command.name


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_each_help_is_in_the_catalogue(command, monkeypatch):
    with CATALOGUE.open("rb") as file:
        known = {message.id for message in read_po(file)}
    asked = []
    filled = Parser(command=command)
    filled.say = lambda text: asked.append(text) or text
    filled.fill()
    assert {*asked, command.help} <= known


@pytest.mark.parametrize("name", ["generate", "export"])
def test_the_help_speaks_portuguese(name, capsys, monkeypatch):
    monkeypatch.setenv("CEREBRO_LOG_LANGUAGE", "pt-BR")
    told = cerebro(name, "--help").stdout
    assert told.startswith("uso: ") and "exemplos:" in told and "padrão" in told and "usage" not in told
    assert "erro: " in cerebro(name, "--nonsense").stderr


def test_a_help_shows_the_defaults_that_hold_here(monkeypatch):
    monkeypatch.setenv("CEREBRO_LANGUAGE", "pt-BR")
    told = re.sub(r"\s+", " ", cerebro("generate", "--help").stdout)
    assert "such as pt-BR (default: pt-BR)" in told and "most tokens of an answer (default: 800)" in told


def test_options_for_all_stand_anywhere(task):
    before, after = cerebro("--json", "-q", "tasks"), cerebro("tasks", "-q", "--json")
    assert before.stdout == after.stdout and json.loads(after.stdout)[0]["task_id"] == task
    assert cerebro("show", "nonsense", "--traceback").stderr.startswith("Traceback")


@pytest.mark.parametrize(
    "words",
    ["tasks", "show {}", "items {}", "resume", "collections", "config", "models", "recipes", "compare {} {}"],
)
def test_what_prints_prints_json_too(words, task):
    ended = cerebro(*words.replace("{}", task).split(), "--json")
    assert ended.returncode == 0 and json.loads(ended.stdout) is not None, ended.stderr


def test_items_are_listed_marked_and_exported(task, tmp_path):
    assert cerebro("accept", task, "0-1").returncode == cerebro("reject", task, "2").returncode == 0
    accepted = json.loads(cerebro("items", task, "--mark", "accepted", "--json").stdout)
    assert [item["position"] for item in accepted] == [0, 1]
    told = json.loads(cerebro("export", task, "--to", "out", "--test-share", "0", "--json").stdout)
    assert told["counts"] == {"train": 2}
    assert cerebro("items", task, "--status", "failed").stdout == "There are no such items.\n"
    assert cerebro("accept", task).returncode == 2


def test_a_task_is_deleted_when_that_is_agreed_to(task):
    assert cerebro("delete", task, stdin="\n").returncode == 1 and Ledger().tasks()
    ended = cerebro("delete", task[:8], stdin="y\n")
    assert ended.returncode == 0 and Ledger().tasks() == [] and "[y/N]" in ended.stderr


def test_a_prompt_is_asked_of_what_is_piped_in(ollama):
    whom = ("--backend", "ollama", "--model", "tiny", "--base-url", ollama.url)
    ended = cerebro("batch", "What of {item}?", "--profile", "auto", *whom, "--json", stdin="tea\n\nrye\n")
    told = json.loads(ended.stdout)
    assert (told["ok"], told["total"], told["status"]) == (2, 2, "completed"), ended.stderr
    assert "2 calls" in ended.stderr, "the forecast is said before"
    asked = [attempt["request"]["messages"][-1]["content"] for attempt in Ledger().attempts(told["task_id"])]
    assert sorted(asked) == ["What of rye?", "What of tea?"]


def test_the_forecast_is_said_before_a_run_and_not_if_it_is_quiet():
    pair = {"question": "What is tea?", "answer": "It is a leaf that is steeped in hot water."}
    with FakeOllama(lambda payload: json.dumps(pair)) as server:
        words = ("generate", "qa", "tea", "-n", "1", "--backend", "ollama", "--model", "tiny", "--no-gates")
        loud, quiet = (cerebro(*words, *more, OLLAMA_HOST=server.url) for more in ((), ("--quiet",)))
    first = next(line for line in loud.stderr.splitlines() if "tokens written" in line)
    assert "at most" in first and "calls" in first
    assert loud.stderr.index(first) < loud.stderr.index("Processing batch 1/1")
    assert quiet.returncode == 0 and quiet.stderr == ""


def test_config_says_where_each_value_came_from(tmp_path, monkeypatch):
    Path("cerebro.toml").write_text('language = "de"\n')
    monkeypatch.setenv("CEREBRO_GENERATION__SEED", "7")
    rows = json.loads(cerebro("config", "--model", "tiny", "--json").stdout)
    came = {row["setting"]: (row["value"], row["from"]) for row in rows}
    assert came["language"] == ("de", "cerebro.toml") and came["model"] == ("tiny", "argument")
    assert came["generation.seed"] == (7, "environment CEREBRO_GENERATION__SEED")
    assert came["training.num_predict"] == (800, "default")
    assert cerebro("config", "nonsense").returncode == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_a_shell_gets_its_script(shell):
    assert shell in shtab.SUPPORTED_SHELLS
    assert "without-gate" in cerebro("completion", shell).stdout


def test_a_table_fits_its_terminal(task):
    from cerebro_nb import items_df, tasks_df

    for frame in (items_df(task), tasks_df()):
        for width in (40, 80, 132):
            assert max(map(len, table_lines(frame, width))) <= width


def test_every_command_has_json_quiet_and_traceback():
    with spoken("en"):
        for name in NAMES:
            (chosen,) = [action for action in parser(Settings())._actions if action.dest == "command"]
            assert all(word in chosen.choices[name].format_help() for word in ("--json", "--quiet", "--traceback"))


def test_the_package_is_the_command():
    ended = subprocess.run(
        [sys.executable, "-m", "cerebro_nb", "--version"], capture_output=True, text=True, timeout=60
    )
    assert ended.stdout.startswith("cerebro 0.")


def test_the_help_imports_no_heavy_package():
    code = "import sys; from cerebro_nb.cli.main import parser; parser().format_help();"
    code += "print([name for name in ('pandas', 'sqlalchemy', 'aiohttp', 'numpy', 'shtab') if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.stdout == "[]\n", ended.stderr


def answered(url, data=None):
    """Return the status of an answer and where it leads, which is not followed."""

    class Stays(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *given):
            return None

    try:
        with urllib.request.build_opener(Stays).open(urllib.request.Request(url, data), timeout=60) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.headers.get("location", "")


@pytest.mark.timeout(240)
@pytest.mark.skipif(find_spec("voila") is None, reason="Voila is an extra: cerebro-nb[lab]")
@pytest.mark.skipif(sys.platform == "win32", reason="the browser is a program of POSIX")
def test_the_panel_s_page_wants_the_token_of_its_address(tmp_path):
    browser = tmp_path / "browser"
    browser.write_text('#!/bin/sh\necho; echo "opened: $(cat "${1#file://}")"\n')
    browser.chmod(0o700)
    (tmp_path / "voila.py").write_text("raise SystemExit('the working folder was looked into')")
    words = [sys.executable, "-P", "-m", "cerebro_nb", "panel", "--port", str(free_port())]
    more = {"cwd": tmp_path, "env": {**os.environ, "BROWSER": f"{browser} %s"}, "start_new_session": True}
    server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    try:
        lines, shown, opened = [], None, None
        while not (shown and opened) and (line := server.stdout.readline()):
            lines.append(line)
            shown = re.match(r"http://localhost:\d+/\?token=(\w{32,})$", line) or shown
            opened = re.match(r"opened: .*url=(\S+)\"", line) or opened
        assert shown and opened and opened[1] == shown[0], lines
        address, _, token = shown[0].partition("?token=")
        for guess in ("", "?token=", f"?token={token[::-1]}", "api/kernels/0/channels", "voila/render/panel.ipynb"):
            status, leads_to = answered(address + guess)
            assert status == 403 or (status == 302 and leads_to.startswith("/login")), (guess, status)
        assert answered(shown[0]) == (200, "")
        told = subprocess.run(["ps", "-axww", "-o", "command="], capture_output=True, text=True).stdout
        assert token not in told
    finally:
        os.killpg(server.pid, signal.SIGINT)
        server.communicate(timeout=60)
