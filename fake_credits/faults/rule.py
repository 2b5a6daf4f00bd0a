"""What a rule says, as plain data: which calls, when, what; and the call that it is matched with."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from functools import cache
from inspect import iscoroutinefunction, signature
from typing import Literal, NamedTuple, cast, get_args

from fake_credits.clock import from_ms, to_ms
from fake_credits.contract import Operation, OperationName
from fake_credits.faults.effects import EFFECTS
from fake_credits.faults.effects.base import (
    ALL_OPERATIONS,
    READ_OPERATIONS,
    WRITE_OPERATIONS,
    Effect,
    FaultError,
    FaultValue,
    Phase,
    check_choice,
    check_int,
    check_number,
    check_text,
    format_kwargs,
)
from fake_credits.faults.effects.connection import Close, Hang, Reset
from fake_credits.faults.effects.responses import Status
from fake_credits.faults.effects.timing import HoldAtGate
from fake_credits.models import Reason
from fake_credits.text import short_repr

__all__ = [
    "OPERATIONS_BY_NAME",
    "SCRIPT_ACTIONS",
    "IncomingCall",
    "Moment",
    "RequestHeaders",
    "Rule",
    "RuleOperation",
    "check_without_connection",
    "effect_for_script_entry",
]

OPERATIONS_BY_NAME: Mapping[str, frozenset[Operation]] = {
    "*": ALL_OPERATIONS,
    "reads": READ_OPERATIONS,
    "writes": WRITE_OPERATIONS,
    **{operation.value: frozenset({operation}) for operation in Operation},
}
"""What ``operation`` may be, and which operations it means."""

SCRIPT_ACTIONS: Mapping[str, Effect | None] = {"ok": None, "reset": Reset(), "close": Close(), "hang": Hang()}
"""What an entry of a script may be, beside a status."""

_COUNTS = ("at", "nth", "first", "every", "after", "times")
_MAX_COUNT = 10**9
_MAX_SCRIPT_ENTRIES = 10_000
_MAX_ID_CHARS = 1024
_MAX_DURING_S = 10**9
_RULE_NAME_PATTERN = re.compile(r"[!-~]{1,64}")
_HEADER_NAME_PATTERN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_HEADER_VALUE_PATTERN = re.compile(r"[\t -~\x80-\xff]*")

Moment = datetime | float | None
RuleOperation = OperationName | Literal["*", "reads", "writes"]


class RequestHeaders(Mapping[str, str]):
    """A request's headers as text (Latin-1), with lower-case names; lookups ignore the case."""

    __slots__ = ("_raw_headers",)

    def __init__(self, raw_headers: Mapping[bytes, bytes]) -> None:
        self._raw_headers = raw_headers

    def __repr__(self) -> str:
        return f"<RequestHeaders: {', '.join(self) or 'none'}>"

    def __getitem__(self, name: str) -> str:
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"the name of a header must be a str, not {type(name).__name__}")
        return self._raw_headers[name.lower().encode("utf-8", "replace")].decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._raw_headers)

    def __len__(self) -> int:
        return len(self._raw_headers)


class IncomingCall(NamedTuple):
    """What a rule is matched with: one call before its decision.

    ``ordinal`` counts the sandbox's exchanges from 1; ``fields`` are the headers as bytes, with lower-case names;
    ``reason`` is empty, and ``delta`` None, if the call has none that can be read.
    """

    ordinal: int
    operation: Operation
    application: str
    user: str
    client: str
    reason: str
    fields: Mapping[bytes, bytes]
    now_ms: int
    delta: int | None = None

    @property
    def headers(self) -> RequestHeaders:
        """Return the headers as text: ``call.headers.get("X-Tenant") == "acme"``, in any case of the name."""
        return RequestHeaders(self.fields)


class _Script(Effect):
    """The stand-in for the effect of a rule with a script."""


_SCRIPT = _Script()


