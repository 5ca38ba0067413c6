"""Run notebooks and keep what their live cells show, as far as it is the same each time and nothing of a machine.

python scripts/outputs.py                     # all notebooks of the package
python scripts/outputs.py tasks               # those with "tasks" in their path
python scripts/outputs.py tutorials/1_first   # a tutorial: once, in an empty folder, with its tables
"""

import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbdev.clean import nbdev_clean

ROOT = Path(__file__).parent.parent
OF_A_MACHINE = re.compile(r"/home/|/root/|/tmp/|/Users/|[A-Z]:\\\\Users|0x[0-9a-f]{6,}|widget-view")
MOST_CHARACTERS = 4_000


def executed(
    path: Path,
    folder: Path | None = None,
    forms: Sequence[str] = ("text/plain",),
    **environment: str,
) -> nbformat.NotebookNode:
    """Return a notebook after its cells were run, as a person's Jupyter runs them."""
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": folder or path.parent}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute(
        env={**os.environ, **environment}
    )
    notebook.metadata.pop("widgets", None)  # what no output refers to
    for cell in notebook.cells:
        if cell.cell_type == "code":
            shown = [as_text(output, forms) for output in cell.outputs]
            cell.outputs = [output for output in shown if output is not None]
    return notebook


def as_text(output: nbformat.NotebookNode, forms: Sequence[str]) -> nbformat.NotebookNode | None:
    """Return an output of a cell as text: its value, or what it printed; None of all others."""
    if output.output_type == "execute_result":
        return nbformat.v4.new_output(
            "execute_result", {form: output.data[form] for form in forms if form in output.data}
        )
    return output if output.output_type == "stream" and output.name == "stdout" else None


def is_kept(first: nbformat.NotebookNode, second: nbformat.NotebookNode) -> bool:
    """Whether what a cell showed twice is fit to be kept."""
    shown = str(first.outputs)
    return first.outputs == second.outputs and not OF_A_MACHINE.search(shown) and len(shown) < MOST_CHARACTERS


def keep(path: Path) -> int:
    """Run a notebook twice, keep in it the outputs that were the same, and return how many cells have one."""
    notebook, first, second = nbformat.read(path, as_version=4), executed(path), executed(path)
    kept = 0
    for cell, once, again in zip(notebook.cells, first.cells, second.cells, strict=True):
        if cell.cell_type == "code":
            cell.outputs = once.outputs if is_kept(once, again) else []
            kept += bool(cell.outputs)
    nbformat.write(notebook, path)
    nbdev_clean(str(path))
    return kept


def keep_of_a_tutorial(path: Path) -> int:
    """Run a tutorial in an empty folder, with a ledger of its own, and keep what it shows, tables as tables."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "work"
        folder.mkdir()
        notebook = executed(path, folder, ("text/plain", "text/html"), CEREBRO_DATA_DIR=f"{name}/data")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not OF_A_MACHINE.search(str(output))]
    nbformat.write(notebook, path)
    nbdev_clean(str(path))
    return sum(bool(cell.get("outputs")) for cell in notebook.cells)


def main() -> int:
    """Keep the outputs of the notebooks that are named; tutorials have to be named."""
    for path in sorted((ROOT / "nbs").rglob("[0-9]*.ipynb")):
        name = str(path.relative_to(ROOT / "nbs"))
        is_tutorial = path.parent.name == "tutorials"
        if any(part in name for part in sys.argv[1:]) or not (sys.argv[1:] or is_tutorial):
            kept = keep_of_a_tutorial(path) if is_tutorial else keep(path)
            print(f"{name}: {kept} cells with outputs", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
