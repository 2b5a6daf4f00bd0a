"""Own what a rule says: which calls, when, what; as data, from and to JSON; know nothing of how often it has fired."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, cast

from fake_credits.clock import from_ms, to_ms
from fake_credits.contract import Operation
from fake_credits.faults.checks import FaultError, as_words, choice, number_in, shown, text_in, whole_in
from fake_credits.faults.effects import (
    ALL,
    EFFECTS,
    READS,
    WRITES,
    Close,
    Effect,
    Garbage,
    Gate,
    Hang,
    NotJson,
    Phase,
    Reset,
    Status,
    Truncate,
)
from fake_credits.faults.incoming import IncomingCall, check_where
from fake_credits.faults.stage import Ending
from fake_credits.models import Reason

__all__ = [
    "OPERATION_WORDS",
    "SCRIPT_WORDS",
    "Rule",
    "lost_response",
    "script_effect",
]

OPERATION_WORDS: Mapping[str, frozenset[Operation]] = {
    "*": ALL,
    "reads": READS,
    "writes": WRITES,
    **{operation.value: frozenset({operation}) for operation in Operation},
}
"""What ``operation`` may be, and which operations it means."""

SCRIPT_WORDS: Mapping[str, Effect | None] = {"ok": None, "reset": Reset(), "close": Close(), "hang": Hang()}
"""What an entry of a script may be, beside a status."""

_ENDINGS: Mapping[str, Effect] = {"reset": Reset(), "close": Close(), "hang": Hang()}
_LOSING = (Reset, Close, Hang, Status, NotJson, Truncate, Garbage)
_COUNT_LIMIT = 10**9
_SCRIPT_LIMIT = 10_000
_TEXT_LIMIT = 1024
_LAST_S = 10**9
_NAME = re.compile(r"[!-~]{1,64}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_HEADER_VALUE = re.compile(r"[\t -~\x80-\xff]*")
_PHASES: tuple[Phase, ...] = ("before", "after", "read", "write", "list")
_CLIENTS = ("", "server", "user")
_REASONS = ("", *(reason.value for reason in Reason))

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
        _check_what(self)
        _check_which(self)
        _check_when(self)

    @property
    def operations(self) -> frozenset[Operation]:
        """Return the operations that the rule can touch: a list of users has no user, and one operation a reason."""
        possible = OPERATION_WORDS[self.operation] & (ALL if self.effect is None else self.effect.operations)
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
        whens = (self.at, self.nth, self.first, self.every, self.after, self.times)
        return (
            not self.is_random
            and self.probability != 0
            and (bool(self.script) or any(when is not None for when in whens))
        )

    @property
    def is_random(self) -> bool:
        """Tell whether chance decides if the rule fires."""
        return self.probability is not None and 0 < self.probability < 1

    @property
    def word(self) -> str:
        """Return what the rule does, in a word."""
        return "script" if self.effect is None else self.effect.word


def lost_response(then: Effect | Ending = "reset") -> Rule:
    """Return the fault that costs real money: the write stands, and its client gets no answer, or a wrong one.

    ``then`` is ``reset``, ``close`` or ``hang``, as words or effects, or another effect that loses the answer:
    ``Status(502)``, ``NotJson()``, ``Truncate()``, ``Garbage()``. Raises FaultError for one that loses nothing.
    """
    effect = _ENDINGS.get(then) if isinstance(then, str) else then
    if not isinstance(effect, _LOSING):
        known = ", ".join(kind.word for kind in _LOSING)
        raise FaultError(f"then is {shown(then)}, by which no answer is lost: choose {known}")
    return Rule(effect=effect, operation="writes", phase="after", name="")


# ------------------------------------------------------------ checks


def _check_what(rule: Rule) -> None:
    if (rule.effect is None) is not bool(rule.script):
        raise FaultError("a rule has an effect or a script: give one of them")
    if not isinstance(rule.effect, Effect | None):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise FaultError(f"effect is {rule.effect!r}: give an effect, such as Reset() (there are {', '.join(EFFECTS)})")
    phases: tuple[Phase, ...] = ("before", "after") if rule.effect is None else rule.effect.phases
    if not rule.phase:
        object.__setattr__(rule, "phase", phases[0])
    choice("phase", rule.phase, _PHASES)
    if rule.phase not in phases:
        raise FaultError(f"phase is {rule.phase!r}, which {rule.word} does not have: choose {', '.join(phases)}")
    if rule.name and not (isinstance(rule.name, str) and _NAME.fullmatch(rule.name)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise FaultError(f"name is {rule.name!r}: a rule's name is 1 to 64 visible ASCII characters")
    if rule.name and isinstance(rule.effect, Gate):
        raise FaultError(f"name is {rule.name!r}: a rule with a gate has none of its own, its effect names the gate")


def _check_which(rule: Rule) -> None:
    if not isinstance(rule.operation, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        kind = type(rule.operation).__name__
        raise FaultError(
            f"operation is {shown(rule.operation)}, a {kind}: it must be a text, such as 'createTransaction'"
        )
    choice("operation", rule.operation, OPERATION_WORDS)
    for name in ("application", "user"):
        text_in(name, getattr(rule, name), 0, _TEXT_LIMIT)
    choice("client", rule.client, _CLIENTS)
    choice("reason", rule.reason, _REASONS)
    for name in ("operation", "client", "reason"):  # members of a StrEnum are texts that JSON's readers don't know
        object.__setattr__(rule, name, str(getattr(rule, name)))
    _check_operations(rule)
    only = "" if rule.effect is None else rule.effect.client
    if only and rule.client not in ("", only):
        raise FaultError(f"client is {rule.client!r}, but {rule.word} touches the kind {only!r} only")
    if only:
        object.__setattr__(rule, "client", only)
    object.__setattr__(rule, "header", _checked_header(rule.header))
    check_where(rule.where)


def _check_operations(rule: Rule) -> None:
    possible = ALL if rule.effect is None else rule.effect.operations
    if not OPERATION_WORDS[rule.operation] & possible:
        can = ", ".join(sorted(possible))
        raise FaultError(f"operation is {rule.operation!r}, which {rule.word} can't touch: choose {can}")
    if not rule.operations:
        what = f"user is {rule.user!r}, but listUsers has" if not rule.reason else f"reason is {rule.reason!r}, but"
        rest = " no user" if not rule.reason else f" of {rule.operation} only createTransaction could have one"
        raise FaultError(what + rest)


def _checked_header(header: object) -> dict[str, str]:
    if not isinstance(header, Mapping):
        raise FaultError(f"header is {header!r}, a {type(header).__name__}: it must map names of headers to values")
    pairs = cast("Mapping[object, object]", header)
    for name, value in pairs.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise FaultError(f"header has the name {name!r}, which no header can have (RFC 9110, section 5.6.2)")
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            raise FaultError(f"header {name} is {value!r}: a value is a text of visible Latin-1 characters and blanks")
    return dict(cast("Mapping[str, str]", pairs))


def _check_when(rule: Rule) -> None:
    for name in ("at", "nth", "first", "every", "times", "after"):
        value = getattr(rule, name)
        if value is not None:
            whole_in(name, value, 0 if name == "after" else 1, _COUNT_LIMIT)
    choice("per", rule.per, ("", "user"))
    if rule.probability is not None:
        number_in("probability", rule.probability, 0, 1)
    for name, kind in (("stack", bool | None), ("optional", bool)):
        if not isinstance(getattr(rule, name), kind):
            raise FaultError(f"{name} is {getattr(rule, name)!r}: it must be true or false")
    object.__setattr__(rule, "script", _checked_script(rule.script))
    if rule.during is not None:
        object.__setattr__(rule, "during", _checked_window(rule.during))
    _check_counts(rule)
    _check_script_fits(rule)
    _check_per(rule)
    if rule.times is None and rule.effect is not None and rule.effect.times is not None:
        object.__setattr__(rule, "times", rule.effect.times)


def _check_counts(rule: Rule) -> None:
    """Refuse counts that no call can meet: the sandbox's so-manieth exchange is at most the so-manieth that matches."""
    low, high = (rule.after or 0) + 1, min(rule.first or _COUNT_LIMIT, rule.at or _COUNT_LIMIT)
    if rule.nth is not None:
        low, high = max(low, rule.nth), min(high, rule.nth)
    every = rule.every or 1
    if -(-low // every) * every > high:
        said = _said(rule, "at", "nth", "first", "every", "after")
        raise FaultError(f"{said} exclude each other: no call is all of that")


def _check_script_fits(rule: Rule) -> None:
    """Refuse entries of a script that no call could ever meet: such a rule would always stay unused."""
    room = min(rule.times or _COUNT_LIMIT, _COUNT_LIMIT if rule.at is None and rule.nth is None else 1)
    if rule.first is not None:
        every = rule.every or 1
        room = min(room, rule.first // every - (rule.after or 0) // every)
    if len(rule.script) > room:
        said = _said(rule, "at", "nth", "first", "every", "after", "times")
        told = f"script has {len(rule.script)} entries, but with {said} no more than {room} can be played"
        raise FaultError(f"{told}: leave out the rest, or the count")


def _said(rule: Rule, *names: str) -> str:
    return as_words({name: value for name in names if (value := getattr(rule, name)) is not None})


def _check_per(rule: Rule) -> None:
    """Refuse ``per`` where there is nothing to count."""
    counts = (rule.nth, rule.first, rule.every, rule.after, rule.times)
    remembers = rule.effect is not None and (rule.effect.remembers or rule.effect.times is not None)
    if rule.per and not rule.script and not remembers and all(count is None for count in counts):
        raise FaultError("per is 'user', but the rule counts nothing: give nth, first, every, after, times or a script")


def _checked_script(script: object) -> tuple[int | str, ...]:
    if isinstance(script, str) or not isinstance(script, Sequence):
        raise FaultError(f"script is {script!r}, a {type(script).__name__}: it must be a list")
    entries = cast("Sequence[object]", script)
    if len(entries) > _SCRIPT_LIMIT:
        raise FaultError(f"script has {len(entries)} entries: it may have at most {_SCRIPT_LIMIT}")
    for entry in entries:
        known = entry in SCRIPT_WORDS if isinstance(entry, str) else type(entry) is int and 400 <= entry <= 599
        if not known:
            words = ", ".join(map(repr, SCRIPT_WORDS))
            raise FaultError(f"script has the entry {shown(entry)}: an entry is a status from 400 to 599, {words}")
    return tuple(cast("Sequence[int | str]", entries))


def _checked_window(window: object) -> tuple[Moment, Moment]:
    ends = [*cast("Sequence[object]", window)] if isinstance(window, Sequence) else []
    if len(ends) not in (1, 2) or isinstance(window, str):
        raise FaultError(f"during is {window!r}: it must be (start, end) or (start,), each a moment, seconds or None")
    # TOML has no null: (start,) is open at its end, and 0 at its start.
    start, end = _checked_moment(ends[0]), _checked_moment(ends[1]) if len(ends) > 1 else None
    start = 0 if start is None else start
    if isinstance(start, datetime) is isinstance(end, datetime) and end is not None and not start < end:  # type: ignore[operator]
        raise FaultError(f"during is {window!r}: the start must be before the end")
    return start, end


def _checked_moment(value: object) -> Moment:
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
    number_in("during", value, 0, _LAST_S)
    return cast("float", value)


def script_effect(entry: int | str) -> Effect | None:
    """Return what an entry of a script does, None for ``ok``."""
    return Status(entry) if isinstance(entry, int) else SCRIPT_WORDS[entry]
