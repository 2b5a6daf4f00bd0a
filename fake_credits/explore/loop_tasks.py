"""The tasks of a running event loop: which ones exist, what they are waiting for, and when all are blocked."""

import asyncio
import random
import re
import sys
from collections.abc import Callable, Generator, Iterable, MutableSequence, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast

from fake_credits.transports.in_process import CALLING_TASK

Task = Any
"""An asyncio or trio task."""

_QUIET_OBSERVATIONS = 2
_MAX_OBSERVATIONS = 1000
_MAX_BUSY_S = 1.0
_NAME_AND_NUMBER = re.compile(r"(.*?)(\d*)", re.DOTALL)


class LoopTasks(Protocol):
    """The tasks of one event loop.

    After `watch`, ``on_quiet`` is called in the loop once all tasks are blocked. A loop in which some task never blocks
    counts as quiet after a while.
    """

    is_trio: bool

    def is_running(self) -> bool:
        """Return whether the current code is running in this loop."""
        ...

    def calling_task(self) -> Task:
        """Return the task that made the current request."""
        ...

    def live(self) -> list[Task]:
        """Return all unfinished tasks, in creation order."""
        ...

    def awaited_by(self, task: Task, others: Iterable[Task], /) -> Iterable[Task]:
        """Return the tasks whose completion a blocked task is waiting for."""
        ...

    def new_event(self) -> Any:
        """Return a new event for this loop."""
        ...

    def watch(self) -> None:
        """Arrange for ``on_quiet`` to be called once all tasks are blocked."""
        ...


def running_loop_tasks(on_quiet: Callable[[], None]) -> LoopTasks:
    """Return the tasks of the running event loop (asyncio, uvloop or trio)."""
    trio = sys.modules.get("trio")
    if trio is not None:
        try:
            trio.lowlevel.current_task()
        except RuntimeError:
            pass
        else:
            return _TrioTasks(trio, on_quiet)
    return _AsyncioTasks(on_quiet)


class _AsyncioTasks:
    is_trio = False

    def __init__(self, on_quiet: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_quiet = on_quiet
        self._observations = 0
        self._quiet_observations = 0

    def is_running(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def calling_task(self) -> Task:
        return CALLING_TASK.get() or asyncio.current_task()

    def live(self) -> list[Task]:
        return sorted(asyncio.all_tasks(self._loop), key=_natural_name)

    def awaited_by(self, task: Task, others: Iterable[Task]) -> Iterable[Task]:
        future = task._fut_waiter
        return [other for other in others if other is future or _wakes(other, future)]

    def new_event(self) -> Any:
        return asyncio.Event()

    def watch(self) -> None:
        self._quiet_observations = 0
        if not self._observations:
            self._observations = 1
            self._loop.call_soon(self._observe)

    def _observe(self) -> None:
        tasks = cast("Iterable[Task]", asyncio.all_tasks(self._loop))
        is_quiet = all(task._fut_waiter is not None and not task._fut_waiter.done() for task in tasks)
        self._quiet_observations = self._quiet_observations + 1 if is_quiet else 0
        if self._quiet_observations < _QUIET_OBSERVATIONS and self._observations < _MAX_OBSERVATIONS:
            self._observations += 1
            self._loop.call_soon(self._observe)
        else:
            self._observations = 0
            self._on_quiet()


def _natural_name(task: Task) -> tuple[str, int]:
    """Return a sort key for the order of creation: asyncio numbers its tasks, so Task-9 comes before Task-10."""
    match = _NAME_AND_NUMBER.fullmatch(task.get_name())
    return (match[1], int(match[2] or 0)) if match else ("", 0)


def _wakes(task: Task, future: object) -> bool:
    """Return whether an asyncio task's completion resolves the future, as in gather, wait and task groups."""
    for callback, _ in task._callbacks or ():
        cells: Sequence[Any] = getattr(callback, "__closure__", None) or ()
        closed_over = (cell.cell_contents for cell in cells if _is_filled(cell))
        for value in (getattr(callback, "__self__", None), *getattr(callback, "args", ()), *closed_over):
            if value is future or getattr(value, "_on_completed_fut", None) is future:
                return True
    return False


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - raises if it is empty
    except ValueError:
        return False
    return True


class _TrioTasks:
    is_trio = True

    def __init__(self, trio: Any, on_quiet: Callable[[], None]) -> None:
        import trio.testing  # pyright: ignore[reportUnusedImport]

        self._trio = trio
        self._root = trio.lowlevel.current_root_task()
        self._on_quiet = on_quiet
        self._is_watching = False

    def is_running(self) -> bool:
        try:
            return self._trio.lowlevel.current_root_task() is self._root
        except RuntimeError:
            return False

    def calling_task(self) -> Task:
        return self._trio.lowlevel.current_task()

    def live(self) -> list[Task]:
        found: list[Task] = []
        unvisited: list[Task] = [self._root]
        while unvisited:
            task = unvisited.pop()
            found.append(task)
            unvisited += (child for nursery in task.child_nurseries for child in nursery.child_tasks)
        watcher = self._trio.lowlevel.current_task()
        return sorted((task for task in found if task is not watcher), key=lambda task: task._counter)

    def awaited_by(self, task: Task, _others: Iterable[Task]) -> Iterable[Task]:
        nurseries = (nursery for nursery in task.child_nurseries if nursery._parent_waiting_in_aexit)
        return [child for nursery in nurseries for child in nursery.child_tasks]

    def new_event(self) -> Any:
        return self._trio.Event()

    def watch(self) -> None:
        if not self._is_watching:
            self._is_watching = True
            self._trio.lowlevel.spawn_system_task(self._wait_until_quiet)

    async def _wait_until_quiet(self) -> None:
        with self._trio.move_on_after(_MAX_BUSY_S):
            for _ in range(_QUIET_OBSERVATIONS):
                await self._trio.testing.wait_all_tasks_blocked()
        self._is_watching = False
        self._on_quiet()


class _NoShuffle(random.Random):
    """A stand-in for trio's random number generator that makes tasks run in creation order."""

    def random(self) -> float:
        return 1.0

    def shuffle(self, x: MutableSequence[Any]) -> None:
        x.reverse()


@contextmanager
def unshuffled_trio() -> Generator[None]:
    """Make trio run tasks in creation order instead of shuffling them; do nothing if trio is not loaded."""
    run: Any = sys.modules.get("trio._core._run")
    if run is None:
        yield
        return
    original = run._r, run._ALLOW_DETERMINISTIC_SCHEDULING
    run._r, run._ALLOW_DETERMINISTIC_SCHEDULING = _NoShuffle(), True
    try:
        yield
    finally:
        run._r, run._ALLOW_DETERMINISTIC_SCHEDULING = original
