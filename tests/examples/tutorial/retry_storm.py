import asyncio

import pytest
from shop import Shop

from fake_credits import FakeCredits
from fake_credits.faults import RateLimit

USERS = {f"user-{number}": 10 for number in range(15)}


@pytest.mark.fake_credits(users=USERS, clock="frozen", faults=RateLimit(limit=5, window_s=60))
def test_rate_limit_is_met_once_a_minute(fake_credits: FakeCredits) -> None:
    async def read_balances() -> list[int]:
        shop = Shop(fake_credits.async_server_client, sleep=fake_credits.async_sleep)
        return [await shop.balance(user) for user in USERS]

    assert sum(asyncio.run(read_balances())) == 150
    assert len(fake_credits.journal.calls(status=429)) <= 2
