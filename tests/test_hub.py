"""A model by its name on a hub: here a hub of our own on loopback, which can fail in every way that a hub fails."""

import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hub import REVISION, FakeHub

from cerebro_nb import EmbeddedBackend, apull_model, call_llm, errors, load_settings, process_in_batches, pull_model
from cerebro_nb.backends.pulling import file_sha256, packaged_model_path
from cerebro_nb.cli.main import main
from cerebro_nb.concurrency.loop import LOOP
from cerebro_nb.settings import EmbeddedSettings

CONTENT = b"GGUF" + bytes(range(256)) * 8192
NAME = "hf:owner/tiny-GGUF:tiny.Q4_K_M.gguf"


@pytest.fixture
def hub(monkeypatch):
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    with FakeHub() as served:
        served.files["owner/tiny-GGUF"] = {"README.md": b"# tiny", "tiny.Q4_K_M.gguf": CONTENT, "q8/tiny.gguf": CONTENT}
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served


def folder():
    return load_settings().data_dir / "models" / "hf" / "owner" / "tiny-GGUF"


def place():
    return folder() / "tiny.Q4_K_M.gguf"


def parts():
    return list(folder().glob(".*.part"))


def begun(headers):
    """Where a download goes on; what a client holds unread when the connection breaks is asked for again."""
    return int(headers["range"].removeprefix("bytes=").removesuffix("-"))


def test_a_file_is_pulled_whole_for_this_user_alone_and_what_is_known_lies_beside(hub, capsys):
    assert main(["pull", NAME]) == 0
    assert f"{NAME} is at {place()}" in capsys.readouterr().out
    assert place().read_bytes() == CONTENT and place().stat().st_mode & 0o777 == 0o600
    known = json.loads(place().with_name(f"{place().name}.json").read_text())
    assert (known["source"], known["revision"], known["size_bytes"]) == (NAME, REVISION, len(CONTENT))
    assert known["sha256"] == file_sha256(place()) and known["pulled_at"].endswith("+00:00") and parts() == []


def test_one_that_is_here_is_left_and_nobody_is_asked(hub):
    pull_model(NAME)
    asked = len(hub.requests)
    assert pull_model(NAME) == place() and len(hub.requests) == asked


def test_one_that_was_changed_is_pulled_again(hub):
    pull_model(NAME)
    place().write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(errors.ModelNotFound, match="not the file that was pulled"):
        LOOP.run(EmbeddedBackend(EmbeddedSettings(model=NAME)).models())
    assert pull_model(NAME) == place() and place().read_bytes() == CONTENT


def test_a_file_in_a_folder_of_the_repository_is_pulled(hub):
    path = pull_model("hf:owner/tiny-GGUF:q8/tiny.gguf")
    assert path == folder() / "q8" / "tiny.gguf" and path.read_bytes() == CONTENT


def test_a_download_that_breaks_goes_on_from_there(hub):
    heard = []
    hub.cuts = [700_000]
    assert pull_model(NAME, on_progress=heard.append) == place() and place().read_bytes() == CONTENT
    assert len(hub.downloads) == 2 and begun(hub.downloads[0]) == 0 < begun(hub.downloads[1]) <= 700_000
    done = [now.done_bytes for now in heard]
    assert done == sorted(done) and done[-1] == heard[-1].total_bytes == len(CONTENT)


def test_one_that_breaks_for_good_is_gone_on_with_by_the_next_pull(hub):
    hub.cuts = [400_000, 500_000, 600_000, 700_000, 800_000]
    with pytest.raises(errors.PullFailed, match="broke off") as broken:
        pull_model(NAME)
    assert "goes on" in broken.value.hint and not place().exists()
    (part,) = parts()
    kept = part.stat().st_size
    assert 0 < kept <= 800_000
    hub.requests.clear()
    assert pull_model(NAME).read_bytes() == CONTENT and parts() == []
    assert [begun(headers) for headers in hub.downloads] == [kept]


