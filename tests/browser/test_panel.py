"""The panel as a person uses it: real model, real browser, the mouse alone."""

import hashlib
import itertools
import json
import sys
import time
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from fakes import FakeOllama, prose, read
from pages import WAIT_MS, Lab, Server
from papers import pdf_of
from playwright.sync_api import Page, expect

from cerebro_nb.judging.calibration import calibration_items

CALIBRATION = calibration_items("en")

pytestmark = pytest.mark.timeout(900)

SHOW = """
import os
os.environ["CEREBRO_DATA_DIR"] = {folder!r}
os.environ["CEREBRO_BACKEND"] = {backend!r}
from cerebro_nb import panel
shown = panel()
shown
"""


def cell(folder: Path, backend: str = "embedded", **more: str) -> str:
    lines = "".join(f"import os; os.environ[{name!r}] = {value!r}\n" for name, value in more.items())
    return lines + SHOW.format(folder=str(folder), backend=backend)


def fill(page: Page, **values: str) -> None:
    for label, text in values.items():
        page.locator(".cb-panel").get_by_label(label.replace("_", " "), exact=True).fill(text)


def press(page: Page, name: str) -> None:
    page.locator(".cb-panel").get_by_role("button", name=name, exact=True).click()


def go(page: Page, name: str) -> None:
    page.locator(".cb-panel").get_by_role("tab", name=name, exact=True).click()


def strip(page: Page):
    return page.locator(".cb-strip")


def came_to(page: Page, state: str) -> None:
    expect(strip(page).locator(".cb-state")).to_have_attribute("data-state", state)


def rows(page: Page):
    return page.locator(".cb-review .cb-body .cb-row")


def test_set_run_watch_look_mark_and_save_with_the_mouse_alone(lab, page, picture, tmp_path):
    with FakeOllama(plain_pair, seconds=0.5) as server:
        notebook = lab(
            cell(tmp_path, "ollama", OLLAMA_HOST=server.url),
            "print('another', 'cell')",
            "print(shown.df['mark'].fillna('').tolist())",
        )
        notebook.run(0)
        expect(page.locator(".cb-pill")).to_have_text("Ready")
        picture("1-empty")
        press(page, "Run")
        expect(page.get_by_text("Fill in: Subject")).to_be_visible()
        fill(page, Subject="copywriting", How_many="6")
        told = "at most 18 calls in batches of 3, 1 at once; at most 14,400 tokens written"
        expect(page.get_by_text(told)).to_be_visible()
        press(page, "Run")
        expect(rows(page)).not_to_have_count(0)
        notebook.run(1)  # the kernel is free meanwhile
        expect(page.get_by_text("another cell", exact=True)).to_be_visible()
        picture("2-running")
        came_to(page, "completed")
        expect(rows(page)).to_have_count(6)
        picture("3-completed")
        page.locator(".cb-review").get_by_label("Select 0", exact=True).check()
        page.locator(".cb-review").get_by_label("Select 2", exact=True).check()
        page.get_by_role("group", name="The selected answers").get_by_role("button", name="Accept", exact=True).click()
        expect(page.locator(".cb-row[data-mark=accepted]")).to_have_count(2)
        rows(page).nth(1).click()
        detail = page.get_by_role("region", name="The open answer")
        detail.get_by_text("How it was made").click()
        expect(detail.get_by_text("Attempt 1: raw reply")).to_be_visible()
        expect(detail.get_by_label("question", exact=True)).not_to_have_value("")
        detail.get_by_label("question", exact=True).fill("Is this a better question?")
        expect(rows(page).nth(1)).to_contain_text("Is this a better question?")
        detail.get_by_text("What changed").click()
        expect(detail.locator("ins").first).to_be_visible()
        picture("4-opened")
        detail.get_by_role("button", name="Reject", exact=True).click()
        expect(page.locator(".cb-row[data-mark=rejected]")).to_have_count(1)
        notebook.run(2)
        expect(page.get_by_text("['accepted', 'rejected', 'accepted', '', '', '']")).to_be_visible()
        go(page, "Export")
        expect(page.get_by_text("2 of 6 answers (left out: 1 rejected, 3 unmarked)")).to_be_visible()
        page.get_by_label("all but the rejected").check()
        expect(page.get_by_text("5 of 6 answers (left out: 1 rejected)")).to_be_visible()
        page.get_by_label("accepted only").check()
        expect(page.get_by_text("2 of 6 answers")).to_be_visible()
        press(page, "Save")
        expect(page.get_by_text("Saved: ")).to_be_visible()
        (saved,) = (tmp_path / "datasets").glob("copywriting-*/train.jsonl")
        assert len(saved.read_text().splitlines()) == 2  # the accepted ones
        picture("4-exported")
        go(page, "Generate")
        press(page, "Copy as code")
        expect(page.locator(".cb-code")).to_contain_text("from cerebro_nb import generate_qa")
        go(page, "Runs")
        expect(page.locator(".cb-runs li", has_text="copywriting")).to_have_count(1)
        picture("5-runs")


