"""Test a sandbox's time: three modes, forward only, and who governs the real one."""

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

BACK: list[Callable[[Clock], None]] = [
    lambda clock: clock.advance(seconds=-1),
    lambda clock: clock.advance(days=1, hours=-25),
    lambda clock: clock.travel(NOON - timedelta(milliseconds=1)),
    lambda clock: clock.freeze(NOON - timedelta(milliseconds=1)),
]
TAKERS: list[Callable[[datetime], object]] = [Clock, Clock().freeze, Clock().travel, to_ms]


def test_a_clock_is_real_until_it_is_moved() -> None:
    clock = Clock()
    assert clock.mode == "real"
    assert wall_clock_ms() <= clock.now_ms() <= wall_clock_ms()


def test_a_clock_moved_forward_keeps_its_distance_to_the_wall_clock() -> None:
    with freeze_time(NOON) as wall:
        clock = Clock()
        clock.advance(days=30)
        assert clock.mode == "offset"
        wall.tick(timedelta(hours=1))
        assert clock.now() == NOON + timedelta(days=30, hours=1)


def test_a_frozen_clock_stands_still_whatever_the_wall_clock_does() -> None:
    clock = Clock(NOON)
    with freeze_time(NOON + timedelta(days=1)):
        assert (clock.mode, clock.now()) == ("frozen", NOON)


def test_a_frozen_clock_moves_when_it_is_told_to_and_stays_frozen() -> None:
    clock = Clock(NOON)
    clock.advance(days=1, hours=1, minutes=1, seconds=1.5)
    assert clock.now() == NOON + timedelta(days=1, hours=1, minutes=1, seconds=1.5)
    clock.travel(NOON + timedelta(days=2))
    assert (clock.mode, clock.now()) == ("frozen", NOON + timedelta(days=2))


def test_a_real_clock_freezes_now_or_at_a_later_moment() -> None:
    with freeze_time(NOON) as wall:
        now, later = Clock(), Clock()
        now.freeze()
        later.freeze(NOON + timedelta(hours=1))
        wall.tick(timedelta(minutes=1))
        assert (now.now(), later.now()) == (NOON, NOON + timedelta(hours=1))


def test_freezing_an_offset_clock_keeps_its_offset() -> None:
    with freeze_time(NOON):
        clock = Clock()
        clock.travel(NOON + timedelta(days=1))
        clock.freeze()
        assert clock.now() == NOON + timedelta(days=1)


@pytest.mark.parametrize("back", BACK)
def test_no_verb_goes_back_and_the_refusal_moves_nothing(back: Callable[[Clock], None]) -> None:
    clock = Clock(NOON)
    with pytest.raises(ValueError, match="forward only"):
        back(clock)
    assert clock.now() == NOON


def test_standing_where_one_is_counts_as_forward() -> None:
    clock = Clock(NOON)
    clock.advance()
    clock.travel(NOON)
    clock.freeze(NOON)
    assert clock.now() == NOON


@pytest.mark.parametrize("taker", TAKERS)
def test_a_naive_datetime_is_refused_with_the_way_to_mend_it(taker: Callable[[datetime], object]) -> None:
    with pytest.raises(ValueError, match="tzinfo=UTC"):
        taker(NAIVE)


def test_another_time_zone_means_the_same_moment() -> None:
    tokyo = timezone(timedelta(hours=9))
    assert Clock(NOON.astimezone(tokyo)).now() == NOON
    assert Clock(NOON.astimezone(tokyo)).now().tzinfo is UTC


def test_a_clock_tells_whole_milliseconds_never_ahead_of_what_was_asked() -> None:
    assert Clock(NOON + timedelta(microseconds=1999)).now() == NOON + timedelta(milliseconds=1)


def test_the_last_moment_is_the_last_that_four_digits_can_say() -> None:
    clock = Clock(from_ms(MAX_TIMESTAMP_MS))
    assert clock.now().isoformat() == "9999-12-31T23:59:59.999000+00:00"
    with pytest.raises(ValueError, match="1970 to 9999"):
        clock.advance(seconds=0.001)
    assert clock.now_ms() == MAX_TIMESTAMP_MS


@pytest.mark.parametrize("days", [3_000_000, 999_999_999, 1e12, float("inf")])
def test_a_step_past_the_year_9999_is_a_value_error_however_long(days: float) -> None:
    clock = Clock(NOON)
    with pytest.raises(ValueError, match="1970 to 9999"):
        clock.advance(days=days)
    assert clock.now() == NOON


