"""A rule in a sandbox: what it asks of a call, how often it has matched and fired, and its firing for one call."""

import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, cast

from fake_credits.contract import Operation
from fake_credits.faults.context import IncomingCall, PredicateError
from fake_credits.faults.effects import Effect
from fake_credits.faults.rule import Moment, Rule, effect_for_script_entry
from fake_credits.keyed_random import keyed_random

__all__ = ["ActiveRule", "CallKey", "Firing", "RuleEngine"]

CallKey = tuple[Operation, str, str]
_CounterKey = tuple[str, str]
_SHARED_COUNTER: _CounterKey = ("", "")


class RuleEngine(Protocol):
    """What a rule needs of the engine that it is in."""

    @property
    def lock(self) -> AbstractContextManager[object]:
        """Return what guards the rules."""
        ...

    def moment_ms(self, moment: Moment, default: float) -> float:
        """Return a moment of a rule in milliseconds since 1970."""
        ...

    def remove(self, active: "ActiveRule") -> None:
        """Take a rule out."""
        ...

    def end(self, active: "ActiveRule") -> None:
        """Take a rule out whose time is over."""
        ...


class Firing:
    """Be one rule that fires for one call, and what it does."""

    __slots__ = ("_call_key", "_draw_count", "_seed", "active_rule", "effect", "ordinal")

    def __init__(
        self, active_rule: "ActiveRule", effect: Effect, seed: int, key_and_ordinal: tuple[CallKey, int]
    ) -> None:
        self.active_rule = active_rule
        self.effect = effect
        self._seed = seed
        self._call_key, self.ordinal = key_and_ordinal
        self._draw_count = 0

    def random(self) -> float:
        """Return the next number from 0 up to 1 of this rule, for this call."""
        self._draw_count += 1
        return keyed_random(
            self._seed, "effect", self.active_rule.name, *self._call_key, self.ordinal, self._draw_count
        )

    def undo(self) -> None:
        """Let the rule not have fired: there was nothing for it to do."""
        _, application, user = self._call_key
        self.active_rule.undo_firing(application, user)


class ActiveRule:
    """Be a rule in a sandbox: ``fired`` times so far, of ``matched`` calls; ``remove``, or a block's end, ends it."""

    def __init__(self, rule: Rule, name: str, engine: RuleEngine) -> None:
        self.rule = rule
        self.stacks = rule.stacks
        self.name = name
        self.fired = 0
        self.matched = 0
        self.history_lengths: Mapping[tuple[str, str], int] = {}
        self.is_removed = False
        self._engine = engine
        self._match_counts: Counter[_CounterKey] = Counter()
        self._fire_counts: Counter[_CounterKey] = Counter()
        self._pass_times_ms: dict[_CounterKey, deque[int]] = {}
        start, end = rule.during or (None, None)
        self.start_ms = engine.moment_ms(start, -math.inf)
        self.end_ms = engine.moment_ms(end, math.inf)
        self.predicates = tuple(_predicates(rule, self.start_ms, self.end_ms))
        if rule.where is not None:
            self.predicates += (self._predicate_matches,)

    def __repr__(self) -> str:
        return f"<rule {self.name!r}: fired {self.fired} of {self.matched} matching calls>"

    @property
    def is_unused(self) -> bool:
        """Tell whether a scripted rule has never fired, or has entries of its script left."""
        if not self.rule.is_scripted or self.rule.optional:
            return False
        return bool(self.script_left()) if self.rule.script else not self.fired

    @property
    def draw_share(self) -> float:
        """Return the rule's share of the draw of exclusive random rules; 0 if it is not one of them."""
        return 0.0 if self.rule.stacks else self.rule.probability or 0.0

    def script_left(self) -> Sequence[int | str]:
        """Return the entries of the script that nobody has met; with ``per="user"``, that the luckiest user has not."""
        return self.rule.script[max(self._fire_counts.values(), default=0) :]

    def remove(self) -> None:
        """Take the rule out; a call that it has hit already goes on as it was."""
        with self._engine.lock:
            self._engine.remove(self)

    def end(self) -> None:
        """Take the rule out as its time is over; where it stayed unused, that still fails the test."""
        with self._engine.lock:
            self._engine.end(self)

    def __enter__(self) -> "ActiveRule":
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.end()

    def undo_firing(self, application: str, user: str) -> None:
        """Let the rule have fired once less, for a user's call."""
        self.fired -= 1
        self._fire_counts[self._counter_key(application, user)] -= 1

    def _predicate_matches(self, call: IncomingCall) -> bool:
        """Ask the rule's own function; raise PredicateError where that fails, which is the test's mistake."""
        try:
            return bool(cast("Callable[[IncomingCall], bool]", self.rule.where)(call))
        except Exception as error:
            raise PredicateError(self.name, error) from error

    def count_match(self, call: IncomingCall) -> int:
        """Count a matching call, and return which one it is: of all, or of its user's."""
        self.matched += 1
        if not self.rule.per:
            return self.matched
        counter_key = self._counter_key(call.application, call.user)
        self._match_counts[counter_key] += 1
        return self._match_counts[counter_key]

    def conditions_hold(self, call: IncomingCall, match_count: int) -> bool:
        """Tell whether all that the rule says about when holds, its probability aside."""
        rule = self.rule
        return (
            (rule.at is None or call.ordinal == rule.at)
            and (rule.nth is None or match_count == rule.nth)
            and (rule.first is None or match_count <= rule.first)
            and (rule.every is None or match_count % rule.every == 0)
            and (rule.after is None or match_count > rule.after)
            and (rule.times is None or self._fire_counts[self._counter_key(call.application, call.user)] < rule.times)
        )

    def fire(self, call: IncomingCall) -> tuple[bool, Effect | None]:
        """Return whether the rule fires, and with what; None with True is "try no further rule"."""
        rule, counter_key = self.rule, self._counter_key(call.application, call.user)
        if rule.effect is not None:
            effect: Effect | None = rule.effect
            if rule.effect.counts_passes:
                effect = rule.effect.effect_for(self._pass_times_of(counter_key), call.now_ms)
            if effect is None:
                return False, None
        else:
            fire_count = self._fire_counts[counter_key]
            if fire_count >= len(rule.script):
                return False, None
            effect = effect_for_script_entry(rule.script[fire_count])
        self._fire_counts[counter_key] += 1
        self.fired += 1
        return True, effect

    def record_pass(self, call: IncomingCall) -> None:
        """Note a matching call for which the rule has not fired."""
        if self.rule.effect is not None and self.rule.effect.counts_passes:
            self.rule.effect.record_pass(
                self._pass_times_of(self._counter_key(call.application, call.user)), call.now_ms
            )

    def _counter_key(self, application: str, user: str) -> _CounterKey:
        return (application, user) if self.rule.per else _SHARED_COUNTER

    def _pass_times_of(self, counter_key: _CounterKey) -> deque[int]:
        return self._pass_times_ms.setdefault(counter_key, deque())


def _predicates(rule: Rule, start_ms: float, end_ms: float) -> Iterator[Callable[[IncomingCall], bool]]:
    """Return what the rule asks of a call beside its operation, application, user, client and its own function."""
    if rule.during is not None:
        yield lambda call: start_ms <= call.now_ms < end_ms
    if rule.reason:
        yield lambda call: call.reason == rule.reason
    headers = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in rule.header.items()]
    if headers:
        yield lambda call: all(call.fields.get(name) == value for name, value in headers)
