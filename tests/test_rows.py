"""Rows made elsewhere: read by one door whatever they come in, and imported as the items of a task."""

import asyncio
import csv
import datetime
import decimal
import io
import json
import subprocess
import sys
import zipfile

import datasets
import numpy as np
import openpyxl
import pandas
import pyarrow
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from cerebro_nb import (
    aimport_rows,
    aread_rows,
    errors,
    examples,
    export_dataset,
    find_duplicates,
    import_rows,
    import_run,
    quality_report,
    read_rows,
    resume,
    retry_failed,
)
from cerebro_nb.datasets.shapes import shaped
from cerebro_nb.rows.row_values import MOST_CELL_CHARACTERS, MOST_COLUMNS, MOST_ROWS
from cerebro_nb.rows.rows import Reading, found_rows

datasets.disable_progress_bars()


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")


@pytest.fixture
def ledger_url(tmp_path):
    return f"sqlite:///{tmp_path / 'ledger.db'}"


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def as_csv(rows, **dialect):
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), **dialect)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


# --- files


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_is_read_whatever_its_encoding_and_delimiter(encoding, delimiter, tmp_path):
    rows = [{"Pergunta": f"Não há café às {n} h; por quê, João?", "Preço": f"{n},50"} for n in range(20)]
    path = written(tmp_path / "perguntas.csv", as_csv(rows, delimiter=delimiter).encode(encoding))
    found = found_rows(path, Reading())
    assert found.rows == rows and found.name == "perguntas.csv"
    assert ("encoding" in str(found.notes)) == (encoding in ("cp1252", "utf-16-le"))
    assert ("stand apart" in str(found.notes)) == (delimiter != ",")


def test_what_is_named_is_not_guessed(tmp_path):
    path = written(tmp_path / "a.csv", "a;b,c\n1;2,3\n4;5,6\n".encode("cp1252"))
    assert read_rows(path, delimiter=";") == [{"a": "1", "b,c": "2,3"}, {"a": "4", "b,c": "5,6"}]
    path = written(tmp_path / "b.csv", "a\né\n".encode("mac_roman"))
    assert read_rows(path, encoding="mac_roman") == [{"a": "é"}]
    assert read_rows(written(tmp_path / "c.tsv", "a\tb;c\n1\t2;3\n")) == [{"a": "1", "b;c": "2;3"}]


def test_cells_of_a_csv_are_texts_as_they_stand(tmp_path):
    content = 'n,formula,quoted,zero\r\n007,"=HYPERLINK(""http://x"")","two\r\nlines",\r\n1e5,-1+1,"a, b",NA\r\n\r\n'
    rows = read_rows(written(tmp_path / "x.csv", content))
    assert rows == [
        {"n": "007", "formula": '=HYPERLINK("http://x")', "quoted": "two\nlines", "zero": None},
        {"n": "1e5", "formula": "-1+1", "quoted": "a, b", "zero": "NA"},
    ]


def test_excels_own_line_and_an_index_without_a_name_are_understood(tmp_path):
    path = written(tmp_path / "x.csv", "\ufeffsep=|\r\n|question\r\n0|Hot?\r\n")
    assert read_rows(path) == [{"column_1": "0", "question": "Hot?"}]


