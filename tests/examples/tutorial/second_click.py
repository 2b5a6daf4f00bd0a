import asyncio

import pytest
from shop import Shop

from fake_credits import FakeCredits


@pytest.mark.fake_credits(users={"ada": 100}, explore={"faults": [], "orders": True})
def test_second_click_buys_nothing(fake_credits: FakeCredits) -> None:
    async def click_twice() -> None:
        shop = Shop(fake_credits.async_server_client)

        async def click_again() -> None:
            for _ in range(2):
                await shop.balance("ada")  # the second click comes a moment later
            await shop.buy("ada")

        await asyncio.gather(shop.buy("ada"), click_again())

    asyncio.run(click_twice())
    assert fake_credits.balance("ada") == 60
