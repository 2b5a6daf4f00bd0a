"""Test the in-process driver: foreign awaitables, interleaving tasks and cancellation."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any

import anyio
import httpx2
import pytest
import trio

from fake_credits.api.app import CreditsApplication, create_app
from fake_credits.client.server import AsyncServerClient
from fake_credits.contract import DEFAULT_CONTRACT
from fake_credits.errors import InsufficientCredits
from fake_credits.fake import ClientMode, FakeCredits
from fake_credits.http_message import Request
from fake_credits.sandbox import Sandbox
from fake_credits.sandbox_options import SandboxOptions
from fake_credits.tokens.keys import SigningKeys
from fake_credits.transports.in_process import InProcessDriver

MainFunction = Callable[[], Coroutine[Any, Any, None]]
LOOP_RUNNERS: dict[str, Callable[[MainFunction], None]] = {
    "asyncio": lambda main: asyncio.run(main()),
    "trio": lambda main: trio.run(main),
}
GET = Request("GET", b"/_fake/livez")


@pytest.fixture(params=LOOP_RUNNERS)
def run(request: pytest.FixtureRequest) -> Callable[[MainFunction], None]:
    """Return a function that runs a main coroutine, on asyncio or trio."""
    return LOOP_RUNNERS[str(request.param)]


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox(SandboxOptions(api_key="key", balance=5), SigningKeys())


class WaitingApplication(CreditsApplication):
    """An application that awaits a callback before it responds on the fake's internal paths."""

    def __init__(self, wait: Callable[[], Awaitable[object]]) -> None:
        super().__init__(DEFAULT_CONTRACT, None)
        self._wait = wait

    async def serve_internal(self, scope: object, receive: object, send: Any) -> None:
        """Send an ASGI response."""
        await self._wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"late"})


class ForeignAwaitable:
    """An awaitable that yields itself, as if it belonged to an unknown event loop."""

    def __await__(self) -> Any:
        yield self

    def __repr__(self) -> str:
        return "<foreign awaitable>"


def test_foreign_awaitable_raises_type_error_with_its_repr(sandbox: Sandbox) -> None:
    with pytest.raises(TypeError, match="awaits <foreign awaitable>, but in-process requests run without"):
        InProcessDriver(WaitingApplication(ForeignAwaitable), sandbox).call(GET)


@pytest.mark.parametrize(
    ("wait", "name"),
    [
        (lambda: asyncio.sleep(1), "Future pending"),
        (lambda: asyncio.get_running_loop().create_future(), "Future pending"),
        (lambda: asyncio.sleep(0), "a bare yield, as in asyncio.sleep"),
    ],
    ids=["sleep", "future", "bare yield"],
)
def test_asyncio_wait_raises_type_error_under_running_loop(
    sandbox: Sandbox, wait: Callable[[], Awaitable[object]], name: str
) -> None:
    driver = InProcessDriver(WaitingApplication(wait), sandbox)

    async def main() -> None:
        with pytest.raises(TypeError, match=name):
            driver.call(GET)
        with pytest.raises(TypeError, match=name):
            await driver.call_async(GET)

    asyncio.run(main())


def test_trio_wait_raises_type_error(sandbox: Sandbox) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="in-process requests run without an event loop"):
            await InProcessDriver(WaitingApplication(lambda: trio.sleep(1)), sandbox).call_async(GET)

    trio.run(main)


def test_foreign_awaitable_closes_awaiting_coroutine(sandbox: Sandbox) -> None:
    closed: list[str] = []

    async def wait() -> None:
        try:
            await ForeignAwaitable()
        finally:
            closed.append("closed")

    with pytest.raises(TypeError):
        InProcessDriver(WaitingApplication(wait), sandbox).call(GET)
    assert closed == ["closed"]


def test_application_without_waits_needs_no_event_loop(sandbox: Sandbox) -> None:
    async def wait() -> None:
        """Return at once."""

    reply = InProcessDriver(WaitingApplication(wait), sandbox).call(GET)
    assert (reply.status, reply.body) == (200, b"late")


def test_application_exception_propagates_to_caller(sandbox: Sandbox) -> None:
    async def wait() -> None:
        raise LookupError("a bug")

    with pytest.raises(LookupError, match="a bug"):
        InProcessDriver(WaitingApplication(wait), sandbox).call(GET)


def test_head_response_has_no_body(sandbox: Sandbox) -> None:
    driver = InProcessDriver(create_app(sandbox.contract), sandbox)
    reply = driver.call(Request("HEAD", b"/_fake/livez", [], b""))
    assert reply.body == b""


