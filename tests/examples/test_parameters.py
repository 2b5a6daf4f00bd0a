import pytest

from fake_credits import FakeCredits

free = pytest.param("free", 10, marks=pytest.mark.fake_credits(balance=10))
paid = pytest.param("paid", 500, marks=pytest.mark.fake_credits(balance=500))


@pytest.mark.parametrize(("plan", "granted"), [free, paid])
def test_each_plan_starts_with_its_credits(fake_credits: FakeCredits, plan: str, granted: int) -> None:
    assert fake_credits.user_client().get_balance("user-id").balance == granted, plan
