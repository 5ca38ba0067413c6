"""Judges: calibrated before they rank, given the source, asked in both orders; and data sets by their scores."""

import asyncio
import itertools
import json
import logging

import pytest

from cerebro_nb import (
    Client,
    Fallback,
    Ledger,
    ScriptedBackend,
    calibrate,
    compare_answers,
    errors,
    export_dataset,
    import_rows,
    judge,
    load_settings,
    rerun,
    resume,
    retry_failed,
    synthetic_run,
    verdicts,
)
from cerebro_nb.batching.work import WorkItem
from cerebro_nb.datasets.examples import Chosen
from cerebro_nb.generating.asking import Asking
from cerebro_nb.generating.examining import ExampleWork
from cerebro_nb.judging.calibration import area_interval, area_under_curve, calibration_items, calibration_run
from cerebro_nb.judging.scoring import Judge
from cerebro_nb.judging.wordings import judge_template, pair_template
from cerebro_nb.launching.preflight import forecast
from cerebro_nb.profiles import GenerationOptions
from cerebro_nb.protocol.messages import ChatRequest, Message
from cerebro_nb.recipes.library import as_recipe

ROWS = [
    {"question": "What is green tea?", "answer": "Green tea is made of leaves that are heated soon after picking."},
    {
        "question": "Where does tea come from?",
        "answer": "Tea was drunk in China first, where it grows there still.",
    },
    {
        "question": "How hot is the water?",
        "answer": "For green tea it has some eighty degrees, for black a hundred.",
    },
]


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield made
    made.close()


@pytest.fixture
def options(quick, ledger):
    return {"profile": quick, "ledger": ledger, "show_progress": False}


@pytest.fixture
def task(ledger):
    return import_rows(ROWS, kind="qa", language="en", ledger=ledger, show_progress=False).task_id


def verdict_of(request, score):
    """Return a verdict in the form that is asked for, with this score in every aspect; or an answer of its own."""
    if request.json_schema is None:
        return "This is what I know of it."
    parts = request.json_schema["properties"]
    values = {"integer": score, "string": "It was looked up."}
    return json.dumps(
        {name: values[part["type"]] if "enum" not in part else part["enum"][score < 4] for name, part in parts.items()}
    )


def is_known_bad(request):
    asked = request.messages[-1].content
    items = [item for tag in ("en", "pt-BR") for item in calibration_items(tag)]
    return any(item["side"] == "bad" and item["example"]["answer"] in asked for item in items)


def knowing(request):
    return verdict_of(request, 1 if is_known_bad(request) else 5)


def of_no_use(request):
    return verdict_of(request, 5)


def judging(says, model="big"):
    return Client(ScriptedBackend(says), model)


def test_a_judge_is_calibrated_before_it_scores_and_asked_for_it_once(options, task, ledger):
    client = judging(knowing)
    first = judge(task, client=client, **options)
    known = first.task.manifest["calibration"]
    assert (known["auc"], known["low"], known["high"], known["pairs"]) == (1, 1, 1, 30)
    assert first.df.attrs["calibration"] == known and first.progress.ok == 3
    paid = len(client.backend.requests)
    assert paid == 30 + 60 + 2 * 3
    second = judge(task, client=client, **options)
    assert len(client.backend.requests) == paid + 2 * 3
    assert second.task.manifest["calibration"]["task_id"] == known["task_id"]
    assert calibrate("en", judge=client, **options).can_judge and len(client.backend.requests) == paid + 2 * 3


@pytest.mark.parametrize("model", ["modelo-ção", 'q"4', "C:\\models\\big.gguf", "100%_big"])
def test_a_calibration_is_found_again_whatever_the_model_is_called(model, options):
    client = judging(knowing, model)
    calibrate("en", judge=client, **options)
    assert calibrate("en", judge=client, **options).can_judge and len(client.backend.requests) == 90


