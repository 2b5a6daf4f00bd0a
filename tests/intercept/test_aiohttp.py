"""Test interception in aiohttp: the connector and its limits, both timeouts, traces, second tries, bodies."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import pytest

from fake_credits.fake import FakeCredits
from fake_credits.faults.effects import Close, Hang, Latency
from tests.intercept.libraries import BALANCE, ORDER, TRANSACTIONS

URL = "https://credits.internal/base"
Work = Callable[[aiohttp.ClientSession], Awaitable[None]]


@pytest.fixture
def credits() -> Iterator[FakeCredits]:
    with FakeCredits(balance=5, clock="frozen") as fake, fake.intercept(URL):
        yield fake


def run(fake: FakeCredits, work: Work, **words: Any) -> None:
    """Run work with a session, in a loop that tells of everything that is left open."""

    async def main() -> None:
        headers = {"X-API-Key": fake.api_key, "Content-Type": "application/json"}
        async with aiohttp.ClientSession(headers=headers, **words) as session:
            await work(session)

    asyncio.run(main(), debug=True)


async def status(session: aiohttp.ClientSession, **words: Any) -> int:
    async with session.get(URL + BALANCE, **words) as answer:
        await answer.read()
        return answer.status


def test_requests_come_one_after_the_other_on_one_connection(credits: FakeCredits) -> None:
    """It is kept alive in memory, and let go of with the session."""
    reused: list[object] = []
    config = aiohttp.TraceConfig()

    async def on_reuse(*_: object) -> None:
        reused.append(1)

    config.on_connection_reuseconn.append(on_reuse)

    async def work(session: aiohttp.ClientSession) -> None:
        assert [await status(session) for _ in range(3)] == [200] * 3
        async with session.post(URL + TRANSACTIONS, data=ORDER) as answer:
            assert (await answer.json())["delta"] == -1

    run(credits, work, trace_configs=[config])
    assert len(reused) == 3


def test_a_get_is_tried_a_second_time_as_aiohttp_does(credits: FakeCredits) -> None:
    """And a POST is not."""
    credits.faults.add(Close(), first=1, per="user")

    async def work(session: aiohttp.ClientSession) -> None:
        assert await status(session) == 200
        credits.faults.add(Close(), "createTransaction", first=1)
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await session.post(URL + TRANSACTIONS, data=ORDER)

    run(credits, work)
    assert [entry.operation for entry in credits.journal] == ["getBalance", "getBalance", "createTransaction"]


@pytest.mark.parametrize(
    ("timeout", "waited_s", "error"),
    [
        (aiohttp.ClientTimeout(sock_read=30), 30, aiohttp.SocketTimeoutError),
        (aiohttp.ClientTimeout(total=20), 20, TimeoutError),
        (aiohttp.ClientTimeout(total=20, sock_read=30), 20, TimeoutError),
        (aiohttp.ClientTimeout(total=30, sock_read=20), 20, aiohttp.SocketTimeoutError),
    ],
    ids=["for the next byte", "for everything", "the latter first", "the former first"],
)
def test_a_timeout_ends_on_the_sandboxs_clock(
    credits: FakeCredits, timeout: aiohttp.ClientTimeout, waited_s: int, error: type[Exception]
) -> None:
    credits.faults.add(Hang(), "createTransaction")
    begun = credits.clock.now()

    async def work(session: aiohttp.ClientSession) -> None:
        with pytest.raises(TimeoutError) as caught:
            await session.post(URL + TRANSACTIONS, data=ORDER)
        assert type(caught.value) is error

    run(credits, work, timeout=timeout)
    assert (credits.clock.now() - begun).total_seconds() == waited_s


def test_delays_of_tasks_overlap(credits: FakeCredits) -> None:
    credits.faults.add(Latency(10_000), "getBalance")
    begun = credits.clock.now()

    async def work(session: aiohttp.ClientSession) -> None:
        assert await asyncio.gather(*(status(session) for _ in range(5))) == [200] * 5

    run(credits, work, timeout=aiohttp.ClientTimeout(sock_read=60))
    assert (credits.clock.now() - begun).total_seconds() == 10


def test_the_connectors_limit_holds(credits: FakeCredits) -> None:
    """Whoever waits gets the place; whoever does not is told so."""

    async def main() -> None:
        headers = {"X-API-Key": credits.api_key}
        async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=1)) as session:
            gate = credits.hold("getBalance", name="limit")
            first = asyncio.ensure_future(status(session))
            await gate.async_wait_for(1)
            with pytest.raises(aiohttp.ConnectionTimeoutError):
                await status(session, timeout=aiohttp.ClientTimeout(connect=0.001))
            waiting = asyncio.ensure_future(status(session))
            gate.release()
            assert list(await asyncio.gather(first, waiting)) == [200, 200]

    asyncio.run(main(), debug=True)


def test_a_call_that_is_cancelled_at_a_gate_is_not_delivered(credits: FakeCredits) -> None:
    async def work(session: aiohttp.ClientSession) -> None:
        gate = credits.hold("createTransaction", phase="after")
        call = asyncio.ensure_future(session.post(URL + TRANSACTIONS, data=ORDER))
        await gate.async_wait_for(1)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        gate.release()

    run(credits, work)
    (entry,) = credits.journal.entries()
    assert (entry.committed, entry.delivered) == (True, False)


def test_a_body_may_be_anything_that_the_library_takes(credits: FakeCredits) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield ORDER[:5]
        await asyncio.sleep(0)
        yield ORDER[5:]

    async def work(session: aiohttp.ClientSession) -> None:
        bodies: tuple[dict[str, Any], ...] = (
            {"data": pieces()},
            {"data": ORDER, "expect100": True},
            {"data": ORDER, "chunked": True},
        )
        for words in bodies:
            async with session.post(URL + TRANSACTIONS, **words) as answer:
                assert answer.status == 201

    run(credits, work)
    assert credits.balance() == 2


def test_a_body_that_raises_is_the_librarys_error_and_names_the_base_url_alone(credits: FakeCredits) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield ORDER[:5]
        raise KeyError("own")

    async def work(session: aiohttp.ClientSession) -> None:
        with pytest.raises(aiohttp.ClientConnectionError) as raised:
            await session.post(URL + TRANSACTIONS, data=pieces())
        assert str(raised.value) == (
            f"Failed to send bytes into the underlying connection Connection<<{URL} in memory>>: KeyError('own')"
        )
        assert isinstance(raised.value.__cause__, KeyError)

    run(credits, work)
    assert len(credits.journal) == 0


def test_a_middleware_is_the_librarys_business(credits: FakeCredits) -> None:
    seen: list[str] = []

    async def middleware(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        seen.append(request.method)
        return await handler(request)

    async def work(session: aiohttp.ClientSession) -> None:
        assert await status(session, middlewares=(middleware,)) == 200

    run(credits, work)
    assert seen == ["GET"]


def test_a_connector_for_a_socket_file_is_intercepted_too(credits: FakeCredits) -> None:
    async def main() -> None:
        connector = aiohttp.UnixConnector("/nowhere.sock")
        async with aiohttp.ClientSession(headers={"X-API-Key": credits.api_key}, connector=connector) as session:
            assert await status(session) == 200

    asyncio.run(main())


def test_a_session_that_outlives_the_interception_closes_cleanly() -> None:
    """What it kept alive is in memory; to the network it makes connections of its own."""
    with FakeCredits(balance=5) as fake:

        async def work(session: aiohttp.ClientSession) -> None:
            with fake.intercept(URL):
                assert await status(session) == 200
            async with session.get(fake.base_url + BALANCE) as answer:
                assert answer.status == 200

        run(fake, work)
