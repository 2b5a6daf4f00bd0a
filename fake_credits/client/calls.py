"""The calls that the four clients make: building them, sending them, and iterating over pages.

Only sending and iterating have separate sync and async versions. No client retries requests.
"""

import json
import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import msgspec

from fake_credits.arguments import (
    BaseUrl,
    cached_quote_id,
    check_timeout,
    encode_secret,
    mask,
    quote_text,
    require_str,
)
from fake_credits.client.responses import ResponseDecoder
from fake_credits.contract import Contract, CredentialHeader, Operation
from fake_credits.errors import InvalidResponse
from fake_credits.http_message import AsyncTransport, Headers, Request, Response, Transport
from fake_credits.models import Balance, Reason, Transaction, TransactionPage, User, UserPage
from fake_credits.text import short_repr

if TYPE_CHECKING:
    import httpx2

__tracebackhide__ = True  # a failing test then shows the caller's line, not ours

T = TypeVar("T")
P = TypeVar("P", bound=UserPage | TransactionPage)

_ACCEPT_JSON = (b"accept", b"application/json")
_CONTENT_TYPE_JSON = (b"content-type", b"application/json")
# Unlike msgspec, this encodes integers of any size.
_encode_json = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


class ClientCredential:
    """An API key or token and the header that carries it; the ``repr`` masks the secret.

    If ``secret`` is a callable, it is called before each request, so that it can return a new token.
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
        """Return all headers for a request, including the one that carries the credential."""
        if self._get_secret is not None and (secret := self._get_secret()) is not self._last_secret:
            self._headers_without_body, self._headers_with_body = self._build_headers(secret)
            self._last_secret = secret
        return self._headers_with_body if has_body else self._headers_without_body

    def _build_headers(self, secret: str) -> tuple[Headers, Headers]:
        encode_secret(self._argument, secret)
        headers: Headers = [_ACCEPT_JSON, (self._header_name, self._header.value_for(secret).encode("latin-1"))]
        return headers, [*headers, _CONTENT_TYPE_JSON]


class PreparedCall(msgspec.Struct, Generic[T], frozen=True):
    """A call: the request to send, and how to decode the response.

    ``target`` is the percent-encoded path and query, relative to the base URL's path, and starts with ``/``. ``decode``
    returns the model; it raises `ApiError` for an error response, and `InvalidResponse` for an unusable one.
    """

    operation: Operation
    method: str
    target: str
    body: bytes | None
    decode: Callable[[Response], T]


class CallBuilder:
    """A builder for calls under one contract."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.decoder = ResponseDecoder(contract)

    def call(
        self,
        operation: Operation,
        decode: Callable[[Response], T],
        application_id: str,
        user_id: str = "",
        *,
        body: bytes | None = None,
    ) -> PreparedCall[T]:
        """Return a call to an operation; ``user_id`` is required if the operation's path has ``{userId}``."""
        route = self.contract.routes[operation]
        try:
            target = route.path.replace("{applicationId}", cached_quote_id("application_id", application_id))
            if "{userId}" in target:
                target = target.replace("{userId}", cached_quote_id("user_id", user_id))
        except TypeError:  # for an unhashable id, the cache's message doesn't name the argument
            require_str("application_id", application_id)
            require_str("user_id", user_id)
            raise
        return PreparedCall(operation, route.method, target, body, decode)

    def at_cursor(self, call: PreparedCall[T], cursor: str | None) -> PreparedCall[T]:
        """Return a call with the cursor added to its query (docs, "Contract", row 14); None adds nothing."""
        if cursor is None:
            return call
        parameter = quote_text("cursor_parameter", self.contract.cursor_parameter)
        return msgspec.structs.replace(call, target=f"{call.target}?{parameter}={quote_text('cursor', cursor)}")


def require_contract(value: Contract) -> Contract:
    """Return ``value`` if it is a contract; raise TypeError for anything else, such as a file name."""
    if not isinstance(value, Contract):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"contract must be a Contract, such as load_contract('contract.toml'), not {short_repr(value)}")
    return value


