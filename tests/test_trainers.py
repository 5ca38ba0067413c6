"""Data sets that a trainer takes as they are: its rows, a config of keys that it has, and the way back to Ollama."""

import ast
import json
from dataclasses import replace
from functools import partial
from itertools import pairwise

import datasets
import pytest
import yaml

from cerebro_nb import Conversation, Kind, Turn, errors, export_dataset, register_kind
from cerebro_nb.datasets.formats import FORMATS
from cerebro_nb.datasets.shapes import SHAPES
from cerebro_nb.datasets.trainers import TRAINERS
from cerebro_nb.launching import kind as registry
from cerebro_nb.launching.kind import asked_and_answered
from cerebro_nb.tasks.writing import FinishedItem

export_dataset = partial(export_dataset, gates=False, embedder="none")
datasets.disable_progress_bars()
ASKED = [
    "What is a headline for?",
    "Where do bees sleep in winter?",
    "Why is green tea not boiled?",
    "Who sells wax at the market?",
    "How long does a candle burn in a room?",
    "Which river runs to the north?",
]
HEAT = {"name": "heat", "description": "How hot.", "parameters": {"type": "object", "properties": {}}}
CALL = Turn("assistant", "", tool_calls=({"name": "heat", "arguments": {"tea": "green"}},))
TALKS = {
    "single": lambda asked: asked_and_answered(asked, "It is so."),
    "several": lambda asked: Conversation((Turn("user", asked), Turn("assistant", "It is so.")) * 2),
    "pair": lambda asked: asked_and_answered(asked, "It is so, and for long.", rejected="No."),
    "thought": lambda asked: asked_and_answered(asked, "It is so.", thinking="Is it?"),
    "called": lambda asked: Conversation((Turn("user", asked), CALL), tools=(HEAT,)),
    "answered": lambda asked: Conversation(
        (Turn("user", asked), CALL, Turn("tool", "80"), Turn("assistant", "80 degrees.")), tools=(HEAT,)
    ),
}


