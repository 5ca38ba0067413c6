"""The embedded engine: started, shared, killed, started again, and gone with its parent."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from processes import has_ended
from pydantic import BaseModel, Field

from cerebro_nb import (
    EmbeddedBackend,
    GenerationOptions,
    Message,
    call_llm,
    errors,
    get_client,
    load_settings,
    process_in_batches,
    tasks_df,
)
from cerebro_nb.backends.embedded import BUNDLED_MODEL, Engine
from cerebro_nb.backends.pulling import packaged_model_path
from cerebro_nb.concurrency.loop import LOOP
from cerebro_nb.protocol.messages import ChatRequest
from cerebro_nb.settings import EmbeddedSettings

pytestmark = pytest.mark.costly


def request(text="Say hello.", model=BUNDLED_MODEL, **options):
    return ChatRequest(model, (Message("user", text),), GenerationOptions(**{"num_predict": 8, **options}))


def alive(process_id):
    stat = Path(f"/proc/{process_id}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.fixture
def backend():
    opened = EmbeddedBackend()
    yield opened
    LOOP.run(opened.aclose())


def test_one_engine_serves_every_client_of_the_process(backend):
    assert LOOP.run(backend.complete(request())).text
    other = EmbeddedBackend()
    assert other.engine is backend.engine
    child = backend.engine.process_id
    assert LOOP.run(other.complete(request())).text and other.engine.process_id == child
    LOOP.run(other.aclose())


def test_a_crash_is_an_ordinary_error_and_the_next_call_starts_it_again(backend):
    async def crash():
        await backend.load(BUNDLED_MODEL, GenerationOptions())
        begun = asyncio.Event()
        call = asyncio.create_task(
            backend.complete(request("Tell a long story.", num_predict=2000), lambda text: begun.set())
        )
        await begun.wait()
        os.kill(backend.engine.process_id, signal.SIGKILL)
        with pytest.raises(errors.ConnectionFailed, match="process is gone") as failed:
            await call
        assert failed.value.retry == "broken" and failed.value.details["partial_text"]
        return await backend.complete(request())

    assert LOOP.run(crash()).text


def test_the_same_seed_gives_the_same_answer_without_the_prompt_cache(backend):
    steady = request("Write a line about rain.", seed=4, num_predict=30, prompt_cache=False)
    assert len({LOOP.run(backend.complete(steady)).text for _ in range(3)}) == 1


def test_a_cancelled_call_frees_its_slot(backend):
    async def cancel():
        begun = asyncio.Event()
        long = request("Tell a long story.", num_predict=3000)
        calls = [asyncio.create_task(backend.complete(long, lambda text: begun.set())) for _ in range(4)]
        await begun.wait()
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        return await backend.complete(request(timeout_s=10))

    assert LOOP.run(cancel()).text


def test_what_it_cannot_do_is_said(backend):
    with pytest.raises(errors.ContextExceeded):
        LOOP.run(backend.complete(request("word " * 5000)))
    with pytest.raises(errors.SettingsError, match="4096 tokens a slot"):
        LOOP.run(backend.complete(request(num_ctx=8192)))
    with pytest.raises(errors.ModelNotFound, match="serves 'smollm2"):
        LOOP.run(backend.complete(request(model="llama3.2")))
    with pytest.raises(errors.InputError, match="no embeddings"):
        LOOP.run(backend.embed(BUNDLED_MODEL, ["x"], GenerationOptions()))


def test_any_other_gguf_works_by_its_path(tmp_path):
    other = tmp_path / "mine.gguf"
    other.symlink_to(packaged_model_path())
    backend = EmbeddedBackend(EmbeddedSettings(model=other, slots=1, num_ctx=512))

    async def use():
        try:
            return await backend.complete(request(model="mine", num_ctx=512)), await backend.models()
        finally:
            await backend.aclose()
            await asyncio.to_thread(backend.engine.stop)

    reply, (info,) = LOOP.run(use())
    assert reply.model == "mine" and info.name == "mine" and info.digest.startswith("sha256:")
    assert not backend.engine.running


def test_a_file_that_is_no_model_is_said(tmp_path):
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + b"\0" * 100)
    backend = EmbeddedBackend(EmbeddedSettings(model=tmp_path / "broken.gguf"))
    with pytest.raises(errors.ServerFailed, match="did not start"):
        LOOP.run(backend.complete(request(model="broken")))
    backend = EmbeddedBackend(EmbeddedSettings(model=tmp_path / "none.gguf"))
    with pytest.raises(errors.ModelNotFound, match="no file"):
        LOOP.run(backend.complete(request(model="none")))


def test_a_damaged_bundled_model_is_refused(tmp_path):
    folder = load_settings().data_dir / "models"
    folder.mkdir(parents=True)
    copy = shutil.copy(packaged_model_path(), folder)
    with open(copy, "r+b") as file:
        file.seek(50_000_000)
        file.write(b"\xff" * 8)
    with pytest.raises(errors.ModelNotFound, match="damaged") as refused:
        LOOP.run(EmbeddedBackend(EmbeddedSettings(slots=2)).models())
    assert "cerebro pull smollm2" in refused.value.hint


PARENT = """
import sys, time, multiprocessing, os
from cerebro_nb import call_llm
from cerebro_nb.client.client import get_client
print(call_llm("hi", backend="embedded", max_tokens=4).text and "ok", flush=True)
if {fork}:
    if os.fork() == 0:
        time.sleep(600)  # a sibling that holds the same pipe
