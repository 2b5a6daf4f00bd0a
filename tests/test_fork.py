"""Test forked processes: the inherited sandbox raises an error, and the parent's API can be called by URL."""

import asyncio
import os
from collections.abc import Callable

import httpx2
import pytest
import requests

from fake_credits.fake import FakeCredits
from fake_credits.transports.shared_resources import SharedResources

if not hasattr(os, "fork"):
    pytest.skip("there is no fork here", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

BALANCE = "/v1/applications/app-id/users/user-id/balance"


def in_child(function: Callable[[], object]) -> str:
    """Return what a function returned, or raised, in a forked child."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            result = repr(function())
        except BaseException as error:  # noqa: BLE001 - reported to the parent
            result = f"{type(error).__name__}: {error}"
        os.write(write, result.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as pipe:
        result = pipe.read()
    os.waitpid(child, 0)
    return result


FAKE_USES: dict[str, Callable[[FakeCredits], object]] = {
    "server_client": lambda fake: fake.server_client.get_balance("app-id", "user-id"),
    "async_server_client": lambda fake: asyncio.run(fake.async_server_client.get_balance("app-id", "user-id")),
    "user": lambda fake: fake.user("ada"),
    "balance": lambda fake: fake.balance(),
    "journal": lambda fake: fake.journal,
    "clock": lambda fake: fake.clock,
    "faults": lambda fake: fake.faults,
    "hold": lambda fake: fake.hold(),
    "settle": lambda fake: fake.settle(),
    "sleep": lambda fake: fake.sleep(1),
    "reset": lambda fake: fake.reset(),
    "token": lambda fake: fake.token(),
    "base_url": lambda fake: fake.base_url,
    "serve": lambda fake: fake.serve(),
    "bind": lambda fake: fake.bind("https://issuer.example/", "ada"),
    "transport": lambda fake: httpx2.Client(transport=fake.transport("httpx2")).get(f"http://credits{BALANCE}"),
    "asgi_app": lambda fake: fake.asgi_app(),
    "intercept": lambda fake: fake.intercept("https://credits.internal"),
    "user_client": lambda fake: fake.user_client().get_balance("user-id"),
    "async_user_client": lambda fake: asyncio.run(fake.async_user_client().get_balance("user-id")),
    "async_sleep": lambda fake: asyncio.run(fake.async_sleep(1)),
    "users": lambda fake: fake.users(),
    "delete_user": lambda fake: fake.delete_user("user-id"),
    "transactions": lambda fake: fake.transactions(),
    "add_transactions": lambda fake: fake.add_transactions("ada", [1]),
    "load_world": lambda fake: fake.load_world("tiny"),
    "problems": lambda fake: fake.problems(),
    "always": lambda fake: fake.always(lambda: True),
    "eventually": lambda fake: fake.eventually(lambda: True),
}
USABLE_IN_CHILD = {
    *("api_key", "application_id", "user_id", "intercepted", "is_served", "explored"),
    *("aside", "close", "sandbox"),
}
"""Members of the inherited object that do not raise in a child, including ``close``, which does nothing there."""


def test_every_member_is_tested_in_a_child() -> None:
    members = {name for name in dir(FakeCredits) if not name.startswith("_")}
    assert members - USABLE_IN_CHILD == set(FAKE_USES)


@pytest.mark.parametrize("call", FAKE_USES.values(), ids=FAKE_USES.keys())
def test_using_inherited_sandbox_in_child_raises(call: Callable[[FakeCredits], object]) -> None:
    with FakeCredits(balance=3) as fake:
        result = in_child(lambda: call(fake))
        assert result.startswith(f"RuntimeError: sandbox s1 belongs to process {os.getpid()}; process ")
        assert result.endswith("read base_url, api_key and token() before the fork, and call the API with them")
        assert fake.server_client.get_balance("app-id", "user-id").balance == 3


def test_child_calls_parent_api_by_url() -> None:
    """The URL is read before the fork; the key and the token are valid in the child."""
    with FakeCredits(balance=3) as fake:
        fake.serve()
        credentials = {"X-API-Key": fake.api_key}, {"Authorization": f"Bearer {fake.token()}"}

        def balances() -> list[object]:
            url = fake.base_url + BALANCE
            return [requests.get(url, headers=each, timeout=5).json()["balance"] for each in credentials]

        assert in_child(balances) == "[3, 3]"
        assert len(fake.journal) == 2


def test_close_in_child_does_not_close_parent_sandbox() -> None:
    with FakeCredits(balance=3) as fake:
        fake.serve()
        assert in_child(fake.close) == "[]"
        assert requests.get(fake.base_url + BALANCE, headers={"X-API-Key": fake.api_key}, timeout=5).ok


def test_shared_server_cannot_be_started_in_child() -> None:
    """The server runs in the parent, which would not know about the child's sandbox."""
    shared = SharedResources()
    with FakeCredits(shared=shared) as fake:
        fake.serve()
        result = in_child(lambda: FakeCredits(shared=shared).serve())
        assert result.startswith(f"RuntimeError: the live server belongs to process {os.getpid()}; process ")
    shared.close()


def test_child_can_create_its_own_fake() -> None:
    def balance() -> int:
        with FakeCredits(balance=5) as child_fake:
            return child_fake.server_client.get_balance("app-id", "user-id").balance

    assert in_child(balance) == "5"
