"""Own a sandbox's rules in their order: which fire for a call, and how often each has; know nothing of what they do.

Rules without a probability are tried first, in the order of their declaration, then the random ones, then the default
latency. The first that fires wins; one that stacks lets the next be tried. Exclusive random rules share one draw, so
each rate is exact. A draw is a pure function of (seed, rule, whose call it is, the ordinal of that), where whose is
(operation, application, user): what one user's calls meet does not depend on what others do at the same time.
"""

import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from fake_credits.chance import draw
from fake_credits.clock import to_ms
from fake_credits.contract import Operation
from fake_credits.faults.checks import FaultError
from fake_credits.faults.effects import Effect, Latency
from fake_credits.faults.rule import Call, Moment, Rule, script_effect

__all__ = ["RULE_LIMIT", "ActiveRule", "Plan", "Shot"]

RULE_LIMIT = 1000
"""A sandbox has at most this many rules."""

LATENCY = "latency"
"""The name of the default latency's rules."""

Key = tuple[str, ...]


class Shot:
    """Be one rule that fires for one call, and what it does."""

    __slots__ = ("_draws", "_key", "_seed", "effect", "ordinal", "rule")

    def __init__(self, rule: "ActiveRule", effect: Effect, seed: int, key: tuple[Key, int]) -> None:
        self.rule = rule
        self.effect = effect
        self._seed = seed
        self._key, self.ordinal = key
        self._draws = 0

    def draw(self) -> float:
        """Return the next number from 0 up to 1 of this rule, for this call."""
        self._draws += 1
        return draw(self._seed, "effect", self.rule.name, *self._key, self.ordinal, self._draws)

    def take_back(self) -> None:
        """Let the rule not have fired: there was nothing for it to do."""
        self.rule.fired -= 1


class ActiveRule:
    """Be a rule in a sandbox: ``fired`` times so far, of ``matched`` calls; ``remove`` takes it out."""

    def __init__(self, rule: Rule, name: str, plan: "Plan") -> None:
        self.rule = rule
        self.name = name
        self.fired = 0
        self.matched = 0
        self.baseline: Mapping[tuple[str, str], int] = {}
        self.removed = False
        self._plan = plan
        self._counts: Counter[str] = Counter()
        self._used: Counter[str] = Counter()
        self._memories: dict[str, deque[int]] = {}
        self._window = tuple(map(plan.moment_ms, rule.during or (None, None)))
        self._simple = rule.where is None and not rule.header and not rule.reason and rule.during is None
        self._headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in rule.header.items()]

    def __repr__(self) -> str:
        return f"<rule {self.name!r}: fired {self.fired} of {self.matched} matching calls>"

    @property
    def is_unused(self) -> bool:
        """Tell whether a scripted rule has never fired, or has entries of its script left."""
        if not self.rule.is_scripted or self.rule.optional:
            return False
        return bool(self.script_left()) if self.rule.script else not self.fired

    def script_left(self) -> Sequence[int | str]:
        """Return the entries of the script that nobody has met; with ``per="user"``, that the luckiest user has not."""
        return self.rule.script[max(self._used.values(), default=0) :]

    def remove(self) -> None:
        """Take the rule out; a call that it has hit already goes on as it was."""
        self._plan.remove(self)

    def matches(self, call: Call) -> bool:
        """Tell whether all that the rule says about which calls holds for one of its operations."""
        rule = self.rule
        if rule.user and rule.user != call.user:
            return False
        if (rule.application and rule.application != call.application) or (rule.client and rule.client != call.client):
            return False
        return self._simple or self._matches_rest(rule, call)

    def _matches_rest(self, rule: Rule, call: Call) -> bool:
        start, end = self._window
        if (start is not None and call.now_ms < start) or (end is not None and call.now_ms >= end):
            return False
        if rule.reason and rule.reason != call.reason:
            return False
        if any(call.headers.get(name) != value for name, value in self._headers):
            return False
        return rule.where is None or bool(rule.where(call))

    def count(self, call: Call) -> int:
        """Count a matching call, and return which one it is: of all, or of its user's."""
        self.matched += 1
        whose = call.user if self.rule.per else ""
        self._counts[whose] += 1
        return self._counts[whose]

    def is_due(self, call: Call, count: int) -> bool:
        """Tell whether all that the rule says about when holds, its probability aside."""
        rule = self.rule
        return (
            (rule.at is None or call.ordinal == rule.at)
            and (rule.nth is None or count == rule.nth)
            and (rule.first is None or count <= rule.first)
            and (rule.every is None or count % rule.every == 0)
            and (rule.after is None or count > rule.after)
            and (rule.times is None or self._fired_for(call) < rule.times)
        )

    def _fired_for(self, call: Call) -> int:
        return self._used[call.user] if self.rule.per and not self.rule.script else self.fired

    def fire(self, call: Call) -> "tuple[bool, Effect | None]":
        """Return whether the rule fires, and with what; None with True is "try no further rule"."""
        rule = self.rule
        whose = call.user if rule.per else ""
        if rule.script:
            used = self._used[whose]
            if used >= len(rule.script):
                return False, None
            self._used[whose] += 1
            self.fired += 1
            return True, script_effect(rule.script[used])
        assert rule.effect is not None  # noqa: S101 - a rule has one or the other
        effect = rule.effect.due(self._memories.setdefault(whose, deque()), call.now_ms)
        if effect is None:
            return False, None
        self._used[whose] += 1
        self.fired += 1
        return True, effect


