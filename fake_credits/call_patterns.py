"""Patterns for matching journal entries, and the messages of failed assertions."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, TypedDict, Unpack, get_args, get_origin

import msgspec
from msgspec import structs

from fake_credits.contract import Operation
from fake_credits.contract.types import (
    ALL_OPERATIONS,
    OPERATIONS_BY_NAME,
    OperationSelector,
    parse_operation,
)
from fake_credits.errors import did_you_mean
from fake_credits.faults.effects.base import Phase
from fake_credits.http_message import HTTP_METHODS
from fake_credits.interception_log import InterceptionLog
from fake_credits.journal import ClientKind, JournalEntry
from fake_credits.models import Reason
from fake_credits.text import align_columns, escape_control, pluralize, redact, short_repr, truncate, truncate_with_hash

_TRANSACTION_ID = re.compile(r"(txn_[1-9][0-9]*)?")
_PHASES = frozenset(("", *get_args(Phase)))
_ANY_VALUE: tuple[Callable[[Any], bool], str] = (lambda _: True, "")
_POSSIBLE_VALUES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "ordinal": (lambda ordinal: ordinal >= 1, "1 or more"),
    "request_id": (lambda text: text.startswith("req_"), "an id such as 'req_s1_1'"),
    "at_ms": (lambda at_ms: at_ms >= 0, "0 or more"),
    "method": (HTTP_METHODS.__contains__, "an HTTP method in upper case, such as 'POST'"),
    "target": (lambda text: text.startswith(("/", "*")), "a path that starts with a slash"),
    "status": (
        lambda status: status == 0 or 100 <= status <= 599,
        "from 100 to 599, or 0 for a call without a response",
    ),
    "delta": (lambda delta: delta != 0, "None or a number other than 0"),
    "reason": (lambda reason: reason in ("", *Reason), f"one of {', '.join(Reason)}"),
    "transaction": (lambda text: bool(_TRANSACTION_ID.fullmatch(text)), "'' or an id such as 'txn_1'"),
    "phase": (
        lambda phase: _PHASES.issuperset(phase.split("+")),
        f"one of {', '.join(get_args(Phase))}, or several joined by +",
    ),
    "duration_us": (lambda duration_us: duration_us >= 0, "0 or more"),
}
"""For each restricted field, a function that checks a value, and a description of the allowed values for messages."""

_OPERATIONS_BY_FIELD = {
    "delta": frozenset({Operation.CREATE_TRANSACTION}),
    "reason": frozenset({Operation.CREATE_TRANSACTION}),
    "transaction": frozenset({Operation.CREATE_TRANSACTION}),
    "user": ALL_OPERATIONS - {Operation.LIST_USERS},
}
"""The operations that set each of these fields; for any other operation, the field is None or empty."""

_FIELD_TYPES = {field.name: field.type for field in structs.fields(JournalEntry)}


class Criteria(TypedDict, total=False):
    """The criteria for a call: fields of `JournalEntry`, ``headers`` and ``where``.

    The entry must have each of the ``headers``, whose names are case-insensitive. ``where`` is a function that is
    called with the entry and returns whether it matches.
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


class Criterion(msgspec.Struct, frozen=True):
    """A criterion: a function that reads a value from an entry, and the expected value."""

    name: str
    expected: object
    read: Callable[[JournalEntry], object]

    def matches(self, entry: JournalEntry) -> bool:
        """Return whether an entry has the expected value."""
        return self.read(entry) == self.expected


class Call:
    """A pattern that calls can match, such as ``Call("createTransaction", user="ada", delta=-10)``.

    The operation may also be ``reads``, ``writes`` or ``*``; by default, any operation matches. All `Criteria` must
    match. Raises ValueError for an operation or a value that no call can have, and TypeError for an unknown criterion
    or a value of the wrong type.
    """

    __slots__ = ("_text", "criteria", "headers")

    def __init__(self, operation: OperationSelector | None = None, **criteria: Unpack[Criteria]) -> None:
        remaining: dict[str, object] = {**criteria}
        parsed = [] if operation is None else [_criterion("operation", operation)]
        self.headers = _parse_headers(remaining.pop("headers", {}))
        key = remaining.get("idempotency_key")
        if isinstance(key, str):
            remaining["idempotency_key"] = truncate_with_hash(key)  # as in the journal
        parsed += [_criterion(name, value) for name, value in remaining.items()]
        parsed += [Criterion(name, text, _header_reader(name)) for name, text in self.headers.items()]
        self.criteria = tuple(parsed)
        if operation is not None:
            _check_operation_has(parse_operation(operation), criteria)
        criteria_text = ", ".join(
            f"{each.name}={_format_value(each.expected)}" for each in self.criteria[operation is not None :]
        )
        name = "any call" if operation is None else str(self.criteria[0].expected)
        self._text = f"{name}({criteria_text})" if criteria_text else name

    def __repr__(self) -> str:
        return self._text

    def matches(self, entry: JournalEntry) -> bool:
        """Return whether an entry matches all criteria."""
        return all(criterion.matches(entry) for criterion in self.criteria)

    def filter(self, entries: Iterable[JournalEntry]) -> tuple[JournalEntry, ...]:
        """Return the entries that match all criteria, in the same order."""
        return tuple(filter(self.matches, entries))


