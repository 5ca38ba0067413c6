"""What users read first: each block works as printed, each link leads somewhere, and nothing is left out."""

import inspect
import json
import os
import random
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path

import pytest
from fakes import FakeOllama, read, written

import cerebro_nb
from cerebro_nb import GATES, PROFILES, errors, load_settings, read_recipe
from cerebro_nb.backends.pulling import PACKAGED_MODELS
from cerebro_nb.cli.main import main, parser
from cerebro_nb.recipes.library import library

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SETTINGS = ConfigParser(delimiters=["="])
SETTINGS.read(ROOT / "settings.ini", encoding="utf-8")
ABSOLUTE = re.compile(SETTINGS["DEFAULT"]["git_url"] + r"/(?:blob|tree)/main/([^)#]+)(?:#([^)]+))?")
READMES = [ROOT / "README.md", ROOT / "README.pt-BR.md"]
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if not {"reference", "tutorials"} & set(page.parts)]
PAPERS = [*READMES, *PAGES, *(ROOT / name for name in ("SECURITY.md", "CONTRIBUTING.md", "CODE_OF_CONDUCT.md"))]
NAMED = "llama3.2:latest", "llama3.2:1b", "qwen3:14b", "my-tuned:latest"


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


BLOCK = re.compile(r"(<!-- not run: [^>]+ -->\n+)?^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def blocks_of(page: Path, *languages: str) -> list[tuple[str, str]]:
    """Return the blocks of a page in their order, with their languages; those inside a list are taken out of it.

    One that wants what no test has, such as a cluster, has a comment before it that says so: it is only compiled.
    """
    found = []
    for left_out, indent, kind, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        block = inspect.cleandoc(text) if indent else text
        if left_out:
            compile(block, name_of(page), "exec")
        elif kind in languages:
            found.append((kind, block))
    return found


# --- a server that answers whatever the pages ask

_DE_QUEM = "a horta o vaso o jardim a estufa o canteiro a varanda o quintal o pomar".split()
_FAZ = "precisa de sol|gosta de sombra|pede pouca água|melhora com adubo|cresce devagar|aguenta o frio".split("|")


def em_portugues(words: str, asks: bool) -> str:
    """Return a sentence in Portuguese that differs for different words: whole, plain, and of no meaning."""
    chance = random.Random(words)
    place, number = chance.randrange(0, len(_DE_QUEM), 2), chance.randrange(10_000)
    who, does = " ".join(_DE_QUEM[place : place + 2]), chance.choice(_FAZ)
    if asks:
        return f"Por que {who} número {number} da nossa rua {does} durante o verão?"
    return (
        f"Aqui {who} número {number} da nossa rua {does}, porque a terra dali é diferente e o vento não chega até lá."
    )


def translated(value: object, words: str, name: str = "") -> object:
    """Return an answer with Portuguese in the place of its sentences."""
    if isinstance(value, dict):
        return {key: translated(part, f"{words} {key}", key) for key, part in value.items()}
    if isinstance(value, list):
        return [translated(part, f"{words} {place}", name) for place, part in enumerate(value)]
    return em_portugues(words, name == "question") if isinstance(value, str) and " " in value else value


def answered(payload: dict) -> str:
    """Answer as a model that always fits: in the language, and from the text, that the prompt names."""
    asked, said = payload["messages"][-1]["content"], written(payload)
    if "português" not in json.dumps(payload["messages"], ensure_ascii=False):
        return read(asked) or said
    answer = translated(json.loads(said), said) if payload.get("format") else em_portugues(said, asks=False)
    return json.dumps(answer, ensure_ascii=False) if payload.get("format") else str(answer)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOllama]:
    """Have an Ollama there that has each model that the pages name, and no rest between what is asked."""
    for profile in map(str.upper, PROFILES):
        monkeypatch.setenv(f"CEREBRO_PROFILES__{profile}__DELAY_S", "0")
        monkeypatch.setenv(f"CEREBRO_PROFILES__{profile}__BACKOFF_S", "0")
    with FakeOllama(answered) as fake:
        fake.models = [*NAMED]
        monkeypatch.setenv("OLLAMA_HOST", fake.url)
        yield fake


