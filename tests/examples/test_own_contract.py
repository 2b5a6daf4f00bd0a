import pytest

from fake_credits import Contract, FakeCredits

OVERDRAFT = Contract(floor=-50, page_size=100)


@pytest.mark.fake_credits(contract=OVERDRAFT, users={"ada": 10})
def test_balance_can_fall_to_the_floor(fake_credits: FakeCredits) -> None:
    fake_credits.server_client.create_transaction("app-id", "ada", delta=-60, reason="consume")
    assert fake_credits.balance("ada") == -50
