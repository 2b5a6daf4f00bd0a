"""The test whose exploration is pictured in README.md. It fails because the application charges twice."""

import pytest
from shop import buy_course

from fake_credits import FakeCredits

pytestmark = pytest.mark.fake_credits(clock="2026-01-01T12:00:00Z")  # keeps the report the same on each run


@pytest.mark.fake_credits(users={"ada": 100}, intercept="https://credits.internal")
def test_course_costs_ten_credits(fake_credits: FakeCredits) -> None:
    buy_course(fake_credits.api_key, "ada")
    balance = fake_credits.balance("ada")
    assert balance == 90
