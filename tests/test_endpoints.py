"""Several servers of one model: shared by what each bears, left out while away, back by themselves."""

import threading

import pytest
from fakes import FakeOllama, FakeOpenAI, closed_port

from cerebro_nb import acall_llm, call_llm, errors, get_client, load_settings, process_in_batches, resume
from cerebro_nb.batching import abatch_run
from cerebro_nb.loop import LOOP

AUTO = load_settings({}).profile("auto").replace(backoff_s=0.01)


def pool(*servers, **more):
    return get_client(backend="ollama", base_url=[server.url for server in servers], model="tiny", **more)


def close(client):
    LOOP.run(client.aclose())


def chats(server):
    return sum(path == "/api/chat" for path, *_ in server.requests)


def test_servers_share_the_work_by_what_each_bears(ledger):
    with FakeOllama(slots=1, seconds=0.05) as small, FakeOllama(slots=4, seconds=0.05) as large:
        client = pool(small, large)
        run = process_in_batches(range(300), "{item}", AUTO, client=client, ledger=ledger, show_progress=False)
        close(client)
    assert run.progress.ok == 300 and run.progress.failed == 0
    assert chats(small) + chats(large) == 300
    assert 2 <= chats(large) / chats(small) <= 8  # it has four times the slots
    assert small.most_present <= 2 and large.most_present <= 8
    answered = {row["reply"]["endpoint"] for row in ledger.attempts(run.task_id)}
    assert answered == {small.url, large.url}


def test_the_user_s_own_limit_holds_over_all_of_them(ledger):
    with FakeOllama(slots=8, seconds=0.02) as one, FakeOllama(slots=8, seconds=0.02) as two:
        client = pool(one, two)
        narrow = AUTO.replace(concurrency=3)
        process_in_batches(range(60), "{item}", narrow, client=client, ledger=ledger, show_progress=False)
        close(client)
    assert one.most_present + two.most_present <= 2 * 3 and chats(one) and chats(two)


def test_a_server_that_dies_is_left_out_and_comes_back_by_itself(ledger):
    with FakeOllama(slots=2, seconds=0.03) as lasting:
        with FakeOllama(slots=2, seconds=0.03) as mortal:
            client = pool(lasting, mortal)
            making = abatch_run(range(4_000), "{item}", AUTO, client=client, ledger=ledger, show_progress=False)
            run = LOOP.run(making)
            answered = threading.Event()
            run.on_progress(lambda now: now.ok >= 40 and answered.set())
            run.start()
            assert answered.wait(60)
        with FakeOllama(slots=2, seconds=0.03, port=mortal.port) as again:
            assert again.chat_arrived.wait(60), "it got no work after it was back"
            assert again.loaded  # the model was loaded first
            run.cancel()
            run.wait()
        close(client)
    assert run.progress.status == "cancelled"
    failures = [row["error"] for row in ledger.attempts(run.task_id) if row["error"]]
    assert run.progress.failed == 0
    assert all(error["details"]["endpoint"] == mortal.url for error in failures)


def test_one_that_fails_every_time_does_not_draw_the_work_to_itself(ledger):
    broken = (500, {}, '{"error": "out of memory"}')
    with FakeOllama(slots=2, seconds=0.02) as sound, FakeOllama(slots=2) as sick:
        sick.faults = [broken] * 1_000
        client = pool(sound, sick)
        run = process_in_batches(range(100), "{item}", AUTO, client=client, ledger=ledger, show_progress=False)
        close(client)
    assert run.progress.ok == 100
    assert chats(sick) <= 20


def test_while_all_are_away_the_run_waits(ledger):
    told = {name: threading.Event() for name in ("waiting", "going_on", "item")}
    with FakeOllama(seconds=0.05) as one, FakeOllama(seconds=0.05) as two:
        client = pool(one, two)
        patient = AUTO.replace(backoff_s=0.5)  # the servers do not go at the same moment
        run = LOOP.run(abatch_run(range(40), "{item}", patient, client=client, ledger=ledger, show_progress=False))
        run.on_progress(lambda now: told[now.event].set() if now.event in told else None).start()
        assert told["item"].wait(60)
    assert told["waiting"].wait(60) and run.progress.waiting_for == f"{one.url},{two.url}"
    with FakeOllama(port=two.port):
        run.wait()
    close(client)
    assert told["going_on"].is_set() and run.progress.ok == 40


def test_a_server_without_the_model_is_left_out(ledger):
    with FakeOllama() as with_it, FakeOllama() as without:
        without.models = ["other:latest"]
        client = pool(with_it, without)
        run = process_in_batches(range(6), "{item}", AUTO, client=client, ledger=ledger, show_progress=False)
        close(client)
    assert run.progress.ok == 6 and chats(without) == 0


def test_if_no_server_is_there_the_run_does_not_start(ledger, quick):
    addresses = f"http://127.0.0.1:{closed_port()},http://127.0.0.1:{closed_port()}"
    with pytest.raises(errors.ConnectionFailed, match="nobody answers"):
        process_in_batches(
            ["a"],
            "{item}",
            quick,
            backend="ollama",
            model="tiny",
            base_url=addresses,
            ledger=ledger,
            show_progress=False,
        )
    assert ledger.tasks() == []


def test_a_task_of_several_servers_is_gone_on_with_on_them(ledger, quick):
    with FakeOllama() as one, FakeOllama() as two:
        one.faults = two.faults = [None, (400, {}, "no")]
        client = pool(one, two)
        run = process_in_batches(range(4), "{item}", quick, client=client, ledger=ledger, show_progress=False)
        assert run.progress.failed == 1
        ledger.reopen_failed(run.task_id)
        again = resume(run.task_id, ledger=ledger, show_progress=False)
        close(client)
    assert again.results == [f"echo {n}" for n in range(4)]


def test_servers_of_the_openai_protocol_share_too():
    with FakeOpenAI() as one, FakeOpenAI() as two:
        client = get_client(base_url=[one.url, two.url], model="tiny")
        assert client.backend.name == "openai"
        replies = [call_llm("hello", client=client) for _ in range(4)]
        close(client)
    assert {reply.endpoint for reply in replies} == {f"{one.url}/v1", f"{two.url}/v1"}


def test_a_late_item_is_answered_by_the_model_that_the_settings_name(ledger, quick, monkeypatch):
    with FakeOllama() as slow, FakeOllama() as spare:
        monkeypatch.setenv("CEREBRO_FALLBACK__BASE_URL", spare.url)
        slow.faults = ["hang", "hang", "hang"]
        client = pool(slow)
        profile = quick.replace(timeout_s=0.3)
        run = process_in_batches(["a"], "{item}", profile, client=client, ledger=ledger, show_progress=False)
        close(client)
    steps = [row["step"] for row in ledger.attempts(run.task_id)]
    assert steps == ["call", "smaller", "fallback"] and run.results == ["echo a"] and chats(spare) == 1
    assert run.task.manifest["fallback"] == {"shrink": 0.5, "backend": "ollama", "model": "tiny"}


def test_a_call_of_one_s_own_takes_several_addresses():
    with FakeOllama() as one, FakeOllama() as two:
        addresses = [one.url, two.url]
        replies = [LOOP.run(acall_llm("hi", backend="ollama", model="tiny", base_url=addresses)) for _ in range(2)]
    assert [str(reply) for reply in replies] == ["echo hi", "echo hi"]
    assert chats(one) == chats(two) == 1
