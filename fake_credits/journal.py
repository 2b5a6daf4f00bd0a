"""The bounded journal of a sandbox's exchanges, and the choice of request headers that it keeps."""

import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Literal

import msgspec

from fake_credits.arguments import keyword_hint
from fake_credits.contract.model import Contract
from fake_credits.contract.types import OPERATIONS_BY_NAME, OperationSelector, parse_operation
from fake_credits.control_schemas import TOKEN_HEADER, RecordedExchange
from fake_credits.text import truncate_with_hash

__all__ = [
    "ALWAYS_JOURNALED",
    "MAX_JOURNAL_ENTRIES",
    "ClientKind",
    "Journal",
    "JournalEntry",
    "JournalHeaders",
]

MAX_JOURNAL_ENTRIES = 10_000
"""The maximum number of exchanges that a journal keeps; older ones are dropped."""

ClientKind = Literal["server", "user", "none"]


_CANONICAL_FIELDS = ("phase", "rule", "status", "code", "delta", "reason", "committed", "delivered")


class JournalEntry(RecordedExchange, frozen=True, gc=False):
    """An exchange as recorded in the journal. Fields for stages that the exchange did not reach keep their defaults.

    ``committed`` means that the ledger changed. ``delivered`` means that the client was still connected just before the
    first byte of the response was sent, and that no fault dropped or truncated it or sent garbage instead; later
    disconnects are not detected. ``delta`` and ``reason`` come from the request body, even if the call was rejected
    before the body was checked. ``transaction`` is the committed transaction, ``rule`` names the faults that fired, and
    ``phase`` their phases. ``duration_us`` is the server's wall time in microseconds.
    """

    client: ClientKind = "none"

    def __hash__(self) -> int:
        return hash(self.request_id)

    @property
    def causes(self) -> str:
        """Return, for display, the cause and all faults that fired, even those that did not change the response."""
        if not self.rule:
            return self.cause
        other_cause = "" if self.cause.startswith("fault:") else self.cause
        return f"{other_cause}+fault:{self.rule}".lstrip("+")


class Journal:
    """The most recent exchanges of a sandbox, in the order in which they ended; ``seed`` is the sandbox's.

    ``started_count`` and ``ended_count`` never decrease, while `restart` resets ordinals and ``total``.
    ``run_due`` is called before entries are read, because due timers may still change them.
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
        self.started_count = 0
        self.ended_count = 0
        self.seed = 0
        self._started_at_restart = self._ended_at_restart = self._ended_at_clear = 0
        self._watchers: tuple[Callable[[JournalEntry], object], ...] = ()
        self.on_write: Callable[[JournalEntry], None] | None = None
        self.on_replace: Callable[[JournalEntry], None] | None = None

    def __repr__(self) -> str:
        return f"<Journal: entries={len(self._entries)}, seed={self.seed}>"

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[JournalEntry]:
        return iter(self.entries())

    @property
    def total(self) -> int:
        """Return the number of exchanges that have ended since the last `restart`, including those no longer kept."""
        return self.ended_count - self._ended_at_restart

    @property
    def in_flight(self) -> int:
        """Return the number of exchanges that have started but not ended."""
        return self.started_count - self.ended_count

    @property
    def dropped(self) -> int:
        """Return the number of exchanges dropped since the last `clear` to make room for newer ones."""
        return self.ended_count - self._ended_at_clear - len(self._entries)

    def begin_exchange(self) -> tuple[int, int]:
        """Begin an exchange, and return its ordinal, counted from 1, and a number that is never reused."""
        with self._lock:
            self.started_count += 1
            return self.started_count - self._started_at_restart, self.started_count

    def write(self, entry: JournalEntry) -> None:
        """Append an entry, and call ``on_write`` and the watchers."""
        with self._lock:
            self._entries.append(entry)
            self.ended_count += 1
        self._notify(self.on_write, entry)

    def replace(self, entry: JournalEntry) -> None:
        """Replace the entry that has the same request id.

        Used when an exchange takes effect or ends after it was recorded. An entry that has been dropped or cleared is
        not restored. Calls ``on_replace`` and the watchers either way.
        """
        with self._lock:
            for position in range(len(self._entries) - 1, -1, -1):
                if self._entries[position].request_id == entry.request_id:
                    self._entries[position] = entry
                    break
        self._notify(self.on_replace, entry)

    def _notify(self, callback: Callable[[JournalEntry], None] | None, entry: JournalEntry) -> None:
        if callback is not None:
            callback(entry)
        for watcher in self._watchers:
            watcher(entry)

    def canonical(self) -> str:
        """Return the kept exchanges as JSON lines, byte-identical for the same seed and calls.

        Lines are sorted by user, then by arrival, so it does not matter how the calls of different users interleave.
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

    @keyword_hint("operation")
    def entries(
        self, *, operation: OperationSelector | None = None, user: str | None = None
    ) -> tuple[JournalEntry, ...]:
        """Return the kept exchanges, oldest first.

        ``operation`` selects those of one operation, or all ``reads`` or ``writes``. ``user`` selects those of one
        user, or with ``""`` those without a user. Raises ValueError for an unknown operation, because asserting that a
        misspelt one was not called would always pass.
        """
        operations = None if operation is None else OPERATIONS_BY_NAME[parse_operation(operation)]
        self._run_due()
        with self._lock:
            entries = tuple(self._entries)
        return tuple(
            entry
            for entry in entries
            if (operations is None or entry.operation in operations) and user in (None, entry.user)
        )

    def watch(self, watcher: Callable[[JournalEntry], object]) -> None:
        """Call a function with each new or replacement entry until `unwatch` is called.

        The function runs in the thread that writes the entry.
        """
        with self._lock:
            self._watchers = (*self._watchers, watcher)

    def unwatch(self, watcher: Callable[[JournalEntry], object]) -> None:
        """Stop calling a function that was passed to `watch`."""
        with self._lock:
            self._watchers = tuple(existing for existing in self._watchers if existing is not watcher)

    def clear(self) -> None:
        """Remove all entries; ordinals keep counting up."""
        with self._lock:
            self._entries.clear()
            self._ended_at_clear = self.ended_count

    def restart(self) -> None:
        """Remove all entries, and restart ordinals at 1; exchanges in flight keep theirs."""
        with self._lock:
            self.clear()
            self._started_at_restart, self._ended_at_restart = self.started_count, self.ended_count