def test_a_run_is_paused_cancelled_and_brought_back_after_a_restart_of_the_kernel(lab, page, picture, tmp_path):
    with FakeOllama(plain_pair, seconds=1.0) as server:
        notebook = lab(cell(tmp_path, "ollama", OLLAMA_HOST=server.url))
        notebook.run(0)
        fill(page, Subject="tea", How_many="5")
        press(page, "Run")
        expect(rows(page)).not_to_have_count(0)
        press(page, "Pause")
        came_to(page, "paused")
        press(page, "Cancel")
        came_to(page, "cancelled")
        kept = rows(page).count()
        assert 1 <= kept < 5
        notebook.restart()
        notebook.run(0)
        expect(page.get_by_text(f"Not finished: tea, {kept} of 5.")).to_be_visible()
        picture("6-not-finished")
        page.locator(".cb-unfinished").get_by_role("button", name="Resume", exact=True).click()
        came_to(page, "completed")
        expect(rows(page)).to_have_count(5)


SHOWN = """
from cerebro_nb import Ledger, ResultsTable, TaskView
ledger = Ledger("sqlite:///{folder}/few.db")
task_id = ledger.create_task("qa_generation", "tea", 6)
from cerebro_nb.tasks.writing import FinishedItem
ledger.add_items(task_id, 0, [({{}}, str(n)) for n in range(6)])
for n in range(6):
    made = {{"question": f"Question {{n}}?", "answer": f"Answer {{n}}."}}
    ledger.finish_item(FinishedItem(task_id, n, ({{}}, str(n)), "ok", made, None, [], 1.0, 2.0)).result()
table = ResultsTable(TaskView(ledger, task_id))
table
"""


def test_no_click_loses_an_edit_and_a_bulk_mark_reaches_only_what_is_shown(lab, page, tmp_path):
    notebook = lab(SHOWN.format(folder=tmp_path), "print([row['question'] for row in table.view.results])")
    notebook.run(0)
    expect(rows(page)).to_have_count(6)
    for place in (0, 1, 2):
        page.get_by_label(f"Select {place}", exact=True).check()
    page.get_by_label("Search", exact=True).fill("Question 2")
    expect(page.get_by_text("1 selected · 2 not shown, left as they are")).to_be_visible()
    page.get_by_role("group", name="The selected answers").get_by_role("button", name="Reject", exact=True).click()
    page.get_by_label("Search", exact=True).fill("")
    expect(page.locator(".cb-row[data-mark=rejected]")).to_have_count(1)
    page.keyboard.press("Escape")
    page.keyboard.press("u")
    expect(page.locator(".cb-row[data-mark=rejected]")).to_have_count(0)
    rows(page).nth(3).click()
    detail = page.get_by_role("region", name="The open answer")
    detail.get_by_label("question", exact=True).fill("Mine?")
    rows(page).nth(4).click()  # at once, before anything was saved
    expect(detail.get_by_label("question", exact=True)).to_have_value("Question 4?")
    expect(rows(page).nth(3)).to_contain_text("Mine?")
    notebook.run(1)
    expect(page.get_by_text("'Question 2?', 'Mine?', 'Question 4?'")).to_be_visible()
    page.get_by_role("status").get_by_role("button", name="Undo", exact=True).click()
    expect(rows(page).nth(3)).to_contain_text("Question 3?")


TWO = """
other_id = ledger.create_task("qa_generation", "coffee", 1)
ledger.add_items(other_id, 0, [({}, "0")])
made = {"question": "Question of the other?", "answer": "Yes.", "ok": True}
ledger.finish_item(FinishedItem(other_id, 0, ({}, "0"), "ok", made, None, [], 1.0, 2.0)).result()
other = TaskView(ledger, other_id)
"""


def test_a_draft_lands_in_the_task_it_was_typed_for_and_its_undo_leaves_no_edit(lab, page, tmp_path):
    switch = "first = table.view; table.show(other)"
    told = "print(other.results, [row['question'] for row in first.results][:1])"
    edited = "print([item['edited'] for item in ledger.items(other_id)])"
    notebook = lab(SHOWN.format(folder=tmp_path) + TWO + "table", switch, told, edited)
    notebook.run(0)
    expect(rows(page)).to_have_count(6)
    rows(page).nth(0).click()
    detail = page.get_by_role("region", name="The open answer")
    box = detail.get_by_label("question", exact=True)
    expect(box).to_have_value("Question 0?")
    # Typed, and another task is shown before it was kept.
    box.evaluate("box => { box.value = 'Typed for the first?'; }")
    notebook.run(1)
    expect(rows(page)).to_have_count(1)
    notebook.run(2)
    expect(
        page.get_by_text("'Question of the other?', 'answer': 'Yes.', 'ok': True}] ['Typed for the first?']")
    ).to_be_visible()
    rows(page).nth(0).click()
    expect(detail.get_by_label("ok", exact=True)).to_have_value("true")
    detail.get_by_label("ok", exact=True).fill("perhaps")
    expect(detail.get_by_text("Not kept yet: write true or false.")).to_be_visible()
    detail.get_by_label("question", exact=True).fill("Mine?")
    expect(rows(page).nth(0)).to_contain_text("Mine?")
    page.get_by_role("status").get_by_role("button", name="Undo", exact=True).click()
    expect(rows(page).nth(0)).to_contain_text("Question of the other?")
    expect(detail.get_by_text("Edited", exact=True)).to_be_hidden()
    notebook.run(3)
    expect(page.get_by_text("[None]", exact=True)).to_be_visible()


