"""Duplicate and late writes, over both drivers."""

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
from tests.behaviour.effect_cases import START
from tests.behaviour.raw_connection import wait_until
from tests.behaviour.short_timeout import client_with_short_timeout

APP, ADA = "app-id", "ada"


@pytest.fixture
def fake(mode: ClientMode, shared: SharedResources) -> Iterator[FakeCredits]:
    """Yield a fake with a frozen clock and 100 credits for ada."""
    with FakeCredits(mode=mode, shared=shared, users={ADA: 100}, clock=START) as fake:
        yield fake
        fake.sandbox.ledger.verify_balances()
        assert fake.sandbox.bugs == []


def spend(fake: FakeCredits, delta: int = -1) -> Any:
    return fake.server_client.create_transaction(APP, ADA, delta=delta, reason="consume")


def history(fake: FakeCredits) -> list[int]:
    """Return the deltas of the transaction list, newest first."""
    return [item.delta for item in fake.server_client.iter_transactions(APP, ADA)]


# ------------------------------------------------------------ duplicate_write


def test_duplicate_write_commits_twice_with_one_response_and_entry(fake: FakeCredits) -> None:
    fake.faults.add(DuplicateWrite(), times=1)
    spend(fake, -10)
    assert (fake.balance(ADA), history(fake)) == (80, [-10, -10, 100])
    (entry,) = fake.journal.entries(operation="createTransaction")
    assert (entry.status, entry.transaction, entry.committed, entry.rule) == (201, "txn_2", True, "duplicate_write#1")


def test_duplicate_rejected_by_ledger_is_not_reported(fake: FakeCredits) -> None:
    fake.faults.add(DuplicateWrite())
    assert spend(fake, -60).delta == -60
    assert (fake.balance(ADA), history(fake)) == (40, [-60, 100])
    (entry,) = fake.journal.entries(operation="createTransaction")
    assert (entry.status, entry.code, entry.committed, entry.delta) == (201, "", True, -60)


def test_duplicate_write_of_new_user_creates_one_user(fake: FakeCredits) -> None:
    fake.faults.add(DuplicateWrite())
    assert fake.server_client.create_user(APP, "bob").user_id == "bob"
    entry = fake.journal.entries()[-1]
    assert (entry.status, entry.committed) == (201, True)


# ------------------------------------------------------------ late_write


@pytest.fixture
def short_timeout_client(fake: FakeCredits, mode: ClientMode, shared: SharedResources) -> Iterator[ServerClient]:
    """Yield a client with a short timeout."""
    with client_with_short_timeout(fake, mode, shared) as short_timeout_client:
        yield short_timeout_client


def add_late_write(
    fake: FakeCredits, short_timeout_client: ServerClient, delta: int, after_ms: int = 60_000
) -> ActiveRule:
    """Make a write for ada that times out and commits later, and return its rule."""
    rule = fake.faults.add(LateWrite(after_ms), "createTransaction")
    with pytest.raises(Timeout):
        short_timeout_client.create_transaction(APP, ADA, delta=delta, reason="consume")
    assert rule.fired == 1
    return rule


def test_late_write_commits_later_and_updates_its_journal_entry(
    fake: FakeCredits, short_timeout_client: ServerClient
) -> None:
    add_late_write(fake, short_timeout_client, -10)
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


def test_late_write_is_rejected_by_the_ledger_at_commit_time(
    fake: FakeCredits, short_timeout_client: ServerClient
) -> None:
    add_late_write(fake, short_timeout_client, -60)
    spend(fake, -50)
    fake.clock.advance(seconds=60)
    assert fake.balance(ADA) == 50
    entry = fake.journal.entries()[0]
    assert (entry.status, entry.code, entry.committed) == (402, "insufficient_credits", False)
    assert (entry.delivered, entry.transaction) == (False, "")


def test_late_write_with_duplicate_write_commits_twice(fake: FakeCredits, short_timeout_client: ServerClient) -> None:
    fake.faults.add(DuplicateWrite(), "createTransaction", stack=True)
    add_late_write(fake, short_timeout_client, -10)
    assert fake.balance(ADA) == 100
    fake.clock.advance(seconds=60)
    assert (fake.balance(ADA), history(fake)) == (80, [-10, -10, 100])
    (entry,) = fake.journal.entries(operation="createTransaction")
    assert (entry.status, entry.transaction, entry.committed, entry.delivered) == (201, "txn_2", True, False)
    assert (entry.rule, entry.phase) == ("duplicate_write#1+late_write#1", "write+write")


