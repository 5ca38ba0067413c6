"""Several servers of one model: shared by what each bears, left out while away, back by themselves."""

import asyncio
import itertools
import subprocess
import sys
from itertools import pairwise

import pytest
from fakes import FakeOllama, FakeOpenAI, closed_port
from hypothesis import given
from hypothesis import strategies as st
from simulated import SimulatedServer, most_at_once
from virtual import virtual_time

from cerebro_nb import (
    Client,
    ScriptedBackend,
    acall_llm,
    call_llm,
    errors,
    get_client,
    load_settings,
    process_in_batches,
    resume,
)
from cerebro_nb.backends.pool import Endpoint, EndpointPool, Turns
from cerebro_nb.concurrency.control import ConcurrencyControl
from cerebro_nb.concurrency.loop import LOOP
from cerebro_nb.launching.batches import abatch_run

AUTO = load_settings({}).profile("auto").replace(backoff_s=0.01)


def pool(*servers, **more):
    return get_client(backend="ollama", base_url=[server.url for server in servers], model="tiny", **more)


def close(client):
    LOOP.run(client.aclose())


def chats(server):
    return sum(path == "/api/chat" for path, *_ in server.requests)


def simulated_pool(*servers):
    return Client(EndpointPool(servers), "tiny")


def test_servers_share_the_work_by_what_each_bears(ledger, virtual):
    small, large = SimulatedServer(1, 0.05, base_url="http://small"), SimulatedServer(4, 0.05, base_url="http://large")
    client = simulated_pool(small, large)
    run = process_in_batches(range(300), "{item}", AUTO, client=client, ledger=ledger, show_progress=False)
    assert run.progress.ok == 300 and run.progress.failed == 0
    assert len(small.calls) + len(large.calls) == 300
    assert 2 <= len(large.calls) / len(small.calls) <= 8  # it has four times the slots
    assert small.most_present <= 3 and large.most_present <= 9
    answered = {row["reply"]["endpoint"] for row in ledger.attempts(run.task_id)}
    assert answered == {"http://small", "http://large"}


def test_the_user_s_own_limit_holds_over_all_of_them(ledger, virtual):
    one, two = SimulatedServer(8, 0.02), SimulatedServer(8, 0.02)
    narrow = AUTO.replace(concurrency=3)
    client = simulated_pool(one, two)
    process_in_batches(range(60), "{item}", narrow, client=client, ledger=ledger, show_progress=False)
    assert most_at_once(one, two) == 3 and one.calls and two.calls


@given(
    st.integers(1, 12),
    st.lists(
        st.tuples(st.sampled_from(["begin", "end", "limit", "away", "back"]), st.integers(0, 11), st.integers(1, 9))
    ),
)
def test_the_server_whose_turn_it_is_would_be_the_least_busy_one(count, changes):
    endpoints = [Endpoint(ScriptedBackend(["yes"])) for _ in range(count)]
    turns = Turns(endpoints)
    for change, number, limit in changes:
        endpoint = endpoints[number % count]
        if change == "begin":
            endpoint.in_flight += 1
            endpoint.sent += 1
        elif change == "end" and endpoint.in_flight:
            endpoint.in_flight -= 1
        elif change == "limit":
            endpoint.control = ConcurrencyControl(limit, slots=limit)
        elif change == "away":
            endpoint.away = "for now"
        elif change == "back":
            endpoint.away = None
        turns.note(endpoint)
        there = [endpoint for endpoint in endpoints if endpoint.away is None]
        assert turns.limit == sum(endpoint.control.limit for endpoint in there)
        if there:
            assert turns.next().load == min(endpoint.load for endpoint in there)
        else:
            with pytest.raises(errors.ConnectionFailed, match=f"none of the {count} servers"):
                turns.next()


