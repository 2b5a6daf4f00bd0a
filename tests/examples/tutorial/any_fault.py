import asyncio

import pytest
from shop import Shop

from fake_credits import FakeCredits


@pytest.mark.fake_credits(users={"ada": 100})
def test_ada_buys_the_course(fake_credits: FakeCredits) -> None:
    async def buy() -> int:
        shop = Shop(fake_credits.async_server_client, sleep=fake_credits.async_sleep)
        await shop.buy("ada")
        return await shop.balance("ada")

    assert asyncio.run(buy()) == 60
