"""Servers and surroundings that are not what they should be: floods, refusals, proxies, settings of a stranger."""

import asyncio
import json
import os
import ssl
import subprocess
import sys
import threading

import pytest
import trustme
from fakes import FakeOllama, FakeOpenAI, closed_port, using
from pydantic import BaseModel, ConfigDict

from cerebro_nb import (
    Client,
    GenerationOptions,
    Ledger,
    Message,
    OllamaBackend,
    OpenAIBackend,
    call_llm,
    errors,
    load_settings,
    process_in_batches,
    tasks_df,
)
from cerebro_nb.cli.doctor import findings
from cerebro_nb.client.choosing import choose_backend
from cerebro_nb.concurrency.loop import LOOP
from cerebro_nb.protocol.messages import ChatRequest


def ask(backend, text="how are you", model="tiny", schema=None, **options):
    request = ChatRequest(model, (Message("user", text),), GenerationOptions(**options), schema)
    return using(backend, lambda backend: backend.complete(request))


# --- floods


class RawServer:
    """A server on loopback in a thread of its own; ``answer`` says what a derived one does with a connection."""

    def __enter__(self):
        self.ready = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.serve()), daemon=True)
        self.thread.start()
        assert self.ready.wait(60)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.stop.set)
        self.thread.join()

    async def serve(self):
        self.loop, self.stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self.answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self.ready.set()
        await self.stop.wait()
        server.close()


class Flood(RawServer):
    """Writes its pieces again and again, until nobody reads them."""

    def __init__(self, head, piece):
        self.head, self.piece = head, piece

    async def answer(self, reader, writer):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            size = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            await reader.readexactly(size)
            writer.write(self.head)
            while not self.stop.is_set():
                writer.write(self.piece)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
