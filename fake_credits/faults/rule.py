"""Own what a rule says: which calls, when, what; as data, from and to JSON; know nothing of how often it has fired."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Literal, cast

from fake_credits.clock import from_ms, to_ms
from fake_credits.contract import Operation
from fake_credits.faults.checks import FaultError, choice, number_in, shown, text_in, whole_in
from fake_credits.faults.effects import ALL, EFFECTS, READS, WRITES, Close, Effect, Gate, Hang, Phase, Reset, Status
from fake_credits.faults.incoming import IncomingCall, check_where
from fake_credits.faults.latency import Distribution
from fake_credits.models import Reason

__all__ = [
    "OPERATION_WORDS",
    "SCRIPT_WORDS",
    "Rule",
    "lost_response",
    "rule_from",
    "rule_to_json",
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


def lost_response(then: Effect | None = None) -> Rule:
    """Return the fault that costs real money: the write stands, and its client gets no answer, or a wrong one.

    ``then`` is ``Reset()`` unless given; ``Close()``, ``Hang()`` and ``Status(502)`` are others.
    """
    return Rule(effect=then or Reset(), operation="writes", phase="after", name="")


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
    if rule.times is None and rule.effect is not None and rule.effect.times is not None:
        object.__setattr__(rule, "times", rule.effect.times)


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


# ------------------------------------------------------------ JSON


def rule_to_json(rule: Rule) -> dict[str, Any]:
    """Return a rule as JSON has it; a function is told by its name, and `rule_from` refuses that."""
    told = {"effect": rule.word, **_told(rule.effect)} if rule.effect is not None else {}
    own = _told(rule)
    own.pop("effect", None)
    if rule.where is not None:
        own["where"] = getattr(rule.where, "__qualname__", repr(rule.where))
    # An effect's attributes stand beside the rule's. Only the name of a gate has a namesake, and its rule has no name.
    return {**told, **own}


def _told(thing: Any) -> dict[str, Any]:
    return {
        spec.name: _jsonable(value) for spec in fields(thing) if (value := getattr(thing, spec.name)) != _default(spec)
    }


def _default(spec: "Field[Any]") -> Any:
    return spec.default_factory() if spec.default_factory is not MISSING else spec.default


def _jsonable(value: object) -> object:
    if isinstance(value, tuple):
        # An open end is left out: TOML has no null.
        return [_jsonable(part) for part in cast("tuple[object, ...]", value) if part is not None]
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, object]", value))
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Distribution) else value


_WORDS = tuple(spec.name for spec in fields(Rule) if spec.name != "effect")


def rule_from(told: object, **words: Any) -> Rule:
    """Return a rule from itself, an effect, or an object of JSON, with more words of `Rule`.

    Raises FaultError for an effect, an attribute or a value that there is not.
    """
    for name in words:
        if name not in _WORDS:
            raise FaultError(f"{name!r} is no word of a rule (it has: {', '.join(_WORDS)})")
    if isinstance(told, Rule):
        return replace(told, **words) if words else told
    if isinstance(told, Effect):
        return Rule(effect=told, **words)
    if not isinstance(told, Mapping):
        raise FaultError(f"a rule is {told!r}, a {type(told).__name__}: give an effect, a Rule or an object of JSON")
    effect, own = _read({str(name): value for name, value in cast("Mapping[object, object]", told).items()})
    return Rule(effect=effect, **{**own, **words})


def _read(members: dict[str, Any]) -> tuple[Effect | None, dict[str, Any]]:
    """Return an effect and the words of its rule."""
    if "where" in members:
        raise FaultError("where is a function: such a rule can be declared in Python only")
    kind = _kind(members)
    known = () if kind is None else _attributes(kind)
    own = {name: value for name, value in members.items() if name in _WORDS and name not in known}
    rest = {name: value for name, value in members.items() if name not in own}
    for name in rest:
        if name not in known:
            raise FaultError(f"{name!r} is no attribute of {_shown(kind)} nor of a rule ({', '.join(_WORDS)})")
    return None if kind is None else _effect(kind, rest), own


def _attributes(kind: type[Effect]) -> tuple[str, ...]:
    return tuple(spec.name for spec in fields(cast("Any", kind)))


def _shown(kind: type[Effect] | None) -> str:
    return "a script" if kind is None else f"{kind.word} (it has: {', '.join(_attributes(kind)) or 'none'})"


def _kind(members: dict[str, Any]) -> type[Effect] | None:
    """Take an effect's word from what is told, and return its class, or None for a script."""
    word = members.pop("effect", None)
    if word is not None:
        choice("effect", word, EFFECTS)
        return EFFECTS[word]
    if not members.get("script"):
        raise FaultError(f"effect is missing: choose {', '.join(EFFECTS)}, or give a script")
    return None


def _effect(kind: type[Effect], members: dict[str, Any]) -> Effect:
    for spec in fields(cast("Any", kind)):
        if _default(spec) is MISSING and spec.name not in members:
            raise FaultError(f"{spec.name} is missing: {kind.word} needs it")
    return kind(**members)
