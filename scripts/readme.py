"""Run nbs/index.ipynb and write README.md from it; with --check only fail if it is not what the notebook says."""

import re
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter
from nbdev.clean import nbdev_clean
from outputs import executed

ROOT = Path(__file__).parent.parent
INDEX = ROOT / "nbs" / "index.ipynb"


def execute() -> None:
    """Run the notebook and keep the values of its cells in it."""
    notebook = executed(INDEX)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.output_type == "execute_result"]
    nbformat.write(notebook, INDEX)
    nbdev_clean(str(INDEX))


def rendered() -> str:
    """Return the notebook as Markdown, without its hidden cells."""
    notebook = nbformat.read(INDEX, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if not cell.source.startswith(("#| hide", "#| default_exp"))]
    for cell in notebook.cells:
        cell.source = "\n".join(line for line in cell.source.splitlines() if not line.startswith("#|"))
    notebook.metadata["language_info"] = {"name": "python"}
    body, _ = MarkdownExporter().from_notebook_node(notebook)
    body = re.sub(r"\n{3,}", "\n\n", body)
    lines = [line.rstrip() for line in body.strip().splitlines()]
    note = "<!-- Made from nbs/index.ipynb by scripts/readme.py: edit the notebook. -->"
    return "\n".join([note, "", *lines]) + "\n"


def main() -> int:
    """Write the file, or check it."""
    readme = ROOT / "README.md"
    if "--check" not in sys.argv:
        execute()
        readme.write_text(rendered(), encoding="utf-8")
        return 0
    fresh = readme.read_text(encoding="utf-8") == rendered()
    print("README.md is fresh" if fresh else "README.md is stale: python scripts/readme.py")
    return not fresh


if __name__ == "__main__":
    sys.exit(main())
