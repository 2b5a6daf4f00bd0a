"""Own what the tests of demo data share: small worlds, and histories as rows."""

from array import array
from collections.abc import Sequence

from fake_credits.ledger import REASON_CODES, TransactionColumns
from fake_credits.models import Reason
from fake_credits.worlds.world import UserHistory, World

GRANT, CONSUME, REFUND = Reason.GRANT, Reason.CONSUME, Reason.REFUND


def history(
    user_id: str, *rows: tuple[int, Reason], created: int = 0, times: Sequence[int] | None = None
) -> UserHistory:
    """Return a user with these rows, a millisecond apart unless ``times`` are given."""
    deltas, codes = array("q", [delta for delta, _ in rows]), array("b", [REASON_CODES[reason] for _, reason in rows])
    moments = range(created, created + len(rows)) if times is None else times
    return UserHistory(user_id, created, TransactionColumns(deltas, codes, array("q", moments)))


def world(*histories: UserHistory, name: str = "own") -> World:
    """Return a world of these users."""
    return World(name, 0, sum(len(each.columns.deltas) for each in histories), lambda: histories)
