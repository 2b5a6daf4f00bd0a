"""Own a sandbox's rules in their order: which fire for a call, and how often each has; know nothing of what they do.

Rules are tried in the order of their declaration, but scripted ones before random ones, and the default latency last.
The first that fires wins; one that stacks lets the next be tried. Exclusive random rules share one draw, so each rate
is exact. A draw is a pure function of (seed, rule, whose call it is, the ordinal of that), where whose is (operation,
application, user): what one user's calls meet does not depend on what others do at the same time.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from functools import partial
from typing import cast

from fake_credits.chance import draw
from fake_credits.clock import to_ms
from fake_credits.contract import Operation
from fake_credits.faults.checks import FaultError
from fake_credits.faults.effects import Effect, Latency
from fake_credits.faults.incoming import IncomingCall, WhereError
from fake_credits.faults.rule import Moment, Rule, script_effect
from fake_credits.faults.shares import Share, check_shares

__all__ = ["LATENCY", "RULE_LIMIT", "ActiveRule", "Plan", "Shot"]

RULE_LIMIT = 1000
"""A sandbox has at most this many rules."""

LATENCY = "latency"
"""The name of the default latency's rules."""

Key = tuple[Operation, str, str]
Whose = tuple[str, str]
_ALL: Whose = ("", "")


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
        _, application, user = self._key
        self.rule.take_back(application, user)


class ActiveRule:
    """Be a rule in a sandbox: ``fired`` times so far, of ``matched`` calls; ``remove``, or a block's end, ends it."""

    def __init__(self, rule: Rule, name: str, plan: "Plan") -> None:
        self.rule = rule
        self.name = name
        self.fired = 0
        self.matched = 0
        self.baseline: Mapping[tuple[str, str], int] = {}
        self.removed = False
        self._plan = plan
        self._counts: Counter[Whose] = Counter()
        self._used: Counter[Whose] = Counter()
        self._memories: dict[Whose, deque[int]] = {}
        start, end = rule.during or (None, None)
        self._start_ms = plan.moment_ms(start, -math.inf)
        self._end_ms = plan.moment_ms(end, math.inf)
        self.tests = tuple(_tests(rule, self._start_ms, self._end_ms))
        if rule.where is not None:
            self.tests += (self._is_meant,)

    def __repr__(self) -> str:
        return f"<rule {self.name!r}: fired {self.fired} of {self.matched} matching calls>"

    @property
    def is_unused(self) -> bool:
        """Tell whether a scripted rule has never fired, or has entries of its script left."""
        if not self.rule.is_scripted or self.rule.optional:
            return False
        return bool(self.script_left()) if self.rule.script else not self.fired

    @property
    def share(self) -> Share:
        """Return the rule with its window of time, to be weighed against others."""
        return Share(self.rule, self._start_ms, self._end_ms)

    def script_left(self) -> Sequence[int | str]:
        """Return the entries of the script that nobody has met; with ``per="user"``, that the luckiest user has not."""
        return self.rule.script[max(self._used.values(), default=0) :]

    def remove(self) -> None:
        """Take the rule out; a call that it has hit already goes on as it was."""
        with self._plan.lock:
            self._plan.remove(self)

    def end(self) -> None:
        """Take the rule out as its time is over; where it stayed unused, that still fails the test."""
        with self._plan.lock:
            self._plan.end(self)

    def __enter__(self) -> "ActiveRule":
        return self

    def __exit__(self, *_raised: object) -> None:
        self.end()

    def take_back(self, application: str, user: str) -> None:
        """Let the rule have fired once less, for a user's call."""
        self.fired -= 1
        self._used[self._whose(application, user)] -= 1

    def _is_meant(self, call: IncomingCall) -> bool:
        """Ask the rule's own function; raise WhereError where that fails, which is the test's mistake."""
        try:
            return bool(cast("Callable[[IncomingCall], bool]", self.rule.where)(call))
        except Exception as error:
            raise WhereError(self.name, error) from error

    def count(self, call: IncomingCall) -> int:
        """Count a matching call, and return which one it is: of all, or of its user's."""
        self.matched += 1
        if not self.rule.per:
            return self.matched
        whose = self._whose(call.application, call.user)
        self._counts[whose] += 1
        return self._counts[whose]

    def is_due(self, call: IncomingCall, count: int) -> bool:
        """Tell whether all that the rule says about when holds, its probability aside."""
        rule = self.rule
        return (
            (rule.at is None or call.ordinal == rule.at)
            and (rule.nth is None or count == rule.nth)
            and (rule.first is None or count <= rule.first)
            and (rule.every is None or count % rule.every == 0)
            and (rule.after is None or count > rule.after)
            and (rule.times is None or self._used[self._whose(call.application, call.user)] < rule.times)
        )

    def fire(self, call: IncomingCall) -> tuple[bool, Effect | None]:
        """Return whether the rule fires, and with what; None with True is "try no further rule"."""
        rule, whose = self.rule, self._whose(call.application, call.user)
        if rule.effect is not None:
            effect = rule.effect.due(self._memory(whose), call.now_ms)
            if effect is None:
                return False, None
        else:
            used = self._used[whose]
            if used >= len(rule.script):
                return False, None
            effect = script_effect(rule.script[used])
        self._used[whose] += 1
        self.fired += 1
        return True, effect

    def let_pass(self, call: IncomingCall) -> None:
        """Note a matching call for which the rule has not fired."""
        if self.rule.effect is not None and self.rule.effect.remembers:
            self.rule.effect.passed(self._memory(self._whose(call.application, call.user)), call.now_ms)

    def _whose(self, application: str, user: str) -> Whose:
        return (application, user) if self.rule.per else _ALL

    def _memory(self, whose: Whose) -> deque[int]:
        return self._memories.setdefault(whose, deque())


