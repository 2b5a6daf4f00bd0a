"""Schedules: the faults of one run and the calls that they are injected at, as values and as text.

In the text, a colon separates each call from its fault. A call is written as its number in the fault-free run
(``2:lost_after``) or as a description (``listTransactions ada #2:refused``). ``+`` joins the faults of a schedule.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, cast

from fake_credits.contract import Operation
from fake_credits.contract.types import READ_OPERATIONS, WRITE_OPERATIONS
from fake_credits.errors import did_you_mean
from fake_credits.faults.declarations import call_hint, rule_from, rule_to_json
from fake_credits.faults.effects import Hang, NotJson, Reset, StaleRead, Status
from fake_credits.faults.effects.base import Effect, FaultError
from fake_credits.faults.rule import Rule

_ANONYMOUS = "\0"  # no id contains a control character
_OPERATION_NAMES = tuple(operation.value for operation in Operation)
_REASONS = ("consume", "grant", "refund")
_PLAIN_ID = re.compile(r"[^\s\"+:#@\\][^\s\"+:#\\]*")
_TOKEN = re.compile(r"\s*(@?\"(?:[^\"\\]|\\.)*\"|[^\s\"+:]+)")
_ANONYMOUS_ID = re.compile(r"id#([1-9]\d{0,8})")
_OTHER_RULE_FIELDS = frozenset(field.name for field in fields(Rule)) - {"client", "effect", "phase", "script"}
_EXAMPLE = "a schedule looks like '2:lost_after' or 'createTransaction ada -10 #2:refused'"


class ScheduleError(ValueError):
    """A schedule that is invalid or can't be run."""


class CallKey(NamedTuple):
    """A key that identifies a call independently of its position, which depends on other calls.

    ``occurrence`` counts otherwise identical calls, from 1. ``application`` is empty for the default application. In a
    schedule written by a user, a field that is empty or None matches anything.
    """

    operation: str
    application: str = ""
    user: str = ""
    delta: int | None = None
    reason: str = ""
    occurrence: int = 1

    def matches(self, other: "CallKey") -> bool:
        """Return whether this key matches ``other``; empty fields of this key match anything."""
        return all(wanted in ("", None, actual) for wanted, actual in zip(self, other, strict=True))

    @property
    def label(self) -> str:
        """Return the call as text, without its reason and occurrence."""
        return _join(
            self.operation,
            _display_id(self.user),
            self.application and f"@{_display_id(self.application)}",
            "" if self.delta is None else str(self.delta),
        )

    def __str__(self) -> str:
        """Return the call as it is written in a schedule."""
        return _join(self.label, self.reason, f"#{self.occurrence}" if self.occurrence > 1 else "")


def _join(*parts: str) -> str:
    return " ".join(filter(None, parts))


def anonymous_id(number: int) -> str:
    """Return the numbered placeholder for an id that differs from run to run."""
    return f"{_ANONYMOUS}{number}"


def _display_id(value: str) -> str:
    if value.startswith(_ANONYMOUS):
        return f"id#{value[1:]}"
    return value if _PLAIN_ID.fullmatch(value) or not value else json.dumps(value)


@dataclass(frozen=True, slots=True)
class CallFault:
    """A fault that is injected at one call or, if it ``lasts``, at all calls from that one on.

    ``label`` is its column heading in reports.
    """

    name: str
    rule: Rule
    label: str = ""
    lasts: bool = False

    def applies_to(self, operation: str) -> bool:
        """Return whether the fault can be injected at calls to an operation."""
        return operation in self.rule.operations


FAULTS: Mapping[str, CallFault] = {
    fault.name: fault
    for fault in (
        CallFault("refused", Rule(Status(503), name="refused"), "refused"),
        CallFault("lost_before", Rule(Reset(), phase="before", name="lost_before"), "lost before"),
        CallFault("lost_after", Rule(Reset(), operation="writes", phase="after", name="lost_after"), "lost after"),
        CallFault("unreadable", Rule(NotJson(), phase="after", name="unreadable"), "unreadable"),
        CallFault("silent", Rule(Hang(), phase="before", name="silent"), "silent"),
        CallFault("silent_after", Rule(Hang(), operation="writes", phase="after", name="silent_after"), "silent after"),
        CallFault("down", Rule(Status(503), name="down"), "down from here", lasts=True),
        CallFault("stale", Rule(StaleRead(by_writes=1), name="stale"), "stale"),
    )
}
"""All named faults; ``stale`` is injected only on request."""

MIN_FAULT_SIMILARITY = 0.5
"""The minimum similarity at which a fault is suggested for a typo: ``lost`` is similar enough to ``lost_after``."""

UNSENT_TWINS = {"lost_after": "lost_before", "silent_after": "silent"}
"""Maps faults after the commit to the faults before it that look the same to the application."""


def sort_faults(names: Iterable[str]) -> list[str]:
    """Return the names of faults in the order of a report's columns, starting with those in `FAULTS`."""
    order = {name: position for position, name in enumerate(FAULTS)}
    return sorted(names, key=lambda name: (order.get(name, len(order)), name))


WRITES = frozenset(map(str, WRITE_OPERATIONS))
READS = frozenset(map(str, READ_OPERATIONS))


class Injection(NamedTuple):
    """A fault at a call, which is identified by its key or by its number among the application's calls, from 1."""

    call: CallKey | int
    fault: CallFault


Schedule = tuple[Injection, ...]


