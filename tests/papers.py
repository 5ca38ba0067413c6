"""Real texts with free licences: Python's own reference, the Apache licence, PDFs of them; and DOCX of any XML."""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from pydoc_data.topics import topics

from fpdf import FPDF

TOPICS = ("exceptions", "with", "try", "import", "for", "while")
REFERENCE = "\n\n".join(topics[name].strip() for name in TOPICS).encode("ascii", "ignore").decode()
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


def pages_of(pages: Sequence[str], password: str | None = None) -> bytes:
    """Print each text on a page of its own, line by line; a page of nothing gets a picture, as a scan has."""
    printed = FPDF()
    if password:
        printed.set_encryption(owner_password="owner", user_password=password)
    printed.set_font("Helvetica", size=11)
    for page in pages:
        printed.add_page()
        if not page:
            printed.rect(20, 20, 100, 100, style="F")
        for number, line in enumerate(page.split("\n")):
            printed.text(15, 15 + 5 * number, line.encode("latin-1", "replace").decode("latin-1"))
    return bytes(printed.output())


WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def docx_of(body: str, **parts: str) -> bytes:
    """Pack the XML of a body, and of parts such as footnotes, to a DOCX."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "word/document.xml", f'<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>'.encode()
        )
        for name, xml in parts.items():
            archive.writestr(f"word/{name}.xml", f'<w:{name} xmlns:w="{WORD}">{xml}</w:{name}>'.encode())
    return packed.getvalue()


def paragraph(text: str) -> str:
    """Return the XML of a paragraph."""
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"
