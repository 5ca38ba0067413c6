"""What of a subject examples are about, and rows that they are made from: whoever says it, and however a run ends."""

import asyncio
import hashlib
import itertools
import json
import threading

import pandas
import pytest
from fakes import FakeOllama, prose, read

from cerebro_nb import (
    Client,
    Document,
    OllamaBackend,
    Recipe,
    ScriptedBackend,
    errors,
    examples,
    generate,
    generate_qa,
    quality_report,
    rerun,
    resume,
    retry_failed,
    synthetic_run,
    topics_of,
)
from cerebro_nb.cli.main import main
from cerebro_nb.concurrency.loop import LOOP
from cerebro_nb.generating.topics import headings_of, specific, written_topics

TOPICS = ["water for green tea", "picking the leaves", "cups of Japan"]
AREAS = ["growing the plant", "the tea trade"]
REVIEWS = Recipe(
    name="reviews",
    fields={"reply": {"type": "long text", "min": 20}},
    plan={"columns": ["product", "stars"]},
    steps=[{"prompt": "A customer gave {product} {stars} stars. Write the shop's reply about {subject}."}],
)


@pytest.fixture
def options(quick, ledger):
    return {"profile": quick, "ledger": ledger, "show_progress": False, "embedder": "none"}


def pair(words):
    return json.dumps({"question": prose(words, asks=True), "answer": prose(words, 60)})


class Teacher:
    """A model that knows the parts of a subject, topics in each, and a pair for every prompt."""

    def __init__(self, areas=AREAS, topics=None):
        self.areas, self.prompts, self.count = areas, [], itertools.count()
        self.topics = topics or (lambda prompt: [f"{word} of the {next(self.count)}th year" for word in "abcdefgh"])

    def __call__(self, request):
        prompt = request.messages[-1].content
        self.prompts.append((request.model, prompt))
        wanted = request.json_schema["properties"] if request.json_schema else {}
        if said := read(prompt):
            return said
        if "areas" in wanted:
            return json.dumps({"areas": self.areas})
        if "topics" in wanted:
            return json.dumps({"topics": self.topics(prompt)})
        return pair(hashlib.sha256(repr(request.messages).encode()).hexdigest()) if wanted else prose(prompt, 40)

    def client(self):
        return Client(ScriptedBackend(self), "tiny")


# --- who says what they are about


@pytest.mark.parametrize(
    "source",
    [
        TOPICS,
        tuple(TOPICS),
        pandas.DataFrame({"id": [1, 2, 3], "Topic": TOPICS}),
        pandas.Series(TOPICS),
        [{"topic": topic} for topic in TOPICS],
        Document(
            "\n\n".join(f"## {topic}\n\nWhat there is to say." for topic in TOPICS), "tea.md", "", "text/markdown"
        ),
    ],
    ids=["list", "tuple", "frame", "series", "rows", "document"],
)
def test_each_topic_is_asked_about_as_often_as_the_others_whoever_names_them(options, source):
    teacher = Teacher()
    run = generate_qa("tea", 6, topics=source, client=teacher.client(), seed=1, **options)
    assert run.progress.ok == 6 and run.task.manifest["topics"] == TOPICS
    assert sorted(run.df["topic"]) == sorted(TOPICS * 2), "the topic is a column"
    assert all(any(topic in prompt for topic in TOPICS) for _, prompt in teacher.prompts)
    assert {example["metadata"]["topic"] for example in examples(run)} == set(TOPICS)


@pytest.mark.parametrize("place", ["~nobody-here/topics.txt", "joins " * 100, "a\0b"])
def test_a_text_that_cannot_be_a_file_is_said_to_be_none(options, place):
    with pytest.raises(errors.InputError, match="is no file and no task"):
        generate_qa("tea", 1, topics=place, client=Teacher().client(), **options)


