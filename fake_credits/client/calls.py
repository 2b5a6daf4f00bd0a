"""Own each operation, written once, as a function that returns a description of the call; know no transport.

The functions are pure: they refuse what must not be sent (`fake_credits.client.checks`), shape the request as the
contract says, and name the function that reads its answer. Sending is the clients' business.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from fake_credits.client.checks import quoted_id, quoted_text
from fake_credits.client.outcome import Outcome
from fake_credits.client.transport import Answer
from fake_credits.contract import Contract, Operation
from fake_credits.models import Balance, Reason, Transaction, TransactionPage, User, UserPage

__all__ = [
    "Call",
    "Shaping",
    "create_transaction",
    "create_user",
    "get_balance",
    "get_user",
    "list_transactions",
    "list_users",
]

__tracebackhide__ = True  # a failing test shows the caller's line, not ours

T = TypeVar("T")

_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode  # integers of any size, unlike msgspec's


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """Describe one call: what to send, and how to read the answer.

    ``target`` is the percent-encoded path with its query, ASCII, relative to the base URL's path, and starts with
    ``/``. ``decode`` returns the model, or raises the `ApiError` or `InvalidResponse` that the answer stands for.
    """

    operation: Operation
    method: str
    target: str
    body: bytes | None
    decode: Callable[[Answer], T]


class Shaping:
    """Hold what all calls under one contract share: routes and readers."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.outcome = Outcome(contract)

    def application(self, operation: Operation, application_id: str) -> tuple[str, str]:
        """Return the method and path of an operation on an application."""
        route = self.contract.routes[operation]
        return route.method, route.path.replace("{applicationId}", self._id("application_id", application_id))

    def user(self, operation: Operation, application_id: str, user_id: str) -> tuple[str, str]:
        """Return the method and path of an operation on a user."""
        method, path = self.application(operation, application_id)
        return method, path.replace("{userId}", self._id("user_id", user_id))

    def page(self, path: str, cursor: str | None) -> str:
        """Return a list's target: its path, and the cursor as given, percent-encoded (README's table, row 14)."""
        if cursor is None:
            return path
        parameter = quoted_text("cursor_parameter", self.contract.cursor_parameter)
        return f"{path}?{parameter}={quoted_text('cursor', _text('cursor', cursor))}"

    def transaction(self, delta: float, reason: str) -> bytes:
        """Return the body of a createTransaction (API README, ``CreateTransactionRequest``)."""
        name_of = self.contract.name_of
        return _encode({name_of("delta"): delta, name_of("reason"): reason}).encode()

    def _id(self, argument: str, value: str) -> str:
        return quoted_id(argument, _text(argument, value))


def create_user(shaping: Shaping, application_id: str, user_id: str) -> Call[User]:
    """Describe createUser: "create or update a user (idempotent)" (API README)."""
    operation = Operation.CREATE_USER
    method, path = shaping.user(operation, application_id, user_id)
    return Call(operation, method, path, None, shaping.outcome.user)


def get_user(shaping: Shaping, application_id: str, user_id: str) -> Call[User]:
    """Describe getUser: "get user information" (API README)."""
    operation = Operation.GET_USER
    method, path = shaping.user(operation, application_id, user_id)
    return Call(operation, method, path, None, shaping.outcome.user)


def list_users(shaping: Shaping, application_id: str, cursor: str | None) -> Call[UserPage]:
    """Describe listUsers: "list all users in the application" (API README)."""
    operation = Operation.LIST_USERS
    method, path = shaping.application(operation, application_id)
    return Call(operation, method, shaping.page(path, cursor), None, shaping.outcome.user_page)


def get_balance(shaping: Shaping, application_id: str, user_id: str) -> Call[Balance]:
    """Describe getBalance: "get user's credit balance" (API README)."""
    operation = Operation.GET_BALANCE
    method, path = shaping.user(operation, application_id, user_id)
    return Call(operation, method, path, None, shaping.outcome.balance)


def create_transaction(
    shaping: Shaping, application_id: str, user_id: str, *, delta: float, reason: Reason | str
) -> Call[Transaction]:
    """Describe createTransaction: "create a credit transaction (grant/consume/refund)" (API README).

    ``delta`` and ``reason`` go out as they are, for the server to judge; only what JSON can't say is refused:
    TypeError for a delta that is no number (a bool is none) and a reason that is no text, ValueError for NaN and
    infinities.
    """
    operation = Operation.CREATE_TRANSACTION
    method, path = shaping.user(operation, application_id, user_id)
    body = shaping.transaction(_number(delta), _text("reason", reason))
    return Call(operation, method, path, body, partial(shaping.outcome.transaction, delta=delta, reason=reason))


def list_transactions(shaping: Shaping, application_id: str, user_id: str, cursor: str | None) -> Call[TransactionPage]:
    """Describe listTransactions: "list user's transaction history" (API README)."""
    operation = Operation.LIST_TRANSACTIONS
    method, path = shaping.user(operation, application_id, user_id)
    return Call(operation, method, shaping.page(path, cursor), None, shaping.outcome.transaction_page)


def _text(argument: str, value: str) -> str:
    if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance] callers may be untyped
        raise TypeError(f"{argument} must be a str, not {type(value).__name__}")
    return value


def _number(delta: float) -> float:
    if isinstance(delta, bool) or not isinstance(delta, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"delta must be a number, not {type(delta).__name__}")
    if isinstance(delta, float) and not math.isfinite(delta):
        raise ValueError(f"delta must be finite, not {delta!r}: JSON has no such number")
    return delta
