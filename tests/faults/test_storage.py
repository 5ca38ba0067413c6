"""The ledger's disk is full, locked, read-only, damaged; its server restarts; the clock is set back."""

import asyncio
import gc
import json
import os
import shutil
import sqlite3
import subprocess
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sql

from cerebro_nb import How, Ledger, Plan, Run, Where, errors, get_ledger, process_in_batches, resume
from cerebro_nb.files import private_folder


class Waits(threading.Event):
    """Is set when the ledger says that it waits."""

    def __init__(self, monkeypatch):
        super().__init__()
        import logging

        class Handler(logging.Handler):
            def emit(handler, record):
                if "it is tried again" in record.getMessage():
                    self.set()

        logger = logging.getLogger("cerebro_nb.tasks.group_commit")
        handler = Handler()
        logger.addHandler(handler)
        self.end = lambda: logger.removeHandler(handler)


@pytest.fixture
def waits(monkeypatch):
    event = Waits(monkeypatch)
    yield event
    event.end()


@pytest.fixture
def small_disk(tmp_path):
    """Return a folder with room for a megabyte, and what gives it more."""
    if os.getuid() != 0 or not shutil.which("mount"):
        pytest.skip("a small disk is mounted by root alone")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    yield folder, lambda: subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
    subprocess.run(["umount", "--lazy", folder], check=True)


def large(n):
    """Return an answer of fifty kilobytes."""
    return f"{n} " + "x" * 50_000


def test_a_full_disk_is_waited_for_and_nothing_is_lost(small_disk, waits, quick):
    folder, give_room = small_disk
    ledger = Ledger(f"sqlite:///{folder}/full.db", outage_s=60)
    run = Run(
        Plan(range(60), lambda item: answer(large(item.value))), How(quick), Where(ledger, show_progress=False)
    ).start()
    assert waits.wait(60)
    assert ledger.task(run.task_id).ok_items < 60  # it can still be read
    give_room()
    run.wait()
    assert run.results == [large(n) for n in range(60)] and run.task.status == "completed"
    ledger.close()


async def answer(value):
    return value


def test_a_disk_that_stays_full_ends_the_run_and_its_answers_are_put_aside(small_disk, quick, monkeypatch, tmp_path):
    folder, give_room = small_disk
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ledger = Ledger(f"sqlite:///{folder}/full.db", outage_s=0)
    worked = []

    def work(n):
        worked.append(n)
        return large(n)

    with pytest.raises(errors.LedgerError, match="full") as told:
        process_in_batches(range(60), work, quick, ledger=ledger, show_progress=False)
    (aside,) = tmp_path.glob("cerebro-unsaved-*.jsonl")
    assert str(aside) in told.value.hint and aside.stat().st_mode & 0o077 == 0
    put_aside = {row["position"]: row["output"] for row in map(json.loads, aside.read_text().splitlines())}
    give_room()
    (task,) = ledger.tasks()
    kept = {item["position"]: item["output"] for item in ledger.items(task.id, "ok")}
    # The last one may have been stopped before its answer was there.
    assert {n: large(n) for n in worked[:-1]}.items() <= {**kept, **put_aside}.items()
    assert not kept.keys() & put_aside.keys()
    again = resume(task.id, work, ledger=ledger, show_progress=False)
    assert again.results == [large(n) for n in range(60)]
    ledger.close()


def test_a_locked_ledger_is_waited_for(tmp_path, waits, quick):
    ledger = Ledger(f"sqlite:///{tmp_path}/locked.db?timeout=0.05", outage_s=60)
    other = sqlite3.connect(tmp_path / "locked.db", isolation_level=None, check_same_thread=False)
    run = Run(Plan(range(20), lambda item: answer(item.value)), How(quick), Where(ledger, show_progress=False))
    run.on_progress(lambda now: now.event == "started" and other.execute("BEGIN IMMEDIATE"))
    run.start()
    assert waits.wait(60)
    other.execute("ROLLBACK")
    run.wait()
    assert run.results == list(range(20))
    other.close()
    ledger.close()


@pytest.mark.filterwarnings("ignore:<psycopg.Connection:ResourceWarning")  # of those the server closed
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_database_server_that_drops_its_connections_gets_every_answer_once(postgres, quick):
    ledger = Ledger(postgres.new_database(), outage_s=60)
    killer = Ledger(ledger.database.url)
    others = sql.text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    dropped = []

    def drop(now):
        if now.event == "batch_finished" and now.batch % 5 == 0:
            dropped.extend(killer.database.read(others))

    async def work(n):
        await asyncio.sleep(0.03)  # so that there is something to write between two drops
        return n

    items = range(60)
    run = process_in_batches(items, work, quick, ledger=ledger, show_progress=False, on_progress=drop)
    assert run.results == list(items) and len(dropped) >= 3
    assert (run.task.processed_items, len(ledger.attempts(run.task_id))) == (60, 60)
    killer.close()
    ledger.close()
    gc.collect()