print(get_client(backend="embedded").backend.engine.process_id, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("fork", [False, True])
def test_it_dies_with_its_parent_even_after_kill_9(fork):
    parent = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PARENT.format(fork=fork)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert parent.stdout.readline() == "ok\n"
        child = int(parent.stdout.readline())
        assert alive(child)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        assert has_ended(child)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)
        parent.stdout.close()


def test_a_process_that_ends_well_leaves_no_engine_and_no_noise():
    script = (
        "from cerebro_nb import call_llm\nfrom cerebro_nb.client.client import get_client\n"
        "call_llm('hi', backend='embedded', max_tokens=4)\n"
        "print(get_client(backend='embedded').backend.engine.process_id)"
    )
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-c", script], capture_output=True, text=True, timeout=120, check=True
    )
    assert has_ended(int(ended.stdout)) and "Unclosed" not in ended.stderr


def test_several_engines_share_a_run(ledger):
    client = get_client(backend="embedded", embedded={"processes": 2, "slots": 2, "num_ctx": 2048})
    engines = [endpoint.backend.engine for endpoint in client.backend.endpoints]
    run = process_in_batches(
        range(8), "Say {item}.", "auto", client=client, max_tokens=8, ledger=ledger, show_progress=False
    )
    assert run.progress.ok == 8 and run.control.limit == 4
    answered = {row["reply"]["endpoint"] for row in ledger.attempts(run.task_id)}
    assert answered == {f"{engine.address}/v1" for engine in engines} and len(answered) == 2
    for engine in engines:
        engine.stop()


def test_a_pattern_with_classes_holds_the_real_engine():
    class Form(BaseModel):
        code: str = Field(pattern=r"^[A-Z]{2}\d{3}$")
        word: str = Field(pattern=r"^\w+$", max_length=12)

    for seed in range(3):
        reply = call_llm(
            "Make up a code, as compact JSON.", backend="embedded", response_model=Form, max_tokens=200, seed=seed
        )
        assert reply.parsed.code[2:].isdigit() and reply.parsed.word


def test_the_engine_runs_nothing_of_the_working_folder_and_is_told_no_key(tmp_path, monkeypatch):
    for name in ("json", "numpy", "xllamacpp", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf-planted-token")
    monkeypatch.setenv("CEREBRO_API_KEY", "sk-planted-key")
    engine = Engine(EmbeddedSettings(slots=1))
    try:
        engine.start(60)
        environment = Path(f"/proc/{engine.process_id}/environ").read_bytes()
        assert b"planted" not in environment and engine.key.encode() not in environment
        assert Path(f"/proc/{engine.process_id}/cwd").resolve() == Path("/")
    finally:
        engine.stop()


def test_a_model_path_is_that_of_the_folder_it_was_named_in(tmp_path, monkeypatch):
    (tmp_path / "m.gguf").symlink_to(packaged_model_path())
    monkeypatch.chdir(tmp_path)
    engine = Engine(EmbeddedSettings(model=Path("m.gguf"), slots=1))
    engine.start(60)
    assert engine.running
    engine.stop()


def test_the_engine_asked_for_another_model_says_so_before_anything_is_made():
    with pytest.raises(errors.ModelNotFound, match=r"not 'llama3\.2'"):
        process_in_batches(["a"], "{item}", backend="embedded", model="llama3.2", show_progress=False)
    assert tasks_df().empty