@pytest.mark.parametrize("heading", ["1" * 4_000 + "x Order", "a" + "#" * 50_000 + "b", "1.1.1.1" * 5_000])
def test_no_heading_keeps_the_one_who_reads_it(heading):
    text = f"# {heading}\n\n{prose('below', 200)}\n\n## 1.2. Water ##\n\n{prose('water', 200)}"
    assert headings_of(Document(text, "guide.md", "", "text/markdown"))[-1][1] == "Water"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("topics.txt", "\n".join([*TOPICS, "", TOPICS[0].upper()])),
        ("topics.csv", "id,tópico\n" + "\n".join(f"{place},{topic}" for place, topic in enumerate(TOPICS))),
        ("topics.jsonl", "\n".join(json.dumps({"topic": topic}) for topic in TOPICS)),
        ("guide.md", "\n".join(f"# {topic}\n\nText." for topic in TOPICS)),
        ("guide.html", "".join(f"<h2>{topic.title()}</h2><p>{prose(topic, 200)}</p>" for topic in TOPICS)),
    ],
)
def test_a_file_brings_topics(options, tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    run = generate_qa("tea", 3, topics=tmp_path / name, client=Teacher().client(), **options)
    assert [topic.lower() for topic in run.task.manifest["topics"]] == [topic.lower() for topic in TOPICS]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere.txt", "is no file and no task"),
        ("ffffffff", "is no file and no task"),
        ([], "there are 0 topics"),
        ([3], "rows|topic 1 is a int|int"),
        ([" ", "\n"], "there are 0 topics"),
        (["x" * 201], "201 characters"),
        ([{"name": "tea", "id": 4}], "no column"),
        (Document("One line without any heading.", "plain.txt"), "no headings in plain.txt"),
    ],
)
def test_what_has_no_topics_is_refused_with_what_to_give(options, source, said):
    with pytest.raises(errors.CerebroError, match=said) as refused:
        generate_qa("tea", 2, topics=source, client=Teacher().client(), **options)
    assert refused.value.hint


def test_topics_are_refused_where_something_else_says_what_examples_are_about(options):
    page = Document("Tea wants patience, and water of eighty degrees.", "tea.txt")
    for given in ({"topics": TOPICS, "from_documents": page}, {"topics": "documents"}):
        with pytest.raises(errors.InputError, match="topics"):
            synthetic_run("qa", "tea", **given, **options)
    with pytest.raises(errors.InputError, match="not both"):
        synthetic_run("qa", "tea", from_documents=page, from_rows=[{"text": "x"}], **options)


def test_each_piece_of_a_document_has_the_heading_above_it(options):
    text = "\n\n".join(f"## {topic}\n\n{prose(topic, 400)}" for topic in TOPICS)
    document = Document(text, "tea.md", "", "text/markdown")
    run = generate_qa(
        from_documents=document, n=6, topics="documents", chunk_tokens=60, client=Teacher().client(), **options
    )
    under = {(topic, topic in TOPICS) for topic in run.df["topic"]}
    assert len(under) == 3 and all(known for _, known in under)
    for _, row in run.df.iterrows():
        assert text.rindex(f"## {row['topic']}", 0, row["end"]) <= row["end"]
    assert set(quality_report(run, embedder="none").coverage) == set(TOPICS)


def test_headings_are_no_sentences_lists_or_code():
    page = Document(
        f"Water\n\n{prose('a', 60)}\n\nIt stands alone.\n\nshort\n\nToo short below\n\nYes.\n\n"
        f"1. Leaves\n\n{prose('b', 60)}",
        "page.html",
    )
    assert [heading for _, heading in headings_of(page)] == ["Water", "Leaves"]
    guide = Document("# A\n```\n# not this\n```\n### B #\n#hash\n", "g.md", "", "text/markdown")
    assert [heading for _, heading in headings_of(guide)] == ["A", "B"]


# --- a model says it


def test_a_model_names_topics_in_a_task_of_its_own(options, ledger):
    teacher = Teacher()
    run = generate_qa("tea", 10, topics="model", client=teacher.client(), seed=1, **options)
    (task,) = run.task.manifest["topic_tasks"]
    assert ledger.task(task).kind == "topics" and ledger.task(task).status == "completed"
    assert set(topics_of(task, ledger=ledger)) >= set(run.task.manifest["topics"]) == set(run.df["topic"])
    assert {item["input"]["topic"] for item in ledger.items(task)} == set(AREAS)


def test_what_a_model_lacks_is_asked_for_once_more_and_not_for_ever(options):
    teacher = Teacher(topics=lambda prompt: ["black tea with milk", "Tea", "introduction to tea", f"{prompt[-9:]} x y"])
    run = generate_qa("tea", 30, topics="model", client=teacher.client(), **options)
    asked = [prompt for _, prompt in teacher.prompts if "Name twelve parts" in prompt]
    assert 1 < len(asked) <= 6 and AREAS[0] in asked[-1], "the parts that are known are said"
    assert run.progress.ok == 30 and "Tea" not in run.task.manifest["topics"]


