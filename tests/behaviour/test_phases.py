"""Test what a fault leaves behind: before the decision nothing, after it a write that its client knows nothing of."""

from collections.abc import Iterator
from typing import Any

import pytest

from fake_credits.client.server import ServerClient
from fake_credits.errors import ApiError, BadGateway, ConnectionLost, FakeCreditsError, Timeout
from fake_credits.fake import ClientMode, FakeCredits
from fake_credits.faults.effects import Close, Effect, Hang, HoldAtGate, Latency, NotJson, Reset, Status
from fake_credits.faults.rule import Rule, lost_response
from fake_credits.transports.shared_resources import SharedResources
from tests.behaviour.effect_cases import impatient

LOST: dict[str, tuple[Effect, type[FakeCreditsError]]] = {
    "reset": (Reset(), ConnectionLost),
    "close": (Close(), ConnectionLost),
    "hang": (Hang(), Timeout),
    "status": (Status(502), BadGateway),
}
"""How the answer to a write that stands can be lost, and what its client gets."""

FAILING = [Reset(), Close(), Hang(), Status(503), NotJson()]


@pytest.fixture
def fake(mode: ClientMode, shared: SharedResources) -> Iterator[FakeCredits]:
    """Yield a sandbox of a user with 10 credits."""
    with FakeCredits(mode=mode, shared=shared, balance=10) as fake:
        yield fake
        assert fake.problems() == []


@pytest.fixture
def hasty(fake: FakeCredits, mode: ClientMode, shared: SharedResources) -> Iterator[ServerClient]:
    """Yield a client with little patience."""
    with impatient(fake, mode, shared) as hasty:
        yield hasty


def spend(client: ServerClient, delta: int = -3) -> Any:
    return client.create_transaction("app-id", "user-id", delta=delta, reason="consume")


def retrying_blindly(first: ServerClient, then: ServerClient) -> None:
    """Spend, and try again whatever went wrong: the bug that costs real money."""
    with pytest.raises(FakeCreditsError):
        spend(first)
    spend(then)


def _for(effect: Effect, fake: FakeCredits, hasty: ServerClient) -> ServerClient:
    return hasty if isinstance(effect, Hang) else fake.server_client


@pytest.mark.parametrize("how", LOST)
def test_a_lost_response_leaves_the_write_and_gives_its_client_an_error(
    fake: FakeCredits, hasty: ServerClient, how: str
) -> None:
    effect, error = LOST[how]
    fake.faults.add(lost_response(effect), times=1)
    with pytest.raises(error):
        spend(_for(LOST[how][0], fake, hasty))
    assert fake.balance() == 7
    (entry,) = fake.journal.entries(operation="createTransaction")
    assert (entry.committed, entry.delivered) == (True, how == "status")
    assert (entry.rule, entry.phase, entry.transaction) == (f"{how}#1", "after", "txn_2")
    assert (entry.delta, entry.reason, entry.status) == (-3, "consume", 502 if how == "status" else 201)


@pytest.mark.parametrize("how", LOST)
def test_a_client_that_retries_a_lost_response_blindly_charges_twice(
    fake: FakeCredits, hasty: ServerClient, how: str
) -> None:
    fake.faults.add(lost_response(LOST[how][0]), times=1)
    retrying_blindly(_for(LOST[how][0], fake, hasty), fake.server_client)
    assert fake.balance() == 4
    assert [entry.transaction for entry in fake.journal.entries(operation="createTransaction")] == ["txn_2", "txn_3"]


@pytest.mark.parametrize("effect", FAILING, ids=lambda effect: str(effect.effect_name))
def test_a_fault_before_the_decision_books_nothing_so_a_retry_charges_once(
    fake: FakeCredits, hasty: ServerClient, effect: Effect
) -> None:
    fake.faults.add(effect, "createTransaction", phase="before", times=1)
    retrying_blindly(_for(effect, fake, hasty), fake.server_client)
    assert fake.balance() == 7
    lost, booked = fake.journal.entries(operation="createTransaction")
    assert (lost.committed, lost.transaction, lost.phase) == (False, "", "before")
    assert (booked.committed, booked.delivered, booked.rule) == (True, True, "")


@pytest.mark.parametrize("effect", FAILING, ids=lambda effect: str(effect.effect_name))
def test_a_fault_after_a_refusal_books_nothing_either(fake: FakeCredits, hasty: ServerClient, effect: Effect) -> None:
    fake.faults.add(effect, "createTransaction", phase="after", times=1)
    with pytest.raises(FakeCreditsError):
        spend(_for(effect, fake, hasty), -11)
    (entry,) = fake.journal.entries(operation="createTransaction")
    assert (entry.committed, entry.transaction, entry.phase, entry.delta) == (False, "", "after", -11)
    assert fake.balance() == 10


def test_a_client_is_told_which_rule_refused_it(fake: FakeCredits) -> None:
    fake.faults.add(Status(503, retry_after_s=4), name="bad-day", times=1)
    with pytest.raises(ApiError, match="the fault 'bad-day' of fake-credits") as caught:
        fake.server_client.get_balance("app-id", "user-id")
    assert (caught.value.fault, caught.value.retry_after_s) == ("bad-day", 4)
    assert fake.journal.entries()[-1].cause == "fault:bad-day"


def test_rules_that_stack_are_all_named_in_their_order(fake: FakeCredits) -> None:
    fake.faults.add(Latency(1), name="slow")
    fake.faults.add(Reset(), phase="after", stack=True, name="late")
    fake.faults.add(Latency(1), phase="after", name="never")
    fake.hold("createTransaction", phase="before", name="door").release()
    with pytest.raises(ConnectionLost):
        spend(fake.server_client)
    entry = fake.journal.entries()[-1]
    assert (entry.rule, entry.phase) == ("slow+late", "before+after")
    assert (entry.committed, fake.balance()) == (True, 7)


def test_a_delay_before_or_after_changes_nothing_but_the_time(fake: FakeCredits) -> None:
    for phase in ("before", "after"):
        fake.faults.add(Latency(2), phase=phase)
    assert spend(fake.server_client).delta == -3
    (entry,) = fake.journal.entries(operation="createTransaction")
    assert (entry.committed, entry.delivered, entry.status) == (True, True, 201)
    assert entry.rule == "latency#1+latency#2"


def test_a_client_that_gives_up_during_a_delay_after_the_decision_leaves_a_write(
    fake: FakeCredits, hasty: ServerClient
) -> None:
    fake.faults.add(Latency(400), "createTransaction", phase="after", times=1)
    with pytest.raises(Timeout):
        spend(hasty)
    assert fake.balance() == 7


@pytest.mark.parametrize("rule", [Rule(effect=HoldAtGate("door")), Rule(effect=Hang())], ids=["gate", "hang"])
def test_a_rule_that_touches_another_operation_leaves_this_one_alone(fake: FakeCredits, rule: Rule) -> None:
    fake.faults.add(rule, "listUsers", optional=True)
    assert spend(fake.server_client).delta == -3
    assert fake.journal.entries()[-1].rule == ""
