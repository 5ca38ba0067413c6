"""A real JupyterLab and a real Chromium."""

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pages import FLAGS, WAIT_MS, Lab, Server, chromium_program, lab_words
from playwright.sync_api import Browser, Page, expect, sync_playwright

PICTURES = Path(os.environ.get("CEREBRO_TEST_PICTURES", Path(__file__).parents[2] / "_pictures"))


@pytest.fixture(scope="module")  # Playwright keeps a loop in this thread, which the other tests must not meet
def browser() -> Iterator[Browser]:
    program = chromium_program()
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("jupyter"), lab_words)
    yield server
    server.stop()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1400, "height": 1300})
    context.set_default_timeout(WAIT_MS)
    opened = context.new_page()
    opened.asked_elsewhere = []  # type: ignore[attr-defined]
    opened.on("request", lambda request: _note_elsewhere(opened, request.url))
    opened.on("dialog", lambda dialog: pytest.fail(f"a text was run as a script: {dialog.message}"))
    yield opened
    assert opened.asked_elsewhere == []  # type: ignore[attr-defined]
    context.close()


def _note_elsewhere(page: Page, url: str) -> None:
    if not url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:", "about:")):
        page.asked_elsewhere.append(url)  # type: ignore[attr-defined]


@pytest.fixture
def lab(page: Page, jupyter: Server, request: pytest.FixtureRequest) -> Iterator[Callable[..., Lab]]:
    """Return a function that opens a notebook of some cells in JupyterLab."""
    expect.set_options(timeout=WAIT_MS)
    opened: list[Lab] = []

    def open_notebook(*cells: str) -> Lab:
        name = f"{request.node.name[:40]}-{secrets.token_hex(3)}.ipynb".replace("[", "-").replace("]", "")
        jupyter.write(name, *cells)
        workspace = secrets.token_hex(4)
        page.goto(f"{jupyter.url}/lab/workspaces/{workspace}/tree/{name}?token={jupyter.token}")
        notebook = Lab(page, jupyter, name)
        notebook.wait_for_kernel()
        page.evaluate("() => jupyterapp.commands.execute('application:toggle-left-area')")
        opened.append(notebook)
        return notebook

    yield open_notebook
    for notebook in opened:
        page.evaluate("() => jupyterapp.shell.currentWidget?.sessionContext?.shutdown()")
        assert notebook.name


@pytest.fixture
def picture(page: Page, request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """Return a function that keeps a picture of the page as a file of the test run."""
    PICTURES.mkdir(exist_ok=True)

    def take(name: str) -> Path:
        path = PICTURES / f"{name}.png"
        page.screenshot(path=path)
        return path

    return take
