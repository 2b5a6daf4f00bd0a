import pytest

from fake_credits import FakeCredits
from fake_credits.client.server import ServerClient
from fake_credits.errors import ConnectionLost
from fake_credits.faults import lost_response

# ---- the application under test


def charge_with_blind_retry(api: ServerClient, user: str, price: int) -> None:
    """Retry after a lost connection without checking whether the write was committed."""
    for _ in range(3):
        try:
            api.create_transaction("app-id", user, delta=-price, reason="consume")
            return
        except ConnectionLost:
            continue


def charge_after_checking_history(api: ServerClient, user: str, price: int) -> None:
    """Retry only when the history does not contain the transaction."""
    before = len(list(api.iter_transactions("app-id", user)))
    for _ in range(3):
        try:
            api.create_transaction("app-id", user, delta=-price, reason="consume")
            return
        except ConnectionLost:
            history = list(api.iter_transactions("app-id", user))
            if any(transaction.delta == -price for transaction in history[: len(history) - before]):  # newest first
                return


# ---- its tests


@pytest.mark.fake_credits(users={"ada": 100})
def test_blind_retry_charges_twice(fake_credits: FakeCredits) -> None:
    fake_credits.faults.add(lost_response(), "createTransaction", nth=1)
    charge_with_blind_retry(fake_credits.server_client, "ada", 10)
    assert fake_credits.balance("ada") == 80  # found: 10 too few
    first = fake_credits.journal.entries(operation="createTransaction")[0]
    assert (first.committed, first.delivered, first.rule) == (True, False, "reset#1")


@pytest.mark.fake_credits(users={"ada": 100})
def test_retry_after_checking_history_charges_once(fake_credits: FakeCredits) -> None:
    fake_credits.faults.add(lost_response(), "createTransaction", nth=1)
    charge_after_checking_history(fake_credits.server_client, "ada", 10)
    assert fake_credits.balance("ada") == 90
