import asyncio

import pytest

from fake_credits import AsyncServerClient, FakeCredits
from fake_credits.errors import InsufficientCredits


async def spend_if_available(client: AsyncServerClient) -> None:
    if (await client.get_balance("app-id", "ada")).balance >= 1:  # checks, then acts: a race
        await client.create_transaction("app-id", "ada", delta=-1, reason="consume")


@pytest.mark.fake_credits(users={"ada": 1})
def test_concurrent_spending_raises_insufficient_credits(
    fake_credits: FakeCredits, fake_credits_async_server_client: AsyncServerClient
) -> None:
    async def spend_twice() -> None:
        await asyncio.gather(*(spend_if_available(fake_credits_async_server_client) for _ in range(2)))

    with pytest.raises(InsufficientCredits):
        asyncio.run(spend_twice())
    assert fake_credits.balance("ada") == 0
