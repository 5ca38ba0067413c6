"""Measure the panel while 2,000 items run: the kernel's time an update, updates a second, frames, the saved file."""

import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from pages import FLAGS, Lab, Server, chromium_program, lab_words  # noqa: E402 - the tests' own tools

ITEMS = 2_000
#: A panel whose messages to the browser are counted, with the time that each took in the kernel.
PANEL = """
import os, time
os.environ["CEREBRO_DATA_DIR"] = {folder!r}
from cerebro_nb import panel
import cerebro_nb.panels.view as view
took = []
def timed(function):
    def call(*given, **named):
        began = time.thread_time()
        try:
            return function(*given, **named)
        finally:
            took.append((time.monotonic(), time.thread_time() - began))
    return call
view.Face.send_state, view.Face.send = timed(view.Face.send_state), timed(view.Face.send)
shown = panel()
shown
"""
RUN = """
import asyncio
from cerebro_nb import Profile
from cerebro_nb.launching.batches import batch_run
async def work(value):
    await asyncio.sleep(0.05)
    return {{"question": f"What is number {{value}}?", "answer": "It is a number of some length. " * 8}}
took.clear()
profile = Profile(name="quick", batch_size=None, delay_s=0, concurrency=6)
shown._stage.launch(batch_run(range({items}), work, profile, show_progress=False, ledger=shown._ledger))
"""
TOLD = "import json; shown.idle.wait(); print('TOLD' + json.dumps(took))"
FRAMES = """() => {
    window.frames_ms = [];
    let last = performance.now();
    const step = (now) => { window.frames_ms.push(now - last); last = now; requestAnimationFrame(step); };
    requestAnimationFrame(step);
}"""


def percentile(values: list[float], share: float) -> float:
    """Return the value below which a share of some values lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def run_items(page: Page, lab: Lab) -> tuple[list[float], list[tuple[float, float]]]:
    """Run the items; return how long frames took, in milliseconds, and when and how long the kernel told something."""
    lab.run(0)
    page.locator(".cb-pill").wait_for(timeout=120_000)
    page.evaluate(FRAMES)
    lab.run(1)
    page.locator(".cb-strip [data-state=in_progress]").wait_for(timeout=60_000)
    page.evaluate("() => { window.frames_ms = []; }")
    page.locator(".cb-strip [data-state=completed]").wait_for(timeout=180_000)
    frames = page.evaluate("() => window.frames_ms")
    lab.run(2)
    page.wait_for_function("() => document.body.innerText.includes('TOLD[')", timeout=60_000)
    return frames, json.loads(lab.output(2).removeprefix("TOLD"))


def saved_bytes(page: Page, server: Server) -> int:
    """Save the notebook, its last cell cleared, and return how large its file is."""
    page.evaluate("""async () => {
        const notebook = jupyterapp.shell.currentWidget;
        notebook.content.widgets[2].model.outputs.clear();
        await notebook.context.save();
    }""")
    return (server.notebooks / "panel.ipynb").stat().st_size


def main() -> None:
    """Run, measure, print."""
    folder = Path(tempfile.mkdtemp(prefix="cerebro-bench-"))
    server = Server(folder / "jupyter", lab_words)
    server.write("panel.ipynb", PANEL.format(folder=str(folder / "data")), RUN.format(items=ITEMS), TOLD)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium_program(), args=FLAGS)
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            page.goto(f"{server.url}/lab/tree/panel.ipynb?token={server.token}")
            lab = Lab(page, server, "panel.ipynb")
            lab.wait_for_kernel()
            began = time.monotonic()
            frames, told = run_items(page, lab)
            size = saved_bytes(page, server)
            browser.close()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    seconds = told[-1][0] - told[0][0]
    busiest = max(sum(1 for at, _ in told if start <= at < start + 1) for start, _ in told)
    spent = [took * 1000 for _, took in told]
    print(f"{ITEMS:,} items in {seconds:.0f} s, measured in {time.monotonic() - began:.0f} s")
    print(f"updates: {len(told) / seconds:.1f} a second, {busiest} in the busiest second")
    print(f"kernel: {statistics.median(spent):.2f} ms an update in the median, {percentile(spent, 0.95):.2f} ms at p95")
    print(f"frames: {statistics.median(frames):.0f} ms in the median, {percentile(frames, 0.95):.0f} ms at p95")
    print(f"notebook after saving: {size:,} bytes")


if __name__ == "__main__":
    main()
