import pytest

from fake_credits import FakeCredits, UserClient
from fake_credits.errors import TokenExpired


@pytest.mark.fake_credits(users={"ada": 100}, clock="frozen")
def test_token_expires_after_an_hour(fake_credits: FakeCredits) -> None:
    token = fake_credits.token("ada", expires_in_s=3600)
    with UserClient(fake_credits.base_url, "app-id", token) as client:
        assert client.get_balance("ada").balance == 100
        fake_credits.clock.advance(minutes=61)
        with pytest.raises(TokenExpired):
            client.get_balance("ada")