LONG_WORD = "".join(hashlib.sha256(bytes([n])).hexdigest() for n in range(4))
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> <a href=javascript:alert(3)>x</a> \u202etxet "
HOSTILE += LONG_WORD


numbers = itertools.count()


HOSTILE_ANSWER = f"It is code of a page, such as `{HOSTILE}`, and a careful page shows it as a text."


def hostile_pair(payload):
    """Answer with everything that a page must not run, in an example that speaks of it."""
    word = hashlib.sha256(str(next(numbers)).encode()).hexdigest()[:40]  # or one would nearly be another
    question = f"What does the tag `<img src=x onerror=alert(4)> {word}` do in a page on tea?"
    return json.dumps({"question": question, "answer": HOSTILE_ANSWER})


def plain_pair(payload):
    """Answer with a pair that no gate refuses."""
    number = next(numbers)
    return json.dumps({"question": prose(f"question {number}", asks=True), "answer": prose(f"answer {number}", 40)})


def hostile_fault(text: str):
    return (400, {"content-type": "application/json"}, json.dumps({"error": text}))


def test_hostile_texts_are_shown_as_texts_and_failed_items_are_retried(lab, page, picture, tmp_path):
    with FakeOllama(hostile_pair) as server:
        server.models = ["<img src=x onerror=alert(5)>:latest"]
        server.faults = [None, hostile_fault(HOSTILE)]
        notebook = lab(cell(tmp_path, "ollama", OLLAMA_HOST=server.url), "shown.df", "shown.run")
        notebook.run(0)
        fill(page, Subject="<script>alert(6)</script> tea", How_many="3")
        page.locator(".cb-chip-model").click()
        expect(page.locator(".cb-models").get_by_text("<img src=x onerror=alert(5)>:latest")).to_be_visible()
        page.keyboard.press("Escape")
        press(page, "Run")
        came_to(page, "completed")
        expect(page.locator(".cb-pill")).to_have_text("2 ok, 1 failed")
        expect(rows(page)).to_have_count(3)
        expect(rows(page).first).to_contain_text("<script>alert(1)</script><img src=x onerror=alert(2)>")
        rows(page).nth(1).click()
        detail = page.get_by_role("region", name="The open answer")
        expect(detail.get_by_role("heading", name="Error", exact=True)).to_be_visible()
        expect(detail.locator("pre", has_text="BadRequest").first).to_contain_text("alert(1)")
        picture("7-hostile")
        press(page, "Retry 1 failed")
        expect(page.locator(".cb-pill")).to_have_text("3 ok")
        notebook.run(1)
        notebook.run(2)
        go(page, "Runs")
        runs = page.locator(".cb-runs li")
        expect(runs).to_contain_text(["<script>alert(6)</script> tea"])
        runs.first.get_by_role("checkbox").check()
        press(page, "Delete")
        expect(page.get_by_text("3 answers are lost, with their marks and edits.")).to_be_visible()
        page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
        expect(page.get_by_text("No runs yet.")).to_be_visible()
    assert page.locator("img[src=x], script:text('alert')").count() == 0


def test_an_error_says_what_to_do(lab, page, tmp_path):
    notebook = lab(cell(tmp_path, "ollama", OLLAMA_HOST="127.0.0.1:9"))
    notebook.run(0)
    fill(page, Subject="tea", How_many="1001000")
    expect(page.get_by_text("Between 1 and 1,000,000.")).to_be_visible()
    fill(page, How_many="2")
    press(page, "Run")
    expect(page.get_by_text("Start the server or correct base_url")).to_be_visible()
    came_to(page, "failed")
    expect(strip(page).get_by_role("button", name="Resume", exact=True)).to_be_hidden()  # no task was begun
    strip(page).get_by_role("button", name="Edit", exact=True).click()
    expect(page.get_by_label("Subject", exact=True)).to_have_value("tea")
    expect(page.locator(".cb-panel").get_by_role("button", name="Run", exact=True)).to_be_enabled()


