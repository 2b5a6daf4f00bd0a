"""Conversion between the ledger's entries and the transactions that tests add and read."""

from array import array
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Required, TypedDict, cast

from fake_credits.clock import from_ms, to_ms
from fake_credits.contract import MAX_AMOUNT
from fake_credits.errors import did_you_mean
from fake_credits.ledger import REASON_CODES, Ledger, LedgerEntry, TransactionColumns
from fake_credits.models import Reason, Transaction
from fake_credits.text import short_repr


class TransactionFields(TypedDict, total=False):
    """The fields of a transaction to add.

    ``reason`` defaults to ``grant`` or ``consume``, depending on the sign of ``delta``. ``created_at`` defaults to the
    current time on the sandbox's clock.
    """

    delta: Required[int]
    reason: Reason | str
    created_at: datetime | str


TransactionInput = int | Transaction | TransactionFields
"""A transaction to add: a delta, a `Transaction`, or a mapping of its fields, as in JSON."""

_FIELD_NAMES = tuple(TransactionFields.__annotations__)


def transaction_from(entry: LedgerEntry) -> Transaction:
    """Convert a ledger entry to the `Transaction` that the clients return."""
    return Transaction(entry.delta, entry.reason, from_ms(entry.at_ms))


def extend_history(
    ledger: Ledger, application_id: str, user_id: str, transactions: Iterable[TransactionInput], now_ms: int
) -> tuple[Transaction, ...]:
    """Append transactions to a user's history, creating the user if needed, and return them.

    If a user's first transaction is older than the user, the user's creation time is moved back to the transaction's
    time. Raises the same errors as `parse_transactions` and `Ledger.extend`, without adding any transaction.
    """
    account = ledger.find_account(application_id, user_id)
    if account is None:
        account = ledger.new_account(application_id, user_id, now_ms)
    length = len(account)
    columns = parse_transactions(transactions, account[-1].at_ms if length else 0, now_ms)
    ledger.extend(account, columns)
    if not length and columns.times:
        account.created_at_ms = min(account.created_at_ms, columns.times[0])
    ledger.add_account(account)
    return tuple(transaction_from(account[position]) for position in range(length, len(account)))


def parse_transactions(transactions: Iterable[TransactionInput], after_ms: int, now_ms: int) -> TransactionColumns:
    """Convert transactions to ledger columns; their times must be in order, from ``after_ms`` to ``now_ms``.

    Raises TypeError or ValueError with the number of the invalid transaction, counted from 1.
    """
    if isinstance(transactions, str | bytes | Mapping) or not isinstance(transactions, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        kind = type(cast("object", transactions)).__name__
        raise TypeError(f"transactions must be a list, such as [100, -10], not {kind}")
    columns = TransactionColumns(array("q"), array("b"), array("q"))
    for number, transaction in enumerate(transactions, 1):
        try:
            delta, reason, at_ms = _parse_transaction(transaction, now_ms)
            _check_time(at_ms, after_ms, now_ms)
        except (TypeError, ValueError) as error:
            raise type(error)(f"transaction {number}: {error}") from None
        columns.deltas.append(delta)
        columns.reasons.append(REASON_CODES[reason])
        columns.times.append(at_ms)
        after_ms = at_ms
    return columns


def _fields_of(transaction: object) -> Mapping[object, object]:
    if isinstance(transaction, Transaction):
        return {name: getattr(transaction, name) for name in _FIELD_NAMES}
    if not isinstance(transaction, Mapping):
        return {"delta": transaction}
    fields = cast("Mapping[object, object]", transaction)
    for name in fields:
        if name not in _FIELD_NAMES:
            hint = did_you_mean(str(name), _FIELD_NAMES, prefix=", ")
            raise TypeError(f"unknown field {name!r}{hint} (known: {', '.join(_FIELD_NAMES)})")
    if "delta" not in fields:
        raise TypeError("delta is missing")
    return fields


def _parse_transaction(transaction: object, now_ms: int) -> tuple[int, Reason, int]:
    fields = _fields_of(transaction)
    delta = fields["delta"]
    if isinstance(delta, bool) or not isinstance(delta, int):
        raise TypeError(f"delta must be an integer, not {short_repr(delta)}")
    if not 0 < abs(delta) <= MAX_AMOUNT:
        raise ValueError(f"delta must be from 1 to {MAX_AMOUNT} or from -{MAX_AMOUNT} to -1, not {short_repr(delta)}")
    reason = fields.get("reason", Reason.GRANT if delta > 0 else Reason.CONSUME)
    if reason not in [*Reason]:
        raise ValueError(f"reason must be one of {', '.join(Reason)}, not {short_repr(reason)}")
    created_at = fields.get("created_at")
    at_ms = now_ms if created_at is None else to_ms(cast("datetime | str", created_at))
    return delta, Reason(str(reason)), at_ms


def _check_time(at_ms: int, after_ms: int, now_ms: int) -> None:
    if at_ms > now_ms:
        raise ValueError(f"created_at is {from_ms(at_ms)}, which is ahead of the sandbox's clock ({from_ms(now_ms)})")
    if at_ms < after_ms:
        raise ValueError(
            f"created_at is {from_ms(at_ms)}, which is before the previous transaction ({from_ms(after_ms)})"
        )