def test_body_without_content_length_is_accepted(sandbox: Sandbox) -> None:
    """The driver does not add the header to the caller's list."""
    driver = InProcessDriver(create_app(sandbox.contract), sandbox)
    headers = [(b"x-api-key", b"key"), (b"content-type", b"application/json")]
    target = b"/v1/applications/app-id/users/user-id/transactions"
    reply = driver.call(Request("POST", target, headers, b'{"delta":-1,"reason":"consume"}'))
    assert reply.status == 201
    assert headers == [(b"x-api-key", b"key"), (b"content-type", b"application/json")]


def test_transport_always_uses_its_own_sandbox() -> None:
    with FakeCredits(balance=1) as own_fake, FakeCredits(balance=2) as other:
        transport = own_fake.transport("httpx2")
        with httpx2.Client(transport=transport) as client:
            response = client.get(
                "https://api.acme.com/v1/applications/app-id/users/user-id/balance",
                headers={"X-API-Key": other.api_key},
            )
        assert response.status_code == 401
        assert (len(own_fake.journal), len(other.journal)) == (1, 0)


# A check-then-act race in an application.


async def spend_if_enough(client: AsyncServerClient) -> bool:
    """Consume a credit if the balance is positive; concurrent calls race."""
    if (await client.get_balance("app-id", "user-id")).balance < 1:
        return False
    await client.create_transaction("app-id", "user-id", delta=-1, reason="consume")
    return True


async def run_two_spenders(client: AsyncServerClient) -> list[object]:
    outcomes: list[object] = []

    async def spend() -> None:
        try:
            outcomes.append(await spend_if_enough(client))
        except InsufficientCredits as error:
            outcomes.append(error.code)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(spend)
        tasks.start_soon(spend)
    return outcomes


@pytest.mark.parametrize("mode", ["in-process", "live"])
def test_check_then_act_race_is_visible_to_two_tasks(mode: ClientMode, run: Callable[[MainFunction], None]) -> None:
    """In either mode, both balances are read before either transaction arrives."""
    with FakeCredits(mode=mode, balance=1) as fake:

        async def main() -> None:
            async with fake.async_server_client as client:
                assert sorted(map(str, await run_two_spenders(client))) == ["True", "insufficient_credits"]

        run(main)
        operations = [entry.operation for entry in fake.journal]
        assert operations == ["getBalance", "getBalance", "createTransaction", "createTransaction"]


def test_check_then_act_race_raises_with_gather() -> None:
    with FakeCredits(balance=1) as fake:

        async def main() -> None:
            client = fake.async_server_client
            with pytest.raises(InsufficientCredits):
                await asyncio.gather(spend_if_enough(client), spend_if_enough(client))

        asyncio.run(main())


def test_sequential_spenders_do_not_race() -> None:
    with FakeCredits(balance=1) as fake:

        async def main() -> None:
            client = fake.async_server_client
            assert [await spend_if_enough(client), await spend_if_enough(client)] == [True, False]

        asyncio.run(main())


# Cancellation, at each of the two checkpoints.


def test_call_cancelled_before_decision_leaves_no_trace(run: Callable[[MainFunction], None]) -> None:
    with FakeCredits(balance=5) as fake:

        async def main() -> None:
            client = fake.async_server_client
            with anyio.CancelScope() as scope:
                scope.cancel()
                await client.create_transaction("app-id", "user-id", delta=-1, reason="consume")

        run(main)
        assert fake.balance() == 5
        assert (len(fake.journal), fake.journal.in_flight) == (0, 0)


class CancellingLock:
    """A sandbox lock that cancels the caller when it is released, at the end of the decision."""

    def __init__(self, scope: anyio.CancelScope) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        self._scope.cancel()


def test_call_cancelled_after_decision_is_committed_but_not_delivered(run: Callable[[MainFunction], None]) -> None:
    with FakeCredits(balance=5) as fake:
        lock = fake.sandbox.lock

        async def main() -> None:
            client = fake.async_server_client
            with anyio.CancelScope() as scope:
                fake.sandbox.lock = CancellingLock(scope)  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
                await client.create_transaction("app-id", "user-id", delta=-1, reason="consume")
                raise AssertionError("the call was not cancelled")

        run(main)
        fake.sandbox.lock = lock
        assert fake.balance() == 4
        (entry,) = fake.journal.entries()
        assert (entry.status, entry.committed, entry.delivered) == (201, True, False)
        assert fake.journal.in_flight == 0
