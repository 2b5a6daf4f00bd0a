"""Test what becomes of calls whose rule, gate or sandbox goes while they are in it: they run on, none is lost."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fake_credits.errors import FakeCreditsError, InvalidApiKey
from fake_credits.fake import ClientMode, FakeCredits
from fake_credits.faults.effects import (
    Close,
    Drip,
    Effect,
    Garbage,
    Hang,
    HoldAtGate,
    Latency,
    NotJson,
    Reset,
    Status,
    Unauthorized,
)
from fake_credits.transports.shared_resources import SharedResources
from tests.behaviour.effect_cases import CALLS, START, Asked
from tests.behaviour.raw_connection import Wire, until

APP = "app-id"
OWN_PATHS = ("/_fake/livez", "/_fake/readyz", "/_fake/openapi.json", "/.well-known/jwks.json")


@pytest.fixture
def fake(mode: ClientMode, shared: SharedResources) -> Iterator[FakeCredits]:
    """Yield a sandbox of a user with 100 credits."""
    with FakeCredits(mode=mode, shared=shared, balance=100, clock=START) as fake:
        yield fake
        fake.sandbox.verify_ledger()
        assert fake.sandbox.bugs == []


class Spender(threading.Thread):
    """Be a thread that spends a credit, and keeps what that came to."""

    def __init__(self, fake: FakeCredits) -> None:
        super().__init__()
        self._fake = fake
        self.outcome: object = None

    def run(self) -> None:
        try:
            made = self._fake.server_client.create_transaction(APP, "user-id", delta=-1, reason="consume")
            self.outcome = made.delta
        except FakeCreditsError as error:
            self.outcome = type(error).__name__


def spending(fake: FakeCredits, count: int) -> list[Spender]:
    """Return threads that have begun to spend."""
    threads = [Spender(fake) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def joined(threads: list[Spender]) -> list[object]:
    for thread in threads:
        thread.join()
    return [thread.outcome for thread in threads]


# ------------------------------------------------------------ rules


def test_a_call_that_a_removed_rule_has_hit_goes_on_as_it_was(fake: FakeCredits) -> None:
    """It waits at the gate, and then meets the effect of the other rule, which is gone by then."""
    gate = fake.hold("createTransaction", name="door")
    rule = fake.faults.add(Status(503), "createTransaction", phase="after", stack=True)
    threads = spending(fake, 3)
    gate.wait_for(3)
    rule.remove()
    gate.release()
    assert joined(threads) == ["Unavailable"] * 3
    assert fake.balance() == 97
    assert [entry.rule for entry in fake.journal] == ["hold_at_gate#1+status#1"] * 3
    assert fake.server_client.create_transaction(APP, "user-id", delta=-1, reason="consume").delta == -1


def test_clearing_the_rules_leaves_the_gate_to_be_released(fake: FakeCredits) -> None:
    gate = fake.hold("createTransaction")
    threads = spending(fake, 2)
    gate.wait_for(2)
    fake.faults.clear()
    assert fake.server_client.get_balance(APP, "user-id").balance == 100
    gate.release()
    assert joined(threads) == [-1, -1]


def test_a_rule_of_a_block_ends_with_it_and_its_calls_do_not(fake: FakeCredits) -> None:
    gate = fake.hold("createTransaction")
    with fake.faults(Latency(1), "createTransaction", phase="after") as rule:
        threads = spending(fake, 1)
        gate.wait_for()
    gate.release()
    assert joined(threads) == [-1]
    assert (rule.fired, len(fake.faults)) == (1, 0)


def test_removing_a_rule_twice_does_no_harm(fake: FakeCredits) -> None:
    rule = fake.faults.add(Status(503))
    rule.remove()
    rule.remove()
    assert fake.server_client.get_balance(APP, "user-id").balance == 100


def test_rules_come_and_go_under_calls_and_none_of_them_is_lost(fake: FakeCredits) -> None:
    over = threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            with fake.faults(Latency(0), "createTransaction"), fake.faults(Status(503), probability=0.5):
                pass

    changing = threading.Thread(target=come_and_go)
    changing.start()
    outcomes: list[object] = []
    for _ in range(5):
        outcomes += joined(spending(fake, 4))
    over.set()
    changing.join()
    assert set(outcomes) <= {-1, "Unavailable"}
    assert fake.balance() == 100 - outcomes.count(-1)
    assert len(fake.journal) == 20


# ------------------------------------------------------------ reset


@pytest.mark.parametrize("phase", ["before", "after"])
def test_a_reset_lets_what_is_held_run_to_its_end_in_its_own_world(fake: FakeCredits, phase: str) -> None:
    gate = fake.hold("createTransaction", phase=phase)
    threads = spending(fake, 3)
    gate.wait_for(3)
    fake.reset()
    assert joined(threads) == [-1, -1, -1]
    assert (fake.balance(), len(fake.faults), fake.sandbox.gates) == (100, 0, {})
    until(lambda: fake.journal.in_flight == 0)
    assert fake.server_client.create_transaction(APP, "user-id", delta=-1, reason="consume").delta == -1
    assert fake.balance() == 99


def test_a_reset_lets_the_tasks_of_a_loop_go(fake: FakeCredits) -> None:
    async def main() -> list[Any]:
        gate = fake.hold("createTransaction")
        client = fake.async_server_client
        calls = [client.create_transaction(APP, "user-id", delta=-1, reason="consume") for _ in range(3)]
        tasks = [asyncio.ensure_future(call) for call in calls]
        await gate.async_wait_for(3)
        fake.reset()
        return await asyncio.gather(*tasks)

    assert [made.delta for made in asyncio.run(main())] == [-1, -1, -1]
    assert (fake.balance(), fake.sandbox.gates) == (100, {})


def test_a_call_that_waits_in_real_time_books_nothing_in_the_next_world(
    shared: SharedResources, mode: ClientMode
) -> None:
    """Nobody can hurry it: what a test left behind must not spend what the next one has."""
    with FakeCredits(mode=mode, shared=shared, balance=100, delays="real") as fake:
        rule = fake.faults.add(Latency(100), "createTransaction")
        threads = spending(fake, 1)
        until(lambda: rule.fired == 1)  # not merely begun: what meets its rules after the reset is of the new world
        fake.reset()
        assert joined(threads) == ["Unavailable"]
        assert fake.balance() == 100
        until(lambda: fake.journal.in_flight == 0)
        assert [(entry.status, entry.committed) for entry in fake.journal] == [(503, False)]


def test_rules_of_the_settings_are_back_after_a_reset_with_new_counts_and_a_closed_gate(
    shared: SharedResources,
) -> None:
    words: dict[str, Any] = {"balance": 100, "faults": [HoldAtGate("door"), {"script": [503, "ok"]}]}
    with FakeCredits(shared=shared, **words) as fake:
        for _ in range(2):
            gate = fake.sandbox.gate("door")
            threads = spending(fake, 1)
            gate.wait_for()
            gate.release()
            assert joined(threads) == ["Unavailable"]
            fake.reset()


# ------------------------------------------------------------ close


@pytest.mark.parametrize(
    "effect", [Hang(), Latency(60_000), Status(503), Reset(), HoldAtGate("late")], ids=lambda e: e.effect_name
)
def test_a_closed_sandbox_refuses_and_injects_nothing_more(shared: SharedResources, effect: Effect) -> None:
    """A thread that a test has left behind learns at once that the test is over."""
    fake = FakeCredits(shared=shared, balance=100, faults=[effect])
    client = fake.server_client
    fake.close()
    with pytest.raises(InvalidApiKey, match="closed"):
        client.get_balance(APP, "user-id")


# ------------------------------------------------------------ what faults never touch


@pytest.mark.parametrize(
    "effect",
    [Reset(), Close(), Hang(), Status(503), NotJson(), Garbage(), Drip(2, 60_000), HoldAtGate("door"), Unauthorized()],
    ids=lambda effect: effect.effect_name,
)
def test_faults_touch_neither_health_nor_keys_nor_documents(shared: SharedResources, effect: Effect) -> None:
    with FakeCredits(mode="live", shared=shared, faults=[effect], latency=60_000) as fake, Wire(fake) as wire:
        for path in OWN_PATHS:
            wire.send(Asked("GET", path))
            assert wire.read().status == 200
        assert all(active.matched == 0 for active in fake.faults)


def test_faults_touch_no_path_that_is_none_of_the_apis(fake: FakeCredits) -> None:
    fake.faults.add(Hang())
    with Wire(fake) as wire:
        for asked in (Asked("GET", "/nowhere"), Asked("DELETE", CALLS["user"].target)):
            wire.send(asked)
            assert wire.read().status in (404, 405)