def test_a_cell_longer_than_pythons_own_limit_is_read_and_the_limit_is_left_as_it_was(tmp_path):
    before = csv.field_size_limit()
    long = "x" * (before + 1)
    assert read_rows(written(tmp_path / "x.csv", f"a,b\n{long},1\n"))[0]["a"] == long
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.csv", "a,b\n1,2\n1,2,3\n", "line 3 has 3 cells, and there are 2 headings"),
        ("x.csv", 'a,b\n"x\ny",2\n1,2,3\n', "line 4 has 3 cells"),
        ("x.csv", "a,b,a\n1,2,3\n", "two columns of line 1 are called 'a'"),
        ("x.csv", 'a,b\n"open,2\n', "row at line 2 is no CSV"),
        ("x.csv", "", "there are no rows in it"),
        ("x.csv", "a,b\n", "there are no rows in it"),
        ("x.jsonl", "\n\n", "there are no rows in it"),
        ("x.jsonl", '{"a": 1}\n{"a": }\n', "line 2 is no JSON: Expecting value at column 7"),
        ("x.ndjson", '{"a": 1}\n[1, 2]\n', "line 2 is a list, and not an object"),
        ("x.jsonl", "[" * 100_000 + "\n", "line 1 is no JSON: it is too deep"),
        (
            "x.jsonl",
            '{"a": ' + "[" * 50 + "]" * 50 + "}\n",
            "column 'a' of line 1 cannot be kept: it is more than 20 deep",
        ),
        ("x.jsonl", '{"a": ' + "9" * 5_000 + "}\n", "line 1 is no JSON"),
        ("x.jsonl", '{"a": ' + "9" * 1_500 + "}\n", "more than a thousand digits"),
        ("x.jsonl", '{" a": 1, "a": 2}\n', "two columns of line 1 are called 'a'"),
        ("x.json", '{"a": 1}', "it is a dict, and not a list of rows"),
        ("x.json", "[1]", "row 1 is a int"),
        ("x.json", '[{"a": 1},\n {"a" 2}]', "at line 2, column 7"),
        ("x.csv", ",".join(map(str, range(100_000))) + "\n", "100,000 columns, and there may be 2,000"),
        ("x.jsonl", json.dumps(dict.fromkeys(map(str, range(100_000)))), "100,000 columns"),
        (
            "x.csv",
            "a\n" + "x" * (MOST_CELL_CHARACTERS + 1) + "\n",
            "column 'a' of line 2 cannot be kept: it has more than",
        ),
        ("x.csv", "a\n" + "x" * (MOST_CELL_CHARACTERS + 2) + "\n", "the row at line 2 is no CSV: field larger"),
        ("x.jsonl", json.dumps({"a": "x" * (MOST_CELL_CHARACTERS + 1)}), "more than 1,000,000 characters"),
        ("x.parquet", b"PAR1 and no more PAR1", "it cannot be read as Parquet"),
        ("x.parquet", b"", "it cannot be read as Parquet"),
    ],
)
def test_what_is_broken_is_said_with_the_file_and_the_place(name, content, reason, tmp_path):
    with pytest.raises(errors.SourceError) as refused:
        read_rows(written(tmp_path / name, content))
    assert reason in refused.value.message and refused.value.message.startswith(f"{name}: ")
    assert refused.value.hint and len(str(refused.value)) < 1_000


def test_columns_that_are_many_only_together_are_too_many(tmp_path):
    lines = "".join(json.dumps({f"key {n}": 1}) + "\n" for n in range(MOST_COLUMNS + 1))
    with pytest.raises(errors.SourceError, match="line 2001 there are more than 2,000 columns"):
        read_rows(written(tmp_path / "x.jsonl", lines))


def test_a_file_of_a_gigabyte_is_refused_before_it_is_read(tmp_path):
    for suffix in ("csv", "jsonl", "parquet"):
        with (tmp_path / f"x.{suffix}").open("wb") as file:
            file.truncate(1_000_000_000)
        with pytest.raises(errors.SourceError, match="1,000,000,000 bytes"):
            read_rows(tmp_path / f"x.{suffix}")


def test_a_small_parquet_file_that_announces_too_much_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"n": pyarrow.array(np.zeros(MOST_ROWS + 1, dtype="int8"))}), path)
    with pytest.raises(errors.SourceError, match="more than the 1,000,000 rows"):
        read_rows(path)
    assert read_rows(path, limit=2) == [{"n": 0}] * 2
    path = tmp_path / "texts.parquet"
    text = "x" * (MOST_CELL_CHARACTERS + 1)
    parquet.write_table(pyarrow.table({"text": [text] * 500}), path)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(errors.SourceError, match="'text' of row 1 cannot be kept"):
        read_rows(path)


