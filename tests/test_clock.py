"""Test the sandbox's clock and thread events: modes, timers, timeouts, patched clocks and debugger prompts."""

import asyncio
import io
import pdb
import threading
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
import time_machine
import trio
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
from fake_credits.thread_events import CrossThreadEvent, ensure_no_running_loop, wait_event
from fake_credits.transports.live import new_event_loop

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
    with pytest.raises(ValueError, match="forward only"):
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
@pytest.mark.parametrize("value", [True, "5", None, timedelta(1)])
def test_advance_rejects_non_numeric_argument(part: str, value: Any) -> None:
    clock = Clock(NOON)
    with pytest.raises(TypeError, match=f"^{part} must be a number, not {type(value).__name__}$"):
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
    assert timer_count(clock) <= 64  # and not as many as there once were


STEP_STRATEGY = st.one_of(
    st.tuples(st.just("schedule"), st.integers(1, 40), st.integers(0, 50), st.integers(0, 3)),
    st.tuples(st.just("cancel"), st.integers(0, 500)),
    st.tuples(st.just("cancel all but"), st.integers(0, 500)),
    st.tuples(st.just("move"), st.integers(0, 20)),
)


class Model:
    """Reference model of a clock that keeps all timers in a list and searches it each time."""

    def __init__(self) -> None:
        self.clock, self.fired, self.expected = Clock(NOON), list[int](), list[int]()
        self._all: list[tuple[tuple[int, bool, int, int], Timer]] = []

    def schedule(self, count: int, in_ms: int, ordinal: int) -> None:
        """Schedule ``count`` timers at one time, every second of them a timeout."""
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
def test_timers_fire_in_order_of_model(steps: list[tuple[Any, ...]]) -> None:
    model = Model()
    for name, *arguments in steps:
        getattr(model, name.replace(" ", "_"))(*arguments)
        assert model.clock.pending() == model.expected_pending()
    model.move(50)
    assert model.fired == model.expected


LONG_S = 30.0
SHORT_S = 0.002

RunMain = Callable[[Callable[[], Awaitable[None]]], None]