def test_the_fields_refuse_what_the_settings_refuse(lab, page, tmp_path, picture):
    notebook = lab(cell(tmp_path))
    notebook.run(0)
    page.get_by_text("Speed and limits").click()
    fill(page, Subject="tea", Temperature="2.5")
    expect(page.get_by_text("Between 0 and 2.")).to_be_visible()
    fill(page, Temperature="0.5", Batch_size="")
    expect(page.locator("[data-field=batch_size]").get_by_text("Between 1 and 1,000,000.")).to_be_visible()
    page.get_by_text("Speed and limits").click()
    press(page, "Run")
    expect(page.get_by_label("Batch size", exact=True)).to_be_focused()  # where the error is, also if it was folded
    fill(page, Batch_size="3", Answer_length="4000")
    expect(page.get_by_text("num_predict leaves no room for the prompt")).to_be_visible()
    picture("8-fields")


def test_keyboard_alone_runs_and_reads(lab, page, tmp_path):
    with FakeOllama(hostile_pair) as server:
        notebook = lab(cell(tmp_path, "ollama", OLLAMA_HOST=server.url))
        notebook.run(0)
        page.get_by_label("Subject", exact=True).focus()
        page.keyboard.type("tea")
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("() => document.activeElement.textContent.trim()") == "Run":
                break
        page.keyboard.press("Enter")
        expect(strip(page).get_by_role("button", name="Pause", exact=True)).to_be_focused()  # the focus is not lost
        expect(page.get_by_role("progressbar", name="Progress")).to_have_attribute("max", "6")
        came_to(page, "completed")
        expect(rows(page)).to_have_count(6)
        expect(page.locator("body")).not_to_be_focused()
        grid = page.get_by_role("grid", name="Answers")
        for _ in range(30):
            if grid.evaluate("grid => grid === document.activeElement"):
                break
            page.keyboard.press("Tab")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        page.keyboard.press(" ")
        expect(rows(page).nth(1)).to_have_attribute("aria-selected", "true")
        page.keyboard.press("Enter")
        expect(page.locator(".cb-detail:visible h3")).to_have_text("Item 1")
        page.keyboard.press("a")  # marks it, and goes on
        expect(page.locator(".cb-detail:visible h3")).to_have_text("Item 2")
        expect(rows(page).nth(1)).to_have_attribute("data-mark", "accepted")
        page.keyboard.press("u")
        expect(rows(page).nth(1)).to_have_attribute("data-mark", "")
        page.keyboard.press("Escape")
        expect(page.locator(".cb-detail:visible")).to_have_count(0)
        page.keyboard.press("ArrowDown")
        page.keyboard.press("a")
        expect(page.locator(".cb-row[data-mark=accepted]")).to_have_count(1)
        tabbed_to(page, "[role=tab][aria-selected=true]", back=True)
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("tab", name="Export")).to_be_focused()
        expect(page.get_by_text("1 of 6 answers")).to_be_visible()
        tabbed_to(page, ".cb-export .cb-primary")
        page.keyboard.press("Enter")
        expect(page.get_by_text("Saved: ")).to_be_visible()
        assert list((tmp_path / "datasets").glob("tea-*/train.jsonl"))


def tabbed_to(page: Page, place: str, back: bool = False) -> None:
    """Press Tab until the focus is where it should be."""
    for _ in range(60):
        if page.evaluate("place => document.activeElement.matches(place)", place):
            return
        page.keyboard.press("Shift+Tab" if back else "Tab")
    raise AssertionError(f"no Tab leads to {place}")


def test_a_click_runs_what_is_typed_and_an_opened_task_has_its_own_numbers(lab, page, tmp_path, picture):
    with FakeOllama(plain_pair, seconds=0.8) as server:
        notebook = lab(cell(tmp_path, "ollama", OLLAMA_HOST=server.url))
        notebook.run(0)
        fill(page, Subject="coffee", How_many="1")
        press(page, "Run")
        came_to(page, "completed")
        go(page, "Generate")
        fill(page, Subject="tea", How_many="9")
        page.get_by_label("How many", exact=True).fill("8")
        press(page, "Run")  # at once, before the kernel was told of it
        expect(strip(page)).to_contain_text("Q&A · tea")
        expect(strip(page)).to_contain_text(" of 8")
        expect(strip(page)).to_contain_text("/s")
        expect(strip(page)).to_contain_text("left")
        go(page, "Runs")
        running = page.locator(".cb-runs li", has_text="tea")
        press(page, "Refresh")
        running.get_by_role("checkbox").check()
        expect(page.locator(".cb-runlist").get_by_role("button", name="Delete", exact=True)).to_be_disabled()
        page.locator(".cb-runs li", has_text="coffee").get_by_role("button", name="Open").click()
        expect(strip(page)).to_contain_text("Q&A · coffee")
        expect(strip(page)).to_contain_text("1 of 1")
        expect(rows(page)).to_have_count(1)
        expect(page.locator(".cb-pill")).to_contain_text("Running")
        page.locator(".cb-pill").click()  # back to the run
        expect(strip(page)).to_contain_text("Q&A · tea")
        came_to(page, "completed")
        expect(rows(page)).to_have_count(8)
        go(page, "Generate")
        expect(page.get_by_label("How many", exact=True)).to_have_value("8")


