"""What the log is told by strangers, as any handler of a user gets it."""

import io
import logging
import re

from hypothesis import given
from hypothesis import strategies as st

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
