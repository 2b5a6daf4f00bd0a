"""Declaring a sandbox's faults in Python."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict, Unpack, cast

from fake_credits.faults.active_rule import ActiveRule
from fake_credits.faults.declarations import RULE_SOURCES, describe_match, rule_from
from fake_credits.faults.effects.base import FaultError, Phase
from fake_credits.faults.engine import FaultEngine
from fake_credits.faults.rule import IncomingCall, Moment, Rule, RuleOperation
from fake_credits.models import Reason
from fake_credits.text import short_repr

__all__ = ["Faults", "LoadedRules", "RuleCriteria", "RuleFields", "describe_unused_rule"]


class RuleCriteria(TypedDict, total=False):
    """The fields of `Rule` without its effect, operation and name, for editors and type checkers."""

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
    """The fields of `Rule` without its effect and operation."""

    name: str


class LoadedRules(tuple[ActiveRule, ...]):
    """Rules that were added together; as a context manager, it removes them all when its block ends."""

    __slots__ = ()

    def __enter__(self) -> "LoadedRules":
        return self

    def __exit__(self, *_exc_info: object) -> None:
        for active in self:
            active.end()


class Faults:
    """A sandbox's faults: ``credits.faults.add(Reset(), "createTransaction", phase="after", nth=1)``."""

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
        self, what: object = None, operation: RuleOperation | None = None, **rule_fields: Unpack[RuleFields]
    ) -> ActiveRule:
        """Add a rule: an effect, a `Rule` or an object of JSON, for an operation, with the words of `Rule`.

        A script needs no effect: ``add(script=[503, "ok"])``. The rule is active until it is removed or the sandbox
        ends; in ``with credits.faults.add(...) as rule``, until the block ends, and fails the test if it is scripted
        and stayed unused. ``credits.faults(...)`` is the same. Raises FaultError, naming the field.
        """
        operation_field = {} if operation is None else {"operation": operation}
        if isinstance(what, str | Path | Sequence):
            source = short_repr(cast("object", what))
            problem = f"a rule is {source}, a {type(cast('object', what)).__name__}: give {RULE_SOURCES}"
            load_call = f"credits.faults.load({short_repr(str(what)) if isinstance(what, Path) else source})"
            raise FaultError(f"{problem}; a preset, a scenario file or a list of rules is loaded: {load_call}")
        return self._add_rule(rule_from(what, **rule_fields, **operation_field))

    __call__ = add

    def load(self, what: object) -> LoadedRules:
        """Add all rules of a preset by its name, of a scenario file by its path, or of a list.

        They are active as long as those of `add`: in ``with credits.faults.load("outage"):``, until the block ends.
        Raises FaultError if one of them can't be, and then none is added.
        """
        from fake_credits.faults.scenarios import parse_rules

        added: list[ActiveRule] = []
        try:
            for rule in parse_rules(what):
                added.append(self._add_rule(rule))
        except ValueError:
            for active in added:
                active.remove()
            raise
        return LoadedRules(added)

    def find(self, name: str) -> ActiveRule:
        """Return the rule of a name; raise FaultError if there is none."""
        with self._engine.lock:
            return self._engine.find(name)

    def clear(self) -> None:
        """Remove every rule; calls that one has already hit aren't affected."""
        for active in self:
            active.remove()


def describe_unused_rule(active: ActiveRule) -> str:
    """Return the failure message for a scripted rule that stayed unused."""
    remaining = active.script_left()
    state = f"has entries left: {', '.join(map(str, remaining))}" if active.rule.script else "never fired"
    noun = "calls" if active.matched > 1 else "call"
    matches = f"{active.matched or 'no'} {noun} matched it"
    expected = f"it waits for {describe_match(active.rule)}"
    return f"the scripted rule {active.name!r} {state} ({matches}): {expected}; say optional=True where that is right"
