"""Data sets that trainers load, without leaks, whole or not there; and runs that can be made again."""

import json
import os

import datasets
import jinja2
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebro_nb import (
    Client,
    EmbeddedBackend,
    ScriptedBackend,
    compare,
    errors,
    export_dataset,
    generate_failure_cases,
    generate_qa,
    generate_success_patterns,
    load_settings,
    process_in_batches,
    rerun,
    write_manifest,
)
from cerebro_nb.exports import essential_text, split_rows
from cerebro_nb.loop import LOOP
from cerebro_nb.shapes import shaped, turn_of
from cerebro_nb.tasks import FinishedItem

datasets.disable_progress_bars()
TEXTS = [
    "What is a headline for?",
    "Where do bees sleep in winter?",
    "Why is green tea not boiled?",
    "Who sells wax at the market?",
    "How long does a candle of wax burn in a room without any wind?",
    "Which river runs to the north?",
]


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")


def task_of(ledger, kind, rows, subject="tea", inputs=None, **manifest):
    inputs = inputs or [{}] * len(rows)
    told = {"language": "en", "model": "tiny", **manifest}
    task_id = ledger.create_task(kind, subject, len(rows), manifest=told, items=[(one, "") for one in inputs])
    for position, row in enumerate(rows):
        ledger.finish_item(
            FinishedItem(task_id, position, (inputs[position], ""), "ok", row, None, [], 1.0, 2.0)
        ).result()
    return task_id


def pairs(ledger, texts=TEXTS, inputs=None, **more):
    rows = [{"question": text, "answer": f"It is so, says the one who knows: {text[:-1].lower()}."} for text in texts]
    return task_of(ledger, "qa_generation", rows, inputs=inputs, **more)


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# --- every shape is loaded by the tool it is for


@pytest.mark.parametrize("shape", ["records", "openai", "sharegpt", "alpaca", "chatml"])
@pytest.mark.parametrize("format", ["jsonl", "parquet", "csv", "datasets"])
def test_datasets_loads_every_shape_in_every_format(shape, format, ledger, tmp_path):
    made = export_dataset(pairs(ledger), tmp_path / "out", shape=shape, format=format, test_share=0.3, ledger=ledger)
    if format == "datasets":
        loaded = datasets.load_from_disk(str(made.path / "dataset"))
    else:
        kind = "json" if format == "jsonl" else format
        files = {name: str(next(made.path.glob(f"{name}.*"))) for name in made.parts}
        loaded = datasets.load_dataset(kind, data_files=files)
    assert {name: len(loaded[name]) for name in loaded} == dict(made.parts) and sum(made.parts.values()) == 6
    first = loaded["train"][0]
    columns = {"records": "question", "openai": "messages", "sharegpt": "conversations", "alpaca": "instruction"}
    assert first[columns.get(shape, "text")]
    if shape == "openai":
        turns = json.loads(first["messages"]) if format == "csv" else first["messages"]
        assert [turn["role"] for turn in turns] == ["user", "assistant"]


def test_the_chat_template_of_the_embedded_model_takes_chat_and_gives_chatml(ledger, tmp_path):
    """The template is the one in the model's own file, as its engine tells it."""
    backend = EmbeddedBackend()
    LOOP.run(backend.load(backend.engine.model, load_settings({}).generation))
    from cerebro_nb.backends import HttpDoor

    async def props():
        door = HttpDoor(backend.engine.address, backend._headers)
        try:
            return await door.json("GET", "/props")
        finally:
            await door.aclose()

    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(LOOP.run(props())["chat_template"])
    LOOP.run(backend.aclose())
    task_id, options = pairs(ledger), {"ledger": ledger, "system_prompt": "Be brief."}
    chat = lines(export_dataset(task_id, tmp_path / "chat", shape="openai", **options).path / "train.jsonl")
    text = lines(export_dataset(task_id, tmp_path / "text", shape="chatml", **options).path / "train.jsonl")
    for talk, told in zip(chat, text, strict=True):
        assert template.render(messages=talk["messages"], add_generation_prompt=False).strip() == told["text"].strip()


