"""A key is planted, and everything that was written is searched for it."""

import logging
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from fakes import FakeOpenAI

from cerebro_nb import Ledger, errors, load_settings, process_in_batches, save_jsonl, tasks_df

CEREBRO = str(Path(sys.executable).with_name("cerebro"))
KEY = "sk-planted-4f1d8a2e9b"
PASSWORD = "pw-planted-77c0"


class Telltale(FakeOpenAI):
    """A server that repeats a refused key, as some do."""

    async def refused(self, request):
        given = request.headers.get("authorization", "")
        if given != f"Bearer {self.key}":
            from aiohttp import web

            return web.json_response({"error": {"message": f"Incorrect API key provided: {given}"}}, status=401)
        return None


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.fixture
def planted(monkeypatch):
    monkeypatch.setenv("CEREBRO_API_KEY", KEY)
    monkeypatch.setenv("OLLAMA_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.mark.parametrize("accepted", [True, False])
def test_a_key_is_in_nothing_that_was_written(accepted, planted, quick, tmp_path, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    ledger = Ledger(f"sqlite:///{tmp_path}/runs.db")
    said = ""
    with Telltale() as server:
        server.key = KEY if accepted else "another"
        server.faults = [(500, {}, f"your key {KEY} met a bug"), "error in stream"]
        try:
            run = process_in_batches(
                ["a", "b"], "{item}", quick, backend="openai", base_url=server.url, model="tiny", ledger=ledger
            )
            save_jsonl(run, tmp_path / "set.jsonl")
            said = run.df.to_html() + repr(run) + repr(run.client) + tasks_df(ledger=ledger).to_html()
            assert server.requests[-1][2]["authorization"] == f"Bearer {KEY}"
        except errors.AuthenticationFailed as refused:
            assert not accepted and "***" in str(refused)
            said = "".join(traceback.format_exception(refused)) + repr(errors.error_record(refused))
    ledger.close()
    output = capsys.readouterr()
    for place in (said, caplog.text, output.out, output.err, repr(load_settings())):
        assert KEY not in place
    written = everything(tmp_path)
    assert KEY.encode() not in written
    assert not accepted or b"***" in written  # the server's words are kept, without the key


def test_a_key_with_a_line_break_is_refused_and_not_repeated(monkeypatch):
    monkeypatch.setenv("CEREBRO_API_KEY", f"{KEY}\r\nx-other: 1")
    with FakeOpenAI() as server, pytest.raises(errors.SettingsError) as refused:
        process_in_batches(["a"], "{item}", backend="openai", base_url=server.url, model="tiny", show_progress=False)
    assert KEY not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{PASSWORD}@127.0.0.1:9/runs",
        f"mysql://me:{PASSWORD}@127.0.0.1/runs",
        f"postgresql//me:{PASSWORD}@127.0.0.1/runs",
        f"postgresql://127.0.0.1:9/runs?password={PASSWORD}",
    ],
)
def test_a_database_s_password_is_not_repeated(url, monkeypatch):
    with pytest.raises(errors.LedgerError) as refused:
        Ledger(url)
    assert PASSWORD not in "".join(traceback.format_exception(refused.value))
    monkeypatch.setenv("CEREBRO_DATABASE_URL", url)
    assert PASSWORD not in repr(load_settings())


def test_an_address_with_a_key_in_it_is_refused_and_not_repeated():
    for address in (f"http://me:{KEY}@127.0.0.1", f"http://127.0.0.1/v1?key={KEY}"):
        with pytest.raises(errors.SettingsError, match="base_url") as refused:
            load_settings(base_url=address)
        assert KEY not in str(refused.value)


def test_the_command_line_says_and_writes_no_key(planted, tmp_path):
    with Telltale() as server:
        server.key = "another"
        environment = {
            **os.environ,
            "CEREBRO_BASE_URL": server.url,
            "CEREBRO_BACKEND": "openai",
            "CEREBRO_MODEL": "tiny",
            "CEREBRO_DATA_DIR": str(tmp_path / "data"),
        }
        for words in (["generate", "qa", "tea"], ["doctor"], ["tasks"]):
            done = subprocess.run([CEREBRO, *words], env=environment, capture_output=True, text=True)
            assert done.stdout + done.stderr and KEY not in done.stdout + done.stderr
    assert KEY.encode() not in everything(tmp_path)