@pytest.mark.parametrize("part", ["days", "hours", "minutes", "seconds"])
@pytest.mark.parametrize("value", [True, "5", None, timedelta(1)])
def test_a_step_that_is_no_number_is_refused_by_name(part: str, value: Any) -> None:
    clock = Clock(NOON)
    with pytest.raises(TypeError, match=f"^{part} must be a number, not {type(value).__name__}$"):
        clock.advance(**{part: value})
    assert clock.now() == NOON


def test_a_moment_before_1970_is_refused() -> None:
    with pytest.raises(ValueError, match="1970 to 9999"):
        Clock(EPOCH - timedelta(milliseconds=1))


def test_milliseconds_and_datetimes_convert_without_loss() -> None:
    for ms in (0, 1, 999, 1_772_366_400_123, MAX_TIMESTAMP_MS):
        assert to_ms(from_ms(ms)) == ms


def test_freezegun_governs_the_real_clock() -> None:
    clock = Clock()
    with freeze_time(NOON) as wall:
        assert clock.now() == NOON
        wall.tick(timedelta(seconds=5))
        assert clock.now() == NOON + timedelta(seconds=5)
    assert clock.now() > NOON + timedelta(days=1)


def test_time_machine_governs_the_real_clock() -> None:
    time_machine: Any = pytest.importorskip("time_machine")
    clock = Clock()
    with time_machine.travel(NOON, tick=False) as wall:
        assert clock.now() == NOON
        wall.shift(5)
        assert clock.now() == NOON + timedelta(seconds=5)


def test_limits_and_durations_keep_running_while_freezegun_stops_the_rest() -> None:
    with freeze_time(NOON):
        begun_s, begun_ns = monotonic_s(), perf_counter_ns()
        while monotonic_s() == begun_s or perf_counter_ns() == begun_ns:
            pass
        assert monotonic_s() > begun_s
        assert perf_counter_ns() > begun_ns


def test_the_repr_says_mode_and_time() -> None:
    assert repr(Clock(NOON)) == "<Clock frozen at 2026-03-01T12:00:00+00:00>"


def test_settling_counts_each_that_happens_though_they_happen_at_once() -> None:
    clock, happened = Clock(NOON), list[str]()
    clock.schedule(to_ms(NOON) + 5, lambda: happened.append("one"), label="one")
    clock.schedule(to_ms(NOON) + 5, lambda: happened.append("another"), label="another")
    clock.schedule(to_ms(NOON) + 9, lambda: happened.append("the last"), label="the last")
    clock.schedule(to_ms(NOON) + 99, lambda: happened.append("never"), label="never").cancel()
    assert clock.run_pending() == 3
    assert happened == ["one", "another", "the last"]
    assert clock.now_ms() == to_ms(NOON) + 9


def test_what_is_due_knows_whether_it_is_still_ahead() -> None:
    clock = Clock(NOON)
    ran, dropped = (clock.schedule(to_ms(NOON) + number, lambda: None, label="") for number in range(2))
    clock.advance(seconds=0)
    assert (ran.is_pending, dropped.is_pending) == (False, True)
    assert clock.cancel_all() == [dropped]
    assert not dropped.is_pending


def kept_by(clock: Clock) -> int:
    return len(clock._queue)  # pyright: ignore[reportPrivateUsage]


def test_what_was_cancelled_is_let_go_though_the_clock_never_gets_there() -> None:
    clock = Clock(NOON)
    lasting = [clock.schedule(to_ms(NOON) + number, lambda: None, label="") for number in range(100)]
    for _ in range(5_000):
        clock.schedule(to_ms(NOON) + 30_000, lambda: None, label="patience", is_timeout=True).cancel()
    assert kept_by(clock) <= 200
    assert clock.pending() == lasting
    clock.run_pending()
    for _ in range(1_000):
        clock.schedule(to_ms(NOON) + 30_000, lambda: None, label="patience", is_timeout=True).cancel()
    assert kept_by(clock) <= 64  # and not as many as there once were


STEPS = st.one_of(
    st.tuples(st.just("schedule"), st.integers(1, 40), st.integers(0, 50), st.integers(0, 3)),
    st.tuples(st.just("cancel"), st.integers(0, 500)),
    st.tuples(st.just("cancel all but"), st.integers(0, 500)),
    st.tuples(st.just("move"), st.integers(0, 20)),
)