def test_preference_pairs_come_from_failures_and_successes(ledger, quick, tmp_path):
    case = {
        "situation": "A shop wrote to its customers.",
        "mistake": "It wrote every single day.",
        "better": "Write once a week, and no more.",
    }
    failure = json.dumps({**case, "why_it_failed": "Nobody reads a letter a day."})
    pattern = {
        "pattern": "Say one thing in each letter.",
        "why_it_works": "One thing is remembered, five things are not at all.",
    }
    success = json.dumps({**pattern, "example": "A shop wrote of one kind of tea."})
    options = {"profile": quick, "ledger": ledger, "show_progress": False}
    bad = generate_failure_cases("letters", 1, client=Client(ScriptedBackend([failure]), "tiny"), **options)
    good = generate_success_patterns("letters", 1, client=Client(ScriptedBackend([success]), "tiny"), **options)
    made = export_dataset([bad, good], tmp_path / "out", shape="preference")
    first, second = lines(made.path / "train.jsonl")
    assert (first["prompt"], first["chosen"], first["rejected"]) == tuple(
        case[k] for k in ("situation", "better", "mistake")
    )
    assert second["chosen"].startswith("Say one thing") and second["rejected"] == "It wrote every single day."
    with pytest.raises(errors.InputError, match="nothing to choose between"):
        export_dataset(good, tmp_path / "none", shape="preference")


def test_a_pair_from_a_text_is_asked_with_it(ledger, tmp_path):
    inputs = [{"text": "Tea is green.", "source": f"{n}.txt"} for n in range(6)]
    made = export_dataset(pairs(ledger, inputs=inputs), tmp_path / "out", shape="alpaca", ledger=ledger)
    assert all(row["instruction"].startswith("Tea is green.\n\n") for row in lines(made.path / "train.jsonl"))


def test_what_has_no_question_and_answer_is_exported_as_records(ledger, tmp_path):
    task_id = task_of(ledger, "batch", [{"colour": "green"}])
    with pytest.raises(errors.InputError, match="Export it as records"):
        export_dataset(task_id, tmp_path / "out", shape="openai", ledger=ledger)
    assert export_dataset(task_id, tmp_path / "out", ledger=ledger).parts == {"train": 1}


# --- without copies, without leaks


def test_copies_over_several_tasks_are_left_out_and_counted(ledger, tmp_path):
    first, second = (
        pairs(ledger),
        pairs(
            ledger,
            [*TEXTS[:2], "How long does a candle of wax burn in a room without wind?", "Where does rain come from?"],
        ),
    )
    made = export_dataset([first, second], tmp_path / "out", ledger=ledger)
    assert made.parts == {"train": 7} and made.dropped == {"exact": 2, "near": 1}
    assert export_dataset(first, tmp_path / "all", distinct=False, ledger=ledger).dropped == {}


def test_only_accepted_rows_where_there_are_marks(ledger, tmp_path):
    task_id = pairs(ledger)
    ledger.mark_items(task_id, [1], "rejected")
    assert export_dataset(task_id, tmp_path / "a", ledger=ledger).parts == {"train": 5}
    ledger.mark_items(task_id, [0, 2], "accepted")
    ledger.edit_item(task_id, 0, {"question": "What is better?", "answer": "This answer, which a reader wrote."})
    rows = lines(export_dataset(task_id, tmp_path / "b", ledger=ledger).path / "train.jsonl")
    assert [row["question"] for row in rows] == ["What is better?", TEXTS[2]]


@given(
    st.lists(st.tuples(st.sampled_from(TEXTS), st.integers(0, 4)), min_size=2, max_size=30),
    st.floats(0.05, 0.9),
    st.integers(0, 9),
)
def test_no_document_and_no_copy_is_on_both_sides(drawn, share, seed):
    rows = [{"question": text, "metadata": {"source": f"{source}.pdf"}} for text, source in drawn]
    try:
        train, test = split_rows(rows, share, seed)
    except errors.InputError:
        return
    assert len(train) + len(test) == len(rows) and test
    for of in (essential_text, lambda row: row["metadata"]["source"]):
        assert {of(row) for row in train}.isdisjoint(map(of, test))
    assert len(test) <= max(1, round(share * len(rows)))
    assert split_rows(rows, share, seed) == (train, test)


def test_one_document_cannot_be_split(ledger, tmp_path):
    task_id = pairs(ledger, inputs=[{"source": "one.pdf"}] * 6)
    with pytest.raises(errors.InputError, match="of one document"):
        export_dataset(task_id, tmp_path / "out", test_share=0.3, ledger=ledger)
    assert not (tmp_path / "out").exists()


# --- whole or not there


