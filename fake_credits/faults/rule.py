"""Own what a rule says: which calls, when, what; as data, from and to JSON; know nothing of how often it has fired."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, cast

from fake_credits.clock import from_ms, to_ms
from fake_credits.contract import Operation
from fake_credits.faults.checks import (
    FaultError,
    check_choice,
    check_int,
    check_number,
    check_text,
    format_kwargs,
    short_repr,
)
from fake_credits.faults.context import IncomingCall, check_where
from fake_credits.faults.deliveries import CloseMode
from fake_credits.faults.effects import (
    ALL_OPERATIONS,
    EFFECTS,
    READ_OPERATIONS,
    WRITE_OPERATIONS,
    Close,
    Effect,
    Garbage,
    Hang,
    HoldAtGate,
    NotJson,
    Phase,
    Reset,
    Status,
    Truncate,
)
from fake_credits.models import Reason

__all__ = [
    "OPERATIONS_BY_NAME",
    "SCRIPT_ACTIONS",
    "Rule",
    "check_without_connection",
    "effect_for_script_entry",
    "lost_response",
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

_EFFECT_BY_CLOSE_MODE: Mapping[str, Effect] = {"reset": Reset(), "close": Close(), "hang": Hang()}
_RESPONSE_LOSING_EFFECTS = (Reset, Close, Hang, Status, NotJson, Truncate, Garbage)
_MAX_COUNT = 10**9
_MAX_SCRIPT_ENTRIES = 10_000
_MAX_ID_CHARS = 1024
_MAX_DURING_S = 10**9
_RULE_NAME_PATTERN = re.compile(r"[!-~]{1,64}")
_HEADER_NAME_PATTERN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_HEADER_VALUE_PATTERN = re.compile(r"[\t -~\x80-\xff]*")
_PHASES: tuple[Phase, ...] = ("before", "after", "read", "write", "list")
_CLIENT_KINDS = ("", "server", "user")
_REASON_CHOICES = ("", *(reason.value for reason in Reason))

Moment = datetime | float | None


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Say which calls, when, and what.

    Which, all that are given: ``operation`` (its name, ``reads``, ``writes`` or ``*``), ``application``, ``user``,
    ``client`` (``server`` or ``user``), ``reason``, ``header`` (names to values), ``where`` (a function of an
    `IncomingCall`; where it raises, the call gets a 500 and the test fails).

    When, all that are given: ``at`` the sandbox's so-manieth exchange; of those that match, the ``nth``, the ``first``
    so many, ``every`` so-manieth, ``after`` so many, ``times`` at most; ``script``, one entry a call: a status, ``ok``,
    ``reset``, ``close`` or ``hang``; with a ``probability``; ``during`` (start, end) on the sandbox's clock: aware
    datetimes, or seconds since the sandbox started; None is open, and calls outside do not match. ``per="user"`` counts
    each user's calls apart.

    What: an ``effect`` at a ``phase``, by default its first. ``stack`` lets the rules behind be tried too. A scripted
    rule that stayed unused fails the test unless it is ``optional``.

    Raises FaultError, naming the field and what it may be.
    """

    effect: Effect | None = None
    operation: str = "*"
    phase: Phase | Literal[""] = ""
    application: str = ""
    user: str = ""
    client: str = ""
    reason: str = ""
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
        _check_criteria(self)
        _check_schedule(self)

    @property
    def operations(self) -> frozenset[Operation]:
        """Return the operations that the rule can touch: a list of users has no user, and one operation a reason."""
        possible = OPERATIONS_BY_NAME[self.operation] & (
            ALL_OPERATIONS if self.effect is None else self.effect.operations
        )
        if self.user:
            possible -= {Operation.LIST_USERS}
        return possible & {Operation.CREATE_TRANSACTION} if self.reason else possible

    @property
    def stacks(self) -> bool:
        """Tell whether the rules behind are tried too."""
        return (self.effect is not None and self.effect.stacks) if self.stack is None else self.stack

    @property
    def is_scripted(self) -> bool:
        """Tell whether it is said exactly when the rule fires, so that never to fire is a mistake."""
        conditions = (self.at, self.nth, self.first, self.every, self.after, self.times)
        return (
            not self.is_random
            and self.probability != 0
            and (bool(self.script) or any(condition is not None for condition in conditions))
        )

    @property
    def is_random(self) -> bool:
        """Tell whether chance decides if the rule fires."""
        return self.probability is not None and 0 < self.probability < 1

    @property
    def word(self) -> str:
        """Return what the rule does, in a word."""
        return "script" if self.effect is None else self.effect.effect_name