def workbook(path, **sheets):
    made = openpyxl.Workbook()
    made.remove(made.active)
    for name, rows in sheets.items():
        sheet = made.create_sheet(name)
        for row in rows:
            sheet.append(row)
    made.save(path)
    return path


def test_a_sheet_of_a_workbook_is_read_and_which_is_said(tmp_path, caplog):
    when = datetime.datetime(2024, 2, 29, 13, 30)
    rows = [["question", "day", "when", "n"], ["How hot?", when.date(), when, 80], [], ["Why?", None, None, "#N/A"]]
    path = workbook(tmp_path / "pairs.xlsx", pairs=rows, notes=[["n"], ["=1+1"], [2.5]])
    assert read_rows(path) == [
        {"question": "How hot?", "day": "2024-02-29", "when": "2024-02-29T13:30:00", "n": 80},
        {"question": "Why?", "day": None, "when": None, "n": None},
    ]
    assert "'pairs' was read, and not notes" in caplog.text and "such as #N/A" in caplog.text
    assert read_rows(path, part="notes") == [{"n": 2.5}]  # no program has computed the formula
    with pytest.raises(errors.InputError, match="no part 'tea'"):
        read_rows(path, part="tea")


def test_a_sheet_that_is_huge_or_broken_is_refused(tmp_path):
    path = workbook(tmp_path / "wide.xlsx", a=[["n"], [1, None, "beyond"]])
    with pytest.raises(errors.SourceError, match="row 2 has 3 cells"):
        read_rows(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/huge.xml", bytes(301_000_000))
    with pytest.raises(errors.SourceError, match="it holds 301,"):
        read_rows(path)
    with pytest.raises(errors.SourceError, match="cannot be read as XLSX"):
        read_rows(written(tmp_path / "no.xlsx", "PK is not enough"))


def test_one_cell_in_the_last_corner_of_a_sheet_takes_no_memory(tmp_path):
    made = openpyxl.Workbook()
    made.active["A1"], made.active["A1048576"] = "n", 7
    made.save(tmp_path / "corner.xlsx")
    assert read_rows(tmp_path / "corner.xlsx") == [{"n": 7}]


@pytest.mark.parametrize("name", ["missing.csv", "notes.txt", "nul\0.csv", ".", "x" * 300 + ".csv"])
def test_what_is_no_source_is_refused(name, tmp_path):
    written(tmp_path / "notes.txt", "x")
    with pytest.raises(errors.InputError) as refused:
        read_rows(name)
    assert refused.value.hint


@pytest.mark.parametrize(
    ("source", "given", "reason"),
    [
        ([{"a": 1}], {"columns": ["b"]}, "no column 'b'"),
        ([{"a": 1}], {"columns": "a"}, "names no columns"),
        ([{"a": 1}], {"limit": 0}, "not at least 1"),
        ([{"a": 1}], {"encoding": "utf-8"}, "encoding"),
        ([{"a": 1}], {"part": "train"}, "part"),
        ("x.csv", {"delimiter": ";;"}, "separates no cells"),
        ("x.csv", {"encoding": "klingon"}, "klingon"),
        ("x.jsonl", {"delimiter": ";"}, "delimiter"),
        ({"a": [1]}, {}, "a dict holds no rows"),
        (7, {}, "holds no rows"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(source, given, reason, tmp_path):
    written(tmp_path / "x.csv", "a\n1\n"), written(tmp_path / "x.jsonl", '{"a": 1}\n')
    with pytest.raises(errors.InputError, match=reason):
        read_rows(source, **given)


# --- what is in memory


def test_scalars_of_others_become_plain():
    frame = pandas.DataFrame(
        {
            "text": pandas.Series(["a\x00\r\nb\ud800", None], dtype=object),
            "when": [pandas.Timestamp("2024-02-29T12:00", tz="UTC"), pandas.NaT],
            "kind": pandas.Categorical(["x", None]),
            "whole": pandas.array([1, pandas.NA], dtype="Int64"),
            "number": [1.5, float("nan")],
            "mixed": [np.array([1, 2]), {"t": datetime.timedelta(hours=1), "d": decimal.Decimal("1.5")}],
        }
    )
    assert read_rows(frame) == [
        {
            "text": "a\nb\ufffd",
            "when": "2024-02-29T12:00:00+00:00",
            "kind": "x",
            "whole": 1,
            "number": 1.5,
            "mixed": [1, 2],
        },
        {
            **dict.fromkeys(("text", "when", "kind", "whole", "number")),
            "mixed": {"t": "1:00:00", "d": 1.5},
        },
    ]
    json.dumps(read_rows(frame), allow_nan=False)


def test_what_runs_or_is_no_text_is_refused_and_named():
    class Trap:
        def __reduce__(self):
            raise AssertionError

        def as_py(self):
            raise RuntimeError("boo")

    loop: list = []
    loop += [loop, loop]
    for value, reason in (
        (b"x", "bytes"),
        (Trap(), "RuntimeError: boo"),
        (print, "no plain value"),
        (loop, "deep|charact"),
    ):
        with pytest.raises(errors.SourceError, match=f"'a' of row 1 cannot be kept.*({reason})"):
            read_rows([{"a": value}])
    assert read_rows([{"a": b"x", "b": 1}], columns=["b"]) == [{"b": 1}]
    twice = pandas.DataFrame([[1, 2]], columns=["a", "a"])
    with pytest.raises(errors.SourceError, match="two columns of the frame"):
        read_rows(twice)


def test_an_endless_source_is_cut_at_the_limit_and_one_that_breaks_is_said():
    assert read_rows(({"n": n} for n in iter(int, 1)), limit=3) == [{"n": 0}] * 3

    def broken():
        yield {"n": 0}
        raise ZeroDivisionError

    with pytest.raises(errors.SourceError, match="after row 1 its source raised ZeroDivisionError"):
        read_rows(broken())


ROWS = [
    {"question": f"How hot, {n}?", "tags": ["tea", None], "of": {"n": n, "x": None} if n else None, "a.b": n / 2}
    for n in range(250)
]


@pytest.mark.parametrize("kind", ["table", "parquet", "Dataset", "DatasetDict", "saved", "saved dict", "jsonl", "json"])
def test_the_same_rows_come_out_of_whatever_holds_them(kind, tmp_path):
    dataset = datasets.Dataset.from_list(ROWS)
    both = datasets.DatasetDict({"train": dataset.select(range(200)), "test": dataset.select(range(200, 250))})
    source = tmp_path / "made"
    if kind == "table":
        source = pyarrow.Table.from_pylist(ROWS)
    elif kind == "parquet":
        source = tmp_path / "x.parquet"
        parquet.write_table(pyarrow.Table.from_pylist(ROWS), source)
    elif kind in ("Dataset", "DatasetDict"):
        source = dataset if kind == "Dataset" else both
    elif kind in ("saved", "saved dict"):
        (dataset if kind == "saved" else both).save_to_disk(source)
    else:
        text = json.dumps(ROWS) if kind == "json" else "\n".join(map(json.dumps, ROWS))
        source = written(tmp_path / f"x.{kind}", text)
    assert read_rows(source) == ROWS and list(read_rows(source, limit=1)[0]) == list(ROWS[0])
    assert read_rows(source, columns={"asked": "question"}, limit=2) == [{"asked": row["question"]} for row in ROWS[:2]]
    if kind in ("DatasetDict", "saved dict"):
        assert read_rows(source, part="test") == ROWS[200:]
        with pytest.raises(errors.InputError, match="no part 'dev'"):
            read_rows(source, part="dev")


def test_a_picture_of_a_data_set_is_not_decoded(tmp_path):
    features = datasets.Features({"text": datasets.Value("string"), "picture": datasets.Image()})
    dataset = datasets.Dataset.from_list([{"text": "a", "picture": {"bytes": b"no png", "path": None}}], features)
    assert read_rows(dataset, columns=["text"]) == [{"text": "a"}]
    with pytest.raises(errors.SourceError, match="'picture' of row 1"):
        read_rows(dataset)


def test_it_is_awaited_too():
    assert asyncio.run(aread_rows([{"a": 1}])) == [{"a": 1}]


CLEAN = st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\t"))
FIELDS = ("question", "the answer", "größe")


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(FIELDS, CLEAN)), min_size=1, max_size=8), st.sampled_from(",;\t"))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@example([dict.fromkeys(FIELDS, '"')], ";")
@example([dict.fromkeys(FIELDS, "\n;,\t'=\u2028")], ",")
def test_texts_come_back_as_they_were_written(tmp_path, rows, delimiter):
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    assert read_rows(written(tmp_path / "x.jsonl", lines)) == rows
    cells = [{name: text or None for name, text in row.items()} for row in rows]
    content = as_csv(rows, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    assert read_rows(written(tmp_path / "x.csv", content), delimiter=delimiter, encoding="utf-8") == cells


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text() | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(st.lists(st.dictionaries(st.text(max_size=5), NESTED, max_size=4), max_size=4))
@settings(deadline=None, max_examples=200)
def test_whatever_comes_is_json_or_an_error_of_ours(rows):
    try:
        read = read_rows(rows)
    except errors.CerebroError:
        return
    json.dumps(read, allow_nan=False, ensure_ascii=False).encode()


# --- imported as a task


@pytest.fixture
def imported(ledger):
    def begun(source, **given):
        return import_rows(source, ledger=ledger, show_progress=False, **given)

    return begun


PAIRS = [{"question": f"How hot, {n}?", "answer": f"So hot: {n}."} for n in range(6)]


def test_rows_are_the_answered_items_of_a_task(imported, tmp_path):
    path = written(tmp_path / "pairs.csv", as_csv(PAIRS))
    run = imported(path)
    assert run.results == PAIRS and run.task.status == "completed" and run.task.kind == "imported"
    assert run.subject == "pairs.csv" and list(run.df)[:3] == ["position", "question", "answer"]
    source = run.task.manifest["source"]
    assert (source["name"], source["rows"]) == ("pairs.csv", 6) and str(tmp_path) not in json.dumps(run.task.manifest)
    assert len(source["sha256"]) == 64 and source["sha256"] == imported(path).task.manifest["source"]["sha256"]
    run.reject(0)
    run.edit(1, {"question": "How hot, 1?", "answer": "Better."})
    assert [row["answer"] for row in examples(run)] == ["Better.", *(row["answer"] for row in PAIRS[2:])]
    assert all(set(row["metadata"]) == {"task_id", "kind", "subject", "position"} for row in list(examples(run))[1:])


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Hot?", "answer": "Very."},
        {"Question ": "Hot?", "ANSWER": "Very."},
        {"Pergunta": "Hot?", "Resposta": "Very."},
        {"prompt": "Hot?", "completion": "Very."},
        {"instruction": "Hot?", "input": "", "output": "Very."},
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hot?"},
                {"role": "assistant", "content": "Very."},
            ]
        },
        {"conversations": [{"from": "human", "value": "Hot?"}, {"from": "gpt", "value": "Very."}]},
        {"messages": json.dumps([{"role": "user", "content": "Hot?"}, {"role": "assistant", "content": "Very."}])},
    ],
    ids=lambda row: ", ".join(row),
)
def test_pairs_are_known_by_any_of_their_names(row, imported, caplog):
    run = imported([row], kind="qa")
    assert run.results == [{"question": "Hot?", "answer": "Very."}] and run.task.kind == "qa_generation"
    assert [chat["messages"][-1]["content"] for chat in shaped(examples(run), "openai")] == ["Very."]
    assert bool(run.task.manifest["source"]["notes"]) == (set(row) != {"question", "answer"})
    assert all(note in caplog.text for note in run.task.manifest["source"]["notes"])
    own = imported([row])
    assert own.results == [{name.strip(): value for name, value in row.items()}]
    (chat,) = shaped(examples(own), "sharegpt")
    assert [said["value"] for said in chat["conversations"]][-2:] == ["Hot?", "Very."]


