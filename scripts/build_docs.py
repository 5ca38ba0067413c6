"""Build the site in _docs/html, offline: the reference from the code, the tutorials as they are read, then Sphinx."""

import ast
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
import reference
from sphinx.cmd.build import build_main

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TUTORIALS = ROOT / "nbs" / "tutorials"


def without_asserts(source: str) -> str:
    """Return the code of a cell without the statements by which a tutorial tests itself."""
    lines = source.splitlines()
    for statement in reversed(ast.parse(source).body):
        if isinstance(statement, ast.Assert):
            del lines[statement.lineno - 1 : statement.end_lineno]
    return "\n".join(lines).strip()


def for_readers(path: Path) -> nbformat.NotebookNode:
    """Return a tutorial as it is read: with what it showed, without its asserts."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = without_asserts(cell.source)
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    notebook.cells = [cell for cell in notebook.cells if cell.source]
    return notebook


def write_tutorials(folder: Path) -> None:
    """Write the tutorials as they are read."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in sorted(TUTORIALS.glob("*.ipynb")):
        nbformat.write(for_readers(path), folder / path.name)


def main(words: list[str]) -> int:
    """Write what is made, and build; a word is the folder in which the site is to stand."""
    target = Path(words[0]) if words else ROOT / "_docs" / "html"
    reference.write(DOCS / "reference")
    write_tutorials(DOCS / "tutorials")
    with tempfile.TemporaryDirectory() as doctrees:
        return build_main(["-b", "html", "-q", "-W", "--keep-going", "-E", "-d", doctrees, str(DOCS), str(target)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
