"""What is made from documents: pieces by section, pairs that are held to their quote, questions without an answer."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebro_nb import Client, Document, ScriptedBackend, errors, generate, generate_qa
from cerebro_nb.datasets.splitting import grouped
from cerebro_nb.gates.candidates import Candidate
from cerebro_nb.gates.gates import refusals
from cerebro_nb.texts.grounding import ungrounded
from cerebro_nb.texts.pieces import pieces_of
from cerebro_nb.texts.quotes import chosen_quote, numbers_form
from cerebro_nb.texts.sections import sections_of
from cerebro_nb.texts.sentences import sentences_in

HIVE = "The hive should face south-east, so that the morning sun wakes the bees. A hive stands on 2 blocks of stone."
HONEY = "Honey is taken in July, once 9 of 10 cells are closed with wax. A colony keeps 20 kilograms for the winter."
INDEX = "bees, 1, 4\nhive, 2\nhoney, 3, 7\nwax, 3\nwinter, 9\nstone, 2\nsun, 2, 8\nJuly, 3\ncells, 3, 5"
GUIDE = Document(
    "# Bees\n\n## Contents\n\n- The hive\n- Honey\n\n"
    f"## The hive\n\n{HIVE}\n\n## Honey\n\n{HONEY}\n\n## Index\n\n{INDEX}\n",
    "bees.md",
    "Bees",
    "text/markdown",
)


@pytest.fixture
def options(quick, ledger):
    return {"profile": quick, "ledger": ledger, "show_progress": False, "embedder": "none"}


def test_pieces_are_of_sections_without_contents_and_index():
    pieces = pieces_of([GUIDE])
    assert [piece.section for piece in pieces] == ["Bees > The hive", "Bees > Honey"]
    assert [GUIDE.text[piece.start : piece.end] for piece in pieces] == [HIVE, HONEY]


def test_headings_that_a_file_names_are_found_behind_its_contents():
    text = f"Contents\nThe hive 2\nHoney 3\n\nChapter 1. The hive\n{HIVE}\nChapter 2. Honey\n{HONEY}"
    document = Document(text, "bees.html", outline=((1, "The hive", None), (1, "Honey", None)))
    assert [(each.name, text[each.start : each.end].strip()) for each in sections_of(document)[1:]] == [
        ("The hive", HIVE),
        ("Honey", HONEY),
    ]


@given(st.text(alphabet="Aa. \n-1?é…", max_size=80))
def test_sentences_stand_where_they_say_and_hold_all_letters(text):
    found = sentences_in(text)
    assert all(text[each.start : each.end] == each.text for each in found)
    assert [mark for each in found for mark in each.text if mark.isalpha()] == [mark for mark in text if mark.isalpha()]


@given(
    st.lists(st.sampled_from(["Tea wants soft water.", "Ask?", "A line", "He waits for it."]), min_size=1, max_size=6)
)
def test_every_number_that_can_be_chosen_gives_a_quote_of_the_text(parts):
    text = "\n\n".join(parts)
    for number in numbers_form(text, 1).model_json_schema()["properties"]["quote"].get("enum", [1]):
        quote = chosen_quote(number, {"text": text, "start": 7})
        assert text[quote["start"] - 7 : quote["end"] - 7] == quote["text"]


QUOTE = "The hive should face south-east, so that the morning sun wakes the bees."
WRONG = {
    "number": "It stands on 4 blocks of stone.",
    "name": "The hive should face Lisbon.",
    "word": "The hive should face north.",
    "negation": "The hive should not face south-east.",
    "other sentence": "A hive stands on 2 blocks of stone.",
    "of the text": "The text says that the hive should face south-east.",
}


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG.keys())
def test_a_true_quote_beside_a_wrong_answer_is_refused(answer):
    quote = {"text": QUOTE, "start": 0, "end": len(QUOTE), "page": None}
    example = {"question": "Where should the hive face?", "quote": quote}
    known = {"asks": ["question"], "answers": ["answer"], "source": HIVE}
    assert "grounded" in refusals(Candidate({**example, "answer": answer}, **known))
    assert not refusals(Candidate({**example, "answer": "It should face south-east, where the sun wakes it."}, **known))


RIGHT_AND_WRONG = {
    "pt-BR": (
        "O pacote não é removido da lista de 12 itens.",
        "O pacote não é removido da lista.",
        "O pacote é removido da lista.",
    ),
    "es": (
        "El paquete no se borra de la lista.",
        "No se borra el paquete de la lista.",
        "El paquete se borra de la lista.",
    ),
    "fr": (
        "Le paquet n'est pas supprimé de la liste.",
        "Le paquet n'est pas supprimé.",
        "Le paquet est supprimé de la liste.",
    ),
    "de": (
        "Das Paket wird nicht gelöscht.",
        "Das Paket wird nicht gelöscht.",
        "Das Paket wird gelöscht.",
    ),
    "it": (
        "Il pacchetto non viene rimosso dalla lista.",
        "Il pacchetto non viene rimosso.",
        "Il pacchetto viene rimosso dalla lista.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("language", RIGHT_AND_WRONG)
def test_what_a_quote_denies_is_told_in_each_language(language):
    quote, right, wrong = RIGHT_AND_WRONG[language]
    assert ungrounded(right, quote, quote, "", language) is None
    assert ungrounded(wrong, quote, quote, "", language).startswith("says the opposite")


def beekeeper(request):
    """Choose the first sentence, ask for it, and say it."""
    asked = request.messages[-1].content
    about = "hive" if any(HIVE[:20] in part for part in asked.split("\n\n")[-2:]) else "honey"
    if "Reply with its number" in asked:
        return json.dumps({"quote": int(re.search(r"\[(\d+)\]", asked)[1])})
    if "Does this text answer" in asked:
        return json.dumps({"answer": "no"})
    if "question" in asked and "?" in asked.splitlines()[-2]:
        return json.dumps({"question": "Where should the hive face?" if about == "hive" else "When is honey taken?"})
    if "this text answers" in asked:
        return json.dumps({"question": "How many kilograms does a colony keep for the winter?"})
    return "The hive should face south-east." if "hive face" in asked else "Honey is taken in July."


def test_a_pair_keeps_its_quote_with_its_place_and_its_section(options, ledger):
    backend = ScriptedBackend(beekeeper)
    run = generate_qa(from_documents=GUIDE, n=2, client=Client(backend, "tiny"), **options)
    assert run.progress.ok == 2
    for item in ledger.items(run.task_id):
        quote = item["output"]["quote"]
        assert GUIDE.text[quote["start"] : quote["end"]] == quote["text"] and item["input"]["section"].startswith(
            "Bees > "
        )
    assert all("Bees > " in request.messages[-1].content for request in backend.requests)


def test_an_answer_that_the_quote_does_not_carry_is_asked_for_again_with_a_reason(options):
    said = iter(["It should face north, says Langstroth.", "The hive should face south-east."])

    def writer(request):
        return next(said) if "Answer in one or two" in request.messages[-1].content else beekeeper(request)

    backend = ScriptedBackend(writer)
    run = generate_qa(from_documents=Document(HIVE, "hive.txt"), n=1, client=Client(backend, "tiny"), **options)
    assert run.results[0]["answer"] == "The hive should face south-east." and run.progress.refused == {"grounded": 1}
    assert "its own words, names and numbers" in backend.requests[-1].messages[-1].content


def test_a_question_that_this_piece_answers_too_is_not_kept_as_unanswerable(options):
    said = iter(["yes", "no"])

    def writer(request):
        is_check = "Does this text answer" in request.messages[-1].content
        return (
            json.dumps({"answer": next(said)})
            if is_check
            else json.dumps({"question": "How much does a colony keep for the winter?"})
        )

    def asks_for_the_hive(request):
        return json.dumps({"question": "Where should the hive face, so that the sun wakes the bees?"})

    run = generate_qa(
        from_documents=GUIDE, n=1, unanswerable=1, client=Client(ScriptedBackend(writer), "tiny"), **options
    )
    assert run.progress.ok == 1 and run.progress.refused == {"disproved": 1}
    assert "quote" not in run.results[0] and run.results[0]["answer"].startswith("The text does not say")
    backend = ScriptedBackend(asks_for_the_hive)
    refused = generate_qa(from_documents=GUIDE, n=1, unanswerable=1, client=Client(backend, "tiny"), **options)
    assert refused.progress.ok == 0 and not any(
        "Does this text" in each.messages[-1].content for each in backend.requests
    )


def test_a_recipe_of_ones_own_quotes_in_its_own_steps(options):
    recipe = {
        "name": "facts",
        "fields": {"proof": {"type": "quote", "max": 2}, "fact": "what it says"},
        "from_text": [
            {"makes": ["proof"], "prompt": "{sentences}\n\nChoose two."},
            {"makes": ["fact"], "prompt": "{proof}\n\nSay it."},
            {"must_be": "yes", "prompt": "{proof}\n\nDoes it say: {fact}"},
        ],
    }
    from cerebro_nb import Recipe

    backend = ScriptedBackend(
        ['{"proof": [1, 2]}', "A hive faces south-east, on 2 blocks of stone.", '{"answer": "yes"}']
    )
    run = generate(
        Recipe.model_validate(recipe),
        n=1,
        from_documents=Document(HIVE, "h.txt"),
        client=Client(backend, "tiny"),
        **options,
    )
    assert run.results[0]["proof"]["text"] == HIVE and HIVE in backend.requests[1].messages[-1].content
    with pytest.raises(ValueError, match="only a step of from_text"):
        Recipe.model_validate({**recipe, "steps": [{"makes": ["proof"], "prompt": "?"}]})


def test_sections_of_one_book_can_be_on_both_sides_and_one_section_cannot():
    rows = [
        {"question": question, "answer": "So.", "metadata": {"source": "bees.md", "section": section}}
        for question, section in (
            ("Where should it face?", "a"),
            ("Why is wax white?", "a"),
            ("When do drones die?", "b"),
        )
    ]
    first, second, third = grouped(rows)
    assert first == second != third


def test_one_piece_alone_has_no_unanswerable_questions(options):
    client = Client(ScriptedBackend(["x"]), "tiny")
    with pytest.raises(errors.InputError, match="made for another piece"):
        generate_qa(from_documents=Document(HIVE, "h.txt"), n=1, unanswerable=1, client=client, **options)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_headings_of_markdown_are_marked_or_underlined_and_none_is_in_code(end):
    from cerebro_nb.documents.documents import Document
    from cerebro_nb.texts.sections import headings_in

    lines = [
        "Tea",
        "===",
        "",
        "It is hot.",
        "",
        "Water ",
        "-----",
        "",
        "````sh",
        "```",
        "# no",
        "````",
        "",
        "# Salt ##",
        "",
    ]
    lines += ["~~~", "Not a heading", "===", "~~~", "", "- one", "---"]
    found = headings_in(Document(end.join(lines), "tea.md", "", "text/markdown"))
    assert [(heading.level, heading.title) for heading in found] == [(1, "Tea"), (2, "Water"), (1, "Salt")]


@pytest.mark.parametrize(
    ("answer", "quote"),
    [
        ("The valve opens below -5 degrees.", "The valve opens below 5 degrees."),
        ("The valve opens below 5 degrees.", "The valve opens below -5 degrees."),
        ("The bell rings at 30:10 each day.", "The bell rings at 10:30 each day."),
    ],
)
def test_a_sign_and_an_order_make_another_number(answer, quote):
    from cerebro_nb.texts.grounding import ungrounded

    assert "number" in ungrounded(answer, quote, quote) and ungrounded(quote, quote, quote) is None


@pytest.mark.parametrize(
    "sentence",
    [
        "The fourth is always the largest of all.",
        "A quarta é sempre a maior de todas.",
        "The latter opens at noon only.",
    ],
)
def test_one_of_a_list_does_not_stand_alone(sentence):
    from cerebro_nb.texts.sentences import leans_on_others

    assert leans_on_others(sentence) and not leans_on_others("The fourth valve is the largest of all.")


@pytest.mark.parametrize("place", [(9, 3), (-4, 2), (3, None), (0, 900)])
def test_a_row_whose_quote_stands_nowhere_is_refused_with_its_reason(place, ledger):
    from cerebro_nb import import_rows

    quote = {"text": "It boils.", "start": place[0], "end": place[1], "page": None}
    row = {"question": "What does it?", "quote": quote, "answer": "It boils.", "text": "It boils. It stops."}
    run = import_rows([row], kind="qa", ledger=ledger, show_progress=False)
    assert run.progress.failed == 1 and "the quote" in str(run.page()["error"].tolist())
