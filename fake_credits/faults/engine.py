"""A sandbox's rules, and the choice of those that fire for a call.

Rules are tried in the order in which they were declared, except that scripted rules come before random ones, and the
default latency comes last. The first rule that fires wins, unless it stacks: then the next is tried too. Random rules
that don't stack (exclusive ones) share one draw, so that each keeps its declared probability. A draw depends only on
the seed, the call's key (operation, application and user), the call's ordinal among calls with the same key and, unless
the draw is shared, the rule. The draws for one user's calls therefore do not depend on other users' concurrent calls.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime

from fake_credits.clock import to_ms
from fake_credits.contract import Operation
from fake_credits.faults.active_rule import ActiveRule, CallKey, Firing
from fake_credits.faults.effects.base import FaultError, explicit_fields
from fake_credits.faults.effects.timing import Latency
from fake_credits.faults.rule import DEFAULT_LATENCY_NAME, IncomingCall, Moment, Rule
from fake_credits.keyed_random import keyed_random

CallHook = Callable[[IncomingCall, Sequence[Firing]], Sequence[Firing]]
"""A function that takes a call and its firings, and returns additional firings."""

MAX_RULES = 1000
"""The maximum number of rules in a sandbox."""

_CRITERIA = ("application", "user", "client", "reason")
_TOTAL_LIMIT = 1 + 1e-9  # leaves room for rounding errors in sums of probabilities


class FaultEngine:
    """A sandbox's rules. Callers must hold ``lock``, the sandbox's lock."""

    def __init__(self, seed: int, lock: AbstractContextManager[object] | None = None) -> None:
        self.seed = seed
        self.lock = lock or nullcontext()
        self.start_ms = 0
        self.rules: list[ActiveRule] = []
        self._ended_unused: list[ActiveRule] = []
        self._name_counters: defaultdict[str, int] = defaultdict(int)
        self._call_counts: dict[CallKey, int] = {}
        # The rules to try, by operation, application, user and client; "" is any application or user named in no rule.
        self._candidates: dict[tuple[Operation, str, str, str], list[ActiveRule]] = {}
        self._named_applications: frozenset[str] = frozenset()
        self._named_users: frozenset[str] = frozenset()
        self.needs_body = False
        self.is_active = False
        self._call_hook: CallHook | None = None

    def __repr__(self) -> str:
        return f"<FaultEngine: rules={len(self.rules)}, seed={self.seed}>"

    def __len__(self) -> int:
        return len(self.rules)

    def __iter__(self) -> Iterator[ActiveRule]:
        return iter(tuple(self.rules))

    def _moment_ms(self, moment: Moment, default: float) -> float:
        """Convert a moment in a rule to milliseconds since 1970; None becomes ``default``."""
        if moment is None:
            return default
        return to_ms(moment) if isinstance(moment, datetime | str) else self.start_ms + round(moment * 1000)

    def reset(self, rules: Iterable[Rule], start_ms: int) -> None:
        """Replace all rules and reset all counts."""
        self.start_ms = start_ms
        if self.rules or self._ended_unused or self._name_counters or self._call_counts:
            for active in self.rules:
                active.is_removed = True
            self.rules, self._ended_unused, self._name_counters, self._call_counts = [], [], defaultdict(int), {}
            self._invalidate()
        for rule in rules:
            self.add(rule)

    def add(self, rule: Rule) -> ActiveRule:
        """Add a rule at the end.

        Raises FaultError if the sandbox has too many rules, if the rule's name is taken or reserved, or if the
        probabilities of the exclusive random rules that one call can match add up to more than 1.
        """
        remaining = self._rules_to_keep(rule)
        if len(remaining) >= MAX_RULES:
            raise FaultError(f"a sandbox can have at most {MAX_RULES} rules")
        start, end = rule.during or (None, None)
        window_ms = self._moment_ms(start, -math.inf), self._moment_ms(end, math.inf)
        active = ActiveRule(rule, rule.name or self._generate_name(rule.word), window_ms, self._take_out)
        _check_total_probability(active, remaining)
        for replaced in {*self.rules}.difference(remaining):
            replaced.is_removed = True
        self.rules = [*remaining, active]
        self._invalidate()
        return active

    def _rules_to_keep(self, rule: Rule) -> list[ActiveRule]:
        """Return the rules to keep when ``rule`` is added; a new default latency replaces the operation's old one."""
        if rule.name != DEFAULT_LATENCY_NAME:
            if rule.name and any(active.name == rule.name for active in self.rules):
                raise FaultError(f"name is {rule.name!r}, which is already taken by another rule")
            return self.rules
        reserved = f"name is {DEFAULT_LATENCY_NAME!r}, which is reserved for the default latency"
        if not isinstance(rule.effect, Latency):
            raise FaultError(f"{reserved}: choose another name for this rule")
        if not explicit_fields(rule).keys() <= {"effect", "operation", "phase", "name"}:
            raise FaultError(f"{reserved}: a rule with that name can have only an operation and a phase")
        return [
            active
            for active in self.rules
            if active.name != DEFAULT_LATENCY_NAME or active.rule.operation != rule.operation
        ]

    def _take_out(self, active: ActiveRule, reports_unused: bool) -> None:
        """Remove a rule unless it is already removed; if ``reports_unused``, an unused rule still fails the test."""
        with self.lock:
            if active.is_removed:
                return
            if reports_unused and active.is_unused and len(self._ended_unused) < MAX_RULES:
                self._ended_unused.append(active)
            active.is_removed = True
            self.rules.remove(active)
            self._invalidate()

    def find(self, name: str) -> ActiveRule:
        """Return the rule called ``name``; raise FaultError if there is none."""
        for active in self.rules:
            if active.name == name:
                return active
        names = ", ".join(active.name for active in self.rules) or "none"
        raise FaultError(f"no rule is named {name!r} (rules: {names})")

    def set_call_hook(self, hook: CallHook) -> None:
        """Pass every call to ``hook`` from now on, even after the rules are cleared or the sandbox is reset."""
        self._call_hook = hook
        self._invalidate()

    def unused_rules(self) -> list[ActiveRule]:
        """Return the unused rules, including removed ones and those whose gate has been opened."""
        return self._ended_unused + [active for active in self.rules if active.is_unused]

    def match(self, call: IncomingCall) -> list[Firing]:
        """Count a call and return its firings, in order; raise PredicateError if a ``where`` function fails."""
        _, operation, application, user, client, _, _, _, _ = call
        call_key = (operation, application, user)
        ordinal = self._call_counts[call_key] = self._call_counts.get(call_key, 0) + 1
        lookup_key = (
            operation,
            application if application in self._named_applications else "",
            user if user in self._named_users else "",
            client,
        )
        candidates = self._candidates.get(lookup_key)
        if candidates is None:
            candidates = self._candidates[lookup_key] = _rules_in_order(self.rules, *lookup_key)
        matcher = None
        for active in candidates:
            for predicate in active.predicates:
                if not predicate(call):
                    break
            else:
                matcher = matcher or _Matcher(call, self.seed, (call_key, ordinal))
                matcher.consider(active)
        firings = [] if matcher is None else matcher.firings
        return firings if self._call_hook is None else [*firings, *self._call_hook(call, firings)]

    def _generate_name(self, effect_name: str) -> str:
        existing_names = {active.name for active in self.rules}
        while True:
            self._name_counters[effect_name] += 1
            name = f"{effect_name}#{self._name_counters[effect_name]}"
            if name not in existing_names:
                return name

    def _invalidate(self) -> None:
        self._candidates = {}
        self._named_applications = frozenset(active.rule.application for active in self.rules)
        self._named_users = frozenset(active.rule.user for active in self.rules)
        self.is_active = bool(self.rules) or self._call_hook is not None
        self.needs_body = self._call_hook is not None or any(
            active.rule.reason or active.rule.where is not None for active in self.rules
        )


