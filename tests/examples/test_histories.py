import pytest

from fake_credits import FakeCredits


@pytest.mark.fake_credits(clock="2026-03-01T12:00:00Z")
def test_last_month_was_expensive(fake_credits: FakeCredits) -> None:
    fake_credits.add_transactions(
        "ada",
        [
            {"delta": 100, "created_at": "2026-01-01T00:00:00Z"},
            {"delta": -80, "created_at": "2026-02-14T09:30:00Z"},
            {"delta": 5, "reason": "refund", "created_at": "2026-02-15T08:00:00Z"},
            -10,
        ],
    )
    assert fake_credits.balance("ada") == 15
    assert [each.delta for each in fake_credits.transactions("ada")] == [100, -80, 5, -10]
    assert [user.user_id for user in fake_credits.users()] == ["ada"]
    fake_credits.delete_user("ada")
    assert fake_credits.users() == ()
