"""Each operation, written once: its arguments are checked and it returns a description of the request."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Generic, TypeVar
from urllib.parse import SplitResult, quote, urlsplit

from fake_credits.client.responses import ResponseDecoder
from fake_credits.contract import Contract, Operation
from fake_credits.http_message import Response
from fake_credits.models import Balance, Reason, Transaction, TransactionPage, User, UserPage

__all__ = [
    "BaseUrl",
    "PreparedCall",
    "RequestBuilder",
    "check_timeout",
    "create_transaction",
    "create_user",
    "encode_secret",
    "get_balance",
    "get_user",
    "list_transactions",
    "list_users",
    "mask",
    "quote_id",
    "quote_text",
]

_DOT_SEGMENTS = frozenset({".", ".."})
_UNMASKED_CHARS = 4


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """Be a base URL that was found fit: ``text`` without trailing slashes, and its parts."""

    text: str
    scheme: str
    host: str
    path_prefix: str

    @classmethod
    def parse(cls, text: str) -> "BaseUrl":
        """Return the parts of an absolute http or https URL; raise TypeError or ValueError where it is none.

        It may have a path in front of the API's own and a trailing slash; a query, a fragment and user information
        are refused, as they would be lost or sent twice.
        """
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance] callers may be untyped
            raise TypeError(f"base_url must be a str, not {type(text).__name__}")
        return cls._parse(text)

    @classmethod
    @lru_cache(maxsize=16)
    def _parse(cls, text: str) -> "BaseUrl":
        """Return the parts; kept, as a suite makes thousands of clients of one URL."""
        if not text.isascii() or any(character <= " " or character == "\x7f" for character in text):
            raise ValueError("base_url must be ASCII without spaces: percent-encode its path")
        parts = _split_url(text)
        if "@" in parts.netloc:
            raise ValueError("base_url must not bear user information: the credential is an argument of its own")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"base_url {text!r} must be an absolute http:// or https:// URL")
        if "?" in text or "#" in text:
            raise ValueError(f"base_url {text!r} must have neither a query nor a fragment")
        if not _DOT_SEGMENTS.isdisjoint(parts.path.split("/")):
            raise ValueError(f"base_url {text!r} must have no '.' or '..' in its path: HTTP libraries walk them")
        return cls(text.rstrip("/"), parts.scheme, parts.hostname, parts.path.rstrip("/"))


def _split_url(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises ValueError for a port that is none
    except ValueError as error:
        raise ValueError(f"base_url is no URL: {error}") from None
    return parts


@lru_cache(maxsize=1024)
def quote_id(argument: str, value: str) -> str:
    """Return an id as one percent-encoded path segment.

    Raise ValueError for what would reach another operation or no server at all: an empty id, ``.`` and ``..``, which
    URL libraries walk even as ``%2E%2E``, and lone surrogates. All other limits are the server's (README,
    "What is a guess", row 24).
    """
    if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance] callers may be untyped
        raise TypeError(f"{argument} must be a str, not {type(value).__name__}")
    if not value or value in _DOT_SEGMENTS:
        raise ValueError(f"{argument} must not be {value!r}: as a part of a path it names another operation")
    return quote_text(argument, value)


def quote_text(argument: str, value: str) -> str:
    """Return text percent-encoded, all but RFC 3986's unreserved characters; raise ValueError for lone surrogates."""
    try:
        return quote(value, safe="")
    except UnicodeEncodeError as error:
        raise ValueError(f"{argument} {value!r} has a lone surrogate, which UTF-8 can't encode") from error


def encode_secret(argument: str, value: str) -> bytes:
    """Return a credential as the bytes of a header's value.

    Raise TypeError or ValueError, without repeating the secret, for what no header can carry (RFC 9110, 5.5).
    """
    if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance] callers may be untyped
        raise TypeError(f"{argument} must be a str, not {type(value).__name__}")
    if not value:
        raise ValueError(f"{argument} must not be empty")
    if value != value.strip() or any(character < " " or character == "\x7f" for character in value):
        raise ValueError(f"{argument} must have no control characters, and no space at either end")
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(f"{argument} must be Latin-1 text: a header can't carry anything else") from None


def check_timeout(value: float | None) -> float | None:
    """Return a timeout in seconds; raise TypeError or ValueError where it is neither None nor finite and positive."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"timeout_s must be a number of seconds or None, not {type(value).__name__}")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"timeout_s must be more than 0 and finite, not {value!r}: None waits for ever")
    return value


def mask(secret: str) -> str:
    """Return no more of a secret than its first four characters, and nothing of a short one."""
    return (secret[:_UNMASKED_CHARS] if len(secret) > 2 * _UNMASKED_CHARS else "") + "…"


__tracebackhide__ = True  # a failing test shows the caller's line, not ours

T = TypeVar("T")

_encode_json = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode  # integers of any size, unlike msgspec's


@dataclass(frozen=True, slots=True)
class PreparedCall(Generic[T]):
    """Describe one call: what to send, and how to read the answer.

    ``target`` is the percent-encoded path with its query, ASCII, relative to the base URL's path, and starts with
    ``/``. ``decode`` returns the model, or raises the `ApiError` or `InvalidResponse` that the answer stands for.
    """

    operation: Operation
    method: str
    target: str
    body: bytes | None
    decode: Callable[[Response], T]


class RequestBuilder:
    """Hold what all calls under one contract share: routes and readers."""

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
        """Return a list's target: its path, and the cursor as given, percent-encoded (README's table, row 14)."""
        if cursor is None:
            return path
        parameter = quote_text("cursor_parameter", self.contract.cursor_parameter)
        return f"{path}?{parameter}={quote_text('cursor', _require_str('cursor', cursor))}"

    def transaction_body(self, delta: float, reason: str) -> bytes:
        """Return the body of a createTransaction (API README, ``CreateTransactionRequest``)."""
        name_of = self.contract.name_of
        return _encode_json({name_of("delta"): delta, name_of("reason"): reason}).encode()

    def _quote_id(self, argument: str, value: str) -> str:
        return quote_id(argument, _require_str(argument, value))


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

    ``delta`` and ``reason`` go out as they are, for the server to judge; only what JSON can't say is refused:
    TypeError for a delta that is no number (a bool is none) and a reason that is no text, ValueError for NaN and
    infinities.
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
        raise ValueError(f"delta must be finite, not {delta!r}: JSON has no such number")
    return delta
