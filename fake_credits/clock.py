"""A sandbox's clock and the actions scheduled on it.

This is the only module that reads the wall clock and the monotonic clock.
"""

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Literal

__all__ = [
    "EPOCH",
    "MAX_TIMESTAMP_MS",
    "Clock",
    "Mode",
    "Timer",
    "from_ms",
    "monotonic_s",
    "perf_counter_ns",
    "to_ms",
    "wall_clock_ms",
]

Mode = Literal["real", "offset", "frozen"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_TIMESTAMP_MS = 253_402_300_799_999
"""The last millisecond that an ISO 8601 date of four digits can say: 9999-12-31T23:59:59.999Z."""

_MIN_COMPACT_SIZE = 64
"""So many are kept, whether cancelled or not, before it is looked who can be let go."""

# Captured once, inside a tuple: freezegun replaces every function that it finds as an attribute of a module, and a
# limit or a duration measured by a frozen clock would never end.
_UNPATCHED_CLOCKS = (time.monotonic, time.perf_counter_ns)


def monotonic_s() -> float:
    """Return seconds of a clock that nobody can stop or set, for limits and waits."""
    return _UNPATCHED_CLOCKS[0]()


def perf_counter_ns() -> int:
    """Return nanoseconds of the finest clock there is, for durations."""
    return _UNPATCHED_CLOCKS[1]()


def wall_clock_ms() -> int:
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


class Timer:
    """Be something that happens when a clock reaches ``at_ms``, in milliseconds since 1970, unless it is cancelled."""

    __slots__ = ("action", "at_ms", "label")

    def __init__(self, at_ms: int, action: Callable[[], object], label: str) -> None:
        self.at_ms = at_ms
        self.action: Callable[[], object] | None = action
        self.label = label

    def __repr__(self) -> str:
        return f"<Timer at {from_ms(self.at_ms).isoformat()}: {self.label}>"

    @property
    def is_pending(self) -> bool:
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
        self._start_ms: int | None = None if frozen_at is None else _check_range(to_ms(frozen_at))
        self._frozen_ms = self._start_ms
        self._queue: list[tuple[int, bool, int, int, Timer]] = []
        self._compact_at = _MIN_COMPACT_SIZE
        self._sequence = itertools.count()
        self._is_closed = False

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
        frozen_ms = self._frozen_ms
        return wall_clock_ms() + self._offset_ms if frozen_ms is None else frozen_ms

    def now(self) -> datetime:
        """Return the time as an aware datetime in UTC."""
        return from_ms(self.now_ms())

    def reset(self) -> None:
        """Return to how this clock was made, which may be back in time; what was to happen later does not."""
        with self._lock:
            self._offset_ms, self._frozen_ms = 0, self._start_ms
            self.cancel_all()

    def freeze(self, at: datetime | None = None) -> None:
        """Stand still, now or at a later moment; raise ValueError for an earlier or a naive one."""
        with self._lock:
            now_ms = self.now_ms()
            target_ms = self._check_target(now_ms if at is None else to_ms(at), now_ms)
            self._frozen_ms = now_ms
            self.move_to(target_ms)

    def advance(self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """Move forward by a duration of zero or more, rounded up to whole milliseconds.

        Raises ValueError for a negative or an endless one, TypeError for what is no number.
        """
        units = {"days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
        for name, value in units.items():
            if isinstance(value, bool) or not isinstance(value, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"{name} must be a number, not {type(value).__name__}")
        try:
            step_ms = -(-timedelta(**units) // timedelta(milliseconds=1))
        except (OverflowError, ValueError):  # endless, and not a number
            raise ValueError("the step is no duration within the years 1970 to 9999") from None
        with self._lock:
            now_ms = self.now_ms()
            self.move_to(self._check_target(now_ms + step_ms, now_ms))

    def travel(self, to: datetime) -> None:
        """Move forward to a moment; raise ValueError for an earlier or a naive one."""
        with self._lock:
            self.move_to(self._check_target(to_ms(to), self.now_ms()))

    # ------------------------------------------------------------ what is to happen later

    def schedule(
        self, at_ms: int, action: Callable[[], object], *, label: str, ordinal: int = 0, is_timeout: bool = False
    ) -> Timer:
        """Let something happen once the clock reaches a moment.

        At equal times a timeout comes after all else, and then the lower ``ordinal`` first.
        """
        at_ms = min(at_ms, MAX_TIMESTAMP_MS)
        timer = Timer(at_ms, action, label)
        with self._lock:
            if len(self._queue) >= self._compact_at:
                # Drop what was cancelled; the next time at twice what is left, so that it costs each a constant.
                self._queue = [entry for entry in self._queue if entry[-1].is_pending]
                heapq.heapify(self._queue)
                self._compact_at = max(_MIN_COMPACT_SIZE, 2 * len(self._queue))
            heapq.heappush(self._queue, (at_ms, is_timeout, ordinal, next(self._sequence), timer))
        return timer

    def move_to(self, target_ms: int) -> int:
        """Move to a moment, unless it has passed, running on the way what is due, each at its own time.

        Returns how much that was.
        """
        count = 0
        with self._lock:
            while self._queue and self._queue[0][0] <= target_ms:
                timer = heapq.heappop(self._queue)[-1]
                action, timer.action = timer.action, None
                if action is not None:
                    self._set_time(timer.at_ms)
                    count += 1
                    action()
            self._set_time(target_ms)
        return count

    def run_due(self) -> None:
        """Run what is due by now; a ``real`` clock moves by itself, so this stands at each way into a sandbox."""
        if self._queue:
            with self._lock:
                self.move_to(self.now_ms())

    def run_pending(self) -> int:
        """Move forward until nothing is left to happen, and return how much did."""
        count = 0
        with self._lock:
            while timers := self.pending():
                count += self.move_to(timers[0].at_ms)
        return count

    def pending(self) -> list[Timer]:
        """Return what is to happen later, in its order."""
        with self._lock:
            return [entry[-1] for entry in sorted(self._queue) if entry[-1].is_pending]

    def cancel_all(self) -> list[Timer]:
        """Let nothing of it happen, and return it."""
        if not self._queue:
            return []
        with self._lock:
            timers = self.pending()
            self._queue.clear()
            for timer in timers:
                timer.cancel()
        return timers

    def close(self) -> list[Timer]:
        """Drop what is to happen later, return it, and let nobody move this clock any more."""
        self._is_closed = True
        return self.cancel_all()

    def _check_target(self, target_ms: int, now_ms: int) -> int:
        if self._is_closed:
            raise RuntimeError("this clock's sandbox is closed: its test is over")
        if target_ms < now_ms:
            raise ValueError(
                f"a sandbox's clock goes forward only: {from_ms(_check_range(target_ms))} is before {self.now()}"
            )
        return _check_range(target_ms)

    def _set_time(self, target_ms: int) -> None:
        step_ms = target_ms - self.now_ms()
        if step_ms <= 0:
            return
        if self._frozen_ms is None:
            self._offset_ms += step_ms
        else:
            self._frozen_ms = target_ms


def _check_range(ms: int) -> int:
    if not 0 <= ms <= MAX_TIMESTAMP_MS:
        raise ValueError(f"{ms} ms since 1970 is outside the years 1970 to 9999")
    return ms
