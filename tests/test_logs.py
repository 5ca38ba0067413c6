"""What the log is told by strangers, as any handler of a user gets it; the log for programs; errors in a notebook."""

import importlib.util
import io
import json
import logging
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell

from cerebro_nb import Ledger, process_in_batches, show_log
from cerebro_nb.errors import MOST_CHARACTERS
from cerebro_nb.logs import get_logger

OBEYED = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff]")


def told(*words, **options):
    """Return what a plain handler writes of one record."""
    page, logger = io.StringIO(), get_logger("cerebro_nb.some_room")
    handler = logging.StreamHandler(page)
    logger.addHandler(handler)
    try:
        logger.warning(*words, **options)
    finally:
        logger.removeHandler(handler)
    return page.getvalue().removesuffix("\n")


class Unspeakable:
    def __str__(self):
        raise RuntimeError("no")


@given(st.text(st.characters(codec=None)), st.integers(), st.floats())
def test_a_record_is_one_clean_line(text, count, seconds):
    for line in (told("model: %s, %d, %g", text, count, seconds), told(text), told("%(a)s", {"a": text})):
        assert not OBEYED.search(line) and "\n" not in line
    assert told("%s", ValueError(text)).count("\n") == 0


def test_numbers_stay_numbers_and_long_texts_are_cut():
    assert told("%d of %5.1f, %r", 7, 2.5, None) == "7 of   2.5, None" and told("100 %") == "100 %"
    assert len(told("%s", "x" * 1_000_000)) == MOST_CHARACTERS
    assert "RuntimeError" in told("%s", Unspeakable())


def test_a_traceback_keeps_its_lines_and_loses_its_marks():
    try:
        raise ValueError("bad \x1b[2J \u202e")
    except ValueError:
        lines = told("a listener failed", exc_info=True).split("\n")
    assert lines[0] == "a listener failed" and lines[1].startswith("Traceback") and len(lines) > 3
    assert not any(map(OBEYED.search, lines))


def test_a_log_for_programs_is_an_object_a_line(capsys, monkeypatch):
    monkeypatch.setenv("CEREBRO_LOG_FORMAT", "json")
    show_log("INFO")
    process_in_batches([1, 2, "three"], lambda number: number * 2 if number != "three" else 1 / 0, "auto")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {"time", "level", "logger", "message"} <= set(lines[0]) and {line["level"] for line in lines} >= {"INFO"}
    last = [line["facts"] for line in lines if "facts" in line][-1]
    assert (last["total"], last["ok"], last["failed"]) == (3, 2, 1)
    assert last["task_id"] == Ledger().tasks()[0].id


def test_the_forms_of_the_log_take_turns(capsys):
    logger = get_logger("cerebro_nb.some_room")
    for log_format in ("json", "text"):
        show_log("INFO", log_format)
        logger.warning("%s", "one\n[ERROR] forged")
    first, second = capsys.readouterr().err.splitlines()
    assert json.loads(first)["message"] == "one [ERROR] forged" and second == "[WARNING] one [ERROR] forged"


@pytest.mark.skipif(importlib.util.find_spec("wordllama") is None, reason="the extra vectors is not installed")
def test_an_embedder_leaves_the_log_of_the_process_alone():
    code = (
        "import logging; from cerebro_nb import get_embedder\n"
        "before = logging.root.level, list(logging.root.handlers)\n"
        "assert get_embedder('wordllama').name and 'wordllama' in __import__('sys').modules\n"
        "assert (logging.root.level, list(logging.root.handlers)) == before == (logging.WARNING, [])"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


# --- what a notebook shows of an error

FAILING = "from cerebro_nb import load_settings\nload_settings(log_language='klingon')"


def shown_in_a_notebook(capsys, *cells):
    shell = InteractiveShell()
    shell.colors = "nocolor"
    capsys.readouterr()
    for cell in cells:
        shell.run_cell(cell)
    return capsys.readouterr().out


def test_a_notebook_shows_an_error_as_its_message(capsys):
    told = shown_in_a_notebook(capsys, FAILING)
    assert "SettingsError: log_language = 'klingon'" in told and "->" in told and "%tb" in told
    assert ".py" not in told and "Traceback" not in told


def test_a_notebook_shows_the_frames_on_demand(capsys):
    told = shown_in_a_notebook(capsys, FAILING, "%tb")
    assert told.count("SettingsError: ") == 2 and "in load_settings" in told
    told = shown_in_a_notebook(capsys, FAILING, FAILING)
    assert "in load_settings" not in told, "raised anew it is a message again"
