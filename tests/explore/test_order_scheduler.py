"""Exploring the orders of concurrent calls on asyncio, uvloop and trio, with each client that runs in process."""

import asyncio
import itertools
import threading
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest
import trio
import uvloop

from fake_credits import AsyncServerClient, FakeCredits
from fake_credits.explore.exploration import Exploration
from tests.explore.applications import charge as charge_blocking
from tests.explore.conftest import Explore, verdicts

ORDERS: Mapping[str, object] = {"faults": [], "orders": True}
URL = "https://credits.internal"
BALANCE = f"{URL}/v1/applications/app-id/users/ada/balance"
TRANSACTIONS = f"{URL}/v1/applications/app-id/users/ada/transactions"
CONSUME = {"delta": -10, "reason": "consume"}

Task = Callable[[], Coroutine[Any, Any, None]]
Runner = Callable[..., None]
"""A function that runs tasks concurrently in a new event loop, and then one more task."""


async def charge(api: AsyncServerClient, user: str = "ada", price: int = 10) -> None:
    await api.create_transaction("app-id", user, delta=-price, reason="consume")


async def charge_once(api: AsyncServerClient, user: str = "ada") -> None:
    """Charge the user only if the balance is still 100; other tasks may run between the check and the charge."""
    if (await api.get_balance("app-id", user)).balance == 100:
        await charge(api, user)


async def nothing() -> None:
    pass


async def _gather(tasks: list[Task], at_end: Task) -> None:
    await asyncio.gather(*(task() for task in tasks))
    await at_end()


async def _task_group(tasks: list[Task], at_end: Task) -> None:
    async with asyncio.TaskGroup() as group:
        for task in tasks:
            group.create_task(task())
    await at_end()


async def _nursery(tasks: list[Task], at_end: Task) -> None:
    async with trio.open_nursery() as nursery:
        for task in tasks:
            nursery.start_soon(task)
    await at_end()


def run_on_asyncio(tasks: list[Task], at_end: Task = nothing) -> None:
    asyncio.run(_gather(tasks, at_end))


def run_in_task_group(tasks: list[Task], at_end: Task = nothing) -> None:
    asyncio.run(_task_group(tasks, at_end))


def run_on_uvloop(tasks: list[Task], at_end: Task = nothing) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_gather(tasks, at_end))


def run_on_trio(tasks: list[Task], at_end: Task = nothing) -> None:
    trio.run(_nursery, tasks, at_end)


RUNNERS = (run_on_asyncio, run_on_uvloop, run_on_trio)


def count_orders(exploration: Exploration) -> int:
    assert not exploration.skip_reason
    assert not exploration.diverged_count
    return len(exploration.orders)


@pytest.mark.parametrize("run", RUNNERS)
@pytest.mark.parametrize(("count", "expected"), [(1, 1), (2, 4), (3, 21), pytest.param(4, 148, marks=pytest.mark.slow)])
def test_check_then_act_takes_one_run_for_each_order(explore: Explore, run: Runner, count: int, expected: int) -> None:
    balances: list[int] = []

    def test(credits: FakeCredits) -> None:
        run([partial(charge_once, credits.async_server_client)] * count)
        balances.append(credits.balance("ada"))

    exploration = explore(test, {**ORDERS, "seconds": 600})
    assert count_orders(exploration) == expected
    assert set(balances) == {100 - 10 * charged for charged in range(1, count + 1)}


@pytest.mark.parametrize("run", [*RUNNERS, run_in_task_group])
def test_buyers_with_their_own_users_take_one_run(explore: Explore, run: Runner) -> None:
    users = ["ada", "bob", "carol", "dan", "eve"]

    def test(credits: FakeCredits) -> None:
        api = credits.async_server_client

        async def check() -> None:
            for user in users:
                assert (await api.get_balance("app-id", user)).balance == credits.balance(user)

        for user in users[1:]:
            credits.add_transactions(user, [100])
        run([partial(charge_once, api, user) for user in users], check)

    assert count_orders(explore(test, ORDERS)) == 1


@pytest.mark.parametrize("run", RUNNERS)
def test_transfers_from_one_account_to_two_others_take_two_runs(explore: Explore, run: Runner) -> None:
    def test(credits: FakeCredits) -> None:
        api = credits.async_server_client

        async def transfer(user: str) -> None:
            await charge(api)
            await api.create_transaction("app-id", user, delta=10, reason="grant")

        run([partial(transfer, user) for user in ("bob", "carol") if credits.user(user)])

    assert count_orders(explore(test, ORDERS)) == 2