def test_a_read_only_ledger_is_read_and_refuses_a_run_before_it_begins(tmp_path, quick):
    ledger = Ledger(f"sqlite:///{tmp_path}/kept.db")
    task_id = process_in_batches(["a"], lambda n: n, quick, ledger=ledger, show_progress=False).task_id
    ledger.close()
    reading = Ledger(f"sqlite:///file:{tmp_path}/kept.db?mode=ro&uri=true")
    assert reading.items(task_id)[0]["output"] == "a"
    worked = []
    with pytest.raises(errors.LedgerError, match="readonly") as refused:
        process_in_batches(["b"], worked.append, quick, ledger=reading, show_progress=False)
    assert worked == [] and "writing" in refused.value.hint
    reading.close()


def test_a_damaged_ledger_is_said_and_left_as_it_is(tmp_path, quick):
    file = tmp_path / "damaged.db"
    ledger = Ledger(f"sqlite:///{file}")
    process_in_batches(range(50), lambda n: large(n), quick, ledger=ledger, show_progress=False)
    ledger.close()
    whole = file.read_bytes()
    broken = whole[: 4096 * 2] + b"\xff" * (len(whole) - 4096 * 2)
    file.write_bytes(broken)
    with pytest.raises(errors.LedgerError, match="malformed") as told:
        damaged = Ledger(f"sqlite:///{file}")
        damaged.tasks()
    assert "recover" in told.value.hint
    assert file.read_bytes() == broken


def test_a_clock_that_is_set_back_harms_nothing(tmp_path, quick, monkeypatch, ledger):
    real, back = time.time, threading.Event()
    monkeypatch.setattr(time, "time", lambda: real() - (86_400 if back.is_set() else 0))

    def work(n):
        if n == 3:
            back.set()
        return n

    run = process_in_batches(range(6), work, quick, ledger=ledger, show_progress=False)
    assert run.results == list(range(6)) and (run.df["seconds"] >= 0).all()
    task_id = ledger.create_task("batch", "", 1, items=[(1, "k")])
    ledger.update_task(task_id, lease_holder="elsewhere:1:abc", lease_until=ledger.database.now() + 86_400)
    ledger.claim(task_id)  # nobody takes a lease for a day: it was written before the clock was set back


