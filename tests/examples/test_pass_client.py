import pytest

from fake_credits import FakeCredits, ServerClient


class Shop:
    """The application under test, which receives its client as an argument."""

    def __init__(self, api: ServerClient) -> None:
        self.api = api

    def sell_course(self, user: str) -> None:
        self.api.create_transaction("app-id", user, delta=-10, reason="consume")


@pytest.mark.fake_credits(users={"ada": 100})
def test_course_costs_ten_credits(fake_credits: FakeCredits) -> None:
    Shop(fake_credits.server_client).sell_course("ada")
    assert fake_credits.balance("ada") == 90
