import pytest

from fake_credits import FakeCredits

free = pytest.param("free", 10, marks=pytest.mark.fake_credits(balance=10))
paid = pytest.param("paid", 500, marks=pytest.mark.fake_credits(balance=500))


@pytest.mark.parametrize(("plan", "balance"), [free, paid])
def test_plan_starts_with_its_balance(fake_credits: FakeCredits, plan: str, balance: int) -> None:
    assert fake_credits.user_client().get_balance("user-id").balance == balance, plan
