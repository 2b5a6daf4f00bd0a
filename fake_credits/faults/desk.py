"""Own how a test author declares faults in Python: one object with a verb each; know nothing of what rules do."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

from fake_credits.faults.checks import FaultError, shown
from fake_credits.faults.plan import ActiveRule, Plan
from fake_credits.faults.reading import rule_from, rule_of_words, waited_for
from fake_credits.faults.rule import Rule

__all__ = ["Faults", "LoadedRules", "unused_text"]


class LoadedRules(tuple[ActiveRule, ...]):
    """Be the rules that were added together; as a context manager it ends them all with the block."""

    __slots__ = ()

    def __enter__(self) -> "LoadedRules":
        return self

    def __exit__(self, *_raised: object) -> None:
        for active in self:
            active.end()


class Faults:
    """Declare a sandbox's faults: ``credits.faults.add(Reset(), "createTransaction", phase="after", nth=1)``."""

    def __init__(self, plan: Plan, lock: AbstractContextManager[object], add: Callable[[Rule], ActiveRule]) -> None:
        self._plan = plan
        self._lock = lock
        self._add = add

    def __repr__(self) -> str:
        return f"<Faults: {', '.join(active.name for active in self) or 'none'}>"

    def __len__(self) -> int:
        return len(self._plan)

    def __iter__(self) -> Iterator[ActiveRule]:
        with self._lock:
            return iter(tuple(self._plan))

    def add(self, what: object = None, operation: str | None = None, **words: Any) -> ActiveRule:
        """Add a rule: an effect, a `Rule` or an object of JSON, for an operation, with the words of `Rule`.

        A script needs no effect: ``add(script=[503, "ok"])``. The rule holds until it is taken out or the sandbox ends;
        in ``with credits.faults.add(...) as rule`` until the block does. Raises FaultError for what can't be, naming
        the field.
        """
        if operation is not None:
            words["operation"] = operation
        if isinstance(what, str | Path | Sequence):
            kind = type(cast("object", what)).__name__
            forms = "an effect, a Rule or an object of JSON"
            loaded = f"credits.faults.load({shown(str(what) if isinstance(what, Path) else cast('object', what))})"
            told = f"a rule is {shown(cast('object', what))}, a {kind}: give {forms}"
            raise FaultError(f"{told}; a preset, a scenario file or a list of rules is loaded: {loaded}")
        return self._add(rule_of_words(words) if what is None else rule_from(what, **words))

    def load(self, what: object) -> LoadedRules:
        """Add all rules of a preset by its name, of a scenario file by its path, or of a list.

        They hold as those of `add` do: in ``with credits.faults.load("outage"):`` until the end of the block. Raises
        FaultError for what can't be, and then none is added.
        """
        from fake_credits.faults.scenario import rules_of

        added: list[ActiveRule] = []
        try:
            for rule in rules_of(what):
                added.append(self._add(rule))
        except ValueError:
            for active in added:
                active.remove()
            raise
        return LoadedRules(added)

    def __call__(self, what: object = None, operation: str | None = None, **words: Any) -> ActiveRule:
        """Add a rule as `add` does, most often for a block: ``with credits.faults(Close(), "reads"):``.

        A scripted one that stayed unused in its block fails the test.
        """
        return self.add(what, operation, **words)

    def find(self, name: str) -> ActiveRule:
        """Return the rule of a name; raise FaultError where there is none."""
        with self._lock:
            return self._plan.find(name)

    def clear(self) -> None:
        """Take every rule out; calls that one has hit already go on as they were."""
        for active in self:
            active.remove()


def unused_text(active: ActiveRule) -> str:
    """Return what to tell whoever declared a scripted rule that stayed unused."""
    left = active.script_left()
    what = f"has entries left: {', '.join(map(str, left))}" if active.rule.script else "never fired"
    calls = "calls" if active.matched > 1 else "call"
    told = f"{active.matched or 'no'} {calls} matched it"
    waits = f"it waits for {waited_for(active.rule)}"
    return f"the scripted rule {active.name!r} {what} ({told}): {waits}; say optional=True where that is right"