def test_a_dead_kernel_is_said_once_and_the_form_comes_back(lab, page, tmp_path, picture):
    with FakeOllama(plain_pair, seconds=0.8) as server:
        notebook = lab(cell(tmp_path, "ollama", OLLAMA_HOST=server.url))
        notebook.run(0)
        fill(page, Subject="tea", How_many="40")
        press(page, "Run")
        expect(rows(page)).not_to_have_count(0)
        page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
        gone = page.locator(".cb-gone")
        expect(gone).to_contain_text("The kernel is gone. Run the cell again to go on.")
        expect(gone).to_contain_text("of 40 are saved.")
        expect(gone).to_have_count(1)
        expect(page.locator(".cb-panel button:enabled")).to_have_count(0)
        expect(rows(page)).not_to_have_count(0)  # what was shown stays readable
        picture("13-gone")
        notebook.wait_for_kernel()
        notebook.run(0)
        expect(page.locator(".cb-unfinished")).to_contain_text("Not finished: tea")
        expect(page.get_by_label("Subject", exact=True)).to_have_value("tea")
        expect(page.get_by_label("How many", exact=True)).to_have_value("40")


@pytest.mark.parametrize("is_state_kept", [False, True])
def test_a_notebook_reopened_without_its_kernel_shows_what_was_there(is_state_kept, lab, page, tmp_path):
    with FakeOllama(plain_pair) as server:
        notebook = lab(cell(tmp_path, "ollama", OLLAMA_HOST=server.url))
        if is_state_kept:
            page.evaluate("() => jupyterapp.commands.execute('@jupyter-widgets/jupyterlab-manager:saveWidgetState')")
        notebook.run(0)
        fill(page, Subject="tea", How_many="3")
        press(page, "Run")
        came_to(page, "completed")
        expect(page.locator(".cerebro-left")).to_contain_text("3 of 3 ok")
        expect(page.locator(".cerebro-left")).to_be_hidden()
        expect(page.locator(".cb-pill")).to_have_text("3 ok")
        notebook.reopen()
        expect(
            page.get_by_text("The kernel is gone. Run the cell again to go on.").locator("visible=true")
        ).to_have_count(1)
        expect(page.get_by_text("model not found").locator("visible=true")).to_have_count(0)
        if is_state_kept:
            expect(strip(page)).to_contain_text("3 of 3")
            expect(page.locator(".cb-panel button:enabled")).to_have_count(0)
        else:
            expect(page.locator(".cerebro-left tbody tr")).to_have_count(3)
            expect(page.locator(".cerebro-left table")).to_be_visible()
        notebook.run(0)
        expect(page.locator(".cb-pill")).to_have_text("Ready")
        expect(page.locator(".cerebro-left")).to_be_hidden()


def test_a_prompt_of_one_s_own_goes_over_lines_of_one_s_own(lab, page, tmp_path):
    with FakeOllama() as server:
        notebook = lab(cell(tmp_path, "ollama", OLLAMA_HOST=server.url))
        notebook.run(0)
        page.locator(".cb-segment", has_text="an answer a line").click()
        expect(page.get_by_label("Subject", exact=True)).to_be_hidden()
        fill(page, Prompt="Name {item}.", Lines="a headline\n\na slogan")
        expect(page.get_by_text("2 calls in batches of 3")).to_be_visible()
        press(page, "Run")
        expect(rows(page)).to_have_count(2)
        expect(rows(page).nth(1)).to_contain_text("echo Name a slogan.")
        go(page, "Generate")
        page.locator(".cb-segment", has_text="Examples").click()
        expect(page.get_by_label("Subject", exact=True)).to_be_visible()


def from_a_text(payload):
    """Answer a request for a note with a note, the steps of a pair as a model that reads."""
    asked = payload["messages"][-1]["content"]
    if "research notes" in payload["messages"][0]["content"]:
        claim = {"claim": "Green tea wants warm water.", "summary": "It says how hot the water for green tea is to be."}
        return json.dumps({"quotes": [1, 2], **claim})
    return read(asked)


def test_documents_become_notes_and_pairs(lab, page, picture, tmp_path):
    leaflet = tmp_path / "tea.txt"
    leaflet.write_text(
        "Green tea wants water of eighty degrees from a small pot.\n\n"
        "Water that boils makes the leaves of any tea bitter within a minute."
    )
    with FakeOllama(from_a_text) as server:
        notebook = lab(cell(tmp_path, "ollama", OLLAMA_HOST=server.url))
        notebook.run(0)
        page.locator(".cb-segment", has_text="research notes").click()
        fill(page, Documents=str(leaflet))
        expect(page.get_by_text("How many calls there are, what is read will tell.")).to_be_visible()
        press(page, "Run")
        came_to(page, "completed")
        expect(rows(page)).to_have_count(1)
        expect(rows(page).first).to_contain_text("Green tea wants warm water.")
        picture("12-research")
        go(page, "Generate")
        page.locator(".cb-segment", has_text="Examples").click()
        fill(page, How_many="2")
        press(page, "Run")
        expect(rows(page)).to_have_count(0)
        came_to(page, "completed")
        expect(rows(page)).to_have_count(2)
        expect(rows(page).first).to_contain_text("tea.txt")