def test_alpacas_input_is_asked_with_its_instruction(imported):
    rows = [
        {"instruction": "Sum.", "input": "1, 2", "output": "3"},
        {"instruction": "Sing.", "input": None, "output": "La."},
    ]
    assert [row["question"] for row in imported(rows, kind="qa").results] == ["Sum.\n\n1, 2", "Sing."]


def test_columns_are_named_by_hand(imported):
    rows = [{"Pergunta": "wrong", "q": "Hot?", "a": "Very.", "fonte": "a leaflet"}]
    run = imported(rows, kind="qa", columns={"question": "q", "answer": "a"}, language="pt_BR", subject="chá")
    assert run.results == [{"question": "Hot?", "answer": "Very."}] and run.task.subject == "chá"
    (row,) = examples(run)
    assert row["metadata"]["fonte"] == "a leaflet" and row["metadata"]["language"] == "pt-BR"
    for columns, reason in (({"question": "Q"}, "no column 'Q'"), ({"fonte": "q"}, "one name")):
        with pytest.raises(errors.InputError, match=reason):
            imported(rows, kind="qa", columns=columns)
    with pytest.raises(
        errors.InputError, match="no column of a list is known to be question, answer; it has text"
    ) as no:
        imported([{"text": "A leaf."}], kind="qa")
    assert "columns=" in no.value.hint


