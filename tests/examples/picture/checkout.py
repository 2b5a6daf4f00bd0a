"""The test whose exploration is the picture in README.md. It fails, as it should: the application charges twice."""

import pytest

from fake_credits import FakeCredits, ServerClient
from fake_credits.errors import ConnectionLost


def buy_course(api: ServerClient, user: str) -> None:
    """Charge 10 credits, and try again if the connection is lost."""
    for _ in range(3):
        try:
            api.create_transaction("app-id", user, delta=-10, reason="consume")
            return
        except ConnectionLost:
            continue


@pytest.mark.fake_credits(users={"ada": 100})
def test_course_costs_ten_credits(fake_credits: FakeCredits) -> None:
    buy_course(fake_credits.server_client, "ada")
    balance = fake_credits.balance("ada")
    assert balance == 90