LEAFLET = """Green tea wants water of eighty degrees from a small pot.

Black tea wants boiling water and a pot of stoneware.

White tea wants cooler water and a glass of thin walls."""


def read_and_judged(payload):
    """Answer as a model that reads what it is shown, and as a judge that knows good from bad."""
    form = payload.get("format")
    if not isinstance(form, dict) or "score" not in form["properties"]:
        return read(payload["messages"][-1]["content"]) or "It is as it is said there."
    asked = payload["messages"][-1]["content"]
    score = 1 if any(item["example"]["answer"] in asked for item in CALIBRATION if item["side"] == "bad") else 5
    said = {"string": "It was looked up.", "integer": score}
    return json.dumps({name: said[part["type"]] for name, part in form["properties"].items()})


def test_a_judged_data_set_from_a_pdf_with_the_mouse_alone(lab, page, picture, tmp_path):
    leaflet = pdf_of(LEAFLET, tmp_path / "tea.pdf")
    with FakeOllama(read_and_judged) as server:
        notebook = lab(cell(tmp_path, "ollama", OLLAMA_HOST=server.url))
        notebook.run(0)
        page.locator("summary", has_text="Documents").click()
        fill(page, Documents=str(leaflet), How_many="3")
        page.locator("summary", has_text="Gates and judge").click()
        page.get_by_label("Have the answers judged when the run has ended").check()
        press(page, "Run")
        expect(rows(page)).to_have_count(3)
        expect(rows(page).first).to_contain_text("tea.pdf")
        expect(page.locator(".cb-review [data-column=score]")).to_be_visible()
        rows(page).first.click()
        detail = page.get_by_role("region", name="The open answer")
        for _ in range(2):
            detail.get_by_role("button", name="Accept", exact=True).click()
        expect(page.locator(".cb-row[data-mark=accepted]")).to_have_count(2)
        picture("13-judged")
        go(page, "Export")
        expect(page.get_by_text("2 of 3 answers")).to_be_visible()
        page.get_by_role("tabpanel", name="Export").get_by_label("Score at least").select_option("4")
        press(page, "Save")
        expect(page.get_by_text("Saved: ")).to_be_visible()
    assert len(saved_rows(tmp_path)) == 2 and all("tea wants" in row["answer"] for row in saved_rows(tmp_path))


def test_a_judged_data_set_from_a_pdf_with_the_keyboard_alone(lab, page, tmp_path):
    leaflet = pdf_of(LEAFLET, tmp_path / "tea.pdf")
    keys = page.keyboard
    with FakeOllama(read_and_judged) as server:
        notebook = lab(cell(tmp_path, "ollama", OLLAMA_HOST=server.url))
        notebook.run(0)
        page.get_by_label("Subject", exact=True).focus()
        opened(page, "Documents")
        tabbed_to(page, "[data-field=documents] :is(input, textarea)")
        keys.type(str(leaflet))
        opened(page, "Gates and judge")
        tabbed_to(page, "[data-field=judged] input")
        keys.press(" ")
        tabbed_to(page, "[data-field=n] input", back=True)
        keys.press("Control+a")
        keys.type("3")
        keys.press("Enter")  # as in any form
        expect(rows(page)).to_have_count(3)
        expect(page.locator(".cb-review [data-column=score]")).to_be_visible()
        tabbed_to(page, ".cb-review [role=grid]")
        keys.press("Home")
        for _ in range(3):
            keys.press("a")  # marks it, and goes on
        expect(page.locator(".cb-row[data-mark=accepted]")).to_have_count(3)
        tabbed_to(page, "[role=tab][aria-selected=true]", back=True)
        keys.press("ArrowRight")
        expect(page.get_by_text("3 of 3 answers")).to_be_visible()
        tabbed_to(page, ".cb-export .cb-primary")
        keys.press("Enter")
        expect(page.get_by_text("Saved: ")).to_be_visible()
    assert len(saved_rows(tmp_path)) == 3


def opened(page: Page, name: str) -> None:
    """Open a fold of the form by keys."""
    for _ in range(60):
        if page.evaluate(
            "name => document.activeElement.matches('summary') && document.activeElement.textContent === name", name
        ):
            return page.keyboard.press("Enter")
        page.keyboard.press("Tab")
    raise AssertionError(f"no Tab leads to {name}")


