"""The object through which tests declare a sandbox's faults."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict, Unpack, cast

from fake_credits.contract.types import OperationSelector
from fake_credits.faults.active_rule import ActiveRule
from fake_credits.faults.declarations import describe_match, effect_hint, rule_from
from fake_credits.faults.effects.base import FaultError, Phase
from fake_credits.faults.effects.timing import HoldAtGate
from fake_credits.faults.engine import FaultEngine
from fake_credits.faults.rule import IncomingCall, Moment, Rule
from fake_credits.models import Reason
from fake_credits.text import pluralize, short_repr


class RuleCriteria(TypedDict, total=False):
    """The fields of `Rule` other than its effect, operation and name, for editors and type checkers."""

    phase: Phase | Literal[""]
    application: str
    user: str
    client: Literal["", "server", "user"]
    reason: Reason | Literal["", "grant", "consume", "refund"]
    header: Mapping[str, str]
    where: Callable[[IncomingCall], bool] | None
    at: int | None
    nth: int | None
    first: int | None
    every: int | None
    after: int | None
    times: int | None
    script: Sequence[int | str]
    per: Literal["", "user"]
    probability: float | None
    during: tuple[Moment, Moment] | None
    stack: bool | None
    optional: bool


class RuleFields(RuleCriteria, total=False):
    """The fields of `Rule` other than its effect and operation."""

    name: str


class LoadedRules(tuple[ActiveRule, ...]):
    """A group of rules that were added together. As a context manager, it removes them when the block exits."""

    __slots__ = ()

    def __enter__(self) -> "LoadedRules":
        return self

    def __exit__(self, *_exc_info: object) -> None:
        for active in self:
            active.remove()


class Faults:
    """A sandbox's fault rules, as in ``credits.faults.add(Reset(), "createTransaction", phase="after", nth=1)``."""

    def __init__(self, engine: FaultEngine, add_rule: Callable[[Rule], ActiveRule]) -> None:
        self._engine = engine
        self._add_rule = add_rule

    def __repr__(self) -> str:
        return f"<Faults: {', '.join(active.name for active in self) or 'none'}>"

    def __len__(self) -> int:
        return len(self._engine)

    def __iter__(self) -> Iterator[ActiveRule]:
        with self._engine.lock:
            return iter(tuple(self._engine))

    def add(
        self, what: object = None, operation: OperationSelector | None = None, **rule_fields: Unpack[RuleFields]
    ) -> ActiveRule:
        """Add a rule: an effect, a `Rule` or a JSON object, with an optional operation and more `Rule` fields.

        A script needs no effect: ``add(script=[503, "ok"])``. The rule stays active until it is removed or the sandbox
        closes or, in ``with credits.faults.add(...) as rule:``, until the block exits. If it stays unused, the test
        fails, unless the rule is optional or depends on chance. Raises FaultError for an invalid rule, naming the
        invalid field. ``credits.faults(...)`` does the same.
        """
        operation_field = {} if operation is None else {"operation": operation}
        if isinstance(what, str | Path | Sequence):
            name = str(what) if isinstance(what, Path) else cast("object", what)
            source = short_repr(name)
            load_hint = f"; to add a preset, a scenario file or a list of rules, use credits.faults.load({source})"
            raise FaultError(
                f"the rule is {source}: it must be an effect, a Rule or a JSON object{effect_hint(name) or load_hint}"
            )
        return self._add_rule(rule_from(what, **rule_fields, **operation_field))

    __call__ = add

    def load(self, what: object) -> LoadedRules:
        """Add all rules of a preset (by name), a scenario file (by path) or a list.

        They stay active until they are removed or the sandbox closes or, in ``with credits.faults.load("outage"):``,
        until the block exits. Raises FaultError, without adding any rule, if one of them is invalid.
        """
        from fake_credits.faults.scenarios import parse_rules

        added: list[ActiveRule] = []
        try:
            for rule in parse_rules(what):
                added.append(self._add_rule(rule))
        except ValueError:
            for active in added:
                active.discard()
            raise
        return LoadedRules(added)

    def find(self, name: str) -> ActiveRule:
        """Return the rule called ``name``; raise FaultError if there is none."""
        with self._engine.lock:
            return self._engine.find(name)

    def clear(self) -> None:
        """Remove all rules; the test still fails if any is unused. Calls already hit by a rule stay affected."""
        for active in self:
            active.remove()


def describe_unused_rule(active: ActiveRule) -> str:
    """Return the failure message for a rule that stayed unused."""
    rule, remaining = active.rule, active.script_left()
    name, state = f"the {'scripted ' if rule.is_scripted else ''}rule {active.name!r}", "never fired"
    if isinstance(rule.effect, HoldAtGate):
        name, state = f"the gate {rule.effect.name!r}", "held no calls"
    elif rule.script:
        state = f"has entries left: {', '.join(map(str, remaining))}"
    matches = f"{pluralize(active.matched, 'call') if active.matched else 'no calls'} matched it"
    return f"{name} {state} ({matches}): it expects {describe_match(rule)}; pass optional=True if it may stay unused"
