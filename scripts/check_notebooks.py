"""Fail unless every notebook is clean and exported with no difference, and holds nothing of a machine."""

import subprocess
import sys
from pathlib import Path

import nbformat
from outputs import OF_A_MACHINE

ROOT = Path(__file__).parent.parent


def run(*command: str) -> str:
    """Run a command in the project's folder and return what it printed."""
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def main() -> int:
    """Check the notebooks; print what is wrong with them."""
    tools = Path(sys.executable).parent
    watched = ("nbs", "cerebro_nb")
    before = run("git", "diff", "HEAD", "--", *watched), run("git", "status", "--porcelain", "--", *watched)
    run(str(tools / "nbdev-clean"))
    run(str(tools / "nbdev-export"))
    after = run("git", "diff", "HEAD", "--", *watched), run("git", "status", "--porcelain", "--", *watched)
    faults = (
        [] if before == after else ["nbdev-clean and nbdev-export changed files; commit them: git diff nbs cerebro_nb"]
    )
    for path in sorted((ROOT / "nbs").rglob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        for number, cell in enumerate(notebook.cells):
            for found in OF_A_MACHINE.findall(str(cell.get("outputs", ""))):
                faults.append(f"{path.name} cell {number}: an output holds {found!r}")
            if cell.cell_type == "raw":
                faults.append(f"{path.name} cell {number}: a raw cell is never run")
    print("\n".join(faults) or "notebooks: clean, exported, and of no machine")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
