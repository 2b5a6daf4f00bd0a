import os

import httpx2
import pytest
import requests

from fake_credits import FakeCredits

BALANCE = "/v1/applications/app-id/users/ada/balance"


@pytest.mark.fake_credits(users={"ada": 100})
def test_httpx2_application_uses_transport(fake_credits: FakeCredits) -> None:
    application = httpx2.Client(base_url="https://credits.internal", transport=fake_credits.transport("httpx2"))
    response = application.get(BALANCE, headers={"X-API-Key": fake_credits.api_key})
    assert response.json() == {"balance": 100}


@pytest.mark.fake_credits(users={"ada": 100})
@pytest.mark.usefixtures("fake_credits_env")
def test_application_reads_environment() -> None:
    url, key = os.environ["CREDITS_BASE_URL"], os.environ["CREDITS_API_KEY"]
    assert requests.get(url + BALANCE, headers={"X-API-Key": key}, timeout=5).json() == {"balance": 100}
