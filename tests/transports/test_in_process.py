"""Test the driver that steps the application by hand: what it refuses to wait for, and how tasks interleave."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any

import anyio
import httpx2
import pytest
import trio

from fake_credits.api.app import create_app
from fake_credits.api.contract_runtime import ContractRuntime
from fake_credits.client.server import AsyncServerClient
from fake_credits.contract import DEFAULT_CONTRACT
from fake_credits.errors import InsufficientCredits
from fake_credits.fake import ClientMode, FakeCredits
from fake_credits.http_message import Request
from fake_credits.sandbox import Sandbox
from fake_credits.sandbox_options import SandboxOptions
from fake_credits.tokens.keys import SigningKeys
from fake_credits.transports.in_process import InProcessDriver

Main = Callable[[], Coroutine[Any, Any, None]]
LOOPS: dict[str, Callable[[Main], None]] = {
    "asyncio": lambda main: asyncio.run(main()),
    "trio": lambda main: trio.run(main),
}
GET = Request("GET", b"/_fake/livez")
RUNTIME = ContractRuntime(DEFAULT_CONTRACT)


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Main], None]:
    """Return a function that runs a main coroutine: in asyncio, in trio."""
    return LOOPS[str(request.param)]


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox(SandboxOptions(api_key="key", balance=5), SigningKeys())


class Endpoint:
    """Be an application that awaits something of its own before it answers on the fake's own paths."""

    def __init__(self, wait: Callable[[], Awaitable[object]]) -> None:
        self._wait = wait

    @property
    def runtime(self) -> ContractRuntime:
        return RUNTIME

    async def serve_internal(self, scope: object, receive: object, send: Any) -> None:
        """Answer as ASGI has it."""
        await self._wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"late"})


class Foreign:
    """Be an awaitable of somebody else's, which yields itself."""

    def __await__(self) -> Any:
        yield self

    def __repr__(self) -> str:
        return "<a wait of somebody else's>"


def test_a_foreign_await_is_a_type_error_that_names_it(sandbox: Sandbox) -> None:
    with pytest.raises(TypeError, match="awaits <a wait of somebody else's>, which no event loop drives"):
        InProcessDriver(Endpoint(Foreign), sandbox).call(GET)


@pytest.mark.parametrize(
    ("wait", "name"),
    [
        (lambda: asyncio.sleep(1), "Future pending"),
        (lambda: asyncio.get_running_loop().create_future(), "Future pending"),
        (lambda: asyncio.sleep(0), "a bare yield, as of asyncio.sleep"),
    ],
    ids=["a sleep", "a future", "a bare yield"],
)
def test_a_wait_for_asyncio_is_named_even_while_asyncio_runs(
    sandbox: Sandbox, wait: Callable[[], Awaitable[object]], name: str
) -> None:
    driver = InProcessDriver(Endpoint(wait), sandbox)

    async def main() -> None:
        with pytest.raises(TypeError, match=name):
            driver.call(GET)
        with pytest.raises(TypeError, match=name):
            await driver.call_async(GET)

    asyncio.run(main())


def test_a_wait_for_trio_is_a_type_error_too(sandbox: Sandbox) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="which no event loop drives"):
            await InProcessDriver(Endpoint(lambda: trio.sleep(1)), sandbox).call_async(GET)

    trio.run(main)


def test_a_foreign_await_closes_what_was_awaiting(sandbox: Sandbox) -> None:
    closed: list[str] = []

    async def wait() -> None:
        try:
            await Foreign()
        finally:
            closed.append("closed")

    with pytest.raises(TypeError):
        InProcessDriver(Endpoint(wait), sandbox).call(GET)
    assert closed == ["closed"]


def test_an_application_that_waits_for_nothing_needs_no_loop(sandbox: Sandbox) -> None:
    async def wait() -> None:
        """Return at once."""

    reply = InProcessDriver(Endpoint(wait), sandbox).call(GET)
    assert (reply.status, reply.body) == (200, b"late")


def test_what_the_application_raises_is_raised_to_the_caller(sandbox: Sandbox) -> None:
    async def wait() -> None:
        raise LookupError("a bug")

    with pytest.raises(LookupError, match="a bug"):
        InProcessDriver(Endpoint(wait), sandbox).call(GET)


def test_a_head_request_is_answered_without_a_body(sandbox: Sandbox) -> None:
    driver = InProcessDriver(create_app(sandbox.contract), sandbox)
    reply = driver.call(Request("HEAD", b"/_fake/livez", [], b""))
    assert reply.body == b""


