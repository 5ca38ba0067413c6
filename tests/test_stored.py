"""Rows that lie in a temporary file: read in any order, and a full disk is said."""

import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from cerebro_nb.rows.stored import StoredRows

ROWS = st.lists(st.one_of(st.text(max_size=20), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)))


@given(ROWS, st.lists(st.integers(0, 200)), st.integers(0, 3))
def test_rows_are_what_was_stored_in_whatever_order_they_are_read(rows, places, large):
    whole = [*rows, *("x" * (70_000 * number) for number in range(large))]
    kept = StoredRows(whole)
    assert list(kept) == whole and len(kept) == len(whole)
    chosen = [place % len(whole) for place in places if whole]
    assert list(kept.at(chosen)) == [whole[place] for place in chosen]
    kept.append("the last")
    assert kept[-1] == "the last" and list(kept) == [*whole, "the last"]


def test_a_full_disk_is_said_with_what_to_do():
    told = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from cerebro_nb.errors import CerebroError
from cerebro_nb.rows.stored import StoredRows
try:
    StoredRows("x" * 1_000 for _ in range(1_000))
except CerebroError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, timeout=120, env={**os.environ})
    assert "cannot be written" in done.stdout and "TMPDIR" in done.stdout, done.stderr
