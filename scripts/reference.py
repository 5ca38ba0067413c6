"""Write the reference of the site from the code: python scripts/reference.py FOLDER."""

import argparse
import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import sqlalchemy as sql
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import cerebro_nb
from cerebro_nb.cli.main import parser
from cerebro_nb.errors import CerebroError
from cerebro_nb.profiles import PROFILES, Profile
from cerebro_nb.settings import Settings
from cerebro_nb.tasks import schema

MADE = "<!-- Made by scripts/reference.py from the code: change the code. -->"

#: What the parts of the package are called, in the order in which a reader wants them.
PARTS = {
    "generating": "Generating examples and notes",
    "batching": "Runs",
    "launching": "Batches, resuming, comparing",
    "client": "Calls to a model",
    "protocol": "Messages and replies",
    "backends": "Backends",
    "recipes": "Recipes",
    "gates": "Gates",
    "judging": "Judging and the search for prompts",
    "datasets": "Data sets",
    "evaluating": "Reports and evaluation",
    "documents": "Documents",
    "rows": "Rows",
    "texts": "Copies and embeddings",
    "vectors": "Vectors and search",
    "tasks": "The ledger",
    "panels": "Panels",
    "cluster": "Several machines",
    "": "Settings, errors, log",
}
RETRIES = {
    "never": "no",
    "transient": "yes",
    "broken": "yes; two broken connections count as one try",
    "refused": "yes; three refusals count as one try",
    "pressure": "yes, with fewer requests at once",
}


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return rows as a table of Markdown."""
    cells = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells)


def first_line(value: Any) -> str:
    """Return the first paragraph of a docstring, in a line."""
    return " ".join((inspect.getdoc(value) or "").partition("\n\n")[0].split()).replace("``", "`")


# --- names


def part_of(name: str) -> str:
    """Return the part of the package in which a public name stands."""
    home = cerebro_nb._HOMES[name]
    return home.partition(".")[0] if "." in home else ""


def directive(name: str) -> str:
    """Return what has Sphinx show a public name; a table of values is told by its keys."""
    value, module = getattr(cerebro_nb, name), f"cerebro_nb.{cerebro_nb._HOMES[name]}"
    if isinstance(value, Mapping):
        keys = ", ".join(f"``{key}``" for key in value)
        return f".. py:data:: {name}\n   :module: {module}\n\n   By their names: {keys}."
    kind = "exception" if name == "CerebroError" else "class" if inspect.isclass(value) else "function"
    lines = [f".. auto{kind}:: {module}.{name}"]
    if inspect.isclass(value) and issubclass(value, BaseModel):
        # What pydantic adds would drown the fields; the page of the settings tells them.
        lines += ["   :exclude-members: model_config, model_fields, model_computed_fields", "   :no-undoc-members:"]
    return "\n".join(lines)


def names() -> dict[str, str]:
    """Return a page for each part of the package, and the list of them."""
    unknown = {part_of(name) for name in cerebro_nb.__all__} - set(PARTS)
    parts = {**PARTS, **{part: part.capitalize() for part in sorted(unknown)}}
    pages, listed = {}, []
    for part, title in parts.items():
        own = [name for name in cerebro_nb.__all__ if part_of(name) == part]
        if not own:
            continue
        page = part or "ground"
        twins = {name for name in own if name.startswith("a") and name[1:] in own}
        rst = "\n\n".join(directive(name) for name in own if name not in twins)
        told = ""
        if twins:
            words = ", ".join(f"`{name}`" for name in sorted(twins))
            told = f"\nTo be awaited, with the same parameters: {words}.\n"
        pages[f"api/{page}.md"] = f"{MADE}\n# {title}\n{told}\n```{{eval-rst}}\n{rst}\n```\n"
        listed.append((f"[{title}](api/{page}.md)", ", ".join(f"`{name}`" for name in own if name not in twins)))
    tree = "\n".join(f"api/{part or 'ground'}" for part in parts if f"api/{part or 'ground'}.md" in pages)
    pages["api.md"] = (
        f"{MADE}\n# Python\n\nAll of these are imported from `cerebro_nb`. A function that does work has a twin to be\n"
        "awaited, with an `a` before its name: `generate_qa` and `agenerate_qa`.\n\n"
        f"{table(('part', 'names'), listed)}\n\n```{{toctree}}\n:hidden:\n{tree}\n```\n"
    )
    return pages


# --- commands


def commands(top: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of a parser's commands by their names."""
    return next(dict(action.choices) for action in top._actions if isinstance(action, argparse._SubParsersAction))


