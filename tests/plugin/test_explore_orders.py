"""Exploring the orders of concurrent calls with the marker and a loop, and the test that reproduces an order."""

import re

import pytest

from tests.plugin.conftest import Suite
from tests.plugin.test_explore import text_of

APPLICATION = """
import asyncio

import pytest

pytestmark = pytest.mark.fake_credits(users={"ada": 0})


async def grant_bonus(api):
    page = await api.list_transactions("app-id", "ada")
    if not page.transactions:
        await api.create_transaction("app-id", "ada", delta=50, reason="grant")


async def sign_in(api):
    for _ in range(2):
        await api.get_balance("app-id", "ada")
    await grant_bonus(api)


async def sign_up_and_in(api):
    await asyncio.gather(grant_bonus(api), sign_in(api))

"""
MARKER = '@pytest.mark.fake_credits(explore={"faults": [], "orders": True})'
SYNC_TEST = f"""
@pytest.mark.parametrize("number", [1])
{MARKER}
def test_bonus_is_granted_once(number, fake_credits):
    asyncio.run(sign_up_and_in(fake_credits.async_server_client))
    assert fake_credits.balance("ada") == 50
"""
ASYNC_METHOD = f"""
class TestBonus:
    {MARKER}
    @pytest.mark.asyncio
    async def test_bonus_is_granted_once(self, fake_credits):
        api = fake_credits.async_server_client
        fake_credits.server_client.create_user("app-id", "bob")
        await sign_up_and_in(api)
        assert (await api.get_balance("app-id", "ada")).balance == 50
"""
TRIO_TEST = f"""
import trio


async def sign_up_and_in_on_trio(api):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(grant_bonus, api)
        nursery.start_soon(sign_in, api)

{MARKER}
def test_bonus_is_granted_once(fake_credits):
    trio.run(sign_up_and_in_on_trio, fake_credits.async_server_client)
    assert fake_credits.balance("ada") == 50
"""
LOOP = """
def test_bonus_is_granted_once(fake_credits_factory):
    for credits in fake_credits_factory.explore([], orders=True, users={"ada": 0}):
        with credits:
            asyncio.run(sign_up_and_in(credits.async_server_client))
            assert credits.balance("ada") == 50
"""
ASYNCIO = "asyncio_default_fixture_loop_scope=function"


def printed_test(text: str) -> str:
    match = re.search(r"^from concurrent\.futures.*?^ *\w+\.pytestmark \+= [^\n]*\n", text, re.DOTALL | re.MULTILINE)
    assert match is not None, text
    return match[0]


@pytest.mark.parametrize("source", [SYNC_TEST, ASYNC_METHOD, TRIO_TEST])
def test_printed_test_reproduces_the_failing_order(suite: Suite, source: str) -> None:
    options = {"ini": ASYNCIO, "plugins": ("pytest_asyncio.plugin",)}
    text = text_of(suite(APPLICATION + source, **options))
    assert "fake-credits: 6 orders: 4 fine, 2 race" in text
    assert "Race (order 4 of 6): the test does not pass when calls are released in this order: 1 " in text
    imports, _, definition = printed_test(text).partition("\n\n\n")
    result = suite(f"{imports}\n{APPLICATION}{source}\n{definition}", "-k", "failing_order", **options)
    result.assert_outcomes(failed=1, deselected=1)
    assert "100 == 50" in text_of(result)


def test_loop_explores_orders(suite: Suite) -> None:
    result = suite(APPLICATION + LOOP)
    result.assert_outcomes(failed=1)
    text = text_of(result)
    assert "6 orders: 4 fine, 2 race" in text
    assert "(2, 0),  # listTransactions ada (task 1)" in text
    assert "...  # the body of your loop" in text


def test_orders_are_explored_after_faults_and_summarized(suite: Suite) -> None:
    source = SYNC_TEST.replace('"faults": []', '"faults": ["lost_before"]').replace("== 50", "in (50, 100)")
    text = text_of(suite(APPLICATION + source, "--fake-credits-explore"))
    assert "1 test explored, 5 schedules: 5 fine" in text
    assert "6 orders: 6 fine" in text


def test_test_without_calls_cannot_be_explored(suite: Suite) -> None:
    result = suite(f"import pytest\n{MARKER}\ndef test_reads(fake_credits):\n    assert not fake_credits.users()\n")
    result.assert_outcomes(failed=1)
    assert "this test can't be explored: it makes no call" in text_of(result)