def test_an_export_that_fails_leaves_what_was_there(ledger, tmp_path, monkeypatch):
    task_id = pairs(ledger)
    made = export_dataset(task_id, tmp_path / "out", ledger=ledger)
    before = (made.path / "train.jsonl").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(errors.InputError, match="No space left"):
        export_dataset(task_id, tmp_path / "out", shape="alpaca", overwrite=True, ledger=ledger)
    assert (made.path / "train.jsonl").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []
    monkeypatch.undo()
    with pytest.raises(errors.InputError, match="is there already"):
        export_dataset(task_id, tmp_path / "out", ledger=ledger)
    again = export_dataset(task_id, tmp_path / "out", shape="alpaca", overwrite=True, ledger=ledger)
    assert "instruction" in lines(again.path / "train.jsonl")[0]


def test_the_card_says_what_it_is_and_hostile_texts_stay_in_their_cells(ledger, tmp_path):
    task_id = pairs(ledger, subject="tea | <script>\nx", model="smollm2-135m-instruct", model_digest="sha256:1")
    made = export_dataset(task_id, tmp_path / "out", licence="cc-by-4.0", test_share=0.3, ledger=ledger)
    card = (made.path / "README.md").read_text(encoding="utf-8")
    assert card.startswith('---\nlicense: "cc-by-4.0"\nlanguage: ["en"]')
    assert "`test`: 2" in card and "under Apache-2.0" in card and r"tea \| <script> x" in card
    manifest = json.loads((made.path / "manifest.json").read_text())
    assert (
        manifest["parts"] == {"train": 4, "test": 2} and manifest["tasks"][task_id]["model"] == "smollm2-135m-instruct"
    )


@pytest.mark.parametrize("format", ["jsonl", "parquet", "csv", "datasets"])
def test_odd_texts_are_written(format, ledger, tmp_path):
    rows = [{"question": "A lone \ud800 surrogate\x00?", "answer": 'a "quote", a\nline, \u2028'}]
    made = export_dataset(task_of(ledger, "qa_generation", rows), tmp_path / "out", format=format, ledger=ledger)
    if format == "csv":
        assert pandas.read_csv(made.path / "train.csv")["answer"][0] == rows[0]["answer"]
    assert made.parts == {"train": 1}


@given(st.dictionaries(st.sampled_from(["question", "answer", "output", "claim"]), st.text(), min_size=1))
def test_an_example_is_a_turn_or_refused(example):
    try:
        turn = turn_of(example)
    except errors.InputError:
        return
    assert next(shaped([example], "openai"))["messages"][-1]["content"] == turn.answered


# --- made again


def test_with_the_embedded_engine_a_run_is_the_same_to_the_byte(ledger, quick, tmp_path):
    options = {"profile": quick, "ledger": ledger, "show_progress": False}
    first = generate_qa("tea", 3, backend="embedded", seed=11, prompt_cache=False, **options)
    second = rerun(first.task_id, ledger=ledger, show_progress=False)
    found = compare(first, second)
    assert found.share_equal == 1.0 and first.progress.ok == 3
    assert set(found.differences) <= {"seconds"}
    assert second.task.manifest["rerun_of"] == first.task_id
    written = json.loads(write_manifest(second, tmp_path / "m.json").read_text())
    for name in ("cerebro_version", "model_digest", "backend_version", "options", "seed", "template", "input_sha256"):
        assert written[name] == first.task.manifest[name]


def test_a_rerun_with_a_change_tells_it(ledger, quick):
    client = Client(ScriptedBackend(lambda request: f"at {request.options.temperature}"), "tiny")
    options = {"profile": quick, "ledger": ledger, "show_progress": False}
    first = process_in_batches(["a", "b"], "{item}", client=client, **options)
    second = rerun(first.task_id, client=client, ledger=ledger, show_progress=False, temperature=0.1)
    found = compare(first.task_id, second.task_id, ledger=ledger)
    assert found.equal == 0 and found.differences["options.temperature"] == ("0.7", "0.1")
    assert found.df["first"].tolist() == ["at 0.7"] * 2
    upper = process_in_batches(["a"], str.upper, **options)
    with pytest.raises(errors.InputError, match=r"the function 'str\.upper'"):
        rerun(upper.task_id, ledger=ledger, show_progress=False)
    assert rerun(upper.task_id, str.upper, ledger=ledger, show_progress=False).results == ["A"]


def test_a_rerun_keeps_to_itself_what_counts_as_a_copy(ledger, quick):
    """The examples of the first task are no earlier examples of the second."""
    said = json.dumps({"question": "What is a headline for?", "answer": "It is there to be read before all else is."})
    client = Client(ScriptedBackend([said]), "tiny")
    first = generate_qa("tea", 1, client=client, profile=quick, ledger=ledger, show_progress=False)
    assert rerun(first.task_id, client=client, ledger=ledger, show_progress=False).progress.retried == 0
