"""Own how the four clients send: credential, headers, time limit, whole lists; know none of the operations.

`Sender` and `AsyncSender` are all that the sync and async clients do not share. Neither retries anything.
"""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

from fake_credits.client.calls import Call, Shaping
from fake_credits.client.checks import BaseUrl, masked, secret_bytes, timeout
from fake_credits.client.transport import AsyncTransport, Headers, Transport, WireRequest
from fake_credits.contract import Contract, HeaderForm
from fake_credits.errors import InvalidResponse

if TYPE_CHECKING:
    import httpx2

__all__ = ["AsyncSender", "AsyncWalk", "Credential", "Options", "Page", "Sender", "walk"]

__tracebackhide__ = True  # a failing test shows the caller's line, not ours

T = TypeVar("T")
P = TypeVar("P", bound="Page")

_ACCEPT = (b"accept", b"application/json")
_JSON = (b"content-type", b"application/json")


class Credential:
    """Be a key or token and the header that carries it; the secret never shows in a ``repr``.

    A callable is asked before each call, so a token can be minted anew; a text is never touched.
    """

    def __init__(self, argument: str, secret: str | Callable[[], str], form: HeaderForm) -> None:
        self._argument = argument
        self._form = form
        self._name = form.header.lower().encode("ascii")
        self._source = secret if callable(secret) else None
        self._secret = "" if callable(secret) else secret
        self._followed: str | None = None
        self._bare, self._full = ((), ()) if callable(secret) else self._headers(secret)

    def __repr__(self) -> str:
        return f"{self._argument}={masked(self._secret)!r}" if self._source is None else f"{self._argument}=<callable>"

    def headers(self, *, body: bool) -> Headers:
        """Return a request's headers, all of them."""
        if self._source is not None:
            self._follow(self._source())
        return self._full if body else self._bare

    def _follow(self, secret: str) -> None:
        if secret is not self._followed:
            self._bare, self._full = self._headers(secret)
            self._followed = secret

    def _headers(self, secret: str) -> tuple[Headers, Headers]:
        secret_bytes(self._argument, secret)
        bare: Headers = (_ACCEPT, (self._name, self._form.value(secret).encode("latin-1")))
        return bare, (*bare, _JSON)


@dataclass(frozen=True, slots=True)
class Options:
    """Be what all four clients are made of, found fit."""

    base_url: BaseUrl
    credential: Credential
    timeout_s: float | None
    contract: Contract

    def __post_init__(self) -> None:
        timeout(self.timeout_s)

    def request(self, call: Call[T]) -> WireRequest:
        """Return a call as it goes to a transport."""
        headers = self.credential.headers(body=call.body is not None)
        return WireRequest(call.operation, call.method, call.target, headers, call.body, self.timeout_s)


class Sender:
    """Send call descriptions over a transport: the given one, else one of its own on the network."""

    def __init__(self, options: Options, transport: Transport | None, http_client: "httpx2.Client | None") -> None:
        _refuse_both(transport, http_client)
        self._options = options
        self._shaping = Shaping(options.contract)
        self._owned = transport is None
        self._transport = self._network(http_client) if transport is None else transport

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what this client made itself; a transport or HTTP client that was passed in stays open."""
        if self._owned:
            self._transport.close()

    def _network(self, http_client: "httpx2.Client | None") -> Transport:
        from fake_credits.client.network import NetworkTransport  # loads httpx2, which only the network needs

        return NetworkTransport(self._options.base_url.text, http_client)

    def _send(self, call: Call[T]) -> T:
        return call.decode(self._transport.send(self._options.request(call)))


class AsyncSender:
    """Be the async twin of `Sender`; made anywhere, used in one event loop (asyncio or trio)."""

    def __init__(
        self, options: Options, transport: AsyncTransport | None, http_client: "httpx2.AsyncClient | None"
    ) -> None:
        _refuse_both(transport, http_client)
        self._options = options
        self._shaping = Shaping(options.contract)
        self._owned = transport is None
        self._transport = self._network(http_client) if transport is None else transport

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close what this client made itself; a transport or HTTP client that was passed in stays open."""
        if self._owned:
            await self._transport.aclose()

    def _network(self, http_client: "httpx2.AsyncClient | None") -> AsyncTransport:
        from fake_credits.client.network import AsyncNetworkTransport  # loads httpx2, which only the network needs

        return AsyncNetworkTransport(self._options.base_url.text, http_client)

    async def _send(self, call: Call[T]) -> T:
        return call.decode(await self._transport.send(self._options.request(call)))


class Page(Protocol):
    """Be a page of any list."""

    @property
    def next_cursor(self) -> str | None:
        """Return where the next page begins; None on the last one."""
        ...


class _Trail:
    """Remember the cursors that a walk has followed."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def follow(self, page: Page) -> str | None:
        """Return the next cursor; raise `InvalidResponse` for one seen before, as the walk would never end."""
        cursor = page.next_cursor
        if cursor is None:
            return None
        if cursor in self._seen:
            raise InvalidResponse(
                f"the API gave out the cursor {cursor!r} a second time: the list has no end", status=200
            )
        self._seen.add(cursor)
        return cursor


def walk(fetch: Callable[[str | None], P], items: Callable[[P], Sequence[T]]) -> Iterator[T]:
    """Yield the items of all pages, each page fetched when it is needed."""
    trail, page = _Trail(), fetch(None)
    yield from items(page)
    while (cursor := trail.follow(page)) is not None:
        page = fetch(cursor)
        yield from items(page)


class AsyncWalk(AsyncIterator[T], Generic[T, P]):
    """Be the async twin of `walk`.

    An object, not an async generator: a loop that breaks off leaves no generator behind for the event loop to close.
    """

    def __init__(self, fetch: Callable[[str | None], Awaitable[P]], items: Callable[[P], Sequence[T]]) -> None:
        self._fetch = fetch
        self._items = items
        self._trail = _Trail()
        self._page: P | None = None
        self._left: deque[T] = deque()

    async def __anext__(self) -> T:
        while not self._left:
            cursor = None if self._page is None else self._trail.follow(self._page)
            if self._page is not None and cursor is None:
                raise StopAsyncIteration
            self._page = await self._fetch(cursor)
            self._left.extend(self._items(self._page))
        return self._left.popleft()


def _refuse_both(transport: object, http_client: object) -> None:
    if transport is not None and http_client is not None:
        raise TypeError("transport and http_client exclude each other: an HTTP client is one way to make a transport")
