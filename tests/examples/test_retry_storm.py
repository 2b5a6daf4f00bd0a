from collections.abc import Callable

import pytest

from fake_credits import FakeCredits
from fake_credits.client.server import ServerClient
from fake_credits.errors import RateLimited
from fake_credits.faults import RateLimit

# ---- the application under test


class BalanceReader:
    """Read the balances of all users, and retry when the rate limit is exceeded."""

    def __init__(self, api: ServerClient, sleep: Callable[[float], None]) -> None:
        self.api = api
        self.sleep = sleep  # time.sleep in production

    def total_with_fixed_pause(self, users: list[str]) -> int:
        return sum(self._get_balance(user, lambda _: 1) for user in users)

    def total_with_retry_after(self, users: list[str]) -> int:
        return sum(self._get_balance(user, lambda error: error.retry_after_s or 1) for user in users)

    def _get_balance(self, user: str, pause_s: Callable[[RateLimited], float]) -> int:
        while True:
            try:
                return self.api.get_balance("app-id", user).balance
            except RateLimited as error:
                self.sleep(pause_s(error))


# ---- its tests: 15 calls at 5 a minute take two minutes of the sandbox's clock and no real time

USERS = {f"user-{number}": 10 for number in range(15)}


def count_rate_limited(credits: FakeCredits) -> int:
    return sum(entry.status == 429 for entry in credits.journal)


@pytest.mark.fake_credits(users=USERS, clock="frozen", faults=[RateLimit(limit=5, window_s=60)])
def test_fixed_pause_causes_retry_storm(fake_credits: FakeCredits) -> None:
    assert BalanceReader(fake_credits.server_client, fake_credits.sleep).total_with_fixed_pause(list(USERS)) == 150
    assert count_rate_limited(fake_credits) == 120  # found: eight of nine calls are rejected


@pytest.mark.fake_credits(users=USERS, clock="frozen", faults=[RateLimit(limit=5, window_s=60)])
def test_waiting_for_retry_after_is_limited_once_a_minute(fake_credits: FakeCredits) -> None:
    assert BalanceReader(fake_credits.server_client, fake_credits.sleep).total_with_retry_after(list(USERS)) == 150
    assert count_rate_limited(fake_credits) == 2
