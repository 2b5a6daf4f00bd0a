import asyncio

import pytest

from fake_credits import FakeCredits
from fake_credits.client.server import AsyncServerClient

# ---- the application under test


class Shop:
    """Sell a course once per customer: a customer who has paid is not charged again."""

    def __init__(self, api: AsyncServerClient) -> None:
        self.api = api
        self.locks: dict[str, asyncio.Lock] = {}

    async def buy(self, user: str) -> None:
        page = await self.api.list_transactions("app-id", user)
        if not any(transaction.delta == -40 for transaction in page.transactions):
            await self.api.create_transaction("app-id", user, delta=-40, reason="consume")

    async def buy_with_lock(self, user: str) -> None:
        async with self.locks.setdefault(user, asyncio.Lock()):
            await self.buy(user)


# ---- its tests


@pytest.mark.asyncio
@pytest.mark.fake_credits(users={"ada": 100})
async def test_concurrent_purchases_charge_twice(fake_credits: FakeCredits) -> None:
    shop = Shop(fake_credits.async_server_client)
    gate = fake_credits.hold("createTransaction", user="ada")
    clicks = [asyncio.create_task(shop.buy("ada")) for _ in range(2)]
    await gate.async_wait_for(2)  # both have read the history, and neither has paid
    gate.release()
    await asyncio.gather(*clicks)
    assert fake_credits.balance("ada") == 20  # found: paid twice


@pytest.mark.asyncio
@pytest.mark.fake_credits(users={"ada": 100})
async def test_locked_purchases_charge_once(fake_credits: FakeCredits) -> None:
    shop = Shop(fake_credits.async_server_client)
    gate = fake_credits.hold("createTransaction", user="ada")
    clicks = [asyncio.create_task(shop.buy_with_lock("ada")) for _ in range(2)]
    await gate.async_wait_for(1)
    gate.release()
    await asyncio.gather(*clicks)
    assert fake_credits.balance("ada") == 60
    assert gate.arrivals == 1
