"""Test listing, reading, adding and deleting users and histories in process, without an HTTP exchange."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fake_credits.contract import Contract
from fake_credits.errors import ApplicationNotFound, InsufficientCredits, UserNotFound
from fake_credits.fake import FakeCredits
from fake_credits.faults import LateWrite, StaleRead
from fake_credits.histories import TransactionFields
from fake_credits.models import Reason, Transaction, User

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def deltas(fake: FakeCredits, user_id: str) -> list[int]:
    return [each.delta for each in fake.transactions(user_id)]


def test_history_is_read_oldest_first_without_an_exchange() -> None:
    with FakeCredits(clock=NOW, users={"ada": 100}) as fake:
        fake.server_client.create_transaction("app-id", "ada", delta=-10, reason="consume")
        assert fake.transactions("ada") == (
            Transaction(100, Reason.GRANT, NOW),
            Transaction(-10, Reason.CONSUME, NOW),
        )
        assert len(fake.journal) == 1


def test_history_of_the_default_user_is_read_without_an_id() -> None:
    with FakeCredits(balance=3) as fake:
        assert [each.delta for each in fake.transactions()] == [3]


def test_added_transactions_count_toward_the_balance_and_appear_in_the_api_history() -> None:
    with FakeCredits(clock=NOW) as fake:
        added = fake.add_transactions("ada", [100, -10])
        assert added == fake.transactions("ada")
        page = fake.server_client.list_transactions("app-id", "ada")
        assert tuple(reversed(page.transactions)) == added
        assert (fake.balance("ada"), len(fake.journal)) == (90, 1)
        assert fake.problems() == []


def test_added_transactions_can_have_times_in_the_past() -> None:
    """The first transaction added to a user who had none also sets the user's creation time."""
    with FakeCredits(clock=NOW) as fake:
        fake.user("bob")
        for user_id in ("ada", "bob"):
            first: TransactionFields = {"delta": 100, "created_at": "2026-01-01T00:00:00Z"}
            fake.add_transactions(user_id, [first, Transaction(-10, "consume", NOW - timedelta(days=1)), 5])
            assert [each.created_at for each in fake.transactions(user_id)] == [
                datetime(2026, 1, 1, tzinfo=UTC),
                NOW - timedelta(days=1),
                NOW,
            ]
            assert fake.server_client.get_user("app-id", user_id).created_at == datetime(2026, 1, 1, tzinfo=UTC)


def test_history_can_be_copied_to_another_user() -> None:
    with FakeCredits(clock=NOW, world="edge") as fake:
        longest = max(fake.users(), key=lambda user: len(fake.transactions(user.user_id)))
        assert fake.add_transactions("copy", fake.transactions(longest.user_id)) == fake.transactions(longest.user_id)


def test_transaction_before_the_last_one_is_rejected() -> None:
    with FakeCredits(clock=NOW, users={"ada": 1}) as fake:
        with pytest.raises(ValueError, match="transaction 1: created_at is .*, which is before the previous"):
            fake.add_transactions("ada", [{"delta": 1, "created_at": NOW - timedelta(seconds=1)}])
        assert deltas(fake, "ada") == [1]


@pytest.mark.parametrize(
    ("transactions", "error"),
    [
        ([5, -100], InsufficientCredits),
        ([5, "x"], TypeError),
        ([5, {"delta": 1, "created_at": "2026-01-01"}], ValueError),
        (5, TypeError),
    ],
)
def test_no_transaction_is_added_if_one_is_rejected(transactions: Any, error: type[Exception]) -> None:
    with FakeCredits(users={"ada": 7}) as fake:
        for user_id in ("ada", "new"):
            with pytest.raises(error):
                fake.add_transactions(user_id, transactions)
        assert (deltas(fake, "ada"), len(fake.users())) == ([7], 1)
        assert fake.problems() == []


def test_adding_no_transactions_creates_the_user() -> None:
    with FakeCredits(clock=NOW) as fake:
        assert fake.add_transactions("ada", []) == ()
        assert fake.users() == (User("app-id", "ada", NOW),)