class _Matcher:
    """The state of matching one call against the rules."""

    def __init__(self, call: IncomingCall, seed: int, key_and_ordinal: tuple[CallKey, int]) -> None:
        self._call = call
        self._seed = seed
        self._key_and_ordinal = key_and_ordinal
        self._is_finished = False
        self._cumulative_probability = 0.0
        self._shared_draw = -1.0
        self.firings: list[Firing] = []

    def consider(self, active: ActiveRule) -> None:
        """Try a rule that matches the call; the rule counts the call even if an earlier rule has won."""
        call = self._call
        match_count = active.count_match(call)
        wins_draw = self._wins_draw(active)
        has_fired, effect = False, None
        if wins_draw and not self._is_finished and active.conditions_hold(call, match_count):
            has_fired, effect = active.fire(call)
        if not has_fired:
            active.record_pass(call)
            return
        if effect is not None:
            self.firings.append(Firing(active, effect, self._seed, self._key_and_ordinal))
        self._is_finished = effect is None or not active.stacks

    def _wins_draw(self, active: ActiveRule) -> bool:
        probability = active.rule.probability
        if probability is None:
            return True
        call_key, ordinal = self._key_and_ordinal
        if active.stacks:
            return keyed_random(self._seed, "chance", active.name, *call_key, ordinal) < probability
        if self._shared_draw < 0:
            self._shared_draw = keyed_random(self._seed, "chance", "", *call_key, ordinal)
        lower_bound = self._cumulative_probability
        self._cumulative_probability += probability
        return lower_bound <= self._shared_draw < self._cumulative_probability


