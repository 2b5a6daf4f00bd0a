"""Own the `World`: users and histories to start from, back-dated, whoever made them; know no chance and no HTTP."""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from fake_credits.clock import from_ms
from fake_credits.contract import id_problem
from fake_credits.errors import ApiError
from fake_credits.ledger import Account, Columns, Ledger
from fake_credits.seeding.errors import WorldError

__all__ = ["KEPT", "SPAN_MS", "WEEK_MS", "History", "World", "start_before"]

WEEK_MS = 7 * 86_400_000
SPAN_MS = 51 * WEEK_MS
"""How long a world's past is. With the days since the last Monday it is at most a year."""

KEPT = 200_000
"""A world of more transactions than this is made anew each time, rather than kept beside the ledger."""

_NO_IDS = ("", ".", "..")  # clients refuse them, whatever the contract: URL libraries walk to other operations
_FIRST_MONDAY_MS = 4 * 86_400_000  # 1970-01-05


class History(NamedTuple):
    """Be one user: all times are milliseconds after the world's start, a Monday at midnight (UTC)."""

    user_id: str
    created: int
    columns: Columns


def start_before(now_ms: int) -> int:
    """Return where a world starts that ends on the last Monday before a moment; raise WorldError before 1971."""
    start_ms = now_ms - (now_ms - _FIRST_MONDAY_MS) % WEEK_MS - SPAN_MS
    if start_ms < 0:
        raise WorldError(f"the clock is at {from_ms(now_ms):%Y-%m-%d}: a world needs the year before it, after 1970")
    return start_ms


class World:
    """Be users with histories, in the order in which they signed up; ``make`` gives the same ones each time.

    ``size`` is how many transactions they have together. README, "Demo data".
    """

    def __init__(self, name: str, seed: int, size: int, make: Callable[[], Iterable[History]]) -> None:
        self.name = name
        self.seed = seed
        self.size = size
        self._make = make
        self._lock = threading.Lock()
        self._kept: tuple[History, ...] | None = None

    def __repr__(self) -> str:
        return f"<World {self.name!r} of {self.size} transactions>"

    def histories(self) -> Iterable[History]:
        """Return the users, kept where they are not too many; raise WorldError where they can't be made."""
        if self.size > KEPT:
            return self._make()
        with self._lock:
            if self._kept is None:
                self._kept = tuple(self._make())
            return self._kept

    def load_into(self, ledger: Ledger, application_id: str, now_ms: int) -> tuple[str, ...]:
        """Add the users to a ledger, back-dated over the year before a moment, and return their ids; all or none.

        Raises WorldError where one exists already, or where a history breaks a rule of the ledger's contract.
        """
        accounts = list(self.accounts(ledger, application_id, start_before(now_ms)))
        for account in accounts:
            ledger.adopt(account)
        return tuple(account.user_id for account in accounts)

    def accounts(self, ledger: Ledger, application_id: str, start_ms: int = 0) -> Iterator[Account]:
        """Yield each user as an account that the ledger allows and does not know; raise WorldError."""
        for history in self.histories():
            problem = "is none" if history.user_id in _NO_IDS else id_problem(ledger.contract, history.user_id)
            if problem:
                raise self._refused(history, f"its id {problem}")
            if ledger.find(application_id, history.user_id) is not None:
                raise self._refused(history, "there is such a user already")
            try:
                account = ledger.stranger(application_id, history.user_id, start_ms + history.created)
                ledger.extend(account, _moved(history.columns, start_ms))
            except ApiError as error:
                raise self._refused(history, error.message) from error
            yield account

    def _refused(self, history: History, problem: str) -> WorldError:
        return WorldError(f"world {self.name!r} can't be had here: user {history.user_id!r}: {problem}")


def _moved(columns: Columns, start_ms: int) -> Columns:
    times = columns.times
    return columns._replace(times=type(times)("q", [start_ms + at for at in times]))