def test_a_row_that_does_not_fit_fails_alone_and_is_all_there(imported, ledger):
    rows = [
        *PAIRS,
        {"question": "Hot?", "id": 7},
        {"question": "\n", "answer": "x"},
        {"question": ["a"], "answer": "x"},
    ]
    run = imported([*rows, {"question": 80, "answer": 1.5}], kind="qa")
    assert run.task.status == "completed" and (run.progress.ok, run.progress.failed) == (7, 3)
    assert [error["message"].split(":")[0] for error in run.errors.values()] == [
        "answer is missing",
        "question is blank",
        "question does not fit",
    ]
    assert [item["input"] for item in ledger.items(run.task_id, "failed")] == rows[6:]
    assert run.results[-1] == {"question": "80", "answer": "1.5"}
    assert all(
        len(ledger.attempts(run.task_id, position)) == 1 for position in run.errors
    )  # trying again does not help
    again = retry_failed(run.task_id, ledger=ledger, show_progress=False)
    assert again.progress.failed == 3


def test_an_empty_row_fails_and_all_that_fail_are_a_failed_task(imported):
    run = imported([{"a": None, "b": " "}])
    assert run.task.status == "failed" and run.errors[0]["message"] == "there is nothing in the row"


@pytest.mark.parametrize("kind", ["poems", "judge", "vectors", "prompt"])
def test_what_rows_cannot_be_is_refused_at_once(kind, imported):
    with pytest.raises(errors.InputError) as refused:
        imported(PAIRS, kind=kind)
    assert "qa" in refused.value.hint


