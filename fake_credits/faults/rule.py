"""Fault rules as plain data (which calls, when, and what happens), and the call that they are matched against."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from functools import cache
from inspect import iscoroutinefunction, signature
from typing import Literal, NamedTuple, cast

from fake_credits.clock import from_ms, to_ms
from fake_credits.contract import Operation
from fake_credits.contract.types import OPERATIONS_BY_NAME, OperationSelector, normalize_operation
from fake_credits.faults.effects import EFFECTS
from fake_credits.faults.effects.base import (
    Effect,
    FaultError,
    FaultValue,
    Phase,
    check_choice,
    check_int,
    check_number,
    check_text,
    format_kwargs,
    invalid_value,
    join_choices,
)
from fake_credits.faults.effects.connection import Close, Hang, Reset
from fake_credits.faults.effects.responses import Status
from fake_credits.faults.effects.timing import HoldAtGate
from fake_credits.models import Reason

DEFAULT_LATENCY_NAME = "latency"
"""The name of the default latency's rules."""

SCRIPT_ACTIONS: Mapping[str, Effect | None] = {"ok": None, "reset": Reset(), "close": Close(), "hang": Hang()}
"""The script entries other than statuses, each with its effect (None for no effect)."""

_COUNTS = ("at", "nth", "first", "every", "after", "times")
_MAX_COUNT = 10**9
_MAX_SCRIPT_ENTRIES = 10_000
_MAX_ID_CHARS = 1024
_MAX_DURING_S = 10**9
_RULE_NAME_PATTERN = re.compile(r"[!-~]{1,64}")
_HEADER_NAME_PATTERN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_HEADER_VALUE_PATTERN = re.compile(r"[\t -~\x80-\xff]*")

Moment = datetime | str | float | None


class RequestHeaders(Mapping[str, str]):
    """A request's headers as strings (Latin-1), with lower-case names; lookups ignore case."""

    __slots__ = ("_raw_headers",)

    def __init__(self, raw_headers: Mapping[bytes, bytes]) -> None:
        self._raw_headers = raw_headers

    def __repr__(self) -> str:
        return f"<RequestHeaders: {', '.join(self) or 'none'}>"

    def __getitem__(self, name: str) -> str:
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance] - bytes, as in ASGI
            raise TypeError(f"header names must be strings, not {type(name).__name__}")
        return self._raw_headers[name.lower().encode("utf-8", "replace")].decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._raw_headers)

    def __len__(self) -> int:
        return len(self._raw_headers)