LONG = chunk(json.dumps({"message": {"content": "x" * 60_000}, "done": False}).encode() + b"\n")
FLOODS = {
    "an answer without end": (CHUNKED, LONG, "characters"),
    "a line without end": (CHUNKED, chunk(b"x" * 60_000), "a line of more than"),
    "blank lines without end": (CHUNKED, chunk(b" " * 1_000_000 + b"\n"), "more than 256,000,000 bytes"),
    "headers without end": (OK, b"x-a: " + b"y" * 4_000 + b"\r\n", "no HTTP"),
    "a refusal without end": (CHUNKED.replace(b"200 OK", b"400 Bad Request"), chunk(b"x" * 60_000), "answered 400"),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_is_cut_off_and_only_a_piece_of_it_is_kept(flood):
    head, piece, told = FLOODS[flood]
    with Flood(head, piece) as server, pytest.raises(errors.BackendError, match=told) as failed:
        ask(OllamaBackend(server.url), timeout_s=60)
    assert len(json.dumps(failed.value.details)) < 70_000


def test_the_time_limit_holds_while_data_pours_in():
    with Flood(CHUNKED, chunk(b"\n")) as server, pytest.raises(errors.RequestTimeout):
        ask(OllamaBackend(server.url), timeout_s=0.5)


@pytest.mark.parametrize("status", [200, 500])
def test_a_compressed_answer_is_refused_without_being_unpacked(status):
    with FakeOllama() as ollama:
        ollama.faults.append((status, {"content-encoding": "gzip"}, "no gzip at all"))
        with pytest.raises(errors.InvalidResponse, match="compressed"):
            ask(OllamaBackend(ollama.url))
        assert ollama.requests[-1][2]["accept-encoding"] == "identity"


# --- requests that give way


def refusal(message, status=400, **fields):
    return status, {"content-type": "application/json"}, json.dumps({"error": {"message": message, **fields}})


def extra(payload, *names):
    return next(
        (
            (422, {}, json.dumps({"detail": [{"loc": ["body", name], "msg": "Extra inputs are not permitted"}]}))
            for name in names
            if name in payload
        ),
        None,
    )


def of_form(payload, *kinds):
    kind = payload.get("response_format", {}).get("type")
    return refusal("This response_format type is unavailable now") if kind in kinds else None


RENAMED = refusal("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", param="max_tokens")
MANNERS = {
    "another name for max_tokens": lambda payload: RENAMED if "max_tokens" in payload else None,
    "only its default temperature": lambda payload: (
        refusal("Unsupported value: 'temperature' does not support 0.7") if "temperature" in payload else None
    ),
    "no field that it does not know": lambda payload: extra(payload, "seed", "stream_options", "top_p"),
    "no schema": lambda payload: of_form(payload, "json_schema"),
    "no form at all": lambda payload: of_form(payload, "json_schema", "json_object"),
    "nothing strict": lambda payload: (
        refusal("strict is not supported") if "strict" in json.dumps(payload.get("response_format", "")) else None
    ),
    "no thinking": lambda payload: extra(payload, "chat_template_kwargs", "reasoning_effort"),
}


class Pair(BaseModel):
    """A question and its answer."""

    model_config = ConfigDict(extra="forbid")
    question: str
    answer: str | None = None


@pytest.mark.parametrize("manner", MANNERS)
def test_what_a_server_refuses_is_given_up_once_and_for_all(manner, quick, tmp_path, caplog):
    ledger = Ledger(f"sqlite:///{tmp_path}/runs.db")
    with FakeOpenAI(lambda payload: '{"question":"Why?","answer":null}') as openai:
        refused = []
        openai.refuse = lambda payload: (told := MANNERS[manner](payload)) and (refused.append(payload), told)[1]
        run = process_in_batches(
            [f"item {number}" for number in range(20)],
            "{item}",
            quick.replace(batch_size=20, concurrency=4),
            response_model=Pair,
            client=Client(OpenAIBackend(openai.url), "tiny"),
            ledger=ledger,
            show_progress=False,
            seed=1,
            top_p=0.9,
            think=True,
        )
        LOOP.run(run.client.aclose())
    assert run.progress.ok == 20 and run.progress.retried == 0
    fields = 3 if manner in ("no field that it does not know", "no form at all") else 2
    assert 1 <= len(refused) <= 4 * fields  # those in flight at the same time may be refused too
    assert sum("refused a request" in record.message for record in caplog.records) <= fields
    assert ledger.attempts(run.task_id, 19)[0]["reply"]["conceded"]  # the request as it was meant stands beside it
    last = openai.requests[-1][1]
    if manner in ("no schema", "no form at all"):
        assert '"question"' in last["messages"][-1]["content"]
    ledger.close()


def test_a_refusal_of_what_was_asked_is_the_item_s_own(quick, tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path}/runs.db")
    with FakeOpenAI() as openai:
        openai.refuse = lambda payload: (
            refusal("The subject is not allowed; please stop.") if "bad" in json.dumps(payload["messages"]) else None
        )
        client = Client(OpenAIBackend(openai.url), "tiny")
        run = process_in_batches(["bad", "good"], "{item}", quick, client=client, ledger=ledger, stop=["x"])
        LOOP.run(client.aclose())
    assert run.errors[0]["type"] == "BadRequest" and run.results[1] == "echo good"
    assert openai.requests[-1][1]["stop"] == ["x"]
    ledger.close()


def test_thinking_is_spoken_of_only_where_it_is_known():
    with FakeOllama() as ollama, FakeOpenAI() as openai:
        for wish, to_ollama, to_openai in [
            (None, None, None),
            (True, True, {"chat_template_kwargs": {"enable_thinking": True}}),
            (False, False, {"chat_template_kwargs": {"enable_thinking": False}}),
            ("low", "low", {"reasoning_effort": "low"}),
        ]:
            client = Client(OllamaBackend(ollama.url), "tiny")
            call_llm("x", client=client, think=wish)
            LOOP.run(client.aclose())
            ask(OpenAIBackend(openai.url), think=wish)
            assert ollama.requests[-1][1].get("think") == to_ollama
            sent = openai.requests[-1][1]
            assert {name: sent[name] for name in ("chat_template_kwargs", "reasoning_effort") if name in sent} == (
                to_openai or {}
            )


def test_a_model_of_ollama_that_thinks_is_told_not_to_and_one_that_cannot_is_asked_no_more(caplog):
    told = {"model_info": {}, "capabilities": ["completion", "thinking"]}
    with FakeOllama() as ollama:
        ollama.odd["/api/show"] = (200, {}, json.dumps(told))
        client = Client(OllamaBackend(ollama.url), "tiny")
        call_llm("x", client=client)
        assert ollama.requests[-1][1]["think"] is False
        ollama.refuse = lambda payload: refusal('"tiny" does not support thinking') if payload.get("think") else None
        for _ in range(3):
            assert call_llm("x", client=client, think="high").text == "echo x"
        assert sum(bool(payload.get("think")) for path, payload, _ in ollama.requests if path == "/api/chat") == 1
        LOOP.run(client.aclose())


# --- what only informs


ODD = {
    "500": (500, {}, "boom"),
    "404": (404, {}, "404 page not found"),
    "a web page": (200, {"content-type": "text/html"}, "<html>hello</html>"),
    "a list": (200, {}, "[1]"),
    "of another shape": (200, {}, '{"models": {"a": 1}, "data": 7, "model_info": {}, "version": []}'),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("kind", ["ollama", "openai"])
def test_what_only_informs_may_fail(kind, odd, quick, tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path}/runs.db")
    with (FakeOllama if kind == "ollama" else FakeOpenAI)() as server:
        paths = ("/api/version", "/api/tags", "/api/ps", "/api/show", "/v1/models", "/props")
        server.odd.update({path: ODD[odd] for path in paths})
        client = Client((OllamaBackend if kind == "ollama" else OpenAIBackend)(server.url), "tiny")
        run = process_in_batches(["a", "b"], "{item}", quick, client=client, ledger=ledger, show_progress=False)
        assert run.results == ["echo a", "echo b"]
        unnamed = Client((OllamaBackend if kind == "ollama" else OpenAIBackend)(server.url))
        with pytest.raises(errors.BackendError):
            process_in_batches(["a"], "{item}", quick, client=unnamed, ledger=ledger, show_progress=False)
        LOOP.run(client.aclose())
        LOOP.run(unnamed.aclose())
    ledger.close()


# --- the memory of a server


def test_a_model_too_large_is_not_tried_again_and_what_fits_is_named(quick):
    said = "model requires more system memory (5.6 GiB) than is available (3.1 GiB)"
    listed = [
        {"name": name, "size": size} for name, size in (("tiny", 6 * 10**9), ("small", 2 * 10**9), ("big", 9 * 10**9))
    ]
    with FakeOllama() as ollama:
        ollama.odd["/api/generate"] = (500, {}, json.dumps({"error": said}))
        ollama.odd["/api/tags"] = (200, {}, json.dumps({"models": listed}))
        client = Client(OllamaBackend(ollama.url), "tiny")
        with pytest.raises(errors.OutOfMemory, match=r"small \(2.0 GB\)") as refused:
            process_in_batches(["a"], "{item}", quick.replace(max_attempts=3), client=client, show_progress=False)
        LOOP.run(client.aclose())
    assert "big" not in refused.value.hint
    assert [path for path, _, _ in ollama.requests].count("/api/generate") == 1 and tasks_df().empty


# --- what is found, and what was named


def chosen(environ=None, **arguments):
    async def choose():
        backend = await choose_backend(load_settings(environ, **arguments))
        await backend.aclose()
        return backend

    return LOOP.run(choose())


def test_an_address_that_was_named_is_never_replaced(monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{closed_port()}")
    with pytest.raises(errors.ConnectionFailed, match="OLLAMA_HOST names a server"):
        chosen()
    with FakeOllama() as ollama:
        monkeypatch.setenv("OLLAMA_HOST", ollama.url)
        ollama.models.clear()
        with pytest.raises(errors.ModelNotFound, match="no model yet"):
            chosen()


def test_a_model_that_is_nowhere_is_said_with_what_was_looked_at(monkeypatch):
    monkeypatch.delenv("OLLAMA_HOST")
    monkeypatch.setattr("cerebro_nb.addresses.DEFAULT_OLLAMA_PORT", closed_port())
    with pytest.raises(
        errors.ModelNotFound, match=r"(?s)'llama3.2' is not here: nobody answers.*ollama pull llama3.2"
    ) as told:
        process_in_batches(["a"], "{item}", model="llama3.2", show_progress=False)
    assert "embedded" in told.value.message and tasks_df().empty


def test_who_named_nothing_gets_the_embedded_model_and_is_told(monkeypatch, caplog):
    monkeypatch.delenv("OLLAMA_HOST")
    monkeypatch.setattr("cerebro_nb.addresses.DEFAULT_OLLAMA_PORT", closed_port())
    assert chosen().name == "embedded"
    assert any(record.levelname == "WARNING" and "embedded" in record.message for record in caplog.records)


def test_an_embedding_model_is_never_asked_to_chat():
    listed = [{"id": "text-embedding-nomic-embed-text-v1.5"}, {"id": "bge-m3"}, {"id": "tiny"}]
    with FakeOpenAI() as openai, FakeOllama() as ollama:
        openai.odd["/v1/models"] = (200, {}, json.dumps({"data": listed}))
        assert call_llm("x", backend="openai", base_url=openai.url).text == "echo x"
        ollama.odd["/api/show"] = (200, {}, json.dumps({"capabilities": ["embedding"]}))
        with pytest.raises(errors.ModelNotFound, match="cannot chat"):
            call_llm("x", backend="ollama", base_url=ollama.url, model="embedder")


@pytest.mark.parametrize(("kind", "name"), [("ollama", "OLLAMA_API_KEY"), ("openai", "CEREBRO_API_KEY")])
def test_a_refused_key_names_the_variable_of_its_backend(kind, name):
    with (FakeOllama if kind == "ollama" else FakeOpenAI)() as server:
        server.refuse = lambda payload: (401, {}, "who are you")
        with pytest.raises(errors.AuthenticationFailed) as refused:
            ask((OllamaBackend if kind == "ollama" else OpenAIBackend)(server.url))
    assert name in refused.value.hint


# --- the working folder


def test_a_settings_file_of_the_working_folder_takes_no_key_and_leads_nowhere(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("CEREBRO_API_KEY", "sk-planted-key")
    file = tmp_path / "cerebro.toml"
    with FakeOpenAI() as openai:
        file.write_text(f'backend = "openai"\nmodel = "tiny"\nbase_url = "{openai.url}/v1"\n')
        assert call_llm("x").text == "echo x"
        assert "authorization" not in openai.requests[-1][2]
        assert any("base_url" in record.message and record.levelname == "WARNING" for record in caplog.records)
        for trusted in ({"CEREBRO_CONFIG": "cerebro.toml"}, {"CEREBRO_BASE_URL": f"{openai.url}/v1"}):
            with pytest.MonkeyPatch.context() as patched:
                patched.setenv(*next(iter(trusted.items())))
                assert call_llm("x").text == "echo x"
            assert openai.requests[-1][2]["authorization"] == "Bearer sk-planted-key"
    for line in ('base_url = "https://evil.example"', 'database_url = "postgresql://evil.example/x"'):
        file.write_text(line)
        with pytest.raises(errors.SettingsError, match="not trusted"):
            load_settings()
    file.write_text('[fallback]\nbase_url = "https://evil.example"')
    with pytest.raises(errors.SettingsError, match="evil"):
        load_settings()
    assert load_settings({"CEREBRO_CONFIG": "cerebro.toml"}).fallback.base_url == ("https://evil.example",)


def test_an_unknown_variable_is_a_warning_with_the_nearest_name(caplog):
    settings = load_settings({"CEREBRO_MODLE": "x", "CEREBRO_GENERATION__TEMPERATUR": "1", "CEREBRO_LANGUAGE": "de"})
    assert settings.language == "de" and settings.model is None
    told = " ".join(record.message for record in caplog.records)
    assert "CEREBRO_MODEL?" in told and "CEREBRO_GENERATION__TEMPERATURE?" in told
    for name in ("CEREBRO_TEMPERATURE", "CEREBRO_GENERATION_TEMPERATURE", "CEREBRO_FALLBACK"):
        caplog.clear()
        load_settings({name: "1"})
        assert f"{name} is no setting" in caplog.text and "__" in caplog.text


# --- Ollama's versions


@pytest.mark.parametrize(
    ("version", "mark"), [("0.33.0", "ok"), ("0.30.9", "WRONG"), ("0.9.2", "WRONG"), ("0.0.0", "ok")]
)
def test_doctor_judges_the_version_of_ollama(version, mark, monkeypatch):
    with FakeOllama() as ollama:
        monkeypatch.setenv("OLLAMA_HOST", ollama.url)
        ollama.odd["/api/version"] = (200, {}, json.dumps({"version": version}))
        assert next(found for found in findings() if found.name == "Ollama").mark == mark


def test_doctor_says_what_is_wrong_with_an_address(monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", "gpu-1:abc")
    found = next(found for found in findings() if found.name == "Ollama")
    assert found.mark == "WRONG" and "OLLAMA_HOST" in found.found


# --- proxies and certificates


class Proxy(RawServer):
    """A real proxy: it passes requests on, and connections to any name go to one port of this machine."""

    def __init__(self, port):
        self.target, self.asked, self.copies = port, [], set()

    async def answer(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b" ", 2)
        self.asked.append(target.decode())
        onward, back = await asyncio.open_connection("127.0.0.1", self.target)
        if method == b"CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            path = b"/" + target.split(b"/", 3)[3]
            back.write(head.replace(target, path, 1).replace(b"\r\n", b"\r\nconnection: close\r\n", 1))
        self.copies |= {asyncio.ensure_future(copy(reader, back)), asyncio.ensure_future(copy(onward, writer))}


async def copy(reader, writer):
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@pytest.fixture
def no_proxies(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize("kind", ["ollama", "openai"])
def test_a_proxy_of_the_environment_is_used_but_not_for_this_machine(kind, no_proxies, monkeypatch):
    backend = OllamaBackend if kind == "ollama" else OpenAIBackend
    with (FakeOllama if kind == "ollama" else FakeOpenAI)() as server, Proxy(server.port) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert ask(backend("http://models.example")).text == "echo how are you"
        assert proxy.asked and all("models.example" in target for target in proxy.asked)
        passed = len(proxy.asked)
        assert ask(backend(server.url)).text == "echo how are you" and len(proxy.asked) == passed
        monkeypatch.setenv("no_proxy", "models.example")
        with pytest.raises(errors.ConnectionFailed):
            ask(backend("http://models.example"))
        assert len(proxy.asked) == passed


def test_a_real_https_server_is_checked_also_behind_a_proxy(no_proxies, monkeypatch, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("models.example", "127.0.0.1").configure_cert(context)
    script = (
        "import sys; from cerebro_nb import call_llm\n"
        "print(call_llm('x', backend='openai', base_url=sys.argv[1], model='tiny').text)"
    )

    def asked(url, **environ):
        words = [sys.executable, "-c", script, url]
        return subprocess.run(words, env={**os.environ, **environ}, capture_output=True, text=True, timeout=120)

    trusted = {"SSL_CERT_FILE": str(tmp_path / "ca.pem")}
    with FakeOpenAI(tls=context) as server, Proxy(server.port) as proxy:
        assert asked(server.url, **trusted).stdout == "echo x\n"
        assert asked("https://models.example", https_proxy=proxy.url, **trusted).stdout == "echo x\n"
        assert set(proxy.asked) == {"models.example:443"}
        refused = asked(server.url)
        assert refused.returncode == 1 and "ConnectionFailed" in refused.stderr and "certificate" in refused.stderr


def test_a_server_that_refuses_all_in_the_same_words_is_asked_three_times(quick, tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path}/runs.db")
    with FakeOpenAI() as openai:
        openai.refuse = lambda payload: refusal("We are closed today.")
        client = Client(OpenAIBackend(openai.url), "tiny")
        with pytest.raises(errors.BadRequest, match="closed today"):
            process_in_batches(range(40), "{item}", quick, client=client, ledger=ledger, show_progress=False)
        assert sum("chat" in path for path, _, _ in openai.requests) == 3
        LOOP.run(client.aclose())
    assert ledger.tasks(1)[0].status == "failed" and len(ledger.items(ledger.tasks(1)[0].id, "pending")) == 38
    ledger.close()


@pytest.mark.parametrize(
    "told",
    [
        refusal("temperature must be between 0 and 1", param="temperature"),
        (
            422,
            {},
            json.dumps({"detail": [{"type": "less_than_equal", "loc": ["body", "temperature"], "msg": "too hot"}]}),
        ),
        refusal("Invalid value for 'temperature': 1.5 exceeds the maximum", param="temperature"),
    ],
)
def test_a_value_that_is_refused_is_not_replaced(told):
    with FakeOpenAI() as openai:
        openai.refuse = lambda payload: told if payload.get("temperature") == 1.5 else None
        client = Client(OpenAIBackend(openai.url), "tiny")
        with pytest.raises(errors.BadRequest):
            call_llm("x", temperature=1.5, client=client)
        assert call_llm("x", temperature=0.3, client=client).text == "echo x"
        assert openai.requests[-1][1]["temperature"] == 0.3
        LOOP.run(client.aclose())


def test_a_schema_that_cannot_be_strict_gives_way_at_the_first_item_too():
    class Table(BaseModel):
        cells: dict[str, str]

    with FakeOpenAI(lambda payload: '{"cells":{"a":"b"}}') as openai:
        openai.refuse = lambda payload: of_form(payload, "json_schema")
        reply = ask(OpenAIBackend(openai.url), schema=Table.model_json_schema())
        assert reply.text and openai.requests[-1][1]["response_format"] == {"type": "json_object"}


def test_a_proxy_that_wants_a_password_is_told_without_ours(no_proxies, monkeypatch):
    with FakeOpenAI() as server:
        server.odd["/v1/chat/completions"] = (407, {}, "who are you")
        monkeypatch.setenv("https_proxy", f"http://me:hunter2-planted@127.0.0.1:{server.port}")
        with pytest.raises(errors.BackendError) as failed:
            ask(OpenAIBackend("https://models.example"))
        assert "hunter2" not in str(failed.value) + json.dumps(failed.value.details)


def test_a_settings_object_that_is_changed_still_knows_where_its_address_came_from(tmp_path):
    (tmp_path / "cerebro.toml").write_text('base_url = "http://127.0.0.1:9"')
    settings = load_settings({})
    assert settings.replace(language="de").of_the_folder("base_url")
    assert not settings.replace(base_url="http://127.0.0.1:8").of_the_folder("base_url")


def test_a_proxy_s_password_goes_to_the_proxy_alone(no_proxies, monkeypatch):
    with FakeOpenAI() as server, Proxy(server.port) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("http://", "http://me:hunter2-planted@"))
        assert ask(OpenAIBackend("http://models.example")).text == "echo how are you"
        assert server.requests[-1][2]["proxy-authorization"].startswith("Basic ")  # this proxy passes on all it gets
        monkeypatch.setenv("http_proxy", "http://me:hunter2-planted@127.0.0.1:notaport")
        with pytest.raises(errors.SettingsError, match="proxy") as refused:
            ask(OpenAIBackend("http://models.example"))
        assert "hunter2" not in str(refused.value)
        monkeypatch.setenv("no_proxy", "models.example:80")
        with pytest.raises(errors.ConnectionFailed):
            ask(OpenAIBackend("http://models.example"))


def test_a_working_folder_cannot_choose_a_server_of_the_internet(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-key")
    for text in ('backend = "openai"\nmodel = "gpt-4o"', '[fallback]\nbackend = "openai"'):
        (tmp_path / "cerebro.toml").write_text(text)
        with pytest.raises(errors.SettingsError, match="not trusted"):
            load_settings()


def test_a_value_with_a_password_is_in_no_traceback(monkeypatch):
    import traceback

    monkeypatch.setenv("CEREBRO_BASE_URL", "http://me:hunter2-planted@gpu-1")
    with pytest.raises(errors.SettingsError) as refused:
        load_settings()
    assert "hunter2" not in "".join(traceback.format_exception(refused.value))


SPOKEN_OF = "what do 'temperature' and 'seed' and 'max_tokens' and 'stop' do? I think so"


@pytest.mark.parametrize(
    "told",
    [
        refusal(f"Content policy violation in: {SPOKEN_OF}"),
        (422, {}, json.dumps({"detail": [{"loc": ["body", "messages", 0, "stop"], "msg": "odd"}]})),
        refusal("[{'type': 'extra_forbidden', 'loc': ('body', 'user'), 'input': {'temperature': 1, 'seed': 2}}]"),
    ],
)
def test_what_an_item_says_changes_no_request_of_others(told):
    with FakeOpenAI() as openai:
        openai.refuse = lambda payload: told if "policy" in json.dumps(payload["messages"]) else None
        client = Client(OpenAIBackend(openai.url), "tiny")
        with pytest.raises(errors.BadRequest):
            call_llm(f"policy: {SPOKEN_OF}", client=client, seed=1, stop=["x"])
        call_llm("x", client=client, seed=1, stop=["x"])
        assert {"temperature", "seed", "stop", "max_tokens"} <= set(openai.requests[-1][1])
        LOOP.run(client.aclose())


def test_the_limit_of_an_answer_is_never_given_up():
    with FakeOpenAI() as openai:
        openai.refuse = lambda payload: (
            refusal("Unsupported parameter", param=name)
            if (name := next((one for one in ("max_tokens", "max_completion_tokens") if one in payload), ""))
            else None
        )
        with pytest.raises(errors.BadRequest):
            ask(OpenAIBackend(openai.url))


def test_a_format_that_ollama_refuses_gives_way():
    with FakeOllama(lambda payload: '{"question":"Why?"}') as ollama:
        ollama.refuse = lambda payload: (
            (400, {}, '{"error": "invalid JSON schema in format"}') if isinstance(payload.get("format"), dict) else None
        )
        backend = OllamaBackend(ollama.url)
        assert ask(backend, schema=Pair.model_json_schema()).text == '{"question":"Why?"}'
        assert (
            ollama.requests[-1][1]["format"] == "json" and "schema" in ollama.requests[-1][1]["messages"][-1]["content"]
        )


def test_a_format_that_ollama_refuses_to_several_at_once_gives_way_by_one_step():
    with FakeOllama(lambda payload: '{"question":"Why?"}', slots=4, seconds=0.05) as ollama:
        ollama.refuse = lambda payload: (
            (400, {}, '{"error": "invalid JSON schema in format"}') if isinstance(payload.get("format"), dict) else None
        )
        request = ChatRequest("tiny", (Message("user", "x"),), GenerationOptions(), Pair.model_json_schema())

        async def several(backend):
            return await asyncio.gather(*(backend.complete(request) for _ in range(4)))

        replies = using(OllamaBackend(ollama.url), several)
    assert {reply.conceded for reply in replies} == {("format: json",)}


def test_a_moderated_item_and_a_not_found_of_its_own_end_no_run(quick, tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path}/runs.db")
    answers = {"flagged": refusal("flagged by moderation", 403), "lost": refusal("no such model state", 404)}
    with FakeOpenAI() as openai:
        openai.refuse = lambda payload: answers.get(payload["messages"][-1]["content"])
        client = Client(OpenAIBackend(openai.url), "tiny")
        run = process_in_batches(["good", "flagged", "lost", "fine"], "{item}", quick, client=client, ledger=ledger)
        LOOP.run(client.aclose())
    assert run.progress.ok == 2 and {error["type"] for error in run.errors.values()} == {"BadRequest"}
    ledger.close()
