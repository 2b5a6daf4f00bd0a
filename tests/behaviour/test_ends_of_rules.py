"""Removing rules, resetting and closing a sandbox while calls are in progress."""

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
from fake_credits.faults.effects.base import Phase
from fake_credits.transports.shared_resources import SharedResources
from tests.behaviour.effect_cases import CALLS, START, RequestSpec
from tests.behaviour.raw_connection import RawConnection, wait_until

APP = "app-id"
FAKE_PATHS = ("/_fake/livez", "/_fake/readyz", "/_fake/openapi.json", "/.well-known/jwks.json")


@pytest.fixture
def fake(mode: ClientMode, shared: SharedResources) -> Iterator[FakeCredits]:
    """Yield a sandbox in which a user has 100 credits."""
    with FakeCredits(mode=mode, shared=shared, balance=100, clock=START) as fake:
        yield fake
        fake.sandbox.ledger.verify_balances()
        assert fake.sandbox.bugs == []


class SpendThread(threading.Thread):
    """A thread that spends a credit and records the outcome."""

    def __init__(self, fake: FakeCredits) -> None:
        super().__init__()
        self._fake = fake
        self.outcome: object = None

    def run(self) -> None:
        try:
            created = self._fake.server_client.create_transaction(APP, "user-id", delta=-1, reason="consume")
            self.outcome = created.delta
        except FakeCreditsError as error:
            self.outcome = type(error).__name__


