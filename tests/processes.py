"""Processes forked off one that has imported everything; and the end of those that are not our children."""

import atexit
import multiprocessing
import os
import select
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Each is forked off one process that has imported, once, what nearly all of them begin with.
_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(["test_notebooks", "test_kinds", "cerebro_nb.cli.main", "cerebro_nb.launching.resuming"])


def run_forked(work: Callable[..., bool | None], *arguments: Any, told: Path) -> int:
    """Do some work in a process of its own, with the environment of this one.

    Parameters
    ----------
    work
        A function of a module; if it returns False the process ends with 1.
    *arguments
        What it takes.
    told
        A file for what the process prints.

    Returns
    -------
    int
        How the process ended, as `multiprocessing.Process.exitcode` says it.
    """
    process = _FORKED.Process(target=_do, args=(work, arguments, dict(os.environ), os.getcwd(), told))
    process.start()
    process.join()
    return int(process.exitcode or 0)


def _do(work: Callable[..., bool | None], arguments: Any, environment: dict[str, str], folder: str, told: Path) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    page = os.open(told, os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(page, stream)
    is_well = work(*arguments)
    atexit._run_exitfuncs()  # which a process of multiprocessing leaves out
    sys.exit(is_well is False)


def has_ended(pid: int, seconds: float = 60.0) -> bool:
    """Wait for the end of a process of this system, and return whether it came."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], seconds)[0])
    finally:
        os.close(process)
