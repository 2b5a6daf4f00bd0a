import pytest

from fake_credits import FakeCredits
from fake_credits.errors import InsufficientCredits


def test_overspending_is_rejected(fake_credits: FakeCredits) -> None:
    fake_credits.user("ada", balance=100)
    with pytest.raises(InsufficientCredits):
        fake_credits.server_client.create_transaction("app-id", "ada", delta=-101, reason="consume")
    assert fake_credits.user_client("ada").get_balance("ada").balance == 100
