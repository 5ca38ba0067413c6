"""What readers make of the answers: marks, edits, and tasks that are deleted."""

import threading

import pytest

from cerebro_nb import TaskView, errors, examples, process_in_batches, resume, save_jsonl


@pytest.fixture
def view(quick, ledger):
    def made(n):
        if n == 3:
            raise ValueError("no")
        return {"text": f"answer {n}"}

    run = process_in_batches(range(5), made, quick, ledger=ledger, show_progress=False)
    return TaskView(ledger, run.task_id)


def texts(view):
    return [example["text"] for example in examples(view)]


def test_a_data_set_holds_all_but_the_rejected_and_once_some_are_accepted_these_alone(view, tmp_path):
    assert texts(view) == ["answer 0", "answer 1", "answer 2", "answer 4"]
    view.reject(1)
    assert texts(view) == ["answer 0", "answer 2", "answer 4"]
    view.accept(4, 0)
    assert texts(view) == ["answer 0", "answer 4"]
    assert len(save_jsonl(view, tmp_path / "set.jsonl").read_text().splitlines()) == 2
    view.mark([0, 1, 4], None)
    assert len(texts(view)) == 4
    assert view.df["mark"].isna().all()


def test_an_edit_stands_before_the_model_s_answer_which_is_kept(view, ledger):
    view.edit(2, {"text": "better"})
    assert texts(view)[2] == "better" and view.results[2] == {"text": "better"} and view.df["text"][2] == "better"
    assert ledger.items(view.task_id)[2]["output"] == {"text": "answer 2"}
    view.edit(2, None)
    assert view.results[2] == {"text": "answer 2"}


def test_what_has_no_answer_cannot_be_marked_or_edited(view, ledger):
    assert ledger.mark_items(view.task_id, [3, 99], "accepted") == 0
    with pytest.raises(errors.InputError, match="has no answer"):
        view.edit(3, {"text": "x"})
    with pytest.raises(errors.InputError, match="is no mark"):
        view.mark([0], "maybe")


def test_a_deleted_task_is_gone_and_one_at_work_is_not_deleted(view, ledger):
    ledger.update_task(view.task_id, lease_holder="elsewhere:1:abc", lease_until=ledger.database.now() + 20)
    with pytest.raises(errors.TaskHeld):
        ledger.delete_task(view.task_id)
    ledger.update_task(view.task_id, lease_holder=None)
    ledger.delete_task(view.task_id)
    assert ledger.tasks() == [] and ledger.items(view.task_id) == [] and ledger.attempts(view.task_id) == []


def test_a_second_run_of_this_process_on_a_task_is_refused(quick, ledger):
    inside, go_on = threading.Event(), threading.Event()

    def waits(n):
        inside.set()
        assert go_on.wait(60)
        return n

    first = threading.Thread(target=lambda: process_in_batches([1], waits, quick, ledger=ledger, show_progress=False))
    first.start()
    assert inside.wait(60)
    task_id = ledger.tasks()[0].id
    with pytest.raises(errors.TaskHeld, match="by this process"):
        resume(task_id, lambda n: n, ledger=ledger, show_progress=False)
    go_on.set()
    first.join()
    assert ledger.task(task_id).status == "completed"
    assert resume(task_id, lambda n: n, ledger=ledger, show_progress=False).results == [1]
