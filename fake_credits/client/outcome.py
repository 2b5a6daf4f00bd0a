"""Own what an answer means: a model, or the error to raise; know nothing of who sent it or over what.

A body is read strictly: a member that is missing, ill-typed or there twice is an `InvalidResponse`, as a client that
guesses hides bugs. Members that the contract does not name are ignored, so a newer server may add some.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeGuard, TypeVar

import msgspec

from fake_credits.client.transport import Answer
from fake_credits.clock import from_ms, wall_ms
from fake_credits.contract import FIELD_NAMES, Contract, CreatedAtForm, json_to_created_at
from fake_credits.errors import ERRORS, ApiError, InvalidResponse, MethodNotAllowed, Problem
from fake_credits.models import Balance, Reason, Transaction, TransactionPage, User, UserPage

__all__ = ["Outcome"]

__tracebackhide__ = True  # a failing test shows the caller's line, not ours

T = TypeVar("T")

_EXCERPT = 200
_REASONS = {reason.value: reason for reason in Reason}
_AUTH = "auth:"
_FAULT = "fault:"
_PARSERS_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError)  # msgspec's are ValueErrors from 0.21 on


class Outcome:
    """Read answers as one contract shapes them; each method returns a model or raises an error of the tree.

    All raise `ApiError` or one of its classes for a refusal, and `InvalidResponse` for what the contract does not
    promise.
    """

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._form: CreatedAtForm = contract.created_at
        renamed = tuple(contract.field_names.items())
        self._shapes = _shapes(renamed, wrapped=contract.created_transaction == "wrapped")

    def user(self, answer: Answer) -> User:
        """Read the answer to createUser and getUser."""
        return self._read(answer, self._shapes.user, self._to_user)

    def balance(self, answer: Answer) -> Balance:
        """Read the answer to getBalance (API README, ``GetBalanceResponse``)."""
        return self._read(answer, self._shapes.balance, _to_balance)

    def user_page(self, answer: Answer) -> UserPage:
        """Read the answer to listUsers."""
        return self._read(answer, self._shapes.user_page, self._to_user_page)

    def transaction_page(self, answer: Answer) -> TransactionPage:
        """Read the answer to listTransactions (API README, ``ListTransactionsResponse``)."""
        return self._read(answer, self._shapes.transaction_page, self._to_transaction_page)

    def transaction(self, answer: Answer, *, delta: float, reason: Reason | str) -> Transaction:
        """Read the answer to createTransaction, in the contract's form (README, "What is a guess", row 11).

        Where the contract answers without a body, the transaction is what was asked for, at the time that the
        ``Date`` header says (whole seconds), else at this machine's: it was written, so there is nothing to raise.
        """
        if self._contract.created_transaction == "empty":
            self._accept(answer)
            return Transaction(int(delta), _reason(reason), _date_of(answer))
        return self._read(answer, self._shapes.created_transaction, self._to_created_transaction)

    def _read(self, answer: Answer, decoder: msgspec.json.Decoder[Any], convert: Callable[[Any], T]) -> T:
        self._accept(answer)
        try:
            shape = decoder.decode(answer.body)
            _refuse_duplicates(shape, answer.body)
            return convert(shape)
        except (*_PARSERS_ERRORS, OverflowError) as error:
            raise _unusable(answer, str(error)) from error

    def _accept(self, answer: Answer) -> None:
        if not 200 <= answer.status < 300:
            raise self._refusal(answer)

    def _to_user(self, shape: Any) -> User:
        return User(shape.applicationId, shape.userId, json_to_created_at(self._form, shape.createdAt))

    def _to_user_page(self, shape: Any) -> UserPage:
        return UserPage(tuple(self._to_user(user) for user in shape.users), shape.nextCursor or None)

    def _to_transaction(self, shape: Any) -> Transaction:
        created_at = json_to_created_at(self._form, shape.createdAt)
        return Transaction(_whole("delta", shape.delta), _reason(shape.reason), created_at)

    def _to_created_transaction(self, shape: Any) -> Transaction:
        return self._to_transaction(shape.transaction if self._contract.created_transaction == "wrapped" else shape)

    def _to_transaction_page(self, shape: Any) -> TransactionPage:
        transactions = tuple(self._to_transaction(transaction) for transaction in shape.transactions)
        return TransactionPage(transactions, shape.nextCursor or None)

    def _refusal(self, answer: Answer) -> ApiError | InvalidResponse:
        if answer.status < 400:
            return _unusable(answer, "neither a success nor a refusal; clients follow no redirect")
        try:
            body: Any = msgspec.json.decode(answer.body)
        except _PARSERS_ERRORS as error:
            return _unusable(answer, f"a refusal must be JSON ({error})")
        if not _is_object(body):
            return _unusable(answer, "a refusal must be a JSON object")
        return self._error(answer, _Refusal(self._contract.error_body, body))

    def _error(self, answer: Answer, refusal: "_Refusal") -> ApiError:
        kind = ERRORS.get(refusal.code) or _only_error_of(self._contract, answer.status)
        message = refusal.message or _excerpt(answer)
        if refusal.code and refusal.code != kind.code:
            message = f"code {refusal.code!r}: {message}"
        error = kind(message, details=refusal.details)
        cause = answer.header(b"x-fake-credits-cause")
        error.why = cause.removeprefix(_AUTH) if cause.startswith(_AUTH) else ""
        error.fault = cause.removeprefix(_FAULT) if cause.startswith(_FAULT) else ""
        error.retry_after_s = _retry_after(answer)
        error.status = answer.status
        error.request_id = refusal.request_id or answer.header(b"x-request-id")
        if isinstance(error, MethodNotAllowed):
            error.allow = answer.header(b"allow")
        return error


class _Refusal:
    """Be the members of a refusal's body, whichever of the three forms it has (README, "What is a guess", row 18).

    It is read leniently: what is absent or ill-typed is empty, so that a refusal stays one.
    """

    def __init__(self, form: str, body: dict[str, Any]) -> None:
        inner: Any = body.get("error") if form == "nested" else body
        members: dict[str, Any] = inner if _is_object(inner) else {}
        self.code = _text(members, "code")
        self.request_id = _text(members, "requestId")
        self.message = _text(members, "message")
        if form == "problem":
            self.message = _text(members, "detail") or _text(members, "title")
        self.details = _problems(members.get("details"))


@dataclass(frozen=True, slots=True)
class _Shapes:
    """Be the decoders of a contract's success bodies."""

    user: msgspec.json.Decoder[Any]
    balance: msgspec.json.Decoder[Any]
    created_transaction: msgspec.json.Decoder[Any]
    user_page: msgspec.json.Decoder[Any]
    transaction_page: msgspec.json.Decoder[Any]