@pytest.fixture(autouse=True)
def kinds_of_talks(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(registry, "_kinds", dict(registry.kinds()))
    for name, talk in TALKS.items():
        field = f"asked_{name}"
        register_kind(
            Kind(
                name,
                {"en": name},
                make=lambda: None,
                again=lambda again: None,
                task_kind=name,
                columns=(field,),
                essential=field,
                conversation=lambda example, talk=talk, field=field: talk(example[field]),
            )
        )


def task_of(ledger, kind, rows, inputs=None):
    inputs = inputs or [{}] * len(rows)
    told = {"language": "en", "model": "tiny"}
    task_id = ledger.create_task(kind, "tea", len(rows), manifest=told, items=[(held, "") for held in inputs])
    for position, row in enumerate(rows):
        item = FinishedItem(task_id, position, (inputs[position], ""), "ok", row, None, [], 1.0, 2.0)
        kept = ledger.finish_item(item)
    kept.result()
    return task_id


def talks(ledger, name):
    return task_of(ledger, name, [{f"asked_{name}": asked} for asked in ASKED])


def from_pages(ledger):
    rows = [{"question": asked, "answer": f"So it is: {asked.lower()}"} for asked in ASKED]
    pages = [{"text": f"Page {n} says so.", "source": f"{n}.txt"} for n in range(len(ASKED))]
    return task_of(ledger, "qa_generation", rows, pages)


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def config(made):
    return yaml.safe_load(next(made.path.glob("*.yaml")).read_text(encoding="utf-8"))


# --- each trainer's rows

SHAPES_OF = {
    ("trl", "single"): {"prompt", "completion"},
    ("trl", "several"): {"messages"},
    ("trl", "pair"): {"prompt", "chosen", "rejected"},
    ("trl", "thought"): {"prompt", "completion"},
    ("trl", "called"): {"prompt", "completion", "tools"},
    ("trl", "answered"): {"messages", "tools"},
    ("axolotl", "single"): {"messages"},
    ("axolotl", "pair"): {"messages", "chosen", "rejected"},
    ("axolotl", "answered"): {"messages", "tools"},
    ("llama-factory", "single"): {"conversations"},
    ("llama-factory", "pair"): {"conversations", "chosen", "rejected"},
    ("llama-factory", "answered"): {"conversations", "tools"},
    ("unsloth", "several"): {"messages"},
    ("unsloth", "pair"): {"prompt", "chosen", "rejected"},
}


@pytest.mark.parametrize(("trainer", "name"), SHAPES_OF)
def test_a_trainer_gets_its_rows_and_datasets_loads_them_by_the_folder(trainer, name, ledger, tmp_path):
    made = export_dataset(
        talks(ledger, name), tmp_path / "out", trainer=trainer, test_share=0.3, system_prompt="Be brief.", ledger=ledger
    )
    loaded = datasets.load_dataset(str(made.path))
    assert {part: len(loaded[part]) for part in loaded} == made.parts and set(made.parts) == {"train", "test"}
    assert set(loaded["train"].column_names) == SHAPES_OF[trainer, name]
    row = loaded["train"][0]
    first = next(row[column] for column in ("prompt", "messages", "conversations") if column in row)[0]
    assert {first.get("role"), first.get("from")} & {"system"} and "Be brief." in first.values()


@pytest.mark.parametrize("name", ["single", "called", "thought", "pair"])
def test_a_prompt_is_of_messages_for_a_template_is_applied_to_no_text(name, ledger, tmp_path):
    made = export_dataset(talks(ledger, name), tmp_path / "out", trainer="trl", ledger=ledger)
    for row in lines(made.path / "train.jsonl"):
        assert all(isinstance(row[part], list) for part in row if part != "tools")


def test_what_was_thought_is_in_the_answer_whoever_trains(ledger, tmp_path):
    for trainer in TRAINERS:
        made = export_dataset(talks(ledger, "thought"), tmp_path / trainer, trainer=trainer, ledger=ledger)
        assert "<think>\\nIs it?\\n</think>" in (made.path / "train.jsonl").read_text(encoding="utf-8")


def test_llama_factory_has_turns_of_user_and_model_in_their_places_and_the_answers_beside(ledger, tmp_path):
    made = export_dataset(talks(ledger, "pair"), tmp_path / "out", trainer="llama-factory", ledger=ledger)
    for row in lines(made.path / "train.jsonl"):
        assert [said["from"] for said in row["conversations"]] == ["human"]
        assert row["chosen"]["from"] == row["rejected"]["from"] == "gpt" and row["rejected"]["value"] == "No."
    info = json.loads((made.path / "dataset_info.json").read_text(encoding="utf-8"))
    assert info["train"]["ranking"] is True and (made.path / info["train"]["file_name"]).exists()
    assert config(made)["stage"] == "dpo" and config(made)["dataset"] in info


def test_tools_are_a_column_of_llama_factory_only_where_there_are_some(ledger, tmp_path):
    for name, has_tools in (("single", False), ("answered", True)):
        made = export_dataset(talks(ledger, name), tmp_path / name, trainer="llama-factory", ledger=ledger)
        info = json.loads((made.path / "dataset_info.json").read_text(encoding="utf-8"))
        assert ("tools" in info["train"]["columns"]) is has_tools


# --- its config


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("name", ["single", "several", "pair", "answered"])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_each_config_can_be_read_and_is_evaluated_only_with_a_test_part(trainer, name, share, ledger, tmp_path):
    made = export_dataset(
        talks(ledger, name), tmp_path / "out", trainer=trainer, base_model="me/mine", test_share=share, ledger=ledger
    )
    files = {file.name: file.read_text(encoding="utf-8") for file in made.path.iterdir()}
    text = files.get(f"{trainer}.yaml") or files["unsloth_train.py"]
    assert made.command in text and made.base_model == "me/mine" and "me/mine" in text
    assert ("eval" in text.replace("eval_dataset=parts.get", "")) is (share > 0)
    if trainer == "unsloth":
        tree = ast.parse(text)
        assert ("DPOTrainer" in text) is (name == "pair") and tree.body
    else:
        keys = [line.split(":")[0] for line in text.splitlines() if line[:1].isalpha()]
        assert len(keys) == len(set(keys)) == len(yaml.safe_load(text)), "each key once"


def test_the_loss_is_of_the_answers(ledger, tmp_path):
    made = {
        name: export_dataset(talks(ledger, name), tmp_path / name, trainer="trl", ledger=ledger)
        for name in ("single", "several", "pair")
    }
    assert config(made["single"])["completion_only_loss"] is True and made["single"].command.startswith("trl sft")
    assert config(made["several"])["assistant_only_loss"] is True
    assert made["pair"].command.startswith("trl dpo") and config(made["pair"])["beta"] == 0.1


def test_the_folder_is_called_by_its_name(ledger, tmp_path, monkeypatch):
    made = export_dataset(talks(ledger, "single"), tmp_path / "green tea", trainer="trl", ledger=ledger)
    monkeypatch.chdir(made.path)
    assert len(datasets.load_dataset(config(made)["dataset_name"])["train"]) == 6


def test_the_longest_example_is_let_through_and_one_that_is_not_is_said(ledger, tmp_path, caplog):
    lengths = {}
    for words in (10, 1_000, 20_000):
        rows = [{"question": asked, "answer": "so " * words} for asked in ASKED]
        made = export_dataset(
            task_of(ledger, "qa_generation", rows), tmp_path / str(words), trainer="trl", ledger=ledger
        )
        lengths[words] = config(made)["max_length"]
    assert all(shorter < longer for shorter, longer in pairwise(lengths.values()))
    assert caplog.text.count("the longest example has about") == 1


# --- back to Ollama


def test_an_adapter_stands_on_the_same_model_of_ollama_and_the_template_is_that_models(ledger, tmp_path):
    made = export_dataset(
        talks(ledger, "single"), tmp_path / "out", trainer="axolotl", system_prompt="Be brief.", ledger=ledger
    )
    said = [line for line in (made.path / "Modelfile").read_text().splitlines() if not line.startswith("#")]
    assert said == ["FROM qwen3:4b-instruct", "ADAPTER ./adapter.gguf", 'SYSTEM """Be brief."""']
    assert "Qwen/Qwen3-4B-Instruct-2507" == made.base_model == config(made)["base_model"]


def test_of_a_model_that_ollama_is_not_known_to_have_the_adapter_is_merged(ledger, tmp_path):
    made = export_dataset(
        talks(ledger, "single"), tmp_path / "out", trainer="llama-factory", base_model="./mine", ledger=ledger
    )
    text = (made.path / "Modelfile").read_text()
    assert "FROM ./merged.gguf" in text and "\nADAPTER" not in text and "template" not in config(made)


# --- what cannot be


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trainer": "torch"}, "there is no trainer 'torch'"),
        ({"trainer": "axolotl", "shape": "alpaca"}, "axolotl takes no alpaca"),
        ({"trainer": "trl", "format": "parquet"}, "names files of jsonl"),
        ({"trainer": "trl", "base_model": "x\n y"}, "names no model"),
        ({"trainer": "llama-factory", "thinking": "field"}, "has no thinking='field'"),
    ],
)
def test_what_a_trainer_does_not_take_is_refused_before_anything_is_read(options, said, ledger, tmp_path):
    empty = ledger.create_task("qa_generation", "tea", 1)
    with pytest.raises(errors.InputError, match=said):
        export_dataset(empty, tmp_path / "out", ledger=ledger, **options)


