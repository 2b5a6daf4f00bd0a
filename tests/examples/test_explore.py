from collections.abc import Sequence

import pytest
from pytest_fake_credits.factory import Factory

from fake_credits import FakeCredits
from fake_credits.client.server import ServerClient
from fake_credits.errors import ApiError, TransportFailure

# ---- the application under test


def charge(api: ServerClient, user: str, price: int) -> None:
    """Charge a user; retry only if the history shows that the write was not committed."""
    before = len(_deltas(api, user))
    for attempt in range(3):
        try:
            if len(_deltas(api, user)) == before:
                api.create_transaction("app-id", user, delta=-price, reason="consume")
            return
        except (ApiError, TransportFailure):
            if attempt == 2:
                raise


def _deltas(api: ServerClient, user: str) -> Sequence[int]:
    return [transaction.delta for transaction in api.iter_transactions("app-id", user)]


# ---- its tests


@pytest.mark.fake_credits(users={"ada": 100}, explore=True)
def test_charges_once_whatever_fails(fake_credits: FakeCredits) -> None:
    fake_credits.always(lambda: fake_credits.balance("ada") >= 90)
    fake_credits.eventually(lambda: fake_credits.balance("ada") in (90, 100))
    charge(fake_credits.server_client, "ada", 10)
    with fake_credits.aside():
        assert _deltas(fake_credits.server_client, "ada") == [-10, 100]


@pytest.mark.fake_credits(users={"ada": 100}, explore={"faults": ["lost_after"], "depth": 1})
def test_schedule_is_known_to_the_test(fake_credits: FakeCredits) -> None:
    charge(fake_credits.server_client, "ada", 10)
    calls = len(fake_credits.journal.entries(operation="listTransactions"))
    assert calls == (3 if fake_credits.explored == "3:lost_after" else 2)


def test_loop_explores_a_block(fake_credits_factory: Factory) -> None:
    for credits in fake_credits_factory.explore("writes", users={"ada": 100}):
        with credits:
            charge(credits.server_client, "ada", 10)
            assert credits.balance("ada") == 90
