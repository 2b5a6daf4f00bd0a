"""Test parsing a history's transactions as tests write them: accepted forms, defaults and errors."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from fake_credits.clock import to_ms
from fake_credits.contract import MAX_AMOUNT
from fake_credits.histories import parse_transactions
from fake_credits.models import Reason, Transaction

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW_MS = to_ms(NOW)
EARLIER = NOW - timedelta(days=2)


def parsed(*transactions: Any) -> list[tuple[int, Reason, int]]:
    return list(parse_transactions(transactions, 0, NOW_MS).entries())


def test_integer_is_a_grant_or_a_consumption_at_the_current_time() -> None:
    assert parsed(100, -10) == [(100, Reason.GRANT, NOW_MS), (-10, Reason.CONSUME, NOW_MS)]


def test_client_transaction_is_accepted_unchanged() -> None:
    assert parsed(Transaction(-10, "refund", EARLIER)) == [(-10, Reason.REFUND, to_ms(EARLIER))]


@pytest.mark.parametrize(
    "created_at",
    [EARLIER, "2026-02-27T12:00:00Z", "2026-02-27T13:00+01:00", EARLIER.astimezone(timezone(timedelta(hours=5)))],
)
def test_mapping_can_have_a_reason_and_a_time(created_at: object) -> None:
    assert parsed({"delta": 5, "reason": "refund", "created_at": created_at}) == [(5, Reason.REFUND, to_ms(EARLIER))]


def test_mapping_needs_only_a_delta() -> None:
    assert parsed({"delta": -5}) == [(-5, Reason.CONSUME, NOW_MS)]


@pytest.mark.parametrize("transactions", [100, "100", b"1", {"delta": 1}, None])
def test_transactions_that_are_not_a_list_are_rejected(transactions: Any) -> None:
    with pytest.raises(TypeError, match=r"transactions must be a list, such as \[100, -10\], not \w+"):
        parse_transactions(transactions, 0, NOW_MS)


@pytest.mark.parametrize(
    ("transaction", "message"),
    [
        ("5", "transaction 2: delta must be an integer, not '5'"),
        (True, "transaction 2: delta must be an integer, not True"),
        (1.5, "transaction 2: delta must be an integer, not 1.5"),
        (None, "transaction 2: delta must be an integer, not None"),
        ({"reason": "grant"}, "transaction 2: delta is missing"),
        ({"delta": 1, "amount": 1}, "transaction 2: unknown field 'amount' (known: delta, reason, created_at)"),
        ({"delta": 1, "createdat": 1}, "unknown field 'createdat', did you mean 'created_at'? (known"),
        ({"delta": 1, "created_at": 5}, "transaction 2: a time must be a datetime with a time zone, or an ISO 8601"),
    ],
)
def test_transaction_of_the_wrong_type_is_rejected_with_its_number(transaction: object, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        parsed(1, transaction)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("transaction", "message"),
    [
        (0, "transaction 2: delta must be from 1 to 9007199254740991 or from -9007199254740991 to -1, not 0"),
        (MAX_AMOUNT + 1, "transaction 2: delta must be from 1 to 9007199254740991"),
        pytest.param(-(10**5000), "not an integer of 16610 bits", id="huge"),
        ({"delta": 1, "reason": "gift"}, "transaction 2: reason must be one of grant, consume, refund, not 'gift'"),
        ({"delta": 1, "reason": []}, "transaction 2: reason must be one of grant, consume, refund, not []"),
        ({"delta": 1, "created_at": "2026-01-01"}, "transaction 2: '2026-01-01' has no time zone: add one"),
        ({"delta": 1, "created_at": "noon"}, "transaction 2: 'noon' is not an ISO 8601 date and time"),
        (
            {"delta": 1, "created_at": "2026-03-01T12:00:01Z"},
            "2026-03-01 12:00:01+00:00, which is ahead of the sandbox's clock (2026-03-01 12:00:00+00:00)",
        ),
        (
            {"delta": 1, "created_at": EARLIER - timedelta(seconds=1)},
            "created_at is 2026-02-27 11:59:59+00:00, which is before the previous transaction (2026-02-27 12:00",
        ),
    ],
)
def test_invalid_transaction_is_rejected_with_its_number(transaction: object, message: str) -> None:
    with pytest.raises(ValueError, match="^transaction 2: ") as caught:
        parsed({"delta": 1, "created_at": EARLIER}, transaction)
    assert message in str(caught.value)