def test_axolotl_gets_no_preferences_whose_tools_it_would_not_read(ledger, tmp_path):
    worse = Conversation((Turn("user", "How hot?"), CALL), Turn("assistant", "Hot."), (HEAT,))
    register_kind(
        Kind(
            "calls",
            {"en": "calls"},
            make=lambda: None,
            again=lambda again: None,
            task_kind="calls",
            columns=("wish",),
            essential="wish",
            conversation=lambda example: worse,
        )
    )
    task_id = task_of(ledger, "calls", [{"wish": "How hot?"}])
    with pytest.raises(errors.InputError, match="reads no tools"):
        export_dataset(task_id, tmp_path / "out", trainer="axolotl", ledger=ledger)
    assert export_dataset(task_id, tmp_path / "out", trainer="axolotl", shape="openai", ledger=ledger).parts


def test_a_trainers_data_set_is_written_over_and_what_it_trained_never(ledger, tmp_path):
    task_id = talks(ledger, "single")
    made = export_dataset(task_id, tmp_path / "out", trainer="llama-factory", ledger=ledger)
    made = export_dataset(task_id, made.path, trainer="trl", overwrite=True, ledger=ledger)
    assert not (made.path / "dataset_info.json").exists()
    (made.path / "outputs").mkdir()
    with pytest.raises(errors.InputError, match="it holds outputs"):
        export_dataset(task_id, made.path, trainer="trl", overwrite=True, ledger=ledger)


# --- the system prompt, the text, the card and the counts


