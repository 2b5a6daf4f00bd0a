"""Test assertions on real exchanges, in process and over a socket, with calls from tasks and from other threads."""

import threading
from collections.abc import Iterator

import anyio
import pytest

from fake_credits import FakeCredits
from tests.assertions.test_journal_assertions import RUNS, Run


@pytest.fixture(params=["in-process", "live"])
def credits(request: pytest.FixtureRequest) -> Iterator[FakeCredits]:
    with FakeCredits(mode=request.param, users={"ada": 100}) as credits:
        yield credits


@pytest.fixture(params=RUNS, ids=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Run:
    found: Run = request.param
    return found


def spend(credits: FakeCredits) -> None:
    credits.server_client.create_transaction("app-id", "ada", delta=-10, reason="consume")


def test_what_happened_is_told_over_both_drivers(credits: FakeCredits) -> None:
    spend(credits)
    credits.user_client("ada").get_balance("ada")
    credits.journal.assert_order("createTransaction", "getBalance")
    credits.journal.assert_called("createTransaction", delta=-10, reason="consume", committed=True, client="server")
    credits.journal.assert_called("getBalance", user="ada", client="user", times=1)
    with pytest.raises(AssertionError) as failed:
        credits.journal.assert_called(user=credits.api_key)
    assert credits.api_key not in str(failed.value)


def test_a_thread_waits_for_a_call(credits: FakeCredits) -> None:
    caller = threading.Thread(target=spend, args=(credits,))
    caller.start()
    (call,) = credits.journal.wait_for("createTransaction", user="ada")
    assert call.committed
    caller.join()


def test_a_task_waits_for_another_thread_s_call(credits: FakeCredits, run: Run) -> None:
    credits.serve()

    async def main() -> None:
        caller = threading.Thread(target=spend, args=(credits,))
        caller.start()
        await credits.journal.async_wait_for("createTransaction", user="ada")
        caller.join()

    run(main)


def test_a_task_waits_for_another_task_s_call(credits: FakeCredits, run: Run) -> None:
    """In one loop, where a wait that stopped it would never end."""

    async def main() -> None:
        client = credits.async_server_client
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(client.get_balance, "app-id", "ada")
            await credits.journal.async_wait_for("getBalance", times=2)

    run(main)
