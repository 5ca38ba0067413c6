"""A notebook reads as an essay: small cells, each shown at once."""

import ast
from pathlib import Path

import nbformat
import pytest

NBS = Path(__file__).parent.parent / "nbs"
NOTEBOOKS = sorted(path for path in NBS.rglob("[0-9]*.ipynb") if path.parent.name != "tutorials")
MOST_LINES_OF_CODE, MOST_LINES = 40, 80
LEAST_SHOWN = 0.8
LEAST_LIVE_CELLS = 2

# What is longer than a cell should be, and why it cannot be told in parts.
LONGER = {
    ("15_batching/9_run", "Run"): "a handle is read as a whole: its properties and verbs are a line or two each",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(NBS).with_suffix(""))


def code_cells(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def is_exported(source: str) -> bool:
    return source.startswith("#| export")


def is_live(source: str) -> bool:
    return not source.startswith("#|")


def parsed(source: str) -> ast.Module:
    return ast.parse("\n".join("" if line.startswith(("#|", "%")) else line for line in source.splitlines()))


def definitions(source: str) -> list[str]:
    return [
        node.name
        for node in parsed(source).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]


def lines_of_code(source: str) -> int:
    """Count the lines of a cell without docstrings, comments and blank lines."""
    docstrings: set[int] = set()
    for node in ast.walk(parsed(source)):
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and ast.get_docstring(node) is not None
        ):
            docstrings |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(1 for number, line in lines if line.strip() and line.strip()[0] != "#" and number not in docstrings)


def test_no_exported_cell_is_longer_than_a_screen():
    longer = {
        (name_of(path), (definitions(source) or ["its texts"])[0])
        for path in NOTEBOOKS
        for source in code_cells(path)
        if is_exported(source)
        and (
            lines_of_code(source) > MOST_LINES_OF_CODE
            or len([line for line in source.splitlines() if line.strip()]) > MOST_LINES
        )
    }
    assert longer == set(LONGER)


def test_what_is_defined_is_shown_at_once():
    shown = []
    for path in NOTEBOOKS:
        cells = code_cells(path)
        for source, after in zip(cells, [*cells[1:], "#|"], strict=True):
            if is_exported(source) and definitions(source):
                shown.append(is_live(after) and any(isinstance(node, ast.Assert) for node in ast.walk(parsed(after))))
    assert sum(shown) / len(shown) >= LEAST_SHOWN


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_a_notebook_has_live_cells(path):
    assert sum(map(is_live, code_cells(path))) >= LEAST_LIVE_CELLS


def test_most_notebooks_keep_what_they_showed():
    kept = [any(cell.get("outputs") for cell in nbformat.read(path, as_version=4).cells) for path in NOTEBOOKS]
    assert sum(kept) / len(kept) >= 0.8


def test_no_file_is_longer_than_four_hundred_lines():
    package = NBS.parent / "cerebro_nb"
    longer = {
        path.name
        for path in package.rglob("*.py")
        if path.name != "_modidx.py" and len(path.read_text(encoding="utf-8").splitlines()) > 400
    }
    assert not longer
