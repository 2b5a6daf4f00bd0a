"""Test interception in aiohttp: connector limits, timeouts, traces, retries and request bodies."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import pytest

from fake_credits.fake import FakeCredits
from fake_credits.faults.effects import Close, Hang, Latency
from tests.intercept.libraries import BALANCE, TRANSACTION_BODY, TRANSACTIONS

URL = "https://credits.internal/base"
SessionFunction = Callable[[aiohttp.ClientSession], Awaitable[None]]


@pytest.fixture
def credits() -> Iterator[FakeCredits]:
    with FakeCredits(balance=5, clock="frozen") as fake, fake.intercept(URL):
        yield fake


def run(fake: FakeCredits, use_session: SessionFunction, **kwargs: Any) -> None:
    """Call a function with a session, in an event loop in debug mode that warns about unclosed resources."""

    async def main() -> None:
        headers = {"X-API-Key": fake.api_key, "Content-Type": "application/json"}
        async with aiohttp.ClientSession(headers=headers, **kwargs) as session:
            await use_session(session)

    asyncio.run(main(), debug=True)


async def status(session: aiohttp.ClientSession, **kwargs: Any) -> int:
    async with session.get(URL + BALANCE, **kwargs) as response:
        await response.read()
        return response.status


def test_sequential_requests_reuse_connection(credits: FakeCredits) -> None:
    """The in-memory connection is kept alive until the session closes."""
    reused_connections: list[object] = []
    trace_config = aiohttp.TraceConfig()

    async def on_reuse(*_: object) -> None:
        reused_connections.append(1)

    trace_config.on_connection_reuseconn.append(on_reuse)

    async def use_session(session: aiohttp.ClientSession) -> None:
        assert [await status(session) for _ in range(3)] == [200] * 3
        async with session.post(URL + TRANSACTIONS, data=TRANSACTION_BODY) as response:
            assert (await response.json())["delta"] == -1

    run(credits, use_session, trace_configs=[trace_config])
    assert len(reused_connections) == 3


def test_only_get_is_retried_on_disconnect(credits: FakeCredits) -> None:
    credits.faults.add(Close(), first=1, per="user")

    async def use_session(session: aiohttp.ClientSession) -> None:
        assert await status(session) == 200
        credits.faults.add(Close(), "createTransaction", first=1)
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await session.post(URL + TRANSACTIONS, data=TRANSACTION_BODY)

    run(credits, use_session)
    assert [entry.operation for entry in credits.journal] == ["getBalance", "getBalance", "createTransaction"]


@pytest.mark.parametrize(
    ("timeout", "expected_s", "error"),
    [
        (aiohttp.ClientTimeout(sock_read=30), 30, aiohttp.SocketTimeoutError),
        (aiohttp.ClientTimeout(total=20), 20, TimeoutError),
        (aiohttp.ClientTimeout(total=20, sock_read=30), 20, TimeoutError),
        (aiohttp.ClientTimeout(total=30, sock_read=20), 20, aiohttp.SocketTimeoutError),
    ],
    ids=["sock_read", "total", "total first", "sock_read first"],
)
def test_timeout_runs_on_sandbox_clock(
    credits: FakeCredits, timeout: aiohttp.ClientTimeout, expected_s: int, error: type[Exception]
) -> None:
    credits.faults.add(Hang(), "createTransaction")
    started_at = credits.clock.now()

    async def use_session(session: aiohttp.ClientSession) -> None:
        with pytest.raises(TimeoutError) as caught:
            await session.post(URL + TRANSACTIONS, data=TRANSACTION_BODY)
        assert type(caught.value) is error

    run(credits, use_session, timeout=timeout)
    assert (credits.clock.now() - started_at).total_seconds() == expected_s


def test_latency_of_concurrent_tasks_overlaps(credits: FakeCredits) -> None:
    credits.faults.add(Latency(10_000), "getBalance")
    started_at = credits.clock.now()

    async def use_session(session: aiohttp.ClientSession) -> None:
        assert await asyncio.gather(*(status(session) for _ in range(5))) == [200] * 5

    run(credits, use_session, timeout=aiohttp.ClientTimeout(sock_read=60))
    assert (credits.clock.now() - started_at).total_seconds() == 10


def test_connector_limit_is_enforced(credits: FakeCredits) -> None:
    """A second request waits for the only connection, or fails if its connect timeout is short."""

    async def main() -> None:
        headers = {"X-API-Key": credits.api_key}
        async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=1)) as session:
            gate = credits.hold("getBalance", name="limit")
            first = asyncio.ensure_future(status(session))
            await gate.async_wait_for(1)
            with pytest.raises(aiohttp.ConnectionTimeoutError):
                await status(session, timeout=aiohttp.ClientTimeout(connect=0.001))
            second = asyncio.ensure_future(status(session))
            gate.release()
            assert list(await asyncio.gather(first, second)) == [200, 200]

    asyncio.run(main(), debug=True)


def test_call_cancelled_at_gate_is_not_delivered(credits: FakeCredits) -> None:
    async def use_session(session: aiohttp.ClientSession) -> None:
        gate = credits.hold("createTransaction", phase="after")
        call = asyncio.ensure_future(session.post(URL + TRANSACTIONS, data=TRANSACTION_BODY))
        await gate.async_wait_for(1)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        gate.release()

    run(credits, use_session)
    (entry,) = credits.journal.entries()
    assert (entry.committed, entry.delivered) == (True, False)


def test_every_supported_body_type_is_sent(credits: FakeCredits) -> None:
    async def body_chunks() -> AsyncIterator[bytes]:
        yield TRANSACTION_BODY[:5]
        await asyncio.sleep(0)
        yield TRANSACTION_BODY[5:]

    async def use_session(session: aiohttp.ClientSession) -> None:
        bodies: tuple[dict[str, Any], ...] = (
            {"data": body_chunks()},
            {"data": TRANSACTION_BODY, "expect100": True},
            {"data": TRANSACTION_BODY, "chunked": True},
        )
        for kwargs in bodies:
            async with session.post(URL + TRANSACTIONS, **kwargs) as response:
                assert response.status == 201

    run(credits, use_session)
    assert credits.balance() == 2


def test_failing_body_raises_library_error_with_base_url_only(credits: FakeCredits) -> None:
    async def body_chunks() -> AsyncIterator[bytes]:
        yield TRANSACTION_BODY[:5]
        raise KeyError("own")

    async def use_session(session: aiohttp.ClientSession) -> None:
        with pytest.raises(aiohttp.ClientConnectionError) as error:
            await session.post(URL + TRANSACTIONS, data=body_chunks())
        assert str(error.value) == (
            f"Failed to send bytes into the underlying connection Connection<<{URL} in memory>>: KeyError('own')"
        )
        assert isinstance(error.value.__cause__, KeyError)

    run(credits, use_session)
    assert len(credits.journal) == 0


def test_middleware_is_called(credits: FakeCredits) -> None:
    methods: list[str] = []

    async def middleware(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        methods.append(request.method)
        return await handler(request)

    async def use_session(session: aiohttp.ClientSession) -> None:
        assert await status(session, middlewares=(middleware,)) == 200

    run(credits, use_session)
    assert methods == ["GET"]


def test_unix_connector_is_intercepted(credits: FakeCredits) -> None:
    async def main() -> None:
        connector = aiohttp.UnixConnector("/nowhere.sock")
        async with aiohttp.ClientSession(headers={"X-API-Key": credits.api_key}, connector=connector) as session:
            assert await status(session) == 200

    asyncio.run(main())


def test_session_closes_cleanly_after_interception() -> None:
    """The session keeps its in-memory connection alive, but uses new connections for network requests."""
    with FakeCredits(balance=5) as fake:

        async def use_session(session: aiohttp.ClientSession) -> None:
            with fake.intercept(URL):
                assert await status(session) == 200
            async with session.get(fake.base_url + BALANCE) as response:
                assert response.status == 200

        run(fake, use_session)
