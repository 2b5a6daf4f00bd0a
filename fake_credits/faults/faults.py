"""Own how a test author declares faults in Python: one object with a verb each; know nothing of what rules do."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

from fake_credits.faults.active_rule import ActiveRule
from fake_credits.faults.checks import FaultError, short_repr
from fake_credits.faults.engine import FaultEngine
from fake_credits.faults.rule import Rule
from fake_credits.faults.serialization import describe_match, rule_from, rule_from_kwargs

__all__ = ["Faults", "LoadedRules", "describe_unused_rule"]


class LoadedRules(tuple[ActiveRule, ...]):
    """Be the rules that were added together; as a context manager it ends them all with the block."""

    __slots__ = ()

    def __enter__(self) -> "LoadedRules":
        return self

    def __exit__(self, *_exc_info: object) -> None:
        for active in self:
            active.end()


class Faults:
    """Declare a sandbox's faults: ``credits.faults.add(Reset(), "createTransaction", phase="after", nth=1)``."""

    def __init__(
        self, engine: FaultEngine, lock: AbstractContextManager[object], add_rule: Callable[[Rule], ActiveRule]
    ) -> None:
        self._engine = engine
        self._lock = lock
        self._add_rule = add_rule

    def __repr__(self) -> str:
        return f"<Faults: {', '.join(active.name for active in self) or 'none'}>"

    def __len__(self) -> int:
        return len(self._engine)

    def __iter__(self) -> Iterator[ActiveRule]:
        with self._lock:
            return iter(tuple(self._engine))

    def add(self, what: object = None, operation: str | None = None, **rule_fields: Any) -> ActiveRule:
        """Add a rule: an effect, a `Rule` or an object of JSON, for an operation, with the words of `Rule`.

        A script needs no effect: ``add(script=[503, "ok"])``. The rule holds until it is taken out or the sandbox ends;
        in ``with credits.faults.add(...) as rule`` until the block does. Raises FaultError for what can't be, naming
        the field.
        """
        if operation is not None:
            rule_fields["operation"] = operation
        if isinstance(what, str | Path | Sequence):
            type_name = type(cast("object", what)).__name__
            expected = "an effect, a Rule or an object of JSON"
            load_call = (
                f"credits.faults.load({short_repr(str(what) if isinstance(what, Path) else cast('object', what))})"
            )
            problem = f"a rule is {short_repr(cast('object', what))}, a {type_name}: give {expected}"
            raise FaultError(f"{problem}; a preset, a scenario file or a list of rules is loaded: {load_call}")
        return self._add_rule(rule_from_kwargs(rule_fields) if what is None else rule_from(what, **rule_fields))

    def load(self, what: object) -> LoadedRules:
        """Add all rules of a preset by its name, of a scenario file by its path, or of a list.

        They hold as those of `add` do: in ``with credits.faults.load("outage"):`` until the end of the block. Raises
        FaultError for what can't be, and then none is added.
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

    def __call__(self, what: object = None, operation: str | None = None, **rule_fields: Any) -> ActiveRule:
        """Add a rule as `add` does, most often for a block: ``with credits.faults(Close(), "reads"):``.

        A scripted one that stayed unused in its block fails the test.
        """
        return self.add(what, operation, **rule_fields)

    def find(self, name: str) -> ActiveRule:
        """Return the rule of a name; raise FaultError where there is none."""
        with self._lock:
            return self._engine.find(name)

    def clear(self) -> None:
        """Take every rule out; calls that one has hit already go on as they were."""
        for active in self:
            active.remove()


def describe_unused_rule(active: ActiveRule) -> str:
    """Return what to tell whoever declared a scripted rule that stayed unused."""
    remaining = active.script_left()
    state = f"has entries left: {', '.join(map(str, remaining))}" if active.rule.script else "never fired"
    noun = "calls" if active.matched > 1 else "call"
    matches = f"{active.matched or 'no'} {noun} matched it"
    expected = f"it waits for {describe_match(active.rule)}"
    return f"the scripted rule {active.name!r} {state} ({matches}): {expected}; say optional=True where that is right"