@dataclass(frozen=True, repr=False)
class Rule(FaultValue):
    """Which calls, when, and what.

    Which, all that are given: ``operation`` (its name, ``reads``, ``writes`` or ``*``), ``application``, ``user``,
    ``client`` (``server`` or ``user``), ``reason``, ``header`` (names to values), ``where`` (a function of an
    `IncomingCall`; if it raises, the call gets a 500 and the test fails).

    When, all that are given: ``at`` the sandbox's n-th exchange; of those that match, the ``nth``, the ``first`` n,
    ``every`` n-th, those ``after`` the first n, at most ``times``; ``script``, one entry a call: a status, ``ok``,
    ``reset``, ``close`` or ``hang``; with a ``probability``; ``during`` (start, end) on the sandbox's clock: aware
    datetimes, or seconds since the sandbox started; None is open, and calls outside do not match. ``per="user"`` counts
    each user's calls apart.

    What: an ``effect`` at a ``phase``, by default its first. With ``stack`` the following rules are tried too. A
    scripted rule that stays unused fails the test unless it is ``optional``.

    Raises FaultError, naming the field and what it may be.
    """

    effect: Effect | None = None
    _: KW_ONLY
    operation: RuleOperation = "*"
    phase: Phase | Literal[""] = ""
    application: str = ""
    user: str = ""
    client: Literal["", "server", "user"] = ""
    reason: Reason | Literal["", "grant", "consume", "refund"] = ""
    header: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)
    where: Callable[[IncomingCall], bool] | None = None
    at: int | None = None
    nth: int | None = None
    first: int | None = None
    every: int | None = None
    after: int | None = None
    times: int | None = None
    script: Sequence[int | str] = ()
    per: Literal["", "user"] = ""
    probability: float | None = None
    during: tuple[Moment, Moment] | None = None
    stack: bool | None = None
    optional: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        _check_action(self)
        action = _action_of(self)
        self._imply(phase=action.phases[0], client=action.only_client, times=action.times)
        _check_phase(self)
        _check_criteria(self)
        _check_schedule(self)

    @property
    def operations(self) -> frozenset[Operation]:
        """Return the operations that the rule can touch: listUsers has no user, and only createTransaction a reason."""
        possible = OPERATIONS_BY_NAME[self.operation] & _action_of(self).operations
        if self.user:
            possible -= {Operation.LIST_USERS}
        return possible & {Operation.CREATE_TRANSACTION} if self.reason else possible

    @property
    def stacks(self) -> bool:
        """Return whether the following rules are tried too."""
        return _action_of(self).stacks if self.stack is None else self.stack

    @property
    def is_scripted(self) -> bool:
        """Return whether the rule says exactly when it fires, so that it is a mistake if it never does."""
        return not self.is_random and self.probability != 0 and bool(self.script or _counts_of(self))

    @property
    def is_random(self) -> bool:
        """Return whether chance decides if the rule fires."""
        return self.probability is not None and 0 < self.probability < 1

    @property
    def word(self) -> str:
        """Return the effect's name in files, or ``script``."""
        return _action_of(self).effect_name


def _action_of(rule: Rule) -> Effect:
    return rule.effect or _SCRIPT


@cache
def effect_for_script_entry(entry: int | str) -> Effect | None:
    """Return the effect of a script's entry, None for ``ok``."""
    return Status(entry) if isinstance(entry, int) else SCRIPT_ACTIONS[entry]


def check_without_connection(rule: Rule) -> None:
    """Raise FaultError if an effect of a rule breaks or holds the connection, which ASGI can't do."""
    for effect in (rule.effect, *map(effect_for_script_entry, rule.script)):
        if effect is not None and effect.needs_connection:
            place = "script" if rule.script else "effect"
            raise FaultError(
                f"{place} has {effect.effect_name!r}, which ASGI can't produce: "
                "use the live server (FakeCredits(mode='live'), fake-credits serve)"
            )


# ------------------------------------------------------------ checks


