"""How the site is built: `make docs`. It wants the extra `docs`, and nothing from the network."""

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
# A page that another part of the project brings may not be there yet.
suppress_warnings = ["toc.empty_glob"]

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