def test_a_model_that_names_none_is_said_and_gone_on_without(options, caplog):
    run = generate_qa("tea", 2, topics="model", client=Teacher(areas=["Tea", "tea"]).client(), **options)
    assert run.progress.ok == 2 and "topics" not in run.task.manifest
    assert "named no topics" in caplog.text


def test_a_model_that_is_too_slow_for_topics_is_said_and_gone_on_without(options, caplog):
    late = errors.RequestTimeout("it took too long")
    teacher = Teacher()

    def write(request):
        return late if "areas" in (request.json_schema or {}).get("properties", {}) else teacher(request)

    run = generate_qa("tea", 13, client=Client(ScriptedBackend(write), "tutor-12b"), **options)
    assert run.progress.ok == 13 and "topics" not in run.task.manifest and "named no topics" in caplog.text


def test_areas_are_asked_for_in_one_call(options, ledger):
    teacher = Teacher()
    run = generate_qa("tea", 4, topics="areas", client=teacher.client(), **options)
    assert set(run.df["topic"]) == set(AREAS) and len(ledger.tasks(9)) == 1
    assert sum("Name twelve parts" in prompt for _, prompt in teacher.prompts) == 1


def test_another_model_of_the_server_is_asked_for_topics(options):
    teacher = Teacher()
    generate_qa("tea", 4, topics="model", topics_model="large", client=teacher.client(), **options)
    assert {model for model, prompt in teacher.prompts if "eight specific topics" in prompt} == {"large"}
    assert {model for model, prompt in teacher.prompts if "Write one question" in prompt} == {"tiny"}


def test_topics_are_read_edited_and_used_by_another_run(options, ledger):
    client = Teacher().client()
    made = generate("topics", "tea", 2, client=client, **options)
    assert made.progress.ok == 2 and len(topics_of(made)) == 16
    made.reject(0)
    made.edit(1, {"topics": ["cups of Japan", "cups of  japan", "tea at school"]})
    for source in (made, made.task, made.task_id, made.task_id[:8]):
        run = generate_qa("tea", 2, topics=source, client=client, **options)
        assert run.task.manifest["topics"] == ["cups of Japan", "tea at school"]
    made.reject(1)
    with pytest.raises(errors.InputError, match="has no topics"):
        generate_qa("tea", 2, topics=made, client=client, **options)


def test_a_run_that_is_cancelled_while_topics_are_found_stops_at_once_and_loses_nothing(options, ledger):
    asked, goes_on = threading.Event(), threading.Event()

    def answer(payload):
        if "areas" in payload["format"]["properties"]:
            return json.dumps({"areas": AREAS})
        asked.set()
        goes_on.wait(60)
        return json.dumps({"topics": TOPICS})

    with FakeOllama(answer) as server:
        client = Client(OllamaBackend(server.url), "tiny")
        run = synthetic_run("qa", "tea", 9, topics="model", client=client, **options).start()
        assert asked.wait(60)
        run.cancel()
        run.wait()
        goes_on.set()
        LOOP.run(client.aclose())
    (task,) = ledger.tasks(9)
    assert task.kind == "topics" and task.status == "cancelled" and run.progress.status == "cancelled"
    teacher = Teacher()
    again = resume(task.id, client=teacher.client(), ledger=ledger, show_progress=False)
    assert again.progress.ok == again.progress.total > 0


def test_resumed_and_made_again_it_has_the_same_topics(options, ledger):
    teacher = Teacher()
    run = generate_qa("tea", 6, topics=TOPICS, client=teacher.client(), seed=5, **options)
    again = rerun(run.task_id, client=Teacher().client(), ledger=ledger, show_progress=False)
    assert [item["input"] for item in ledger.items(again.task_id)] == [
        item["input"] for item in ledger.items(run.task_id)
    ]
    assert again.task.manifest["topics"] == TOPICS


def test_what_is_refused_is_replaced_by_the_next_topic_of_the_plan(options, ledger):
    tries = options["profile"].max_attempts
    bad = itertools.chain(["As an AI language model, I cannot answer that."] * tries, itertools.repeat(""))

    def write(request):
        made = json.loads(pair(repr(request.messages)))
        return json.dumps(made | ({"answer": said} if (said := next(bad)) else {}))

    client = Client(ScriptedBackend(write), "tiny")
    run = generate_qa("tea", 3, topics=TOPICS, client=client, seed=1, **options)
    assert (run.progress.ok, run.progress.failed, run.progress.total) == (3, 1, 4)
    topics = list(run.df["topic"])
    assert sorted(topics[:3]) == sorted(TOPICS) and topics[3] in TOPICS


