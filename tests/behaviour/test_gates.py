"""Gates make races deterministic with threads, asyncio and trio, in process and live, and across processes."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
import trio

from fake_credits.errors import GatewayTimeout, InsufficientCredits, WouldHangForever
from fake_credits.fake import ClientMode, FakeCredits
from fake_credits.faults import Gate, Latency

APP = "app-id"
MODES: list[ClientMode] = ["in-process", "live"]
ORDERS = ([0, 1], [1, 0])
EXPECTED_OUTCOMES = {0: ["booked", "refused"], 1: ["refused", "booked"]}

Outcomes = list[str]


def fake_with_one_credit(mode: ClientMode) -> FakeCredits:
    return FakeCredits(users={"ada": 1}, mode=mode)


def hold_last_credit(credits: FakeCredits) -> Gate:
    return credits.hold("createTransaction", user="ada", phase="before")


def consume(credits: FakeCredits, outcomes: Outcomes, number: int) -> None:
    try:
        credits.server_client.create_transaction(APP, "ada", delta=-1, reason="consume")
        outcomes[number] = "booked"
    except InsufficientCredits:
        outcomes[number] = "refused"


async def consume_async(credits: FakeCredits, outcomes: Outcomes, number: int) -> None:
    try:
        await credits.async_server_client.create_transaction(APP, "ada", delta=-1, reason="consume")
        outcomes[number] = "booked"
    except InsufficientCredits:
        outcomes[number] = "refused"


def race_with_threads(credits: FakeCredits, order: list[int]) -> Outcomes:
    gate, outcomes = hold_last_credit(credits), ["", ""]
    threads = [threading.Thread(target=consume, args=(credits, outcomes, number)) for number in (0, 1)]
    for number, thread in enumerate(threads):
        thread.start()
        gate.wait_for(number + 1)
    gate.release(order)
    for thread in threads:
        thread.join()
    return outcomes


def race_with_asyncio(credits: FakeCredits, order: list[int]) -> Outcomes:
    async def main() -> Outcomes:
        gate, outcomes = hold_last_credit(credits), ["", ""]
        async with asyncio.TaskGroup() as group:
            for number in (0, 1):
                group.create_task(consume_async(credits, outcomes, number))
                await gate.async_wait_for(number + 1)
            gate.release(order)
        return outcomes

    return asyncio.run(main())


def race_with_trio(credits: FakeCredits, order: list[int]) -> Outcomes:
    async def main() -> Outcomes:
        gate, outcomes = hold_last_credit(credits), ["", ""]
        async with trio.open_nursery() as nursery:
            for number in (0, 1):
                nursery.start_soon(consume_async, credits, outcomes, number)
                await gate.async_wait_for(number + 1)
            gate.release(order)
        return outcomes

    return trio.run(main)


RACES = {"threads": race_with_threads, "asyncio": race_with_asyncio, "trio": race_with_trio}


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("race", RACES.values(), ids=RACES.keys())
def test_first_released_call_gets_the_last_credit(
    race: Callable[[FakeCredits, list[int]], Outcomes], mode: ClientMode, order: list[int]
) -> None:
    with fake_with_one_credit(mode) as credits:
        for _ in range(5):
            assert race(credits, order) == EXPECTED_OUTCOMES[order[0]]
            assert credits.balance("ada") == 0
            credits.reset()
        assert credits.problems() == []


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("race", RACES.values(), ids=RACES.keys())
def test_first_released_call_gets_the_last_credit_200_times(
    race: Callable[[FakeCredits, list[int]], Outcomes], mode: ClientMode
) -> None:
    with fake_with_one_credit(mode) as credits:
        for turn in range(200):
            order = ORDERS[turn % 2]
            assert race(credits, order) == EXPECTED_OUTCOMES[order[0]]
            credits.reset()


CLIENT = """
import sys
from fake_credits.client.server import ServerClient
from fake_credits.errors import InsufficientCredits
try:
    ServerClient(*sys.argv[1:]).create_transaction("app-id", "ada", delta=-1, reason="consume")
    print("booked")
except InsufficientCredits:
    print("refused")