def test_failing_order_is_red_and_shows_its_calls(explore: Explore) -> None:
    def test(credits: FakeCredits) -> None:
        api = credits.async_server_client

        async def look_twice() -> None:
            await api.get_balance("app-id", "ada")
            await charge_once(api)

        run_on_asyncio([partial(charge_once, api), look_twice])
        assert credits.balance("ada") == 90

    exploration = explore(test, ORDERS)
    assert {judged.judgement.verdict.value for judged in exploration.red} == {"race"}
    assert not exploration.results
    plan = exploration.red[0].gate_plan
    assert plan is not None
    assert [release.label for release in plan.releases] == [
        "getBalance ada (task 1)",
        "getBalance ada (task 2)",
        "getBalance ada (task 2)",
        "createTransaction ada -10 (task 1)",
        "createTransaction ada -10 (task 2)",
    ]


def test_broken_invariant_in_an_order_is_red(explore: Explore) -> None:
    def test(credits: FakeCredits) -> None:
        api = credits.async_server_client
        credits.always(lambda: credits.balance("ada") >= 20)

        async def refill() -> None:
            await api.create_transaction("app-id", "ada", delta=50, reason="grant")

        run_on_asyncio([refill, partial(charge, api, price=90)])

    exploration = explore(test, ORDERS)
    assert [judged.judgement.verdict.value for judged in exploration.orders] == ["ok", "invariant broken"]


def test_faults_are_explored_along_with_orders(explore: Explore) -> None:
    def test(credits: FakeCredits) -> None:
        run_on_asyncio([partial(charge, credits.async_server_client)] * 2)

    exploration = explore(test, {"faults": ["refused"], "orders": True})
    assert len(verdicts(exploration)) == 2
    assert count_orders(exploration) == 2


def test_tasks_sharing_a_lock_have_only_one_order(explore: Explore) -> None:
    def test(credits: FakeCredits) -> None:
        lock = asyncio.Lock()

        async def charge_in_lock() -> None:
            async with lock:
                await charge_once(credits.async_server_client)

        run_on_asyncio([charge_in_lock] * 3)
        assert credits.balance("ada") == 90

    exploration = explore(test, ORDERS)
    assert count_orders(exploration) == 1
    assert not exploration.red


def test_background_task_is_not_mistaken_for_an_awaited_one(explore: Explore) -> None:
    balances: list[int] = []

    def test(credits: FakeCredits) -> None:
        api = credits.async_server_client

        async def shop() -> None:
            task = asyncio.create_task(charge(api))
            await api.get_balance("app-id", "bob")
            balances.append((await api.get_balance("app-id", "ada")).balance)
            await task

        credits.user("bob")
        asyncio.run(shop())

    assert count_orders(explore(test, ORDERS)) == 2
    assert set(balances) == {100, 90}


def test_blocking_calls_belong_to_the_preceding_exchange(explore: Explore) -> None:
    balances: list[int] = []

    def test(credits: FakeCredits) -> None:
        async def look() -> None:
            await credits.async_server_client.get_balance("app-id", "bob")
            balances.append(credits.server_client.get_balance("app-id", "ada").balance)

        credits.server_client.create_user("app-id", "bob")
        run_on_asyncio([look, partial(charge, credits.async_server_client)])

    assert count_orders(explore(test, ORDERS)) == 2
    assert set(balances) == {100, 90}


def test_second_event_loop_of_a_test_is_ordered_after_the_first(explore: Explore) -> None:
    def test(credits: FakeCredits) -> None:
        for _ in range(2):
            run_on_asyncio([partial(charge, credits.async_server_client)] * 2)

    assert count_orders(explore(test, ORDERS)) == 4


def test_polling_task_does_not_stop_the_others(explore: Explore) -> None:
    def test(credits: FakeCredits) -> None:
        async def poll() -> None:
            while credits.balance("ada") > 80:
                await asyncio.sleep(0)

        run_on_asyncio([poll, *[partial(charge, credits.async_server_client)] * 2])

    assert count_orders(explore(test, ORDERS)) == 2