def test_another_model_and_another_language_are_calibrated_anew(options, ledger):
    client, other = judging(knowing), judging(knowing, "bigger")
    calibrate("en", judge=client, **options)
    calibrate("pt", judge=client, **options)
    assert len(client.backend.requests) == 180
    assert calibrate("pt-BR", judge=client, **options).language == "pt-BR" and len(client.backend.requests) == 180
    assert calibrate("de", judge=client, **options).language == "en" and len(client.backend.requests) == 180
    calibrate("en", judge=other, **options)
    assert len(other.backend.requests) == 90


def test_calibration_can_be_left_out(options, task):
    client = judging(knowing)
    run = judge(task, client=client, calibrate=False, **options)
    assert len(client.backend.requests) == 6 and "calibration" not in run.task.manifest
    assert "calibration" not in run.df.attrs


@pytest.mark.parametrize(("language", "words"), [("en", "cannot tell good from bad"), ("pt-BR", "não sabe distinguir")])
def test_a_judge_that_cannot_tell_is_said_and_does_what_it_was_asked(
    language, words, options, task, caplog, monkeypatch
):
    monkeypatch.setenv("CEREBRO_LOG_LANGUAGE", language)
    with caplog.at_level(logging.WARNING, "cerebro_nb"):
        run = judge(task, client=judging(of_no_use), **options)
    assert any(words in record.getMessage() for record in caplog.records)
    assert run.task.manifest["calibration"]["auc"] == 0.5
    assert [said["score"] for said in verdicts(run.task.manifest["of_task"], ledger=options["ledger"]).values()] == [
        5
    ] * 3


def test_a_calibration_that_was_cut_off_goes_on_with_the_verdicts_that_are_there(options, ledger):
    client = judging(knowing)
    run = calibration_run("en", client=client, **options)
    run.on_progress(lambda now: run.cancel() if now.event == "item" and now.processed == 20 else None).wait()
    answered = run.task.ok_items
    assert 20 <= answered < 60
    before = len(client.backend.requests)
    found = calibrate("en", judge=client, **options)
    assert found.auc == 1 and len(client.backend.requests) < before + 90 - answered
    assert resume(run.task_id, client=client, ledger=ledger, show_progress=False).progress.ok == 60


def test_a_verdict_that_does_not_come_counts_as_the_middle(options):
    def silent_on_spiders(request):
        asked = " ".join(message.content for message in request.messages)
        return "no" if "legs does a spider" in asked else knowing(request)

    found = calibrate(
        "en", judge=judging(silent_on_spiders), **{**options, "profile": options["profile"].replace(max_attempts=1)}
    )
    assert found.failed == 2 and 0.9 < found.auc < 1


def test_a_calibration_is_asked_in_a_judges_own_way_and_nobody_else_answers(options, task, ledger):
    client, told = judging(knowing), []
    own = {"temperature": 0.9, "max_tokens": 300, "stop": ["\n\n\n"], "fallback": Fallback(client=judging(of_no_use))}
    run = judge(task, client=client, on_progress=told.append, **own, **options)
    calibrating, judged = client.backend.requests[:90], client.backend.requests[90:]
    assert {(asked.options.temperature, asked.options.stop) for asked in calibrating} == {(0.0, ())}
    assert {(asked.options.temperature, asked.options.stop) for asked in judged} == {(0.9, ("\n\n\n",))}
    assert {now.task_id for now in told} <= {run.task_id, ""}
    known = ledger.task(run.task.manifest["calibration"]["task_id"]).manifest
    assert known["fallback"] == {"shrink": 1.0}
    with pytest.raises(errors.InputError, match="temperature"):
        calibrate("en", judge=client, temperature=0.5, **options)


def test_a_rerun_by_another_model_has_its_own_calibration_and_a_mixed_task_none(options, task, ledger):
    first = judge(task, client=judging(knowing), **options)
    other = judging(of_no_use, "bigger")
    again = rerun(first, client=other, show_progress=False)
    assert first.df.attrs["calibration"]["auc"] == 1
    assert again.df.attrs["calibration"]["auc"] == 0.5 and again.df.attrs["calibration"]["model"] == "bigger"
    same = rerun(first, client=judging(knowing), show_progress=False)
    assert same.df.attrs["calibration"] == first.df.attrs["calibration"]

    few = {**options, "profile": options["profile"].replace(max_attempts=1)}
    failed = judge(task, client=judging(strict), rubric="Be strict.", **few)
    assert failed.progress.failed and failed.task.manifest["calibration"]["model"] == "big"
    mixed = retry_failed(failed.task_id, client=other, ledger=ledger, show_progress=False)
    assert mixed.progress.ok == 3 and "calibration" not in mixed.df.attrs


