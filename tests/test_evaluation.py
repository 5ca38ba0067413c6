"""Does it help? Held-out questions, two models' answers, a judge, and how sure the difference is."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from fakes import FakeOllama
from hypothesis import given as drawn
from hypothesis import strategies as st

from cerebro_nb import (
    Client,
    Evaluation,
    OllamaBackend,
    ScriptedBackend,
    errors,
    evaluate,
    export_dataset,
    import_rows,
    read_documents,
)
from cerebro_nb.concurrency.loop import LOOP
from cerebro_nb.datasets.shapes import SHAPES
from cerebro_nb.evaluating.agreement import Difference, compared_words, exact_match, paired_difference, token_f1
from cerebro_nb.evaluating.held_out import questions_of
from cerebro_nb.tasks.writing import FinishedItem
from cerebro_nb.texts.pieces import pieces_of

ROOT = Path(__file__).parent.parent
VALVES = ("red", "green", "blue", "white", "black", "yellow", "brown", "grey", "pink", "violet")
FACTS = {
    "red": "It closes with a quarter turn of the brass key.",
    "green": "Nobody opens this one before the harbour bell has rung.",
    "blue": "Sea water comes through when its leather is dry.",
    "white": "Twelve bolts hold the collar, tightened crosswise.",
    "black": "Mutton tallow keeps that spindle from squealing.",
    "yellow": "Lamps along the quay are fed from here in winter.",
    "brown": "Whoever turns anything else floods a cellar.",
    "grey": "Children may touch nothing but the little wheel.",
    "pink": "Every second spring an inspector breaks the seal.",
    "violet": "Left-hand threads make people swear at dawn.",
}


def module(name):
    """Return a script of bench/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "bench" / f"{name}.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


# --- scores


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("en", "The cat sat on a mat, an old one!", "cat sat on mat old one"),
        ("en", "It's $3.50 – (really)", "its 3.50 really"),
        ("pt-BR", "A avó pôs o pão à mesa; as maçãs, não.", "avó pôs pão à mesa maçãs não"),
        ("pt", "Uns dizem: “É isso”", "dizem é isso"),
        ("es", "¿Dónde está la llave?", "dónde está llave"),
        ("fr", "L’eau de l'été, aujourd’hui", "eau de été aujourdhui"),
        ("de", "Der Kessel ist groß", "kessel ist groß"),
        ("it", "L'olio e un'acciuga", "olio e acciuga"),
        ("sv", "The katt", "the katt"),
        ("en", "  ", ""),
    ],
)
def test_what_is_compared_of_an_answer(language, text, words):
    assert compared_words(text, language) == words.split()


def test_a_number_is_not_another_for_want_of_its_point():
    assert exact_match("3.5", "35") == exact_match("1,5", "15") == 0.0 and exact_match("3.5.", "3.5") == 1.0


def test_accents_count_and_how_they_are_stored_does_not():
    assert exact_match("avó", "avo\N{COMBINING ACUTE ACCENT}", "pt") == 1.0
    assert exact_match("avó", "avô", "pt") == exact_match("pode", "pôde", "pt") == 0.0


@pytest.mark.parametrize(
    ("answer", "reference", "f1"),
    [("a b c d", "b c d e", 2 * 3 / (3 + 4)), ("b b b", "b", 0.5), ("x", "y", 0.0), ("", "", 1.0), ("", "y", 0.0)],
)
def test_token_f1_counts_each_word_as_often_as_both_have_it(answer, reference, f1):
    assert token_f1(answer, reference, "en") == pytest.approx(f1)


@pytest.mark.parametrize(("differing", "is_told"), [(1, False), (5, False), (6, True)])
def test_fewer_than_six_questions_that_differ_tell_nothing(differing, is_told):
    base, tuned = [0.0] * (differing + 2), [1.0] * differing + [0.0] * 2
    found = paired_difference("exact match", base, tuned)
    assert found.differing == differing and found.is_told is is_told