def test_a_part_of_what_the_file_was_before_is_not_gone_on_with(hub):
    hub.cuts = [400_000] * 5
    with pytest.raises(errors.PullFailed):
        pull_model(NAME)
    hub.cuts, hub.files["owner/tiny-GGUF"]["tiny.Q4_K_M.gguf"] = [], CONTENT + b"more"
    hub.requests.clear()
    assert pull_model(NAME).read_bytes() == CONTENT + b"more"
    assert [headers["range"] for headers in hub.downloads] == ["bytes=0-"] and parts() == []


def test_a_cancelled_pull_stops_and_the_next_goes_on(hub):
    hub.stalls, begun = threading.Event(), threading.Event()
    pulling = LOOP.submit(apull_model(NAME, on_progress=lambda now: now.share > 0.4 and begun.set()))
    assert begun.wait(60)
    pulling.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        pulling.result(60)
    hub.stalls.set()
    hub.requests.clear()
    assert pull_model(NAME).read_bytes() == CONTENT
    assert hub.downloads[0]["range"] != "bytes=0-"


def test_ctrl_c_stops_the_command_and_the_next_pull_goes_on(hub):
    hub.stalls = threading.Event()
    command = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"from cerebro_nb.cli.main import main; sys.exit(main(['pull', '{NAME}']))"
    )
    with subprocess.Popen([sys.executable, "-c", command], stderr=subprocess.PIPE, text=True) as child:
        told = next(line for line in child.stderr if "MB are here" in line)
        child.send_signal(signal.SIGINT)
        said = child.stderr.read()
        assert child.wait(60) == 130
    assert NAME in told and "Traceback" not in said
    assert not place().exists() and len(parts()) == 1
    hub.stalls.set()
    assert pull_model(NAME).read_bytes() == CONTENT and parts() == []


@pytest.mark.parametrize(
    ("content", "sha256", "said"),
    [(CONTENT, "0" * 64, "the hub says it has 0000"), (b"<html>" * 1000, "", "no GGUF file")],
    ids=["another hash", "no model"],
)
def test_what_is_not_the_file_is_refused_and_not_kept(hub, content, sha256, said):
    hub.files["owner/tiny-GGUF"]["tiny.Q4_K_M.gguf"], hub.told_sha256 = content, sha256
    with pytest.raises(errors.PullFailed, match=said):
        pull_model(NAME)
    assert not place().exists() and parts() == []


def test_a_gated_repository_wants_a_token_of_the_environment(hub, monkeypatch, capsys):
    hub.token = "hf_planted_token"
    assert main(["pull", NAME]) == 1
    told = capsys.readouterr().err
    assert "owner/tiny-GGUF is gated" in told and "HF_TOKEN" in told and not place().exists()
    monkeypatch.setenv("HF_TOKEN", "hf_planted_token")
    assert main(["pull", NAME]) == 0
    assert "planted" not in "".join(capsys.readouterr())


def test_403_is_said_with_the_token_too(hub, capsys):
    hub.token, hub.code, hub.refused_with = "hf_planted_token", "Other", 403
    assert main(["pull", NAME]) == 1
    told = capsys.readouterr().err
    assert "403" in told and "HF_TOKEN" in told


