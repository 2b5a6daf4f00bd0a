"""Patterns that journal entries are compared with, and the messages of failed assertions."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict, Unpack

import msgspec
from msgspec import structs

from fake_credits.contract import Operation, OperationName
from fake_credits.errors import did_you_mean
from fake_credits.journal import ClientKind, JournalEntry
from fake_credits.models import Reason
from fake_credits.text import align_columns, escape_control, redact, truncate

__all__ = [
    "NO_REQUEST_HINT",
    "Call",
    "Criteria",
    "Criterion",
    "JournalSnapshot",
    "duplicate_commits_message",
    "pluralize",
]

_OPERATION_NAMES = tuple(operation.value for operation in Operation)
_VALID_STATUSES = {0, *range(100, 600)}
_FIELD_TYPES = {field.name: field.type for field in structs.fields(JournalEntry)}


class Criteria(TypedDict, total=False):
    """The criteria of a call: the fields of `JournalEntry`, some of its headers, and any condition on it.

    ``headers`` are those that must be equal, with names in any case; ``where`` is a function of the entry.
    """

    ordinal: int
    request_id: str
    at_ms: int
    method: str
    target: str
    application: str
    user: str
    client: ClientKind
    status: int
    code: str
    cause: str
    message: str
    delta: int | None
    reason: str
    transaction: str
    committed: bool
    delivered: bool
    rule: str
    phase: str
    idempotency_key: str
    duration_us: int
    headers: Mapping[str, str]
    where: Callable[[JournalEntry], object]


@dataclass(frozen=True, slots=True)
class Criterion:
    """One criterion: what is read of an entry, and what that must be."""

    name: str
    expected: object
    read: Callable[[JournalEntry], object]

    def matches(self, entry: JournalEntry) -> bool:
        """Return whether an entry matches."""
        return self.read(entry) == self.expected


class Call:
    """A call to look for: ``Call("createTransaction", user="ada", delta=-10)``; without an operation it may be any.

    The criteria are those of `Criteria`; all must hold. Raises ValueError for an operation or a value that no call can
    have, TypeError for an unknown criterion and for a value of another type.
    """

    __slots__ = ("_text", "criteria", "headers")

    def __init__(self, operation: OperationName | None = None, **criteria: Unpack[Criteria]) -> None:
        remaining: dict[str, object] = {**criteria}
        parsed = [] if operation is None else [_criterion("operation", operation)]
        self.headers = _parse_headers(remaining.pop("headers", {}))
        parsed += [
            _where_criterion(value) if name == "where" else _criterion(name, value) for name, value in remaining.items()
        ]
        parsed += [_header_criterion(name, text) for name, text in self.headers.items()]
        self.criteria = tuple(parsed)
        criteria_text = ", ".join(
            f"{each.name}={_format_value(each.expected)}" for each in self.criteria[operation is not None :]
        )
        name = "any call" if operation is None else operation
        self._text = f"{name}({criteria_text})" if criteria_text else str(name)

    def __repr__(self) -> str:
        return self._text

    def matches(self, entry: JournalEntry) -> bool:
        """Return whether an entry meets all criteria."""
        return all(criterion.matches(entry) for criterion in self.criteria)

    def filter(self, entries: Iterable[JournalEntry]) -> tuple[JournalEntry, ...]:
        """Return the entries that meet all criteria, in their order."""
        return tuple(filter(self.matches, entries))


def _criterion(name: str, expected: object) -> Criterion:
    if name == "operation":
        if expected not in _OPERATION_NAMES:
            raise ValueError(f"there is no operation {expected!r}: choose one of {', '.join(_OPERATION_NAMES)}")
        return Criterion(name, str(expected), lambda entry: entry.operation)
    if name not in _FIELD_TYPES:
        field_names = [each for each in Criteria.__annotations__ if each != name]
        hint = did_you_mean(name, field_names, prefix=", ")
        raise TypeError(f"a call has no {name!r}{hint} (it has: {', '.join(field_names)})")
    if name == "reason" and expected not in ("", *Reason):
        raise ValueError(f"no call has the reason {expected!r}: choose one of {', '.join(Reason)}")
    if name == "status" and isinstance(expected, int) and expected not in _VALID_STATUSES:
        raise ValueError(f"no call has the status {expected!r}: it is 100 to 599, or 0 where nothing was answered")
    try:
        msgspec.convert(expected, _FIELD_TYPES[name])
    except msgspec.ValidationError as error:
        raise TypeError(f"no call has {name}={expected!r}: {error}") from None
    return Criterion(name, expected, lambda entry: getattr(entry, name))


def _parse_headers(headers: object) -> dict[str, str]:
    try:
        return {name.lower(): text for name, text in msgspec.convert(headers, dict[str, str]).items()}
    except msgspec.ValidationError as error:
        raise TypeError(f"headers must map names to texts: {error}") from None


def _header_criterion(name: str, expected: str) -> Criterion:
    return Criterion(name, expected, lambda entry: entry.headers.get(name))


def _where_criterion(where: object) -> Criterion:
    if not callable(where):
        raise TypeError(f"where must be a function that is told the entry, not {type(where).__name__}")
    return Criterion(f"where {getattr(where, '__name__', where)}", True, lambda entry: bool(where(entry)))


def _format_value(value: object) -> str:
    return repr(str(value)) if isinstance(value, str) else repr(value)  # an enum's member as its text


_MAX_FAILURE_ROWS = 5
NO_REQUEST_HINT = (
    "Give the code under test a client of the fixture, fake_credits.transport(...), fake_credits.intercept(...), "
    "fake_credits.base_url or the fixture fake_credits_env"
)


@dataclass(frozen=True, slots=True)
class JournalSnapshot:
    """The journal as an assertion saw it: the exchanges, and what is missing among them.

    ``dropped`` older ones are no longer kept, ``in_flight`` have not ended. ``api_key`` is not to be shown.
    """

    entries: tuple[JournalEntry, ...]
    dropped: int
    in_flight: int
    api_key: str

    def __repr__(self) -> str:
        return f"<JournalSnapshot: {len(self.entries)} exchanges>"

    def failure(self, head: str, call: Call, entries: Sequence[JournalEntry] | None = None) -> AssertionError:
        """Return a failed assertion: a head, what is missing, and the calls nearest to one, by default of all."""
        candidates = self.entries if entries is None else entries
        lines = [redact(head, self.api_key), *self._notes()]
        if candidates:
            lines += [f"the nearest of {pluralize(len(candidates), 'exchange')}, != where they differ:"]
            lines += _comparison_table(call, candidates, self.api_key)
        return AssertionError("\n".join(lines))

    def _notes(self) -> list[str]:
        notes = [] if self.entries else [f"no request reached this sandbox. {NO_REQUEST_HINT}"]
        if self.in_flight:
            notes.append(f"{pluralize(self.in_flight, 'exchange')} still under way: wait_for waits for a call")
        if self.dropped:
            notes.append(f"the journal keeps {len(self.entries)} exchanges and has dropped {self.dropped} before them")
        return notes


def pluralize(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def duplicate_commits_message(shared: dict[str, tuple[JournalEntry, ...]], api_key: str) -> str:
    """Return one line for each of the first keys that several committed writes share."""
    lines = [f"committed writes share {pluralize(len(shared), 'idempotency key')}, so a retry was charged again:"]
    for key, entries in list(shared.items())[:_MAX_FAILURE_ROWS]:
        calls = ", ".join(_summarize(entry, api_key) for entry in entries[:_MAX_FAILURE_ROWS])
        more = f" and {len(entries) - _MAX_FAILURE_ROWS} more" if len(entries) > _MAX_FAILURE_ROWS else ""
        lines.append(f"{_format_cell(key, api_key)}: {calls}{more}")
    return "\n".join(lines)


def _summarize(entry: JournalEntry, api_key: str) -> str:
    transaction = "" if entry.delta is None else f" {entry.delta:+} {entry.reason}"
    return f"#{entry.ordinal} {entry.operation}{transaction} for {_format_cell(entry.user, api_key)}"


def _comparison_table(call: Call, entries: Sequence[JournalEntry], api_key: str) -> list[str]:
    operation = () if any(each.name == "operation" for each in call.criteria) else ("operation",)
    names = ["", *operation, *(each.name for each in call.criteria), "answer"]
    wanted = [
        str(each.expected) if each.name == "operation" else _format_cell(each.expected, api_key)
        for each in call.criteria
    ]
    rows = [names, ["wanted", *("" for _ in operation), *wanted, ""]]
    for entry in _closest(call, entries):
        cells = [_actual_cell(each, entry, api_key) for each in call.criteria]
        rows.append(
            [f"#{entry.ordinal}", *(_operation_label(entry, api_key) for _ in operation), *cells, _response_cell(entry)]
        )
    return align_columns(rows)


def _closest(call: Call, entries: Sequence[JournalEntry]) -> list[JournalEntry]:
    """Return the entries that differ least; a foreign operation counts twice, and of two as near the later is first."""

    def distance(entry: JournalEntry) -> tuple[int, int]:
        differing = [each.name for each in call.criteria if not each.matches(entry)]
        return len(differing) + ("operation" in differing), -entry.ordinal

    return sorted(entries, key=distance)[:_MAX_FAILURE_ROWS]


def _actual_cell(criterion: Criterion, entry: JournalEntry, api_key: str) -> str:
    is_operation = criterion.name == "operation"
    actual = _operation_label(entry, api_key) if is_operation else _format_cell(criterion.read(entry), api_key)
    return actual if criterion.matches(entry) else f"!= {actual}"


def _operation_label(entry: JournalEntry, api_key: str) -> str:
    """Return the operation or, for a request that is none, its first line."""
    line = entry.operation or f"{entry.method} {entry.target}"
    return truncate(escape_control(redact(line, api_key)))


def _response_cell(entry: JournalEntry) -> str:
    parts = [f"{entry.status} {entry.code}".rstrip()]
    parts += [] if entry.delivered else ["undelivered"]
    parts += [f"fault {truncate(escape_control(entry.rule))}"] if entry.rule else []
    return ", ".join(parts)


def _format_cell(value: object, api_key: str) -> str:
    return truncate(repr(redact(str(value), api_key)) if isinstance(value, str) else repr(value))
