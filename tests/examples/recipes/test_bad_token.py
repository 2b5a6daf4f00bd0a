import pytest

from fake_credits import FakeCredits, UserClient
from fake_credits.errors import TokenExpired


@pytest.mark.fake_credits(auth_provider="clerk", users={"ada": 100})
def test_expired_token_is_rejected(fake_credits: FakeCredits) -> None:
    token = fake_credits.token("ada", bad="expired")
    with UserClient(fake_credits.base_url, "app-id", token) as client, pytest.raises(TokenExpired):
        client.get_balance("ada")