def saved_rows(folder: Path) -> list[dict]:
    """Return the rows of the one data set that was saved, those for training and those for the test."""
    return [
        json.loads(line) for file in (folder / "datasets").glob("*/t*.jsonl") for line in file.read_text().splitlines()
    ]


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_nobody_is_kept_out_in_either_theme_and_in_portuguese(theme, lab, page, picture, tmp_path):
    with FakeOllama(hostile_pair) as server:
        notebook = lab(cell(tmp_path, "ollama", OLLAMA_HOST=server.url, CEREBRO_LOG_LANGUAGE="pt-BR"))
        page.evaluate("(theme) => jupyterapp.commands.execute('apputils:change-theme', { theme })", theme)
        notebook.run(0)
        fill(page, Assunto="chá")
        page.locator("summary", has_text="Documentos").click()
        fill(page, Documentos="falta.pdf")
        press(page, "Executar")
        expect(page.get_by_text("não é possível ler falta.pdf: o arquivo ou a pasta não existe")).to_be_visible()
        go(page, "Gerar")
        fill(page, Documentos="")
        page.get_by_text("Velocidade e limites").click()
        fill(page, Assunto="chá", Temperatura="7")
        expect(page.get_by_text("Entre 0 e 2.")).to_be_visible()
        page.get_by_label("Temperatura").fill("0,7")
        expect(page.get_by_text("no máximo 18 chamadas em lotes de 3")).to_be_visible()  # the kernel has heard it
        press(page, "Executar")
        came_to(page, "completed")
        expect(strip(page).get_by_text("concluída")).to_be_visible()
        expect(rows(page)).to_have_count(6)
        rows(page).first.click()
        expect(page.locator(".cb-detail:visible")).to_be_visible()
        picture(f"9-{theme.split()[-1].lower()}")
        found = Axe().run(page, context=".cb-panel")
    serious = [one for one in found.response["violations"] if one["impact"] in ("serious", "critical")]
    told = [(one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in serious]
    assert told == []


def test_a_run_shows_itself_when_it_is_the_last_thing_in_a_cell(lab, page, tmp_path):
    start = (
        "from cerebro_nb import synthetic_run\nrun = synthetic_run('qa', 'tea', 3, show_progress=False).start()\nrun"
    )
    with FakeOllama(hostile_pair) as server:
        notebook = lab(cell(tmp_path, "ollama", OLLAMA_HOST=server.url), start)
        notebook.run(0)
        expect(page.locator(".cb-pill")).to_be_visible()
        notebook.run(1)
        alone = page.locator(".cb-panel").nth(1)
        expect(alone.locator(".cb-strip .cb-state")).to_have_attribute("data-state", "completed")
        expect(alone.locator(".cb-first tbody tr")).to_have_count(3)


CUT = """() => {
    const panel = document.querySelector(".cb-panel"), { left, right } = panel.getBoundingClientRect();
    const isOpen = (one) => getComputedStyle(one).overflowX === "visible";
    const scrolls = (one) => one !== panel && (!isOpen(one) || scrolls(one.parentElement));
    const isWide = (one) => one.getBoundingClientRect().width > 1;
    const isSeen = (one) => one.checkVisibility() && isWide(one) && !scrolls(one.parentElement);
    const isOutside = (box) => box.right > right + 1 || box.left < left - 1;
    const isCut = (one) => one.matches("button, label") && one.clientWidth && one.scrollWidth > one.clientWidth + 1;
    return [...panel.querySelectorAll("*")]
        .filter((one) => isSeen(one) && (isOutside(one.getBoundingClientRect()) || isCut(one)))
        .map((one) => `${one.tagName} ${one.className} ${one.textContent.slice(0, 40)}`);
}"""
MOVING = """() => [...document.querySelectorAll(".cb-panel, .cb-panel *")]
    .map((one) => [one.className, getComputedStyle(one)])
    .filter(([, looks]) => looks.transitionDuration !== "0s" || looks.animationName !== "none")
    .map(([name]) => name)"""


@pytest.mark.parametrize("width", [600, 350])  # a page of 700 at 200 %
def test_nothing_is_cut_where_it_is_narrow_nor_moves_where_it_should_not(width, lab, page, picture, tmp_path):
    page.emulate_media(reduced_motion="reduce")
    with FakeOllama(plain_pair) as server:
        notebook = lab(cell(tmp_path, "ollama", OLLAMA_HOST=server.url, CEREBRO_LOG_LANGUAGE="pt-BR"))
        page.set_viewport_size({"width": width, "height": 1000})
        notebook.run(0)
        fill(page, Assunto="chá verde em copos pequenos", Quantos="3")
        for fold in page.locator(".cb-fold > summary").all():
            fold.click()
        expect(page.locator(".cb-fold:not([open]):visible")).to_have_count(0)
        assert page.evaluate(CUT) == []
        press(page, "Executar")
        came_to(page, "completed")
        rows(page).first.click()
        expect(page.locator(".cb-detail:visible")).to_be_visible()
        picture(f"15-narrow-{width}")
        for name in ("Revisar", "Exportar", "Execuções"):
            go(page, name)
            assert page.evaluate(CUT) == [], name
        assert page.evaluate(MOVING) == []


MANY = """
from cerebro_nb import Ledger, ResultsTable, TaskView
ledger = Ledger("sqlite:///{folder}/many.db")
task_id = ledger.create_task("qa_generation", "many", 50_000)
from cerebro_nb.tasks.writing import FinishedItem
for first in range(0, 50_000, 1000):
    items = [({{"angle": str(n)}}, str(n)) for n in range(first, first + 1000)]
    ledger.add_items(task_id, first, items)
    for n, item in enumerate(items, first):
        made = {{"question": f"Question {{n}}?", "answer": "An answer of some length. " * 12}}
        last = ledger.finish_item(FinishedItem(task_id, n, item, "ok", made, None, [], 1.0, 2.0))
last.result()
"""


def test_fifty_thousand_rows_stay_usable(lab, page, tmp_path, picture):
    notebook = lab(MANY.format(folder=tmp_path), "ResultsTable(TaskView(ledger, task_id))")
    notebook.run(0)
    notebook.run(1)
    began = time.monotonic()
    count = page.locator(".cb-review .cb-count")
    expect(count).to_have_text("50,000 of 50,000")
    print(f"50,000 rows shown after {time.monotonic() - began:.1f} s")
    page.locator(".cb-scroll").evaluate("grid => { grid.scrollTop = grid.scrollHeight }")
    expect(page.locator(".cb-row", has_text="Question 49999?")).to_be_visible()
    assert rows(page).count() < 60
    page.get_by_label("Search", exact=True).fill("question 4242")
    expect(count).to_have_text("11 of 50,000")
    page.get_by_role("columnheader", name="question").get_by_role("button").click()
    page.get_by_role("columnheader", name="question").get_by_role("button").click()
    expect(rows(page).first).to_contain_text("Question 42429?")
    picture("10-many")


def test_voila_shows_the_panel_and_runs_it(page, picture, tmp_path):
    def words(port, token):
        options = [f"--port={port}", "--no-browser", "--Voila.ip=127.0.0.1", "--template=lab"]
        return [sys.executable, "-m", "voila", "panel.ipynb", *options]

    expect.set_options(timeout=WAIT_MS)
    server = Server(tmp_path / "voila", words, {"panel.ipynb": cell(tmp_path)})
    try:
        page.goto(server.url)
        fill(page, Subject="tea", How_many="2")
        press(page, "Run")
        came_to(page, "completed")
        expect(rows(page)).to_have_count(2)
        picture("11-voila")
        # Voila's own page asks a network for its icons; the panel asks for nothing.
        page.asked_elsewhere = [url for url in page.asked_elsewhere if "fontawesome" not in url]
    finally:
        server.stop()


def test_notebook_7_shows_the_panel_and_runs_it(jupyter, page, tmp_path):
    expect.set_options(timeout=WAIT_MS)
    with FakeOllama(hostile_pair) as server:
        jupyter.write("seven.ipynb", cell(tmp_path, "ollama", OLLAMA_HOST=server.url))
        page.goto(f"{jupyter.url}/notebooks/seven.ipynb?token={jupyter.token}")
        notebook = Lab(page, jupyter, "seven.ipynb")
        notebook.wait_for_kernel()  # the page says "idle" before it has one
        notebook.run(0)
        fill(page, Subject="tea", How_many="3")
        press(page, "Run")
        came_to(page, "completed")
        expect(rows(page)).to_have_count(3)


MARIMO = """
import marimo
app = marimo.App()


@app.cell
def _():
    {cell}
    return (shown,)


if __name__ == "__main__":
    app.run()
"""


def test_marimo_shows_the_panel_and_runs_it(page, picture, tmp_path):
    pytest.importorskip("marimo")
    expect.set_options(timeout=WAIT_MS)
    with FakeOllama(plain_pair) as fake:
        text = cell(tmp_path, "ollama", OLLAMA_HOST=fake.url).strip().replace("\n", "\n    ")

        def words(port, token):
            place = tmp_path / "marimo" / "notebooks" / "panel.py"
            place.write_text(MARIMO.format(cell=text))
            options = ["--headless", "--no-token", "--host=127.0.0.1", f"--port={port}"]
            return [sys.executable, "-m", "marimo", "run", str(place), *options]

        server = Server(tmp_path / "marimo", words)
        try:
            page.goto(server.url)
            fill(page, Subject="tea", How_many="2")
            press(page, "Run")
            came_to(page, "completed")
            expect(rows(page)).to_have_count(2)
            rows(page).first.click()
            page.keyboard.press("a")
            expect(page.locator(".cb-row[data-mark=accepted]")).to_have_count(1)
            picture("14-marimo")
            # marimo's own page asks a network for its fonts and for its news; the panel asks for nothing.
            page.asked_elsewhere = []
        finally:
            server.stop()
