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


#: Makes what a full disk makes of a file that grows, after so many bytes: the last write may be taken in part.
NEARLY_FULL = """
import resource, signal
import numpy
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_100, resource.RLIM_INFINITY))
from cerebro_nb.errors import CerebroError
from cerebro_nb.rows.alike import NEARLY_SAME, StoredVectors, earlier_alike
from cerebro_nb.rows.stored import StoredRows
vectors = StoredVectors()

def kept():
    for number in range(20):
        vectors.add(numpy.full((10, 384), number))

def compared():
    texts = (f"text number {number}" for number in range(2_000))
    return [*earlier_alike(texts, (str(number) for number in range(2_000)), 2_000, NEARLY_SAME)]

for full in (lambda: StoredRows("x" * 1_000 for _ in range(1_000)), kept, compared):
    try:
        full()
    except CerebroError as error:
        print(error)
# What was written whole is there, and what comes once there is room stands where it should.
whole = len(vectors)
print(whole, [*{*map(float, vectors.at([whole - 1])[0])}])
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
vectors.add(numpy.full((10, 384), 77))
print(len(vectors), [*{*map(float, vectors.at([whole])[0])}], vectors.between(0, whole + 10).shape)
"""


def test_a_full_disk_is_said_with_what_to_do():
    words = [sys.executable, "-c", NEARLY_FULL]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, env={**os.environ})
    *full, kept, afterwards = done.stdout.splitlines()
    assert len([line for line in full if "cannot be written" in line]) == 3, done.stdout + done.stderr
    assert "TMPDIR" in "".join(full) and kept == "130 [12.0]" and afterwards == "140 [77.0] (140, 384)"
