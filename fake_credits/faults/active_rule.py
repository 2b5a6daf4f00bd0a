"""A sandbox's active rules, each of which checks its conditions and counts its matches and firings."""

import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import cast

from fake_credits.contract import Operation
from fake_credits.errors import PicklableError
from fake_credits.faults.effects.base import Effect
from fake_credits.faults.effects.timing import HoldAtGate
from fake_credits.faults.rule import DEFAULT_LATENCY_NAME, IncomingCall, Rule, effect_for_script_entry
from fake_credits.keyed_random import keyed_random

CallKey = tuple[Operation, str, str]
_CounterKey = tuple[str, str]
_SHARED_COUNTER: _CounterKey = ("", "")


class PredicateError(PicklableError):
    """Raised if a rule's ``where`` function fails; contains a one-line message and the function's traceback."""

    def __init__(self, rule_name: str, error: Exception) -> None:
        self.rule_name = rule_name
        self.problem = f"the `where` function of the rule {rule_name!r} raised {type(error).__name__}: {error}"
        user_traceback = error.__traceback__.tb_next if error.__traceback__ else None  # omit our own frame
        lines = traceback.format_exception(type(error), error, user_traceback or error.__traceback__)
        self.problem_with_traceback = f"{self.problem}\n{''.join(lines).rstrip()}"
        super().__init__(self.problem)


class Firing:
    """One firing of a rule: the rule, its effect, and the call for which it fires."""

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
        """Return this rule's next random number in [0, 1) for this call."""
        self._draw_count += 1
        return keyed_random(
            self._seed, "effect", self.active_rule.name, *self._call_key, self.ordinal, self._draw_count
        )

    def undo(self) -> None:
        """Undo this firing; called when its effect turns out to have nothing to change."""
        _, application, user = self._call_key
        self.active_rule.undo_firing(application, user)


class ActiveRule:
    """A rule in a sandbox, with the number of calls that it ``matched`` and the number for which it ``fired``.

    When used as a context manager, it is removed when the block exits. ``take_out`` is called to remove the rule from
    its engine; its second argument says whether the rule still fails the test if it is unused.
    """

    def __init__(
        self, rule: Rule, name: str, window_ms: tuple[float, float], take_out: Callable[["ActiveRule", bool], None]
    ) -> None:
        self.rule = rule
        self.stacks = rule.stacks
        self.name = name
        self.fired = 0
        self.matched = 0
        self.history_lengths: dict[tuple[str, str], int] = {}
        self.is_removed = False
        self._take_out = take_out
        self._match_counts: Counter[_CounterKey] = Counter()
        self._fire_counts: Counter[_CounterKey] = Counter()
        self._pass_times_ms: dict[_CounterKey, deque[int]] = {}
        self.start_ms, self.end_ms = window_ms
        self.predicates = tuple(self._build_predicates())

    def __repr__(self) -> str:
        return f"<rule {self.name!r}: fired for {self.fired} of {self.matched} matching calls>"

    @property
    def is_unused(self) -> bool:
        """Return whether the rule was used less than it should have been; if so, the test fails.

        A script must be used up, a rule that has a count such as ``nth`` or holds calls at a gate must have fired, and
        any other rule must have matched a call. Optional rules, default latencies and rules that depend on chance are
        never considered unused.
        """
        rule = self.rule
        if not rule.is_certain or rule.optional or rule.name == DEFAULT_LATENCY_NAME:
            return False
        if rule.script:
            return bool(self.script_left())
        return not (self.fired if rule.is_scripted or isinstance(rule.effect, HoldAtGate) else self.matched)

    @property
    def draw_share(self) -> float:
        """Return the rule's share of the draw for random rules that don't stack, or 0 if the rule takes no part."""
        return 0.0 if self.rule.stacks else self.rule.probability or 0.0

    def script_left(self) -> Sequence[int | str]:
        """Return the script entries that no call has used; with ``per="user"``, those that no user has reached."""
        return self.rule.script[max(self._fire_counts.values(), default=0) :]

    def remove(self) -> None:
        """Remove the rule; the test still fails if it is unused. Calls that it has already affected stay affected."""
        self._take_out(self, True)

    def discard(self) -> None:
        """Remove the rule as if it had never been added."""
        self._take_out(self, False)

    def __enter__(self) -> "ActiveRule":
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.remove()

    def undo_firing(self, application: str, user: str) -> None:
        """Subtract a firing for one of the user's calls from the counts."""
        self.fired -= 1
        self._fire_counts[self._counter_key(application, user)] -= 1

    def _build_predicates(self) -> Iterator[Callable[[IncomingCall], bool]]:
        """Yield predicates for the conditions on a call's time, reason and headers, and for the ``where`` function."""
        rule, start_ms, end_ms = self.rule, self.start_ms, self.end_ms
        if rule.during is not None:
            yield lambda call: start_ms <= call.now_ms < end_ms
        if rule.reason:
            yield lambda call: call.reason == rule.reason
        headers = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in rule.header.items()]
        if headers:
            yield lambda call: all(call.fields.get(name) == value for name, value in headers)
        if rule.where is not None:
            yield self._predicate_matches

    def _predicate_matches(self, call: IncomingCall) -> bool:
        try:
            return bool(cast("Callable[[IncomingCall], bool]", self.rule.where)(call))
        except Exception as error:
            raise PredicateError(self.name, error) from error

    def count_match(self, call: IncomingCall) -> int:
        """Count a matching call and return its number; with ``per="user"``, its number among the user's matches."""
        self.matched += 1
        if not self.rule.per:
            return self.matched
        counter_key = self._counter_key(call.application, call.user)
        self._match_counts[counter_key] += 1
        return self._match_counts[counter_key]

    def conditions_hold(self, call: IncomingCall, match_count: int) -> bool:
        """Return whether the rule's counts allow it to fire for a call, regardless of its probability."""
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
        """Return whether the rule fires, and with which effect.

        If it fires with the effect None, the call passes and no further rules are tried.
        """
        rule, counter_key = self.rule, self._counter_key(call.application, call.user)
        effect = rule.effect
        if effect is None:
            fire_count = self._fire_counts[counter_key]
            if fire_count >= len(rule.script):
                return False, None
            effect = effect_for_script_entry(rule.script[fire_count])
        elif effect.counts_passes:
            effect = effect.effect_for(self._pass_times_of(counter_key), call.now_ms)
            if effect is None:
                return False, None
        self._fire_counts[counter_key] += 1
        self.fired += 1
        return True, effect

    def record_pass(self, call: IncomingCall) -> None:
        """Record a matching call for which the rule did not fire, if the effect counts such calls."""
        effect = self.rule.effect
        if effect is not None and effect.counts_passes:
            effect.record_pass(self._pass_times_of(self._counter_key(call.application, call.user)), call.now_ms)

    def _counter_key(self, application: str, user: str) -> _CounterKey:
        return (application, user) if self.rule.per else _SHARED_COUNTER

    def _pass_times_of(self, counter_key: _CounterKey) -> deque[int]:
        return self._pass_times_ms.setdefault(counter_key, deque())
