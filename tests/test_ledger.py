"""The ledger: any text, several threads, trouble with the file."""

import socket
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sql
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cerebro_nb import (
    Ledger,
    complete_task,
    create_progress_task,
    errors,
    items_df,
    tasks_df,
    update_task_progress,
)
from cerebro_nb.concurrency.control import Served
from cerebro_nb.sharing.sharing import Vigil
from cerebro_nb.tasks.database import OPEN_DATABASES
from cerebro_nb.tasks.engines import for_writing, open_engine
from cerebro_nb.tasks.leases import machine, this_holder
from cerebro_nb.tasks.ledger import SHARED_LEDGERS, get_ledger
from cerebro_nb.tasks.schema import SCHEMA_VERSION, SERVERS, VECTORS, WORKERS, prepare_schema
from cerebro_nb.tasks.writing import FinishedItem
from cerebro_nb.vectors.collection import Collection

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(), max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(subject=st.text(st.characters(), max_size=50), given_value=values, output=values)
def test_any_value_comes_back_as_it_was(ledger, subject, given_value, output):
    task_id = ledger.create_task("qa", subject, 1, metadata={"x": output})
    ledger.add_items(task_id, 0, [(given_value, "key")])
    ledger.finish_item(FinishedItem(task_id, 0, (given_value, "key"), "ok", output, None, [], 1.0, 2.0)).result()
    (item,) = ledger.items(task_id)
    assert ledger.task(task_id).subject == subject and item["input"] == given_value and item["output"] == output


def test_a_huge_text_is_kept_whole(ledger):
    huge = "x" * 20_000_000
    task_id = ledger.create_task("qa", "s", 1)
    ledger.add_items(task_id, 0, [("i", "key")])
    ledger.finish_item(FinishedItem(task_id, 0, ("i", "key"), "ok", huge, None, [], 1.0, 2.0)).result()
    assert ledger.items(task_id)[0]["output"] == huge


def test_what_nobody_waits_for_any_longer_is_written_without_a_complaint(ledger, caplog):
    task_id = ledger.create_task("qa", "s", 1, items=[("i", "key")])
    written = ledger.finish_item(FinishedItem(task_id, 0, ("i", "key"), "ok", "a", None, [], 1.0, 2.0))
    assert not written.cancel()
    ledger.database.flush()
    written.result()
    assert ledger.items(task_id)[0]["output"] == "a" and not caplog.records


def test_an_item_with_thousands_of_attempts_is_written_whole(ledger):
    task_id = ledger.create_task("qa", "s", 1)
    ledger.add_items(task_id, 0, [("i", "key")])
    attempts = [{"step": "call", "error": {"number": number}} for number in range(9_000)]
    ledger.finish_item(FinishedItem(task_id, 0, ("i", "key"), "ok", "a", None, attempts, 1.0, 2.0)).result()
    kept = ledger.attempts(task_id, 0)
    assert [one["error"]["number"] for one in kept] == list(range(9_000))
    assert {one["reply"] for one in kept} == {None}


def test_many_threads_write_and_every_row_counts_once(ledger):
    task_id = ledger.create_task("qa", "s", 1000)
    ledger.add_items(task_id, 0, [(n, str(n)) for n in range(1000)])

    def finish(n):
        status = "failed" if n % 10 == 0 else "ok"
        return ledger.finish_item(FinishedItem(task_id, n, (n, str(n)), status, n, None, [], 1.0, 2.0))

    with ThreadPoolExecutor(8) as threads:
        for done in list(threads.map(finish, range(1000))):
            done.result()
    task = ledger.task(task_id)
    assert (task.processed_items, task.ok_items, task.failed_items) == (1000, 900, 100)
    assert [item["output"] for item in ledger.items(task_id)] == list(range(1000))
    assert [item["position"] for item in ledger.items(task_id, "failed", first=500, limit=2)] == [500, 510]


def test_one_bad_row_does_not_take_its_neighbours_along(ledger):
    task_id = ledger.create_task("qa", "s", 3)
    ledger.add_items(task_id, 0, list(enumerate("abc")))
    steps = ["call", None, "call"]  # an attempt has a step
    posted = [
        ledger.finish_item(FinishedItem(task_id, n, (n, "abc"[n]), "ok", n, None, [{"step": step}], 1.0, 2.0))
        for n, step in enumerate(steps)
    ]
    posted[0].result(), posted[2].result()
    with pytest.raises(errors.LedgerError):
        posted[1].result()
    with pytest.raises(errors.LedgerError, match="cannot be written"):
        ledger.finish_item(FinishedItem(task_id, 1, (1, "b"), "ok", {1, 2}, None, [], 1.0, 2.0))
    assert [item["status"] for item in ledger.items(task_id)] == ["ok", "pending", "ok"]