"""


def test_clients_in_other_processes_are_held_and_released_in_order() -> None:
    with fake_with_one_credit("live") as credits:
        gate = hold_last_credit(credits)
        command = [sys.executable, "-c", CLIENT, credits.base_url, credits.api_key]
        processes: list[subprocess.Popen[str]] = []
        for number in (1, 2):
            processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            gate.wait_for(number)
        gate.release([1, 0])
        assert [process.communicate()[0].strip() for process in processes] == ["refused", "booked"]


@pytest.mark.parametrize("mode", MODES)
def test_release_returns_after_released_call_has_proceeded(mode: ClientMode) -> None:
    with fake_with_one_credit(mode) as credits:
        gate, outcomes = hold_last_credit(credits), [""]
        thread = threading.Thread(target=consume, args=(credits, outcomes, 0))
        thread.start()
        gate.wait_for()
        assert (len(gate), gate.waiters()) == (1, "createTransaction for ada")
        gate.release()
        assert credits.balance("ada") == 0
        thread.join()


@pytest.mark.parametrize("mode", MODES)
def test_gate_in_after_phase_holds_response_of_committed_write(mode: ClientMode) -> None:
    with fake_with_one_credit(mode) as credits:
        gate, outcomes = credits.hold("createTransaction", phase="after"), [""]
        thread = threading.Thread(target=consume, args=(credits, outcomes, 0))
        thread.start()
        gate.wait_for()
        assert (credits.balance("ada"), outcomes) == (0, [""])
        gate.release()
        thread.join()
        assert outcomes == ["booked"]


def test_released_call_runs_to_its_next_wait() -> None:
    with FakeCredits(users={"ada": 1}, clock="frozen") as credits:
        gate, outcomes = hold_last_credit(credits), [""]
        second_gate = credits.hold("createTransaction", phase="after")
        thread = threading.Thread(target=consume, args=(credits, outcomes, 0))
        thread.start()
        gate.wait_for()
        gate.release()
        assert (credits.balance("ada"), len(second_gate)) == (0, 1)
        second_gate.release()
        thread.join()


@pytest.mark.parametrize("mode", MODES)
def test_cancelled_call_stays_held_and_commits_after_release(mode: ClientMode) -> None:
    async def main(credits: FakeCredits) -> None:
        gate = hold_last_credit(credits)
        task = asyncio.create_task(consume_async(credits, [""], 0))
        await gate.async_wait_for()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (credits.balance("ada"), len(gate)) == (1, 1)
        gate.release()
        assert credits.balance("ada") == 0

    with fake_with_one_credit(mode) as credits:
        asyncio.run(main(credits))
        (entry,) = credits.journal
        assert (entry.committed, entry.delivered) == (True, False)


def test_held_call_does_not_time_out_when_clock_advances() -> None:
    with FakeCredits(users={"ada": 1}, clock="frozen") as credits:
        gate, outcomes = hold_last_credit(credits), [""]
        thread = threading.Thread(target=consume, args=(credits, outcomes, 0))
        thread.start()
        gate.wait_for()
        credits.clock.advance(days=30)
        gate.release()
        thread.join()
        assert outcomes == ["booked"]


@pytest.mark.parametrize("mode", MODES)
def test_gate_timeout_fails_held_call_and_test(mode: ClientMode) -> None:
    with FakeCredits(users={"ada": 1}, mode=mode, gate_timeout_s=0.01) as credits:
        credits.hold("createTransaction", name="door")
        failures: list[str] = []

        def call() -> None:
            try:
                credits.server_client.create_transaction(APP, "ada", delta=-1, reason="consume")
            except GatewayTimeout as error:
                failures.append(error.message)

        other = threading.Thread(target=call)
        other.start()
        other.join()
        assert failures == ["createTransaction for ada was still held at gate 'door' after 0.01 s"]
        (problem,) = credits.problems()
        assert problem.startswith("createTransaction for ada was still held at gate 'door'")
        assert credits.balance("ada") == 1


def test_call_held_in_the_only_thread_raises_at_once() -> None:
    with fake_with_one_credit("in-process") as credits:
        gate = credits.hold("createTransaction", name="door")
        with pytest.raises(WouldHangForever, match="it is held at gate 'door', which no other thread"):
            credits.server_client.create_transaction(APP, "ada", delta=-1, reason="consume")
        assert (len(gate), credits.balance("ada"), len(credits.problems())) == (0, 1, 1)


@pytest.mark.parametrize("mode", MODES)
def test_close_releases_held_calls(mode: ClientMode) -> None:
    outcomes = [""]
    with fake_with_one_credit(mode) as credits:
        gate = hold_last_credit(credits)
        thread = threading.Thread(target=consume, args=(credits, outcomes, 0))
        thread.start()
        gate.wait_for()
    thread.join()
    assert outcomes == ["booked"]


def test_held_client_waits_for_latency_after_gate() -> None:
    with FakeCredits(users={"ada": 1}, clock="frozen") as credits:
        gate, outcomes = hold_last_credit(credits), [""]
        credits.faults.add(Latency(5_000))
        before_ms = credits.clock.now_ms()
        thread = threading.Thread(target=consume, args=(credits, outcomes, 0))
        thread.start()
        gate.wait_for()
        gate.release()
        thread.join()
        assert (outcomes, credits.clock.now_ms() - before_ms) == (["booked"], 5_000)