def start_spending(fake: FakeCredits, count: int) -> list[SpendThread]:
    """Start threads that each spend one credit."""
    threads = [SpendThread(fake) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def join_all(threads: list[SpendThread]) -> list[object]:
    for thread in threads:
        thread.join()
    return [thread.outcome for thread in threads]


# ------------------------------------------------------------ rules


def test_removed_rule_still_affects_calls_it_already_matched(fake: FakeCredits) -> None:
    """The call waits at a gate, and still gets the effect of a rule removed in the meantime."""
    gate = fake.hold("createTransaction", name="door")
    rule = fake.faults.add(Status(503), "createTransaction", phase="after", stack=True)
    threads = start_spending(fake, 3)
    gate.wait_for(3)
    rule.remove()
    gate.release()
    assert join_all(threads) == ["Unavailable"] * 3
    assert fake.balance() == 97
    assert [entry.rule for entry in fake.journal] == ["hold_at_gate#1+status#1"] * 3
    assert fake.server_client.create_transaction(APP, "user-id", delta=-1, reason="consume").delta == -1


def test_clearing_rules_keeps_gate_closed_until_released(fake: FakeCredits) -> None:
    gate = fake.hold("createTransaction")
    threads = start_spending(fake, 2)
    gate.wait_for(2)
    fake.faults.clear()
    assert fake.server_client.get_balance(APP, "user-id").balance == 100
    gate.release()
    assert join_all(threads) == [-1, -1]


def test_rule_is_removed_after_with_block_but_still_affects_running_calls(fake: FakeCredits) -> None:
    gate = fake.hold("createTransaction")
    with fake.faults(Latency(1), "createTransaction", phase="after") as rule:
        threads = start_spending(fake, 1)
        gate.wait_for()
    gate.release()
    assert join_all(threads) == [-1]
    assert (rule.fired, len(fake.faults)) == (1, 0)


def test_removing_a_rule_twice_has_no_effect(fake: FakeCredits) -> None:
    rule = fake.faults.add(Status(503))
    rule.remove()
    rule.remove()
    assert fake.server_client.get_balance(APP, "user-id").balance == 100


def test_no_call_is_lost_while_rules_change(fake: FakeCredits) -> None:
    stopped = threading.Event()

    def toggle_rules() -> None:
        while not stopped.is_set():
            with fake.faults(Latency(0), "createTransaction"), fake.faults(Status(503), probability=0.5):
                pass

    toggler = threading.Thread(target=toggle_rules)
    toggler.start()
    outcomes: list[object] = []
    for _ in range(5):
        outcomes += join_all(start_spending(fake, 4))
    stopped.set()
    toggler.join()
    assert set(outcomes) <= {-1, "Unavailable"}
    assert fake.balance() == 100 - outcomes.count(-1)
    assert len(fake.journal) == 20


# ------------------------------------------------------------ reset


@pytest.mark.parametrize("phase", ["before", "after"])
def test_reset_releases_held_calls_without_affecting_new_state(fake: FakeCredits, phase: Phase) -> None:
    gate = fake.hold("createTransaction", phase=phase)
    threads = start_spending(fake, 3)
    gate.wait_for(3)
    fake.reset()
    assert join_all(threads) == [-1, -1, -1]
    assert (fake.balance(), len(fake.faults), fake.sandbox.gates) == (100, 0, {})
    wait_until(lambda: fake.journal.in_flight == 0)
    assert fake.server_client.create_transaction(APP, "user-id", delta=-1, reason="consume").delta == -1
    assert fake.balance() == 99


def test_reset_releases_async_tasks(fake: FakeCredits) -> None:
    async def main() -> list[Any]:
        gate = fake.hold("createTransaction")
        client = fake.async_server_client
        calls = [client.create_transaction(APP, "user-id", delta=-1, reason="consume") for _ in range(3)]
        tasks = [asyncio.ensure_future(call) for call in calls]
        await gate.async_wait_for(3)
        fake.reset()
        return await asyncio.gather(*tasks)

    assert [created.delta for created in asyncio.run(main())] == [-1, -1, -1]
    assert (fake.balance(), fake.sandbox.gates) == (100, {})


def test_call_delayed_in_real_time_does_not_commit_after_reset(shared: SharedResources, mode: ClientMode) -> None:
    """A call left over from one test must not change the balance in the next."""
    with FakeCredits(mode=mode, shared=shared, balance=100, delays="real") as fake:
        rule = fake.faults.add(Latency(100), "createTransaction")
        threads = start_spending(fake, 1)
        wait_until(lambda: rule.fired == 1)  # calls matched after the reset would belong to the new state
        fake.reset()
        assert join_all(threads) == ["Unavailable"]
        assert fake.balance() == 100
        wait_until(lambda: fake.journal.in_flight == 0)
        assert [(entry.status, entry.committed) for entry in fake.journal] == [(503, False)]


def test_configured_rules_restart_after_reset_with_closed_gate(
    shared: SharedResources,
) -> None:
    options: dict[str, Any] = {"balance": 100, "faults": [HoldAtGate("door"), {"script": [503, "ok"]}]}
    with FakeCredits(shared=shared, **options) as fake:
        for _ in range(2):
            gate = fake.sandbox.gate("door")
            threads = start_spending(fake, 1)
            gate.wait_for()
            gate.release()
            assert join_all(threads) == ["Unavailable"]
            fake.reset()


# ------------------------------------------------------------ close


@pytest.mark.parametrize(
    "effect", [Hang(), Latency(60_000), Status(503), Reset(), HoldAtGate("late")], ids=lambda e: e.effect_name
)
def test_closed_sandbox_rejects_calls_without_faults(shared: SharedResources, effect: Effect) -> None:
    """A thread left over from a test fails at once."""
    fake = FakeCredits(shared=shared, balance=100, faults=[effect])
    client = fake.server_client
    fake.close()
    with pytest.raises(InvalidApiKey, match="closed"):
        client.get_balance(APP, "user-id")


# ------------------------------------------------------------ paths without faults


@pytest.mark.parametrize(
    "effect",
    [Reset(), Close(), Hang(), Status(503), NotJson(), Garbage(), Drip(2, 60_000), HoldAtGate("door"), Unauthorized()],
    ids=lambda effect: effect.effect_name,
)
def test_faults_do_not_affect_health_openapi_and_jwks_paths(shared: SharedResources, effect: Effect) -> None:
    with (
        FakeCredits(mode="live", shared=shared, faults=[effect], latency=60_000) as fake,
        RawConnection(fake) as connection,
    ):
        for path in FAKE_PATHS:
            connection.send(RequestSpec("GET", path))
            assert connection.read().status == 200
        assert all(active.matched == 0 for active in fake.faults)


def test_faults_do_not_affect_unknown_paths_and_methods(fake: FakeCredits) -> None:
    fake.faults.add(Hang())
    with RawConnection(fake) as connection:
        for request in (RequestSpec("GET", "/nowhere"), RequestSpec("DELETE", CALLS["user"].target)):
            connection.send(request)
            assert connection.read().status in (404, 405)
