"""Own how a test author declares faults in Python: one object with a verb each; know nothing of what rules do."""

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from fake_credits.faults.plan import ActiveRule, Plan
from fake_credits.faults.rule import Rule, rule_from

__all__ = ["Faults", "unused_text"]


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

    def add(self, what: object = None, operation: str = "", **words: Any) -> ActiveRule:
        """Add a rule: an effect, a `Rule` or an object of JSON, for an operation, with the words of `Rule`.

        A script needs no effect: ``add(script=[503, "ok"])``. Raises FaultError for what can't be, naming the field.
        """
        if operation:
            words["operation"] = operation
        return self._add(Rule(**words) if what is None else rule_from(what, **words))

    def load(self, what: object) -> tuple[ActiveRule, ...]:
        """Add all rules of a preset by its name, of a scenario file by its path, or of a list.

        Raises FaultError for what can't be, and then none is added.
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
        return tuple(added)

    @contextmanager
    def __call__(self, what: object = None, operation: str = "", **words: Any) -> Generator[ActiveRule, None, None]:
        """Add a rule for the time of a ``with`` block; a scripted one that stayed unused in it fails the test."""
        active = self.add(what, operation, **words)
        try:
            yield active
        finally:
            with self._lock:
                self._plan.end(active)

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
    return f"the scripted rule {active.name!r} {what} ({told}); say optional=True where that is right"