class Plan:
    """Keep a sandbox's rules, and decide for each call what it meets; the caller holds ``lock``, the sandbox's."""

    def __init__(self, seed: int, lock: AbstractContextManager[object] | None = None) -> None:
        self.seed = seed
        self.lock = lock or nullcontext()
        self.start_ms = 0
        self.ordinal_base = 0
        self.baseline: Callable[[], Mapping[tuple[str, str], int]] = dict
        self._rules: list[ActiveRule] = []
        self._ended: list[ActiveRule] = []
        self._numbers: Counter[str] = Counter()
        self._calls: dict[Key, int] = {}
        # The rules to try for an operation, an application and a user ("" unless some rule names it), and a client.
        self._tables: dict[tuple[Operation, str, str, str], list[ActiveRule]] = {}
        self._applications: frozenset[str] = frozenset()
        self._users: frozenset[str] = frozenset()
        self.reads_reason = False

    def __repr__(self) -> str:
        return f"<Plan of {len(self._rules)} rules, seed {self.seed}>"

    def __len__(self) -> int:
        return len(self._rules)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def __iter__(self) -> Iterator[ActiveRule]:
        return iter(tuple(self._rules))

    def moment_ms(self, moment: Moment, absent: float) -> float:
        """Return a moment of a rule in milliseconds since 1970."""
        if moment is None:
            return absent
        return to_ms(moment) if isinstance(moment, datetime) else self.start_ms + round(moment * 1000)

    def reset(self, rules: Iterable[Rule], start_ms: int, ordinal_base: int) -> None:
        """Begin anew, with rules."""
        self.start_ms, self.ordinal_base = start_ms, ordinal_base
        if self._rules or self._ended or self._numbers or self._calls:
            for active in self._rules:
                active.removed = True
            self._rules, self._ended, self._numbers, self._calls = [], [], Counter(), {}
            self._note_change()
        for rule in rules:
            self.add(rule)

    def add(self, rule: Rule) -> ActiveRule:
        """Add a rule at the end.

        Raises FaultError where there are too many, where the name is taken, and where the probabilities of the
        exclusive random rules that can meet in one call come to more than 1.
        """
        kept = self._rules_beside(rule)
        if len(kept) >= RULE_LIMIT:
            raise FaultError(f"a sandbox has at most {RULE_LIMIT} rules")
        active = ActiveRule(rule, rule.name or self._name(rule.word), self)
        check_shares(active.share, (other.share for other in kept))
        for replaced in {*self._rules}.difference(kept):
            replaced.removed = True
        if rule.phase == "read":
            active.baseline = self.baseline()
        self._rules = [*kept, active]
        self._note_change()
        return active

    def _rules_beside(self, rule: Rule) -> list[ActiveRule]:
        """Return the rules that stay when one is added: a default latency takes the place of the one before."""
        if rule.name != LATENCY:
            if rule.name and any(active.name == rule.name for active in self._rules):
                raise FaultError(f"name is {rule.name!r}, which another rule has")
            return self._rules
        if rule != Rule(
            effect=rule.effect, script=rule.script, operation=rule.operation, phase=rule.phase, name=LATENCY
        ):
            raise FaultError(f"name is {LATENCY!r}, the default latency's, which has an operation and a phase only")
        if not isinstance(rule.effect, Latency):
            raise FaultError(f"name is {LATENCY!r}, the default latency's: {rule.word} needs another")
        return [old for old in self._rules if old.name != LATENCY or old.rule.operation != rule.operation]

    def remove(self, active: ActiveRule) -> None:
        """Take a rule out; one that is out already stays out."""
        if not active.removed:
            active.removed = True
            self._rules.remove(active)
            self._note_change()

    def end(self, active: ActiveRule) -> None:
        """Take a rule out whose time is over; one that stayed unused is still told."""
        if not active.removed and active.is_unused and len(self._ended) < RULE_LIMIT:
            self._ended.append(active)
        self.remove(active)

    def find(self, name: str) -> ActiveRule:
        """Return the first rule of a name; raise FaultError where there is none."""
        for active in self._rules:
            if active.name == name:
                return active
        known = ", ".join(active.name for active in self._rules) or "none"
        raise FaultError(f"there is no rule {name!r} (there are: {known})")

    def unused(self) -> list[ActiveRule]:
        """Return the scripted rules that stayed unused, those of a ``with`` block that is over too."""
        return self._ended + [active for active in self._rules if active.is_unused]

    def decide(self, call: IncomingCall) -> "list[Shot]":
        """Return what a call meets, in order, and count it; raise WhereError where a rule's own function fails."""
        _, operation, application, user, client, _, _, _ = call
        key = (operation, application, user)
        ordinal = self._calls[key] = self._calls.get(key, 0) + 1
        place = (
            operation,
            application if application in self._applications else "",
            user if user in self._users else "",
            client,
        )
        rules = self._tables.get(place)
        if rules is None:
            rules = self._tables[place] = _in_turn(self._rules, *place)
        aim = None
        for active in rules:
            for test in active.tests:
                if not test(call):
                    break
            else:
                aim = aim or _Aim(call, self.seed, (key, ordinal))
                aim.take(active)
        return [] if aim is None else aim.shots

    def _name(self, word: str) -> str:
        taken = {active.name for active in self._rules}
        while True:
            self._numbers[word] += 1
            name = f"{word}#{self._numbers[word]}"
            if name not in taken:
                return name

    def _note_change(self) -> None:
        self._tables = {}
        self._applications = frozenset(active.rule.application for active in self._rules)
        self._users = frozenset(active.rule.user for active in self._rules)
        self.reads_reason = any(active.rule.reason or active.rule.where is not None for active in self._rules)