def test_what_a_model_says_of_any_subject_is_no_topic():
    wrote = [
        "1) Introdução ao direito",
        "História do direito do consumidor",
        "* Prazo de arrependimento",
        "x",
    ]
    assert specific(wrote, "direito do consumidor") == ["Prazo de arrependimento"]
    assert specific(["茶の水の温度", "Erbpachtvertrag", "LEFT"], "tea") == ["茶の水の温度", "Erbpachtvertrag"]


# --- rows


def test_a_column_that_a_recipe_does_not_use_is_left_where_it_is(options):
    teacher = Teacher()
    rows = [{"product": "a kettle", "stars": 2, "text": "It leaks.", "topic": ""}]
    run = generate(REVIEWS, "the shop", from_rows=rows, client=teacher.client(), **options)
    assert run.progress.ok == 1 and "It leaks." not in teacher.prompts[0][1]
    with pytest.raises(errors.InputError, match="row 1 has no stars"):
        generate(REVIEWS, "the shop", from_rows=[{**rows[0], "stars": None}], client=teacher.client(), **options)


def test_rows_fill_the_places_that_a_recipe_names(options):
    rows = [{"product": "a kettle", "stars": 2, "id": 7}, {"product": "a lamp", "stars": 5, "id": 8}]
    teacher = Teacher()
    run = generate(REVIEWS, "kindness", from_rows=rows, client=teacher.client(), **options)
    assert run.progress.ok == 2, "one a row"
    assert [(row["product"], row["stars"], row["row"]) for _, row in run.df.iterrows()] == [
        ("a kettle", 2, 1),
        ("a lamp", 5, 2),
    ]
    assert {"gave a kettle 2 stars" in prompt or "gave a lamp 5 stars" in prompt for _, prompt in teacher.prompts} == {
        True
    }
    assert run.task.manifest["rows"]["rows"] == 2
    more = generate(REVIEWS, "kindness", 5, from_rows=rows, client=teacher.client(), **options)
    assert sorted(more.df["row"]) in ([1, 1, 1, 2, 2], [1, 1, 2, 2, 2])


def test_a_text_in_a_row_is_what_an_example_is_taken_from(options, tmp_path):
    place = tmp_path / "notes.csv"
    place.write_text(
        "text,topic\nGreen tea wants water of eighty degrees.,water\n"
        "The leaves stand two minutes in a warm round pot.,time\n"
    )
    run = generate_qa(from_rows=place, client=Teacher().client(), **options)
    assert run.progress.ok == 2 and run.subject == "notes.csv" and list(run.df["topic"]) == ["water", "time"]
    assert all("eighty degrees" in text or "two minutes" in text for text in run.df["text"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "made from rows with product, stars"),
        ({"from_rows": [{"product": "a lamp"}]}, "row 1 has no stars"),
        ({"from_rows": [{"product": "", "stars": 1}]}, "row 1 has no product"),
        ({"from_rows": []}, "no rows|there is nothing|0 rows|no row"),
    ],
)
def test_rows_that_do_not_fit_are_refused_before_anybody_is_asked(options, given, said):
    teacher = Teacher()
    with pytest.raises(errors.CerebroError, match=said):
        generate(REVIEWS, "kindness", 2, client=teacher.client(), **given, **options)
    assert teacher.prompts == []


# --- axes and personas


def test_the_words_of_an_axis_are_ones_own_or_a_table_of_people(options):
    recipe = Recipe(
        name="letters",
        fields={"text": {"type": "long text", "min": 20}},
        plan={"axes": {"persona": "personas", "tone": ["kind", "short"]}},
        steps=[{"prompt": {"en": "Write as {persona}, {tone}.", "pt-BR": "Escreva como {persona}, {tone}."}}],
    )
    teacher = Teacher()
    run = generate(
        recipe,
        "tea",
        4,
        language="pt-BR",
        axes={"tone": ["polite"]},
        without_gates=["language"],
        client=teacher.client(),
        **options,
    )
    assert set(run.df["tone"]) == {"polite"} and len(set(run.df["persona"])) == 4
    assert all(word.split()[0] in ("um", "uma", "o", "a", "alguém") for word in run.df["persona"])
    with pytest.raises(errors.InputError, match="no axis 'mood'"):
        synthetic_run(recipe, "tea", axes={"mood": ["x"]}, **options)
    with pytest.raises(errors.InputError, match=r"axes\.tone"):
        synthetic_run(recipe, "tea", axes={"tone": []}, **options)


