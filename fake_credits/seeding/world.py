"""Own the `World`: users and histories to start from, back-dated, whoever made them; know no chance and no HTTP."""

import threading
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from fake_credits.clock import from_ms
from fake_credits.contract import Contract, id_problem
from fake_credits.errors import ApiError
from fake_credits.ledger import Account, Columns, Ledger
from fake_credits.seeding.errors import WorldError

__all__ = ["KEPT", "SPAN_MS", "WEEK_MS", "History", "World", "start_before"]

WEEK_MS = 7 * 86_400_000
SPAN_MS = 51 * WEEK_MS
"""How long a world's past is. With the days since the last Monday it is at most a year."""

KEPT = 200_000
"""The histories of a world of more transactions than this are made anew each time, rather than kept."""

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


class _Loaded(NamedTuple):
    """Be a world's users as they were last loaded: the next ledger of the same kind has their histories from here."""

    contract: Contract
    application_id: str
    start_ms: int
    accounts: tuple[Account, ...]

    def fits(self, contract: Contract, application_id: str, start_ms: int) -> bool:
        """Tell whether a ledger of that contract would get the same."""
        return self.contract is contract and (self.application_id, self.start_ms) == (application_id, start_ms)


class World:
    """Be users with histories, in the order in which they signed up; ``make`` gives the same ones each time.

    ``size`` is how many transactions they have together. What was loaded last is loaded again at the cost of the users
    alone, in time and in memory: ledgers share a history until it goes on. README, "Demo data".
    """

    def __init__(self, name: str, seed: int, size: int, make: Callable[[], Iterable[History]]) -> None:
        self.name = name
        self.seed = seed
        self.size = size
        self._make = make
        self._lock = threading.Lock()
        self._kept: tuple[History, ...] | None = None
        self._load_lock = threading.Lock()
        self._loaded: _Loaded | None = None

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
        accounts = self._accounts(ledger.contract, application_id, start_before(now_ms))
        for account in accounts:
            if ledger.find(application_id, account.user_id) is not None:
                raise self._refused(account.user_id, "there is such a user already")
        for account in accounts:
            ledger.adopt(account.twin())
        return tuple(account.user_id for account in accounts)

    def _accounts(self, contract: Contract, application_id: str, start_ms: int) -> tuple[Account, ...]:
        """Return accounts that nobody writes to; whoever comes while they are made has them too."""
        with self._load_lock:
            loaded = self._loaded
            if loaded is None or not loaded.fits(contract, application_id, start_ms):
                self._loaded = None  # not both at once
                accounts = tuple(self.accounts(Ledger(contract), application_id, start_ms))
                loaded = self._loaded = _Loaded(contract, application_id, start_ms, accounts)
            return loaded.accounts

    def accounts(self, ledger: Ledger, application_id: str, start_ms: int = 0) -> Iterator[Account]:
        """Yield each user as an account that the ledger allows, and does not know yet; raise WorldError."""
        for history in self.histories():
            problem = "is none" if history.user_id in _NO_IDS else id_problem(ledger.contract, history.user_id)
            if problem:
                raise self._refused(history.user_id, f"its id {problem}")
            try:
                account = ledger.stranger(application_id, history.user_id, start_ms + history.created)
                ledger.extend(account, _moved(history.columns, start_ms))
            except ApiError as error:
                raise self._refused(history.user_id, error.message) from error
            yield account

    def _refused(self, user_id: str, problem: str) -> WorldError:
        return WorldError(f"world {self.name!r} can't be had here: user {user_id!r}: {problem}")


def _moved(columns: Columns, start_ms: int) -> Columns:
    times = array("q", map(start_ms.__add__, columns.times))
    return Columns(columns.deltas, columns.reasons, times)