def default_of(action: argparse.Action) -> str:
    """Return a word's default as it is shown, empty for those that have none."""
    if action.default in (None, False, argparse.SUPPRESS) or action.default == []:
        return ""
    return f"`{action.default}`"


def options_of(command: argparse.ArgumentParser) -> str:
    """Return the words of a command as a table."""
    rows = []
    for action in command._actions:
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction) or action.help == argparse.SUPPRESS:
            continue
        called = ", ".join(f"`{word}`" for word in action.option_strings) or f"`{action.metavar or action.dest}`"
        choices = f" One of {', '.join(f'`{choice}`' for choice in action.choices)}." if action.choices else ""
        told = (
            (action.help or "").replace("%%", "%") % {"default": action.default, "prog": command.prog}
            if "%(" in (action.help or "")
            else action.help or ""
        )
        rows.append((called, f"{told.replace('``', '`')}{choices}", default_of(action)))
    return table(("word", "what it is", "default"), rows)


def command_line() -> str:
    """Return the page of the command line, from its parser."""
    top = parser()
    parts = [
        f"{MADE}\n# The command line\n\n`cerebro COMMAND --help` says the same in the terminal. Exit status: "
        "0 done, 1 an error (said on standard error), 2 wrong words, 130 stopped by Ctrl-C.\n\n## For every command\n",
        options_of(top),
    ]
    for name, command in commands(top).items():
        usage = " ".join(command.format_usage().split()).removeprefix("usage: ")
        about = (command.description or "").replace("``", "`")
        parts.append(f"\n## cerebro {name}\n\n{about}\n\n```text\n{usage}\n```\n\n{options_of(command)}")
    return "\n".join(parts) + "\n"


# --- settings


def bounds_of(field: FieldInfo) -> str:
    """Return what values a field takes, in a few words."""
    words, choices = [], []
    for kind in (field.annotation, *get_args(field.annotation)):
        choices += [choice for choice in get_args(kind) if isinstance(choice, str | bool)]
    if choices:
        words.append(", ".join(f"`{choice}`" for choice in dict.fromkeys(choices)))
    limits: dict[str, Any] = {}
    for known in [*field.metadata, *(part for kind in get_args(field.annotation) for part in metadata_of(kind))]:
        for sign in ("ge", "gt", "le", "lt", "pattern", "min_length", "max_length"):
            if (value := getattr(known, sign, None)) is not None:
                limits.setdefault(sign, value)
    low = f"{limits['ge']:,}" if "ge" in limits else f"above {limits['gt']:,}" if "gt" in limits else ""
    high = f"{limits['le']:,}" if "le" in limits else f"below {limits['lt']:,}" if "lt" in limits else ""
    if low or high:
        words.append(f"{low} to {high}" if low and high else f"from {low}" if low else f"up to {high}")
    if "pattern" in limits:
        words.append(f"as `{limits['pattern']}`")
    if "max_length" in limits and "min_length" not in limits:
        words.append(f"{limits['max_length']} at most")
    return "; ".join(words)


def metadata_of(kind: Any) -> list[Any]:
    """Return what an annotation adds to a type: its limits."""
    found = []
    for part in getattr(kind, "__metadata__", ()):
        found += [part, *getattr(part, "metadata", ())]
    return found


