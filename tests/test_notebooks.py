"""Every notebook runs, in a process of its own."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "nbs").rglob("*.ipynb"))
SCRIPT = """
import sys
from pathlib import Path
from nbdev.test import test_nb
path = Path(sys.argv[1])
ok, seconds = test_nb(path, basepath=path.parent)
sys.exit(not ok)
"""


def shows_wordllama(path):
    cells = nbformat.read(path, as_version=4).cells
    shown = [cell.source for cell in cells if cell.cell_type == "code" and not cell.source.startswith("#| export")]
    return any(re.search("wordllama", source) for source in shown)


PATIENCE_S = {"3_from_a_pdf_to_a_data_set": 900}  # a judge is tested in it: ninety calls of a model


@pytest.mark.timeout(960)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_notebook(path, tmp_path):
    if shows_wordllama(path) and sys.version_info >= (3, 14) and importlib.util.find_spec("wordllama") is None:
        pytest.skip("WordLlama has no wheel for this Python yet")
    if path.parent.name == "tutorials":  # they write files beside themselves
        path = Path(shutil.copy(path, tmp_path))
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)],
        cwd=ROOT / "nbs",
        capture_output=True,
        text=True,
        timeout=PATIENCE_S.get(path.stem, 280),
        env={**os.environ},
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
