import asyncio

import pytest
from shop import Shop

from fake_credits import FakeCredits


@pytest.mark.fake_credits(users={"ada": 100}, clock="2026-01-01T12:00:00Z")
def test_two_clicks_are_one_purchase(fake_credits: FakeCredits) -> None:
    async def click_twice() -> None:
        shop = Shop(fake_credits.async_server_client)
        await asyncio.gather(shop.buy("ada"), shop.buy("ada"))

    asyncio.run(click_twice())
    assert fake_credits.balance("ada") == 60