def test_who_fails_when_told_does_not_stop_the_writer(ledger, caplog):
    task_id = ledger.create_task("qa", "s", 2)
    ledger.add_items(task_id, 0, [("a", "k1"), ("b", "k2")])

    def told(ended, result, error):
        raise RuntimeError("not listening")

    ledger.post_item(FinishedItem(task_id, 0, ("a", "k1"), "ok", 1, None, [], 1.0, 2.0), told)
    ledger.finish_item(FinishedItem(task_id, 1, ("b", "k2"), "ok", 2, None, [], 1.0, 2.0)).result()
    assert [item["output"] for item in ledger.items(task_id)] == [1, 2]
    assert "not listening" in caplog.text


def test_the_design_note_s_functions_on_the_default_ledger():
    task_id = create_progress_task("qa_generation", "copywriting", 10)
    update_task_progress(task_id, 3, {"batch": 1})
    update_task_progress(task_id, 9, {"model": "tiny"})
    row = tasks_df().iloc[0]
    assert (row["status"], row["processed_items"], row["progress_percentage"]) == ("in_progress", 9, 90)
    complete_task(task_id, False, {"why": "stopped"})
    assert tasks_df().iloc[0]["status"] == "failed" and items_df(task_id).empty
    with pytest.raises(errors.InputError, match="between 0 and 10"):
        update_task_progress(task_id, 11)
    with pytest.raises(errors.TaskNotFound, match="no task has the id 'zz'"):
        complete_task("zz")


def test_what_posts_are_waiting_is_written_at_close(tmp_path):
    url = f"sqlite:///{tmp_path / 'close.db'}"
    ledger = Ledger(url)
    task_id = ledger.create_task("qa", "s", 50)
    ledger.add_items(task_id, 0, [(n, str(n)) for n in range(50)])
    for n in range(50):
        ledger.finish_item(FinishedItem(task_id, n, (n, str(n)), "ok", n, None, [], 1.0, 2.0))
    ledger.close()
    again = Ledger(url)
    assert again.task(task_id).ok_items == 50
    again.close()