def lost_response(then: Effect | CloseMode = "reset") -> Rule:
    """Return the fault that costs real money: the write stands, and its client gets no answer, or a wrong one.

    ``then`` is ``reset``, ``close`` or ``hang``, as words or effects, or another effect that loses the answer:
    ``Status(502)``, ``NotJson()``, ``Truncate()``, ``Garbage()``. Raises FaultError for one that loses nothing.
    """
    effect = _EFFECT_BY_CLOSE_MODE.get(then) if isinstance(then, str) else then
    if not isinstance(effect, _RESPONSE_LOSING_EFFECTS):
        allowed = ", ".join(effect_type.effect_name for effect_type in _RESPONSE_LOSING_EFFECTS)
        raise FaultError(f"then is {short_repr(then)}, by which no answer is lost: choose {allowed}")
    return Rule(effect=effect, operation="writes", phase="after", name="")


# ------------------------------------------------------------ checks


def _check_action(rule: Rule) -> None:
    if (rule.effect is None) is not bool(rule.script):
        raise FaultError("a rule has an effect or a script: give one of them")
    if not isinstance(rule.effect, Effect | None):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise FaultError(f"effect is {rule.effect!r}: give an effect, such as Reset() (there are {', '.join(EFFECTS)})")
    phases: tuple[Phase, ...] = ("before", "after") if rule.effect is None else rule.effect.phases
    if not rule.phase:
        object.__setattr__(rule, "phase", phases[0])
    check_choice("phase", rule.phase, _PHASES)
    if rule.phase not in phases:
        raise FaultError(f"phase is {rule.phase!r}, which {rule.word} does not have: choose {', '.join(phases)}")
    if rule.name and not (isinstance(rule.name, str) and _RULE_NAME_PATTERN.fullmatch(rule.name)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise FaultError(f"name is {rule.name!r}: a rule's name is 1 to 64 visible ASCII characters")
    if rule.name and isinstance(rule.effect, HoldAtGate):
        raise FaultError(f"name is {rule.name!r}: a rule with a gate has none of its own, its effect names the gate")


def _check_criteria(rule: Rule) -> None:
    if not isinstance(rule.operation, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        type_name = type(rule.operation).__name__
        raise FaultError(
            f"operation is {short_repr(rule.operation)}, a {type_name}: it must be a text, such as 'createTransaction'"
        )
    check_choice("operation", rule.operation, OPERATIONS_BY_NAME)
    for name in ("application", "user"):
        check_text(name, getattr(rule, name), 0, _MAX_ID_CHARS)
    check_choice("client", rule.client, _CLIENT_KINDS)
    check_choice("reason", rule.reason, _REASON_CHOICES)
    for name in ("operation", "client", "reason"):  # members of a StrEnum are texts that JSON's readers don't know
        object.__setattr__(rule, name, str(getattr(rule, name)))
    _check_operations(rule)
    required_client = "" if rule.effect is None else rule.effect.only_client
    if required_client and rule.client not in ("", required_client):
        raise FaultError(f"client is {rule.client!r}, but {rule.word} touches the kind {required_client!r} only")
    if required_client:
        object.__setattr__(rule, "client", required_client)
    object.__setattr__(rule, "header", _validate_header(rule.header))
    check_where(rule.where)


def _check_operations(rule: Rule) -> None:
    possible = ALL_OPERATIONS if rule.effect is None else rule.effect.operations
    if not OPERATIONS_BY_NAME[rule.operation] & possible:
        choices = ", ".join(sorted(possible))
        raise FaultError(f"operation is {rule.operation!r}, which {rule.word} can't touch: choose {choices}")
    if not rule.operations:
        problem = f"user is {rule.user!r}, but listUsers has" if not rule.reason else f"reason is {rule.reason!r}, but"
        explanation = " no user" if not rule.reason else f" of {rule.operation} only createTransaction could have one"
        raise FaultError(problem + explanation)


def _validate_header(header: object) -> dict[str, str]:
    if not isinstance(header, Mapping):
        raise FaultError(f"header is {header!r}, a {type(header).__name__}: it must map names of headers to values")
    headers = cast("Mapping[object, object]", header)
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME_PATTERN.fullmatch(name):
            raise FaultError(f"header has the name {name!r}, which no header can have (RFC 9110, section 5.6.2)")
        if not isinstance(value, str) or not _HEADER_VALUE_PATTERN.fullmatch(value):
            raise FaultError(f"header {name} is {value!r}: a value is a text of visible Latin-1 characters and blanks")
    return dict(cast("Mapping[str, str]", headers))


def _check_schedule(rule: Rule) -> None:
    for name in ("at", "nth", "first", "every", "times", "after"):
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
    _check_script_length(rule)
    _check_per(rule)
    if rule.times is None and rule.effect is not None and rule.effect.times is not None:
        object.__setattr__(rule, "times", rule.effect.times)


def _check_counts(rule: Rule) -> None:
    """Refuse counts that no call can meet: the sandbox's so-manieth exchange is at most the so-manieth that matches."""
    lowest, highest = (rule.after or 0) + 1, min(rule.first or _MAX_COUNT, rule.at or _MAX_COUNT)
    if rule.nth is not None:
        lowest, highest = max(lowest, rule.nth), min(highest, rule.nth)
    every = rule.every or 1
    if -(-lowest // every) * every > highest:
        counts = _format_set_fields(rule, "at", "nth", "first", "every", "after")
        raise FaultError(f"{counts} exclude each other: no call is all of that")


def _check_script_length(rule: Rule) -> None:
    """Refuse entries of a script that no call could ever meet: such a rule would always stay unused."""
    max_entries = min(rule.times or _MAX_COUNT, _MAX_COUNT if rule.at is None and rule.nth is None else 1)
    if rule.first is not None:
        every = rule.every or 1
        max_entries = min(max_entries, rule.first // every - (rule.after or 0) // every)
    if len(rule.script) > max_entries:
        counts = _format_set_fields(rule, "at", "nth", "first", "every", "after", "times")
        problem = f"script has {len(rule.script)} entries, but with {counts} no more than {max_entries} can be played"
        raise FaultError(f"{problem}: leave out the rest, or the count")


def _format_set_fields(rule: Rule, *names: str) -> str:
    return format_kwargs({name: value for name in names if (value := getattr(rule, name)) is not None})


def _check_per(rule: Rule) -> None:
    """Refuse ``per`` where there is nothing to count."""
    counts = (rule.nth, rule.first, rule.every, rule.after, rule.times)
    effect_counts = rule.effect is not None and (rule.effect.counts_passes or rule.effect.times is not None)
    if rule.per and not rule.script and not effect_counts and all(count is None for count in counts):
        raise FaultError("per is 'user', but the rule counts nothing: give nth, first, every, after, times or a script")


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
            raise FaultError(f"during has {value!r}, which is no ISO 8601 date and time") from None
    if isinstance(value, datetime):
        try:
            return from_ms(to_ms(value))
        except ValueError as error:
            raise FaultError(f"during: {error}") from None
    check_number("during", value, 0, _MAX_DURING_S)
    return cast("float", value)


def effect_for_script_entry(entry: int | str) -> Effect | None:
    """Return what an entry of a script does, None for ``ok``."""
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