def test_the_interval_is_that_of_the_mean_of_the_differences(chance):
    each = [chance.gauss(0.1, 0.2) for _ in range(400)]
    found = paired_difference("token F1", [0.0] * 400, each)
    mean = sum(each) / 400
    half = 1.96 * (sum((value - mean) ** 2 for value in each) / 399 / 400) ** 0.5
    assert found.difference == pytest.approx(mean)
    assert found.low == pytest.approx(mean - half, abs=0.1 * half)
    assert found.high == pytest.approx(mean + half, abs=0.1 * half)
    assert (
        paired_difference("token F1", [0.0] * 400, each, seed=1)
        != found
        == paired_difference("token F1", [0.0] * 400, each)
    )


@pytest.mark.parametrize("scores", [([], []), ([0.1], [0.1, 0.2])])
def test_scores_that_are_no_pairs_are_refused(scores):
    with pytest.raises(errors.InputError, match="no pairs"):
        paired_difference("token F1", *scores)


# --- what is held out


def task_of(ledger, kind, rows, **manifest):
    told = {"language": "en", "model": "tiny", **manifest}
    inputs = [{"source": f"{n}.md"} for n in range(len(rows))]
    task_id = ledger.create_task(kind, "valves", len(rows), manifest=told, items=[(one, "") for one in inputs])
    for position, row in enumerate(rows):
        ended = FinishedItem(task_id, position, (inputs[position], ""), "ok", row, None, [], 1.0, 2.0)
        ledger.finish_item(ended).result()
    return task_id


def pairs():
    return [{"question": f"What about the {valve} valve?", "answer": FACTS[valve]} for valve in VALVES]


@pytest.fixture
def exported(ledger, tmp_path):
    def export(shape="openai", language="en", **options):
        task_id = task_of(ledger, "qa_generation", pairs(), language=language)
        given = {"test_share": 0.8, "gates": False, "embedder": "none", "ledger": ledger, **options}
        return export_dataset(task_id, tmp_path / f"{shape}-{options.get('format')}", shape=shape, **given)

    return export


@pytest.mark.parametrize("format", ["jsonl", "csv", "parquet", "datasets"])
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "preference"])
def test_the_test_part_of_every_shape_and_format_is_the_same_questions(shape, format, exported):
    made = exported(shape, format=format)
    known = {row["question"]: row["answer"] for row in pairs()}
    questions = questions_of(made)
    assert len(questions) == made.parts["test"] == 8
    for question in questions:
        (turn,) = question["messages"]
        assert turn["role"] == "user" and question["reference"] == known[turn["content"]]


@pytest.mark.parametrize("shape", ["openai", "sharegpt", "chatml", "prompt-completion", "records"])
def test_of_many_turns_the_last_answer_is_asked_for(shape, ledger, tmp_path):
    turns = ["What about the red valve?", FACTS["red"], "And who may open the green one?", FACTS["green"]]
    said = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(turns)]
    rows = [{"messages": said}, {"messages": [{**said[0], "content": "And the blue one?"}, *said[1:]]}]
    run = import_rows(rows, ledger=ledger, show_progress=False)
    options = {"shape": shape, "gates": False, "distinct": False, "system_prompt": "Be brief." * (shape != "records")}
    made = export_dataset(run, tmp_path / "talks", **options)
    question = questions_of(made, part="train")[0]
    roles = [turn["role"] for turn in question["messages"]]
    assert roles == ["system"] * (shape != "records") + ["user", "assistant", "user"]
    assert question["reference"] == FACTS["green"] and question["messages"][-1]["content"] == turns[2]


def test_rows_that_ask_nothing_or_call_tools_are_left_out_and_said(caplog):
    call = {"id": "1", "type": "function", "function": {"name": "close", "arguments": "{}"}}
    asked = {"role": "user", "content": "Close it."}
    rows = [
        {"prompt": "How?", "completion": "So."},
        {"messages": [asked, {"role": "assistant", "content": "", "tool_calls": [call]}]},
        {"messages": [asked, {"role": "assistant", "content": "Done."}], "tools": "[]x"},
        {"conversations": [{"from": "human", "value": "Close it."}, {"from": "function_call", "value": "{}"}]},
        {"messages": [{"role": "assistant", "content": "Hello."}]},
        {"name": "valve", "price": 3},
        {"messages": [asked]},
    ]
    questions = questions_of(rows)
    assert [question["reference"] for question in questions] == ["So.", ""]
    assert "left out: 5" in caplog.text