def test_committed_is_on_disk_and_readers_are_not_held_up(tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path / 'wal.db'}")
    with ledger.database.connections.reading() as connection:
        assert connection.execute(sql.text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(sql.text("PRAGMA synchronous")).scalar() == 2
    reader = sqlite3.connect(tmp_path / "wal.db")
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM tasks").fetchall()
    assert ledger.create_task("qa", "while another reads", 1)
    reader.close()
    ledger.close()


def test_a_ledger_from_the_future_is_refused_and_not_harmed(tmp_path):
    url = f"sqlite:///{tmp_path / 'future.db'}"
    Ledger(url).close()
    with sqlite3.connect(tmp_path / "future.db") as connection:
        connection.execute("UPDATE cerebro_schema SET version = 99")
    connection.close()
    before = (tmp_path / "future.db").read_bytes()
    with pytest.raises(errors.LedgerError, match="schema version 99"):
        Ledger(url)
    assert (tmp_path / "future.db").read_bytes() == before


@pytest.mark.parametrize("place", ["file/x.db", "garbage.db", "folder.db"])
def test_a_place_that_cannot_hold_a_ledger_is_said(tmp_path, place):
    (tmp_path / "file").write_text("a file, no folder")
    (tmp_path / "garbage.db").write_bytes(b"this is no database, and never was one" * 100)
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(errors.LedgerError) as refused:
        Ledger(f"sqlite:///{tmp_path / place}")
    assert refused.value.hint


def test_a_url_that_is_none_and_a_ledger_in_memory_are_refused():
    for url in ("not a url", "sqlite://", "sqlite:///:memory:"):
        with pytest.raises(errors.LedgerError):
            Ledger(url)


# --- versions

DATA = Path(__file__).parent / "data"
#: What differs from database to database in the files of old ledgers.
OF_SQLITE = {"{vector}": "BLOB", "{value}": "x'0000003f000080be'"}
OF_POSTGRESQL = {"{vector}": "REAL[]", "{value}": "'{0.5,-0.25}'"}


def make_ledger_of(version, url):
    """Make a ledger as the Cerebro of a schema's version made it, with a task that it worked on."""
    engine, file = open_engine(url)
    text = (DATA / f"schema_{version}.sql").read_text()
    for name, value in (OF_SQLITE if file else OF_POSTGRESQL).items():
        text = text.replace(name, value)
    with for_writing(engine).begin() as connection:
        for statement in filter(str.strip, text.split(";")):
            connection.exec_driver_sql(statement)
    engine.dispose()


def shape_of(inspector):
    """Return the columns of each table with whether they may be empty, and the names of its indexes."""
    shape = {}
    for table in inspector.get_table_names():
        key = inspector.get_pk_constraint(table)["constrained_columns"]
        columns = {column["name"]: column["nullable"] for column in inspector.get_columns(table)}
        columns |= dict.fromkeys(key, False)  # SQLite takes a key that may be empty for one that is never
        shape[table] = columns, {index["name"] for index in inspector.get_indexes(table)}
    return shape


def current_shape():
    engine = sql.create_engine("sqlite://")
    with engine.begin() as connection:
        prepare_schema(connection)
        shape = shape_of(sql.inspect(connection))
    engine.dispose()
    return shape


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_a_ledger_of_each_version_is_brought_forward_and_keeps_its_rows(version, ledger_url):
    make_ledger_of(version, ledger_url)
    ledger = Ledger(ledger_url)
    task = ledger.task("0123456789ab")
    assert (task.kind, task.subject, task.status, task.ok_items) == ("qa_generation", "copywriting", "completed", 1)
    assert task.lease_holder == ("elsewhere:1:abc" if version >= 2 else None)
    (item,), (attempt,) = ledger.items(task.id), ledger.attempts(task.id)
    assert (item["input"], item["output"], item["attempts"]) == ("x", {"question": "Why?"}, 1)
    assert (item["step"], item["completion_tokens"]) == (("call", 11) if version >= 3 else (None, None))
    assert item["mark"] == ("accepted" if version >= 4 else None) and ledger.has_accepted(task.id) == (version >= 4)
    assert item["edited"] == ({"question": "Why so?"} if version >= 4 else None)
    assert (attempt["step"], attempt["model"], attempt["request"]) == ("call", "tiny", {})
    vectors = ledger.database.read(sql.select(VECTORS))
    assert [row["vector"].tolist() for row in vectors] == ([[0.5, -0.25]] if version >= 5 else [])
    assert ledger.reusable(["k"]) == ({"k": {"question": "Why?"}} if version >= 3 else {})
    assert len(ledger.database.read(sql.select(SERVERS))) == (version >= 7)
    assert len(ledger.database.read(sql.select(WORKERS))) == (version >= 8)
    with ledger.database.connections.reading() as connection:
        assert shape_of(sql.inspect(connection)) == current_shape()

    # And it can be gone on with.
    ledger.claim(task.id)
    ledger.update_task(task.id, total_items=2)
    ledger.add_items(task.id, 1, [("y", "k2")])
    ledger.finish_item(FinishedItem(task.id, 1, ("y", "k2"), "ok", "b", None, [{"step": "call"}], 1.0, 2.0)).result()
    assert ledger.task(task.id).ok_items == 2 and len(ledger.attempts(task.id)) == 2
    Collection("others", ledger).open("a model", 2)
    ledger.note_served("tiny", {"http://somewhere": Served(4, True)})
    ledger.close()
    Ledger(ledger_url).close()


def test_two_processes_open_a_new_ledger_at_once(ledger_url):
    script = f"from cerebro_nb import Ledger; Ledger({ledger_url!r}).create_task('qa', 's', 1)"
    children = [subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) for _ in range(4)]
    assert [child.communicate()[1] for child in children] == [b""] * 4
    ledger = Ledger(ledger_url)
    assert len(ledger.tasks()) == 4
    ledger.close()


# --- leases

HOLDS = """
import sys, time
from cerebro_nb import Ledger
ledger = Ledger({url!r})
ledger.claim({task!r})
print("held", flush=True)
time.sleep(600)
"""


def test_a_second_process_is_refused_and_a_dead_one_is_taken_for_dead(ledger):
    task_id = ledger.create_task("qa", "s", 1)
    script = HOLDS.format(url=ledger.database.url, task=task_id)
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    with child:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(errors.TaskHeld, match=f":{child.pid}:") as refused:
            ledger.claim(task_id)
        assert refused.value.hint and ledger.unfinished() == []
        child.kill()
    assert [task.id for task in ledger.unfinished()] == [task_id]
    ledger.claim(task_id)
    assert ledger.task(task_id).lease_holder == this_holder()
    ledger.release(task_id)
    assert ledger.task(task_id).lease_holder is None