def _criterion(name: str, expected: object) -> Criterion:
    if name == "operation":
        selector = parse_operation(expected)
        operations = OPERATIONS_BY_NAME[selector]
        return Criterion(name, selector, lambda entry: selector if entry.operation in operations else entry.operation)
    if name == "where":
        if not callable(expected):
            raise TypeError(f"where must be a function that takes a journal entry, not {expected!r}")
        label = f"where {getattr(expected, '__name__', expected)}"
        return Criterion(label, True, lambda entry: bool(expected(entry)))
    if name not in _FIELD_TYPES:
        field_names = [each for each in Criteria.__annotations__ if each != name]
        hint = did_you_mean(name, field_names, prefix=", ")
        raise TypeError(f"unknown criterion {name!r}{hint} (known: {', '.join(field_names)})")
    try:
        msgspec.convert(expected, _FIELD_TYPES[name])
    except msgspec.ValidationError:
        kind = _FIELD_TYPES[name]
        rule = f"of type {kind.__name__ if isinstance(kind, type) else kind}"
        if get_origin(kind) is Literal:
            rule = f"one of {', '.join(map(repr, get_args(kind)))}"
        raise TypeError(f"{name} must be {rule}, not {short_repr(expected)}") from None
    is_possible, rule = _POSSIBLE_VALUES.get(name, _ANY_VALUE)
    if not is_possible(expected):
        raise ValueError(f"{name} must be {rule}, not {expected!r}")
    return Criterion(name, expected, lambda entry: getattr(entry, name))


def _check_operation_has(selector: str, criteria: Mapping[str, Any]) -> None:
    """Raise ValueError for a criterion that no call to the selected operations can meet."""
    for name, operations in _OPERATIONS_BY_FIELD.items():
        if criteria.get(name) and operations.isdisjoint(OPERATIONS_BY_NAME[selector]):
            raise never_set(name, criteria[name], selector, operations)


def never_set(name: str, value: object, selector: str, operations: Collection[Operation]) -> ValueError:
    """Return the error for a criterion that calls to ``operations`` can meet, but calls to ``selector`` cannot."""
    others = ", ".join(operation for operation in Operation if operation in operations)
    return ValueError(f"omit {name}={_format_value(value)}: it is never set for {selector}, only for {others}")


def _header_reader(name: str) -> Callable[[JournalEntry], object]:
    return lambda entry: entry.headers.get(name)


def _parse_headers(headers: object) -> dict[str, str]:
    try:
        texts = msgspec.convert(headers, dict[str, str])
    except msgspec.ValidationError as error:
        raise TypeError(f"headers must map names to strings: {error}") from None
    return {name.lower(): truncate_with_hash(text) for name, text in texts.items()}


def _format_value(value: object) -> str:
    return repr(str(value)) if isinstance(value, str) else repr(value)  # show enum members as plain strings


_MAX_FAILURE_ROWS = 5
NO_REQUEST_HINT = (
    "Use one of the fixture's clients, fake_credits.transport(...), fake_credits.intercept(...), "
    "fake_credits.base_url or the fake_credits_env fixture to point the code under test at the sandbox"
)