def test_a_server_that_dies_is_left_out_and_has_its_share_again_once_it_is_back(ledger, virtual):
    lasting, mortal = (SimulatedServer(2, 1.0, base_url=f"http://{name}") for name in ("lasting", "mortal"))
    client = simulated_pool(lasting, mortal)

    async def scenario():
        run = await abatch_run(range(400), "{item}", AUTO, client=client, ledger=ledger, show_progress=False)
        run.start()
        await asyncio.sleep(20)
        mortal.go_away()
        await asyncio.sleep(60)
        mortal.come_back()
        return await run

    run = LOOP.run(scenario())
    assert run.progress.ok == 400 and run.progress.failed == 0
    looked = [when for when in mortal.looked_at if when >= 20]
    rests = [later - earlier for earlier, later in pairwise([20, *looked])]
    assert rests == [0, 0.5, 1, 2, 4, 8, 15, 15, 15]  # at once for those whose calls broke, then ever more rarely
    assert mortal.loaded_at == [0, looked[-1]]  # the model was loaded first
    sent = [call.sent_at for call in mortal.calls if call.sent_at > 20]
    assert looked[-1] <= sent[0] <= looked[-1] + 1 and len(sent) > 50
    failures = [row["error"] for row in ledger.attempts(run.task_id) if row["error"]]
    assert failures and all(error["details"]["endpoint"] == "http://mortal" for error in failures)


def test_a_server_that_ends_is_left_out_and_another_at_its_address_gets_its_work(ledger):
    with FakeOllama(slots=2) as lasting:
        with FakeOllama(slots=2) as mortal:
            client = pool(lasting, mortal)
            making = abatch_run(itertools.count(), "{item}", AUTO, client=client, ledger=ledger, show_progress=False)
            run = LOOP.run(making).start()
            assert mortal.chat_arrived.wait(60)
        with FakeOllama(slots=2, port=mortal.port) as again:
            assert again.chat_arrived.wait(60), "it got no work after it was back"
            assert again.loaded  # the model was loaded first
            run.cancel()
            run.wait()
        close(client)
    assert run.progress.status == "cancelled" and run.progress.failed == 0


def test_one_that_fails_every_time_does_not_draw_the_work_to_itself(ledger, virtual):
    out_of_memory = itertools.repeat(lambda: errors.ServerFailed("out of memory"))
    sound, sick = SimulatedServer(2, 0.02), SimulatedServer(2, faults=out_of_memory)
    client = simulated_pool(sound, sick)
    run = process_in_batches(range(100), "{item}", AUTO, client=client, ledger=ledger, show_progress=False)
    assert run.progress.ok == 100
    assert len(sick.calls) <= 20


def test_while_all_are_away_the_run_waits(ledger, virtual):
    one, two = (SimulatedServer(4, 1.0, base_url=f"http://{name}") for name in ("one", "two"))
    client, told = simulated_pool(one, two), []

    async def scenario():
        run = await abatch_run(range(40), "{item}", AUTO, client=client, ledger=ledger, show_progress=False)
        run.on_progress(lambda now: told.append(now.event)).start()
        await asyncio.sleep(5.5)
        one.go_away()
        two.go_away()
        await asyncio.sleep(100)
        assert run.progress.status == "waiting" and run.progress.waiting_for == "http://one,http://two"
        two.come_back()
        await run
        await client.aclose()  # else the other one is looked for as long as the loop runs
        assert run.progress.ok == 40 and 105.5 < virtual.time() <= 105.5 + 15 + 40 / 4

    LOOP.run(scenario())
    assert told.count("waiting") == told.count("going_on") == 1


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
    with FakeOllama() as slow, FakeOllama() as spare, virtual_time(ledger, left_s=0) as loop:
        monkeypatch.setenv("CEREBRO_FALLBACK__BASE_URL", spare.url)
        slow.faults, slow.when_stuck = ["hang", "hang", "hang"], lambda: loop.give(quick.timeout_s)
        client = pool(slow)
        run = process_in_batches(["a"], "{item}", quick, client=client, ledger=ledger, show_progress=False)
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


CROWD = """
import asyncio, resource, sys
from cerebro_nb.addresses import parse_address
from cerebro_nb.protocol.transport import AiohttpTransport

COUNT = 300
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

async def main():
    all_there, there = asyncio.Event(), []

    async def answer(reader, writer):
        await reader.readuntil(b"\\r\\n\\r\\n")
        there.append(writer)
        if len(there) == COUNT:
            all_there.set()
        await all_there.wait()
        writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\n\\r\\n")
        await writer.drain()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=COUNT)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    transport = AiohttpTransport(parse_address(url, "the server"))
    answers = await asyncio.gather(*(transport.send("GET", url, None, {}) for _ in range(COUNT)))
    print(len(answers), {answer.status for answer in answers})

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of open files")
def test_hundreds_of_requests_are_in_flight_where_a_process_begins_with_few_files():
    done = subprocess.run([sys.executable, "-c", CROWD], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["300", "{200}"], done.stderr
