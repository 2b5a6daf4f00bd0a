"""Own the nouns of the Credits API as frozen values; know nothing of how they travel."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

__all__ = ["Balance", "Reason", "Transaction", "TransactionPage", "User", "UserPage"]


class Reason(StrEnum):
    """Say why credits moved (API README, ``CreditTransactionReason``)."""

    GRANT = "grant"
    CONSUME = "consume"
    REFUND = "refund"


@dataclass(frozen=True, slots=True)
class User:
    """Be a user of one application; ``created_at`` is aware (UTC)."""

    application_id: str
    user_id: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Balance:
    """Be a user's balance in credits (API README, ``GetBalanceResponse``)."""

    balance: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """Be one movement of credits; a reason that a newer server invents stays a plain string."""

    delta: int
    reason: Reason | str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class UserPage:
    """Be one page of users; ``next_cursor`` is None on the last one."""

    users: tuple[User, ...]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class TransactionPage:
    """Be one page of a history (API README, ``ListTransactionsResponse``); ``next_cursor`` is None on the last one."""

    transactions: tuple[Transaction, ...]
    next_cursor: str | None = None
