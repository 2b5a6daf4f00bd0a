import pytest

from fake_credits import FakeCredits


@pytest.mark.fake_credits(world="demo")
def test_demo_world_has_users_with_histories(fake_credits: FakeCredits) -> None:
    users = list(fake_credits.server_client.iter_users("app-id"))
    assert len(users) == 200
    assert fake_credits.server_client.list_transactions("app-id", users[0].user_id).transactions
