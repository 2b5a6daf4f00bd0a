"""The scheduler of one run, which holds the exchanges of an event loop and releases them one at a time.

An exchange is released only once all tasks are blocked, so that every exchange that doesn't depend on a further release
has arrived.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fake_credits.contract import Operation
from fake_credits.explore.loop_tasks import LoopTasks, Task, running_loop_tasks
from fake_credits.explore.orders import Access, Step, StepIds
from fake_credits.explore.runs import ObservedCall

_WRITES = (Operation.CREATE_TRANSACTION.value, Operation.CREATE_USER.value)
_NO_STEP = -1


@dataclass(eq=False, slots=True)
class HeldExchange:
    """An exchange that a task has started, held until the scheduler releases it.

    ``call`` is the sandbox's record of the exchange; it is None before the release, and stays None if no operation
    matched. ``later_calls`` are the calls that blocking clients make before the next exchange is released.
    """

    task: Task
    event: Any
    id: int = _NO_STEP
    after: frozenset[int] = frozenset()
    call: ObservedCall | None = None
    later_calls: list[ObservedCall] = field(default_factory=list[ObservedCall])

    @property
    def step(self) -> Step:
        """Return the exchange, with the blocking clients' calls that follow it, as a single step of the search."""
        calls = [*([] if self.call is None else [self.call]), *self.later_calls]
        return Step(self.id, self.after, frozenset(access for call in calls for access in _accesses(call)))


def _accesses(call: ObservedCall) -> Iterator[Access]:
    if call.operation == Operation.LIST_USERS:
        yield Access(call.application, "", "read")
        return
    yield Access(call.application, call.user, "write" if call.operation in _WRITES else "read")
    if call.operation == Operation.CREATE_USER:
        yield Access(call.application, "", "add")


@dataclass(frozen=True, slots=True)
class GateRelease:
    """The release of one call from a gate, once ``arrived`` calls have arrived.

    ``selector`` is the call's user or its position among the held calls.
    """

    arrived: int
    selector: int | str
    label: str


@dataclass(frozen=True, slots=True)
class GatePlan:
    """A plan for reproducing an order: the releases from a gate that holds every call.

    ``on_trio`` says whether trio ran the test.
    """

    releases: tuple[GateRelease, ...]
    on_trio: bool = False