# --- what is said in a shell


def extras() -> set[str]:
    return {key.removesuffix("_requirements") for key in SETTINGS["DEFAULT"] if key.endswith("_requirements")} - {"dev"}


def check_words(line: str) -> None:
    """See that a line for a shell says what there is: a command with its words, an extra, a target of the Makefile."""
    program, *words = shlex.split(line, comments=True)
    if program == "cerebro":
        parser().parse_args(words)
    elif program == "pip":
        wanted = re.fullmatch(r"cerebro-nb(?:\[([\w,]+)\])?", words[-1])
        assert words[:-1] == ["install"] and wanted, line
        assert set((wanted[1] or "").split(",")) - {""} <= extras(), line
    elif program == "make":
        assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), line
    else:
        assert (program == "ollama" and words[0] == "pull") or program == "export", line


def lines_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def run_line(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do what a line for a shell does, in this process; what installs and what other programs do is only checked."""
    check_words(line)
    program, *words = shlex.split(line, comments=True)
    if program == "cerebro":
        assert main(words) == 0, line
    elif program == "export":
        monkeypatch.setenv(*words[0].split("=", 1))


# --- the READMEs


@pytest.mark.costly
@pytest.mark.parametrize("readme", READMES, ids=name_of)
def test_each_block_of_a_readme_works_as_printed(readme, server, monkeypatch, capsys):
    assert not list(Path().iterdir())
    names: dict[str, object] = {}
    told = ""
    for kind, text in blocks_of(readme, "sh", "python", "text"):
        if kind == "python":
            exec(compile(text, name_of(readme), "exec"), names)
        elif kind == "sh":
            for line in lines_of(text):
                run_line(line, monkeypatch)
            shown = capsys.readouterr()
            told = (shown.out + shown.err).replace(server.url, "http://127.0.0.1:11434")
        else:
            assert not [line for line in text.splitlines() if line not in told], told
    assert all(names["run"].df["status"] == "ok") and any(Path().glob("*/train.jsonl"))


@pytest.mark.parametrize("readme", READMES, ids=name_of)
def test_a_readme_is_short_and_stands_alone_on_any_page(readme):
    text = readme.read_text(encoding="utf-8")
    assert len(text.split()) <= 700
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 10 and all(link.startswith("https://") for link in links)
    for target in filter(None, map(ABSOLUTE.match, links)):
        assert (ROOT / target[1]).exists(), target[1]


# --- the pages


@pytest.mark.costly
@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page, "python")], ids=name_of)
def test_the_python_of_a_page_runs_in_its_order(page, server):
    names: dict[str, object] = {}
    for _, text in blocks_of(page, "python"):
        exec(compile(text, name_of(page), "exec"), names)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page, "sh", "toml")], ids=name_of)
def test_the_commands_and_the_files_of_a_page_are_ones(page, monkeypatch):
    for kind, text in blocks_of(page, "sh", "toml"):
        if kind == "sh":
            for line in lines_of(text):
                check_words(line)
            continue
        values = tomllib.loads(text)
        file = Path(f"{values.get('name', 'cerebro')}.toml")
        file.write_text(text, encoding="utf-8")
        if "fields" in values:
            read_recipe(file)
        else:
            monkeypatch.setenv("CEREBRO_CONFIG", str(file))
            load_settings()
            monkeypatch.delenv("CEREBRO_CONFIG")


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


@pytest.fixture(scope="session")
def reference(tmp_path_factory) -> Path:
    """Write the reference as the site's build does, and return where it lies."""
    folder = tmp_path_factory.mktemp("reference")
    subprocess.run([sys.executable, ROOT / "scripts" / "reference.py", folder], check=True, timeout=120)
    return folder


def target_of(page: Path, link: str, reference: Path) -> tuple[Path, str]:
    """Return which file a link of a page leads to, and to which heading of it."""
    if absolute := ABSOLUTE.match(link):
        return ROOT / absolute[1], absolute[2] or ""
    path, _, anchor = link.partition("#")
    target = Path(os.path.normpath(page.parent / path)) if path else page
    if target.is_relative_to(DOCS / "reference"):
        target = reference / target.relative_to(DOCS / "reference")
    return target, anchor


@pytest.mark.parametrize("page", PAPERS, ids=name_of)
def test_each_link_leads_to_what_is_there(page, reference):
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if link.startswith("https://") and not ABSOLUTE.match(link):
            continue
        target, anchor = target_of(page, link, reference)
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


def test_twenty_questions_are_answered_in_two_clicks(reference):
    start, answers = DOCS / "index.md", DOCS / "how-to.md"
    assert "](how-to.md)" in start.read_text(encoding="utf-8")
    questions = re.findall(r"^- \[([^\]]+)\]\(([^)]+)\)$", answers.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(questions) >= 20 and len(dict(questions)) == len(questions)
    for question, link in questions:
        target, anchor = target_of(answers, link, reference)
        assert not anchor or anchor in headings(target), question
    asked = " ".join(question for question, _ in questions)
    for wanted in ("the time an item may take", "only accepted rows", "failed mean", "two Ollamas", "my own prompt"):
        assert wanted in asked, wanted


def test_each_page_is_in_the_list_of_pages():
    listed = re.findall(r"```\{toctree\}\n(.*?)```", (DOCS / "index.md").read_text(encoding="utf-8"), re.DOTALL)
    names = {line for block in listed for line in block.splitlines() if line and not line.startswith(":")}
    pages = {str(page.relative_to(DOCS).with_suffix("")) for page in PAGES} - {"index", "architecture"}
    assert {page for page in pages if not any(fnmatch(page, name) for name in names)} == set()


# --- nothing is left out


def error_names() -> set[str]:
    found = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    return {name for name in found if issubclass(getattr(errors, name), errors.CerebroError)} - {"CerebroError"}


def first_cells(page: Path) -> set[str]:
    return set(re.findall(r"^\| `([^`]+)`", page.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("page", ["when-things-fail.md", "pt-br/when-things-fail.md"])
def test_each_error_has_what_to_do(page):
    assert first_cells(DOCS / page) == error_names()


def test_each_gate_each_recipe_and_each_extra_is_told():
    assert first_cells(DOCS / "gates.md") == set(GATES)
    recipes = (DOCS / "recipes.md").read_text(encoding="utf-8")
    assert not [name for name in library() if f"`{name}`" not in recipes]
    start = (DOCS / "quickstart.md").read_text(encoding="utf-8")
    assert not [name for name in extras() - {"docs"} if f"`{name}`" not in start]


def test_the_reference_has_every_name_command_setting_and_column(reference):
    names = "".join(path.read_text(encoding="utf-8") for path in (reference / "api").iterdir())
    assert not [name for name in cerebro_nb.__all__ if not re.search(rf"\b{name}\b", names)]
    commands = (reference / "cli.md").read_text(encoding="utf-8")
    assert {"cerebro generate", "cerebro export", "cerebro doctor"} <= set(re.findall(r"^## (.+)$", commands, re.M))
    settings = (reference / "settings.md").read_text(encoding="utf-8")
    for name in ("CEREBRO_MODEL", "CEREBRO_GENERATION__NUM_CTX", "CEREBRO_PROFILES__SYNTHETIC__TIMEOUT_S"):
        assert f"`{name}`" in settings
    assert first_cells(reference / "errors.md") == error_names() | {"CerebroError"}
    tables = re.findall(r"^## (\w+)$", (reference / "schema.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"tasks", "items", "attempts", "cerebro_schema"} <= set(tables)


def test_the_papers_of_the_project_say_what_the_code_says():
    model = next(iter(PACKAGED_MODELS.values()))
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    assert model.sha256 in notice and f"{model.package} {model.version}" in notice and model.file_name in notice
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert ".ci/run" in workflow


OF_THE_MAKERS = re.compile(r"\b(?:rooms|house|the brief|the note)\b", re.IGNORECASE)


@pytest.mark.parametrize("path", [*PAPERS, ROOT / "CHANGELOG.md"], ids=name_of)
def test_users_are_spoken_to_in_their_own_words(path):
    if path.name != "architecture.md":  # which says what its words mean
        assert not OF_THE_MAKERS.findall(path.read_text(encoding="utf-8"))
