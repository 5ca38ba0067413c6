"""A notebook server and a notebook in a browser, for the tests of the panel."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from ctypes import CDLL
from pathlib import Path

import pytest
from playwright.sync_api import Page

from cerebro_nb.settings import DEFAULT_DATA_DIR

WAIT_MS = 120_000
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium_program() -> str:
    """Return Chromium's path, or say that it is missing."""
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if found is None:
        missing = "Chromium is not installed (on Debian: apt install chromium)"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    return str(found)


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


def die_with_parent() -> None:
    CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Server:
    """A program that serves pages on loopback, with folders of its own."""

    def __init__(
        self, folder: Path, words: Callable[[int, str], list[str]], cells: Mapping[str, str] = {}, **environment: str
    ):
        self.folder, self.port, self.token = folder, free_port(), secrets.token_hex(16)
        self.notebooks = folder / "notebooks"
        self.notebooks.mkdir(parents=True)
        names = (
            "HOME",
            "JUPYTER_CONFIG_DIR",
            "JUPYTER_DATA_DIR",
            "JUPYTER_RUNTIME_DIR",
            "IPYTHONDIR",
            "XDG_CONFIG_HOME",
        )
        private = {name: str(folder / name.lower()) for name in names}
        ours = ("CEREBRO_", "OLLAMA_", "OPENAI_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        # The small model lies where the tests' own user has it.
        places = {"XDG_DATA_HOME": str(DEFAULT_DATA_DIR.parent), "CEREBRO_DATA_DIR": str(folder / "data")}
        places["OLLAMA_HOST"] = "127.0.0.1:9"
        self.environment = {**kept, **private, **places, **environment}
        for path in private.values():
            Path(path).mkdir(exist_ok=True)
        for name, text in cells.items():
            self.write(name, text)
        overrides = folder / "jupyter_config_dir" / "labconfig"
        overrides.mkdir()
        (overrides / "default_setting_overrides.json").write_text(
            json.dumps(
                {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}
            )
        )
        self.log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            words(self.port, self.token),
            cwd=self.notebooks,
            env=self.environment,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )
        self.url = f"http://127.0.0.1:{self.port}"
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + 120
        while True:
            with socket.socket() as door:
                if door.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError((self.folder / "log").read_text()[-2000:])
            time.sleep(0.1)  # a port cannot be awaited

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def write(self, name: str, *cells: str) -> None:
        """Write a notebook."""
        described = [
            {"cell_type": "code", "id": f"c{n}", "metadata": {}, "execution_count": None, "outputs": [], "source": text}
            for n, text in enumerate(cells)
        ]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": described}
        (self.notebooks / name).write_text(json.dumps(notebook))


def lab_words(port: int, token: str) -> list[str]:
    """Return the command that serves JupyterLab, and Notebook 7 beside it."""
    return [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        f"--ServerApp.port={port}",
        "--ServerApp.ip=127.0.0.1",
        f"--IdentityProvider.token={token}",
        "--LabApp.expose_app_in_browser=True",
        "--JupyterNotebookApp.expose_app_in_browser=True",
        "--LabApp.news_url=",
    ]


class Lab:
    """A notebook in JupyterLab or in Notebook 7, in a page of its own."""

    def __init__(self, page: Page, server: Server, name: str):
        self.page, self.server, self.name = page, server, name

    def run(self, cell: int) -> None:
        """Run a cell, without waiting for its end."""
        self.page.evaluate(
            """(cell) => {
                jupyterapp.shell.currentWidget.content.activeCellIndex = cell;
                jupyterapp.commands.execute('notebook:run-cell');
            }""",
            cell,
        )

    def restart(self) -> None:
        """Kill the kernel as a crash would, and wait for the new one."""
        self.page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
        self.wait_for_kernel()

    def reopen(self) -> None:
        """Save the notebook, end its kernel, and open it in a page of its own; a new kernel is there then."""
        self.page.evaluate(
            """async () => {
                const { context, sessionContext } = jupyterapp.shell.currentWidget;
                await context.save();
                await sessionContext.shutdown();
            }"""
        )
        workspace = secrets.token_hex(4)
        self.page.goto(f"{self.server.url}/lab/workspaces/{workspace}/tree/{self.name}?token={self.server.token}")
        self.wait_for_kernel()

    def wait_for_kernel(self) -> None:
        self.page.wait_for_function(
            """() => {
                const kernel = window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel;
                return kernel && kernel.connectionStatus === "connected" && kernel.status === "idle";
            }""",
            timeout=WAIT_MS,
        )

    def output(self, cell: int) -> str:
        """Return the text of a cell's output."""
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(cell).locator(".jp-OutputArea-output").inner_text()
