"""Test waiting with a limit: woken from anywhere, ended in time under a stopped clock, patient while one debugs."""

import asyncio
import io
import pdb
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest
import time_machine
import trio
from freezegun import freeze_time

from fake_credits.clock import monotonic_s
from fake_credits.clock.waking import Waker, block, refuse_running_loop
from fake_credits.drivers.live import new_event_loop

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
        waker = Waker()
        waiter = in_thread(waker.wake)
        assert await waker.wait(limit_s)
        waiter.join()

    run(main)


def test_a_task_is_woken_by_another_task_of_its_loop() -> None:
    async def main() -> None:
        waker = Waker()
        waiting = asyncio.create_task(waker.wait(LONG_S))
        await asyncio.sleep(0)
        waker.wake()
        assert await waiting

    asyncio.run(main())


def test_what_was_woken_before_it_waits_does_not_wait_and_stays_awake(run: Run) -> None:
    async def main() -> None:
        waker = Waker()
        waker.wake()
        waker.wake()
        assert await waker.wait(None)
        assert await waker.wait(0)

    run(main)


def test_a_task_that_nobody_wakes_ends_at_the_limit_and_may_wait_again(run: Run) -> None:
    async def main() -> None:
        waker = Waker()
        begun_s = monotonic_s()
        assert not await waker.wait(SHORT_S)
        assert monotonic_s() - begun_s >= SHORT_S
        assert not await waker.wait(0)
        waker.wake()
        assert await waker.wait(LONG_S)

    run(main)


def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    """Threads: the fixture counts them."""

    async def main() -> None:
        waiting = asyncio.create_task(Waker().wait(LONG_S))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())


def test_waking_after_the_loop_is_closed_does_nothing(run: Run) -> None:
    wakers: list[Waker] = []

    async def main() -> None:
        wakers.append(Waker())
        await wakers[0].wait(0)

    run(main)
    wakers[0].wake()
    assert repr(wakers[0]) == "<Waker, woken>"


def test_limits_end_while_freezegun_stops_every_clock(run: Run) -> None:
    async def main() -> None:
        with freeze_time("2030-01-01"):
            assert not await Waker().wait(SHORT_S)
            assert not block(threading.Event(), SHORT_S)

    run(main)


def test_limits_end_while_time_machine_stops_the_wall_clock(run: Run) -> None:
    async def main() -> None:
        with time_machine.travel(0, tick=False):
            assert not await Waker().wait(SHORT_S)
            assert not block(threading.Event(), SHORT_S)

    run(main)


def test_a_waker_needs_a_loop() -> None:
    with pytest.raises(RuntimeError, match="event loop"):
        Waker()


def test_a_thread_goes_on_when_the_event_is_set() -> None:
    event = threading.Event()
    setter = in_thread(event.set)
    assert block(event, None)
    assert block(event, LONG_S)
    assert block(event, 0)
    setter.join()


def test_a_thread_goes_on_at_the_limit() -> None:
    begun_s = monotonic_s()
    assert not block(threading.Event(), SHORT_S)
    assert monotonic_s() - begun_s >= SHORT_S
    assert not block(threading.Event(), 0)
    assert not block(threading.Event(), -1)


def test_a_limit_stands_still_while_a_debugger_s_prompt_is_open(prompt: Prompt) -> None:
    outcomes: list[bool] = []
    waiter = in_thread(lambda: outcomes.append(block(threading.Event(), SHORT_S)))
    waiter.join(4 * SHORT_S)
    assert outcomes == []
    prompt.go_on.set()
    waiter.join()
    assert outcomes == [False]


def test_a_task_s_limit_stands_still_too(prompt: Prompt, run: Run) -> None:
    async def main() -> None:
        waker = Waker()
        waking = threading.Timer(4 * SHORT_S, waker.wake)
        waking.start()
        assert await waker.wait(SHORT_S)
        waking.join()

    run(main)
    assert not prompt.go_on.is_set()


def test_a_program_that_merely_runs_under_a_debugger_keeps_its_limits() -> None:
    """Its frames are at the bottom of every stack, as with ``python -m pdb`` and ``pytest --trace``."""
    debugger = pdb.Pdb(stdin=io.StringIO("continue\n"), stdout=io.StringIO(), nosigint=True)
    debugger.use_rawinput = False
    assert debugger.runcall(block, threading.Event(), SHORT_S) is False


def test_a_running_loop_is_not_stopped(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"thing\(\) would stop the event loop .* write `await thing\(\)`"):
            refuse_running_loop("thing()", "await thing()")

    run(main)


def test_a_thread_without_a_loop_may_wait(run: Run) -> None:
    refuse_running_loop("thing()", "await thing()")

    async def main() -> None:
        in_thread(lambda: refuse_running_loop("thing()", "await thing()")).join()

    run(main)