def test_a_lease_of_another_machine_ends_with_its_time(ledger):
    task_id = ledger.create_task("qa", "s", 1)
    until = {"lease_holder": "elsewhere:1:abc", "lease_until": ledger.database.now() + 20}
    ledger.update_task(task_id, **until)
    with pytest.raises(errors.TaskHeld, match="elsewhere"):
        ledger.claim(task_id)
    ledger.update_task(task_id, lease_until=1.0)
    ledger.claim(task_id)


@pytest.mark.parametrize(
    "holder",
    [
        "{host}:0123456789ab:4194305:abc",  # another machine that is called as this one
        "{host}:4194305:abc",  # one that names no machine, as earlier versions did
        "{host}::4194305:abc",
        "{host}:{machine}:one:abc",
        "nobody",
    ],
)
def test_a_lease_of_a_machine_of_the_same_name_ends_with_its_time_alone(ledger, holder):
    holder = holder.format(host=socket.gethostname(), machine=machine())
    task_id = ledger.create_task("qa", "s", 1)
    ledger.update_task(task_id, lease_holder=holder, lease_until=ledger.database.now() + 20)
    with pytest.raises(errors.TaskHeld):
        ledger.claim(task_id)
    assert ledger.unfinished() == []
    rows = [{"name": holder, "seen_at": 1.0}]
    assert Vigil().dead(rows, [holder], 0.0) == []
    ledger.update_task(task_id, lease_until=1.0)
    ledger.claim(task_id)


@pytest.mark.skipif(not machine(), reason="the machine is not known here")
def test_a_process_among_other_processes_ids_is_of_another_machine():
    words = ["unshare", "--user", "--pid", "--fork", sys.executable, "-c"]
    tell = "from cerebro_nb.tasks.leases import machine; print(machine())"
    told = subprocess.run([*words, tell], capture_output=True, text=True, timeout=60)
    if told.returncode:
        pytest.skip(f"no space of process ids can be had here: {told.stderr[:80]}")
    assert told.stdout.strip() not in ("", machine())


def test_reopening_failed_items_keeps_their_attempts(ledger):
    task_id = ledger.create_task("qa", "s", 4)
    ledger.add_items(task_id, 0, list(enumerate("abcd")))
    for n in range(4):
        failed = {"type": "InvalidOutput", "message": "no"} if n % 2 else None
        ledger.finish_item(
            FinishedItem(
                task_id, n, (n, "abcd"[n]), "failed" if failed else "ok", None, failed, [{"step": "call"}], 1.0, 2.0
            )
        )
    ledger.finish_item(
        FinishedItem("none", 0, (0, ""), "ok", None, None, [], 1.0, 2.0)
    ).result()  # later, so all are written
    assert ledger.reopen_failed(task_id, [3]) == 1 and ledger.reopen_failed(task_id, [0]) == 0
    task = ledger.task(task_id)
    assert (task.processed_items, task.ok_items, task.failed_items) == (3, 2, 1)
    assert ledger.items(task_id)[3]["status"] == "pending" and len(ledger.attempts(task_id, 3)) == 1


def open_here(file):
    """Whether anybody has a SQLite database open: with its last connection its log goes."""
    return file.with_name(f"{file.name}-wal").exists()


def test_a_ledger_is_closed_at_the_end_of_a_with(tmp_path):
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        ledger.create_task("batch", "", 1)
        assert open_here(tmp_path / "ledger.db")
    assert not open_here(tmp_path / "ledger.db")


def test_a_ledger_that_was_only_read_and_that_nobody_has_any_more_is_closed(tmp_path):
    writers = set(threading.enumerate())
    Ledger(f"sqlite:///{tmp_path / 'ledger.db'}").create_task("batch", "", 1)
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    assert len(ledger.tasks()) == 1 and open_here(tmp_path / "ledger.db")
    del ledger
    for thread in set(threading.enumerate()) - writers:
        thread.join(10)
    assert not open_here(tmp_path / "ledger.db")


def post_and_forget(url):
    ledger = Ledger(url)
    task_id = ledger.create_task("batch", "", 500)
    ledger.add_items(task_id, 0, [(n, str(n)) for n in range(500)])
    return [ledger.finish_item(FinishedItem(task_id, n, (n, str(n)), "ok", n, None, [], 1.0, 2.0)) for n in range(500)]


