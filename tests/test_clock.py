"""Test the sandbox's clock: modes, moving forward, timers and patched wall clocks."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
from freezegun import freeze_time
from hypothesis import given
from hypothesis import strategies as st

from fake_credits.clock import (
    EPOCH,
    MAX_TIMESTAMP_MS,
    Clock,
    Timer,
    from_ms,
    monotonic_s,
    perf_counter_ns,
    to_ms,
    wall_clock_ms,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAIVE = NOON.replace(tzinfo=None)

BACKWARD_MOVES: list[Callable[[Clock], None]] = [
    lambda clock: clock.advance(seconds=-1),
    lambda clock: clock.advance(days=1, hours=-25),
    lambda clock: clock.travel(NOON - timedelta(milliseconds=1)),
    lambda clock: clock.freeze(NOON - timedelta(milliseconds=1)),
]
NAIVE_REJECTING_CALLS: list[Callable[[datetime], object]] = [Clock, Clock().freeze, Clock().travel, to_ms]


def test_clock_follows_wall_clock_by_default() -> None:
    clock = Clock()
    assert clock.mode == "real"
    assert wall_clock_ms() <= clock.now_ms() <= wall_clock_ms()


def test_advanced_clock_keeps_offset_to_wall_clock() -> None:
    with freeze_time(NOON) as wall:
        clock = Clock()
        clock.advance(days=30)
        assert clock.mode == "offset"
        wall.tick(timedelta(hours=1))
        assert clock.now() == NOON + timedelta(days=30, hours=1)


def test_frozen_clock_ignores_wall_clock() -> None:
    clock = Clock(NOON)
    with freeze_time(NOON + timedelta(days=1)):
        assert (clock.mode, clock.now()) == ("frozen", NOON)


def test_frozen_clock_stays_frozen_after_advance_and_travel() -> None:
    clock = Clock(NOON)
    clock.advance(days=1, hours=1, minutes=1, seconds=1.5)
    assert clock.now() == NOON + timedelta(days=1, hours=1, minutes=1, seconds=1.5)
    clock.travel(NOON + timedelta(days=2))
    assert (clock.mode, clock.now()) == ("frozen", NOON + timedelta(days=2))


def test_freeze_stops_clock_now_or_at_given_time() -> None:
    with freeze_time(NOON) as wall:
        now, later = Clock(), Clock()
        now.freeze()
        later.freeze(NOON + timedelta(hours=1))
        wall.tick(timedelta(minutes=1))
        assert (now.now(), later.now()) == (NOON, NOON + timedelta(hours=1))


def test_freeze_keeps_offset() -> None:
    with freeze_time(NOON):
        clock = Clock()
        clock.travel(NOON + timedelta(days=1))
        clock.freeze()
        assert clock.now() == NOON + timedelta(days=1)


@pytest.mark.parametrize("move_back", BACKWARD_MOVES)
def test_moving_backward_is_rejected_and_keeps_time(move_back: Callable[[Clock], None]) -> None:
    clock = Clock(NOON)
    with pytest.raises(ValueError, match="only moves forward"):
        move_back(clock)
    assert clock.now() == NOON


def test_moving_to_current_time_is_allowed() -> None:
    clock = Clock(NOON)
    clock.advance()
    clock.travel(NOON)
    clock.freeze(NOON)
    assert clock.now() == NOON


@pytest.mark.parametrize("call", NAIVE_REJECTING_CALLS)
def test_naive_datetime_is_rejected(call: Callable[[datetime], object]) -> None:
    with pytest.raises(ValueError, match="tzinfo=UTC"):
        call(NAIVE)


def test_time_zone_is_converted_to_utc() -> None:
    tokyo = timezone(timedelta(hours=9))
    assert Clock(NOON.astimezone(tokyo)).now() == NOON
    assert Clock(NOON.astimezone(tokyo)).now().tzinfo is UTC


def test_clock_truncates_to_milliseconds() -> None:
    assert Clock(NOON + timedelta(microseconds=1999)).now() == NOON + timedelta(milliseconds=1)


def test_clock_stops_at_end_of_year_9999() -> None:
    clock = Clock(from_ms(MAX_TIMESTAMP_MS))
    assert clock.now().isoformat() == "9999-12-31T23:59:59.999000+00:00"
    with pytest.raises(ValueError, match="1970 to 9999"):
        clock.advance(seconds=0.001)
    assert clock.now_ms() == MAX_TIMESTAMP_MS


@pytest.mark.parametrize("days", [3_000_000, 999_999_999, 1e12, float("inf")])
def test_advance_past_year_9999_raises_value_error(days: float) -> None:
    clock = Clock(NOON)
    with pytest.raises(ValueError, match="1970 to 9999"):
        clock.advance(days=days)
    assert clock.now() == NOON


@pytest.mark.parametrize("part", ["days", "hours", "minutes", "seconds"])
@pytest.mark.parametrize("value", ["5", None, timedelta(1)])
def test_advance_rejects_non_numeric_argument(part: str, value: Any) -> None:
    clock = Clock(NOON)
    with pytest.raises(TypeError, match=f"{part} must be a number, not {type(value).__name__}"):
        clock.advance(**{part: value})
    assert clock.now() == NOON


def test_time_before_1970_is_rejected() -> None:
    with pytest.raises(ValueError, match="1970 to 9999"):
        Clock(EPOCH - timedelta(milliseconds=1))


def test_to_ms_inverts_from_ms() -> None:
    for ms in (0, 1, 999, 1_772_366_400_123, MAX_TIMESTAMP_MS):
        assert to_ms(from_ms(ms)) == ms


def test_real_clock_follows_freezegun() -> None:
    clock = Clock()
    with freeze_time(NOON) as wall:
        assert clock.now() == NOON
        wall.tick(timedelta(seconds=5))
        assert clock.now() == NOON + timedelta(seconds=5)
    assert clock.now() > NOON + timedelta(days=1)


def test_real_clock_follows_time_machine() -> None:
    time_machine: Any = pytest.importorskip("time_machine")
    clock = Clock()
    with time_machine.travel(NOON, tick=False) as wall:
        assert clock.now() == NOON
        wall.shift(5)
        assert clock.now() == NOON + timedelta(seconds=5)


def test_monotonic_clocks_ignore_freezegun() -> None:
    with freeze_time(NOON):
        started_s, started_ns = monotonic_s(), perf_counter_ns()
        while monotonic_s() == started_s or perf_counter_ns() == started_ns:
            pass
        assert monotonic_s() > started_s
        assert perf_counter_ns() > started_ns


def test_repr_contains_mode_and_time() -> None:
    assert repr(Clock(NOON)) == "<Clock frozen at 2026-03-01T12:00:00+00:00>"


def test_run_pending_counts_timers_due_at_same_time() -> None:
    clock, labels = Clock(NOON), list[str]()
    clock.schedule(to_ms(NOON) + 5, lambda: labels.append("one"), label="one")
    clock.schedule(to_ms(NOON) + 5, lambda: labels.append("another"), label="another")
    clock.schedule(to_ms(NOON) + 9, lambda: labels.append("the last"), label="the last")
    clock.schedule(to_ms(NOON) + 99, lambda: labels.append("never"), label="never").cancel()
    assert clock.run_pending() == 3
    assert labels == ["one", "another", "the last"]
    assert clock.now_ms() == to_ms(NOON) + 9


def test_timer_is_pending_until_fired_or_cancelled() -> None:
    clock = Clock(NOON)
    fired, cancelled = (clock.schedule(to_ms(NOON) + number, lambda: None, label="") for number in range(2))
    clock.advance(seconds=0)
    assert (fired.is_pending, cancelled.is_pending) == (False, True)
    assert clock.cancel_all() == [cancelled]
    assert not cancelled.is_pending


def timer_count(clock: Clock) -> int:
    return len(clock._queue)  # pyright: ignore[reportPrivateUsage]


def test_cancelled_timers_are_removed_from_queue() -> None:
    clock = Clock(NOON)
    active_timers = [clock.schedule(to_ms(NOON) + number, lambda: None, label="") for number in range(100)]
    for _ in range(5_000):
        clock.schedule(to_ms(NOON) + 30_000, lambda: None, label="timeout", is_timeout=True).cancel()
    assert timer_count(clock) <= 200
    assert clock.pending() == active_timers
    clock.run_pending()
    for _ in range(1_000):
        clock.schedule(to_ms(NOON) + 30_000, lambda: None, label="timeout", is_timeout=True).cancel()
    assert timer_count(clock) <= 64  # however many timers there were before


STEP_STRATEGY = st.one_of(
    st.tuples(st.just("schedule"), st.integers(1, 40), st.integers(0, 50), st.integers(0, 3)),
    st.tuples(st.just("cancel"), st.integers(0, 500)),
    st.tuples(st.just("cancel all but"), st.integers(0, 500)),
    st.tuples(st.just("move"), st.integers(0, 20)),
)


class ClockModel:
    """Reference model of a clock that keeps all timers in a list and searches it each time."""

    def __init__(self) -> None:
        self.clock, self.fired, self.expected = Clock(NOON), list[int](), list[int]()
        self._all: list[tuple[tuple[int, bool, int, int], Timer]] = []

    def schedule(self, count: int, in_ms: int, ordinal: int) -> None:
        """Schedule ``count`` timers for the same time, every other one a timeout."""
        at_ms = self.clock.now_ms() + in_ms
        for number in range(len(self._all), len(self._all) + count):
            callback, is_timeout = partial(self.fired.append, number), bool(number % 2)
            timer = self.clock.schedule(at_ms, callback, label="", ordinal=ordinal, is_timeout=is_timeout)
            self._all.append(((at_ms, is_timeout, ordinal, number), timer))

    def cancel(self, index: int) -> None:
        for _, timer in self._all[index : index + 1]:
            timer.cancel()

    def cancel_all_but(self, index: int) -> None:
        for number in range(len(self._all)):
            if number != index:
                self.cancel(number)

    def move(self, by_ms: int) -> None:
        target = self.clock.now_ms() + by_ms
        self.expected += [key[-1] for key, timer in sorted(self._all) if timer.is_pending and key[0] <= target]
        self.clock.move_to(target)

    def expected_pending(self) -> list[Timer]:
        return [timer for _, timer in sorted(self._all, key=lambda each: each[0]) if timer.is_pending]


@given(st.lists(STEP_STRATEGY, max_size=40))
def test_timers_fire_in_same_order_as_model(steps: list[tuple[Any, ...]]) -> None:
    model = ClockModel()
    for name, *arguments in steps:
        getattr(model, name.replace(" ", "_"))(*arguments)
        assert model.clock.pending() == model.expected_pending()
    model.move(50)
    assert model.fired == model.expected
