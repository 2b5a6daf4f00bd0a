"""Own what a test author says of a call: an operation and criteria; know neither the journal nor what a failure says.

Whatever no call could ever meet is refused: a test that asserts the absence of a misspelt one would never fail.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypedDict, Unpack

import msgspec
from msgspec import structs

from fake_credits.contract import Operation
from fake_credits.errors import did_you_mean
from fake_credits.journal import Client, Entry
from fake_credits.models import Reason

__all__ = ["Call", "Criteria", "Criterion"]

_OPERATIONS = tuple(operation.value for operation in Operation)
_STATUSES = {0, *range(100, 600)}
_TYPES = {field.name: field.type for field in structs.fields(Entry)}


class Criteria(TypedDict, total=False):
    """Name what a call can be asked for: the fields of `Entry`, some of its headers, and any condition on it.

    ``headers`` are those that must be equal, names in any case; ``where`` is told the entry.
    """

    ordinal: int
    request_id: str
    at_ms: int
    method: str
    target: str
    application: str
    user: str
    client: Client
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
    where: Callable[[Entry], object]


@dataclass(frozen=True, slots=True)
class Criterion:
    """Be one thing that must hold of an entry: what is read of it, and what that must be."""

    name: str
    wanted: object
    read: Callable[[Entry], object]

    def holds(self, entry: Entry) -> bool:
        """Tell whether an entry is as wanted."""
        return self.read(entry) == self.wanted


class Call:
    """Describe a call: ``Call("createTransaction", user="ada", delta=-10)``; without an operation it may be any.

    The criteria are those of `Criteria`; all must hold. Raises ValueError for an operation or a value that no call can
    have, TypeError for a criterion that there is not and for a value of another type.
    """

    __slots__ = ("_shown", "criteria", "headers")

    def __init__(self, operation: str | None = None, **criteria: Unpack[Criteria]) -> None:
        given: dict[str, object] = {**criteria}
        found = [] if operation is None else [_operation(operation)]
        self.headers = _headers(given.pop("headers", {}))
        found += [_condition(value) if name == "where" else _field(name, value) for name, value in given.items()]
        found += [_header(name, text) for name, text in self.headers.items()]
        self.criteria = tuple(found)
        words = ", ".join(f"{each.name}={_worded(each.wanted)}" for each in self.criteria[operation is not None :])
        name = "any call" if operation is None else operation
        self._shown = f"{name}({words})" if words else str(name)

    def __repr__(self) -> str:
        return self._shown

    def matches(self, entry: Entry) -> bool:
        """Tell whether all criteria hold of an entry."""
        return all(criterion.holds(entry) for criterion in self.criteria)

    def among(self, entries: Iterable[Entry]) -> tuple[Entry, ...]:
        """Return the entries of which all criteria hold, in their order."""
        return tuple(filter(self.matches, entries))


def _operation(operation: str) -> Criterion:
    if operation not in _OPERATIONS:
        raise ValueError(f"there is no operation {operation!r}: choose one of {', '.join(_OPERATIONS)}")
    return Criterion("operation", str(operation), lambda entry: entry.operation)


def _field(name: str, wanted: object) -> Criterion:
    if name not in _TYPES:
        known = [each for each in Criteria.__annotations__ if each != name]
        hint = did_you_mean(name, known, before=", ")
        raise TypeError(f"a call has no {name!r}{hint} (it has: {', '.join(known)})")
    if name == "reason" and wanted not in ("", *Reason):
        raise ValueError(f"no call has the reason {wanted!r}: choose one of {', '.join(Reason)}")
    if name == "status" and isinstance(wanted, int) and wanted not in _STATUSES:
        raise ValueError(f"no call has the status {wanted!r}: it is 100 to 599, or 0 where nothing was answered")
    try:
        msgspec.convert(wanted, _TYPES[name])
    except msgspec.ValidationError as broken:
        raise TypeError(f"no call has {name}={wanted!r}: {broken}") from None
    return Criterion(name, wanted, lambda entry: getattr(entry, name))


def _headers(wanted: object) -> dict[str, str]:
    try:
        return {name.lower(): text for name, text in msgspec.convert(wanted, dict[str, str]).items()}
    except msgspec.ValidationError as broken:
        raise TypeError(f"headers must map names to texts: {broken}") from None


def _header(name: str, wanted: str) -> Criterion:
    return Criterion(name, wanted, lambda entry: entry.headers.get(name))


def _condition(where: object) -> Criterion:
    if not callable(where):
        raise TypeError(f"where must be a function that is told the entry, not {type(where).__name__}")
    return Criterion(f"where {getattr(where, '__name__', where)}", True, lambda entry: bool(where(entry)))


def _worded(value: object) -> str:
    return repr(str(value)) if isinstance(value, str) else repr(value)  # an enum's member as its text
