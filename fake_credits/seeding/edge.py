"""Own the users of the profile ``edge``, each at a limit of the default contract; know no chance."""

from array import array
from collections.abc import Iterator, Sequence

from fake_credits.contract import MAX_AMOUNT
from fake_credits.ledger import CODES, Columns
from fake_credits.models import Reason
from fake_credits.seeding.world import SPAN_MS, History

__all__ = ["EDGE_CASES", "edge_histories"]

Rows = Sequence[tuple[int, Reason]]

_GRANT, _CONSUME, _REFUND = Reason.GRANT, Reason.CONSUME, Reason.REFUND

EDGE_CASES: tuple[tuple[str, Rows], ...] = (
    ("no-transactions", ()),
    ("zero-balance", ((10, _GRANT), (-10, _CONSUME))),
    ("maximum-balance", ((MAX_AMOUNT, _GRANT),)),
    ("maximum-and-back", ((MAX_AMOUNT, _GRANT), (-MAX_AMOUNT, _CONSUME), (MAX_AMOUNT, _REFUND))),
    ("one-credit", ((1, _GRANT),)),
    ("last-credit", ((1, _GRANT), (-1, _CONSUME))),
    ("refunded", ((5, _GRANT), (-5, _CONSUME), (5, _REFUND))),
    ("10000-rows", ((10_000, _GRANT), *[(-1, _CONSUME)] * 9_999)),
    ("equal-timestamps", ((60, _GRANT), *[(-1, _CONSUME)] * 59)),
    ("日本語 ユーザー", ((7, _GRANT),)),
    ("مستخدم", ((7, _GRANT),)),
    ("🦊‍👩🏽‍🚀", ((7, _GRANT),)),
    ("e\N{COMBINING ACUTE ACCENT}", ((7, _GRANT),)),
    ("\N{LATIN SMALL LETTER E WITH ACUTE}", ((8, _GRANT),)),
    ("a/b?c=d#e%2F&f", ((7, _GRANT),)),
    (" spaces at both ends ", ((7, _GRANT),)),
    ("i" * 256, ((7, _GRANT),)),
)
"""Users' ids with what they did; two that look the same are two."""


def edge_histories() -> Iterator[History]:
    """Yield these users, who sign up a millisecond after each other; all that one did happens then."""
    for place, (user_id, rows) in enumerate(EDGE_CASES):
        # One history spans the whole past; the rows of the others have one and the same time.
        step = (SPAN_MS - place) // len(rows) if user_id == "10000-rows" else 0
        deltas, codes = array("q", [delta for delta, _ in rows]), array("b", [CODES[reason] for _, reason in rows])
        times = array("q", [place + step * number for number in range(len(rows))])
        yield History(user_id, place, Columns(deltas, codes, times))