class _Aim:
    """Be one call while its rules are tried."""

    __slots__ = ("_call", "_key", "_over", "_reached", "_seed", "_shared", "shots")

    def __init__(self, call: IncomingCall, seed: int, key: tuple[Key, int]) -> None:
        self._call = call
        self._seed = seed
        self._key = key
        self._over = False
        self._reached = 0.0
        self._shared = -1.0
        self.shots: list[Shot] = []

    def take(self, active: ActiveRule) -> None:
        """Try one rule that matches; it counts the call also where an earlier one has won."""
        call = self._call
        count = active.count(call)
        lucky = self._is_lucky(active)
        fired, effect = False, None
        if lucky and not self._over and active.is_due(call, count):
            fired, effect = active.fire(call)
        if not fired:
            active.let_pass(call)
            return
        if effect is not None:
            self.shots.append(Shot(active, effect, self._seed, self._key))
        self._over = effect is None or not active.rule.stacks

    def _is_lucky(self, active: ActiveRule) -> bool:
        probability = active.rule.probability
        if probability is None:
            return True
        key, ordinal = self._key
        if active.rule.stacks:
            return draw(self._seed, "chance", active.name, *key, ordinal) < probability
        if self._shared < 0:
            self._shared = draw(self._seed, "chance", "", *key, ordinal)
        low, self._reached = self._reached, self._reached + probability
        return low <= self._shared < self._reached


def _tests(rule: Rule, start_ms: float, end_ms: float) -> Iterator[Callable[[IncomingCall], bool]]:
    """Return what the rule asks of a call beside its operation, application, user, client and its own function."""
    if rule.during is not None:
        yield lambda call: start_ms <= call.now_ms < end_ms
    if rule.reason:
        yield lambda call: call.reason == rule.reason
    for name, value in rule.header.items():
        yield partial(_has_header, name.lower().encode("ascii"), value.encode("latin-1"))


def _has_header(name: bytes, value: bytes, call: IncomingCall) -> bool:
    return call.fields.get(name) == value


def _in_turn(
    rules: Iterable[ActiveRule], operation: Operation, application: str, user: str, client: str
) -> list[ActiveRule]:
    """Return the rules that are for such calls, in the order in which they are tried."""
    steady: list[ActiveRule] = []
    from_random: list[ActiveRule] = []
    defaults: list[ActiveRule] = []
    for active in rules:
        rule = active.rule
        named = (rule.application in ("", application), rule.user in ("", user), rule.client in ("", client))
        if operation not in rule.operations or not all(named):
            continue
        if rule.name == LATENCY:
            defaults.append(active)
        elif rule.is_random or (from_random and not rule.is_scripted):
            from_random.append(active)
        else:
            steady.append(active)
    # The default latency for fewer operations is that of its operations.
    defaults.sort(key=lambda active: len(active.rule.operations))
    return [*steady, *from_random, *defaults[:1]]