def in_toml(value: Any) -> str:
    """Return a value as TOML has it; none is a dash."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{list(value)}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def shown_default(field: FieldInfo) -> str:
    """Return a field's default; a folder of the user's is told in words."""
    value = field.get_default(call_default_factory=True)
    return "your data folder" if isinstance(value, Path) else in_toml(value)


def settings_table(path: tuple[str, ...], fields: Mapping[str, FieldInfo]) -> str:
    """Return a row for each setting of a group."""
    rows = [
        (
            f"`{name}`<br>`CEREBRO_{'__'.join((*path, name)).upper()}`",
            field.description or "",
            "by profile" if field.is_required() else shown_default(field),
            bounds_of(field),
        )
        for name, field in fields.items()
    ]
    return table(("key, variable", "what it is", "default", "values"), rows)


def groups_of(
    model: type[BaseModel], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, FieldInfo]]]:
    """Yield the groups of settings with their fields, the group that holds others first."""
    inner = {name: kind for name, field in model.model_fields.items() if is_group(kind := field.annotation)}
    yield path, {name: field for name, field in model.model_fields.items() if name not in {*inner, "profiles"}}
    for name, kind in inner.items():
        yield from groups_of(kind, (*path, name))


def is_group(kind: Any) -> bool:
    """Whether a field holds settings of its own."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def profiles_table() -> str:
    """Return what the profiles of the package have."""
    columns = [name for name in Profile.model_fields if name != "name"]
    rows = [
        (f"`{name}`", *(in_toml(getattr(profile, column)) for column in columns)) for name, profile in PROFILES.items()
    ]
    return table(("profile", *(f"`{column}`" for column in columns)), rows)


def settings_page() -> str:
    """Return the page of the settings, from their fields."""
    parts = [
        f"""{MADE}
# Settings

A value comes from an argument, else from the environment, else from `cerebro.toml`, else from its default. The file
is the one that `CEREBRO_CONFIG` names, else `cerebro.toml` in the working folder, else the one in your configuration
folder. A key is read from `CEREBRO_API_KEY`, `OPENAI_API_KEY` or `OLLAMA_API_KEY` alone; `OLLAMA_HOST` says where an
Ollama listens, as it does for Ollama itself.

A heading below is the group's in `cerebro.toml`. In Python it is `load_settings(generation={{"num_ctx": 8192}})`, and
`load_settings().generation.num_ctx` is the value.
"""
    ]
    for path, fields in groups_of(Settings):
        title = f"`[{'.'.join(path)}]`" if path else "At the top of the file"
        parts.append(f"## {title}\n\n{settings_table(path, fields)}\n")
    own = {name: field for name, field in Profile.model_fields.items() if name != "name"}
    parts.append(
        f"""## `[profiles.synthetic]`

Each profile has these values. A name of your own makes a profile that begins as `synthetic`.

{settings_table(("profiles", "synthetic"), own)}

The profiles of the package:

{profiles_table()}
"""
    )
    return "\n".join(parts)


# --- errors


def error_classes(kind: type[CerebroError] = CerebroError, depth: int = 0) -> Iterator[tuple[type[CerebroError], int]]:
    """Yield every error class with its depth in the tree."""
    yield kind, depth
    for child in sorted(kind.__subclasses__(), key=lambda known: known.__name__):
        if child.__module__ == CerebroError.__module__:
            yield from error_classes(child, depth + 1)


def errors_page() -> str:
    """Return the page of the errors, from their classes."""
    found = list(error_classes())
    tree = "\n".join(f"{'  ' * depth}{kind.__name__}" for kind, depth in found)
    rows = [(f"`{kind.__name__}`", first_line(kind), RETRIES[kind.retry]) for kind, _ in found]
    return f"""{MADE}
# Errors

Every error that is raised on purpose is a `CerebroError`: `error.message` says what happened, `error.hint` what to do,
`error.details` holds further facts, and `error.item` the item's position. [When things fail](../when-things-fail.md)
says what to do about each. They are imported from `cerebro_nb.errors`.

```text
{tree}
```

{table(("class", "what happened", "tried again by itself"), rows)}
"""


# --- tables