class ClientConfig(msgspec.Struct, frozen=True):
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
    """The base class of the sync clients, which use the transport passed in or create a network transport."""

    def __init__(self, config: ClientConfig, transport: Transport | None, http_client: "httpx2.Client | None") -> None:
        _require_one_transport(transport, http_client)
        self._config = config
        self._builder = CallBuilder(config.contract)
        self._owns_transport = transport is None
        if transport is None:
            from fake_credits.client.http import NetworkTransport  # loads httpx2, which only network clients need

            transport = NetworkTransport(config.base_url.text, http_client)
        self._transport = transport

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what this client created; a transport or HTTP client that was passed in stays open."""
        if self._owns_transport:
            self._transport.close()

    def _send(self, call: PreparedCall[T]) -> T:
        return call.decode(self._transport.send(self._config.build_request(call)))


class AsyncBaseClient:
    """The async version of `BaseClient`; create it anywhere, but use it in only one event loop (asyncio or trio)."""

    def __init__(
        self, config: ClientConfig, transport: AsyncTransport | None, http_client: "httpx2.AsyncClient | None"
    ) -> None:
        _require_one_transport(transport, http_client)
        self._config = config
        self._builder = CallBuilder(config.contract)
        self._owns_transport = transport is None
        if transport is None:
            from fake_credits.client.http import AsyncNetworkTransport  # loads httpx2, which only network clients need

            transport = AsyncNetworkTransport(config.base_url.text, http_client)
        self._transport = transport

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close what this client created; a transport or HTTP client that was passed in stays open."""
        if self._owns_transport:
            await self._transport.aclose()

    async def _send(self, call: PreparedCall[T]) -> T:
        return call.decode(await self._transport.send(self._config.build_request(call)))


def create_user(builder: CallBuilder, application_id: str, user_id: str) -> PreparedCall[User]:
    """Return the call to createUser: "create or update a user (idempotent)" (API README)."""
    return builder.call(Operation.CREATE_USER, builder.decoder.user, application_id, user_id)


def get_user(builder: CallBuilder, application_id: str, user_id: str) -> PreparedCall[User]:
    """Return the call to getUser: "get user information" (API README)."""
    return builder.call(Operation.GET_USER, builder.decoder.user, application_id, user_id)


def list_users(builder: CallBuilder, application_id: str, cursor: str | None) -> PreparedCall[UserPage]:
    """Return the call to listUsers: "list all users in the application" (API README)."""
    return builder.at_cursor(builder.call(Operation.LIST_USERS, builder.decoder.user_page, application_id), cursor)


def get_balance(builder: CallBuilder, application_id: str, user_id: str) -> PreparedCall[Balance]:
    """Return the call to getBalance: "get user's credit balance" (API README)."""
    return builder.call(Operation.GET_BALANCE, builder.decoder.balance, application_id, user_id)


def create_transaction(
    builder: CallBuilder, application_id: str, user_id: str, *, delta: float, reason: Reason | str
) -> PreparedCall[Transaction]:
    """Return the call to createTransaction: "create a credit transaction (grant/consume/refund)" (API README).

    ``delta`` and ``reason`` are sent unchanged, and the server validates them. Raises TypeError if ``delta`` is not an
    int or float, if it is a bool, or if ``reason`` is not a str, and ValueError if ``delta`` is NaN or infinite.
    """
    name_of = builder.contract.name_of
    members = {name_of("delta"): _require_finite_number(delta), name_of("reason"): require_str("reason", reason)}
    decode = partial(builder.decoder.transaction, delta=delta, reason=reason)
    body = _encode_json(members).encode()
    return builder.call(Operation.CREATE_TRANSACTION, decode, application_id, user_id, body=body)


def list_transactions(
    builder: CallBuilder, application_id: str, user_id: str, cursor: str | None
) -> PreparedCall[TransactionPage]:
    """Return the call to listTransactions: "list user's transaction history" (API README)."""
    call = builder.call(Operation.LIST_TRANSACTIONS, builder.decoder.transaction_page, application_id, user_id)
    return builder.at_cursor(call, cursor)


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
        """Return the next cursor; raise `InvalidResponse` if it was seen before, because the list would never end."""
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
    """Yield the items of all pages, fetching each page only when needed."""
    seen, page = _SeenCursors(), fetch_page(None)
    yield from items_of(page)
    while (cursor := seen.next_cursor(page)) is not None:
        page = fetch_page(cursor)
        yield from items_of(page)


class AsyncItemIterator(AsyncIterator[T], Generic[T, P]):
    """The async version of `iter_items`.

    It is not an async generator, because an unexhausted one would be left for the event loop to close.
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
