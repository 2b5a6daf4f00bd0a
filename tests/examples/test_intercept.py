import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from fake_credits import FakeCredits
from fake_credits.faults.effects import Reset, Status

# The application, unchanged: configured at import, with the production URL and retries that take a minute.
session = requests.Session()
session.mount("https://", HTTPAdapter(max_retries=Retry(3, status_forcelist=[503], allowed_methods=None)))


def spend(key: str) -> dict[str, int]:
    url = "https://credits.internal/api/v1/applications/app-id/users/ada/transactions"
    body = {"delta": -1, "reason": "consume"}
    response = session.post(url, json=body, headers={"X-API-Key": key}, timeout=5)
    response.raise_for_status()
    transaction: dict[str, int] = response.json()
    return transaction


@pytest.mark.fake_credits(users={"ada": 100}, clock="frozen")
def test_retry_waits_for_retry_after(fake_credits: FakeCredits) -> None:
    fake_credits.faults.add(Status(503, retry_after_s=20), "createTransaction", first=2)
    started_at = fake_credits.clock.now()
    with fake_credits.intercept("https://credits.internal/api"):
        assert spend(fake_credits.api_key)["delta"] == -1
    assert (fake_credits.clock.now() - started_at).total_seconds() == 40


@pytest.mark.fake_credits(users={"ada": 100}, intercept="https://credits.internal/api")
def test_lost_response_charges_twice(fake_credits: FakeCredits) -> None:
    fake_credits.faults.add(Reset(), "createTransaction", phase="after", nth=1)
    spend(fake_credits.api_key)
    assert fake_credits.balance("ada") == 98  # the bug: a POST that may have been booked is sent again