def test_texts_of_every_kind_go_through_a_run(quick, ledger):
    texts = ["a\x00b", "\ud800 alone", "x" * 5_000_000, "\u202eright to left", "", "🙂" * 1000]
    run = process_in_batches(texts, lambda text: {"text": text}, quick, ledger=ledger, show_progress=False)
    assert [output["text"] for output in run.results] == texts
    assert [item["input"] for item in ledger.items(run.task_id)] == texts
    assert Path(ledger.database.shown_url)  # it is said without a password


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_ledger_that_is_taken_away_in_mid_run_ends_the_run_and_its_answers_are_put_aside(
    tmp_path, quick, monkeypatch, how
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    file = tmp_path / "taken.db"
    ledger = Ledger(f"sqlite:///{file}", outage_s=60)
    another = tmp_path / "another.db"
    Ledger(f"sqlite:///{another}").close()

    async def work(n):
        if n == 30:
            os.rename(file, tmp_path / "elsewhere.db")
            if how == "replaced":
                os.rename(another, file)
        await asyncio.sleep(0.01)
        return n

    with pytest.raises(errors.LedgerError, match="no longer there" if how == "removed" else "was replaced") as told:
        process_in_batches(range(600), work, quick, ledger=ledger, show_progress=False)
    (aside,) = tmp_path.glob("cerebro-unsaved-*.jsonl")
    assert str(aside) in told.value.hint
    put_aside = [row["position"] for row in map(json.loads, aside.read_text().splitlines())]
    assert put_aside and max(put_aside) < 500
    with pytest.raises(errors.LedgerError):
        ledger.create_task("batch", "", 1)
    ledger.close()
    if how == "removed":  # beside a file with pages of its own SQLite takes the log that is still there for its own
        fresh = Ledger(f"sqlite:///{file}")
        assert fresh.tasks() == []
        fresh.close()


def test_a_ledger_that_is_closed_in_mid_run_ends_the_run_and_its_answers_are_put_aside(tmp_path, quick, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ledger = Ledger(f"sqlite:///{tmp_path}/closed.db")
    worked = []

    async def work(n):
        if n == 30:
            await asyncio.to_thread(ledger.close)
        worked.append(n)
        return n

    with pytest.raises(errors.LedgerError, match="was closed") as failure:
        process_in_batches(range(600), work, quick, ledger=ledger, show_progress=False)
    (aside,) = tmp_path.glob("cerebro-unsaved-*.jsonl")
    assert str(aside) in failure.value.hint and len(worked) < 600
    put_aside = {row["position"] for row in map(json.loads, aside.read_text().splitlines())}
    with Ledger(ledger.database.url) as fresh:
        (task,) = fresh.tasks()
        kept = {item["position"] for item in fresh.items(task.id, "ok")}
        assert put_aside and kept and not put_aside & kept
        assert set(worked[:-1]) <= put_aside | kept  # the last one may have been stopped
        assert resume(task.id, work, ledger=fresh, show_progress=False).results == list(range(600))


def test_the_shared_ledger_of_a_file_that_is_gone_is_a_new_one(tmp_path, quick):
    url = f"sqlite:///{tmp_path}/shared.db"
    process_in_batches([1], answer, quick, ledger=get_ledger(url), show_progress=False)
    first = get_ledger(url)
    assert get_ledger(url) is first
    first.close()
    for file in tmp_path.glob("shared.db*"):
        file.unlink()
    again = get_ledger(url)
    assert again.tasks() == []
    assert process_in_batches([1], answer, quick, ledger=again, show_progress=False).results == [1]
    again.close()


@pytest.mark.parametrize("url", ["sqlite:///runs.db", "sqlite:///file:runs.db?uri=true"])
def test_a_ledger_stays_where_it_is_when_the_process_changes_its_folder(tmp_path, monkeypatch, quick, url):
    (tmp_path / "other").mkdir()
    ledger = Ledger(url)
    process_in_batches([1], answer, quick, ledger=ledger, show_progress=False)
    monkeypatch.chdir(tmp_path / "other")
    ledger.database.connections.engine.dispose()  # what is opened next is opened from the other folder
    assert process_in_batches([1, 2], answer, quick, ledger=ledger, show_progress=False).results == [1, 2]
    assert sorted(task.ok_items for task in ledger.tasks()) == [1, 2]
    assert list((tmp_path / "other").iterdir()) == []
    ledger.close()


@pytest.mark.parametrize("named", ["data folder", "url"])
def test_the_shared_ledger_of_a_relative_place_stays_one(tmp_path, monkeypatch, named):
    monkeypatch.setenv("CEREBRO_DATA_DIR", "data")
    url = None if named == "data folder" else "sqlite:///data/cerebro.db"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    first = get_ledger(url)
    assert get_ledger(f"sqlite:///{first.database.connections.file.path}") is first
    monkeypatch.chdir(tmp_path / "other")
    assert get_ledger(url) is first
    assert list((tmp_path / "other").iterdir()) == []
    first.close()


def test_the_shared_ledger_that_is_gone_leaves_no_thread(tmp_path):
    url = f"sqlite:///{tmp_path}/shared.db"
    first = get_ledger(url)
    writers = {thread for thread in threading.enumerate() if thread.name == "cerebro-ledger"}
    first.create_task("batch", "", 1)
    (writer,) = {thread for thread in threading.enumerate() if thread.name == "cerebro-ledger"} - writers
    for file in tmp_path.glob("shared.db*"):
        file.unlink()
    get_ledger(url).close()
    assert not writer.is_alive()


def test_a_drive_that_is_not_there_is_said():
    class Drive(type(Path())):
        parent = property(lambda self: self)

        def is_dir(self):
            return False

    with pytest.raises(FileNotFoundError):
        private_folder(Drive("Z:/nowhere"))


def test_a_ledger_is_its_users_alone_and_a_looser_one_is_left_as_it_is(tmp_path):
    before = os.umask(0o022)
    try:
        (tmp_path / "there").mkdir()
        new, old = tmp_path / "there" / "made" / "below" / "new.db", tmp_path / "there" / "old.db"
        old.touch(0o644)
        for file in (new, old):
            ledger = Ledger(f"sqlite:///{file}")
            ledger.create_task("batch", "", 1)
            modes = {one.name: one.stat().st_mode & 0o777 for one in file.parent.iterdir() if one.is_file()}
            assert set(modes.values()) == {0o600 if file == new else 0o644} and len(modes) == 3, modes
            ledger.close()
        assert {folder.stat().st_mode & 0o777 for folder in (new.parent, new.parent.parent)} == {0o700}
        assert (tmp_path / "there").stat().st_mode & 0o777 == 0o755
    finally:
        os.umask(before)
