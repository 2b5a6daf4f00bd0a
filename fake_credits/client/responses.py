"""Decoding of responses into models or errors.

Bodies are decoded strictly: a missing, duplicate or wrongly typed member raises `InvalidResponse`, because a lenient
client hides bugs. Members that the contract does not define are ignored, so that newer servers can add members.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeGuard, TypeVar

import msgspec

from fake_credits.clock import from_ms, wall_clock_ms
from fake_credits.contract import FIELD_NAMES, Contract, TimestampFormat, created_at_from_json
from fake_credits.errors import ERRORS, ApiError, InvalidResponse, MethodNotAllowed, Problem
from fake_credits.http_message import Response
from fake_credits.models import Balance, Reason, Transaction, TransactionPage, User, UserPage
from fake_credits.strict_json import parse_json

__tracebackhide__ = True  # a failing test then shows the caller's line, not ours

T = TypeVar("T")

_MAX_EXCERPT_CHARS = 200
_REASON_BY_TEXT = {reason.value: reason for reason in Reason}
_AUTH_PREFIX = "auth:"
_FAULT_PREFIX = "fault:"
_DECODE_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError)  # msgspec's errors aren't ValueErrors before 0.21


class ResponseDecoder:
    """A decoder for responses under one contract.

    All methods raise `ApiError` or a subclass for an error response, and `InvalidResponse` for a response that violates
    the contract.
    """

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._timestamp_format: TimestampFormat = contract.created_at
        renamed = tuple(contract.field_names.items())
        self._decoders = _body_decoders(renamed, wrapped=contract.created_transaction == "wrapped")

    def user(self, response: Response) -> User:
        """Decode a response to createUser or getUser."""
        return self._decode(response, self._decoders.user, self._to_user)

    def balance(self, response: Response) -> Balance:
        """Decode the response to getBalance (API README, ``GetBalanceResponse``)."""
        return self._decode(response, self._decoders.balance, lambda body: Balance(_to_int("balance", body.balance)))

    def user_page(self, response: Response) -> UserPage:
        """Decode the response to listUsers."""
        return self._decode(
            response,
            self._decoders.user_page,
            lambda body: UserPage(tuple(map(self._to_user, body.users)), body.nextCursor or None),
        )

    def transaction_page(self, response: Response) -> TransactionPage:
        """Decode the response to listTransactions (API README, ``ListTransactionsResponse``)."""
        return self._decode(
            response,
            self._decoders.transaction_page,
            lambda body: TransactionPage(tuple(map(self._to_transaction, body.transactions)), body.nextCursor or None),
        )

    def transaction(self, response: Response, *, delta: float, reason: Reason | str) -> Transaction:
        """Decode the response to createTransaction; its form depends on the contract (docs, "Contract", row 11).

        If the contract's response has no body, the transaction is built from the request. Its time is then taken from
        the ``Date`` header, which is only accurate to the second, or from this machine's clock if that header is
        missing or invalid.
        """
        if self._contract.created_transaction == "empty":
            self._raise_for_status(response)
            return Transaction(int(delta), _to_reason(reason), _response_date(response))
        is_wrapped = self._contract.created_transaction == "wrapped"
        return self._decode(
            response,
            self._decoders.created_transaction,
            lambda body: self._to_transaction(body.transaction if is_wrapped else body),
        )

    def _decode(self, response: Response, decoder: msgspec.json.Decoder[Any], convert: Callable[[Any], T]) -> T:
        self._raise_for_status(response)
        try:
            body = decoder.decode(response.body)
            if msgspec.json.encode(body) != response.body:  # equal bytes rule out duplicate members
                parse_json(response.body)
            return convert(body)
        except (*_DECODE_ERRORS, OverflowError) as error:
            raise _invalid_response(response, str(error)) from error

    def _raise_for_status(self, response: Response) -> None:
        if not 200 <= response.status < 300:
            raise self._response_error(response)

    def _to_user(self, body: Any) -> User:
        return User(body.applicationId, body.userId, created_at_from_json(self._timestamp_format, body.createdAt))

    def _to_transaction(self, body: Any) -> Transaction:
        created_at = created_at_from_json(self._timestamp_format, body.createdAt)
        return Transaction(_to_int("delta", body.delta), _to_reason(body.reason), created_at)

    def _response_error(self, response: Response) -> ApiError | InvalidResponse:
        if response.status < 400:
            return _invalid_response(
                response, "it is neither a success nor an error, and clients do not follow redirects"
            )
        try:
            body: Any = msgspec.json.decode(response.body)
        except _DECODE_ERRORS as error:
            return _invalid_response(response, f"an error response must be JSON ({error})")
        if not _is_object(body):
            return _invalid_response(response, "an error response must be a JSON object")
        return self._api_error(response, _ErrorFields(self._contract.error_body, body))

    def _api_error(self, response: Response, fields: "_ErrorFields") -> ApiError:
        error_class = ERRORS.get(fields.code)
        if error_class is None:  # the code is unknown: use the status, if only one class has it under the contract
            classes = [each for each in ERRORS.values() if self._contract.status_of(each) == response.status]
            error_class = classes[0] if len(classes) == 1 else ApiError
        message = fields.message or _body_excerpt(response)
        if fields.code and fields.code != error_class.code:
            message = f"code {fields.code!r}: {message}"
        error = error_class(message, details=fields.details)
        cause = response.header(b"x-fake-credits-cause")
        error.auth_reason = cause.removeprefix(_AUTH_PREFIX) if cause.startswith(_AUTH_PREFIX) else ""
        error.fault = cause.removeprefix(_FAULT_PREFIX) if cause.startswith(_FAULT_PREFIX) else ""
        error.retry_after_s = _retry_after_s(response)
        error.status = response.status
        error.request_id = fields.request_id or response.header(b"x-request-id")
        if isinstance(error, MethodNotAllowed):
            error.allow = response.header(b"allow")
        return error


class _ErrorFields:
    """The members of an error body in any of the three formats (docs, "Contract", row 18).

    Decoding is lenient: missing or wrongly typed members become empty, so that the error is still reported.
    """

    def __init__(self, body_format: str, body: dict[str, Any]) -> None:
        error: Any = body.get("error") if body_format == "nested" else body
        members: dict[str, Any] = error if _is_object(error) else {}
        self.code = _text_member(members, "code")
        self.request_id = _text_member(members, "requestId")
        self.message = _text_member(members, "message")
        if body_format == "problem":
            self.message = _text_member(members, "detail") or _text_member(members, "title")
        self.details = _read_problems(members.get("details"))


class _BodyDecoders(msgspec.Struct, frozen=True):
    user: msgspec.json.Decoder[Any]
    balance: msgspec.json.Decoder[Any]
    created_transaction: msgspec.json.Decoder[Any]
    user_page: msgspec.json.Decoder[Any]
    transaction_page: msgspec.json.Decoder[Any]


@lru_cache(maxsize=16)
def _body_decoders(field_names: tuple[tuple[str, str], ...], *, wrapped: bool) -> _BodyDecoders:
    """Return the decoders for a contract's member names.

    Results are cached, because creating decoders takes 150 µs and tests create many clients.
    """
    rename, cursor = {name: name for name in FIELD_NAMES} | dict(field_names), ("nextCursor", str | None, None)
    user: Any = _define_struct("User", rename, ("applicationId", str), ("userId", str), ("createdAt", Any))
    transaction: Any = _define_struct(
        "Transaction", rename, ("delta", int | float), ("reason", str), ("createdAt", Any)
    )
    created = _define_struct("Created", rename, ("transaction", transaction)) if wrapped else transaction
    balance = _define_struct("Balance", rename, ("balance", int | float))
    user_page = _define_struct("Users", rename, ("users", list[user]), cursor)
    transaction_page = _define_struct("Transactions", rename, ("transactions", list[transaction]), cursor)
    return _BodyDecoders(*map(msgspec.json.Decoder, (user, balance, created, user_page, transaction_page)))


def _define_struct(name: str, names: dict[str, str], *members: Any) -> Any:
    return msgspec.defstruct(name, members, rename=names, omit_defaults=True)


def _to_reason(text: str) -> Reason | str:
    return _REASON_BY_TEXT.get(text, text)


def _to_int(member: str, value: float) -> int:
    whole = int(value)
    if whole != value:
        raise ValueError(f"{member} must be a whole number, got {value!r}")
    return whole


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _text_member(members: dict[str, Any], name: str) -> str:
    value = members.get(name)
    return value if isinstance(value, str) else ""


def _read_problems(details: Any) -> tuple[Problem, ...]:
    if not isinstance(details, list):
        return ()
    items: list[Any] = details  # pyright: ignore[reportUnknownVariableType]
    return tuple(
        Problem(_text_member(item, "field"), _text_member(item, "problem")) for item in items if _is_object(item)
    )


def _retry_after_s(response: Response) -> int | None:
    """Return Retry-After in seconds, or None if it is absent or invalid.

    If it is a date, the seconds are counted from the response's ``Date``.
    """
    text = response.header(b"retry-after").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return int(text[:12])
    from email.utils import parsedate_to_datetime

    try:
        seconds = (parsedate_to_datetime(text) - _response_date(response)).total_seconds()
    except (TypeError, ValueError):  # subtracting from a date without a time zone raises TypeError
        return None
    return max(0, round(seconds))


def _response_date(response: Response) -> datetime:
    from email.utils import parsedate_to_datetime  # takes 8 ms to import, and is rarely needed

    try:
        return parsedate_to_datetime(response.header(b"date")).astimezone(UTC)
    except ValueError:
        return from_ms(wall_clock_ms())


def _invalid_response(response: Response, problem: str) -> InvalidResponse:
    content_type, excerpt = response.header(b"content-type") or "no content type", _body_excerpt(response)
    return InvalidResponse(
        f"unusable response, status {response.status}, {content_type}: {problem}; the body begins with {excerpt!r}",
        status=response.status,
        request_id=response.header(b"x-request-id"),
        retry_after_s=_retry_after_s(response),
    )


def _body_excerpt(response: Response) -> str:
    return response.body[: 4 * _MAX_EXCERPT_CHARS].decode("utf-8", "replace")[:_MAX_EXCERPT_CHARS]
