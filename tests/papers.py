"""Real texts with free licences: Python's own reference, as every Python ships it, the Apache licence, PDFs of them."""

from pathlib import Path
from pydoc_data.topics import topics

from fpdf import FPDF

TOPICS = ("exceptions", "with", "try", "import", "for", "while")
REFERENCE = "\n\n".join(topics[name].strip() for name in TOPICS)
APACHE = (Path(__file__).parents[1] / "LICENSE").read_text(encoding="utf-8")


def pdf_of(text: str, path: Path, title: str = "") -> Path:
    """Print a text to a PDF."""
    printed = FPDF()
    printed.set_title(title)
    printed.add_page()
    printed.set_font("Helvetica", size=11)
    printed.multi_cell(0, 5, text.encode("latin-1", "replace").decode("latin-1"))
    printed.output(str(path))
    return path
