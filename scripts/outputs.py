"""Run notebooks and keep what their live cells show, as far as it is the same each time and nothing of a machine.

python scripts/outputs.py            # all rooms
python scripts/outputs.py tasks      # those with "tasks" in their path
"""

import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbdev.clean import nbdev_clean

ROOT = Path(__file__).parent.parent
OF_A_MACHINE = re.compile(r"/home/|/root/|/tmp/|/Users/|[A-Z]:\\\\Users|0x[0-9a-f]{6,}|widget-view")
MOST_CHARACTERS = 4_000


def executed(path: Path) -> nbformat.NotebookNode:
    """Return a notebook after its cells were run, as a person's Jupyter runs them."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    ).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(as_text, cell.outputs) if output is not None]
    return notebook


def as_text(output: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    """Return an output of a cell as plain text: its value, or what it printed; None of all others."""
    if output.output_type == "execute_result":
        return nbformat.v4.new_output("execute_result", {"text/plain": output.data["text/plain"]})
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


def main() -> int:
    """Keep the outputs of the rooms that are named."""
    paths = [path for path in sorted((ROOT / "nbs").rglob("[0-9]*.ipynb")) if path.parent.name != "tutorials"]
    for path in paths:
        name = str(path.relative_to(ROOT / "nbs"))
        if not sys.argv[1:] or any(part in name for part in sys.argv[1:]):
            print(f"{name}: {keep(path)} cells with outputs", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