class JournalSnapshot(msgspec.Struct, frozen=True):
    """The journal at the time of an assertion.

    ``dropped`` is the number of older exchanges that are no longer kept, ``in_flight`` the number still in progress.
    ``api_key`` is masked in messages. ``interception_log`` lists the requests that were not intercepted.
    """

    entries: tuple[JournalEntry, ...]
    dropped: int
    in_flight: int
    api_key: str
    interception_log: InterceptionLog

    def __repr__(self) -> str:
        return f"<JournalSnapshot: exchanges={len(self.entries)}>"

    def failure(self, head: str, call: Call, entries: Sequence[JournalEntry] | None = None) -> AssertionError:
        """Return an AssertionError with ``head``, notes, and the calls closest to the expected one."""
        candidates = self.entries if entries is None else entries
        lines = [redact(head, self.api_key), *self._notes()]
        if candidates:
            lines += [f"the closest of {pluralize(len(candidates), 'exchange')} (!= marks a difference):"]
            lines += _comparison_table(call, candidates, self.api_key)
        return AssertionError("\n".join(lines))

    def missing_calls(self, call: Call, times: int | None = None) -> AssertionError | None:
        """Return an AssertionError if dropped exchanges leave it unclear whether, or how often, a call was made."""
        count = len(call.filter(self.entries))
        if not self.dropped or (times is not None and not count <= times <= count + self.dropped):
            return None
        times_text = "" if times is None else f" {pluralize(times, 'time')}"
        verb = "matches" if count == 1 else "match"
        counted = f"{count} of the {len(self.entries)} exchanges still in the journal {verb}"
        head = f"can't tell whether {call} was called{times_text}: older exchanges are missing from the journal"
        return self.failure(f"{head}; {counted}", call)

    def _notes(self) -> list[str]:
        hint = self.interception_log.no_request_hint() or NO_REQUEST_HINT
        notes = [] if self.entries else [f"no request reached this sandbox. {hint}"]
        notes += [redact(line, self.api_key) for line in self.interception_log.lines()]
        if self.in_flight:
            notes.append(f"{pluralize(self.in_flight, 'exchange')} still in progress: use wait_for to wait for a call")
        if self.dropped:
            dropped = pluralize(self.dropped, "older exchange")
            notes.append(f"the journal has dropped {dropped} and keeps {len(self.entries)}")
        return notes


def duplicate_commits_message(shared: dict[str, tuple[JournalEntry, ...]], api_key: str) -> str:
    """Return the message for writes that share an idempotency key, with one line for each of the first few keys."""
    lines = [f"committed writes share {pluralize(len(shared), 'idempotency key')}, so retries were committed as well:"]
    for key, entries in list(shared.items())[:_MAX_FAILURE_ROWS]:
        calls: list[str] = []
        for entry in entries[:_MAX_FAILURE_ROWS]:
            transaction = "" if entry.delta is None else f" {entry.delta:+} {entry.reason}"
            calls.append(f"#{entry.ordinal} {entry.operation}{transaction} for {_format_cell(entry.user, api_key)}")
        more = f" and {len(entries) - _MAX_FAILURE_ROWS} more" if len(entries) > _MAX_FAILURE_ROWS else ""
        lines.append(f"{_format_cell(key, api_key)}: {', '.join(calls)}{more}")
    return "\n".join(lines)


def _comparison_table(call: Call, entries: Sequence[JournalEntry], api_key: str) -> list[str]:
    operation = () if any(each.name == "operation" for each in call.criteria) else ("operation",)
    names = ["", *operation, *(each.name for each in call.criteria), "response"]
    wanted = [
        str(each.expected) if each.name == "operation" else _format_cell(each.expected, api_key)
        for each in call.criteria
    ]
    rows = [names, ["wanted", *("" for _ in operation), *wanted, ""]]
    for entry in _closest(call, entries):
        cells: list[str] = []
        for each in call.criteria:
            is_operation = each.name == "operation"
            actual = _operation_label(entry, api_key) if is_operation else _format_cell(each.read(entry), api_key)
            cells.append(actual if each.matches(entry) else f"!= {actual}")
        label = [_operation_label(entry, api_key) for _ in operation]
        rows.append([f"#{entry.ordinal}", *label, *cells, _response_cell(entry)])
    return align_columns(rows)


def _closest(call: Call, entries: Sequence[JournalEntry]) -> list[JournalEntry]:
    """Return the entries that differ least from a call, latest first if tied; a different operation counts twice."""

    def distance(entry: JournalEntry) -> tuple[int, int]:
        differing = [each.name for each in call.criteria if not each.matches(entry)]
        return len(differing) + ("operation" in differing), -entry.ordinal

    return sorted(entries, key=distance)[:_MAX_FAILURE_ROWS]


def _operation_label(entry: JournalEntry, api_key: str) -> str:
    """Return the operation or, for a request without one, its method and target."""
    line = entry.operation or f"{entry.method} {entry.target}"
    return truncate(escape_control(redact(line, api_key)))


def _response_cell(entry: JournalEntry) -> str:
    parts = [f"{entry.status} {entry.code}".rstrip()]
    parts += [] if entry.delivered else ["undelivered"]
    parts += [f"fault {truncate(escape_control(entry.rule))}"] if entry.rule else []
    return ", ".join(parts)


def _format_cell(value: object, api_key: str) -> str:
    return truncate(repr(redact(str(value), api_key)) if isinstance(value, str) else repr(value))
