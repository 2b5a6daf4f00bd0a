"""Test interception in httpx and httpx2: pool limits, hooks, retries and streams, sync and async."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import httpcore
import httpcore2
import httpx
import httpx2
import pytest
import trio

from fake_credits.clock import Clock
from fake_credits.fake import FakeCredits
from fake_credits.faults.effects import Reset, Truncate
from fake_credits.intercept import INTERCEPTION_REGISTRY, Interception
from fake_credits.intercept.routes import Route, parse_base_url
from fake_credits.interception_log import InterceptionLog
from tests.intercept.libraries import BALANCE, TLS, TRANSACTION_BODY, TRANSACTIONS

URL = "https://credits.internal/base"
CORES: dict[Any, Any] = {httpx: httpcore, httpx2: httpcore2}


@pytest.fixture
def credits() -> Iterator[FakeCredits]:
    with FakeCredits(balance=5, clock="frozen") as fake, fake.intercept(URL):
        yield fake


@pytest.fixture
def headers(credits: FakeCredits) -> dict[str, str]:
    return {"X-API-Key": credits.api_key, "Content-Type": "application/json"}


@pytest.fixture(params=CORES, ids=lambda library: str(library.__name__))
def library(request: pytest.FixtureRequest) -> Any:
    """Return httpx or httpx2."""
    return request.param


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Callable[[Any], None]:
    """Return a function that runs a main coroutine, on asyncio or trio."""
    return (lambda main: asyncio.run(main())) if request.param == "asyncio" else trio.run


def pool_of(client: Any) -> Any:
    return client._transport._pool


def test_event_hooks_receive_request_and_response(credits: FakeCredits, headers: dict[str, str], library: Any) -> None:
    events: list[object] = []

    def on_request(request: Any) -> None:
        events.append(str(request.url))

    def on_response(response: Any) -> None:
        events.append(response.status_code)

    hooks = {"request": [on_request], "response": [on_response]}
    with library.Client(event_hooks=hooks, headers=headers, verify=TLS) as client:
        client.get(URL + BALANCE)
    assert events == [URL + BALANCE, 200]


def test_transport_retries_apply_to_connecting_only(
    credits: FakeCredits, headers: dict[str, str], library: Any
) -> None:
    """As over a network, a request lost after connecting is not sent again."""
    credits.faults.add(Reset(), "getBalance")
    transport = library.HTTPTransport(retries=5, verify=TLS)
    with library.Client(transport=transport, headers=headers) as client, pytest.raises(library.ReadError):
        client.get(URL + BALANCE)
    assert len(credits.journal) == 1


def test_response_has_standard_attributes(credits: FakeCredits, headers: dict[str, str], library: Any) -> None:
    with library.Client(headers=headers, verify=TLS, http2=False) as client:
        response = client.get(URL + BALANCE)
    assert (response.http_version, response.reason_phrase, response.num_bytes_downloaded) == ("HTTP/1.1", "OK", 13)
    assert response.extensions["network_stream"].get_extra_info("server_addr") is None


@pytest.mark.parametrize("is_truncated", [False, True])
def test_pool_removes_finished_request(
    credits: FakeCredits, headers: dict[str, str], library: Any, is_truncated: bool
) -> None:
    if is_truncated:
        credits.faults.add(Truncate(at_bytes=3), "getBalance")
    with library.Client(headers=headers, verify=TLS) as client:
        try:
            client.get(URL + BALANCE)
        except library.RemoteProtocolError:
            assert is_truncated
        assert repr(pool_of(client)).count(" 0 ") == 4
        with client.stream("POST", URL + TRANSACTIONS, content=TRANSACTION_BODY) as unread_response:
            assert "1 active, 0 idle" in repr(pool_of(client))
            assert "INTERCEPTED" in repr(pool_of(client).connections)
            assert unread_response.status_code == 201
        assert pool_of(client).connections == []


def test_pool_limit_and_timeout_are_enforced(credits: FakeCredits, headers: dict[str, str], library: Any) -> None:
    limits = library.Limits(max_connections=1)
    with library.Client(headers=headers, limits=limits, timeout=library.Timeout(5, pool=0.001), verify=TLS) as client:
        with client.stream("GET", URL + BALANCE), pytest.raises(library.PoolTimeout):
            client.get(URL + BALANCE)
        assert client.get(URL + BALANCE).status_code == 200
    assert len(credits.journal) == 2


def test_queued_requests_are_all_answered(
    credits: FakeCredits, headers: dict[str, str], library: Any, run: Callable[[Any], None]
) -> None:
    """Eight concurrent requests share two connections; each gets a response or an error."""
    credits.faults.add(Reset(), "createTransaction", every=4)
    outcomes: list[object] = []

    async def main() -> None:
        limits = library.Limits(max_connections=2)
        async with library.AsyncClient(headers=headers, limits=limits, verify=TLS) as client:

            async def spend() -> None:
                try:
                    outcomes.append((await client.post(URL + TRANSACTIONS, content=TRANSACTION_BODY)).status_code)
                except library.ReadError as error:
                    outcomes.append(type(error).__name__)

            async with anyio.create_task_group() as tasks:
                for _ in range(8):
                    tasks.start_soon(spend)
            assert repr(pool_of(client)).count(" 0 ") == 4

    run(main)
    assert sorted(map(str, outcomes)) == ["201"] * 5 + ["402"] + ["ReadError"] * 2


def test_cancelled_request_leaves_pool(
    credits: FakeCredits, headers: dict[str, str], library: Any, run: Callable[[Any], None]
) -> None:
    """A request cancelled at the driver's first checkpoint leaves no connection and no journal entry."""

    async def main() -> None:
        async with library.AsyncClient(headers=headers, verify=TLS) as client:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await client.get(URL + BALANCE)
            assert pool_of(client).connections == []

    run(main)
    assert len(credits.journal) == 0


