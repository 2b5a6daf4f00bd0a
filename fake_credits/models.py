"""The data types of the Credits API, as immutable values."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Reason(StrEnum):
    """The reason for a transaction (API README, ``CreditTransactionReason``)."""

    GRANT = "grant"
    CONSUME = "consume"
    REFUND = "refund"


@dataclass(frozen=True, slots=True)
class User:
    """A user of one application; ``created_at`` is an aware datetime in UTC."""

    application_id: str
    user_id: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Balance:
    """A user's balance in credits (API README, ``GetBalanceResponse``)."""

    balance: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction; ``delta`` is in credits, and a reason that is not in `Reason` is a plain string."""

    delta: int
    reason: Reason | str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class UserPage:
    """A page of users; ``next_cursor`` is None on the last page."""

    users: tuple[User, ...]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class TransactionPage:
    """A page of transactions (API README, ``ListTransactionsResponse``); ``next_cursor`` is None on the last page."""

    transactions: tuple[Transaction, ...]
    next_cursor: str | None = None
