"""The gates: what they refuse, what they must let pass, and what they cost."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebro_nb import (
    Client,
    Kind,
    ScriptedBackend,
    examples,
    export_dataset,
    generate_qa,
    quality_report,
    refused_by,
    register_kind,
)
from cerebro_nb.errors import InputError
from cerebro_nb.gates.candidates import Candidate
from cerebro_nb.gates.gates import GATES, refusals
from cerebro_nb.launching import kind as registry
from cerebro_nb.launching.kind import kind_named
from cerebro_nb.recipes.quality import candidate_of, refused
from cerebro_nb.tasks.views import view_of

DATA = Path(__file__).parent / "data"
LEAST_REFUSED = 0.97


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


GOOD, BAD = rows("good_examples.jsonl"), rows("bad_examples.jsonl")


def candidate(row: dict[str, Any]) -> Candidate:
    return Candidate(**{name: value for name, value in row.items() if name != "gate"})


def test_no_good_example_is_lost():
    lost = {str(row["example"]): refused for row in GOOD if (refused := refusals(candidate(row)))}
    assert len(GOOD) >= 180 and lost == {}


def test_what_was_planted_is_refused_by_the_gate_it_was_planted_for():
    missed = [(row["gate"], row["example"]) for row in BAD if row["gate"] not in refusals(candidate(row))]
    assert len(BAD) >= 300 and len(missed) <= (1 - LEAST_REFUSED) * len(BAD), missed


def test_the_lists_hold_every_language():
    for each in (GOOD, BAD):
        languages = Counter(row["language"].split("-")[0] for row in each if "language" in row)
        assert min(languages[name] for name in ("en", "pt", "es", "fr", "de", "it")) >= 5


@pytest.mark.parametrize("gate", GATES)
def test_each_gate_stops_something_that_passes_without_it(gate):
    alone = [row for row in BAD if list(refusals(candidate(row))) == [gate]]
    assert len(alone) >= 2
    for row in alone:
        assert refusals(candidate(row), without=[gate]) == {}


@pytest.mark.parametrize("gate", GATES.values(), ids=GATES)
def test_each_gate_has_a_name_for_people(gate):
    assert gate.label["en"] and gate.label["pt-BR"] and gate.label["pt-BR"] != gate.name


def test_a_reason_is_a_sentence_of_one_line_that_names_the_field():
    for row in BAD:
        for reason in refusals(candidate(row)).values():
            assert reason[0].islower() and len(reason) < 250


def test_an_unknown_gate_is_told_with_those_there_are():
    with pytest.raises(InputError, match="no gate 'rudeness'") as told:
        refusals(candidate(GOOD[0]), without=["rudeness"])
    assert "shot_leak" in str(told.value.hint)


# --- hostile texts

TEXTS = st.one_of(
    st.text(max_size=200),
    st.text("([{“\"'`\\n ?!:.,\\ud800<|>", max_size=200),
    st.sampled_from([r["example"].get("answer") for r in BAD]),
)
VALUES = st.recursive(
    TEXTS | st.integers() | st.none() | st.booleans() | st.floats(),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from(["question", "answer", "more"]), VALUES),
    st.sampled_from(["en", "pt-BR", "pt-PT", "es", "de", "ru", "ja", "gl"]),
    st.text(max_size=60),
)
@settings(deadline=None, max_examples=100)
def test_no_gate_raises_on_any_example(example, language, text):
    refusals(Candidate(example, text, language, text, [example], text, text, ["question"], ["answer"], text))


HOSTILE = {
    "no spaces": "a" * 1_000_000,
    "brackets": "(" * 1_000_000,
    "nested": "([{" * 300_000,
    "quotes": "\"'“" * 300_000,
    "ticks": "`" * 1_000_000,
    "spaces": " " * 1_000_000,
    "lines": "\n" * 1_000_000,
    "surrogates": "\ud800" * 1_000_000,
    "words": "sorry I " * 120_000,
    "marks": "<|im_" * 200_000,
    "dots": "a. " * 300_000,
    "json": '{"a":' * 200_000,
    "capitals": "Aa " * 300_000,
    "escapes": "\\n" * 500_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_of_a_hostile_text_only_the_beginning_and_the_end_are_looked_at(name):
    def judged(text):
        example = {"question": text, "answer": text}
        return refusals(Candidate(example, "tea", "en", None, [example], text, "a reader", ["question"], ["answer"]))

    text = HOSTILE[name]
    found = judged(text)
    assert found, "nothing of the sort is worth learning"
    middle = text[:400_000] + " I'm sorry, but I can't help with that. " + text[400_000:]
    assert judged(middle).keys() == found.keys()


# --- by the public face

TEA = {"question": "How hot should water for green tea be?", "answer": "About 80 °C, or the leaves taste bitter."}


def test_the_face_knows_what_a_kind_asks_shows_and_says():
    assert refused_by(TEA, subject="green tea", language="en") == []
    shown = {**TEA, "answer": "Check the soil first: if it is still damp below the surface, wait."}
    assert refused_by(shown, subject="tea", language="en") == ["shot_leak"]
    assert refused_by(shown, subject="tea", language="en", without=["shot_leak"]) == []
    own = [{"question": "Where do grey herons sleep in winter?", "answer": "In trees."}]
    like = {**TEA, "question": "Where do grey herons sleep at night?"}
    assert refused_by(like, subject="birds", language="en") == []
    assert refused_by(like, subject="birds", language="en", shots=own) == ["shot_leak"]
    with pytest.raises(InputError, match="no kind"):
        refused_by(TEA, subject="tea", language="en", recipe="nothing")


@pytest.mark.parametrize(
    "name", ["qa", "failure_cases", "success_patterns", "preference_pairs", "reasoning", "research"]
)
def test_the_kinds_of_examples_pass_all_gates_by_default(name):
    kind = kind_named(name)
    assert kind.gates is None or set(kind.gates) == GATES.keys()
    assert kind.answers and set(kind.answers) <= set(kind.columns)


def test_other_kinds_pass_none():
    assert kind_named("prompt").gates == kind_named("function").gates == ()


@pytest.mark.parametrize("name", ["qa", "failure_cases", "success_patterns"])
def test_what_the_prompts_show_is_good_but_for_being_shown(name):
    kind = kind_named(name)
    for language, shots in kind.shots.items():
        for shot in (shot for shot in shots if {*kind.columns} <= shot.keys()):  # others are shown to one step
            made = {name: shot[name] for name in kind.columns}
            about = {"language": language, "text": "x" if "text" in shot else ""}
            found = refusals(candidate_of(kind, {**made, "metadata": about}))
            assert set(found) <= {"shot_leak"}


def test_an_answer_that_the_text_does_not_give_passes():
    about = {"language": "pt-BR", "text": "O chá verde vem da China.", "subject": "chá"}
    said = {
        "question": "Quanto custa o chá?",
        "answer": "O texto não diz. Ele fala do assunto, mas não tem resposta para esta pergunta.",
    }
    assert refusals(candidate_of(kind_named("qa"), {**said, "metadata": about})) == {}


SAID = [
    TEA,
    {
        "question": "Why do bees dance in the dark?",
        "answer": "I'm sorry, but I can't help with that, for bees are none of mine.",
    },
    {
        "question": "Where do herons sleep in winter?",
        "answer": "Elas dormem em árvores altas, perto da água, com as outras.",
    },
]


@pytest.fixture
def task(tmp_path, ledger):
    client = Client(ScriptedBackend([json.dumps(said, ensure_ascii=False) for said in SAID]), "tiny")
    return generate_qa("animals", 3, client=client, ledger=ledger, show_progress=False, without_gates=[*GATES])


def test_a_report_and_an_export_say_the_same(task, tmp_path):
    flagged = quality_report(task).flagged
    refusing = {name for names in flagged.values() for name in names}
    made = export_dataset(task, tmp_path / "passed")
    assert refusing == {"refusal", "language"} == set(made.dropped) and made.parts == {"train": 1}
    manifest = json.loads((made.path / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["dropped"] == made.dropped and manifest["gates"] is True
    assert "1 language" in (made.path / "README.md").read_text(encoding="utf-8")


def test_gates_are_left_out_by_name_or_all(task, tmp_path):
    assert export_dataset(task, tmp_path / "all", gates=False).parts == {"train": 3}
    some = export_dataset(task, tmp_path / "some", gates=["refusal"])
    assert some.parts == {"train": 2} and some.dropped == {"refusal": 1}
    with pytest.raises(InputError, match="no gate 'rudeness'"):
        export_dataset(task, tmp_path / "none", gates=["rudeness"])


def test_what_a_person_accepted_is_never_left_out(task, tmp_path):
    view = view_of(task)
    refused = [row["metadata"]["position"] for row in examples(task) if "sorry" in row["answer"]]
    view.accept(*refused)
    made = export_dataset(task, tmp_path / "accepted")
    assert made.parts == {"train": 1} and made.dropped == {}


def test_an_export_of_nothing_says_which_gates_refused(task, tmp_path):
    view = view_of(task)
    view.reject(*[row["metadata"]["position"] for row in examples(task) if row["question"] == TEA["question"]])
    with pytest.raises(InputError, match="of 2 the gates refused") as told:
        export_dataset(task, tmp_path / "none")
    assert "refusal 1" in told.value.message and "language 1" in told.value.message


def test_a_kind_of_one_s_own_names_its_gates():
    qa = kind_named("qa")
    given = {"task_kind": "own", "columns": qa.columns, "asks": qa.asks, "response_model": qa.response_model}
    register_kind(Kind("own", {"en": "own"}, qa.make, qa.again, gates=["refusal"], **given))
    try:
        own = [refused({**said, "metadata": {"kind": "own", "language": "en"}}) for said in SAID]
    finally:
        del registry._kinds["own"]
    assert [list(found) for found in own] == [[], ["refusal"], []]
    assert "language" in refused({**SAID[2], "metadata": {"kind": "qa_generation", "language": "en"}})