@pytest.mark.parametrize("shape", [name for name, rule in SHAPES.items() if rule.has_system_prompt])
@pytest.mark.parametrize("name", TALKS)
def test_a_system_prompt_is_in_every_row_of_every_shape_or_the_shape_refuses(shape, name, ledger, tmp_path):
    try:
        made = export_dataset(
            talks(ledger, name), tmp_path / "out", shape=shape, system_prompt="Be brief.", ledger=ledger
        )
    except errors.InputError as refused:
        assert shape in ("preference", "alpaca"), refused
    else:
        assert all("Be brief." in json.dumps(row) for row in lines(made.path / "train.jsonl"))


@pytest.mark.parametrize("shape", ["records", "openai", "sharegpt", "alpaca", "chatml", "prompt-completion"])
def test_the_text_is_there_unless_it_is_left_out_and_the_card_says_which(shape, ledger, tmp_path):
    task_id = from_pages(ledger)
    for source_text in (True, False):
        made = export_dataset(task_id, tmp_path / str(source_text), shape=shape, source_text=source_text, ledger=ledger)
        assert all(("says so." in json.dumps(row)) is source_text for row in lines(made.path / "train.jsonl"))
        card = (made.path / "README.md").read_text(encoding="utf-8")
        assert ("stands before what is asked" in card) is source_text
        assert ("`source_text=False`" in card) is not source_text


def test_pages_stay_apart_when_their_text_is_left_out(ledger, tmp_path):
    made = export_dataset(from_pages(ledger), tmp_path / "out", source_text=False, test_share=0.5, ledger=ledger)
    parts = [{row["metadata"]["source"] for row in lines(made.path / f"{part}.jsonl")} for part in ("train", "test")]
    assert parts[0].isdisjoint(parts[1])


def test_the_text_of_a_summary_stays_for_it_is_what_is_worked_on(ledger, tmp_path):
    rows = [{"summary": f"It says that {asked.lower()}"} for asked in ASKED]
    pages = [{"text": f"Page {n} of bees.", "form": "in a line"} for n in range(len(ASKED))]
    task_id = task_of(ledger, "summary", rows, pages)
    made = export_dataset(task_id, tmp_path / "out", shape="openai", source_text=False, ledger=ledger)
    assert all("of bees." in row["messages"][0]["content"] for row in lines(made.path / "train.jsonl"))


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_a_field_that_is_null_in_all_rows_but_the_last_is_loaded_by_the_card(format, ledger, tmp_path):
    rows = [{"colour": f"green {n}", "hint": None} for n in range(500)] + [{"colour": "blue", "hint": ["late"]}]
    task_id = task_of(ledger, "batch", rows)
    made = export_dataset(task_id, tmp_path / "out", format=format, distinct=False, ledger=ledger)
    card = (made.path / "README.md").read_text(encoding="utf-8").split("---")[1]
    features = datasets.Features._from_yaml_list(yaml.safe_load(card)["dataset_info"]["features"])
    loaded = datasets.load_dataset(str(made.path))["train"]
    assert loaded.features == features and features["hint"] == datasets.List(datasets.Value("string"))
    assert len(loaded) == 501 and [row["hint"] for row in loaded if row["hint"]] == [["late"]]


@pytest.mark.parametrize("format", FORMATS)
def test_a_row_that_is_not_there_when_it_is_read_back_is_an_error_and_nothing_is_kept(
    format, ledger, tmp_path, monkeypatch
):
    task_id = from_pages(ledger)
    rule = FORMATS[format]

    def lossy(form, parts, folder):
        rule.write(form, {name: rows[:-1] for name, rows in parts.items()}, folder)

    monkeypatch.setitem(FORMATS, format, replace(rule, write=lossy))
    with pytest.raises(errors.ExportFailed, match="of 6 rows of train 5 are there"):
        export_dataset(task_id, tmp_path / "out", format=format, ledger=ledger)
    assert not (tmp_path / "out").exists()


def test_a_file_that_cannot_be_read_back_is_an_error(ledger, tmp_path, monkeypatch):
    rule = FORMATS["jsonl"]

    def torn(form, parts, folder):
        rule.write(form, parts, folder)
        (folder / "train.jsonl").write_text('{"question": "W')

    monkeypatch.setitem(FORMATS, "jsonl", replace(rule, write=torn))
    with pytest.raises(errors.ExportFailed, match="cannot be read back"):
        export_dataset(from_pages(ledger), tmp_path / "out", ledger=ledger)
