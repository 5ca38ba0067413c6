"""The house itself: its order, its public face, its size and its papers."""

import ast
import configparser
import inspect
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import nbformat
import pytest
from babel.messages.pofile import read_po

import cerebro_nb

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted(path for path in (ROOT / "nbs").rglob("*.ipynb") if path.parent.name != "tutorials")
PACKAGE = ROOT / "cerebro_nb"
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.stem not in ("__init__", "_modidx")]


def dotted(module):
    return ".".join(module.relative_to(ROOT).with_suffix("").parts)


def test_httpx_is_imported_only_by_who_hands_in_a_client_of_it():
    imports = re.compile(r"^\s*(?:import|from) httpx", re.MULTILINE)
    for source in filter(imports.search, (path.read_text() for path in MODULES)):
        assert re.search(r"if TYPE_CHECKING:\n    import httpx", source) and len(imports.findall(source)) == 1


def test_the_public_names_are_all_there_and_documented():
    source = ast.parse((ROOT / "cerebro_nb" / "__init__.py").read_text())
    typed = {
        alias.asname
        for node in ast.walk(source)
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    assert typed == set(cerebro_nb.__all__)
    for name in cerebro_nb.__all__:
        value = getattr(cerebro_nb, name)
        assert name in dir(cerebro_nb) and (not callable(value) or inspect.getdoc(value)), name


def test_no_public_name_hides_a_room():
    assert not set(cerebro_nb.__all__) & {path.stem for path in PACKAGE.iterdir()}


def test_every_public_name_of_a_room_has_a_docstring():
    bare = []
    for module in map(import_module, map(dotted, MODULES)):
        for name in module.__all__:
            value = getattr(module, name)
            if (inspect.isclass(value) or inspect.isfunction(value)) and not inspect.getdoc(value):
                bare.append(f"{module.__name__}.{name}")
    assert not bare


def test_the_import_is_quick_because_heavy_packages_come_when_used():
    script = "import sys, cerebro_nb; print(sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    heavy = {
        "pandas",
        "numpy",
        "ipywidgets",
        "sqlalchemy",
        "httpx",
        "aiohttp",
        "pydantic",
        "tqdm",
        "asyncio",
        "tenacity",
        "xllamacpp",
    }
    assert not heavy & set(ast.literal_eval(loaded))


def test_each_error_tells_by_its_class_what_may_pass():
    from cerebro_nb import errors

    classes = [
        value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, errors.CerebroError)
    ]
    assert len(classes) > 20
    drawn = (ROOT / "nbs" / "02_errors.ipynb").read_text()
    for kind in classes:
        assert kind.retry in ("never", "transient", "broken", "refused", "pressure") and kind.__name__ in drawn


@pytest.mark.parametrize("language", ["pt_BR"])
def test_the_catalogue_has_every_text(language):
    catalogue = ROOT / "cerebro_nb" / "locale" / language / "LC_MESSAGES" / "cerebro.po"
    with catalogue.open("rb") as file:
        messages = {
            message.id if isinstance(message.id, str) else message.id[0]: message
            for message in read_po(file)
            if message.id
        }
    from cerebro_nb.forms.fields import first_state
    from cerebro_nb.forms.options import FIELDS
    from cerebro_nb.panels.monitor import STATES
    from cerebro_nb.panels.view import spoken_texts
    from cerebro_nb.settings import load_settings

    used, english = set(), first_state(load_settings({}))
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            called = getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""
            if called in ("gettext", "ngettext", "say", "_say"):
                used |= {node.args[0].value} if isinstance(node.args[0], ast.Constant) else set()
    # Those that are looked up by a value: a status, the words on a field.
    used |= {state.replace("_", " ") for state in STATES} | spoken_texts()
    said = (field.told(english) for field in FIELDS.values())
    used |= {field[part] for field in said for part in ("title", "note", "unit", "placeholder") if field[part]}
    assert len(used) > 100 and used <= set(messages)
    for message in messages.values():
        texts = message.string if isinstance(message.string, tuple) else (message.string,)
        assert all(texts) and not message.fuzzy
        for text in texts:
            source = message.id if isinstance(message.id, str) else message.id[0]
            for place in (r"%\(\w+\)s", r"\{\}"):
                assert sorted(re.findall(place, text)) == sorted(re.findall(place, source))


@pytest.mark.parametrize("language", ["pt_BR"])
def test_what_the_catalogue_has_of_errors_is_said_somewhere(language):
    with (ROOT / "cerebro_nb" / "locale" / language / "LC_MESSAGES" / "cerebro.po").open("rb") as file:
        forms = {message.id for message in read_po(file) if isinstance(message.id, str) and "{}" in message.id}
    nodes = (node for path in MODULES for node in ast.walk(ast.parse(path.read_text())))
    said = "\n".join(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    # Of a setting that is refused pydantic tells what it should be.
    ours = {form for form in forms if not form.startswith("it should be ")}
    assert len(ours) > 100 and [form for form in ours for part in form.split("{}") if part.strip() not in said] == []


def test_runtime_packages_of_the_brief_are_required():
    settings = configparser.ConfigParser(delimiters=["="])
    settings.read(ROOT / "settings.ini")
    needed = {re.split(r"[<>=\[]", name)[0].lower() for name in settings["DEFAULT"]["requirements"].split()}
    assert {"ipywidgets", "httpx", "nest-asyncio2", "tenacity", "pandas", "tqdm"} <= needed


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_notebook_reads_as_an_essay(path):
    notebook = nbformat.read(path, as_version=4)
    kinds = [cell.cell_type for cell in notebook.cells]
    assert "raw" not in kinds and not any("eval: false" in cell.source for cell in notebook.cells)
    if path.stem != "index":
        assert notebook.cells[0].source.startswith("#| default_exp")
        assert re.fullmatch(r"# \S.*\n\n> .+", notebook.cells[1].source)
    assert kinds.count("markdown") >= 2
    assert json.loads(path.read_text())["nbformat"] == 4
