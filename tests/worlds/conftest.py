"""Helpers for the demo data tests: small worlds, and user histories built from rows."""

from array import array
from collections.abc import Sequence

from fake_credits.ledger import REASON_CODES, TransactionColumns
from fake_credits.models import Reason
from fake_credits.worlds.world import UserHistory, World

GRANT, CONSUME, REFUND = Reason.GRANT, Reason.CONSUME, Reason.REFUND


def make_history(
    user_id: str, *rows: tuple[int, Reason], created_ms: int = 0, times: Sequence[int] | None = None
) -> UserHistory:
    """Return a user's history with these rows, one millisecond apart unless ``times`` are given."""
    deltas, codes = array("q", [delta for delta, _ in rows]), array("b", [REASON_CODES[reason] for _, reason in rows])
    times_ms = range(created_ms, created_ms + len(rows)) if times is None else times
    return UserHistory(user_id, created_ms, TransactionColumns(deltas, codes, array("q", times_ms)))


def build_world(*histories: UserHistory, name: str = "own") -> World:
    """Return a world with these users."""
    return World(name, 0, sum(len(user_history.columns.deltas) for user_history in histories), lambda: histories)