class Model:
    """Be a clock that keeps all that it was told, and looks through it each time."""

    def __init__(self) -> None:
        self.clock, self.ran, self.expected = Clock(NOON), list[int](), list[int]()
        self._all: list[tuple[tuple[int, bool, int, int], Timer]] = []

    def schedule(self, count: int, in_ms: int, ordinal: int) -> None:
        """Schedule so many at one moment, every second of them a timeout."""
        at_ms = self.clock.now_ms() + in_ms
        for number in range(len(self._all), len(self._all) + count):
            happens, late = partial(self.ran.append, number), bool(number % 2)
            due = self.clock.schedule(at_ms, happens, label="", ordinal=ordinal, is_timeout=late)
            self._all.append(((at_ms, late, ordinal, number), due))

    def cancel(self, which: int) -> None:
        for _, due in self._all[which : which + 1]:
            due.cancel()

    def cancel_all_but(self, which: int) -> None:
        for number in range(len(self._all)):
            if number != which:
                self.cancel(number)

    def move(self, by_ms: int) -> None:
        target = self.clock.now_ms() + by_ms
        self.expected += [key[-1] for key, due in sorted(self._all) if due.is_pending and key[0] <= target]
        self.clock.move_to(target)

    def ahead(self) -> list[Timer]:
        return [due for _, due in sorted(self._all, key=lambda each: each[0]) if due.is_pending]


@given(st.lists(STEPS, max_size=40))
def test_what_is_due_runs_in_its_order_whatever_was_cancelled_before(steps: list[tuple[Any, ...]]) -> None:
    model = Model()
    for name, *words in steps:
        getattr(model, name.replace(" ", "_"))(*words)
        assert model.clock.pending() == model.ahead()
    model.move(50)
    assert model.ran == model.expected


LONG_S = 30.0
SHORT_S = 0.002

Run = Callable[[Callable[[], Awaitable[None]]], None]


