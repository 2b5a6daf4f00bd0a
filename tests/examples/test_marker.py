import pytest

from fake_credits import FakeCredits, ServerClient


@pytest.mark.fake_credits(users={"ada": 100, "bob": 0}, clock="2030-01-01T00:00:00Z")
def test_transaction_time_follows_clock(fake_credits: FakeCredits, fake_credits_server_client: ServerClient) -> None:
    fake_credits.clock.advance(days=30)
    fake_credits_server_client.create_transaction("app-id", "ada", delta=-10, reason="consume")
    newest = fake_credits_server_client.list_transactions("app-id", "ada").transactions[0]
    assert newest.created_at.isoformat() == "2030-01-31T00:00:00+00:00"
    assert fake_credits_server_client.get_balance("app-id", "bob").balance == 0
