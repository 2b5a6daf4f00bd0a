"""A shop that sells a course for 40 credits."""

import asyncio
from collections.abc import Awaitable, Callable

from fake_credits import AsyncServerClient
from fake_credits.errors import ConnectionLost, RateLimited

PRICE = 40


class Shop:
    def __init__(self, api: AsyncServerClient, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self.api = api
        self.sleep = sleep

    async def has_paid(self, user: str) -> bool:
        page = await self.api.list_transactions("app-id", user)
        return any(transaction.delta == -PRICE for transaction in page.transactions)

    async def buy(self, user: str) -> None:
        """Charge a user who has not paid yet; try up to three times if the connection is lost."""
        for attempt in range(3):
            if await self.has_paid(user):
                return
            try:
                await self.api.create_transaction("app-id", user, delta=-PRICE, reason="consume")
                return
            except ConnectionLost:
                if attempt == 2:
                    raise

    async def balance(self, user: str) -> int:
        """Return a user's balance; if the rate limit is exceeded, wait and try again."""
        while True:
            try:
                return (await self.api.get_balance("app-id", user)).balance
            except RateLimited:
                await self.sleep(1)
