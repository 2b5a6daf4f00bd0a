"""The test whose report is the picture in README.md. It fails, as it should: the application charges twice."""

import pytest

from fake_credits import FakeCredits, ServerClient
from fake_credits.errors import ConnectionLost
from fake_credits.faults import lost_response


def buy_course(api: ServerClient, user: str) -> None:
    """Charge 10 credits, and try again if the connection is lost."""
    for _ in range(3):
        try:
            api.create_transaction("app-id", user, delta=-10, reason="consume")
            return
        except ConnectionLost:
            continue


@pytest.mark.fake_credits(users={"ada": 100}, clock="2026-01-01T12:00:00Z")
def test_course_costs_ten_credits(fake_credits: FakeCredits) -> None:
    fake_credits.faults.add(lost_response(), nth=1)
    buy_course(fake_credits.server_client, "ada")
    balance = fake_credits.balance("ada")
    assert balance == 90
