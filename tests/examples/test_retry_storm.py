from collections.abc import Callable

import pytest

from fake_credits import FakeCredits
from fake_credits.client.server import ServerClient
from fake_credits.errors import RateLimited
from fake_credits.faults import RateLimit

# ---- the application under test


class Balances:
    """Ask for the balances of all users, and ask again where the API has had enough."""

    def __init__(self, api: ServerClient, sleep: Callable[[float], None]) -> None:
        self.api = api
        self.sleep = sleep  # time.sleep in production

    def stubborn(self, users: list[str]) -> int:
        return sum(self._ask(user, lambda _: 1) for user in users)

    def polite(self, users: list[str]) -> int:
        return sum(self._ask(user, lambda refused: refused.retry_after_s or 1) for user in users)

    def _ask(self, user: str, pause_s: Callable[[RateLimited], float]) -> int:
        while True:
            try:
                return self.api.get_balance("app-id", user).balance
            except RateLimited as refused:
                self.sleep(pause_s(refused))


# ---- its tests: 15 calls at 5 a minute take two minutes of the sandbox's clock and none of ours

USERS = {f"user-{number}": 10 for number in range(15)}


def refusals(credits: FakeCredits) -> int:
    return sum(entry.status == 429 for entry in credits.journal)


@pytest.mark.fake_credits(users=USERS, clock="frozen", faults=[RateLimit(limit=5, window_s=60)])
def test_a_fixed_pause_is_a_retry_storm(fake_credits: FakeCredits) -> None:
    assert Balances(fake_credits.server_client, fake_credits.sleep).stubborn(list(USERS)) == 150
    assert refusals(fake_credits) == 120  # found: eight calls in nine are refused


@pytest.mark.fake_credits(users=USERS, clock="frozen", faults=[RateLimit(limit=5, window_s=60)])
def test_who_waits_as_told_is_refused_once_a_minute(fake_credits: FakeCredits) -> None:
    assert Balances(fake_credits.server_client, fake_credits.sleep).polite(list(USERS)) == 150
    assert refusals(fake_credits) == 2