def _check_action(rule: Rule) -> None:
    if (rule.effect is None) is not bool(rule.script):
        raise FaultError("a rule has an effect or a script: give one of them")
    if not isinstance(rule.effect, Effect | None):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise FaultError(f"effect is {rule.effect!r}: give an effect, such as Reset() (there are {', '.join(EFFECTS)})")
    if rule.name and not (isinstance(rule.name, str) and _RULE_NAME_PATTERN.fullmatch(rule.name)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise FaultError(f"name is {rule.name!r}: a rule's name is 1 to 64 visible ASCII characters")
    if rule.name and isinstance(rule.effect, HoldAtGate):
        raise FaultError(f"name is {rule.name!r}: a rule with a gate has none of its own, its effect names the gate")


def _check_phase(rule: Rule) -> None:
    check_choice("phase", rule.phase, get_args(Phase))
    if rule.phase not in _action_of(rule).phases:
        choices = ", ".join(_action_of(rule).phases)
        raise FaultError(f"phase is {rule.phase!r}, which {rule.word} does not have: choose {choices}")


def _check_criteria(rule: Rule) -> None:
    if not isinstance(rule.operation, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        type_name = type(rule.operation).__name__
        raise FaultError(
            f"operation is {short_repr(rule.operation)}, a {type_name}: it must be a text, such as 'createTransaction'"
        )
    check_choice("operation", rule.operation, OPERATIONS_BY_NAME)
    for name in ("application", "user"):
        check_text(name, getattr(rule, name), 0, _MAX_ID_CHARS)
    check_choice("client", rule.client, ("", "server", "user"))
    check_choice("reason", rule.reason, ("", *(reason.value for reason in Reason)))
    for name in ("operation", "client", "reason"):  # members of a StrEnum are texts that JSON's readers don't know
        object.__setattr__(rule, name, str(getattr(rule, name)))
    _check_operations(rule)
    only_client = _action_of(rule).only_client
    if only_client not in ("", rule.client):
        raise FaultError(f"client is {rule.client!r}, but {rule.word} touches the kind {only_client!r} only")
    object.__setattr__(rule, "header", _validate_header(rule.header))
    _check_where(rule.where)


def _check_operations(rule: Rule) -> None:
    if not OPERATIONS_BY_NAME[rule.operation] & _action_of(rule).operations:
        choices = ", ".join(sorted(_action_of(rule).operations))
        raise FaultError(f"operation is {rule.operation!r}, which {rule.word} can't touch: choose {choices}")
    if not rule.operations and rule.reason:
        problem = f"of {rule.operation} only createTransaction could have one"
        raise FaultError(f"reason is {rule.reason!r}, but {problem}")
    if not rule.operations:
        raise FaultError(f"user is {rule.user!r}, but listUsers has no user")


def _check_where(where: object) -> None:
    if where is None:
        return
    if not callable(where) or iscoroutinefunction(where):
        raise FaultError(f"where is {short_repr(where)}, a {type(where).__name__}: it must be a function of a call")
    try:
        bind_arguments: Callable[[object], object] = signature(where).bind
    except (TypeError, ValueError):
        return  # a function in C without a signature
    try:
        bind_arguments(None)
    except TypeError as error:
        raise FaultError(f"where is {short_repr(where)}: it is called with one argument, a call ({error})") from None


def _validate_header(header: object) -> dict[str, str]:
    if not isinstance(header, Mapping):
        raise FaultError(f"header is {header!r}, a {type(header).__name__}: it must map names of headers to values")
    for name, value in cast("Mapping[object, object]", header).items():
        if not isinstance(name, str) or not _HEADER_NAME_PATTERN.fullmatch(name):
            raise FaultError(f"header has the name {name!r}, which no header can have (RFC 9110, section 5.6.2)")
        if not isinstance(value, str) or not _HEADER_VALUE_PATTERN.fullmatch(value):
            raise FaultError(f"header {name} is {value!r}: a value is a text of visible Latin-1 characters and blanks")
    return dict(cast("Mapping[str, str]", header))


def _check_schedule(rule: Rule) -> None:
    for name in _COUNTS:
        value = getattr(rule, name)
        if value is not None:
            check_int(name, value, 0 if name == "after" else 1, _MAX_COUNT)
    check_choice("per", rule.per, ("", "user"))
    if rule.probability is not None:
        check_number("probability", rule.probability, 0, 1)
    for name, expected_type in (("stack", bool | None), ("optional", bool)):
        if not isinstance(getattr(rule, name), expected_type):
            raise FaultError(f"{name} is {getattr(rule, name)!r}: it must be true or false")
    object.__setattr__(rule, "script", _validate_script(rule.script))
    if rule.during is not None:
        object.__setattr__(rule, "during", _parse_during(rule.during))
    _check_counts(rule)
    if rule.per and not (rule.script or _action_of(rule).counts_passes or _counts_of(rule).keys() - {"at"}):
        raise FaultError("per is 'user', but the rule counts nothing: give nth, first, every, after, times or a script")


def _check_counts(rule: Rule) -> None:
    """Refuse counts that no call can meet, and entries of a script that no call can reach.

    The sandbox's n-th exchange is at most the n-th that matches.
    """
    every, counts = rule.every or 1, _counts_of(rule)
    lowest, highest = (rule.after or 0) + 1, min(rule.first or _MAX_COUNT, rule.at or _MAX_COUNT)
    if rule.nth is not None:
        lowest, highest = max(lowest, rule.nth), min(highest, rule.nth)
    if -(-lowest // every) * every > highest:
        counts.pop("times", None)
        raise FaultError(f"{format_kwargs(counts)} exclude each other: no call is all of that")
    max_entries = min(rule.times or _MAX_COUNT, _MAX_COUNT if rule.at is None and rule.nth is None else 1)
    if rule.first is not None:
        max_entries = min(max_entries, rule.first // every - (rule.after or 0) // every)
    if len(rule.script) > max_entries:
        problem = f"script has {len(rule.script)} entries, but with {format_kwargs(counts)} no more than {max_entries}"
        raise FaultError(f"{problem} can be played: leave out the rest, or the count")


def _counts_of(rule: Rule) -> dict[str, int]:
    return {name: value for name in _COUNTS if (value := getattr(rule, name)) is not None}


def _validate_script(script: object) -> tuple[int | str, ...]:
    if isinstance(script, str) or not isinstance(script, Sequence):
        raise FaultError(f"script is {script!r}, a {type(script).__name__}: it must be a list")
    entries = cast("Sequence[object]", script)
    if len(entries) > _MAX_SCRIPT_ENTRIES:
        raise FaultError(f"script has {len(entries)} entries: it may have at most {_MAX_SCRIPT_ENTRIES}")
    for entry in entries:
        is_valid = entry in SCRIPT_ACTIONS if isinstance(entry, str) else type(entry) is int and 400 <= entry <= 599
        if not is_valid:
            actions = ", ".join(map(repr, SCRIPT_ACTIONS))
            raise FaultError(
                f"script has the entry {short_repr(entry)}: an entry is a status from 400 to 599, {actions}"
            )
    return tuple(cast("Sequence[int | str]", entries))


def _parse_during(value: object) -> tuple[Moment, Moment]:
    bounds = [*cast("Sequence[object]", value)] if isinstance(value, Sequence) else []
    if len(bounds) not in (1, 2) or isinstance(value, str):
        raise FaultError(f"during is {value!r}: it must be (start, end) or (start,), each a moment, seconds or None")
    # TOML has no null: (start,) is open at its end, and 0 at its start.
    start, end = _parse_moment(bounds[0]), _parse_moment(bounds[1]) if len(bounds) > 1 else None
    start = 0 if start is None else start
    if isinstance(start, datetime) is isinstance(end, datetime) and end is not None and not start < end:  # type: ignore[operator]
        raise FaultError(f"during is {value!r}: the start must be before the end")
    return start, end


def _parse_moment(value: object) -> Moment:
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise FaultError(f"during has {value!r}, which is not an ISO 8601 date and time") from None
    if isinstance(value, datetime):
        try:
            return from_ms(to_ms(value))
        except ValueError as error:
            raise FaultError(f"during: {error}") from None
    check_number("during", value, 0, _MAX_DURING_S)
    return cast("float", value)
