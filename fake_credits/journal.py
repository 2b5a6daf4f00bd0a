"""The bounded record of a sandbox's exchanges, and which request headers it keeps."""

import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Literal

import msgspec

from fake_credits.contract import Operation
from fake_credits.contract.model import Contract
from fake_credits.control_schemas import RecordedExchange

__all__ = ["ALWAYS_JOURNALED", "MAX_JOURNAL_ENTRIES", "ClientKind", "Journal", "JournalEntry", "JournalHeaders"]

_OPERATION_NAMES = tuple(operation.value for operation in Operation)

MAX_JOURNAL_ENTRIES = 10_000
"""A journal keeps this many exchanges; older ones are dropped."""

ClientKind = Literal["server", "user", "none"]

_CANONICAL_FIELDS = ("phase", "rule", "status", "code", "delta", "reason", "committed", "delivered")


class JournalEntry(RecordedExchange, frozen=True, gc=False):
    """Record one exchange. Empty strings and None mean that the exchange did not get that far.

    ``committed``: the ledger changed. ``delivered``: the client was still waiting just before the answer's first
    byte; after that it can't be known. ``delta`` and ``reason`` are what the body asked for, also where the call was
    refused before it was read. ``transaction`` names what was booked, ``rule`` the faults that fired and
    ``phase`` when. ``duration_us`` is wall time in microseconds, without the client's share.
    """

    client: ClientKind = "none"

    def __hash__(self) -> int:
        return hash(self.request_id)

    @property
    def causes(self) -> str:
        """Return the cause and the faults that fired, those too that left the answer as it was, for people."""
        if not self.rule:
            return self.cause
        other_cause = "" if self.cause.startswith("fault:") else self.cause
        return f"{other_cause}+fault:{self.rule}".lstrip("+")


class Journal:
    """Keep the last exchanges in order of arrival at their end, and count them all; ``seed`` is the sandbox's.

    ``run_due`` is called before anybody reads: what is due by then may still change an entry.
    """

    def __init__(
        self,
        lock: AbstractContextManager[object],
        limit: int = MAX_JOURNAL_ENTRIES,
        *,
        run_due: Callable[[], object] = lambda: None,
    ) -> None:
        self._lock = lock
        self._run_due = run_due
        self._entries: deque[JournalEntry] = deque(maxlen=limit)
        self._started_count = 0
        self.total = 0
        self.seed = 0
        self._total_at_clear = 0
        self._watchers: tuple[Callable[[JournalEntry], object], ...] = ()
        self.on_write: Callable[[JournalEntry], None] | None = None
        self.on_replace: Callable[[JournalEntry], None] | None = None

    def __repr__(self) -> str:
        return f"<Journal of {len(self._entries)} exchanges, seed {self.seed}>"

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[JournalEntry]:
        return iter(self.entries())

    @property
    def in_flight(self) -> int:
        """Return how many exchanges have begun and not ended."""
        return self._started_count - self.total

    @property
    def started_count(self) -> int:
        """Return how many exchanges have begun."""
        return self._started_count

    @property
    def dropped(self) -> int:
        """Return how many exchanges are kept no more, since the last `clear`, because newer ones came."""
        return self.total - self._total_at_clear - len(self._entries)

    def next_ordinal(self) -> int:
        """Return the number of the exchange that begins now; the first is 1."""
        with self._lock:
            self._started_count += 1
            return self._started_count

    def write(self, entry: JournalEntry) -> None:
        """Keep an entry and tell the listener."""
        with self._lock:
            self._entries.append(entry)
            self.total += 1
        if self.on_write is not None:
            self.on_write(entry)
        for watcher in self._watchers:
            watcher(entry)

    def replace(self, entry: JournalEntry) -> None:
        """Put an entry in the place of the one with its ordinal: what its exchange did later than its client believed.

        One that has been dropped or cleared stays so. ``on_replace`` is told.
        """
        with self._lock:
            for position in range(len(self._entries) - 1, -1, -1):
                if self._entries[position].ordinal == entry.ordinal:
                    self._entries[position] = entry
                    break
        if self.on_replace is not None:
            self.on_replace(entry)
        for watcher in self._watchers:
            watcher(entry)

    def canonical(self) -> str:
        """Return the kept exchanges as lines of JSON that the same seed and the same calls give again, byte for byte.

        They are sorted by user and the user's ordinal, so the work of several threads for different users compares too.
        """
        rows: list[tuple[object, ...]] = []
        ordinals: Counter[tuple[str, str]] = Counter()
        for entry in sorted(self.entries(), key=lambda entry: (entry.application, entry.user, entry.ordinal)):
            ordinals[entry.application, entry.user] += 1
            values = (getattr(entry, name) for name in _CANONICAL_FIELDS)
            rows.append(
                (entry.operation, entry.application, entry.user, ordinals[entry.application, entry.user], *values)
            )
        return "".join(msgspec.json.encode(row).decode() + "\n" for row in rows)

    def entries(self, *, operation: str | None = None, user: str | None = None) -> tuple[JournalEntry, ...]:
        """Return the kept exchanges, oldest first, of an operation and a user (``""`` for none) where these are given.

        Raises ValueError for an operation that there is not: a test that asserts its absence would never fail.
        """
        if operation is not None and operation not in _OPERATION_NAMES:
            raise ValueError(f"there is no operation {operation!r}: choose one of {', '.join(_OPERATION_NAMES)}")
        self._run_due()
        with self._lock:
            entries = tuple(self._entries)
        return tuple(entry for entry in entries if operation in (None, entry.operation) and user in (None, entry.user))

    def watch(self, watcher: Callable[[JournalEntry], object]) -> None:
        """Tell one more of each new or amended entry, in the thread that writes it, until `unwatch`."""
        with self._lock:
            self._watchers = (*self._watchers, watcher)

    def unwatch(self, watcher: Callable[[JournalEntry], object]) -> None:
        """Tell a watcher no more."""
        with self._lock:
            self._watchers = tuple(existing for existing in self._watchers if existing is not watcher)

    def clear(self) -> None:
        """Forget the exchanges; ordinals go on."""
        with self._lock:
            self._entries.clear()
            self._total_at_clear = self.total


