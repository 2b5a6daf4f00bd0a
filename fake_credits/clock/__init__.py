"""Own a sandbox's time, and what is to happen later in it: the one reader of the wall clock; know nothing of who asks.

``real`` is the wall clock as the process sees it, so freezegun and time-machine govern it. ``offset`` is the wall
clock moved forward; ``frozen`` stands still until it is moved. The verbs go forward only. What is due at a moment runs
when the clock gets there, before whoever moved it goes on.
"""

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Literal

__all__ = ["EPOCH", "LATEST_MS", "Clock", "Due", "Mode", "from_ms", "monotonic_s", "stopwatch_ns", "to_ms", "wall_ms"]

Mode = Literal["real", "offset", "frozen"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST_MS = 253_402_300_799_999
"""The last millisecond that an ISO 8601 date of four digits can say: 9999-12-31T23:59:59.999Z."""

_FEW = 64
"""So many are kept, whether cancelled or not, before it is looked who can be let go."""

# Captured once, inside a tuple: freezegun replaces every function that it finds as an attribute of a module, and a
# limit or a duration measured by a frozen clock would never end.
_CAPTURED = (time.monotonic, time.perf_counter_ns)


def monotonic_s() -> float:
    """Return seconds of a clock that nobody can stop or set, for limits and waits."""
    return _CAPTURED[0]()


def stopwatch_ns() -> int:
    """Return nanoseconds of the finest clock there is, for durations."""
    return _CAPTURED[1]()


def wall_ms() -> int:
    """Return the wall clock in milliseconds since 1970, as freezegun and time-machine let the process see it."""
    return time.time_ns() // 1_000_000


def to_ms(moment: datetime) -> int:
    """Return an aware datetime as milliseconds since 1970; raise ValueError for a naive one, TypeError for none."""
    if not isinstance(moment, datetime):  # pyright: ignore[reportUnnecessaryIsInstance] - people write texts
        raise TypeError(
            f"a moment must be an aware datetime, such as datetime(..., tzinfo=UTC), not {type(moment).__name__}"
        )
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} is naive: give it a time zone, such as datetime(..., tzinfo=UTC)")
    return (moment - EPOCH) // timedelta(milliseconds=1)


def from_ms(ms: int) -> datetime:
    """Return milliseconds since 1970 as an aware datetime in UTC."""
    return EPOCH + timedelta(milliseconds=ms)


class Due:
    """Be something that happens when a clock reaches ``at_ms``, in milliseconds since 1970, unless it is cancelled."""

    __slots__ = ("action", "at_ms", "label")

    def __init__(self, at_ms: int, action: Callable[[], object], label: str) -> None:
        self.at_ms = at_ms
        self.action: Callable[[], object] | None = action
        self.label = label

    def __repr__(self) -> str:
        return f"<due at {from_ms(self.at_ms).isoformat()}: {self.label}>"

    @property
    def is_ahead(self) -> bool:
        """Tell whether it is still to happen."""
        return self.action is not None

    def cancel(self) -> None:
        """Let it not happen."""
        self.action = None