ALWAYS_JOURNALED = ("idempotency-key", "traceparent")
"""The request headers that are always kept, unless the contract uses them for credentials."""

_CREDENTIAL_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", TOKEN_HEADER.lower()})
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_MAX_HEADER_NAMES = 32


class JournalHeaders:
    """The names of the request headers that a journal keeps.

    Raises TypeError if ``names`` is a string. Raises ValueError if there are more than 32 names, including those always
    kept, or if a name is invalid (RFC 9110, section 5.6.2), is longer than 64 characters, or belongs to a header that
    carries credentials, such as ``Authorization`` or the contract's API key header.
    """

    def __init__(self, names: Sequence[str], contract: Contract) -> None:
        if isinstance(names, str):
            raise TypeError(f"keep_headers must be a sequence of names, such as ({names!r},), not a string")
        self.names, self._names_by_raw_name = _default_names(contract.api_key.header, contract.user_token.header)
        if names:
            credential_headers = {contract.api_key.header.lower(), contract.user_token.header.lower()}
            requested_names = [_validated_name(name, _CREDENTIAL_HEADERS | credential_headers) for name in names]
            self.names = tuple(dict.fromkeys([*self.names, *requested_names]))
            self._names_by_raw_name = _key_by_raw_name(self.names)
        if len(self.names) > _MAX_HEADER_NAMES:
            raise ValueError(
                f"too many headers in keep_headers: {len(self.names)}, including those that are always kept; "
                f"the limit is {_MAX_HEADER_NAMES}"
            )
        self._no_headers: dict[str, str] = {}  # shared by the thousands of entries without headers

    def __repr__(self) -> str:
        return f"<JournalHeaders: {', '.join(self.names)}>"

    def select(self, headers: Mapping[bytes, bytes]) -> Mapping[str, str]:
        """Return the request headers to keep; values longer than 256 characters are truncated and end with a hash."""
        if self._names_by_raw_name.keys().isdisjoint(headers):
            return self._no_headers
        return {
            name: truncate_with_hash(headers[raw_name].decode("latin-1"))
            for raw_name, name in self._names_by_raw_name.items()
            if raw_name in headers
        }


@lru_cache(maxsize=16)
def _default_names(*credential_headers: str) -> tuple[tuple[str, ...], Mapping[bytes, str]]:
    """Return the headers kept by default, except those that carry credentials; cached, as every sandbox needs them."""
    excluded = {name.lower() for name in credential_headers}
    names = tuple(name for name in ALWAYS_JOURNALED if name not in excluded)
    return names, _key_by_raw_name(names)


def _key_by_raw_name(names: Sequence[str]) -> Mapping[bytes, str]:
    return {name.encode("ascii"): name for name in names}


def _validated_name(name: str, credential_headers: Set[str]) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError(f"keep_headers contains {name!r}, which is not a valid header name")
    if name.lower() in credential_headers:
        raise ValueError(
            f"keep_headers contains {name!r}, which carries a credential: the journal never keeps credentials"
        )
    return name.lower()
