"""A sandbox's clock and the actions scheduled on it.

Other modules should read the wall clock and the monotonic clock only through the functions in this module.
"""

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Literal

from fake_credits.arguments import keyword_hint
from fake_credits.text import short_repr

Mode = Literal["real", "offset", "frozen"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_TIMESTAMP_MS = 253_402_300_799_999
"""The latest time that ISO 8601 can express with a four-digit year: 9999-12-31T23:59:59.999Z."""

_MIN_COMPACT_SIZE = 64
"""The minimum queue length at which cancelled timers are removed."""

# Kept in a tuple, because freezegun replaces functions that are attributes of a module, and a timeout measured by a
# frozen clock would never expire.
_UNPATCHED_CLOCKS = (time.monotonic, time.perf_counter_ns)


def monotonic_s() -> float:
    """Return the monotonic time in seconds, for timeouts; freezegun does not affect it."""
    return _UNPATCHED_CLOCKS[0]()


def perf_counter_ns() -> int:
    """Return the value of the performance counter in nanoseconds, for durations; freezegun does not affect it."""
    return _UNPATCHED_CLOCKS[1]()


def wall_clock_ms() -> int:
    """Return the wall-clock time in milliseconds since 1970; freezegun and time-machine can change it."""
    return time.time_ns() // 1_000_000


class NaiveTimeError(ValueError):
    """A time without a time zone."""


def to_ms(moment: datetime | str) -> int:
    """Convert an aware datetime or an ISO 8601 string to milliseconds since 1970.

    Raises NaiveTimeError if the time zone is missing, ValueError if the string is otherwise invalid, and TypeError for
    any other type.
    """
    if isinstance(moment, str):
        parsed, example = _parse_iso(moment), "2030-01-01T00:00:00Z"
    elif isinstance(moment, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]
        parsed, example = moment, "datetime(2030, 1, 1, tzinfo=UTC)"
    else:
        raise TypeError(
            "a time must be a datetime with a time zone, or an ISO 8601 string such as '2030-01-01T00:00:00Z', "
            f"not {type(moment).__name__}"
        )
    if parsed.tzinfo is None:
        raise NaiveTimeError(f"{moment!r} has no time zone: add one, as in {example}")
    return (parsed - EPOCH) // timedelta(milliseconds=1)


def _parse_iso(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{short_repr(text)} is not an ISO 8601 date and time, such as 2030-01-01T00:00:00Z") from None


def from_ms(ms: int) -> datetime:
    """Convert milliseconds since 1970 to an aware datetime in UTC."""
    return EPOCH + timedelta(milliseconds=ms)


class Timer:
    """An action that runs when a clock reaches ``at_ms`` (milliseconds since 1970), unless it is cancelled first."""

    __slots__ = ("action", "at_ms", "label")

    def __init__(self, at_ms: int, action: Callable[[], object], label: str) -> None:
        self.at_ms = at_ms
        self.action: Callable[[], object] | None = action
        self.label = label

    def __repr__(self) -> str:
        return f"<Timer at {from_ms(self.at_ms).isoformat()}: {self.label}>"

    @property
    def is_pending(self) -> bool:
        """Return whether the action has neither run nor been cancelled."""
        return self.action is not None

    def cancel(self) -> None:
        """Cancel the timer; do nothing if its action has already run."""
        self.action = None


class Clock:
    """The clock of a sandbox, in whole milliseconds; moving it forward runs the timers that are due.

    ``lock`` is held while timers run, and must be re-entrant.
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
        """Return the current mode; ``offset`` means that the clock is not frozen, but has been moved forward."""
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
        """Restore the initial state, which may move the clock back, and cancel all timers."""
        with self._lock:
            self._offset_ms, self._frozen_ms = 0, self._start_ms
            self.cancel_all()

    def freeze(self, at: datetime | str | None = None) -> None:
        """Freeze the clock at ``at``, or at its current time if ``at`` is None.

        Raises ValueError if ``at`` is in the past or has no time zone.
        """
        with self._lock:
            now_ms = self.now_ms()
            target_ms = self._check_target(now_ms if at is None else to_ms(at), now_ms)
            self._frozen_ms = now_ms
            self.move_to(target_ms)

    @keyword_hint("seconds")
    def advance(self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """Move the clock forward by a duration, rounded up to whole milliseconds.

        Raises ValueError for a negative or infinite duration, and TypeError for a value that is not a number.
        """
        units = {"days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
        for name, value in units.items():
            if isinstance(value, bool) or not isinstance(value, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"{name} must be a number, not {type(value).__name__}")
        try:
            step_ms = -(-timedelta(**units) // timedelta(milliseconds=1))
        except (OverflowError, ValueError):  # infinite, NaN or too large
            raise ValueError("the duration must be finite and keep the clock within the years 1970 to 9999") from None
        with self._lock:
            now_ms = self.now_ms()
            self.move_to(self._check_target(now_ms + step_ms, now_ms))

    def travel(self, to: datetime | str) -> None:
        """Move the clock forward to a time; raise ValueError if the time is in the past or has no time zone."""
        with self._lock:
            self.move_to(self._check_target(to_ms(to), self.now_ms()))

    # ------------------------------------------------------------ timers

    def schedule(
        self, at_ms: int, action: Callable[[], object], *, label: str, ordinal: int = 0, is_timeout: bool = False
    ) -> Timer:
        """Schedule an action for ``at_ms``, in milliseconds since 1970, and return its timer.

        Timers due at the same time run in the order of their ordinals, except that timeouts run last.
        """
        at_ms = min(at_ms, MAX_TIMESTAMP_MS)
        timer = Timer(at_ms, action, label)
        with self._lock:
            if len(self._queue) >= self._compact_at:
                # Remove cancelled timers; doubling the threshold keeps the amortized cost per timer constant.
                self._queue = [entry for entry in self._queue if entry[-1].is_pending]
                heapq.heapify(self._queue)
                self._compact_at = max(_MIN_COMPACT_SIZE, 2 * len(self._queue))
            heapq.heappush(self._queue, (at_ms, is_timeout, ordinal, next(self._sequence), timer))
        return timer

    def move_to(self, target_ms: int) -> int:
        """Move the clock forward to a time, running each timer due by then at its scheduled time; return how many ran.

        If the time is in the past, the clock does not move.
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
        """Run the timers that are due. Every entry point calls this, because an unfrozen clock advances on its own."""
        if self._queue:
            with self._lock:
                self.move_to(self.now_ms())

    def run_pending(self) -> int:
        """Move the clock forward until no timers are left, and return how many ran."""
        count = 0
        with self._lock:
            while timers := self.pending():
                count += self.move_to(timers[0].at_ms)
        return count

    def pending(self) -> list[Timer]:
        """Return the pending timers, in the order in which they will run."""
        with self._lock:
            return [entry[-1] for entry in sorted(self._queue) if entry[-1].is_pending]

    def cancel_all(self) -> list[Timer]:
        """Cancel all pending timers, and return them."""
        if not self._queue:
            return []
        with self._lock:
            timers = self.pending()
            self._queue.clear()
            for timer in timers:
                timer.cancel()
        return timers

    def close(self) -> list[Timer]:
        """Cancel all pending timers and return them; after that, moving the clock raises RuntimeError."""
        self._is_closed = True
        return self.cancel_all()

    def _check_target(self, target_ms: int, now_ms: int) -> int:
        if self._is_closed:
            raise RuntimeError("this clock's sandbox is closed (its test is over)")
        if target_ms < now_ms:
            raise ValueError(
                f"a sandbox's clock only moves forward: {from_ms(_check_range(target_ms))} is before {self.now()}"
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
        raise ValueError(f"a time must be within the years 1970 to 9999, got {ms} ms since 1970")
    return ms