def test_what_has_no_questions_is_refused_with_what_to_do(exported, tmp_path):
    (tmp_path / "plain.jsonl").write_text('{"name": "valve"}\n')
    with pytest.raises(errors.InputError, match="none asks"):
        questions_of(tmp_path / "plain.jsonl")
    with pytest.raises(errors.InputError, match="no part 'validation'"):
        questions_of(exported(), part="validation")
    with pytest.raises(errors.InputError, match="not at least 1"):
        questions_of(exported(shape="alpaca"), limit=0)


def test_some_questions_are_drawn_from_all_and_stay_in_their_order(exported):
    made = exported()
    every, some = questions_of(made), questions_of(made, limit=4, seed=3)
    places = [every.index(question) for question in some]
    assert len(some) == 4 and places == sorted(places) != [0, 1, 2, 3]
    assert some == questions_of(made, limit=4, seed=3) and questions_of(made, limit=99) == every


# --- two models


def answering(payload):
    """Answer as a base model that knows nothing, a tuned one that was told, and a judge that knows the facts."""
    asked, model = payload["messages"][-1]["content"], payload["model"]
    if model.startswith("judge"):
        fact = asked.partition("Text:\n")[2].partition("\n\n")[0]
        if "Answer A:" not in asked:
            return fact or "Nobody knows."
        first, second = re.search(r"Answer A: (.*?)\n\nAnswer B: (.*?)\n\n", asked, re.DOTALL).groups()
        better = "A" if first == fact else "B" if second == fact else "neither"
        return json.dumps({"reason": "One says what the text says.", "better": better})
    valve = next(valve for valve in VALVES if valve in asked)
    return FACTS[valve] if model.startswith("tuned") and valve != "red" else f"The {valve} valve is a valve."


@pytest.fixture
def server():
    with FakeOllama(answering) as fake:
        fake.models += ["tuned", "tuned2", "judge"]
        yield fake


@pytest.fixture
def models(server):
    made = {name: Client(OllamaBackend(server.url), name) for name in ("tiny", "tuned", "tuned2", "judge")}
    yield made
    for client in made.values():
        LOOP.run(client.aclose())


def asked(server):
    return [payload["model"].partition(":")[0] for path, payload, _ in server.requests if path == "/api/chat"]


def test_both_answer_a_judge_compares_and_nothing_is_asked_twice(server, models, exported, ledger, quick):
    given = {"ledger": ledger, "profile": quick, "show_progress": False}
    made = exported()
    found = evaluate(made, base=models["tiny"], tuned=models["tuned"], judge=models["judge"], calibrate=False, **given)
    assert [known.measure for known in found.measures] == ["exact match", "token F1", "judged better"]
    assert all(known.is_told and known.questions == 8 for known in found.measures)
    assert found.summary.startswith("The tuned model is better: exact match +") and found.left_out == 0
    told = sum(row["base"] != row["tuned"] for row in found.answers)
    assert asked(server).count("judge") == 3 * told  # itself, then in both orders; not where both say the same
    assert list(found.df["measure"]) == [known.measure for known in found.measures]
    better = found.answers_df.set_index("question")["better"]
    assert set(better[~better.index.str.contains("red")]) == {"tuned"}

    server.requests.clear()
    again = evaluate(made, base=models["tiny"], tuned=models["tuned"], judge=models["judge"], calibrate=False, **given)
    assert again.measures == found.measures and asked(server) == []
    evaluate(made, base=models["tiny"], tuned=models["tuned2"], **given)
    assert asked(server) == ["tuned2"] * 8  # what the base answered is known


def test_the_judge_is_not_told_whose_an_answer_is_and_sees_both_orders(server, models, exported, ledger, quick):
    given = {"ledger": ledger, "profile": quick, "show_progress": False, "limit": 6}
    evaluate(exported(), base=models["tiny"], tuned=models["tuned"], judge=models["judge"], calibrate=False, **given)
    seen = [
        payload["messages"][-1]["content"]
        for path, payload, _ in server.requests
        if path == "/api/chat" and payload["model"].startswith("judge")
    ]
    assert seen and not any(word in text.lower() for text in seen for word in ("tuned", "tiny", "base"))
    answers = [
        re.search(r"Answer A: (.*?)\n\nAnswer B: (.*?)\n\n", text).groups() for text in seen if "Answer A" in text
    ]
    assert sorted(answers) == sorted((second, first) for first, second in answers)


