"""Test interception in httpx and httpx2: pools and their limits, hooks, retries, streams, sync and in both loops."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import httpcore
import httpcore2
import httpx
import httpx2
import pytest
import trio

from fake_credits.fake import FakeCredits
from fake_credits.faults.effects import Reset, Truncate
from fake_credits.intercept import INTERCEPTION_REGISTRY, Interception
from fake_credits.intercept.routes import Route, parse_base_url
from tests.intercept.libraries import BALANCE, ORDER, TLS, TRANSACTIONS

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
    """Return httpx, httpx2."""
    return request.param


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Callable[[Any], None]:
    """Return a function that runs a main coroutine: in asyncio, in trio."""
    return (lambda main: asyncio.run(main())) if request.param == "asyncio" else trio.run


def pool_of(client: Any) -> Any:
    return client._transport._pool


def test_event_hooks_see_request_and_answer(credits: FakeCredits, headers: dict[str, str], library: Any) -> None:
    seen: list[object] = []

    def on_request(request: Any) -> None:
        seen.append(str(request.url))

    def on_response(answer: Any) -> None:
        seen.append(answer.status_code)

    hooks = {"request": [on_request], "response": [on_response]}
    with library.Client(event_hooks=hooks, headers=headers, verify=TLS) as client:
        client.get(URL + BALANCE)
    assert seen == [URL + BALANCE, 200]


def test_the_transports_retries_are_for_connecting_only(
    credits: FakeCredits, headers: dict[str, str], library: Any
) -> None:
    """As over a network: what is lost after the connection stands is not sent again."""
    credits.faults.add(Reset(), "getBalance")
    transport = library.HTTPTransport(retries=5, verify=TLS)
    with library.Client(transport=transport, headers=headers) as client, pytest.raises(library.ReadError):
        client.get(URL + BALANCE)
    assert len(credits.journal) == 1


def test_an_answer_says_what_an_answer_says(credits: FakeCredits, headers: dict[str, str], library: Any) -> None:
    with library.Client(headers=headers, verify=TLS, http2=False) as client:
        answer = client.get(URL + BALANCE)
    assert (answer.http_version, answer.reason_phrase, answer.num_bytes_downloaded) == ("HTTP/1.1", "OK", 13)
    assert answer.extensions["network_stream"].get_extra_info("server_addr") is None


@pytest.mark.parametrize("broken", [False, True])
def test_the_pool_forgets_a_request_that_is_over(
    credits: FakeCredits, headers: dict[str, str], library: Any, broken: bool
) -> None:
    if broken:
        credits.faults.add(Truncate(at_bytes=3), "getBalance")
    with library.Client(headers=headers, verify=TLS) as client:
        try:
            client.get(URL + BALANCE)
        except library.RemoteProtocolError:
            assert broken
        assert repr(pool_of(client)).count(" 0 ") == 4
        with client.stream("POST", URL + TRANSACTIONS, content=ORDER) as unread:
            assert "1 active, 0 idle" in repr(pool_of(client))
            assert "INTERCEPTED" in repr(pool_of(client).connections)
            assert unread.status_code == 201
        assert pool_of(client).connections == []


def test_the_pools_limit_and_its_timeout_hold(credits: FakeCredits, headers: dict[str, str], library: Any) -> None:
    limits = library.Limits(max_connections=1)
    with library.Client(headers=headers, limits=limits, timeout=library.Timeout(5, pool=0.001), verify=TLS) as client:
        with client.stream("GET", URL + BALANCE), pytest.raises(library.PoolTimeout):
            client.get(URL + BALANCE)
        assert client.get(URL + BALANCE).status_code == 200
    assert len(credits.journal) == 2


def test_who_waits_for_a_place_gets_it(
    credits: FakeCredits, headers: dict[str, str], library: Any, run: Callable[[Any], None]
) -> None:
    """Eight at once where there is room for two: all are answered, whole or broken, in their turn."""
    credits.faults.add(Reset(), "createTransaction", every=4)
    outcomes: list[object] = []

    async def main() -> None:
        limits = library.Limits(max_connections=2)
        async with library.AsyncClient(headers=headers, limits=limits, verify=TLS) as client:

            async def spend() -> None:
                try:
                    outcomes.append((await client.post(URL + TRANSACTIONS, content=ORDER)).status_code)
                except library.ReadError as error:
                    outcomes.append(type(error).__name__)

            async with anyio.create_task_group() as tasks:
                for _ in range(8):
                    tasks.start_soon(spend)
            assert repr(pool_of(client)).count(" 0 ") == 4

    run(main)
    assert sorted(map(str, outcomes)) == ["201"] * 5 + ["402"] + ["ReadError"] * 2


def test_one_that_gives_up_waiting_frees_its_place(
    credits: FakeCredits, headers: dict[str, str], library: Any, run: Callable[[Any], None]
) -> None:
    """Cancelled at the driver's first checkpoint: nothing is left in the pool, and nothing was asked."""

    async def main() -> None:
        async with library.AsyncClient(headers=headers, verify=TLS) as client:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await client.get(URL + BALANCE)
            assert pool_of(client).connections == []

    run(main)
    assert len(credits.journal) == 0


