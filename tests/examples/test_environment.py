import os

import pytest
import requests


def balance_of(user: str) -> int:
    """Return a user's balance. This is the application under test; it reads its settings when called."""
    url = f"{os.environ['CREDITS_BASE_URL']}/v1/applications/app-id/users/{user}/balance"
    response = requests.get(url, headers={"X-API-Key": os.environ["CREDITS_API_KEY"]}, timeout=5)
    return int(response.json()["balance"])


@pytest.mark.fake_credits(users={"ada": 100})
@pytest.mark.usefixtures("fake_credits_env")
def test_application_reads_environment() -> None:
    assert balance_of("ada") == 100
