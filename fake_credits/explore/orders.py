"""Which orders of concurrent exchanges make a difference: dynamic partial-order reduction over executed runs.

Two orders are equivalent if swapping neighbouring exchanges that commute turns one into the other. For each race in an
executed run, an order is planned in which the later exchange comes first. It is run unless a run that is equivalent to
it, as far as it goes, has been executed, so each run shows an order that no other run shows.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple


class Access(NamedTuple):
    """What an exchange does to a user of an application, or, if ``user`` is empty, to the list of its users.

    Reads commute with reads, and additions with additions.
    """

    application: str
    user: str
    mode: Literal["read", "write", "add"]

    def commutes_with(self, other: "Access") -> bool:
        """Return whether the order of two accesses makes no difference."""
        if (self.application, self.user) != (other.application, other.user):
            return True
        return self.mode == other.mode != "write"


@dataclass(frozen=True, slots=True)
class Step:
    """An executed exchange, with an id that is the same in every run.

    ``after`` are the ids of earlier exchanges without which the application would not have made it.
    """

    id: int
    after: frozenset[int] = frozenset()
    accesses: frozenset[Access] = frozenset()

    def commutes_with(self, other: "Step") -> bool:
        """Return whether the order of two exchanges makes no difference."""
        return all(own.commutes_with(access) for own in self.accesses for access in other.accesses)


Occurrence = tuple[int, int]
"""An exchange's id, and those of all exchanges that it depends on as a bit mask."""


class StepIds:
    """Numbers for tasks and their exchanges that are the same in every run: a task is known by what created it."""

    def __init__(self) -> None:
        self._tasks: dict[tuple[int, int], int] = {}
        self._steps: dict[tuple[int, int], int] = {}

    def __repr__(self) -> str:
        return f"<StepIds: {len(self._tasks)} tasks, {len(self._steps)} steps>"

    def task(self, cause: int, rank: int) -> int:
        """Return the number of a task: the ``rank``-th that appeared after the step ``cause``."""
        return self._tasks.setdefault((cause, rank), len(self._tasks))

    def step(self, task: int, position: int) -> int:
        """Return the number of a task's exchange, by its position among that task's exchanges."""
        return self._steps.setdefault((task, position), len(self._steps))


class OrderSearch:
    """A search for all orders: iterate over what to run next, and `add` each run before the next one.

    The items are sequences of ids with which a run is to begin; the exchanges after them may come in any order.
    """

    def __init__(self) -> None:
        self._pending: deque[tuple[tuple[int, ...], frozenset[Occurrence]]] = deque([((), frozenset())])
        self._planned: set[frozenset[Occurrence]] = set()
        self._executed: dict[Occurrence, list[frozenset[Occurrence]]] = {}

    def __repr__(self) -> str:
        return f"<OrderSearch: {len(self._pending)} orders planned>"

    def __len__(self) -> int:
        return len(self._pending)

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        while self._pending:
            prefix, occurrences = self._pending.popleft()
            if not self._is_executed(occurrences):
                yield prefix

    def add(self, steps: Sequence[Step]) -> bool:
        """Plan what an executed run suggests; return False for an order that has been executed."""
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
        """Return whether some executed run begins in this way, apart from exchanges that commute."""
        if not occurrences:
            return False
        runs = min((self._executed.get(occurrence, []) for occurrence in occurrences), key=len)
        return any(occurrences <= run for run in runs)


class _Run:
    """An executed run: for each step, its occurrence, and the positions of its causes as a bit mask."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._causes: list[int] = []
        self.occurrences: list[Occurrence] = []
        for position, step in enumerate(steps):
            causes, occurrence = self._trace(step, range(position))
            self._causes.append(causes)
            self.occurrences.append(occurrence)

    def _trace(self, step: Step, earlier_positions: Sequence[int]) -> tuple[int, Occurrence]:
        """Return the causes and the occurrence of a step that comes after some others."""
        causes = ids = 0
        for position in reversed(earlier_positions):
            if not causes >> position & 1 and _depends(step, self._steps[position]):
                earlier_id, earlier_ids = self.occurrences[position]
                causes |= 1 << position | self._causes[position]
                ids |= 1 << earlier_id | earlier_ids
        return causes, (step.id, ids)

    def races(self) -> Iterator[tuple[int, int]]:
        """Yield the positions of exchanges that don't commute, where nothing else puts one before the other."""
        for later, step in enumerate(self._steps):
            explained = 0
            for earlier in reversed(range(later)):
                if explained >> earlier & 1 or not _depends(step, self._steps[earlier]):
                    continue
                explained |= self._causes[earlier]
                if self._steps[earlier].id not in step.after:
                    yield earlier, later

    def reverse(self, earlier: int, later: int) -> tuple[tuple[int, ...], frozenset[Occurrence]]:
        """Return the order without an exchange and what depends on it, and then the later one of a race."""
        positions = range(len(self._steps))
        kept = [position for position in positions if position != earlier and not self._causes[position] >> earlier & 1]
        _, last = self._trace(self._steps[later], kept)
        prefix = (*(self._steps[position].id for position in kept), last[0])
        return prefix, frozenset([*(self.occurrences[position] for position in kept), last])


def _depends(step: Step, earlier: Step) -> bool:
    return earlier.id in step.after or not step.commutes_with(earlier)
