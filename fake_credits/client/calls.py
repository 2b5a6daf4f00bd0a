"""The calls of the four clients: the operations, sending, and pagination.

The sync and async clients share everything except `BaseClient` and `AsyncBaseClient`. Neither retries requests.
"""

import json
import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from fake_credits.client.arguments import (
    BaseUrl,
    check_timeout,
    encode_secret,
    mask,
    quote_id,
    quote_text,
)
from fake_credits.client.responses import ResponseDecoder
from fake_credits.contract import Contract, CredentialHeader, Operation
from fake_credits.errors import InvalidResponse
from fake_credits.http_message import AsyncTransport, Headers, Request, Response, Transport
from fake_credits.models import Balance, Reason, Transaction, TransactionPage, User, UserPage

if TYPE_CHECKING:
    import httpx2

__all__ = [
    "AsyncBaseClient",
    "AsyncItemIterator",
    "BaseClient",
    "ClientConfig",
    "ClientCredential",
    "PreparedCall",
    "RequestBuilder",
    "create_transaction",
    "create_user",
    "get_balance",
    "get_user",
    "iter_items",
    "list_transactions",
    "list_users",
]

__tracebackhide__ = True  # a failing test shows the caller's line, not ours

T = TypeVar("T")
P = TypeVar("P", bound=UserPage | TransactionPage)

_ACCEPT_JSON = (b"accept", b"application/json")
_CONTENT_TYPE_JSON = (b"content-type", b"application/json")
_encode_json = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode  # integers of any size, unlike msgspec's


class ClientCredential:
    """A key or token and the header that carries it; the ``repr`` masks the secret.

    A callable is called before each request, so that it can return a new token.
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
        """Return all headers of a request."""
        if self._get_secret is not None and (secret := self._get_secret()) is not self._last_secret:
            self._headers_without_body, self._headers_with_body = self._build_headers(secret)
            self._last_secret = secret
        return self._headers_with_body if has_body else self._headers_without_body

    def _build_headers(self, secret: str) -> tuple[Headers, Headers]:
        encode_secret(self._argument, secret)
        headers: Headers = [_ACCEPT_JSON, (self._header_name, self._header.value_for(secret).encode("latin-1"))]
        return headers, [*headers, _CONTENT_TYPE_JSON]


@dataclass(frozen=True, slots=True)
class PreparedCall(Generic[T]):
    """A call: what to send, and how to decode the response.

    ``target`` is the percent-encoded path and query, relative to the base URL's path, and starts with ``/``. ``decode``
    returns the model, or raises `ApiError` or `InvalidResponse`.
    """

    operation: Operation
    method: str
    target: str
    body: bytes | None
    decode: Callable[[Response], T]


class RequestBuilder:
    """A builder of targets and bodies under one contract, with its response decoder."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.decoder = ResponseDecoder(contract)

    def application_route(self, operation: Operation, application_id: str) -> tuple[str, str]:
        """Return the method and path of an operation on an application."""
        route = self.contract.routes[operation]
        return route.method, route.path.replace("{applicationId}", self._quote_id("application_id", application_id))

    def user_route(self, operation: Operation, application_id: str, user_id: str) -> tuple[str, str]:
        """Return the method and path of an operation on a user."""
        method, path = self.application_route(operation, application_id)
        return method, path.replace("{userId}", self._quote_id("user_id", user_id))

    def page_target(self, path: str, cursor: str | None) -> str:
        """Return a list's target: its path and, if given, the percent-encoded cursor (README's table, row 14)."""
        if cursor is None:
            return path
        parameter = quote_text("cursor_parameter", self.contract.cursor_parameter)
        return f"{path}?{parameter}={quote_text('cursor', _require_str('cursor', cursor))}"

    def transaction_body(self, delta: float, reason: str) -> bytes:
        """Return the body of createTransaction (API README, ``CreateTransactionRequest``)."""
        name_of = self.contract.name_of
        return _encode_json({name_of("delta"): delta, name_of("reason"): reason}).encode()

    def _quote_id(self, argument: str, value: str) -> str:
        return quote_id(argument, _require_str(argument, value))


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """The validated options that all four clients share."""

    base_url: BaseUrl
    credential: ClientCredential
    timeout_s: float | None
    contract: Contract

    def __post_init__(self) -> None:
        check_timeout(self.timeout_s)

    def build_request(self, call: PreparedCall[T]) -> Request:
        """Return the request that a transport sends for a call."""
        headers = self.credential.headers(has_body=call.body is not None)
        return Request(
            call.method, call.target.encode("ascii"), headers, call.body or b"", self.timeout_s, call.operation
        )


class BaseClient:
    """The base of the sync clients, which sends calls over a given transport or its own network transport."""

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
        """Close what this client created; a transport or HTTP client that was passed in stays open."""
        if self._owns_transport:
            self._transport.close()

    def _network_transport(self, http_client: "httpx2.Client | None") -> Transport:
        from fake_credits.client.http import NetworkTransport  # loads httpx2, needed only for the network

        return NetworkTransport(self._config.base_url.text, http_client)

    def _send(self, call: PreparedCall[T]) -> T:
        return call.decode(self._transport.send(self._config.build_request(call)))


