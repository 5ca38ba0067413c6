"""What every test gets: folders of its own, no settings of the machine, and servers to talk to."""

import logging
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import FakeOllama, FakeOpenAI
from hypothesis import HealthCheck, settings
from servers import PostgresServer
from virtual import VirtualLoop, virtual_time

from cerebro_nb import Ledger, Profile, load_settings

# No example is judged by the clock. Hypothesis itself draws the same examples each time on CI, and anew elsewhere.
settings.register_profile("cerebro", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("cerebro")


# Whoever starts the tests in the background may have had signals ignored, which every child would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _signal in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(_signal, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that take a browser or a server of PostgreSQL as costly; what else is costly says so itself."""
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if {"browser", "postgres", "postgresql"} & {*getattr(item, "fixturenames", ()), *map(str, parameters.values())}:
            item.add_marker(pytest.mark.costly)


@pytest.fixture(autouse=True)
def private_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("CEREBRO_", "OLLAMA_", "OPENAI_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CEREBRO_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")  # nobody listens there
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """Put the log back as a library has it, should a test have shown it."""
    yield
    logger = logging.getLogger("cerebro_nb")
    logger.handlers, logger.propagate = [], True
    logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty database: a test that takes it runs on both kinds."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    return request.getfixturevalue("postgres").new_database()


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    opened = Ledger(ledger_url)
    yield opened
    opened.close()


@pytest.fixture
def virtual(ledger: Ledger) -> Iterator[VirtualLoop]:
    """Have runs that are kept in the ledger go on in virtual time: a test waits for no clock."""
    with virtual_time(ledger) as loop:
        yield loop


@pytest.fixture
def quick() -> Profile:
    """Return the synthetic profile without its rests and waits."""
    return load_settings({}).profile("synthetic").replace(delay_s=0, backoff_s=0)


@pytest.fixture
def chance() -> random.Random:
    """Return dice, whose seed is shown where a test fails; TEST_SEED of the environment gives it again."""
    seed = int(os.environ.get("TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"TEST_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def ollama() -> Iterator[FakeOllama]:
    with FakeOllama() as server:
        yield server


@pytest.fixture
def openai() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as server:
        yield server
