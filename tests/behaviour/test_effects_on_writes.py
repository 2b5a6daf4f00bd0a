"""Test the effects that bend what is written: twice, or later than its client believes, over both drivers."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from fake_credits.client.server import ServerClient
from fake_credits.errors import (
    InsufficientCredits,
    Timeout,
    UserNotFound,
)
from fake_credits.fake import ClientMode, FakeCredits
from fake_credits.faults.active_rule import ActiveRule
from fake_credits.faults.effects import (
    DuplicateWrite,
    Latency,
    LateWrite,
)
from fake_credits.transports.shared_resources import SharedResources
from tests.behaviour.effect_cases import START, impatient
from tests.behaviour.raw_connection import until

APP, ADA = "app-id", "ada"


@pytest.fixture
def fake(mode: ClientMode, shared: SharedResources) -> Iterator[FakeCredits]:
    """Yield a sandbox where ada has 100 credits, at a clock that stands still."""
    with FakeCredits(mode=mode, shared=shared, users={ADA: 100}, clock=START) as fake:
        yield fake
        fake.sandbox.verify_ledger()
        assert fake.sandbox.bugs == []


def spend(fake: FakeCredits, delta: int = -1) -> Any:
    return fake.server_client.create_transaction(APP, ADA, delta=delta, reason="consume")


def history(fake: FakeCredits) -> list[int]:
    """Return the deltas as the list shows them, newest first."""
    return [each.delta for each in fake.server_client.iter_transactions(APP, ADA)]


# ------------------------------------------------------------ duplicate


def test_a_duplicate_books_twice_behind_one_answer_and_one_entry(fake: FakeCredits) -> None:
    fake.faults.add(DuplicateWrite(), times=1)
    spend(fake, -10)
    assert (fake.balance(ADA), history(fake)) == (80, [-10, -10, 100])
    (entry,) = fake.journal.entries(operation="createTransaction")
    assert (entry.status, entry.transaction, entry.committed, entry.rule) == (201, "txn_2", True, "duplicate_write#1")


def test_a_duplicate_that_the_ledger_refuses_is_nobodys(fake: FakeCredits) -> None:
    fake.faults.add(DuplicateWrite())
    assert spend(fake, -60).delta == -60
    assert (fake.balance(ADA), history(fake)) == (40, [-60, 100])
    (entry,) = fake.journal.entries(operation="createTransaction")
    assert (entry.status, entry.code, entry.committed, entry.delta) == (201, "", True, -60)


def test_a_duplicate_of_a_new_user_makes_one_and_says_so(fake: FakeCredits) -> None:
    fake.faults.add(DuplicateWrite())
    assert fake.server_client.create_user(APP, "bob").user_id == "bob"
    entry = fake.journal.entries()[-1]
    assert (entry.status, entry.committed) == (201, True)


# ------------------------------------------------------------ zombie


@pytest.fixture
def hasty(fake: FakeCredits, mode: ClientMode, shared: SharedResources) -> Iterator[ServerClient]:
    """Yield a client with little patience."""
    with impatient(fake, mode, shared) as hasty:
        yield hasty


def zombie(fake: FakeCredits, hasty: ServerClient, delta: int, after_ms: int = 60_000) -> ActiveRule:
    """Let a write of ada's come to life later."""
    rule = fake.faults.add(LateWrite(after_ms), "createTransaction")
    with pytest.raises(Timeout):
        hasty.create_transaction(APP, ADA, delta=delta, reason="consume")
    assert rule.fired == 1
    return rule


def test_a_zombie_lands_later_and_its_entry_of_the_journal_then_says_so(fake: FakeCredits, hasty: ServerClient) -> None:
    zombie(fake, hasty, -10)
    (before,) = fake.journal.entries()
    assert (before.status, before.committed, before.delivered, before.transaction) == (0, False, False, "")
    assert fake.balance(ADA) == 100
    spend(fake, -1)
    fake.clock.advance(seconds=60)
    assert fake.balance(ADA) == 89
    after = fake.journal.entries()[0]
    assert (after.status, after.committed, after.delivered, after.transaction) == (201, True, False, "txn_3")
    assert (after.ordinal, after.rule, after.phase) == (before.ordinal, "late_write#1", "write")
    assert len(fake.journal) == 2


def test_a_zombie_is_refused_by_the_ledger_that_it_lands_in(fake: FakeCredits, hasty: ServerClient) -> None:
    zombie(fake, hasty, -60)
    spend(fake, -50)
    fake.clock.advance(seconds=60)
    assert fake.balance(ADA) == 50
    entry = fake.journal.entries()[0]
    assert (entry.status, entry.code, entry.committed) == (402, "insufficient_credits", False)
    assert (entry.delivered, entry.transaction) == (False, "")