def test_a_body_without_a_length_is_given_one(sandbox: Sandbox) -> None:
    """httpx streams a generator in chunks; a body of ours just comes."""
    driver = InProcessDriver(create_app(sandbox.contract), sandbox)
    headers = [(b"x-api-key", b"key"), (b"content-type", b"application/json")]
    target = b"/v1/applications/app-id/users/user-id/transactions"
    reply = driver.call(Request("POST", target, headers, b'{"delta":-1,"reason":"consume"}'))
    assert reply.status == 201
    assert headers == [(b"x-api-key", b"key"), (b"content-type", b"application/json")]


def test_the_transports_own_sandbox_answers_whatever_the_key_says() -> None:
    with FakeCredits(balance=1) as mine, FakeCredits(balance=2) as other:
        transport = mine.transport("httpx2")
        with httpx2.Client(transport=transport) as client:
            response = client.get(
                "https://api.acme.com/v1/applications/app-id/users/user-id/balance",
                headers={"X-API-Key": other.api_key},
            )
        assert response.status_code == 401
        assert (len(mine.journal), len(other.journal)) == (1, 0)


# A check-then-act bug, as an application has it.


async def spend_if_enough(client: AsyncServerClient) -> bool:
    """Take a credit if the balance says that there is one: two of these at once both believe it."""
    if (await client.get_balance("app-id", "user-id")).balance < 1:
        return False
    await client.create_transaction("app-id", "user-id", delta=-1, reason="consume")
    return True


async def outcomes_of_two(client: AsyncServerClient) -> list[object]:
    outcomes: list[object] = []

    async def spend() -> None:
        try:
            outcomes.append(await spend_if_enough(client))
        except InsufficientCredits as refused:
            outcomes.append(refused.code)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(spend)
        tasks.start_soon(spend)
    return outcomes


@pytest.mark.parametrize("mode", ["in-process", "live"])
def test_a_check_then_act_bug_shows_when_two_tasks_spend_the_last_credit(
    mode: ClientMode, run: Callable[[Main], None]
) -> None:
    """Live too: both balances are read before either consumption arrives, as each is a round trip."""
    with FakeCredits(mode=mode, balance=1) as fake:

        async def main() -> None:
            async with fake.async_server_client as client:
                assert sorted(map(str, await outcomes_of_two(client))) == ["True", "insufficient_credits"]

        run(main)
        operations = [entry.operation for entry in fake.journal]
        assert operations == ["getBalance", "getBalance", "createTransaction", "createTransaction"]


def test_with_gather_the_bug_shows_as_an_exception() -> None:
    with FakeCredits(balance=1) as fake:

        async def main() -> None:
            client = fake.async_server_client
            with pytest.raises(InsufficientCredits):
                await asyncio.gather(spend_if_enough(client), spend_if_enough(client))

        asyncio.run(main())


def test_the_same_code_in_turn_is_right() -> None:
    with FakeCredits(balance=1) as fake:

        async def main() -> None:
            client = fake.async_server_client
            assert [await spend_if_enough(client), await spend_if_enough(client)] == [True, False]

        asyncio.run(main())


# Cancellation, at each of the two checkpoints.


def test_a_call_cancelled_before_the_decision_leaves_no_trace(run: Callable[[Main], None]) -> None:
    with FakeCredits(balance=5) as fake:

        async def main() -> None:
            client = fake.async_server_client
            with anyio.CancelScope() as scope:
                scope.cancel()
                await client.create_transaction("app-id", "user-id", delta=-1, reason="consume")

        run(main)
        assert fake.balance() == 5
        assert (len(fake.journal), fake.journal.in_flight) == (0, 0)


class CancelsWhenReleased:
    """Be a sandbox's lock whose release, which ends the decision, cancels the caller."""

    def __init__(self, scope: anyio.CancelScope) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        """Let anybody in."""

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        self._scope.cancel()


def test_a_call_cancelled_after_the_decision_stands_and_was_not_delivered(run: Callable[[Main], None]) -> None:
    with FakeCredits(balance=5) as fake:
        lock = fake.sandbox.lock

        async def main() -> None:
            client = fake.async_server_client
            with anyio.CancelScope() as scope:
                fake.sandbox.lock = CancelsWhenReleased(scope)  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
                await client.create_transaction("app-id", "user-id", delta=-1, reason="consume")
                raise AssertionError("the call was not cancelled")

        run(main)
        fake.sandbox.lock = lock
        assert fake.balance() == 4
        (entry,) = fake.journal.entries()
        assert (entry.status, entry.committed, entry.delivered) == (201, True, False)
        assert fake.journal.in_flight == 0