class Clock:
    """Tell a sandbox its time in whole milliseconds, move it forward on request, and run what is due.

    ``lock`` is held while what is due runs; it must be re-entrant.
    """

    def __init__(self, frozen_at: datetime | None = None, lock: AbstractContextManager[object] | None = None) -> None:
        self._lock = lock or threading.RLock()
        self._offset_ms = 0
        self._start_ms: int | None = None if frozen_at is None else _checked(to_ms(frozen_at))
        self._frozen_ms = self._start_ms
        self._queue: list[tuple[int, bool, int, int, Due]] = []
        self._room = _FEW
        self._numbers = itertools.count()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Clock {self.mode} at {self.now().isoformat()}>"

    @property
    def mode(self) -> Mode:
        """Tell which of the three this clock is now."""
        if self._frozen_ms is not None:
            return "frozen"
        return "offset" if self._offset_ms else "real"

    def now_ms(self) -> int:
        """Return the time in milliseconds since 1970."""
        frozen = self._frozen_ms
        return wall_ms() + self._offset_ms if frozen is None else frozen

    def now(self) -> datetime:
        """Return the time as an aware datetime in UTC."""
        return from_ms(self.now_ms())

    def reset(self) -> None:
        """Return to how this clock was made, which may be back in time; what was to happen later does not."""
        with self._lock:
            self._offset_ms, self._frozen_ms = 0, self._start_ms
            self.drop()

    def freeze(self, at: datetime | None = None) -> None:
        """Stand still, now or at a later moment; raise ValueError for an earlier or a naive one."""
        with self._lock:
            now = self.now_ms()
            target = self._forward(now if at is None else to_ms(at), now)
            self._frozen_ms = now
            self.move_to(target)

    def advance(self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """Move forward by a duration of zero or more, rounded up to whole milliseconds.

        Raises ValueError for a negative or an endless one, TypeError for what is no number.
        """
        parts = {"days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
        for name, value in parts.items():
            if isinstance(value, bool) or not isinstance(value, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"{name} must be a number, not {type(value).__name__}")
        try:
            step = -(-timedelta(**parts) // timedelta(milliseconds=1))
        except (OverflowError, ValueError):  # endless, and not a number
            raise ValueError("the step is no duration within the years 1970 to 9999") from None
        with self._lock:
            now = self.now_ms()
            self.move_to(self._forward(now + step, now))

    def travel(self, to: datetime) -> None:
        """Move forward to a moment; raise ValueError for an earlier or a naive one."""
        with self._lock:
            self.move_to(self._forward(to_ms(to), self.now_ms()))

    # ------------------------------------------------------------ what is to happen later

    def schedule(
        self, at_ms: int, action: Callable[[], object], *, label: str, ordinal: int = 0, is_timeout: bool = False
    ) -> Due:
        """Let something happen once the clock reaches a moment.

        At equal times a timeout comes after all else, and then the lower ``ordinal`` first.
        """
        at_ms = min(at_ms, LATEST_MS)
        due = Due(at_ms, action, label)
        with self._lock:
            if len(self._queue) >= self._room:
                self._let_go()
            heapq.heappush(self._queue, (at_ms, is_timeout, ordinal, next(self._numbers), due))
        return due

    def _let_go(self) -> None:
        """Forget what was cancelled; at twice what is left it is looked again, so that it costs each a constant."""
        self._queue = [entry for entry in self._queue if entry[-1].is_ahead]
        heapq.heapify(self._queue)
        self._room = max(_FEW, 2 * len(self._queue))

    def move_to(self, target_ms: int) -> int:
        """Move to a moment, unless it has passed, running on the way what is due, each at its own time.

        Returns how much that was.
        """
        count = 0
        with self._lock:
            while self._queue and self._queue[0][0] <= target_ms:
                due = heapq.heappop(self._queue)[-1]
                action, due.action = due.action, None
                if action is not None:
                    self._set(due.at_ms)
                    count += 1
                    action()
            self._set(target_ms)
        return count

    def run_due(self) -> None:
        """Run what is due by now; a ``real`` clock moves by itself, so this stands at each way into a sandbox."""
        if self._queue:
            with self._lock:
                self.move_to(self.now_ms())

    def settle(self) -> int:
        """Move forward until nothing is left to happen, and return how much did."""
        count = 0
        with self._lock:
            while parked := self.parked():
                count += self.move_to(parked[0].at_ms)
        return count

    def parked(self) -> list[Due]:
        """Return what is to happen later, in its order."""
        with self._lock:
            return [entry[-1] for entry in sorted(self._queue) if entry[-1].is_ahead]

    def drop(self) -> list[Due]:
        """Let nothing of it happen, and return it."""
        if not self._queue:
            return []
        with self._lock:
            parked = self.parked()
            self._queue.clear()
            for due in parked:
                due.cancel()
        return parked

    def close(self) -> list[Due]:
        """Drop what is to happen later, return it, and let nobody move this clock any more."""
        self._closed = True
        return self.drop()

    def _forward(self, target_ms: int, now_ms: int) -> int:
        if self._closed:
            raise RuntimeError("this clock's sandbox is closed: its test is over")
        if target_ms < now_ms:
            raise ValueError(
                f"a sandbox's clock goes forward only: {from_ms(_checked(target_ms))} is before {self.now()}"
            )
        return _checked(target_ms)

    def _set(self, target_ms: int) -> None:
        step = target_ms - self.now_ms()
        if step <= 0:
            return
        if self._frozen_ms is None:
            self._offset_ms += step
        else:
            self._frozen_ms = target_ms


def _checked(ms: int) -> int:
    if not 0 <= ms <= LATEST_MS:
        raise ValueError(f"{ms} ms since 1970 is outside the years 1970 to 9999")
    return ms