def type_of(column: "sql.Column[Any]") -> str:
    """Return a column's type, in the words of the ledger."""
    name = type(column.type).__name__
    told = {"JsonText": "JSON, as text", "VectorType": "float32 vector"}
    length = getattr(column.type, "length", None)
    return told.get(name) or (f"{name.lower()}({length})" if length else name.lower())


#: What columns hold, by their names, wherever they stand.
COLUMNS = {
    "address": "of a server",
    "attempts": "how many requests were made for it",
    "backend": "what was asked",
    "changed_at": "when a vector was last written",
    "collection": "which one it is in",
    "completion_tokens": "tokens written",
    "created_at": "when it was made",
    "dimension": "numbers of a vector",
    "edited": "the answer as a reader wrote it better",
    "end_at": "where it ends in its document",
    "error": "what went wrong: type, message, hint, details",
    "failed_items": "how many failed",
    "finish_reason": "why the answer ended, such as stop or length",
    "finished_at": "when it ended",
    "host": "from which machine",
    "id": "twelve hexadecimal digits",
    "input": "what is asked about",
    "is_most": "whether more were tried and served worse",
    "key": "the hash of all that decides the answer",
    "kind": "what is made, such as qa_generation",
    "lease_holder": "which process works on it",
    "lease_until": "until when that is believed without a sign of life",
    "manifest": "what the run was made with: model, options, seed, versions",
    "mark": "what a reader made of it: accepted or rejected",
    "metadata": "whatever was given to keep with it",
    "model": "which model",
    "name": "what it is called",
    "noted_at": "when that was noted",
    "number": "its place, from 0 or 1",
    "ok_items": "how many have an answer",
    "output": "the answer",
    "page": "the page of its document",
    "position": "the item's place, from 0",
    "processed_items": "how many ended",
    "prompt_tokens": "tokens read",
    "reply": "what came back, whole",
    "request": "what was sent, without a key",
    "results": "what `complete_task` was given, and what gates refused",
    "served": "how many requests at once were served well",
    "sha256": "of its text",
    "source": "which document",
    "start_at": "where it begins in its document",
    "started_at": "when it was begun",
    "status": "its state, as in the page on concepts",
    "step": "which step answered: call, repair, reuse, a fallback",
    "subject": "about what",
    "task_id": "of which task",
    "text": "of the piece",
    "total_items": "how many there are to be; empty while not known",
    "updated_at": "when it last changed",
    "vector": "of length 1",
    "version": "of these tables",
}


def tables() -> list[sql.Table]:
    """Return the tables of the ledger, in the order of their making."""
    return list(schema.TASKS.metadata.sorted_tables)


def schema_page() -> str:
    """Return the page of the ledger's tables, from their definition."""
    parts = [
        f"""{MADE}
# The ledger's tables

Version {schema.SCHEMA_VERSION}. SQLite and PostgreSQL hold the same tables; times are seconds since 1970 in UTC.
`tasks_df`, `items_df` and the `Ledger` read them; they may be read by any other program too, while Cerebro alone should
write them. An older ledger is brought forward when it is opened, a newer one is left alone.
"""
    ]
    for known in tables():
        rows = []
        for column in known.columns:
            keys = [
                *(["key"] if column.primary_key else []),
                *(f"of `{key.target_fullname}`" for key in column.foreign_keys),
                *([] if column.nullable else ["never empty"]),
            ]
            rows.append((f"`{column.name}`", type_of(column), ", ".join(keys), COLUMNS.get(column.name, "")))
        parts.append(f"## {known.name}\n\n{table(('column', 'type', 'constraints', 'what it holds'), rows)}\n")
    return "\n".join(parts)


def pages() -> dict[str, str]:
    """Return all pages of the reference by their names."""
    return {
        **names(),
        "cli.md": command_line(),
        "settings.md": settings_page(),
        "errors.md": errors_page(),
        "schema.md": schema_page(),
    }


def write(folder: Path) -> None:
    """Write the pages that are not there as they should be."""
    for name, text in pages().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
