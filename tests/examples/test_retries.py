import httpx2
import pytest

from fake_credits import FakeCredits

TRANSACTIONS = "/v1/applications/app-id/users/ada/transactions"


@pytest.mark.fake_credits(users={"ada": 100}, keep_headers="X-Tenant")
def test_blind_retry_charges_twice(fake_credits: FakeCredits) -> None:
    transport = fake_credits.transport("httpx2")
    headers = {"X-API-Key": fake_credits.api_key, "Idempotency-Key": "order-1", "X-Tenant": "acme"}
    with httpx2.Client(base_url="https://credits.internal", transport=transport, headers=headers) as application:
        for _ in range(2):
            application.post(TRANSACTIONS, json={"delta": -10, "reason": "consume"})
    fake_credits.journal.assert_called("createTransaction", headers={"X-Tenant": "acme"}, times=2)
    with pytest.raises(AssertionError, match="order-1"):
        fake_credits.journal.assert_committed_once()
