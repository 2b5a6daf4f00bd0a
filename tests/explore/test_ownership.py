"""Attributing calls to the application or to the test."""

import asyncio
import threading
from collections.abc import Callable

import pytest
import trio

from fake_credits import FakeCredits
from fake_credits.explore.ownership import TestCode
from fake_credits.explore.recorder import Recorder
from tests.explore.applications import APP

Owners = list[bool]


def read(credits: FakeCredits) -> None:
    credits.server_client.get_balance(APP, "ada")


class TestSetUp:
    def setUp(self, credits: FakeCredits) -> None:
        credits.server_client.get_balance(APP, "ada")


async def read_async(credits: FakeCredits) -> None:
    await credits.async_server_client.get_balance(APP, "ada")


def own_direct_call(credits: FakeCredits) -> None:
    credits.server_client.get_balance(APP, "ada")


def own_lambda(credits: FakeCredits) -> None:
    list(map(lambda _: credits.server_client.get_balance(APP, "ada"), [1]))  # noqa: C417 - a lambda is what is tested


def own_comprehension(credits: FakeCredits) -> None:
    assert [credits.server_client.get_balance(APP, "ada") for _ in range(1)]


def own_set_up(credits: FakeCredits) -> None:
    TestSetUp().setUp(credits)


def own_aside(credits: FakeCredits) -> None:
    with credits.aside():
        read(credits)


def own_main_task(credits: FakeCredits) -> None:
    asyncio.run(credits.async_server_client.get_balance(APP, "ada"))


def applications_function(credits: FakeCredits) -> None:
    read(credits)


def applications_lambda_in_a_helper(credits: FakeCredits) -> None:
    call_it(lambda: read(credits))


def call_it(function: Callable[[], None]) -> None:
    function()


def applications_nested_function(credits: FakeCredits) -> None:
    def buy() -> None:
        credits.server_client.get_balance(APP, "ada")

    buy()


def setup_account(credits: FakeCredits) -> None:
    credits.server_client.get_balance(APP, "ada")


def applications_function_named_like_a_set_up(credits: FakeCredits) -> None:
    setup_account(credits)


def applications_thread(credits: FakeCredits) -> None:
    thread = threading.Thread(target=read, args=(credits,))
    thread.start()
    thread.join()


def applications_thread_of_a_client(credits: FakeCredits) -> None:
    thread = threading.Thread(target=credits.server_client.get_balance, args=(APP, "ada"))
    thread.start()
    thread.join()


def applications_task(credits: FakeCredits) -> None:
    async def main() -> None:
        await asyncio.gather(read_async(credits))

    asyncio.run(main())


def applications_bare_task(credits: FakeCredits) -> None:
    async def main() -> None:
        await asyncio.gather(credits.async_server_client.get_balance(APP, "ada"))

    asyncio.run(main())


def applications_trio_task(credits: FakeCredits) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(credits.async_server_client.get_balance, APP, "ada")

    trio.run(main)


def applications_socket(credits: FakeCredits) -> None:
    from fake_credits.client.server import ServerClient

    with ServerClient(credits.base_url, credits.api_key) as api:
        api.get_balance(APP, "ada")


def owners(test: Callable[[FakeCredits], None], modules: tuple[str, ...] = ()) -> Owners:
    """Run a test and return, for each call, whether it belongs to the application."""
    with FakeCredits(users={"ada": 100}) as credits:
        recorder = Recorder((), TestCode([test.__code__], modules))
        recorder.attach(credits.sandbox)
        test(credits)
        return [bool(call.number) for call in recorder.run.calls]


OWN = [own_direct_call, own_lambda, own_comprehension, own_set_up, own_aside, own_main_task]
APPLICATIONS = [
    applications_function,
    applications_lambda_in_a_helper,
    applications_nested_function,
    applications_function_named_like_a_set_up,
    applications_thread,
    applications_thread_of_a_client,
    applications_task,
    applications_bare_task,
    applications_trio_task,
    applications_socket,
]


@pytest.mark.parametrize("test", OWN, ids=lambda test: test.__name__)
def test_call_belongs_to_the_test(test: Callable[[FakeCredits], None]) -> None:
    assert owners(test) == [False]


@pytest.mark.parametrize("test", APPLICATIONS, ids=lambda test: test.__name__)
def test_call_belongs_to_the_application(test: Callable[[FakeCredits], None]) -> None:
    assert owners(test) == [True]


def test_calls_in_a_conftest_belong_to_the_test() -> None:
    source = "def read_in_conftest(credits):\n    credits.server_client.get_balance('app-id', 'ada')\n"
    functions: dict[str, Callable[[FakeCredits], None]] = {}
    exec(compile(source, "tests/conftest.py", "exec"), functions)  # noqa: S102 - a function of such a file

    def test(credits: FakeCredits) -> None:
        functions["read_in_conftest"](credits)

    assert owners(test) == [False]


def test_calls_in_named_helper_modules_belong_to_the_test() -> None:
    assert owners(applications_function, ("tests.explore.*", "test_ownership")) == [False]
