from datetime import timedelta

import pytest

from fake_credits import FakeCredits


@pytest.mark.fake_credits(world="demo")
def test_demo_world_has_200_users_with_recent_transactions(fake_credits: FakeCredits) -> None:
    users = list(fake_credits.server_client.iter_users("app-id"))
    newest = fake_credits.server_client.list_transactions("app-id", users[0].user_id).transactions[0]
    assert len(users) == 200
    assert fake_credits.clock.now() - newest.created_at < timedelta(days=365)


def test_edge_world_has_user_with_maximum_balance(fake_credits: FakeCredits) -> None:
    fake_credits.load_world("edge")
    assert fake_credits.balance("maximum-balance") == 2**53 - 1