def strict(request):
    asked = " ".join(message.content for message in request.messages)
    return "no" if "Be strict." in asked else knowing(request)


def test_verdicts_are_found_again_whatever_the_calibration_was(options, task):
    client = judging(knowing)
    judge(task, client=client, calibrate=False, **options)
    asked = len(client.backend.requests)
    again = judge(task, client=client, reuse=True, **options)
    assert again.progress.ok == 3 and len(client.backend.requests) == asked + 90


@pytest.mark.parametrize("thinks", ["", errors.OutputTruncated("it ran into its token limit")])
def test_a_judge_that_only_thinks_judges_without_an_answer_of_its_own(thinks, options, task):
    def says(request):
        return knowing(request) if request.json_schema else thinks

    run = judge(task, client=judging(says), calibrate=False, **options)
    assert run.progress.ok == 3 and run.progress.retried == 0
    given = {"question": "What is tea?", "first": "A drink of leaves.", "second": "A kind of stone.", "language": "en"}
    compared = judging(lambda request: preferring("leaves")(request) if request.json_schema else thinks)
    assert compare_answers(**given, client=compared).better == "first"


def test_the_area_is_the_chance_of_the_right_order():
    assert area_under_curve([5, 3], [3, 1]) == (1 + 1 + 0.5 + 1) / 4
    low, high = area_interval([5, 4, 2, 5, 3] * 6, [3, 4, 3, 1, 2] * 6)
    assert 0 < low < area_under_curve([5, 4, 2, 5, 3] * 6, [3, 4, 3, 1, 2] * 6) < high < 1


@pytest.mark.parametrize("tag", ["en", "pt-BR"])
def test_there_are_thirty_pairs_of_every_fault_in_a_language_and_no_shot_gives_one_away(tag):
    items = calibration_items(tag)
    answers = [item["example"]["answer"] for item in items]
    assert len(items) == 60 == len(set(answers))
    assert {item["fault"] for item in items} == {"number", "roles", "off", "half", "source"}
    shots = json.dumps([judge_template(tag).examples, pair_template(tag).examples], ensure_ascii=False)
    assert not any(answer in shots for answer in answers)
    assert not any(item["example"]["question"] in shots for item in items)


# --- what a judge is given


def test_the_source_stands_before_the_example_and_is_an_aspect_only_there(options, ledger):
    source = "Green tea is heated soon after it is picked."
    task = ledger.create_task("qa_generation", "tea", 2, manifest={"language": "pt-BR"})
    from cerebro_nb.tasks.writing import FinishedItem

    for position, asked_with in enumerate(({"text": source}, {})):
        ledger.add_items(task, position, [(asked_with, str(position))])
        item = FinishedItem(task, position, (asked_with, str(position)), "ok", ROWS[position], None, [], 1.0, 2.0)
        ledger.finish_item(item).result()
    client = judging(of_no_use)
    run = judge(task, client=client, calibrate=False, **options)
    verdicts_asked = [request for request in client.backend.requests if request.json_schema]
    sourced, other = sorted(verdicts_asked, key=lambda request: source not in request.messages[-1].content)
    told = sourced.messages[-1].content
    assert told.index("Texto") < told.index(source) < told.index(ROWS[0]["question"])
    assert "grounded" in sourced.json_schema["properties"] and "grounded" not in other.json_schema["properties"]
    assert [("grounded" in said) for said in run.results] == [True, False]
    assert "correct" in run.df and "clear" in run.df


def preferring(word):
    """Return a judge that prefers the answer with a word, wherever it stands."""

    def says(request):
        if request.json_schema is None:
            return "Tea is something that is drunk."
        asked = request.messages[-1].content
        places = {name: asked.find(mark) for name, mark in (("A", "Answer A:"), ("B", "Answer B:"))}
        better = "A" if places["A"] < asked.find(word, places["A"]) < places["B"] else "B"
        parts = request.json_schema["properties"]
        return json.dumps({name: better if name == "better" else "It was looked up." for name in parts})

    return says