def test_a_zombie_with_a_duplicate_lands_twice(fake: FakeCredits, hasty: ServerClient) -> None:
    fake.faults.add(DuplicateWrite(), "createTransaction", stack=True)
    zombie(fake, hasty, -10)
    assert fake.balance(ADA) == 100
    fake.clock.advance(seconds=60)
    assert (fake.balance(ADA), history(fake)) == (80, [-10, -10, 100])
    (entry,) = fake.journal.entries(operation="createTransaction")
    assert (entry.status, entry.transaction, entry.committed, entry.delivered) == (201, "txn_2", True, False)
    assert (entry.rule, entry.phase) == ("duplicate_write#1+late_write#1", "write+write")


def test_the_second_of_a_zombie_that_the_ledger_refuses_is_nobodys(fake: FakeCredits, hasty: ServerClient) -> None:
    fake.faults.add(DuplicateWrite(), "createTransaction", stack=True)
    zombie(fake, hasty, -60)
    fake.clock.advance(seconds=60)
    (entry,) = fake.journal.entries()
    assert (fake.balance(ADA), entry.status, entry.code, entry.committed) == (40, 201, "", True)


def test_a_retry_overtakes_a_zombie_and_the_user_pays_twice(fake: FakeCredits, hasty: ServerClient) -> None:
    zombie(fake, hasty, -10)
    fake.server_client.create_transaction(APP, ADA, delta=-10, reason="consume")
    assert fake.settle() >= 1
    assert fake.balance(ADA) == 80


def test_a_zombie_that_is_refused_at_arrival_is_answered_and_has_not_fired(
    fake: FakeCredits, hasty: ServerClient
) -> None:
    rule = fake.faults.add(LateWrite(10), "createTransaction")
    with pytest.raises(InsufficientCredits):
        fake.server_client.create_transaction(APP, ADA, delta=-101, reason="consume")
    entry = fake.journal.entries()[-1]
    assert (rule.fired, rule.is_unused) == (0, True)
    assert (entry.status, entry.rule, entry.phase, entry.delivered) == (402, "", "", True)
    with pytest.raises(Timeout):
        hasty.create_transaction(APP, ADA, delta=-100, reason="consume")
    assert rule.fired == 1


def test_a_refused_zombie_is_not_used_up_for_its_user_either(fake: FakeCredits, hasty: ServerClient) -> None:
    rule = fake.faults.add(LateWrite(10), "createTransaction", per="user")
    with pytest.raises(InsufficientCredits):
        fake.server_client.create_transaction(APP, ADA, delta=-101, reason="consume")
    with pytest.raises(Timeout):
        hasty.create_transaction(APP, ADA, delta=-100, reason="consume")
    assert rule.fired == 1


def test_a_refused_zombie_behind_a_delay_leaves_the_delay_in_the_journal(
    fake: FakeCredits, hasty: ServerClient
) -> None:
    fake.faults.add(Latency(1), name="slow")
    fake.faults.add(LateWrite(10), "createTransaction")
    with pytest.raises(InsufficientCredits):
        fake.server_client.create_transaction(APP, ADA, delta=-101, reason="consume")
    entry = fake.journal.entries()[-1]
    assert (entry.rule, entry.phase) == ("slow", "before")


def test_a_zombie_comes_once_unless_times_says_more(fake: FakeCredits, hasty: ServerClient) -> None:
    zombie(fake, hasty, -1)
    assert fake.server_client.create_transaction(APP, ADA, delta=-1, reason="consume").delta == -1
    rule = fake.faults.add(LateWrite(10), "createTransaction", times=2)
    for _ in range(2):
        with pytest.raises(Timeout):
            hasty.create_transaction(APP, ADA, delta=-1, reason="consume")
    fake.server_client.create_transaction(APP, ADA, delta=-1, reason="consume")
    assert rule.fired == 2
    fake.settle()
    assert fake.balance(ADA) == 95


def test_a_zombie_of_a_real_clock_lands_on_its_own_on_a_socket(shared: SharedResources) -> None:
    with (
        FakeCredits(mode="live", shared=shared, users={ADA: 100}) as fake,
        impatient(fake, "live", shared) as hasty,
    ):
        zombie(fake, hasty, -10, after_ms=30)
        until(lambda: fake.balance(ADA) == 90)
        assert fake.journal.entries()[0].committed


def test_a_zombie_of_a_new_user_makes_them_later(fake: FakeCredits, hasty: ServerClient) -> None:
    fake.faults.add(LateWrite(1000), "createUser")
    with pytest.raises(Timeout):
        hasty.create_user(APP, "bob")
    with pytest.raises(UserNotFound):
        fake.server_client.get_user(APP, "bob")
    fake.clock.advance(seconds=1)
    made = fake.server_client.get_user(APP, "bob")
    assert made.created_at >= START + timedelta(seconds=1)