def test_async_body_and_response_are_streamed(
    credits: FakeCredits, headers: dict[str, str], library: Any, run: Callable[[Any], None]
) -> None:
    async def body_chunks() -> AsyncIterator[bytes]:
        yield TRANSACTION_BODY[:5]
        await anyio.lowlevel.checkpoint()
        yield TRANSACTION_BODY[5:]

    async def main() -> None:
        async with library.AsyncClient(headers=headers, verify=TLS) as client:
            response = await client.post(URL + TRANSACTIONS, content=body_chunks())
            assert response.status_code == 201
            async with client.stream("GET", URL + BALANCE) as streamed:
                assert [part async for part in streamed.aiter_bytes(4)] == [b'{"ba', b"lanc", b'e":4', b"}"]

    run(main)


def test_sync_body_is_streamed(credits: FakeCredits, headers: dict[str, str], library: Any) -> None:
    with library.Client(headers=headers, verify=TLS) as client:
        assert (
            client.post(URL + TRANSACTIONS, content=iter([TRANSACTION_BODY[:5], TRANSACTION_BODY[5:]])).status_code
            == 201
        )
    assert credits.balance() == 4


@pytest.mark.parametrize("is_truncated", [False, True])
def test_trace_extension_receives_events(
    credits: FakeCredits, headers: dict[str, str], library: Any, is_truncated: bool
) -> None:
    """The ``trace`` extension reports the same events as over a network, except those for connecting."""
    if is_truncated:
        credits.faults.add(Truncate(at_bytes=3), "getBalance")
    events: list[str] = []

    def record_event(name: str, _details: object) -> None:
        events.append(name)

    with library.Client(headers=headers, verify=TLS) as client:
        request = client.build_request("GET", URL + BALANCE, extensions={"trace": record_event})
        try:
            client.send(request)
        except library.RemoteProtocolError:
            assert is_truncated
    assert "http11.send_request_headers.started" in events
    assert "http11.receive_response_headers.complete" in events
    assert ("http11.receive_response_body.failed" in events) == is_truncated


def test_httpcore_pool_is_intercepted_without_httpx(
    credits: FakeCredits, headers: dict[str, str], library: Any, run: Callable[[Any], None]
) -> None:
    core = CORES[library]
    with core.ConnectionPool() as pool:
        assert pool.request("GET", URL + BALANCE, headers=headers).content == b'{"balance":5}'

    async def main() -> None:
        async with core.AsyncConnectionPool() as pool:
            assert (await pool.request("GET", URL + BALANCE, headers=headers)).content == b'{"balance":5}'

    run(main)


def test_driver_error_propagates_and_frees_connection(library: Any, run: Callable[[Any], None]) -> None:
    class FailingDriver:
        def call(self, _request: object, _error: object = None) -> None:
            raise LookupError("a bug")

        async def call_async(self, _request: object, _error: object = None) -> None:
            raise LookupError("a bug")

    driver: Any = FailingDriver()
    route = Route(parse_base_url(URL), driver, Clock(), InterceptionLog())

    async def main() -> None:
        async with library.AsyncClient(verify=TLS) as client:
            with pytest.raises(LookupError):
                await client.get(URL)
            assert pool_of(client).connections == []

    with Interception(INTERCEPTION_REGISTRY, [route]):
        run(main)
        with library.Client(verify=TLS) as client:
            with pytest.raises(LookupError):
                client.get(URL)
            assert pool_of(client).connections == []


@pytest.mark.parametrize("bad_chunk", ["text", KeyError("own")], ids=repr)
def test_invalid_sync_body_raises_same_error_as_on_socket(
    credits: FakeCredits, headers: dict[str, str], library: Any, bad_chunk: object
) -> None:
    def body_chunks() -> Iterator[Any]:
        yield TRANSACTION_BODY[:5]
        if isinstance(bad_chunk, Exception):
            raise bad_chunk
        yield bad_chunk

    errors: list[tuple[type, str]] = []
    with library.Client(headers=headers, verify=TLS) as client:
        for url in (URL, credits.base_url):
            with pytest.raises((TypeError, KeyError)) as error:
                client.post(url + TRANSACTIONS, content=body_chunks())
            errors.append((error.type, str(error.value)))
    assert errors[0] == errors[1]
    assert credits.journal.calls(committed=True) == ()


def test_debug_lines_are_the_same_as_live(
    library: Any, run: Callable[[Any], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Only lines about HTTP/1.1 are compared: an intercepted request has none about connecting."""
    caplog.set_level(logging.DEBUG, f"{CORES[library].__name__}.http11")
    with FakeCredits(balance=5) as live, FakeCredits(balance=5) as fake:
        url, events = live.base_url, list[list[str]]()

        async def main() -> None:
            async with library.AsyncClient(verify=TLS, trust_env=False) as client:
                await client.get(url + BALANCE)

        for each in (live, fake):
            with contextlib.nullcontext() if each is live else each.intercept(url):
                caplog.clear()
                run(main)
                with library.Client(verify=TLS, trust_env=False) as client:
                    client.get(url + BALANCE)
                names = [record for record in caplog.records if record.name.endswith(".http11")]
                events.append([record.getMessage().split()[0] for record in names])
    assert events[0] == events[1]
    assert "receive_response_headers.complete" in events[0]