def of_a_place(request):
    if request.json_schema is None:
        return "Tea is something that is drunk."
    parts = request.json_schema["properties"]
    return json.dumps({name: "A" if name == "better" else "The first is fine." for name in parts})


def test_two_answers_are_told_only_if_both_orders_agree():
    given = {"question": "What is tea?", "first": "A drink of leaves.", "second": "A kind of stone."}
    leaves = compare_answers(**given, client=judging(preferring("leaves")), language="en")
    assert leaves.better == "first" and len(leaves.reasons) == 2
    assert compare_answers(**given, client=judging(preferring("stone")), language="en").better == "second"
    assert compare_answers(**given, client=judging(of_a_place), language="en").better is None
    client = judging(of_a_place)
    compare_answers(**given, source="Tea is a drink.", criterion="Be kind.", client=client, language="en")
    assert all("Text:\nTea is a drink." in request.messages[-1].content for request in client.backend.requests)
    assert "Be kind." in client.backend.requests[1].messages[0].content
    with pytest.raises(errors.InputError, match="two answers"):
        compare_answers("", "a", "b", client=client)


@pytest.mark.parametrize(
    ("says", "better", "score"),
    [(preferring("careful"), "chosen", 5), (preferring("hasty"), "rejected", 1), (of_a_place, None, 3)],
)
def test_a_preference_pair_is_judged_by_comparing_its_answers(says, better, score, options, ledger):
    row = {
        "question": "How is tea made?",
        "draft": "A hasty answer says to put leaves into water and no more.",
        "criticism": "It leaves out the time.",
        "better": "A careful answer names the heat of the water and the three minutes that the leaves want.",
    }
    pairs = import_rows([row], kind="preference_pairs", language="en", ledger=ledger, show_progress=False)
    client = judging(says)
    (said,) = judge(pairs, client=client, calibrate=False, **options).results
    assert (said["better"], said["score"]) == (better, score) and len(client.backend.requests) == 3


# --- data sets by score


def by_question(marks):
    """Return a judge that gives each question its score."""

    def says(request):
        asked = request.messages[-1].content
        return verdict_of(request, next(mark for question, mark in marks.items() if question in asked))

    return judging(says)


def test_only_what_has_the_score_is_exported(options, task, ledger, tmp_path, caplog):
    marks = {row["question"]: score for row, score in zip(ROWS, (5, 3, 4), strict=True)}
    judge(task, client=by_question(marks), positions=[0, 1, 2], calibrate=False, **options)
    exported = export_dataset(task, tmp_path / "best", min_score=4, gates=False, ledger=ledger)
    lines = (exported.path / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["question"] for line in lines] == [ROWS[0]["question"], ROWS[2]["question"]]
    assert exported.dropped == {"score": 1}
    assert json.loads((exported.path / "manifest.json").read_text(encoding="utf-8"))["min_score"] == 4
    with pytest.raises(errors.InputError, match="score 3") as refused:
        judge(task, client=by_question(dict.fromkeys(marks, 1)), positions=[0, 2], calibrate=False, **options)
        export_dataset(task, tmp_path / "none", min_score=5, gates=False, ledger=ledger)
    assert "lower min_score" in refused.value.hint


def test_what_was_not_judged_is_left_out_and_said(options, task, ledger, tmp_path, caplog):
    with pytest.raises(errors.InputError, match="not judged 3") as refused:
        export_dataset(task, tmp_path / "none", min_score=4, gates=False, ledger=ledger)
    assert "judge(task)" in refused.value.hint
    judge(task, client=judging(of_no_use), positions=[1], calibrate=False, **options)
    with caplog.at_level(logging.WARNING, "cerebro_nb"):
        exported = export_dataset(task, tmp_path / "one", min_score=4, gates=False, ledger=ledger)
    assert exported.parts == {"train": 1} and exported.dropped == {"not judged": 2}
    assert "2 examples have no score" in caplog.text
    with pytest.raises(errors.InputError, match="no score"):
        export_dataset(task, tmp_path / "wrong", min_score=9, ledger=ledger)


