"""Test assertions on real exchanges, in process and over a socket, from tasks and from threads."""

import threading
from collections.abc import Iterator

import anyio
import pytest

from fake_credits import FakeCredits
from tests.assertions.test_journal_assertions import LOOP_RUNNERS, RunMain


@pytest.fixture(params=["in-process", "live"])
def credits(request: pytest.FixtureRequest) -> Iterator[FakeCredits]:
    with FakeCredits(mode=request.param, users={"ada": 100}) as credits:
        yield credits


@pytest.fixture(params=LOOP_RUNNERS, ids=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> RunMain:
    runner: RunMain = request.param
    return runner


def spend(credits: FakeCredits) -> None:
    credits.server_client.create_transaction("app-id", "ada", delta=-10, reason="consume")


def test_assertions_work_over_both_drivers(credits: FakeCredits) -> None:
    spend(credits)
    credits.user_client("ada").get_balance("ada")
    credits.journal.assert_order("createTransaction", "getBalance")
    credits.journal.assert_called("createTransaction", delta=-10, reason="consume", committed=True, client="server")
    credits.journal.assert_called("getBalance", user="ada", client="user", times=1)
    with pytest.raises(AssertionError) as error:
        credits.journal.assert_called(user=credits.api_key)
    assert credits.api_key not in str(error.value)


def test_thread_waits_for_call(credits: FakeCredits) -> None:
    thread = threading.Thread(target=spend, args=(credits,))
    thread.start()
    (call,) = credits.journal.wait_for("createTransaction", user="ada")
    assert call.committed
    thread.join()


def test_task_waits_for_call_from_another_thread(credits: FakeCredits, run: RunMain) -> None:
    credits.serve()

    async def main() -> None:
        thread = threading.Thread(target=spend, args=(credits,))
        thread.start()
        await credits.journal.async_wait_for("createTransaction", user="ada")
        thread.join()

    run(main)


def test_task_waits_for_call_from_another_task(credits: FakeCredits, run: RunMain) -> None:
    """A wait that blocked the event loop would never end."""

    async def main() -> None:
        client = credits.async_server_client
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(client.get_balance, "app-id", "ada")
            await credits.journal.async_wait_for("getBalance", times=2)

    run(main)