def test_a_question_that_one_did_not_answer_is_left_out_and_said(server, models, exported, ledger, quick):
    refused = lambda payload: (  # noqa: E731
        (500, {}, "no") if "tuned" in payload["model"] and "green" in payload["messages"][-1]["content"] else None
    )
    server.refuse = refused
    given = {"ledger": ledger, "profile": quick.replace(max_attempts=1), "show_progress": False}
    made = exported()
    among = any("green" in question["messages"][0]["content"] for question in questions_of(made))
    found = evaluate(made, base=models["tiny"], tuned=models["tuned"], **given)
    assert found.left_out == among and len(found.answers) == 8 - among
    assert among and "did not answer: 1" in found.summary
    server.refuse = lambda payload: None
    assert evaluate(made, base=models["tiny"], tuned=models["tuned"], **given).left_out == 0


def test_an_empty_answer_counts_as_one_that_agrees_with_nothing(models, exported, ledger, quick):
    with FakeOllama(lambda payload: "") as mute:
        silent = Client(OllamaBackend(mute.url), "tiny")
        given = {"ledger": ledger, "profile": quick, "show_progress": False}
        found = evaluate(exported(), base=models["tuned"], tuned=silent, **given)
        LOOP.run(silent.aclose())
    assert found.left_out == 0 and found.measures[1].tuned == 0.0
    assert found.summary.startswith("The tuned model is worse:")


def test_no_other_model_answers_after_a_timeout(models, exported, ledger, quick):
    given = {"ledger": ledger, "profile": quick, "show_progress": False}
    found = evaluate(
        exported(), base=models["tiny"], tuned=models["tuned"], judge=models["judge"], calibrate=False, **given
    )
    assert len(found.runs) == 3
    for run in found.runs.values():
        assert run.fallback.client is None and run.fallback.shrink == 1.0 and run.options.temperature == 0.0


def test_the_options_of_the_answers_are_not_the_judges(server, models, exported, ledger, quick):
    given = {"ledger": ledger, "profile": quick, "show_progress": False, "limit": 3, "calibrate": False}
    own = {"max_tokens": 16, "stop": ["valve"], "temperature": 0.5, "num_ctx": 2048}
    evaluate(exported(), base=models["tiny"], tuned=models["tuned"], judge=models["judge"], **own, **given)
    sent = {True: [], False: []}
    for path, payload, _ in server.requests:
        if path == "/api/chat":
            sent[payload["model"].startswith("judge")].append(payload["options"])
    assert all(told["num_predict"] == 16 and told["stop"] == ["valve"] for told in sent[False])
    assert sent[True] and all(told["temperature"] == 0 and told["num_ctx"] == 4096 for told in sent[True])
    assert all(told["num_predict"] > 16 and "valve" not in told.get("stop", ()) for told in sent[True])


def test_answers_of_a_model_without_a_digest_are_asked_for_anew(exported, ledger, quick, caplog):
    """Two trainings under one name: their answers may not be taken for each other's."""
    base, tuned = (Client(ScriptedBackend(lambda request: "It is a valve."), name) for name in ("one", "two"))
    given = {"base": base, "tuned": tuned, "ledger": ledger, "profile": quick, "show_progress": False}
    made = exported()
    with caplog.at_level("INFO", "cerebro_nb"):
        evaluate(made, **given)
        evaluate(made, **given)
    assert len(base.backend.requests) == len(tuned.backend.requests) == 16
    assert "two is asked anew" in caplog.text
    evaluate(made, **given, reuse=True)
    assert len(base.backend.requests) == len(tuned.backend.requests) == 16