def test_the_scores_of_two_judges_are_never_mixed(options, task):
    for model, score, positions in (("big", 4, None), ("huge", 2, [0])):
        judge(task, positions=positions, calibrate=False, **{**options, "client": judging_as(score, model)})
    newest, named = (verdicts(task, judge=name, ledger=options["ledger"]) for name in (None, "big"))
    assert {said["score"] for said in newest.values()} == {2} and list(newest) == [0]
    assert {said["score"] for said in named.values()} == {4} and len(named) > 1


def judging_as(score, model):
    return judging(lambda request: verdict_of(request, score), model)


@pytest.mark.parametrize("odd", [{"positions": "12"}, {"positions": 3}, {"calibrate": "no"}, {"rubric": 5}])
def test_what_is_of_another_type_is_refused_by_name(odd, options, task):
    ((name, _),) = odd.items()
    with pytest.raises(errors.SettingsError, match=rf"^{name} = .*\(argument\)"):
        judge(task, **{**options, **odd})


def test_a_judgement_that_is_done_anew_tells_the_prompt_that_it_was_asked_with(options, task):
    run = judge(task, calibrate=False, **{**options, "client": judging_as(4, "big")})
    ledger, told = options["ledger"], dict(run.task.manifest)
    ledger.update_task(run.task_id, manifest={**told, "template": {**told["template"], "sha256": "0" * 64}})
    from cerebro_nb import rerun

    again = rerun(run.task_id, ledger=ledger, client=judging_as(4, "big"), show_progress=False)
    assert again.task.manifest["template"] == told["template"]


PLACES = ["Assam", "Ceylon", "Java", "Kenya", "Malawi", "Nepal", "Uji", "Wuyi"]


def writing_of(places):
    """Return what a model says that writes of one place after another, every second time what is wrong, and judges."""

    def says(request):
        parts = (request.json_schema or {}).get("properties", {})
        if "score" in parts:
            asked = request.messages[-1].content
            return verdict_of(request, 1 if is_known_bad(request) or "a kind of stone" in asked else 5)
        if "question" not in parts:
            return verdict_of(request, 5)
        number = next(places)
        made_of = "a kind of stone" if number % 2 == 0 else "the dried leaf of a bush"
        place = PLACES[number % len(PLACES)]
        return json.dumps({"question": f"What is tea from {place} made of?", "answer": f"In {place} it is {made_of}."})

    return says


def test_examples_below_the_least_score_do_not_count_and_others_come_in_their_place(options):
    client = judging(writing_of(itertools.count()))
    given = {**options, "min_score": 4, "one_call": True, "embedder": "none", "topics": "none"}
    run = synthetic_run("qa", "tea", 3, client=client, **given).start().wait()
    assert [row.answer.endswith("the dried leaf of a bush.") for row in run.df.itertuples()] == [True] * 3
    assert run.task.manifest["min_score"] == 4 and run.task.manifest["calibration"]["auc"] == 1
    told = {attempt["error"]["message"] for attempt in run.ledger.attempts(run.task_id) if attempt["error"]}
    assert told == {"1 of 5: It was looked up."}


@pytest.mark.parametrize("wrong", [{"min_score": 0}, {"min_score": "high"}, {"min_score": 4.5}, {"judge_model": "big"}])
def test_a_least_score_that_no_judge_gives_is_refused_before_the_run(wrong):
    with pytest.raises(errors.InputError) as refused:
        synthetic_run("qa", "tea", 3, **wrong)
    assert refused.value.hint


def test_what_another_process_made_and_rated_is_not_judged_here_again():
    client = judging(writing_of(itertools.count()))
    recipe = as_recipe("qa")
    asking = Asking(client, recipe, "tea", "en", client.settings.generation, one_call=True)
    work = ExampleWork(asking, judge=Judge(client, "en", "", client.settings.generation, least=4))
    made = {"question": "What is tea from Uji made of?", "answer": "In Uji it is a kind of stone."}
    asyncio.run(work.judge(WorkItem(0, {}), made))
    assert client.backend.requests == []
    with pytest.raises(errors.DuplicateOutput):
        asyncio.run(work.judge(WorkItem(1, {}), made))