ALWAYS_JOURNALED = ("idempotency-key", "traceparent")
"""The headers that are kept whatever the setting says."""

_CREDENTIAL_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie"})
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_MAX_HEADER_NAMES = 32
_MAX_HEADER_VALUE_CHARS = 256


class JournalHeaders:
    """Pick the headers to keep from a request's.

    Raises TypeError for one str in place of several names; ValueError for more than 32 names, for one that is no
    header's (RFC 9110, section 5.6.2, at most 64 characters), and for one that carries a credential, in general or by
    the contract: the journal keeps none.
    """

    def __init__(self, names: Sequence[str], contract: Contract) -> None:
        if isinstance(names, str):
            raise TypeError(f"keep_headers must be several names, such as ({names!r},), not a str")
        self.names, self._names_by_raw_name = _default_names(contract.api_key.header, contract.user_token.header)
        if names:
            credential_headers = {contract.api_key.header.lower(), contract.user_token.header.lower()}
            requested_names = [_validated_name(name, _CREDENTIAL_HEADERS | credential_headers) for name in names]
            self.names = tuple(dict.fromkeys([*self.names, *requested_names]))
            self._names_by_raw_name = _key_by_raw_name(self.names)
        if len(self.names) > _MAX_HEADER_NAMES:
            raise ValueError(
                f"keep_headers names {len(self.names)} headers: at most {_MAX_HEADER_NAMES}, always kept ones too"
            )
        self._no_headers: dict[str, str] = {}  # one for the thousands of entries without any

    def __repr__(self) -> str:
        return f"<JournalHeaders: {', '.join(self.names)}>"

    def select(self, headers: Mapping[bytes, bytes]) -> Mapping[str, str]:
        """Return those of a request's fields that are kept, at most 256 characters of each."""
        if self._names_by_raw_name.keys().isdisjoint(headers):
            return self._no_headers
        return {
            name: headers[raw_name][:_MAX_HEADER_VALUE_CHARS].decode("latin-1")
            for raw_name, name in self._names_by_raw_name.items()
            if raw_name in headers
        }


@lru_cache(maxsize=16)
def _default_names(*credential_headers: str) -> tuple[tuple[str, ...], Mapping[bytes, str]]:
    """Return the names that are kept beside a contract's credentials; every sandbox asks."""
    excluded = {name.lower() for name in credential_headers}
    names = tuple(name for name in ALWAYS_JOURNALED if name not in excluded)
    return names, _key_by_raw_name(names)


def _key_by_raw_name(names: Sequence[str]) -> Mapping[bytes, str]:
    return {name.encode("ascii"): name for name in names}


def _validated_name(name: str, credential_headers: Set[str]) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError(f"keep_headers has {name!r}, which is no header's name")
    if name.lower() in credential_headers:
        raise ValueError(f"keep_headers has {name!r}, which carries a credential: the journal keeps none")
    return name.lower()
