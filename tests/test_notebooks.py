"""Every notebook runs, in a process of its own."""

import importlib.util
import os
import re
import shutil
import sys
from pathlib import Path

import nbdev.test
import nbformat
import pytest
from processes import run_forked

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "nbs").rglob("*.ipynb"))


def run_notebook(path: Path) -> bool:
    """Run a notebook in this process, and return whether it went well."""
    os.chdir(ROOT / "nbs")
    return bool(nbdev.test.test_nb(path, basepath=path.parent, cell_timeout=None)[0])


def shows_wordllama(path):
    cells = nbformat.read(path, as_version=4).cells
    shown = [cell.source for cell in cells if cell.cell_type == "code" and not cell.source.startswith("#| export")]
    return any(re.search("wordllama", source) for source in shown)


def parameter(path):
    """Return a notebook as what a test gets; those for users ask a real model."""
    is_for_users = path.parent.name == "tutorials" or path.stem == "index"
    return pytest.param(path, marks=pytest.mark.costly if is_for_users else (), id=f"{path.parent.name}/{path.stem}")


@pytest.mark.timeout(3000)  # nobody waits so long: the pace of a machine is no fault
@pytest.mark.parametrize("path", [parameter(path) for path in NOTEBOOKS])
def test_notebook(path, tmp_path):
    if shows_wordllama(path) and sys.version_info >= (3, 14) and importlib.util.find_spec("wordllama") is None:
        pytest.skip("WordLlama has no wheel for this Python yet")
    if path.parent.name == "tutorials":  # they write files beside themselves
        path = Path(shutil.copy(path, tmp_path))
    told = tmp_path / "told.txt"
    ended = run_forked(run_notebook, path, told=told)
    assert ended == 0, told.read_text(encoding="utf-8", errors="replace")