def is_verdict(request):
    return "score" in (request.json_schema or {}).get("properties", {})


def of_the_run(run, *names):
    """Return what the requests for a run's items were, in their order."""
    return [tuple(name(row) for name in names) for row in run.ledger.attempts(run.task_id)]


def num_predict(row):
    return row["request"]["options"]["num_predict"]


SCORED = {"min_score": 4, "one_call": True, "embedder": "none", "topics": "none"}


def test_timeouts_of_the_model_that_writes_change_nothing_of_the_judge(options):
    writes, late = writing_of(itertools.count(1)), iter([True, True])

    def says(request):
        if not is_verdict(request) and request.json_schema and next(late, False):
            raise errors.RequestTimeout("too slow")
        return writes(request)

    client, spare = judging(says), judging(writes, "spare")
    calibrate("en", judge=client, **options)
    run = (
        synthetic_run("qa", "tea", 1, client=client, fallback=Fallback(client=spare), **SCORED, **options)
        .start()
        .wait()
    )
    asked = of_the_run(run, lambda row: row["step"], lambda row: row["model"], num_predict)
    assert asked == [
        ("call", "big", 800),
        ("smaller", "big", 400),
        ("fallback", "spare", 800),
        ("judge", "big", 120),
        ("judge", "big", 800),
    ]
    (item,) = run.ledger.items(run.task_id)
    assert item["step"] == "fallback"


def test_a_judge_that_is_late_is_asked_of_the_same_example_again_and_the_model_that_writes_is_not_cut(options):
    writes, late, scores = writing_of(itertools.count(1)), iter([True]), iter([1, 5])

    def says(request):
        if not is_verdict(request):
            return writes(request)
        if next(late, False):
            raise errors.RequestTimeout("too slow")
        return verdict_of(request, next(scores))

    client = judging(says)
    run = synthetic_run("qa", "tea", 1, client=client, calibrate=False, **SCORED, **options).start().wait()
    asked = of_the_run(run, lambda row: row["step"], num_predict, lambda row: row["reply"] is not None)
    own, verdict, written = ("judge", 120, True), ("judge", 800, True), ("call", 800, True)
    assert asked == [written, own, ("judge", 800, False), verdict, written, own, verdict]
    assert run.df.question[0] == "What is tea from Java made of?", "the first was judged, and refused, by its own score"


def test_what_is_reused_is_not_judged_again(options):
    client = judging(writing_of(itertools.count(1)))
    given = {**SCORED, **options, "client": client, "seed": 7, "calibrate": False}
    first = synthetic_run("qa", "tea", 1, **given).start().wait()
    paid = len(client.backend.requests)
    again = synthetic_run("qa", "tea", 1, reuse=True, **given).start().wait()
    assert again.results == first.results and len(client.backend.requests) == paid


def test_how_an_item_s_answer_ended_and_its_tokens_are_those_of_the_answer_not_of_the_verdict_on_it(options, ollama):
    run = synthetic_run("qa", "tea", 1, **fake_ollama(options, ollama, calibrate=False)).start().wait()
    (item,) = run.ledger.items(run.task_id)
    written, *looked_at = run.ledger.attempts(run.task_id)[3:]  # the first was refused
    usage = written["reply"]["usage"]
    assert [row["step"] for row in (written, *looked_at)] == ["call", "judge", "judge"]
    assert (item["step"], item["finish_reason"]) == ("call", "stop")
    assert (item["prompt_tokens"], item["completion_tokens"]) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert looked_at[-1]["reply"]["usage"]["completion_tokens"] != item["completion_tokens"]


def as_request(payload):
    """Return what a server was sent as the request that it is."""
    turns = tuple(Message(turn["role"], turn["content"]) for turn in payload["messages"])
    return ChatRequest(payload["model"], turns, GenerationOptions(), payload.get("format"))