# --- coverage, and the faces


def test_the_report_shows_what_is_covered_least_first(options):
    def write(request):
        made = json.loads(pair(repr(request.messages)))
        is_bad = TOPICS[1] in request.messages[-1].content
        return json.dumps(made | ({"answer": "As an AI language model, I cannot answer that."} if is_bad else {}))

    client = Client(ScriptedBackend(write), "tiny")
    run = generate_qa("tea", 6, topics=TOPICS, client=client, seed=1, without_gates=["refusal", "meta_talk"], **options)
    report = quality_report(run, embedder="none")
    assert report.coverage[TOPICS[1]] == (2, 0) and report.coverage[TOPICS[0]] == (2, 2)
    assert report.coverage_df["topic"][0] == TOPICS[1]
    assert "<svg" in report.coverage_svg and report.coverage_svg in report._repr_html_()
    assert (
        "&lt;b&gt;"
        in quality_report(
            generate_qa("tea", 1, topics=["<b>bold</b> tea"], client=Teacher().client(), **options), embedder="none"
        ).coverage_svg
    )


def test_the_command_line_takes_topics_and_rows(tmp_path, capsys, monkeypatch):
    def answer(payload):
        return read(payload["messages"][-1]["content"]) or pair(json.dumps(payload["messages"]))

    with FakeOllama(answer) as server:
        monkeypatch.setenv("CEREBRO_BASE_URL", server.url)
        assert main(["generate", "qa", "tea", "-n", "3", "--model", "tiny", "--topics", *TOPICS]) == 0
        prompts = [payload["messages"][-1]["content"] for path, payload, _ in server.requests if path == "/api/chat"]
        assert {topic for topic in TOPICS for prompt in prompts if topic in prompt} == set(TOPICS)
        rows = tmp_path / "notes.jsonl"
        rows.write_text(json.dumps({"text": "Green tea wants water of eighty degrees."}))
        assert main(["generate", "qa", "--rows", str(rows), "--model", "tiny"]) == 0
        assert main(["generate", "qa", "tea", "--topics", "documents", "--model", "tiny"]) != 0
    assert "'documents' without --documents" in capsys.readouterr().err


def test_words_are_a_source_only_where_they_are_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tea").write_text("x")
    assert written_topics(["tea"]) == "tea" and written_topics(["teas"]) == ["teas"]
    assert written_topics(["areas"]) == "areas" and written_topics(["0123abcd"]) == "0123abcd"


def test_a_run_in_async_code_finds_topics_too(options):
    async def main_job():
        from cerebro_nb import agenerate_qa

        return await agenerate_qa("tea", 2, topics="model", client=Teacher().client(), **options)

    assert asyncio.run(main_job()).progress.ok == 2


@pytest.mark.parametrize(
    ("model", "n", "more"), [("tutor-12b", 12, {}), ("tiny", 13, {}), ("tutor-12b", 13, {"topics": "none"})]
)
def test_few_examples_or_those_of_an_unknown_model_have_no_topics_unless_they_are_wished_for(options, model, n, more):
    run = generate_qa("tea", n, client=Client(ScriptedBackend(Teacher()), model), **more, **options)
    assert run.progress.ok == n and "topics" not in run.task.manifest and "topic" not in run.df


def test_many_examples_have_topics_that_the_model_names(options):
    teacher = Teacher()
    run = generate_qa("tea", 13, client=Client(ScriptedBackend(teacher), "tutor-12b"), **options)
    assert run.progress.ok == 13 and set(run.task.manifest["topics"]) == set(run.df["topic"]) == set(AREAS)
    asked = [prompt for _, prompt in teacher.prompts if "Name twelve parts" in prompt]
    assert AREAS[0] not in asked[0] and AREAS[0] in asked[1], "two are few for thirteen: more are asked for, once"


def test_the_time_that_a_user_allows_is_that_of_each_answer(options):
    options["profile"] = options["profile"].replace(max_attempts=1)
    with FakeOllama(seconds=30) as server:
        client = Client(OllamaBackend(server.url), "tiny")
        run = generate_qa("tea", 1, client=client, timeout=0.3, **options)
        retried = retry_failed(run, client=client, timeout=0.2, show_progress=False)
        LOOP.run(client.aclose())
    reasons = [attempt["error"]["message"] for attempt in run.ledger.attempts(run.task_id, 0)]
    assert [reason.split(" within ")[-1] for reason in reasons] == ["0.3 s", "0.2 s"] and retried.progress.failed == 1