def test_added_transactions_do_not_change_the_history_in_a_world() -> None:
    """Sandboxes share a world's histories until one of them adds a transaction."""
    with FakeCredits(world="edge", clock=NOW) as fake:
        user_id = fake.users()[0].user_id
        before = fake.transactions(user_id)
        fake.add_transactions(user_id, [5])
        fake.reset()
        assert fake.transactions(user_id) == before


def test_users_are_listed_oldest_first_by_application() -> None:
    with FakeCredits(clock=NOW, users={"ada": 1}) as fake:
        fake.user("bob")
        fake.user("eve", application_id="shop")
        assert [user.user_id for user in fake.users()] == ["ada", "bob"]
        assert fake.users(application_id="shop") == (User("shop", "eve", NOW),)
        assert fake.users(application_id="empty") == ()
        assert len(fake.journal) == 0


def test_deleted_user_is_gone_and_can_be_created_again() -> None:
    with FakeCredits(clock=NOW, users={"ada": 1, "bob": 2}) as fake:
        client = fake.user_client("ada")
        assert fake.delete_user("ada") == User("app-id", "ada", NOW)
        for read in (lambda: fake.balance("ada"), lambda: fake.transactions("ada"), lambda: client.get_balance("ada")):
            with pytest.raises(UserNotFound):
                read()
        assert [user.user_id for user in fake.users()] == ["bob"]
        fake.add_transactions("ada", [5])
        assert client.get_balance("ada").balance == 5
        fake.reset()
        assert (fake.balance("ada"), fake.balance("bob")) == (1, 2)


@pytest.mark.parametrize("order", ["newest_first", "oldest_first"])
def test_user_list_cursor_still_works_after_the_users_are_deleted(order: Any) -> None:
    with FakeCredits(contract=Contract(users_order=order, page_size=1), users=dict.fromkeys("abcd", 1)) as fake:
        page = fake.server_client.list_users("app-id")
        for user in fake.users():
            fake.delete_user(user.user_id)
        assert fake.server_client.list_users("app-id", page.next_cursor).users == ()


def test_late_write_for_a_deleted_user_is_rejected_and_no_problem_is_reported() -> None:
    with FakeCredits(users={"ada": 5}) as fake:
        fake.faults.add(LateWrite(60_000), user="ada")
        with pytest.raises(Exception, match="timeout|timed out|no response"):
            fake.server_client.create_transaction("app-id", "ada", delta=-1, reason="consume")
        fake.delete_user("ada")
        fake.settle()
        assert fake.journal.calls("create_transaction", code="user_not_found", committed=False)
        assert fake.problems() == []


def test_stale_read_hides_the_writes_of_a_recreated_user() -> None:
    with FakeCredits(users={"ada": 5}) as fake:
        fake.faults.add(StaleRead(by_writes=1))
        fake.delete_user("ada")
        fake.add_transactions("ada", [7])
        assert fake.server_client.get_balance("app-id", "ada").balance == 0


@pytest.mark.parametrize("application_id", ["unknown", "app-id"])
def test_application_outside_the_contract_is_rejected(application_id: str) -> None:
    with FakeCredits(contract=Contract(applications=("shop",)), application_id="shop") as fake:
        if application_id == "unknown":
            assert fake.users() == ()
        with pytest.raises(ApplicationNotFound):
            fake.users(application_id=application_id)
        with pytest.raises(ApplicationNotFound):
            fake.add_transactions("ada", [1], application_id=application_id)


@pytest.mark.parametrize("user_id", ["", "..", "a\0", 5, None])
def test_invalid_user_id_is_rejected(user_id: Any) -> None:
    with FakeCredits() as fake:
        with pytest.raises((TypeError, ValueError), match="the user id must "):
            fake.delete_user(user_id)
        with pytest.raises((TypeError, ValueError), match="the user id must "):
            fake.add_transactions(user_id, [1])


def test_no_transaction_is_lost_when_several_threads_add_them() -> None:
    with FakeCredits() as fake:
        threads = [threading.Thread(target=fake.add_transactions, args=("ada", [1] * 50)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (fake.balance("ada"), fake.problems()) == (400, [])