class Plan:
    """Keep a sandbox's rules, and decide for each call what it meets; the caller holds the sandbox's lock."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.start_ms = 0
        self.ordinal_base = 0
        self.baseline: Callable[[], Mapping[tuple[str, str], int]] = dict
        self._rules: list[ActiveRule] = []
        self._numbers: Counter[str] = Counter()
        self._calls: Counter[Key] = Counter()
        self._by_operation: dict[Operation, tuple[ActiveRule, ...]] = {}
        self.reads_reason = False

    def __repr__(self) -> str:
        return f"<Plan of {len(self._rules)} rules, seed {self.seed}>"

    def __len__(self) -> int:
        return len(self._rules)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def __iter__(self) -> Iterator[ActiveRule]:
        return iter(tuple(self._rules))

    def moment_ms(self, moment: Moment) -> int | None:
        """Return a moment of a rule in milliseconds since 1970."""
        if moment is None:
            return None
        return to_ms(moment) if isinstance(moment, datetime) else self.start_ms + round(moment * 1000)

    def reset(self, rules: Iterable[Rule], start_ms: int, ordinal_base: int) -> None:
        """Begin anew, with rules."""
        for active in self._rules:
            active.removed = True
        self.start_ms, self.ordinal_base = start_ms, ordinal_base
        self._rules, self._numbers, self._calls = [], Counter(), Counter()
        self._by_operation, self.reads_reason = {}, False
        for rule in rules:
            self.add(rule)

    def add(self, rule: Rule) -> ActiveRule:
        """Add a rule at the end.

        Raises FaultError where there are too many, where the name is taken, and where the probabilities of the
        exclusive random rules that can meet in one call come to more than 1.
        """
        if len(self._rules) >= RULE_LIMIT:
            raise FaultError(f"a sandbox has at most {RULE_LIMIT} rules")
        if rule.name == LATENCY:
            self._replace_default(rule)
        elif any(active.name == rule.name for active in self._rules):
            raise FaultError(f"name is {rule.name!r}, which another rule has")
        _check_sum([active.rule for active in self._rules], rule)
        active = ActiveRule(rule, rule.name or self._name(rule.word), self)
        if rule.phase == "read":
            active.baseline = self.baseline()
        self._rules.append(active)
        self._index()
        return active

    def _replace_default(self, rule: Rule) -> None:
        if not isinstance(rule.effect, Latency):
            raise FaultError(f"name is {LATENCY!r}, which is the default latency's: {rule.word} needs another")
        for active in self:
            if active.name == LATENCY and active.rule.operation == rule.operation:
                self.remove(active)

    def remove(self, active: ActiveRule) -> None:
        """Take a rule out; one that is out already stays out."""
        if not active.removed:
            active.removed = True
            self._rules.remove(active)
            self._index()

    def find(self, name: str) -> ActiveRule:
        """Return the first rule of a name; raise FaultError where there is none."""
        for active in self._rules:
            if active.name == name:
                return active
        raise FaultError(
            f"there is no rule {name!r} (there are: {', '.join(rule.name for rule in self._rules) or 'none'})"
        )

    def unused(self) -> list[ActiveRule]:
        """Return the scripted rules that stayed unused."""
        return [active for active in self._rules if active.is_unused]

    def decide(self, call: Call) -> list[Shot]:
        """Return what a call meets, in order, and count it."""
        aim = None
        for active in self._by_operation[call.operation]:
            if active.matches(call):
                aim = aim or _Aim(call, self.seed, self._calls)
                aim.take(active)
        return [] if aim is None else aim.shots

    def _name(self, word: str) -> str:
        taken = {active.name for active in self._rules}
        while True:
            self._numbers[word] += 1
            name = f"{word}#{self._numbers[word]}"
            if name not in taken:
                return name

    def _index(self) -> None:
        ordered = sorted(self._rules, key=_turn)
        self._by_operation = {
            operation: tuple(_latest_default([active for active in ordered if operation in active.rule.operations]))
            for operation in Operation
        }
        self.reads_reason = any(active.rule.reason or active.rule.where is not None for active in self._rules)


class _Aim:
    """Be one call while its rules are tried."""

    __slots__ = ("_call", "_key", "_over", "_reached", "_seed", "_shared", "shots")

    def __init__(self, call: Call, seed: int, calls: Counter[Key]) -> None:
        key: Key = (call.operation.value, call.application, call.user)
        calls[key] += 1
        self._call = call
        self._seed = seed
        self._key = (key, calls[key])
        self._over = False
        self._reached = 0.0
        self._shared = -1.0
        self.shots: list[Shot] = []

    def take(self, active: ActiveRule) -> None:
        """Try one rule that matches; it counts the call also where an earlier one has won."""
        call, rule = self._call, active.rule
        count = active.count(call)
        lucky = rule.probability is None or self._is_lucky(active, rule.probability)
        if self._over or not lucky or not active.is_due(call, count):
            return
        fired, effect = active.fire(call)
        if effect is not None:
            self.shots.append(Shot(active, effect, self._seed, self._key))
        self._over = fired and not rule.stacks

    def _is_lucky(self, active: ActiveRule, probability: float) -> bool:
        key, ordinal = self._key
        if active.rule.stacks:
            return draw(self._seed, "chance", active.name, *key, ordinal) < probability
        if self._shared < 0:
            self._shared = draw(self._seed, "chance", "", *key, ordinal)
        low, self._reached = self._reached, self._reached + probability
        return low <= self._shared < self._reached


def _turn(active: ActiveRule) -> int:
    if active.rule.name == LATENCY:
        return 2
    return 0 if active.rule.probability is None else 1


def _latest_default(rules: list[ActiveRule]) -> list[ActiveRule]:
    """Keep of the default latencies the one for the operation, else the one for all."""
    defaults = [active for active in rules if active.rule.name == LATENCY]
    kept = sorted(defaults, key=lambda active: len(active.rule.operations))[:1]
    return [active for active in rules if active.rule.name != LATENCY] + kept


def _is_exclusive(rule: Rule) -> bool:
    return bool(rule.probability) and not rule.stacks


def _check_sum(rules: Iterable[Rule], new: Rule) -> None:
    """Refuse a rule with which the shares of one draw come to more than 1, for any call that it can touch.

    Headers, functions and windows of time are taken to match.
    """
    if not _is_exclusive(new):
        return
    all_rules = [*(rule for rule in rules if _is_exclusive(rule) and rule.operations & new.operations), new]
    for place in itertools.product(new.operations, *(_values(all_rules, new, name) for name in _PLACES)):
        meeting = [rule for rule in all_rules if _meets(rule, place)]
        total = sum(rule.probability or 0 for rule in meeting)
        if total > 1 + 1e-9:
            raise FaultError(
                f"probability is {new.probability}: with the other random rules of {place[0]} that makes {total:g}, "
                "and one draw has room for 1"
            )


_PLACES = ("application", "user", "client", "reason")


def _values(rules: Iterable[Rule], new: Rule, name: str) -> set[str]:
    own: str = getattr(new, name)
    return {own} if own else {getattr(rule, name) for rule in rules} | {""}


def _meets(rule: Rule, place: tuple[str, ...]) -> bool:
    return place[0] in rule.operations and all(
        getattr(rule, name) in ("", value) for name, value in zip(_PLACES, place[1:], strict=True)
    )