def format_schedule(schedule: Sequence[Injection], numbers: Mapping[CallKey, int] | None = None) -> str:
    """Return a schedule as text, with each call of the fault-free run written as its number."""
    parts: list[str] = []
    for call, fault in schedule:
        number = call if isinstance(call, int) else (numbers or {}).get(call, 0)
        parts.append(f"{number or call}:{fault.name}")
    return "+".join(parts)


def parse_fault(source: object) -> CallFault:
    """Return the fault for a name, an effect, a rule, or a rule as a JSON object.

    Raises ScheduleError for anything else, and for a rule that sets more than an effect and its phase.
    """
    if isinstance(source, str):
        if source in FAULTS:
            return FAULTS[source]
        hint = did_you_mean(source, FAULTS, min_similarity=MIN_FAULT_SIMILARITY)
        raise ScheduleError(f"unknown fault {source!r}{hint} (use one of {', '.join(FAULTS)})")
    if not isinstance(source, Effect | Mapping | Rule):
        raise ScheduleError(
            f"invalid fault {source!r:.200}: it must be a name, an effect, a Rule or a JSON object{call_hint(source)}"
        )
    try:
        rule = rule_from(cast("object", source))
    except FaultError as error:
        raise ScheduleError(f"invalid fault {source!r:.200}: {error}") from None
    members = {name: value for name, value in rule_to_json(rule).items() if name != "client"}  # implied by the effect
    if extra := sorted(members.keys() & _OTHER_RULE_FIELDS):
        raise ScheduleError(
            f"invalid fault {source!r:.200}: {extra[0]} is not allowed; only an effect, its arguments and a phase are"
        )
    if "script" in members:
        raise ScheduleError(f"invalid fault {source!r:.200}: a script is not allowed in a schedule")
    return CallFault(json.dumps(members, separators=(",", ":")), rule, str(rule.effect))


def parse_schedule(text: str) -> Schedule:
    """Parse a schedule; raise ScheduleError if it is invalid."""
    reader = _Reader(text)
    injections = [reader.read_injection()]
    while not reader.is_at_end:
        reader.expect("+")
        injections.append(reader.read_injection())
    return tuple(injections)


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    @property
    def is_at_end(self) -> bool:
        return not self._text[self._position :].strip()

    def fail(self, problem: str) -> ScheduleError:
        return ScheduleError(f"invalid schedule {self._text!r:.200}: {problem} ({_EXAMPLE})")

    def expect(self, char: str) -> None:
        rest = self._text[self._position :].lstrip()
        if not rest.startswith(char):
            raise self.fail(f"expected {char!r} at {rest[:20]!r}" if rest else f"expected {char!r} at the end")
        self._position = len(self._text) - len(rest) + 1

    def read_injection(self) -> Injection:
        call = self._read_call()
        self.expect(":")
        return Injection(call, self._read_fault())

    def _next_token(self) -> str:
        match = _TOKEN.match(self._text, self._position)
        if match is None:
            return ""
        self._position = match.end()
        return match[1]

    def _read_call(self) -> CallKey | int:
        tokens: list[str] = []
        while token := self._next_token():
            tokens.append(token)
        if not tokens:
            raise self.fail("a call is missing")
        if tokens[0].isdecimal():
            if len(tokens) > 1 or not 0 < int(tokens[0][:9]) < 10**8:
                raise self.fail(f"{' '.join(tokens)!r} is not a call number (1 or higher)")
            return int(tokens[0])
        return self._parse_key(tokens)

    def _parse_key(self, tokens: list[str]) -> CallKey:
        operation, *rest = tokens
        if operation not in _OPERATION_NAMES:
            hint = did_you_mean(operation, _OPERATION_NAMES)
            raise self.fail(f"{operation!r} is neither an operation nor a number{hint}")
        members: dict[str, Any] = {"operation": operation}
        if rest and operation != Operation.LIST_USERS.value and not rest[0].startswith("@"):
            members["user"] = self._parse_id(rest.pop(0))
        for token in rest:
            name, value = self._parse_detail(token)
            if name in members:
                raise self.fail(f"{token!r} sets the {name} a second time")
            members[name] = value
        return CallKey(**members)

    def _parse_detail(self, token: str) -> tuple[str, object]:
        if token.startswith("@"):
            return "application", self._parse_id(token[1:])
        if token in _REASONS:
            return "reason", token
        if re.fullmatch(r"#[1-9]\d{0,8}", token):
            return "occurrence", int(token[1:])
        if re.fullmatch(r"[+-]?\d{1,16}", token):
            return "delta", int(token)
        expected = "a delta (-5), a reason (consume), an occurrence (#3) or an application (@app-id)"
        raise self.fail(f"{token!r} is not {expected}")

    def _parse_id(self, token: str) -> str:
        if token.startswith('"'):
            try:
                return cast("str", json.loads(token))
            except ValueError:
                raise self.fail(f"{token} is not a JSON string") from None
        anonymous = _ANONYMOUS_ID.fullmatch(token)
        return anonymous_id(int(anonymous[1])) if anonymous else token

    def _read_fault(self) -> CallFault:
        rest = self._text[self._position :].lstrip()
        if rest.startswith("{"):
            try:
                members, end = json.JSONDecoder().raw_decode(rest)
            except ValueError as error:
                raise self.fail(f"{rest[:40]!r} is not a JSON object: {error}") from None
            self._position = len(self._text) - len(rest) + end
            return parse_fault(members)
        name = self._next_token()
        if not name:
            raise self.fail("a fault is missing")
        return parse_fault(name)