@pytest.mark.parametrize("kind", ["failure_cases", "success_patterns", "research"])
def test_rows_can_be_of_every_kind_that_people_make(kind, imported):
    rows = {
        "failure_cases": [{"situation": "a", "mistake": "b", "why_it_failed": "c", "better": "d"}],
        "success_patterns": [{"pattern": "a", "why_it_works": "b", "example": "c", "metadata": {"sub_topic": "tea"}}],
        "research": [{"claim": "a", "summary": "b", "quotes": '[{"text": "c", "found": true}]'}],
    }[kind]
    run = imported(rows, kind=kind)
    fields = {name: value for name, value in rows[0].items() if name not in ("metadata", "quotes")}
    assert run.results[0].items() >= fields.items()
    assert list(shaped(examples(run), "openai"))
    if kind == "research":
        assert run.results[0]["quotes"] == [{"text": "c", "found": True}]


@pytest.mark.parametrize("format", ["jsonl", "csv", "parquet", "datasets"])
@pytest.mark.parametrize("kind", ["qa", "imported"])
def test_an_export_is_imported_and_exported_the_same(format, kind, imported, tmp_path, ledger):
    rows = [{**pair, "text": f"Leaflet {n}"} for n, pair in enumerate(PAIRS)]
    first = imported(rows, kind="qa", subject="tea", language="en")
    export_dataset(first, tmp_path / "once", format=format, test_share=0, ledger=ledger)
    second = imported(tmp_path / "once", kind=kind)
    assert [{name: row[name] for name in ("question", "answer")} for row in second.results] == PAIRS
    told = [row["metadata"] for row in examples(second)]
    assert [one["text"] for one in told] == [row["text"] for row in rows]
    assert {one["imported_from"]["task_id"] for one in told} == {first.task_id}
    if kind == "qa":
        (chat, *_) = shaped(examples(second), "openai")
        assert chat["messages"][0]["content"] == "Leaflet 0\n\nHow hot, 0?"
    export_dataset(second, tmp_path / "twice", format=format, test_share=0, ledger=ledger)
    once, twice = (
        [{name: row[name] for name in ("question", "answer")} for row in read_rows(tmp_path / name)]
        for name in ("once", "twice")
    )
    assert once == twice == PAIRS