class IncomingCall(NamedTuple):
    """A call that rules are matched against, before it is executed.

    ``ordinal`` is the call's number among the sandbox's exchanges, counted from 1. ``fields`` are the headers as bytes,
    with lower-case names. ``reason`` is empty if the body has no valid reason, and ``delta`` is None if it has no valid
    delta.
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
        """Return the headers as strings, with case-insensitive names: ``call.headers.get("X-Tenant") == "acme"``."""
        return RequestHeaders(self.fields)


class _Script(Effect):
    """A placeholder for the effect of a rule that has a script."""


_SCRIPT = _Script()


@dataclass(frozen=True, repr=False)
class Rule(FaultValue):
    """A fault: which calls it hits, when, and what happens to them.

    Which calls (all criteria must match): ``operation`` (an operation's name, ``reads``, ``writes`` or ``*``),
    ``application``, ``user``, ``client`` (``server`` or ``user``), ``reason``, ``header`` (names mapped to values),
    ``where`` (a function that takes an `IncomingCall`; if it raises, the call gets a 500 and the test fails).

    When (all conditions must hold): ``at`` limits the rule to the sandbox's exchange with that number, counted from 1.
    Of the matching calls, the rule fires for the ``nth``, for the ``first`` n, for ``every`` nth or for those ``after``
    the first n, but at most ``times`` times. ``script`` has one entry per call: a status, ``ok``, ``reset``, ``close``
    or ``hang``. ``probability`` is from 0 to 1. ``during`` is a period on the sandbox's clock: its start and end, as
    aware datetimes, ISO 8601 strings, or seconds since the sandbox started. A bound of None leaves that side open, and
    calls outside the period don't match. ``per="user"`` counts each user's calls separately.

    What: an ``effect`` in a ``phase``, by default the effect's first phase. With ``stack``, the following rules are
    tried too. A rule that stays unused fails the test, unless it is ``optional`` or depends on chance.

    Raises FaultError for an invalid field, naming it and its allowed values.
    """

    effect: Effect | None = None
    _: KW_ONLY
    operation: OperationSelector = "*"
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
        check_choice("phase", self.phase, action.phases, of=f" for {self.word}")
        _check_criteria(self)
        _check_schedule(self)

    @property
    def operations(self) -> frozenset[Operation]:
        """Return the operations that the rule can affect.

        A rule with a user can't affect listUsers, and one with a reason can affect only createTransaction.
        """
        possible = OPERATIONS_BY_NAME[self.operation] & _action_of(self).operations
        if self.user:
            possible -= {Operation.LIST_USERS}
        return possible & {Operation.CREATE_TRANSACTION} if self.reason else possible

    @property
    def stacks(self) -> bool:
        """Return whether the following rules are tried too if this one fires."""
        return _action_of(self).stacks if self.stack is None else self.stack

    @property
    def is_scripted(self) -> bool:
        """Return whether the rule has a script or a count such as ``nth``, can fire, and does not depend on chance."""
        return self.is_certain and bool(self.script or _counts_of(self))

    @property
    def is_certain(self) -> bool:
        """Return whether the rule can fire and does not depend on chance."""
        return not self.is_random and self.probability != 0

    @property
    def is_random(self) -> bool:
        """Return whether the rule fires at random."""
        return self.probability is not None and 0 < self.probability < 1

    @property
    def word(self) -> str:
        """Return the effect's name as written in scenario files, or ``script`` if the rule has a script."""
        return _action_of(self).effect_name


def _action_of(rule: Rule) -> Effect:
    return rule.effect or _SCRIPT


@cache
def effect_for_script_entry(entry: int | str) -> Effect | None:
    """Return the effect of a script entry, or None for ``ok``."""
    return Status(entry) if isinstance(entry, int) else SCRIPT_ACTIONS[entry]


def check_without_connection(rule: Rule) -> None:
    """Raise FaultError if an effect of the rule needs more control over the connection than ASGI offers."""
    for effect in (rule.effect, *map(effect_for_script_entry, rule.script)):
        if effect is not None and effect.needs_connection:
            place = "script has" if rule.script else "effect is"
            raise FaultError(
                f"{place} {effect.effect_name!r}, which ASGI can't produce: "
                "use the live server (FakeCredits(mode='live') or fake-credits serve)"
            )


# ------------------------------------------------------------ checks


def _check_action(rule: Rule) -> None:
    if not isinstance(rule.effect, Effect | None):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise invalid_value(
            "effect", rule.effect, f"it must be an effect, such as Reset() (effects: {', '.join(EFFECTS)})"
        )
    if rule.effect is None and not rule.script:
        raise FaultError("a rule needs an effect or a script")
    if rule.effect is not None and rule.script:
        raise FaultError("a rule has either an effect or a script, not both")
    if rule.name and not (isinstance(rule.name, str) and _RULE_NAME_PATTERN.fullmatch(rule.name)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise invalid_value("name", rule.name, "it must be 1 to 64 visible ASCII characters")
    if rule.name and isinstance(rule.effect, HoldAtGate):
        raise FaultError(f"name is {rule.name!r}, but a rule with HoldAtGate is named after its gate")


def _check_criteria(rule: Rule) -> None:
    object.__setattr__(rule, "operation", normalize_operation(rule.operation))
    check_choice("operation", rule.operation, OPERATIONS_BY_NAME)
    for name in ("application", "user"):
        check_text(name, getattr(rule, name), 0, _MAX_ID_CHARS)
    check_choice("client", rule.client, ("", "server", "user"))
    check_choice("reason", rule.reason, ("", *Reason))
    for name in ("operation", "client", "reason"):  # convert StrEnum members to plain strings, as if loaded from JSON
        object.__setattr__(rule, name, str(getattr(rule, name)))
    action = _action_of(rule)
    if not OPERATIONS_BY_NAME[rule.operation] & action.operations:
        choices = join_choices(sorted(action.operations))
        raise FaultError(f"operation is {rule.operation!r}, but {rule.word} can affect only {choices}")
    if not rule.operations and rule.reason:
        raise FaultError(f"reason is {rule.reason!r}, but only createTransaction has a reason")
    if not rule.operations:
        raise FaultError(f"user is {rule.user!r}, but listUsers has no user")
    if action.only_client not in ("", rule.client):
        raise FaultError(
            f"client is {rule.client!r}, but this {rule.word!r} effect applies only to {action.only_client!r} clients"
        )
    object.__setattr__(rule, "header", _validate_header(rule.header))
    _check_where(rule.where)


def _check_where(where: object) -> None:
    if where is None:
        return
    if not callable(where) or iscoroutinefunction(where):
        raise invalid_value("where", where, "it must be a non-async function that takes a call")
    try:
        bind_arguments: Callable[[object], object] = signature(where).bind
    except (TypeError, ValueError):
        return  # a C function without a signature
    try:
        bind_arguments(None)
    except TypeError as error:
        raise invalid_value("where", where, f"it must be a function with one argument, the call ({error})") from None


def _validate_header(header: object) -> dict[str, str]:
    if not isinstance(header, Mapping):
        raise invalid_value("header", header, "it must map header names to values")
    for name, value in cast("Mapping[object, object]", header).items():
        if not isinstance(name, str) or not _HEADER_NAME_PATTERN.fullmatch(name):
            raise FaultError(f"header has {name!r}, which is not a valid header name (RFC 9110, section 5.6.2)")
        if not isinstance(value, str) or not _HEADER_VALUE_PATTERN.fullmatch(value):
            raise invalid_value(
                f"header {name}", value, "it must be a string of visible Latin-1 characters, spaces and tabs"
            )
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
            raise invalid_value(name, getattr(rule, name), "it must be true or false")
    object.__setattr__(rule, "script", _validate_script(rule.script))
    if rule.during is not None:
        object.__setattr__(rule, "during", _parse_during(rule.during))
    _check_counts(rule)
    if rule.per and not (rule.script or _action_of(rule).counts_passes or _counts_of(rule).keys() - {"at"}):
        raise FaultError("per is 'user', but the rule counts nothing: add nth, first, every, after, times or a script")


def _check_counts(rule: Rule) -> None:
    """Reject counts that no call can satisfy, and script entries that can never be used.

    By the sandbox's nth exchange, a rule has matched at most n calls, so ``at`` limits the other counts too.
    """
    every, counts = rule.every or 1, _counts_of(rule)
    lowest, highest = (rule.after or 0) + 1, min(rule.first or _MAX_COUNT, rule.at or _MAX_COUNT)
    if rule.nth is not None:
        lowest, highest = max(lowest, rule.nth), min(highest, rule.nth)
    if -(-lowest // every) * every > highest:
        counts.pop("times", None)
        raise FaultError(f"{format_kwargs(counts, ' and ')} can never match the same call")
    max_entries = min(rule.times or _MAX_COUNT, _MAX_COUNT if rule.at is None and rule.nth is None else 1)
    if rule.first is not None:
        max_entries = min(max_entries, rule.first // every - (rule.after or 0) // every)
    if len(rule.script) > max_entries:
        limits = format_kwargs(counts, " and ")
        raise FaultError(f"script has {len(rule.script)} entries, but with {limits}, at most {max_entries} can be used")


def _counts_of(rule: Rule) -> dict[str, int]:
    return {name: value for name in _COUNTS if (value := getattr(rule, name)) is not None}


def _validate_script(script: object) -> tuple[int | str, ...]:
    if isinstance(script, str) or not isinstance(script, Sequence):
        raise invalid_value("script", script, "it must be a list")
    entries = cast("Sequence[object]", script)
    if len(entries) > _MAX_SCRIPT_ENTRIES:
        raise FaultError(f"script has {len(entries)} entries: at most {_MAX_SCRIPT_ENTRIES} are allowed")
    for entry in entries:
        is_valid = entry in SCRIPT_ACTIONS if isinstance(entry, str) else type(entry) is int and 400 <= entry <= 599
        if not is_valid:
            actions = join_choices(SCRIPT_ACTIONS)
            raise invalid_value("a script entry", entry, f"it must be a status from 400 to 599, {actions}")
    return tuple(cast("Sequence[int | str]", entries))


def _parse_during(value: object) -> tuple[Moment, Moment]:
    bounds = [*cast("Sequence[object]", value)] if isinstance(value, Sequence) else []
    if len(bounds) not in (1, 2) or isinstance(value, str):
        expected = "a start and, optionally, an end, as times with a time zone or as seconds since the sandbox started"
        raise FaultError(f"during is {value!r}: it must be {expected}")
    # TOML has no null: (start,) leaves the end open, and a start of 0 means the sandbox's start.
    start, end = _parse_moment(bounds[0]), _parse_moment(bounds[1]) if len(bounds) > 1 else None
    start = 0 if start is None else start
    if isinstance(start, datetime) is isinstance(end, datetime) and end is not None and not start < end:  # type: ignore[operator]
        raise FaultError(f"during is {value!r}: the start must be before the end")
    return start, end


def _parse_moment(value: object) -> Moment:
    if value is None:
        return None
    if isinstance(value, str | datetime):
        try:
            return from_ms(to_ms(value))
        except ValueError as error:
            raise FaultError(f"during: {error}") from None
    check_number("during", value, 0, _MAX_DURING_S)
    return cast("float", value)
