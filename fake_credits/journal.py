"""Own the bounded record of a sandbox's exchanges; know nothing of how they travelled.

The lock is the sandbox's, so that test threads and the live server may use one journal. Entries are msgspec structs
rather than dataclasses: one is made for every exchange, and a frozen dataclass of this size costs ten times as much.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Literal

import msgspec

from fake_credits.contract import Operation

__all__ = ["JOURNAL_LIMIT", "Client", "Entry", "Journal"]

_OPERATIONS = tuple(operation.value for operation in Operation)

JOURNAL_LIMIT = 10_000
"""A journal keeps this many exchanges; older ones are dropped."""

Client = Literal["server", "user", "none"]

_CANONICAL = ("phase", "rule", "status", "code", "delta", "reason", "committed", "delivered")


class Entry(msgspec.Struct, frozen=True, gc=False):
    """Record one exchange. Empty strings and None mean that the exchange did not get that far.

    ``committed``: the ledger changed. ``delivered``: the client was still waiting just before the answer's first
    byte; after that it can't be known. ``delta`` and ``reason`` are what the body asked for, also where the call was
    refused before it was read. ``transaction`` names what was booked, ``rule`` the faults that fired and
    ``phase`` when. ``duration_us`` is wall time in microseconds, without the client's share.
    """

    ordinal: int
    request_id: str
    at_ms: int
    method: str
    target: str
    operation: str = ""
    application: str = ""
    user: str = ""
    client: Client = "none"
    status: int = 0
    code: str = ""
    cause: str = ""
    message: str = ""
    delta: int | None = None
    reason: str = ""
    transaction: str = ""
    committed: bool = False
    delivered: bool = True
    rule: str = ""
    phase: str = ""
    idempotency_key: str = ""
    duration_us: int = 0
    headers: Mapping[str, str] = {}
    """Those that are kept, by their names in lower case, at most 256 characters of each."""

    def __hash__(self) -> int:
        return hash(self.request_id)

    @property
    def causes(self) -> str:
        """Return the cause and the faults that fired, those too that left the answer as it was, for people."""
        if not self.rule:
            return self.cause
        own = "" if self.cause.startswith("fault:") else self.cause
        return f"{own}+fault:{self.rule}".lstrip("+")


class Journal:
    """Keep the last exchanges in order of arrival at their end, and count them all; ``seed`` is the sandbox's.

    ``catch_up`` is called before anybody reads: what is due by then may still change an entry.
    """

    def __init__(
        self,
        lock: AbstractContextManager[object],
        limit: int = JOURNAL_LIMIT,
        *,
        catch_up: Callable[[], object] = lambda: None,
    ) -> None:
        self._lock = lock
        self._catch_up = catch_up
        self._entries: deque[Entry] = deque(maxlen=limit)
        self._begun = 0
        self.total = 0
        self.seed = 0
        self._cleared = 0
        self._watchers: tuple[Callable[[Entry], object], ...] = ()
        self.listener: Callable[[Entry], None] | None = None
        self.late_listener: Callable[[Entry], None] | None = None

    def __repr__(self) -> str:
        return f"<Journal of {len(self._entries)} exchanges, seed {self.seed}>"

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries())

    @property
    def under_way(self) -> int:
        """Return how many exchanges have begun and not ended."""
        return self._begun - self.total

    @property
    def begun(self) -> int:
        """Return how many exchanges have begun."""
        return self._begun

    @property
    def dropped(self) -> int:
        """Return how many exchanges are kept no more, since the last `clear`, because newer ones came."""
        return self.total - self._cleared - len(self._entries)

    def next_ordinal(self) -> int:
        """Return the number of the exchange that begins now; the first is 1."""
        with self._lock:
            self._begun += 1
            return self._begun

    def write(self, entry: Entry) -> None:
        """Keep an entry and tell the listener."""
        with self._lock:
            self._entries.append(entry)
            self.total += 1
        if self.listener is not None:
            self.listener(entry)
        for watcher in self._watchers:
            watcher(entry)

    def amend(self, entry: Entry) -> None:
        """Put an entry in the place of the one with its ordinal: what its exchange did later than its client believed.

        One that has been dropped or cleared stays so. ``late_listener`` is told.
        """
        with self._lock:
            for position in range(len(self._entries) - 1, -1, -1):
                if self._entries[position].ordinal == entry.ordinal:
                    self._entries[position] = entry
                    break
        if self.late_listener is not None:
            self.late_listener(entry)
        for watcher in self._watchers:
            watcher(entry)

    def canonical(self) -> str:
        """Return the kept exchanges as lines of JSON that the same seed and the same calls give again, byte for byte.

        They are sorted by user and the user's ordinal, so the work of several threads for different users compares too.
        """
        told: list[tuple[object, ...]] = []
        ordinals: Counter[tuple[str, str]] = Counter()
        for entry in sorted(self.entries(), key=lambda entry: (entry.application, entry.user, entry.ordinal)):
            ordinals[entry.application, entry.user] += 1
            facts = (getattr(entry, name) for name in _CANONICAL)
            told.append(
                (entry.operation, entry.application, entry.user, ordinals[entry.application, entry.user], *facts)
            )
        return "".join(msgspec.json.encode(line).decode() + "\n" for line in told)

    def entries(self, *, operation: str | None = None, user: str | None = None) -> tuple[Entry, ...]:
        """Return the kept exchanges, oldest first, of an operation and a user (``""`` for none) where these are given.

        Raises ValueError for an operation that there is not: a test that asserts its absence would never fail.
        """
        if operation is not None and operation not in _OPERATIONS:
            raise ValueError(f"there is no operation {operation!r}: choose one of {', '.join(_OPERATIONS)}")
        self._catch_up()
        with self._lock:
            kept = tuple(self._entries)
        return tuple(entry for entry in kept if operation in (None, entry.operation) and user in (None, entry.user))

    def watch(self, watcher: Callable[[Entry], object]) -> None:
        """Tell one more of each new or amended entry, in the thread that writes it, until `unwatch`."""
        with self._lock:
            self._watchers = (*self._watchers, watcher)

    def unwatch(self, watcher: Callable[[Entry], object]) -> None:
        """Tell a watcher no more."""
        with self._lock:
            self._watchers = tuple(each for each in self._watchers if each is not watcher)

    def clear(self) -> None:
        """Forget the exchanges; ordinals go on."""
        with self._lock:
            self._entries.clear()
            self._cleared = self.total