def test_copies_and_the_quality_report_serve_what_was_imported(imported, tmp_path, ledger):
    talks = ["Why is tea green?", "Where do bees sleep in winter?", "Why is tea green?", "Who sells wax?"]
    rows = [{"input": f"{n % 2}", "output": talk} for n, talk in enumerate(talks)]
    run = imported([*rows, {"input": "2", "output": "Who sells wax?"}])
    made = export_dataset(run, tmp_path / "out", test_share=0, ledger=ledger)
    assert made.parts == {"train": 4} and made.dropped["exact"] == 1  # the same output to another input is no copy
    report = quality_report(run, ledger=ledger)
    assert (
        "exact duplicate" in report.flagged[2]
        and "exact duplicate" not in report.flagged.get(4, [])
        and len(find_duplicates(talks)) == 1
    )


def test_a_cut_off_import_goes_on_without_its_file(ledger, tmp_path):
    path = written(tmp_path / "pairs.jsonl", "".join(json.dumps({"n": n}) + "\n" for n in range(50)))
    run = import_run(path, ledger=ledger, show_progress=False, profile="vectorization")
    run.on_progress(lambda now: now.processed == 3 and run.cancel()).wait()
    assert run.task.status == "cancelled" and 3 <= run.task.processed_items < 50
    path.unlink()
    again = resume(run.task_id, ledger=ledger, show_progress=False, profile="auto")
    assert again.task.status == "completed" and again.results == [{"n": n} for n in range(50)]


def test_a_source_that_cannot_be_read_leaves_no_task(imported, ledger, tmp_path):
    for source in (tmp_path / "missing.csv", written(tmp_path / "x.jsonl", "{"), [{"a": b"x"}]):
        with pytest.raises(errors.CerebroError):
            imported(source)
    assert ledger.tasks() == []


def test_an_import_is_awaited_too(ledger):
    run = asyncio.run(aimport_rows(iter(PAIRS), ledger=ledger, show_progress=False))
    assert run.results == PAIRS


def test_the_command_says_what_it_did(tmp_path):
    path = written(tmp_path / "perguntas.csv", "Pergunta;Resposta\nQuente?;Muito.\nLongo?;\n".encode("cp1252"))
    script = "import sys; from cerebro_nb.cli.main import main; sys.exit(main(sys.argv[1:]))"
    words = [
        str(path),
        "--kind",
        "qa",
        "--subject",
        "chá",
        "--column",
        "question=Pergunta",
        "--column",
        "answer=Resposta",
    ]
    command = [sys.executable, "-c", script, "import", *words]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0 and "Imported 1 of 2 rows of chá." in done.stdout and "answer is missing" in done.stderr
    wrong = [[str(path), "--column", "Pergunta"], [str(path), "--limit", "0"]]
    for arguments in wrong:
        done = subprocess.run([sys.executable, "-c", script, "import", *arguments], capture_output=True, timeout=120)
        assert done.returncode == 2
