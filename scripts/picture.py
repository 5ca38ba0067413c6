"""Make docs/panel.png: the panel in JupyterLab, after a run of the embedded model. It wants Chromium."""

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from pages import FLAGS, Lab, Server, chromium_program, lab_words  # noqa: E402 - the tests' own tools

CELL = "from cerebro_nb import panel\npanel()"


def main() -> None:
    """Start a server, run the panel, take the picture."""
    folder = Path(tempfile.mkdtemp(prefix="cerebro-picture-"))
    server = Server(folder / "jupyter", lab_words, {"panel.ipynb": CELL}, CEREBRO_BACKEND="embedded")
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium_program(), args=FLAGS)
            page = browser.new_page(viewport={"width": 1300, "height": 1100})
            page.goto(f"{server.url}/lab/tree/panel.ipynb?token={server.token}")
            lab = Lab(page, server, "panel.ipynb")
            lab.wait_for_kernel()
            page.evaluate("() => jupyterapp.commands.execute('application:toggle-left-area')")
            lab.run(0)
            panel = page.locator(".cb-panel")
            page.get_by_label("Subject", exact=True).fill("copywriting")
            panel.get_by_role("button", name="Run", exact=True).click()
            page.locator(".cb-strip [data-state=completed]").wait_for(timeout=120_000)
            panel.screenshot(path=ROOT / "docs" / "panel.png")
            browser.close()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