def test_a_judge_that_cannot_tell_good_from_bad_has_no_say(server, models, exported, ledger, quick):
    """It gives every known answer the same score, so its calibration is that of chance."""
    said = "It may be so, or it may be otherwise."
    same = {"correct": 3, "grounded": 3, "clear": 3, "reason": said, "score": 3}

    def lazily(payload):
        is_pair = "Answer B:" in payload["messages"][-1]["content"]
        if not payload["model"].startswith("judge") or is_pair:
            return answering(payload)
        if not payload.get("format"):
            return said  # its own answer
        return json.dumps({name: same[name] for name in payload["format"]["properties"]})

    server.answer = lazily
    given = {"ledger": ledger, "profile": quick, "show_progress": False}
    found = evaluate(exported(), base=models["tiny"], tuned=models["tuned"], judge=models["judge"], **given)
    assert found.calibration.auc == 0.5 and found.measures[2].is_told
    assert "judged" not in found.summary and found.summary.endswith("its word does not count.")


def test_without_references_a_judge_alone_tells(server, models, ledger, quick):
    rows = [{"messages": [{"role": "user", "content": row["question"]}]} for row in pairs()]
    given = {"ledger": ledger, "profile": quick, "show_progress": False}
    with pytest.raises(errors.InputError, match=r"nothing to compare.* none has a reference"):
        evaluate(iter(rows), base=models["tiny"], tuned=models["tuned"], **given)
    assert asked(server) == []
    found = evaluate(
        iter(rows), base=models["tiny"], tuned=models["tuned"], judge=models["judge"], calibrate=False, **given
    )
    assert [known.measure for known in found.measures] == ["judged better"] and len(found.answers) == 10


@pytest.mark.parametrize("tuned", ["tiny", "tiny:latest", "", None, 3, "a client"])
def test_models_that_are_none_or_the_same_are_refused_before_anybody_is_asked(tuned, server, models, exported, ledger):
    tuned = models["tiny"] if tuned == "a client" else tuned
    with pytest.raises(errors.CerebroError, match=r"same model|names no model|tuned = (None|3) \(argument\)"):
        evaluate(exported(), base="tiny", tuned=tuned, backend="ollama", base_url=server.url, ledger=ledger)
    assert asked(server) == []


def test_two_names_of_one_model_are_one_and_one_model_asked_in_two_ways_is_two(server, models, exported, ledger, quick):
    given = {"ledger": ledger, "profile": quick, "show_progress": False}
    made = exported()
    settings = models["tiny"].settings.replace(generation={"top_p": 0.5})
    with Client(OllamaBackend(server.url), "tiny:latest", settings) as bold:
        assert evaluate(made, base=models["tiny"], tuned=bold, **given).left_out == 0
    server.requests.clear()
    with Client(OllamaBackend(server.url), "tiny:latest") as twin, pytest.raises(errors.InputError, match="same model"):
        evaluate(made, base=models["tiny"], tuned=twin, **given)
    assert asked(server) == []


@pytest.mark.parametrize("part", ["train", "test"])
def test_without_a_held_out_part_nobody_is_asked_or_loaded(part, server, models, exported, ledger):
    made = exported(test_share=0.0) if part == "test" else exported()
    rows = [{"messages": [{"role": "assistant", "content": "It closes."}]}]
    with pytest.raises(errors.InputError, match=r"no part|none asks"):
        evaluate(made if part == "test" else rows, base=models["tiny"], tuned=models["tuned"], ledger=ledger)
    assert asked(server) == []


@pytest.mark.parametrize(
    "odd",
    [
        {"limit": "3"},
        {"limit": 2.5},
        {"limit": True},
        {"part": 3},
        {"criterion": ["correct"]},
        {"criterion": None},
        {"calibrate": "no"},
        {"reuse": "yes"},
        {"language": 5},
        {"judge": ["judge"]},
        {"ledger": "sqlite://"},
        {"profile": {}},
        {"seed": "one"},
    ],
)
def test_what_is_of_another_type_is_refused_by_name_before_anybody_is_asked(odd, server, models, exported, ledger):
    given = {"base": models["tiny"], "tuned": models["tuned"], "ledger": ledger, **odd}
    ((name, _),) = odd.items()
    with pytest.raises(errors.SettingsError, match=rf"^{name} = .*\(argument\): it should be"):
        evaluate(exported(), **given)
    assert server.requests == []


