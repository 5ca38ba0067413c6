"""The law of the house: a room imports only what comes before it, in whatever words it does."""

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

import cerebro_nb

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "cerebro_nb"

# Who imports what comes after it, and why.
ALLOWED = {
    ("launching.launch", "sharing.places"): "a run that is worked on elsewhere asks for the place only then",
    ("batching.run", "panels.monitor"): "a run shows itself in a notebook, and asks for its monitor only then",
    ("launching.kind", "launching.*"): "the registry knows which chapters may hold kinds, and imports them when asked",
    ("launching.kind", "generating.*"): "as above",
    ("launching.kind", "judging.*"): "as above",
    ("launching.kind", "evaluating.*"): "as above",
    ("launching.kind", "vectors.*"): "as above",
}


def rooms() -> list[str]:
    """All rooms in the order of reading: those of the ground, then chapter after chapter."""
    found = []
    for notebook in (ROOT / "nbs").rglob("*.ipynb"):
        *chapter, name = notebook.relative_to(ROOT / "nbs").parts
        if name[0].isdigit() and chapter != ["tutorials"]:
            found.append((*(chapter or [""]), name))
    return [".".join(part.removesuffix(".ipynb").split("_", 1)[1] for part in parts if part) for parts in sorted(found)]


ROOMS = rooms()


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def at_work(tree: ast.AST) -> Iterator[ast.AST]:
    """All of a module but what is for the type checker alone."""
    for node in ast.iter_child_nodes(tree):
        if not is_for_types(node):
            yield node
            yield from at_work(node)


def is_chapter(name: str) -> bool:
    return any(room.startswith(f"{name}.") for room in ROOMS)


def number(room: str) -> int:
    """Where a room stands in the order of reading; a whole chapter, where its last room stands."""
    return max(place for place, known in enumerate(ROOMS) if fnmatch(known, room))


def room_of(dotted: str) -> str | None:
    """The room that a full name leads to, also by the package's face; none for the version and for other packages."""
    package, _, rest = dotted.partition(".")
    if package != PACKAGE.name or not rest:
        return None
    parts = rest.split(".")
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in ROOMS:
            return ".".join(parts[:length])
    return f"{parts[0]}.*" if is_chapter(parts[0]) else cerebro_nb._HOMES.get(parts[0])


def imported(source: str, room: str) -> set[str]:
    """The rooms that a module's text asks for: relative or absolute, by the face, or named for a child."""
    here = [PACKAGE.name, *room.split(".")]
    names = set()
    for node in at_work(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            base = ".".join(here[: len(here) - node.level]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            names |= {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute):
            names.add(ast.unparse(node))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names |= {node.value} if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", node.value) else set()
    return {found for name in names if (found := room_of(name))} - {room}


def text_of(room: str) -> str:
    return (PACKAGE / f"{room.replace('.', '/')}.py").read_text(encoding="utf-8")


def test_each_module_has_a_notebook_and_each_notebook_a_module():
    modules = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
        if path.name not in ("__init__.py", "__main__.py", "_modidx.py")
    }
    assert modules == set(ROOMS) and len(ROOMS) > 50


def test_a_room_imports_only_what_comes_before_it():
    edges = {(room, other) for room in ROOMS for other in imported(text_of(room), room)}
    assert {(room, other) for room, other in edges if number(other) > number(room)} == set(ALLOWED)


@pytest.mark.parametrize(
    "planted",
    [
        "from cerebro_nb.panels.panel import panel",
        "from cerebro_nb.panels.panel import (\n    Panel,\n    panel,\n)",
        "from {up}panels.panel import panel",
        "from cerebro_nb import panel",
        "import cerebro_nb.panels.panel",
        "import cerebro_nb\ncerebro_nb.Panel",
        "def later():\n    from cerebro_nb.panels.panel import panel",
        "start_child('cerebro_nb.panels.panel')",
    ],
)
@pytest.mark.parametrize("room", ["errors", "client.client"])
def test_the_law_sees_every_way_to_import(planted, room):
    assert imported(planted.format(up="." * (room.count(".") + 1)), room) == {"panels.panel"}


def test_the_law_sees_a_whole_chapter():
    assert imported("from . import panels", "errors") == imported("import cerebro_nb.panels", "errors") == {"panels.*"}


def test_the_law_lets_pass_what_is_no_import_at_work():
    assert not imported("if TYPE_CHECKING:\n    from cerebro_nb.panels.panel import panel", "errors")
    assert not imported("import cerebro_nb\ncerebro_nb.__version__\nfrom panels import x", "errors")


# --- docs/architecture.md is the map

MAP = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_map_has_every_chapter_and_every_room_in_order():
    rows = re.findall(r"^\| `nbs/([\w/]*)` \| ((?:`\w+` ?)+)\| .+ \|$", MAP, re.MULTILINE)
    drawn = [
        f"{chapter.partition('_')[2]}.{room}" if chapter else room
        for chapter, named in rows
        for room in re.findall(r"`(\w+)`", named)
    ]
    assert drawn == ROOMS


def test_the_map_names_only_what_is_there():
    named = re.findall(r"`((?:nbs|tests|docs|scripts|cerebro_nb)/[\w./*-]*)`", MAP)
    missing = [path for path in named if not list(ROOT.glob(path.rstrip("/")))]
    assert len(named) > 20 and not missing


@pytest.mark.parametrize(
    "what",
    ["num_ctx", "backend", "column", "kind", "shape", "retry", "chunker", "field of the panel", "command", "database"],
)
def test_the_map_says_where_a_new_thing_goes(what):
    rows = re.findall(r"^\| (?!what)([^|]+) \| (.*`nbs/.*) \|$", MAP.partition("## To add something")[2], re.MULTILINE)
    assert any(what in title for title, _ in rows)