def test_late_write_duplicate_rejected_by_ledger_is_not_reported(
    fake: FakeCredits, short_timeout_client: ServerClient
) -> None:
    fake.faults.add(DuplicateWrite(), "createTransaction", stack=True)
    add_late_write(fake, short_timeout_client, -60)
    fake.clock.advance(seconds=60)
    (entry,) = fake.journal.entries()
    assert (fake.balance(ADA), entry.status, entry.code, entry.committed) == (40, 201, "", True)


def test_retry_before_late_write_charges_twice(fake: FakeCredits, short_timeout_client: ServerClient) -> None:
    add_late_write(fake, short_timeout_client, -10)
    fake.server_client.create_transaction(APP, ADA, delta=-10, reason="consume")
    assert fake.settle() >= 1
    assert fake.balance(ADA) == 80


def test_late_write_rejected_on_arrival_is_answered_and_does_not_fire(
    fake: FakeCredits, short_timeout_client: ServerClient
) -> None:
    rule = fake.faults.add(LateWrite(10), "createTransaction")
    with pytest.raises(InsufficientCredits):
        fake.server_client.create_transaction(APP, ADA, delta=-101, reason="consume")
    entry = fake.journal.entries()[-1]
    assert (rule.fired, rule.is_unused) == (0, True)
    assert (entry.status, entry.rule, entry.phase, entry.delivered) == (402, "", "", True)
    with pytest.raises(Timeout):
        short_timeout_client.create_transaction(APP, ADA, delta=-100, reason="consume")
    assert rule.fired == 1


def test_rejected_late_write_is_not_used_up_for_its_user(fake: FakeCredits, short_timeout_client: ServerClient) -> None:
    rule = fake.faults.add(LateWrite(10), "createTransaction", per="user")
    with pytest.raises(InsufficientCredits):
        fake.server_client.create_transaction(APP, ADA, delta=-101, reason="consume")
    with pytest.raises(Timeout):
        short_timeout_client.create_transaction(APP, ADA, delta=-100, reason="consume")
    assert rule.fired == 1


def test_rejected_late_write_keeps_latency_in_journal(fake: FakeCredits, short_timeout_client: ServerClient) -> None:
    fake.faults.add(Latency(1), name="slow")
    fake.faults.add(LateWrite(10), "createTransaction")
    with pytest.raises(InsufficientCredits):
        fake.server_client.create_transaction(APP, ADA, delta=-101, reason="consume")
    entry = fake.journal.entries()[-1]
    assert (entry.rule, entry.phase) == ("slow", "before")


def test_late_write_fires_once_unless_times_is_given(fake: FakeCredits, short_timeout_client: ServerClient) -> None:
    add_late_write(fake, short_timeout_client, -1)
    assert fake.server_client.create_transaction(APP, ADA, delta=-1, reason="consume").delta == -1
    rule = fake.faults.add(LateWrite(10), "createTransaction", times=2)
    for _ in range(2):
        with pytest.raises(Timeout):
            short_timeout_client.create_transaction(APP, ADA, delta=-1, reason="consume")
    fake.server_client.create_transaction(APP, ADA, delta=-1, reason="consume")
    assert rule.fired == 2
    fake.settle()
    assert fake.balance(ADA) == 95


def test_late_write_on_real_clock_commits_on_live_server(shared: SharedResources) -> None:
    with (
        FakeCredits(mode="live", shared=shared, users={ADA: 100}) as fake,
        client_with_short_timeout(fake, "live", shared) as short_timeout_client,
    ):
        add_late_write(fake, short_timeout_client, -10, after_ms=30)
        wait_until(lambda: fake.balance(ADA) == 90)
        assert fake.journal.entries()[0].committed


def test_late_write_of_new_user_creates_user_later(fake: FakeCredits, short_timeout_client: ServerClient) -> None:
    fake.faults.add(LateWrite(1000), "createUser")
    with pytest.raises(Timeout):
        short_timeout_client.create_user(APP, "bob")
    with pytest.raises(UserNotFound):
        fake.server_client.get_user(APP, "bob")
    fake.clock.advance(seconds=1)
    created = fake.server_client.get_user(APP, "bob")
    assert created.created_at >= START + timedelta(seconds=1)