def on_asyncio(main: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await main()

    asyncio.run(run())


def on_uvloop(main: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await main()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(run())


RUNS: list[Run] = [on_asyncio, on_uvloop, trio.run]


@pytest.fixture(params=RUNS, ids=["asyncio", "uvloop", "trio"])
def run(request: pytest.FixtureRequest) -> Run:
    found: Run = request.param
    return found


@pytest.fixture(autouse=True)
def threads_end() -> Iterator[None]:
    """No wait leaves a thread behind."""
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def in_thread(what: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=what)
    thread.start()
    return thread


class Prompt(io.StringIO):
    """Be the terminal of somebody who thinks long before telling the debugger to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = threading.Event()
        self.go_on = threading.Event()

    def readline(self, _size: int | None = -1, /) -> str:  # type: ignore[override] # as typeshed's own StringIO
        self.shown.set()
        self.go_on.wait()
        return "continue\n"


def at_a_breakpoint(debugger: pdb.Pdb) -> int:
    debugger.set_trace()
    return 1


def after_a_failure(debugger: pdb.Pdb) -> None:
    """As ``pytest --pdb`` does."""
    try:
        raise ZeroDivisionError
    except ZeroDivisionError as failure:
        debugger.reset()
        debugger.interaction(None, failure.__traceback__)


@pytest.fixture(params=[at_a_breakpoint, after_a_failure])
def prompt(request: pytest.FixtureRequest) -> Iterator[Prompt]:
    """A debugger's prompt, open in another thread."""
    prompt = Prompt()
    debugger = pdb.Pdb(stdin=prompt, stdout=io.StringIO(), nosigint=True)
    debugger.use_rawinput = False
    thread = in_thread(lambda: request.param(debugger))
    prompt.shown.wait()
    yield prompt
    prompt.go_on.set()
    thread.join()


@pytest.mark.parametrize("limit_s", [None, LONG_S])
def test_a_task_is_woken_from_another_thread(run: Run, limit_s: float | None) -> None:
    async def main() -> None:
        waker = CrossThreadEvent()
        waiter = in_thread(waker.set)
        assert await waker.wait(limit_s)
        waiter.join()

    run(main)


def test_a_task_is_woken_by_another_task_of_its_loop() -> None:
    async def main() -> None:
        waker = CrossThreadEvent()
        waiting = asyncio.create_task(waker.wait(LONG_S))
        await asyncio.sleep(0)
        waker.set()
        assert await waiting

    asyncio.run(main())


def test_what_was_woken_before_it_waits_does_not_wait_and_stays_awake(run: Run) -> None:
    async def main() -> None:
        waker = CrossThreadEvent()
        waker.set()
        waker.set()
        assert await waker.wait(None)
        assert await waker.wait(0)

    run(main)


def test_a_task_that_nobody_wakes_ends_at_the_limit_and_may_wait_again(run: Run) -> None:
    async def main() -> None:
        waker = CrossThreadEvent()
        begun_s = monotonic_s()
        assert not await waker.wait(SHORT_S)
        assert monotonic_s() - begun_s >= SHORT_S
        assert not await waker.wait(0)
        waker.set()
        assert await waker.wait(LONG_S)

    run(main)


def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    """Threads: the fixture counts them."""

    async def main() -> None:
        waiting = asyncio.create_task(CrossThreadEvent().wait(LONG_S))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())


def test_waking_after_the_loop_is_closed_does_nothing(run: Run) -> None:
    wakers: list[CrossThreadEvent] = []

    async def main() -> None:
        wakers.append(CrossThreadEvent())
        await wakers[0].wait(0)

    run(main)
    wakers[0].set()
    assert repr(wakers[0]) == "<CrossThreadEvent, set>"


def test_limits_end_while_freezegun_stops_every_clock(run: Run) -> None:
    async def main() -> None:
        with freeze_time("2030-01-01"):
            assert not await CrossThreadEvent().wait(SHORT_S)
            assert not wait_event(threading.Event(), SHORT_S)

    run(main)


def test_limits_end_while_time_machine_stops_the_wall_clock(run: Run) -> None:
    async def main() -> None:
        with time_machine.travel(0, tick=False):
            assert not await CrossThreadEvent().wait(SHORT_S)
            assert not wait_event(threading.Event(), SHORT_S)

    run(main)


def test_a_waker_needs_a_loop() -> None:
    with pytest.raises(RuntimeError, match="event loop"):
        CrossThreadEvent()


def test_a_thread_goes_on_when_the_event_is_set() -> None:
    event = threading.Event()
    setter = in_thread(event.set)
    assert wait_event(event, None)
    assert wait_event(event, LONG_S)
    assert wait_event(event, 0)
    setter.join()


def test_a_thread_goes_on_at_the_limit() -> None:
    begun_s = monotonic_s()
    assert not wait_event(threading.Event(), SHORT_S)
    assert monotonic_s() - begun_s >= SHORT_S
    assert not wait_event(threading.Event(), 0)
    assert not wait_event(threading.Event(), -1)


def test_a_limit_stands_still_while_a_debugger_s_prompt_is_open(prompt: Prompt) -> None:
    outcomes: list[bool] = []
    waiter = in_thread(lambda: outcomes.append(wait_event(threading.Event(), SHORT_S)))
    waiter.join(4 * SHORT_S)
    assert outcomes == []
    prompt.go_on.set()
    waiter.join()
    assert outcomes == [False]


def test_a_task_s_limit_stands_still_too(prompt: Prompt, run: Run) -> None:
    async def main() -> None:
        waker = CrossThreadEvent()
        waking = threading.Timer(4 * SHORT_S, waker.set)
        waking.start()
        assert await waker.wait(SHORT_S)
        waking.join()

    run(main)
    assert not prompt.go_on.is_set()


def test_a_program_that_merely_runs_under_a_debugger_keeps_its_limits() -> None:
    """Its frames are at the bottom of every stack, as with ``python -m pdb`` and ``pytest --trace``."""
    debugger = pdb.Pdb(stdin=io.StringIO("continue\n"), stdout=io.StringIO(), nosigint=True)
    debugger.use_rawinput = False
    assert debugger.runcall(wait_event, threading.Event(), SHORT_S) is False


def test_a_running_loop_is_not_stopped(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"thing\(\) would stop the event loop .* write `await thing\(\)`"):
            ensure_no_running_loop("thing()", "await thing()")

    run(main)


def test_a_thread_without_a_loop_may_wait(run: Run) -> None:
    ensure_no_running_loop("thing()", "await thing()")

    async def main() -> None:
        in_thread(lambda: ensure_no_running_loop("thing()", "await thing()")).join()

    run(main)