def test_the_language_of_the_export_says_what_articles_are(models, exported, ledger, quick):
    given = {"ledger": ledger, "profile": quick, "show_progress": False}
    made = exported(language="pt-BR")
    assert evaluate(made, base=models["tiny"], tuned=models["tuned"], **given).language == "pt-BR"
    assert evaluate(made, base=models["tiny"], tuned=models["tuned"], language="es", **given).language == "es"


def test_the_summary_is_portuguese_where_the_log_is():
    told = Difference("token F1", 0.1, 0.3, 0.1, 0.3, 40, 30)
    seen = Evaluation("a", "b", None, [told], [], 1, {}, "pt-BR", log_language="pt-BR")
    assert seen.summary == "O modelo treinado é melhor: F1 por palavras +0.20 [+0.10, +0.30]. " + (
        "Perguntas deixadas de fora, porque um dos dois não respondeu: 1."
    )
    assert list(seen.df["measure"]) == ["token F1"] and list(seen.table["measure"]) == ["F1 por palavras"]
    assert "F1 por palavras" in seen.svg and "token F1" not in seen._repr_html_()


def test_the_command_prints_a_table_and_a_sentence_and_saves_the_answers(server, exported, tmp_path):
    words = [str(Path(sys.executable).with_name("cerebro")), "--quiet", "evaluate", str(exported().path)]
    words += [
        "--no-calibration",
        "--base",
        "tiny",
        "--tuned",
        "tuned",
        "--judge",
        "judge",
        "--backend",
        "ollama",
        "--base-url",
        server.url,
    ]
    out = tmp_path / "answers.jsonl"
    ended = subprocess.run([*words, "--out", str(out)], capture_output=True, text=True, timeout=120, env={**os.environ})
    assert ended.returncode == 0, ended.stderr
    assert "judged better" in ended.stdout and "The tuned model is better: exact match +" in ended.stdout
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 8 and {"question", "reference", "base", "tuned", "better"} <= rows[0].keys()
    wrong = subprocess.run([*words[:-8], "--judge-backend", "ollama"], capture_output=True, text=True, timeout=120)
    assert wrong.returncode == 2 and "--tuned" in wrong.stderr


# --- the proof of our own


@drawn(st.text(max_size=60), st.text(max_size=60), st.sampled_from(["en", "pt", "es", "fr", "de", "it", "sv"]))
def test_the_script_that_stands_alone_scores_by_the_same_rule(answer, reference, language):
    alone = module("helps_train")
    assert alone.compared_words(answer, language) == compared_words(answer, language)
    assert alone.token_f1(answer, reference, language) == token_f1(answer, reference, language)


def test_the_script_that_stands_alone_is_as_sure(chance):
    before, after = ([chance.random() for _ in range(60)] for _ in range(2))
    ours, alone = paired_difference("token F1", before, after), module("helps_train").paired(before, after)
    assert alone["low"] == pytest.approx(ours.low, abs=0.01) and alone["high"] == pytest.approx(ours.high, abs=0.01)
    assert alone["difference"] == pytest.approx(ours.difference) and alone["questions"] == 60


def test_the_manual_has_sections_and_no_question_is_nearly_in_both_parts():
    helps = module("helps")
    found = Counter(piece.section for piece in pieces_of(read_documents(helps.DOCUMENT), 100))
    assert len(found) == 20 and min(found.values()) > 1
    asks = [f"{FACTS[valve][:-1]}: when?" for valve in VALVES]
    repeated = [*asks, *(f"{text[:-1]}, please?" for text in asks)]
    rows = [
        {"question": text, "answer": str(n % 10), "metadata": {"source": "one.md"}} for n, text in enumerate(repeated)
    ]
    of_sections = [{**row, "metadata": {"section": VALVES[n % 10]}} for n, row in enumerate(rows)]
    others, test = helps.without_sections(of_sections, 0.3, 1)
    assert len(test) == 6 and len(others) == 14
    assert not {row["answer"] for row in others} & {row["answer"] for row in test}
    train, asked = helps.divided(rows, 0.3, 1)
    assert asked and len(train) + len(asked) == 20
    assert not {row["answer"] for row in train} & {row["answer"] for row in asked}