@lru_cache(maxsize=16)
def _shapes(renamed: tuple[tuple[str, str], ...], *, wrapped: bool) -> _Shapes:
    """Return the decoders for other names of members; kept, as making them takes 150 µs and clients are many."""
    rename, cursor = {name: name for name in FIELD_NAMES} | dict(renamed), ("nextCursor", str | None, None)
    user: Any = _struct("User", rename, ("applicationId", str), ("userId", str), ("createdAt", Any))
    moved: Any = _struct("Transaction", rename, ("delta", int | float), ("reason", str), ("createdAt", Any))
    created = _struct("Created", rename, ("transaction", moved)) if wrapped else moved
    return _Shapes(
        user=_decoder(user),
        balance=_decoder(_struct("Balance", rename, ("balance", int | float))),
        created_transaction=_decoder(created),
        user_page=_decoder(_struct("Users", rename, ("users", list[user]), cursor)),
        transaction_page=_decoder(_struct("Transactions", rename, ("transactions", list[moved]), cursor)),
    )


def _decoder(shape: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(shape)


def _struct(name: str, names: dict[str, str], *members: Any) -> Any:
    return msgspec.defstruct(name, members, rename=names, omit_defaults=True)


def _only_error_of(contract: Contract, status: int) -> type[ApiError]:
    """Return the class whose code alone has this status under the contract, else the plain `ApiError`."""
    kinds = [kind for kind in ERRORS.values() if contract.status_of(kind) == status]
    return kinds[0] if len(kinds) == 1 else ApiError


def _to_balance(shape: Any) -> Balance:
    return Balance(_whole("balance", shape.balance))


def _reason(text: str) -> Reason | str:
    return _REASONS.get(text, text)


def _whole(member: str, value: float) -> int:
    whole = int(value)
    if whole != value:
        raise ValueError(f"{member} is {value!r}, not a whole number")
    return whole


def _refuse_duplicates(shape: Any, body: bytes) -> None:
    """Raise ValueError where an object of the body has a member twice.

    A body that is its own shape, encoded anew, has none, and that is much the cheaper thing to find out.
    """
    if msgspec.json.encode(shape) != body:
        json.loads(body, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"member {Counter(names).most_common(1)[0][0]!r} is there twice")


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_array(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _text(members: dict[str, Any], name: str) -> str:
    value = members.get(name)
    return value if isinstance(value, str) else ""


def _problems(details: Any) -> tuple[Problem, ...]:
    if not _is_array(details):
        return ()
    return tuple(Problem(_text(one, "field"), _text(one, "problem")) for one in details if _is_object(one))


def _retry_after(answer: Answer) -> int | None:
    """Return Retry-After in seconds, a date counted from the answer's own; None for what can't be read."""
    text = answer.header(b"retry-after").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return int(text[:12])
    from email.utils import parsedate_to_datetime

    try:
        seconds = (parsedate_to_datetime(text) - _date_of(answer)).total_seconds()
    except (TypeError, ValueError):  # a date without a zone can't be compared
        return None
    return max(0, round(seconds))


def _date_of(answer: Answer) -> datetime:
    from email.utils import parsedate_to_datetime  # costs 8 ms, and only this form of the contract needs it

    try:
        return parsedate_to_datetime(answer.header(b"date")).astimezone(UTC)
    except ValueError:
        return from_ms(wall_ms())


def _unusable(answer: Answer, problem: str) -> InvalidResponse:
    kind = answer.header(b"content-type") or "no content type"
    return InvalidResponse(
        f"unusable answer, status {answer.status}, {kind}: {problem}; it begins {_excerpt(answer)!r}",
        status=answer.status,
        request_id=answer.header(b"x-request-id"),
    )


def _excerpt(answer: Answer) -> str:
    return answer.body[: 4 * _EXCERPT].decode("utf-8", "replace")[:_EXCERPT]
