import httpx2
import pytest

from fake_credits import FakeCredits


@pytest.mark.fake_credits(users={"ada": 100})
def test_httpx2_application_uses_transport(fake_credits: FakeCredits) -> None:
    application = httpx2.Client(base_url="https://credits.internal", transport=fake_credits.transport("httpx2"))
    headers = {"X-API-Key": fake_credits.api_key}
    response = application.get("/v1/applications/app-id/users/ada/balance", headers=headers)
    assert response.json() == {"balance": 100}