def on_asyncio(main: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await main()

    asyncio.run(run())


def on_uvloop(main: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await main()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(run())


LOOP_RUNNERS: list[RunMain] = [on_asyncio, on_uvloop, trio.run]


@pytest.fixture(params=LOOP_RUNNERS, ids=["asyncio", "uvloop", "trio"])
def run(request: pytest.FixtureRequest) -> RunMain:
    runner: RunMain = request.param
    return runner


@pytest.fixture(autouse=True)
def no_threads_left() -> Iterator[None]:
    """Fail when a test leaves a thread running."""
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def in_thread(target: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=target)
    thread.start()
    return thread


class BlockingPromptInput(io.StringIO):
    """Terminal input that answers the debugger's prompt only when the test sets ``proceed``."""

    def __init__(self) -> None:
        super().__init__()
        self.is_open = threading.Event()
        self.proceed = threading.Event()

    def readline(self, _size: int | None = -1, /) -> str:  # type: ignore[override] # as typeshed's own StringIO
        self.is_open.set()
        self.proceed.wait()
        return "continue\n"


def open_prompt_at_breakpoint(debugger: pdb.Pdb) -> int:
    debugger.set_trace()
    return 1


def open_prompt_post_mortem(debugger: pdb.Pdb) -> None:
    """Open the prompt as ``pytest --pdb`` does."""
    try:
        raise ZeroDivisionError
    except ZeroDivisionError as failure:
        debugger.reset()
        debugger.interaction(None, failure.__traceback__)


@pytest.fixture(params=[open_prompt_at_breakpoint, open_prompt_post_mortem])
def prompt(request: pytest.FixtureRequest) -> Iterator[BlockingPromptInput]:
    """Open a debugger's prompt in another thread."""
    prompt = BlockingPromptInput()
    debugger = pdb.Pdb(stdin=prompt, stdout=io.StringIO(), nosigint=True)
    debugger.use_rawinput = False
    thread = in_thread(lambda: request.param(debugger))
    prompt.is_open.wait()
    yield prompt
    prompt.proceed.set()
    thread.join()


@pytest.mark.parametrize("limit_s", [None, LONG_S])
def test_event_wakes_task_from_another_thread(run: RunMain, limit_s: float | None) -> None:
    async def main() -> None:
        event = CrossThreadEvent()
        thread = in_thread(event.set)
        assert await event.wait(limit_s)
        thread.join()

    run(main)


def test_event_wakes_task_from_same_loop() -> None:
    async def main() -> None:
        event = CrossThreadEvent()
        wait_task = asyncio.create_task(event.wait(LONG_S))
        await asyncio.sleep(0)
        event.set()
        assert await wait_task

    asyncio.run(main())


def test_event_set_before_wait_returns_at_once(run: RunMain) -> None:
    async def main() -> None:
        event = CrossThreadEvent()
        event.set()
        event.set()
        assert await event.wait(None)
        assert await event.wait(0)

    run(main)


def test_async_wait_times_out_and_can_be_repeated(run: RunMain) -> None:
    async def main() -> None:
        event = CrossThreadEvent()
        started_s = monotonic_s()
        assert not await event.wait(SHORT_S)
        assert monotonic_s() - started_s >= SHORT_S
        assert not await event.wait(0)
        event.set()
        assert await event.wait(LONG_S)

    run(main)


def test_cancelled_wait_leaves_no_thread() -> None:
    """The fixture ``no_threads_left`` counts the threads."""

    async def main() -> None:
        wait_task = asyncio.create_task(CrossThreadEvent().wait(LONG_S))
        await asyncio.sleep(0)
        wait_task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wait_task

    asyncio.run(main())


def test_set_after_loop_is_closed_does_nothing(run: RunMain) -> None:
    events: list[CrossThreadEvent] = []

    async def main() -> None:
        events.append(CrossThreadEvent())
        await events[0].wait(0)

    run(main)
    events[0].set()
    assert repr(events[0]) == "<CrossThreadEvent, set>"


def test_waits_time_out_under_freezegun(run: RunMain) -> None:
    async def main() -> None:
        with freeze_time("2030-01-01"):
            assert not await CrossThreadEvent().wait(SHORT_S)
            assert not wait_event(threading.Event(), SHORT_S)

    run(main)


def test_waits_time_out_under_time_machine(run: RunMain) -> None:
    async def main() -> None:
        with time_machine.travel(0, tick=False):
            assert not await CrossThreadEvent().wait(SHORT_S)
            assert not wait_event(threading.Event(), SHORT_S)

    run(main)


def test_event_requires_running_loop() -> None:
    with pytest.raises(RuntimeError, match="event loop"):
        CrossThreadEvent()


def test_wait_event_returns_true_when_set() -> None:
    event = threading.Event()
    setter = in_thread(event.set)
    assert wait_event(event, None)
    assert wait_event(event, LONG_S)
    assert wait_event(event, 0)
    setter.join()


def test_wait_event_times_out() -> None:
    started_s = monotonic_s()
    assert not wait_event(threading.Event(), SHORT_S)
    assert monotonic_s() - started_s >= SHORT_S
    assert not wait_event(threading.Event(), 0)
    assert not wait_event(threading.Event(), -1)


def test_thread_timeout_pauses_while_debugger_prompt_is_open(prompt: BlockingPromptInput) -> None:
    outcomes: list[bool] = []
    thread = in_thread(lambda: outcomes.append(wait_event(threading.Event(), SHORT_S)))
    thread.join(4 * SHORT_S)
    assert outcomes == []
    prompt.proceed.set()
    thread.join()
    assert outcomes == [False]


def test_task_timeout_pauses_while_debugger_prompt_is_open(prompt: BlockingPromptInput, run: RunMain) -> None:
    async def main() -> None:
        event = CrossThreadEvent()
        timer = threading.Timer(4 * SHORT_S, event.set)
        timer.start()
        assert await event.wait(SHORT_S)
        timer.join()

    run(main)
    assert not prompt.proceed.is_set()


def test_timeout_runs_under_debugger_without_open_prompt() -> None:
    """The debugger's frames are at the bottom of every stack, as with ``python -m pdb`` and ``pytest --trace``."""
    debugger = pdb.Pdb(stdin=io.StringIO("continue\n"), stdout=io.StringIO(), nosigint=True)
    debugger.use_rawinput = False
    assert debugger.runcall(wait_event, threading.Event(), SHORT_S) is False


def test_ensure_no_running_loop_raises_in_event_loop(run: RunMain) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"thing\(\) would stop the event loop .* write `await thing\(\)`"):
            ensure_no_running_loop("thing()", "await thing()")

    run(main)


def test_ensure_no_running_loop_passes_in_other_thread(run: RunMain) -> None:
    ensure_no_running_loop("thing()", "await thing()")

    async def main() -> None:
        in_thread(lambda: ensure_no_running_loop("thing()", "await thing()")).join()

    run(main)
