"""A search for all non-equivalent orders of concurrent exchanges, using dynamic partial-order reduction.

Two orders are equivalent if one can be turned into the other by swapping adjacent exchanges that commute. For each race
in an executed run, an order is planned in which the later exchange comes first. It is skipped if an executed run starts
with an equivalent order, so no two runs are equivalent, unless one deviates from its plan.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple


class Access(NamedTuple):
    """An exchange's access to a user of an application or, if ``user`` is empty, to the application's list of users.

    Reads commute with reads, and additions with additions.
    """

    application: str
    user: str
    mode: Literal["read", "write", "add"]

    def commutes_with(self, other: "Access") -> bool:
        """Return whether two accesses have the same effect in either order."""
        if (self.application, self.user) != (other.application, other.user):
            return True
        return self.mode == other.mode != "write"


@dataclass(frozen=True, slots=True)
class Step:
    """An exchange in a run, with an id that is the same in every run.

    ``after`` contains the ids of the earlier exchanges that led to it.
    """

    id: int
    after: frozenset[int] = frozenset()
    accesses: frozenset[Access] = frozenset()

    def commutes_with(self, other: "Step") -> bool:
        """Return whether two exchanges have the same effect in either order."""
        return all(own.commutes_with(access) for own in self.accesses for access in other.accesses)


Occurrence = tuple[int, int]
"""An exchange's id, and a bit mask of the ids of all exchanges that it depends on."""


class StepIds:
    """A registry of task and exchange numbers that are the same in every run.

    A task is identified by when it appeared, and an exchange by its position within its task.
    """

    def __init__(self) -> None:
        self._tasks: dict[tuple[int, int], int] = {}
        self._steps: dict[tuple[int, int], int] = {}

    def __repr__(self) -> str:
        return f"<StepIds: tasks={len(self._tasks)}, steps={len(self._steps)}>"

    def task(self, cause: int, rank: int) -> int:
        """Return the number of the task with the given ``rank`` among those that appeared after the step ``cause``."""
        return self._tasks.setdefault((cause, rank), len(self._tasks))

    def step(self, task: int, position: int) -> int:
        """Return the number of an exchange, given its position among its task's exchanges."""
        return self._steps.setdefault((task, position), len(self._steps))


class OrderSearch:
    """A search for all non-equivalent orders.

    Each iteration yields the sequence of ids that the next run must start with; later exchanges may come in any order.
    Pass each run to `add` before asking for the next sequence.
    """

    def __init__(self) -> None:
        self._pending: deque[tuple[tuple[int, ...], frozenset[Occurrence]]] = deque([((), frozenset())])
        self._planned: set[frozenset[Occurrence]] = set()
        self._executed: dict[Occurrence, list[frozenset[Occurrence]]] = {}

    def __repr__(self) -> str:
        return f"<OrderSearch: planned={len(self._pending)}>"

    def __len__(self) -> int:
        return len(self._pending)

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        while self._pending:
            prefix, occurrences = self._pending.popleft()
            if not self._is_executed(occurrences):
                yield prefix

    def add(self, steps: Sequence[Step]) -> bool:
        """Plan the orders that an executed run suggests; return False if an equivalent run was added before."""
        run = _Run(steps)
        occurrences = frozenset(run.occurrences)
        if self._is_executed(occurrences):
            return False
        for occurrence in occurrences:
            self._executed.setdefault(occurrence, []).append(occurrences)
        for earlier, later in run.races():
            prefix, wanted = run.reverse(earlier, later)
            if wanted not in self._planned and not self._is_executed(wanted):
                self._planned.add(wanted)
                self._pending.append((prefix, wanted))
        return True

    def _is_executed(self, occurrences: frozenset[Occurrence]) -> bool:
        """Return whether an executed run starts with a sequence equivalent to the one with these occurrences."""
        if not occurrences:
            return False
        runs = min((self._executed.get(occurrence, []) for occurrence in occurrences), key=len)
        return any(occurrences <= run for run in runs)


class _Run:
    """An executed run, with each step's occurrence and a bit mask of the positions of its causes."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._causes: list[int] = []
        self.occurrences: list[Occurrence] = []
        for position, step in enumerate(steps):
            causes, occurrence = self._trace(step, range(position))
            self._causes.append(causes)
            self.occurrences.append(occurrence)

    def _trace(self, step: Step, earlier_positions: Sequence[int]) -> tuple[int, Occurrence]:
        """Return the causes and the occurrence of a step, given the steps before it."""
        causes = ids = 0
        for position in reversed(earlier_positions):
            if not causes >> position & 1 and _depends(step, self._steps[position]):
                earlier_id, earlier_ids = self.occurrences[position]
                causes |= 1 << position | self._causes[position]
                ids |= 1 << earlier_id | earlier_ids
        return causes, (step.id, ids)

    def races(self) -> Iterator[tuple[int, int]]:
        """Yield the positions of each pair of exchanges that don't commute and aren't ordered by another dependency."""
        for later, step in enumerate(self._steps):
            explained = 0
            for earlier in reversed(range(later)):
                if explained >> earlier & 1 or not _depends(step, self._steps[earlier]):
                    continue
                explained |= self._causes[earlier]
                if self._steps[earlier].id not in step.after:
                    yield earlier, later

    def reverse(self, earlier: int, later: int) -> tuple[tuple[int, ...], frozenset[Occurrence]]:
        """Return an order that omits the earlier exchange and whatever depends on it, and ends with the later one."""
        positions = range(len(self._steps))
        kept = [position for position in positions if position != earlier and not self._causes[position] >> earlier & 1]
        _, last = self._trace(self._steps[later], kept)
        prefix = (*(self._steps[position].id for position in kept), last[0])
        return prefix, frozenset([*(self.occurrences[position] for position in kept), last])


def _depends(step: Step, earlier: Step) -> bool:
    return earlier.id in step.after or not step.commutes_with(earlier)
