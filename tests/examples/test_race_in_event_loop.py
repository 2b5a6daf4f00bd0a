import asyncio

import pytest

from fake_credits import AsyncServerClient, FakeCredits


async def grant_welcome_bonus(client: AsyncServerClient) -> None:
    page = await client.list_transactions("app-id", "ada")
    if not page.transactions:  # checks, then acts
        await client.create_transaction("app-id", "ada", delta=50, reason="grant")


@pytest.mark.asyncio
async def test_two_sign_ups_grant_the_bonus_twice(fake_credits: FakeCredits) -> None:
    fake_credits.user("ada")
    gate = fake_credits.hold("createTransaction", user="ada")
    client = fake_credits.async_server_client
    tasks = [asyncio.create_task(grant_welcome_bonus(client)) for _ in range(2)]
    await gate.async_wait_for(2)  # both have seen an empty history
    gate.release()
    await asyncio.gather(*tasks)
    assert fake_credits.balance("ada") == 100  # the bug: 50 was intended
