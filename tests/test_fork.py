"""After a fork: the child's copy of a sandbox refuses to be used, and the parent's answers by URL."""

import asyncio
import os
from collections.abc import Callable

import pytest
import requests

from fake_credits.fake import FakeCredits
from fake_credits.transports.shared_resources import SharedResources

if not hasattr(os, "fork"):
    pytest.skip("there is no fork here", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

BALANCE = "/v1/applications/app-id/users/user-id/balance"


def in_child(act: Callable[[], object]) -> str:
    """Return what a function returned, or raised, in a forked child."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            told = repr(act())
        except BaseException as error:  # noqa: BLE001 - told to the parent
            told = f"{type(error).__name__}: {error}"
        os.write(write, told.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return told


USES: dict[str, Callable[[FakeCredits], object]] = {
    "server_client": lambda fake: fake.server_client.get_balance("app-id", "user-id"),
    "async_server_client": lambda fake: asyncio.run(fake.async_server_client.get_balance("app-id", "user-id")),
    "user": lambda fake: fake.user("ada"),
    "balance": lambda fake: fake.balance(),
    "journal": lambda fake: fake.journal,
    "clock": lambda fake: fake.clock,
    "faults": lambda fake: fake.faults.load("flaky"),
    "hold": lambda fake: fake.hold(),
    "settle": lambda fake: fake.settle(),
    "sleep": lambda fake: fake.sleep(1),
    "reset": lambda fake: fake.reset(),
    "token": lambda fake: fake.token(),
    "base_url": lambda fake: fake.base_url,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_a_child_is_told_that_its_copy_is_nobodys(use: Callable[[FakeCredits], object]) -> None:
    with FakeCredits(balance=3) as fake:
        told = in_child(lambda: use(fake))
        assert told.startswith(f"RuntimeError: sandbox s1 belongs to process {os.getpid()}; this is ")
        assert told.endswith("Read base_url, api_key and token() before the fork, and call the API there")
        assert fake.server_client.get_balance("app-id", "user-id").balance == 3


def test_a_child_calls_the_parents_api_by_its_url() -> None:
    """The URL is the parent's where it was read before; key and token are good there."""
    with FakeCredits(balance=3) as fake:
        fake.serve()
        credentials = {"X-API-Key": fake.api_key}, {"Authorization": f"Bearer {fake.token()}"}

        def balances() -> list[object]:
            url = fake.base_url + BALANCE
            return [requests.get(url, headers=each, timeout=5).json()["balance"] for each in credentials]

        assert in_child(balances) == "[3, 3]"
        assert len(fake.journal) == 2


def test_a_child_that_leaves_the_with_block_closes_nothing() -> None:
    with FakeCredits(balance=3) as fake:
        fake.serve()
        assert in_child(fake.close) == "[]"
        assert requests.get(fake.base_url + BALANCE, headers={"X-API-Key": fake.api_key}, timeout=5).ok


def test_a_sandbox_that_a_child_makes_of_its_parents_parts_has_no_server() -> None:
    """The server runs in the parent, which would never hear of it."""
    shared = SharedResources()
    with FakeCredits(shared=shared) as fake:
        fake.serve()
        told = in_child(lambda: FakeCredits(shared=shared).serve())
        assert told.startswith(f"RuntimeError: the live server belongs to process {os.getpid()}; this is ")
    shared.close()


def test_a_childs_own_api_is_its_own() -> None:
    def balance() -> int:
        with FakeCredits(balance=5) as own:
            return own.server_client.get_balance("app-id", "user-id").balance

    assert in_child(balance) == "5"