def test_a_ledger_that_nobody_has_any_more_loses_nothing_and_is_closed(ledger_url):
    writers = set(threading.enumerate())
    posted = post_and_forget(ledger_url)
    for thread in set(threading.enumerate()) - writers:
        thread.join(10)
    assert all(done.done() for done in posted) and [done.result() for done in posted] == [None] * 500
    with Ledger(ledger_url) as ledger:
        assert [task.ok_items for task in ledger.tasks()] == [500]
    if ledger_url.startswith("sqlite"):
        assert not open_here(Path(ledger_url.removeprefix("sqlite:///")))


def test_a_process_that_ends_with_ledgers_unclosed_loses_nothing_and_warns_of_nothing(tmp_path):
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_ledger import Ledger, post_and_forget
reading = Ledger("sqlite:///read.db")
assert reading.tasks() == []
post_and_forget("sqlite:///written.db")
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stderr == ""
    with Ledger("sqlite:///written.db") as ledger:
        assert [task.ok_items for task in ledger.tasks()] == [500]


def test_a_database_that_cannot_be_used_leaves_no_connection(tmp_path):
    file = tmp_path / "newer.db"
    with Ledger(f"sqlite:///{file}") as ledger:
        ledger.create_task("batch", "", 1)
    with sqlite3.connect(file) as newer:
        newer.execute("UPDATE cerebro_schema SET version = 10000")
    newer.close()
    with pytest.raises(errors.LedgerError):
        Ledger(f"sqlite:///{file}")
    assert not open_here(file)


# --- what was closed


def of_item(task_id):
    return FinishedItem(task_id, 0, ("a", "k"), "ok", 1, None, [], 1.0, 2.0)


USES = {
    "read": lambda ledger, task_id: ledger.task(task_id),
    "read by pages": lambda ledger, task_id: list(ledger.pages(task_id)),
    "create": lambda ledger, task_id: ledger.create_task("qa", "s", 1),
    "update": lambda ledger, task_id: ledger.update_task(task_id, status="completed"),
    "add": lambda ledger, task_id: ledger.add_items(task_id, 0, [("a", "k")]),
    "finish": lambda ledger, task_id: ledger.finish_item(of_item(task_id)),
    "claim": lambda ledger, task_id: ledger.claim(task_id),
    "mark": lambda ledger, task_id: ledger.mark_items(task_id, [0], "accepted"),
    "note": lambda ledger, task_id: ledger.note_served("tiny", {"http://somewhere": Served(4, True)}),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_ledger_that_was_closed_is_not_opened_again_in_silence(use, tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    task_id = ledger.create_task("qa", "s", 1)
    ledger.close()
    ledger.close()  # twice is no harm
    with pytest.raises(errors.LedgerError, match="was closed") as refused:
        use(ledger, task_id)
    assert "Ledger(...)" in refused.value.hint and "get_ledger()" in refused.value.hint
    assert not open_here(tmp_path / "ledger.db")
    with Ledger(ledger.database.url) as again:
        assert again.task(task_id).status == "in_progress"


def test_what_is_posted_to_a_closed_ledger_is_told_so_that_it_can_be_put_aside(ledger):
    task_id = ledger.create_task("qa", "s", 1)
    ledger.close()
    outcomes = []
    ledger.post_item(of_item(task_id), lambda rows, _, error: outcomes.append((rows.row["output"], error)))
    ((output, error),) = outcomes
    assert output == "1" and isinstance(error, errors.LedgerError) and "was closed" in error.message


def test_the_shared_ledger_that_was_closed_is_a_fresh_one_when_it_is_asked_for(tmp_path):
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    with get_ledger(url) as first:
        task_id = create_progress_task("qa", "s", 1, ledger=first)
    second = get_ledger(url)
    assert second is not first and second is get_ledger(url) and second.task(task_id).kind == "qa"
    SHARED_LEDGERS.close_all()
    assert second.database.is_closed and get_ledger(url).task(task_id).kind == "qa"
    SHARED_LEDGERS.close_all()


def test_all_databases_of_the_process_can_be_closed(ledger, tmp_path):
    other = Ledger(f"sqlite:///{tmp_path / 'other.db'}")
    task_id = other.create_task("qa", "s", 1)
    other.add_items(task_id, 0, [("a", "k")])
    OPEN_DATABASES.close_all()
    assert ledger.database.is_closed and other.database.is_closed and not open_here(tmp_path / "other.db")
    with Ledger(other.database.url) as again:
        assert again.count_items(task_id) == 1


def test_what_reads_a_ledger_page_by_page_keeps_it_open(tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with Ledger(url) as ledger:
        task_id = ledger.create_task("qa", "s", 3, items=list(enumerate("abc")))
    pages = Ledger(url).pages(task_id, size=1)
    assert [item["position"] for page in pages for item in page] == [0, 1, 2]