def test_cancelled_task_leaves_the_queue(explore: Explore) -> None:
    def test(credits: FakeCredits) -> None:
        async def hesitate() -> None:
            task = asyncio.create_task(charge(credits.async_server_client))
            await credits.async_server_client.get_balance("app-id", "bob")
            task.cancel()

        credits.user("bob")
        asyncio.run(hesitate())
        assert credits.balance("ada") in (90, 100)

    assert not explore(test, ORDERS).red


def test_event_loop_in_another_thread_is_left_alone(explore: Explore) -> None:
    def test(credits: FakeCredits) -> None:
        async def wait_for_thread() -> None:
            task = asyncio.create_task(charge(credits.async_server_client))
            thread = threading.Thread(target=asyncio.run, args=[charge(credits.async_server_client)])
            await asyncio.sleep(0)
            thread.start()
            thread.join()
            await task

        asyncio.run(wait_for_thread())
        assert credits.balance("ada") == 80

    assert not explore(test, ORDERS).red


def test_divergence_is_counted(explore: Explore) -> None:
    runs = itertools.count(1)

    def test(credits: FakeCredits) -> None:
        async def hesitate() -> None:
            if next(runs) == 3:  # the first run after two without faults
                await credits.async_server_client.get_balance("app-id", "ada")
            await charge(credits.async_server_client)

        run_on_asyncio([hesitate, partial(charge, credits.async_server_client)])

    exploration = explore(test, ORDERS)
    assert exploration.diverged_count == 1


def test_test_without_an_event_loop_has_no_orders(explore: Explore) -> None:
    def test(credits: FakeCredits) -> None:
        charge_blocking(credits.server_client)

    assert explore(test, ORDERS).skip_reason == "it makes no in-process calls from an event loop"


def test_budget_limits_orders(explore: Explore) -> None:
    def test(credits: FakeCredits) -> None:
        run_on_asyncio([partial(charge_once, credits.async_server_client)] * 3)

    exploration = explore(test, {**ORDERS, "budget": 5})
    assert count_orders(exploration) == 5
    assert exploration.untried == {"known orders still pending when the budget of 5 schedules was reached": 7}
    assert exploration.describe_progress(2) == "5 of 5 runs, 0 s left"


# ------------------------------------------------------------ clients


async def _charge_with_httpx(client: httpx.AsyncClient | httpx2.AsyncClient) -> None:
    async with client:
        if (await client.get(BALANCE)).json()["balance"] == 100:
            await client.post(TRANSACTIONS, json=CONSUME)


async def _charge_with_aiohttp(headers: dict[str, str]) -> None:
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.get(BALANCE) as response:
            balance = (await response.json())["balance"]
        if balance == 100:
            async with session.post(TRANSACTIONS, json=CONSUME):
                pass


async def _charge_with_user_client(credits: FakeCredits) -> None:
    if (await credits.async_user_client("ada").get_balance("ada")).balance == 100:
        await charge(credits.async_server_client)


def _client_task(name: str, credits: FakeCredits) -> Coroutine[Any, Any, None]:
    headers = {"X-API-Key": credits.api_key}
    if name == "aiohttp":
        return _charge_with_aiohttp(headers)
    if name == "httpx":
        return _charge_with_httpx(httpx.AsyncClient(headers=headers, verify=False))  # noqa: S501 - nothing is sent
    if name == "httpx2":
        return _charge_with_httpx(httpx2.AsyncClient(headers=headers, verify=False))
    if name == "httpx transport":
        return _charge_with_httpx(httpx.AsyncClient(headers=headers, transport=credits.transport("httpx")))
    if name == "httpx2 transport":
        return _charge_with_httpx(httpx2.AsyncClient(headers=headers, transport=credits.transport("httpx2")))
    return _charge_with_user_client(credits)


_CLIENTS = ("user client", "httpx transport", "httpx2 transport", "httpx", "httpx2", "aiohttp")


@pytest.mark.parametrize(
    ("run", "name"), [(run, name) for run in RUNNERS for name in _CLIENTS if (run, name) != (run_on_trio, "aiohttp")]
)
def test_client_takes_one_run_for_each_order(explore: Explore, run: Runner, name: str) -> None:
    balances: list[int] = []

    def test(credits: FakeCredits) -> None:
        with credits.intercept(URL):
            run([partial(_client_task, name, credits)] * 2)
        balances.append(credits.balance("ada"))

    assert count_orders(explore(test, ORDERS)) == 4
    assert set(balances) == {90, 80}