class OrderScheduler:
    """A scheduler that releases the exchanges in ``prefix`` in that order, and all later ones in order of arrival.

    ``missing`` is the id of the first exchange in the prefix that had not arrived when its turn came, or None. If an
    exchange is missing, the rest of the prefix is ignored.
    """

    def __init__(self, prefix: Sequence[int], ids: StepIds) -> None:
        self.released: list[HeldExchange] = []
        self.missing: int | None = None
        self.log: list[tuple[Literal["arrival", "release"], HeldExchange] | tuple[Literal["call"], ObservedCall]] = []
        self._ids = ids
        self._wanted = list(reversed(prefix))
        self._held: list[HeldExchange] = []
        self._current: HeldExchange | None = None  # the released exchange whose call is not yet recorded
        self._tasks: LoopTasks | None = None
        self._thread_id = 0
        self._task_numbers: dict[Task, int] = {}
        self._positions: Counter[int] = Counter()
        self._last_steps: dict[Task, int] = {}
        self._awaited: defaultdict[Task, set[Task]] = defaultdict(set)
        self._earlier_loops: frozenset[int] = frozenset()

    def __repr__(self) -> str:
        return f"<OrderScheduler: released={len(self.released)}, held={len(self._held)}>"

    @property
    def steps(self) -> list[Step]:
        """Return a step for each released exchange, in order of release."""
        return [exchange.step for exchange in self.released]

    @property
    def diverged(self) -> bool:
        """Return whether the run lacked a planned exchange, which means that the test varies from run to run."""
        return self.missing is not None and all(exchange.id != self.missing for exchange in self.released)

    def close(self) -> None:
        """Forget the run's tasks, which asyncio would otherwise have to search through in the next run."""
        for exchange in self.released:
            exchange.task = None
        for tasks in (self._task_numbers, self._last_steps, self._awaited):
            tasks.clear()

    async def hold(self) -> None:
        """Hold the current exchange until its turn comes; return at once if it is in another thread's event loop."""
        if not self._enter_loop() or self._tasks is None:
            return
        exchange = HeldExchange(self._tasks.calling_task(), self._tasks.new_event())
        self._held.append(exchange)
        self.log.append(("arrival", exchange))
        self._tasks.watch()
        try:
            await exchange.event.wait()
        except BaseException:
            if exchange in self._held:
                self._held.remove(exchange)
            raise
        self._current = exchange

    def record_call(self, call: ObservedCall) -> None:
        """Record the current call, which belongs to the released exchange or to a blocking client."""
        exchange, self._current = self._current, None
        if exchange is not None:
            exchange.call = call
            return
        self.log.append(("call", call))
        if self.released:
            self.released[-1].later_calls.append(call)

    def _enter_loop(self) -> bool:
        """Find the running loop; return False if the scheduler already uses another thread's loop."""
        if self._tasks is not None and self._tasks.is_running():
            return True
        if self._held and self._thread_id != threading.get_ident():
            return False
        self._held.clear()
        self._earlier_loops |= frozenset(self._last_steps.values())
        self._tasks, self._thread_id = running_loop_tasks(self._on_quiet), threading.get_ident()
        return True

    def _on_quiet(self) -> None:
        """Release the next exchange, now that all tasks are blocked."""
        tasks = self._tasks
        if tasks is None or not self._held:
            return
        live = tasks.live()
        self._number_tasks(live)
        holding = {exchange.task for exchange in self._held}
        for task in live:
            if task not in holding:
                self._awaited[task].update(tasks.awaited_by(task, live))
        for exchange in self._held:
            if exchange.id == _NO_STEP:
                self._identify(exchange, set(live))
        self._release(self._choose())
        if self._held:
            tasks.watch()

    def _number_tasks(self, live: Sequence[Task]) -> None:
        cause = self.released[-1].id if self.released else _NO_STEP
        new = [task for task in live if task not in self._task_numbers]
        for rank, task in enumerate(new):
            self._task_numbers[task] = self._ids.task(cause, rank)

    def _identify(self, exchange: HeldExchange, live: set[Task]) -> None:
        """Set an exchange's id, and find the exchanges that precede it in every order."""
        number = self._task_numbers.get(exchange.task, _NO_STEP)
        exchange.id = self._ids.step(number, self._positions[number])
        self._positions[number] += 1
        finished = {task for task in self._awaited_closure(exchange.task) if task not in live}
        after = {self._last_steps[task] for task in (exchange.task, *finished) if task in self._last_steps}
        if self.released:
            after.add(self.released[-1].id)  # the exchange arrived only after this release
        exchange.after = frozenset(after) | self._earlier_loops
        self._last_steps[exchange.task] = exchange.id

    def _awaited_closure(self, task: Task) -> set[Task]:
        found: set[Task] = set()
        unvisited = [task]
        while unvisited:
            new = self._awaited[unvisited.pop()] - found
            found |= new
            unvisited += new
        return found

    def _choose(self) -> HeldExchange:
        if self._wanted:
            wanted = self._wanted.pop()
            for exchange in self._held:
                if exchange.id == wanted:
                    return exchange
            self.missing = wanted
            self._wanted.clear()
        return self._held[0]

    def _release(self, exchange: HeldExchange) -> None:
        self._held.remove(exchange)
        self._current = None
        self.released.append(exchange)
        self.log.append(("release", exchange))
        exchange.event.set()

    def gate_plan(self) -> GatePlan:
        """Return a plan for reproducing this run's order with a gate that holds every call."""
        releases: list[GateRelease] = []
        arrived = 0
        held: list[ObservedCall] = []
        task_numbers: dict[Task, int] = {}
        for kind, item in self.log:
            call = item.call if isinstance(item, HeldExchange) else item
            if call is None:
                continue  # it matched no operation, so no gate holds it
            if kind != "release":
                arrived += 1
                held.append(call)
            if kind != "arrival":
                users = [each.user for each in held]
                selector = call.user if call.user and users.count(call.user) == 1 else held.index(call)
                label = f"{call.operation} {call.user}" + ("" if call.delta is None else f" {call.delta}")
                if isinstance(item, HeldExchange):
                    label += f" (task {task_numbers.setdefault(item.task, len(task_numbers) + 1)})"
                releases.append(GateRelease(arrived, selector, label))
                held.remove(call)
        return GatePlan(tuple(releases), on_trio=self._tasks is not None and self._tasks.is_trio)
