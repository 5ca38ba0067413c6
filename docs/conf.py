"""How the site is built: `make docs`. It wants the extra `docs`, and nothing from the network."""

from pathlib import Path
from typing import Any

import cerebro_nb

project = "Cerebro"
author = "The Cerebro authors"
copyright = f"2026, {author}"
version = release = cerebro_nb.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
# What the notebooks show was kept when they were run; nothing runs while the site is built.
nb_execution_mode = "off"
# The map is for who works on Cerebro itself, and is drawn in a language that only GitHub knows.
exclude_patterns = ["architecture.md"]

myst_heading_anchors = 4

default_role = "code"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_preprocess_types = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False

html_theme = "furo"
html_title = f"Cerebro {release}"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "source_repository": "https://github.com/cerebro-nb/cerebro/",
    "source_branch": "main",
    "source_directory": "docs/",
}
copybutton_prompt_text = "$ "


def without_absent_pages(app: Any, name: str, source: list[str]) -> None:
    """Take from the list of pages those that are matched by a pattern and are not there yet."""
    if name == "index":
        lines = source[0].splitlines(keepends=True)
        here = Path(__file__).parent
        absent = [line for line in lines if line.rstrip().endswith("*") and not list(here.glob(f"{line.strip()}.md"))]
        source[0] = "".join(line for line in lines if line not in absent)


def setup(app: Any) -> None:
    """Have Sphinx call what stands above."""
    app.connect("source-read", without_absent_pages)