def fake_ollama(options, ollama, **settings):
    """Return what a run is given that asks a server, which writes and judges."""
    says = writing_of(itertools.count())
    ollama.answer = lambda payload: says(as_request(payload))
    return {"backend": "ollama", "model": "tiny", "base_url": ollama.url, **SCORED, **options, **settings}


@pytest.mark.parametrize(("named", "num_ctx"), [({}, 4096), ({"num_ctx": 2048}, 2048), ({"num_ctx": 8192}, 8192)])
def test_the_model_that_writes_judges_in_the_context_that_it_is_loaded_for(options, ollama, named, num_ctx):
    run = synthetic_run("qa", "tea", 2, **fake_ollama(options, ollama, **named)).start().wait()
    assert run.progress.ok == 2 and ollama.reloads == 1
    assert {row["request"]["options"]["num_ctx"] for row in run.ledger.attempts(run.task_id)} == {num_ctx}


def test_another_judge_has_room_enough_and_no_less_than_the_run(options, ollama):
    ollama.models.append("big:latest")
    sizes = {}
    for named in (None, 8192):
        given = fake_ollama(options, ollama, judge_model="big", calibrate=False, num_ctx=named)
        run = synthetic_run("qa", "tea", 1, **given).start().wait()
        rows = run.ledger.attempts(run.task_id)
        sizes[named] = {row["model"]: row["request"]["options"]["num_ctx"] for row in rows}
    assert sizes == {None: {"tiny": 2048, "big": 4096}, 8192: {"tiny": 8192, "big": 8192}}


class SmallEngine(ScriptedBackend):
    """An embedded engine with few tokens a slot."""

    name = "embedded"

    async def load(self, model, options):
        if options.num_ctx > 3000:
            raise errors.SettingsError(f"num_ctx = {options.num_ctx}: the embedded engine has 3000 tokens a slot")
        return await super().load(model, options)


def test_the_embedded_engine_judges_in_the_context_that_it_has(options):
    small = load_settings(embedded={"num_ctx": 3000})
    client = Client(SmallEngine(writing_of(itertools.count())), "tiny", small)
    run = synthetic_run("qa", "tea", 2, client=client, **SCORED, **options).start().wait()
    assert run.progress.ok == 2 and run.options.num_ctx == 3000


def test_a_run_whose_judge_cannot_tell_ends_before_it_has_begun_unless_its_user_insists(options):
    writes = writing_of(itertools.count())
    client = judging(lambda request: of_no_use(request) if is_verdict(request) else writes(request))
    with pytest.raises(errors.InputError, match=r"big cannot tell .* AUC is 0\.50 \(95%: 0\.50 to 0\.50") as refused:
        synthetic_run("qa", "tea", 2, client=client, **SCORED, **options).start().wait()
    assert "judge_model" in refused.value.hint and "calibrate=False" in refused.value.hint
    assert len(client.backend.requests) == 90
    run = synthetic_run("qa", "tea", 2, client=client, calibrate=False, **SCORED, **options).start().wait()
    assert run.progress.ok == 2 and len(client.backend.requests) == 90 + 2 * 3


def test_a_forecast_counts_what_the_judge_is_asked(options, ledger, quick):
    told = {"kind": "preference_pairs", "n": 10, "max_tokens": 800, "num_ctx": 4096, "profile": quick, "model": "big"}

    def calls(**more):
        return forecast({**told, **more}, ledger).calls

    assert (calls(), calls(min_score=4, calibrate=False), calls(min_score=4)) == (40, 70, 70 + 90)
    calibrate("en", judge=judging(knowing), **options)
    assert (calls(min_score=4), calls(min_score=4, judge_model="bigger")) == (70, 70 + 90)
    assert calls(min_score=4, language="pt-BR") == 70 + 90


@pytest.mark.parametrize("wrong", [0, 6, 4.5, True, "high"])
def test_one_range_of_scores_is_refused_alike_wherever_a_least_one_is_given(wrong, options, task, ledger, tmp_path):
    with pytest.raises(errors.InputError) as made:
        synthetic_run("qa", "tea", 3, min_score=wrong)
    with pytest.raises(errors.InputError) as chosen:
        Chosen(min_score=wrong)
    assert str(made.value) == str(chosen.value)
