"""Own how the four clients send: credential, headers, time limit, whole lists; know none of the operations.

`BaseClient` and `AsyncBaseClient` are all that the sync and async clients do not share. Neither retries anything.
"""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

from fake_credits.client.operations import BaseUrl, PreparedCall, RequestBuilder, check_timeout, encode_secret, mask
from fake_credits.contract import Contract, CredentialHeader
from fake_credits.errors import InvalidResponse
from fake_credits.http_message import AsyncTransport, Headers, Request, Transport

if TYPE_CHECKING:
    import httpx2

__all__ = [
    "AsyncBaseClient",
    "AsyncItemIterator",
    "BaseClient",
    "ClientConfig",
    "ClientCredential",
    "Page",
    "iter_items",
]

__tracebackhide__ = True  # a failing test shows the caller's line, not ours

T = TypeVar("T")
P = TypeVar("P", bound="Page")

_ACCEPT_JSON = (b"accept", b"application/json")
_CONTENT_TYPE_JSON = (b"content-type", b"application/json")


class ClientCredential:
    """Be a key or token and the header that carries it; the secret never shows in a ``repr``.

    A callable is asked before each call, so a token can be minted anew; a text is never touched.
    """

    def __init__(self, argument: str, secret: str | Callable[[], str], header: CredentialHeader) -> None:
        self._argument = argument
        self._header = header
        self._header_name = header.header.lower().encode("ascii")
        self._get_secret = secret if callable(secret) else None
        self._secret = "" if callable(secret) else secret
        self._last_secret: str | None = None
        self._headers_without_body, self._headers_with_body = (
            ([], []) if callable(secret) else self._build_headers(secret)
        )

    def __repr__(self) -> str:
        return (
            f"{self._argument}={mask(self._secret)!r}" if self._get_secret is None else f"{self._argument}=<callable>"
        )

    def headers(self, *, has_body: bool) -> Headers:
        """Return a request's headers, all of them."""
        if self._get_secret is not None and (secret := self._get_secret()) is not self._last_secret:
            self._headers_without_body, self._headers_with_body = self._build_headers(secret)
            self._last_secret = secret
        return self._headers_with_body if has_body else self._headers_without_body

    def _build_headers(self, secret: str) -> tuple[Headers, Headers]:
        encode_secret(self._argument, secret)
        headers: Headers = [_ACCEPT_JSON, (self._header_name, self._header.value_for(secret).encode("latin-1"))]
        return headers, [*headers, _CONTENT_TYPE_JSON]


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """Be what all four clients are made of, found fit."""

    base_url: BaseUrl
    credential: ClientCredential
    timeout_s: float | None
    contract: Contract

    def __post_init__(self) -> None:
        check_timeout(self.timeout_s)

    def build_request(self, call: PreparedCall[T]) -> Request:
        """Return a call as it goes to a transport."""
        headers = self.credential.headers(has_body=call.body is not None)
        return Request(
            call.method, call.target.encode("ascii"), headers, call.body or b"", self.timeout_s, call.operation
        )


class BaseClient:
    """Send call descriptions over a transport: the given one, else one of its own on the network."""

    def __init__(self, config: ClientConfig, transport: Transport | None, http_client: "httpx2.Client | None") -> None:
        _require_one_transport(transport, http_client)
        self._config = config
        self._builder = RequestBuilder(config.contract)
        self._owns_transport = transport is None
        self._transport = self._network_transport(http_client) if transport is None else transport

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what this client made itself; a transport or HTTP client that was passed in stays open."""
        if self._owns_transport:
            self._transport.close()

    def _network_transport(self, http_client: "httpx2.Client | None") -> Transport:
        from fake_credits.client.http import NetworkTransport  # loads httpx2, which only the network needs

        return NetworkTransport(self._config.base_url.text, http_client)

    def _send(self, call: PreparedCall[T]) -> T:
        return call.decode(self._transport.send(self._config.build_request(call)))


class AsyncBaseClient:
    """Be the async twin of `BaseClient`; made anywhere, used in one event loop (asyncio or trio)."""

    def __init__(
        self, config: ClientConfig, transport: AsyncTransport | None, http_client: "httpx2.AsyncClient | None"
    ) -> None:
        _require_one_transport(transport, http_client)
        self._config = config
        self._builder = RequestBuilder(config.contract)
        self._owns_transport = transport is None
        self._transport = self._network_transport(http_client) if transport is None else transport

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close what this client made itself; a transport or HTTP client that was passed in stays open."""
        if self._owns_transport:
            await self._transport.aclose()

    def _network_transport(self, http_client: "httpx2.AsyncClient | None") -> AsyncTransport:
        from fake_credits.client.http import AsyncNetworkTransport  # loads httpx2, which only the network needs

        return AsyncNetworkTransport(self._config.base_url.text, http_client)

    async def _send(self, call: PreparedCall[T]) -> T:
        return call.decode(await self._transport.send(self._config.build_request(call)))


class Page(Protocol):
    """Be a page of any list."""

    @property
    def next_cursor(self) -> str | None:
        """Return where the next page begins; None on the last one."""
        ...


class _SeenCursors:
    """Remember the cursors that a walk has followed."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def next_cursor(self, page: Page) -> str | None:
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


def iter_items(fetch_page: Callable[[str | None], P], items_of: Callable[[P], Sequence[T]]) -> Iterator[T]:
    """Yield the items of all pages, each page fetched when it is needed."""
    seen, page = _SeenCursors(), fetch_page(None)
    yield from items_of(page)
    while (cursor := seen.next_cursor(page)) is not None:
        page = fetch_page(cursor)
        yield from items_of(page)


class AsyncItemIterator(AsyncIterator[T], Generic[T, P]):
    """Be the async twin of `walk`.

    An object, not an async generator: a loop that breaks off leaves no generator behind for the event loop to close.
    """

    def __init__(self, fetch_page: Callable[[str | None], Awaitable[P]], items_of: Callable[[P], Sequence[T]]) -> None:
        self._fetch_page = fetch_page
        self._items_of = items_of
        self._seen = _SeenCursors()
        self._page: P | None = None
        self._pending: deque[T] = deque()

    async def __anext__(self) -> T:
        while not self._pending:
            cursor = None if self._page is None else self._seen.next_cursor(self._page)
            if self._page is not None and cursor is None:
                raise StopAsyncIteration
            self._page = await self._fetch_page(cursor)
            self._pending.extend(self._items_of(self._page))
        return self._pending.popleft()


def _require_one_transport(transport: object, http_client: object) -> None:
    if transport is not None and http_client is not None:
        raise TypeError("transport and http_client exclude each other: an HTTP client is one way to make a transport")