def test_the_token_does_not_follow_to_another_server(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_planted_token")
    with FakeHub() as cdn:
        cdn.files, hub.cdn, hub.token = hub.files, cdn.url, "hf_planted_token"
        assert pull_model(NAME).read_bytes() == CONTENT
        (headers,) = cdn.downloads
    assert hub.downloads[0]["authorization"] == "Bearer hf_planted_token" and "authorization" not in headers


def test_a_missing_file_is_said_with_those_that_there_are(hub):
    with pytest.raises(errors.PullFailed, match=r"has no file other\.gguf") as missing:
        pull_model("hf:owner/tiny-GGUF:other.gguf")
    assert missing.value.hint == "It has: q8/tiny.gguf, tiny.Q4_K_M.gguf."


def test_a_missing_repository_is_said(hub):
    with pytest.raises(errors.PullFailed, match="has no repository owner/none"):
        pull_model("hf:owner/none:x.gguf")


def test_a_hub_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(errors.PullFailed, match="the hub does not answer") as gone:
        pull_model(NAME)
    assert "HF_ENDPOINT" in gone.value.hint


def test_what_is_no_hub_is_said(hub):
    hub.files["owner/tiny-GGUF"] = {}
    hub.listed = lambda repository: ["no", "hub"]
    with pytest.raises(errors.PullFailed, match="cannot be read"):
        pull_model(NAME)


def test_offline_is_heeded(hub):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}  # the library reads it once
    command = [sys.executable, "-c", "import sys; from cerebro_nb.cli.main import main; sys.exit(main(sys.argv[1:]))"]
    ended = subprocess.run([*command, "pull", NAME], env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1 and "HF_HUB_OFFLINE is set" in ended.stderr and hub.requests == []


def test_without_the_extra_it_is_said_which(hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(errors.MissingDependency) as missing:
        pull_model(NAME)
    assert "cerebro-nb[hub]" in missing.value.hint and hub.requests == []


def test_a_disk_that_is_too_small_is_said_before_anything_is_fetched(hub):
    listed = hub.listed("owner/tiny-GGUF")
    for sibling in listed["siblings"]:
        sibling["lfs"]["size"] = 10**18
    hub.listed = lambda repository: listed
    with pytest.raises(errors.PullFailed, match="has room for") as full:
        pull_model(NAME)
    assert "CEREBRO_DATA_DIR" in full.value.hint and hub.downloads == []


def test_to_name_a_model_is_not_to_pull_it(hub):
    with pytest.raises(errors.ModelNotFound, match="not here yet") as missing:
        call_llm("Say hello.", model=NAME)
    assert f"cerebro pull {NAME}" in missing.value.hint and hub.requests == []


@pytest.mark.parametrize(
    "name",
    [
        "hf:owner/tiny-GGUF:../../../x.gguf",
        "hf:owner/tiny-GGUF:/etc/x.gguf",
        "hf:../tiny-GGUF:x.gguf",
        "hf:owner/tiny-GGUF:x.bin",
        "hf:owner/tiny-GGUF",
        "hf:owner/tiny-GGUF:big-00001-of-00003.gguf",
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(hub, name, capsys):
    assert main(["pull", name]) == 1
    assert "hf:owner/repo:file.gguf" in (told := capsys.readouterr().err) or "several files" in told
    assert hub.requests == [] and not (load_settings().data_dir / "models").exists()


def test_the_real_model_is_pulled_and_answers_and_its_hash_is_in_the_manifest(hub, monkeypatch, capsys):
    """It runs by its name, offline, in a run, and `cerebro models` lists it."""
    content = Path(packaged_model_path()).read_bytes()
    hub.files["owner/tiny-GGUF"]["real-135M.gguf"] = content
    name = "hf:owner/tiny-GGUF:real-135M.gguf"
    path = pull_model(name)
    asked = len(hub.requests)
    assert main(["models"]) == 0
    assert name in capsys.readouterr().out
    monkeypatch.setenv("CEREBRO_EMBEDDED__SLOTS", "1")
    run = process_in_batches(["tea"], "Say {item}.", model=name, max_tokens=8, show_progress=False)
    backend = EmbeddedBackend(load_settings(embedded={"model": name}).embedded)
    try:
        assert run.progress.ok == 1
        manifest = run.task.manifest
        assert (manifest["model"], manifest["model_digest"]) == (name, f"sha256:{file_sha256(path)}")
        assert manifest["backend"] == "embedded" and backend.engine.running and len(hub.requests) == asked
        assert f"{name} has 135M parameters: facts will be wrong" in capsys.readouterr().err
    finally:
        backend.engine.stop()
        LOOP.run(backend.aclose())


@pytest.mark.parametrize("endpoint", ["hub.example", "https://", "https://hub:port", "https://hub example"])
def test_an_endpoint_that_is_no_address_is_said(endpoint, hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(errors.SettingsError, match="HF_ENDPOINT") as odd:
        pull_model(NAME)
    assert odd.value.hint and hub.requests == []