class AsyncBaseClient:
    """The async version of `BaseClient`; created anywhere, used in one event loop (asyncio or trio)."""

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
        """Close what this client created; a transport or HTTP client that was passed in stays open."""
        if self._owns_transport:
            await self._transport.aclose()

    def _network_transport(self, http_client: "httpx2.AsyncClient | None") -> AsyncTransport:
        from fake_credits.client.http import AsyncNetworkTransport  # loads httpx2, needed only for the network

        return AsyncNetworkTransport(self._config.base_url.text, http_client)

    async def _send(self, call: PreparedCall[T]) -> T:
        return call.decode(await self._transport.send(self._config.build_request(call)))


def create_user(builder: RequestBuilder, application_id: str, user_id: str) -> PreparedCall[User]:
    """Describe createUser: "create or update a user (idempotent)" (API README)."""
    operation = Operation.CREATE_USER
    method, path = builder.user_route(operation, application_id, user_id)
    return PreparedCall(operation, method, path, None, builder.decoder.user)


def get_user(builder: RequestBuilder, application_id: str, user_id: str) -> PreparedCall[User]:
    """Describe getUser: "get user information" (API README)."""
    operation = Operation.GET_USER
    method, path = builder.user_route(operation, application_id, user_id)
    return PreparedCall(operation, method, path, None, builder.decoder.user)


def list_users(builder: RequestBuilder, application_id: str, cursor: str | None) -> PreparedCall[UserPage]:
    """Describe listUsers: "list all users in the application" (API README)."""
    operation = Operation.LIST_USERS
    method, path = builder.application_route(operation, application_id)
    return PreparedCall(operation, method, builder.page_target(path, cursor), None, builder.decoder.user_page)


def get_balance(builder: RequestBuilder, application_id: str, user_id: str) -> PreparedCall[Balance]:
    """Describe getBalance: "get user's credit balance" (API README)."""
    operation = Operation.GET_BALANCE
    method, path = builder.user_route(operation, application_id, user_id)
    return PreparedCall(operation, method, path, None, builder.decoder.balance)


def create_transaction(
    builder: RequestBuilder, application_id: str, user_id: str, *, delta: float, reason: Reason | str
) -> PreparedCall[Transaction]:
    """Describe createTransaction: "create a credit transaction (grant/consume/refund)" (API README).

    ``delta`` and ``reason`` are sent unchanged, and the server validates them. Only what JSON can't represent is
    rejected: TypeError for a delta that is not a number (or is a bool) or a reason that is not a str, ValueError for
    NaN and infinities.
    """
    operation = Operation.CREATE_TRANSACTION
    method, path = builder.user_route(operation, application_id, user_id)
    body = builder.transaction_body(_require_finite_number(delta), _require_str("reason", reason))
    return PreparedCall(operation, method, path, body, partial(builder.decoder.transaction, delta=delta, reason=reason))


def list_transactions(
    builder: RequestBuilder, application_id: str, user_id: str, cursor: str | None
) -> PreparedCall[TransactionPage]:
    """Describe listTransactions: "list user's transaction history" (API README)."""
    operation = Operation.LIST_TRANSACTIONS
    method, path = builder.user_route(operation, application_id, user_id)
    return PreparedCall(operation, method, builder.page_target(path, cursor), None, builder.decoder.transaction_page)


def _require_str(argument: str, value: str) -> str:
    if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance] callers may be untyped
        raise TypeError(f"{argument} must be a str, not {type(value).__name__}")
    return value


def _require_finite_number(delta: float) -> float:
    if isinstance(delta, bool) or not isinstance(delta, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"delta must be a number, not {type(delta).__name__}")
    if isinstance(delta, float) and not math.isfinite(delta):
        raise ValueError(f"delta must be finite, got {delta!r}; JSON can't represent it")
    return delta


def _require_one_transport(transport: object, http_client: object) -> None:
    if transport is not None and http_client is not None:
        raise TypeError("transport and http_client are mutually exclusive")


class _SeenCursors:
    def __init__(self) -> None:
        self._seen: set[str] = set()

    def next_cursor(self, page: UserPage | TransactionPage) -> str | None:
        """Return the next cursor; raise `InvalidResponse` if it was seen before, as the iteration would never end."""
        cursor = page.next_cursor
        if cursor is None:
            return None
        if cursor in self._seen:
            raise InvalidResponse(
                f"the API returned the cursor {cursor!r} twice, so the list would never end", status=200
            )
        self._seen.add(cursor)
        return cursor


def iter_items(fetch_page: Callable[[str | None], P], items_of: Callable[[P], Sequence[T]]) -> Iterator[T]:
    """Yield the items of all pages, fetching each page when it is needed."""
    seen, page = _SeenCursors(), fetch_page(None)
    yield from items_of(page)
    while (cursor := seen.next_cursor(page)) is not None:
        page = fetch_page(cursor)
        yield from items_of(page)


class AsyncItemIterator(AsyncIterator[T], Generic[T, P]):
    """The async version of `iter_items`.

    It is not an async generator, which a loop that breaks early would leave for the event loop to close.
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