def test_an_async_body_comes_in_pieces(
    credits: FakeCredits, headers: dict[str, str], library: Any, run: Callable[[Any], None]
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield ORDER[:5]
        await anyio.lowlevel.checkpoint()
        yield ORDER[5:]

    async def main() -> None:
        async with library.AsyncClient(headers=headers, verify=TLS) as client:
            answer = await client.post(URL + TRANSACTIONS, content=pieces())
            assert answer.status_code == 201
            async with client.stream("GET", URL + BALANCE) as streamed:
                assert [part async for part in streamed.aiter_bytes(4)] == [b'{"ba', b"lanc", b'e":4', b"}"]

    run(main)


def test_a_sync_body_comes_in_pieces(credits: FakeCredits, headers: dict[str, str], library: Any) -> None:
    with library.Client(headers=headers, verify=TLS) as client:
        assert client.post(URL + TRANSACTIONS, content=iter([ORDER[:5], ORDER[5:]])).status_code == 201
    assert credits.balance() == 4


@pytest.mark.parametrize("broken", [False, True])
def test_who_traces_the_connection_sees_it_work(
    credits: FakeCredits, headers: dict[str, str], library: Any, broken: bool
) -> None:
    """The library's extension ``trace``: the same steps as over a network, but for connecting."""
    if broken:
        credits.faults.add(Truncate(at_bytes=3), "getBalance")
    seen: list[str] = []

    def note(name: str, _details: object) -> None:
        seen.append(name)

    with library.Client(headers=headers, verify=TLS) as client:
        request = client.build_request("GET", URL + BALANCE, extensions={"trace": note})
        try:
            client.send(request)
        except library.RemoteProtocolError:
            assert broken
    assert "http11.send_request_headers.started" in seen
    assert "http11.receive_response_headers.complete" in seen
    assert ("http11.receive_response_body.failed" in seen) == broken


def test_a_core_pool_is_intercepted_without_httpx(
    credits: FakeCredits, headers: dict[str, str], library: Any, run: Callable[[Any], None]
) -> None:
    core = CORES[library]
    with core.ConnectionPool() as pool:
        assert pool.request("GET", URL + BALANCE, headers=headers).content == b'{"balance":5}'

    async def main() -> None:
        async with core.AsyncConnectionPool() as pool:
            assert (await pool.request("GET", URL + BALANCE, headers=headers)).content == b'{"balance":5}'

    run(main)


def test_an_error_of_the_fake_itself_comes_through_and_frees_the_place(
    library: Any, run: Callable[[Any], None]
) -> None:
    class Broken:
        def call(self, _request: object, _error: object = None) -> None:
            raise LookupError("a bug")

        async def call_async(self, _request: object, _error: object = None) -> None:
            raise LookupError("a bug")

    def sleep(_seconds: float) -> None:
        """Let nothing pass."""

    driver: Any = Broken()
    route = Route(parse_base_url(URL), driver, sleep, lambda: 0.0)

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


@pytest.mark.parametrize("wrong", ["text", KeyError("own")], ids=repr)
def test_a_sync_body_that_goes_wrong_raises_what_it_does_on_a_socket(
    credits: FakeCredits, headers: dict[str, str], library: Any, wrong: object
) -> None:
    def pieces() -> Iterator[Any]:
        yield ORDER[:5]
        if isinstance(wrong, Exception):
            raise wrong
        yield wrong

    raised: list[tuple[type, str]] = []
    with library.Client(headers=headers, verify=TLS) as client:
        for url in (URL, credits.base_url):
            with pytest.raises((TypeError, KeyError)) as error:
                client.post(url + TRANSACTIONS, content=pieces())
            raised.append((error.type, str(error.value)))
    assert raised[0] == raised[1]
    assert credits.journal.calls(committed=True) == ()
