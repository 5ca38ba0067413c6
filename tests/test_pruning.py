"""The ledger's size, and older tasks deleted: what goes, what stays, what is given back."""

import io
import time

import pytest

from cerebro_nb.cli.main import main
from cerebro_nb.launching.pruning import ledger_size, prunable, prune
from cerebro_nb.tasks.schema import TASKS
from cerebro_nb.tasks.writing import FinishedItem


def made(ledger, items=1, days=60, size=10, kind="qa", **manifest):
    """Return a task of answered items in which nothing has changed for some days."""
    task_id = ledger.create_task(kind, "tea", items, manifest=manifest)
    ledger.add_items(task_id, 0, [({}, f"{task_id}{place}") for place in range(items)])
    then = time.time() - days * 86_400
    for place in range(items):
        item = FinishedItem(task_id, place, ({}, ""), "ok", "x" * size, None, [{"step": "call"}], then, then)
        done = ledger.finish_item(item)
    done.result()
    ledger.database.write(TASKS.update().where(TASKS.c.id == task_id).values(updated_at=then))
    return task_id


def ids(found):
    return {task.id for task in found.tasks}


def left(ledger):
    return {task.id for task in ledger.tasks()}


def test_only_what_is_old_goes_with_all_that_is_kept_of_it(ledger):
    old, new = made(ledger), made(ledger, days=3)
    assert ids(prunable(ledger, 30)) == {old} and ids(prunable(ledger, 90)) == set()
    assert prune(ledger, prunable(ledger, 30).tasks) == 1
    assert left(ledger) == {new} and not ledger.items(old) and not ledger.attempts(old) and ledger.items(new)


def test_one_in_work_stays_even_if_it_was_taken_after_the_list_was_made(ledger):
    held, free = made(ledger), made(ledger)
    found = prunable(ledger, 30)
    ledger.claim(held)
    assert ids(prunable(ledger, 30)) == ids(found) - {held}
    assert prune(ledger, found.tasks) == 1 and left(ledger) == {held} and free not in left(ledger)


def test_accepted_ones_and_what_is_tied_to_them_stay_and_it_is_said_why(ledger):
    accepted = made(ledger)
    judgement = made(ledger, kind="judgement", of_task=accepted)
    calibration = made(ledger, kind="calibration")
    of_both = made(ledger, kind="judgement", of_task=accepted, calibration={"task_id": calibration})
    ledger.mark_items(accepted, [0], "accepted")
    other = made(ledger)
    of_other = made(ledger, kind="judgement", of_task=other)
    found = prunable(ledger, 30)
    assert ids(found) == {other, of_other}
    assert found.kept == {accepted: "accepted", **dict.fromkeys((judgement, calibration, of_both), "named")}


def test_what_a_newer_judgement_rests_on_stays(ledger):
    judged = made(ledger)
    made(ledger, days=1, kind="judgement", of_task=judged)
    assert prunable(ledger, 30).kept == {judged: "named"}


def test_the_room_is_given_back(tmp_path, ledger):
    kept, before = made(ledger, days=1), ledger_size(ledger)
    made(ledger, items=200, size=20_000)
    full = ledger_size(ledger)
    assert full.items == 201 and full.size_bytes > before.size_bytes
    prune(ledger, prunable(ledger, 30).tasks)
    after = ledger_size(ledger)
    assert after.items == 1 and left(ledger) == {kept}
    if ledger.database.connections.file is not None:
        assert after.size_bytes < full.size_bytes / 10


@pytest.fixture
def settled(ledger_url, monkeypatch):
    """Return the ledger that the command line uses."""
    from cerebro_nb import Ledger

    monkeypatch.setenv("CEREBRO_DATABASE_URL", ledger_url)
    with Ledger(ledger_url) as opened:
        yield opened


@pytest.mark.parametrize(("said", "goes"), [("y", True), ("n", False), ("", False)])
def test_it_is_asked_before_anything_is_deleted(settled, monkeypatch, capsys, said, goes):
    old = made(settled, items=3)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{said}\n"))
    assert main(["tasks", "--prune"]) == (0 if goes else 1)
    assert (old in left(settled)) is not goes
    assert ("Deleted 1 tasks" if goes else "Nothing was deleted") in capsys.readouterr().out


def test_the_list_ends_with_the_size_in_the_reader_s_language(settled, monkeypatch, capsys):
    made(settled, items=3)
    main(["tasks"])
    size, gain = capsys.readouterr().out.splitlines()[-2:]
    assert "3 items" in size and "1 tasks unchanged for 30 days" in gain
    monkeypatch.setenv("CEREBRO_LOG_LANGUAGE", "pt-BR")
    main(["tasks"])
    assert "3 itens" in capsys.readouterr().out.splitlines()[-2]
    main(["tasks", "--prune", "20", "--yes"])
    assert "apagadas" in capsys.readouterr().out and not left(settled)
