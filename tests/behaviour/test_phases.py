"""Faults in the before phase prevent a write; faults in the after phase lose only its response."""

from collections.abc import Iterator
from typing import Any

import pytest

from fake_credits.client.server import ServerClient
from fake_credits.errors import ApiError, BadGateway, ConnectionLost, FakeCreditsError, Timeout
from fake_credits.fake import ClientMode, FakeCredits
from fake_credits.faults.declarations import lost_response
from fake_credits.faults.effects import Close, Effect, Hang, HoldAtGate, Latency, NotJson, Reset, Status
from fake_credits.faults.rule import Rule
from fake_credits.transports.shared_resources import SharedResources
from tests.behaviour.short_timeout import client_with_short_timeout

LOST_RESPONSES: dict[str, tuple[Effect, type[FakeCreditsError]]] = {
    "reset": (Reset(), ConnectionLost),
    "close": (Close(), ConnectionLost),
    "hang": (Hang(), Timeout),
    "status": (Status(502), BadGateway),
}
"""Effects that lose the response to a committed write, and the error that the client raises."""

FAILING_EFFECTS = [Reset(), Close(), Hang(), Status(503), NotJson()]


@pytest.fixture
def fake(mode: ClientMode, shared: SharedResources) -> Iterator[FakeCredits]:
    """Yield a sandbox in which a user has 10 credits."""
    with FakeCredits(mode=mode, shared=shared, balance=10) as fake:
        yield fake
        assert fake.problems() == []


@pytest.fixture
def short_timeout_client(fake: FakeCredits, mode: ClientMode, shared: SharedResources) -> Iterator[ServerClient]:
    """Yield a client with a short timeout."""
    with client_with_short_timeout(fake, mode, shared) as short_timeout_client:
        yield short_timeout_client


def spend(client: ServerClient, delta: int = -3) -> Any:
    return client.create_transaction("app-id", "user-id", delta=delta, reason="consume")


def spend_with_blind_retry(first: ServerClient, then: ServerClient) -> None:
    """Spend credits, and retry after any error without checking whether the write was committed."""
    with pytest.raises(FakeCreditsError):
        spend(first)
    spend(then)


def client_for(effect: Effect, fake: FakeCredits, short_timeout_client: ServerClient) -> ServerClient:
    return short_timeout_client if isinstance(effect, Hang) else fake.server_client


@pytest.mark.parametrize("name", LOST_RESPONSES)
def test_lost_response_keeps_the_write_and_raises(
    fake: FakeCredits, short_timeout_client: ServerClient, name: str
) -> None:
    effect, error = LOST_RESPONSES[name]
    fake.faults.add(lost_response(effect), times=1)
    with pytest.raises(error):
        spend(client_for(LOST_RESPONSES[name][0], fake, short_timeout_client))
    assert fake.balance() == 7
    (entry,) = fake.journal.entries(operation="createTransaction")
    assert (entry.committed, entry.delivered) == (True, name == "status")
    assert (entry.rule, entry.phase, entry.transaction) == (f"{name}#1", "after", "txn_2")
    assert (entry.delta, entry.reason, entry.status) == (-3, "consume", 502 if name == "status" else 201)


@pytest.mark.parametrize("name", LOST_RESPONSES)
def test_blind_retry_after_lost_response_charges_twice(
    fake: FakeCredits, short_timeout_client: ServerClient, name: str
) -> None:
    fake.faults.add(lost_response(LOST_RESPONSES[name][0]), times=1)
    spend_with_blind_retry(client_for(LOST_RESPONSES[name][0], fake, short_timeout_client), fake.server_client)
    assert fake.balance() == 4
    assert [entry.transaction for entry in fake.journal.entries(operation="createTransaction")] == ["txn_2", "txn_3"]


@pytest.mark.parametrize("effect", FAILING_EFFECTS, ids=lambda effect: str(effect.effect_name))
def test_blind_retry_after_fault_before_commit_charges_once(
    fake: FakeCredits, short_timeout_client: ServerClient, effect: Effect
) -> None:
    fake.faults.add(effect, "createTransaction", phase="before", times=1)
    spend_with_blind_retry(client_for(effect, fake, short_timeout_client), fake.server_client)
    assert fake.balance() == 7
    failed, retried = fake.journal.entries(operation="createTransaction")
    assert (failed.committed, failed.transaction, failed.phase) == (False, "", "before")
    assert (retried.committed, retried.delivered, retried.rule) == (True, True, "")


@pytest.mark.parametrize("effect", FAILING_EFFECTS, ids=lambda effect: str(effect.effect_name))
def test_fault_after_rejection_commits_nothing(
    fake: FakeCredits, short_timeout_client: ServerClient, effect: Effect
) -> None:
    fake.faults.add(effect, "createTransaction", phase="after", times=1)
    with pytest.raises(FakeCreditsError):
        spend(client_for(effect, fake, short_timeout_client), -11)
    (entry,) = fake.journal.entries(operation="createTransaction")
    assert (entry.committed, entry.transaction, entry.phase, entry.delta) == (False, "", "after", -11)
    assert fake.balance() == 10


def test_client_error_names_the_rule(fake: FakeCredits) -> None:
    fake.faults.add(Status(503, retry_after_s=4), name="overload", times=1)
    with pytest.raises(ApiError, match="injected by the fault 'overload'") as caught:
        fake.server_client.get_balance("app-id", "user-id")
    assert (caught.value.fault, caught.value.retry_after_s) == ("overload", 4)
    assert fake.journal.entries()[-1].cause == "fault:overload"


def test_journal_names_all_stacked_rules_in_order(fake: FakeCredits) -> None:
    fake.faults.add(Latency(1), name="slow")
    fake.faults.add(Reset(), phase="after", stack=True, name="late")
    fake.faults.add(Latency(1), phase="after", name="never")
    fake.hold("createTransaction", phase="before", name="door", optional=True).release()
    with pytest.raises(ConnectionLost):
        spend(fake.server_client)
    entry = fake.journal.entries()[-1]
    assert (entry.rule, entry.phase) == ("slow+late", "before+after")
    assert (entry.committed, fake.balance()) == (True, 7)


def test_latency_in_both_phases_changes_only_time(fake: FakeCredits) -> None:
    for phase in ("before", "after"):
        fake.faults.add(Latency(2), phase=phase)
    assert spend(fake.server_client).delta == -3
    (entry,) = fake.journal.entries(operation="createTransaction")
    assert (entry.committed, entry.delivered, entry.status) == (True, True, 201)
    assert entry.rule == "latency#1+latency#2"


def test_write_stays_committed_when_client_times_out_in_after_phase(
    fake: FakeCredits, short_timeout_client: ServerClient
) -> None:
    fake.faults.add(Latency(400), "createTransaction", phase="after", times=1)
    with pytest.raises(Timeout):
        spend(short_timeout_client)
    assert fake.balance() == 7


@pytest.mark.parametrize("rule", [Rule(effect=HoldAtGate("door")), Rule(effect=Hang())], ids=["gate", "hang"])
def test_rule_for_another_operation_has_no_effect(fake: FakeCredits, rule: Rule) -> None:
    fake.faults.add(rule, "listUsers", optional=True)
    assert spend(fake.server_client).delta == -3
    assert fake.journal.entries()[-1].rule == ""