def _rules_in_order(
    rules: Iterable[ActiveRule], operation: Operation, application: str, user: str, client: str
) -> list[ActiveRule]:
    """Return the rules for a kind of call, in the order in which they are tried."""
    deterministic: list[ActiveRule] = []
    random_onwards: list[ActiveRule] = []
    default_latencies: list[ActiveRule] = []
    for active in rules:
        rule = active.rule
        criteria = (rule.application in ("", application), rule.user in ("", user), rule.client in ("", client))
        if operation not in rule.operations or not all(criteria):
            continue
        if rule.name == DEFAULT_LATENCY_NAME:
            default_latencies.append(active)
        elif rule.is_random or (random_onwards and not rule.is_scripted):
            random_onwards.append(active)
        else:
            deterministic.append(active)
    # The default latency for the fewest operations wins.
    default_latencies.sort(key=lambda active: len(active.rule.operations))
    return [*deterministic, *random_onwards, *default_latencies[:1]]


def _check_total_probability(new: ActiveRule, others: Iterable[ActiveRule]) -> None:
    """Raise FaultError if one call can match exclusive random rules whose probabilities add up to more than 1.

    Header criteria and ``where`` functions are assumed to match.
    """
    if not new.draw_share:
        return
    rules = [new, *(other for other in others if other.draw_share and _can_overlap(other, new))]
    for operation in sorted(new.rule.operations):
        total = _max_total([active for active in rules if operation in active.rule.operations], _CRITERIA)
        if total > _TOTAL_LIMIT:
            raise FaultError(
                f"probability is {new.draw_share}: together with the other random rules for {operation}, it adds up to "
                f"{total:g}; the limit is 1"
            )


def _can_overlap(first: ActiveRule, second: ActiveRule) -> bool:
    """Return whether one call can match both rules."""
    if first.start_ms >= second.end_ms or second.start_ms >= first.end_ms:
        return False
    pairs = ((getattr(first.rule, name), getattr(second.rule, name)) for name in _CRITERIA)
    return all(one == other or not one or not other for one, other in pairs)


def _total_share(rules: Iterable[ActiveRule]) -> float:
    return sum(active.draw_share for active in rules)


def _max_total(rules: Sequence[ActiveRule], criteria: Sequence[str]) -> float:
    """Return the largest total draw share of rules that can all match one call.

    The result may be inexact unless it exceeds ``_TOTAL_LIMIT``.
    """
    total = _total_share(rules)
    if total <= _TOTAL_LIMIT:
        return total
    if not criteria:
        return max(
            _total_share(active for active in rules if active.start_ms <= latest.start_ms < active.end_ms)
            for latest in rules
        )
    rules_by_value: defaultdict[Hashable, list[ActiveRule]] = defaultdict(list)
    for active in rules:
        rules_by_value[getattr(active.rule, criteria[0])].append(active)
    unrestricted = rules_by_value.pop("", [])
    remaining = _TOTAL_LIMIT - _total_share(unrestricted)
    overfull = [group for group in rules_by_value.values() if _total_share(group) > remaining] or [[]]
    return max(_max_total(unrestricted + group, criteria[1:]) for group in overfull)
