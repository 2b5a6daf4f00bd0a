import pytest

from fake_credits import FakeCredits
from fake_credits.client.server import ServerClient
from fake_credits.errors import ConnectionLost
from fake_credits.faults import lost_response

# ---- the application under test


def charge_blindly(api: ServerClient, user: str, price: int) -> None:
    """Retry where no answer came, as if nothing had happened."""
    for _ in range(3):
        try:
            api.create_transaction("app-id", user, delta=-price, reason="consume")
            return
        except ConnectionLost:
            continue


def charge_once(api: ServerClient, user: str, price: int) -> None:
    """Retry only what the history does not show."""
    before = len(list(api.iter_transactions("app-id", user)))
    for _ in range(3):
        try:
            api.create_transaction("app-id", user, delta=-price, reason="consume")
            return
        except ConnectionLost:
            history = list(api.iter_transactions("app-id", user))
            if any(new.delta == -price for new in history[: len(history) - before]):  # newest first
                return


# ---- its tests


@pytest.mark.fake_credits(users={"ada": 100})
def test_a_blind_retry_charges_twice(fake_credits: FakeCredits) -> None:
    fake_credits.faults.add(lost_response(), "createTransaction", nth=1)
    charge_blindly(fake_credits.server_client, "ada", 10)
    assert fake_credits.balance("ada") == 80  # found: 10 too few
    lost = fake_credits.journal.entries(operation="createTransaction")[0]
    assert (lost.committed, lost.delivered, lost.rule) == (True, False, "reset#1")


@pytest.mark.fake_credits(users={"ada": 100})
def test_who_reads_the_history_first_charges_once(fake_credits: FakeCredits) -> None:
    fake_credits.faults.add(lost_response(), "createTransaction", nth=1)
    charge_once(fake_credits.server_client, "ada", 10)
    assert fake_credits.balance("ada") == 90
