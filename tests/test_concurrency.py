"""Test thread events: waking threads and tasks, timeouts, patched clocks and debugger prompts."""

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
from fake_credits.concurrency import CrossThreadEvent, ensure_no_running_loop, wait_event
from fake_credits.transports.live import new_event_loop

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
    events[0].set()  # must not raise


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
        with pytest.raises(RuntimeError, match=r"thing\(\) would block this thread's event .*: use `await thing\(\)`"):
            ensure_no_running_loop("thing()", "await thing()")

    run(main)


def test_ensure_no_running_loop_passes_in_other_thread(run: RunMain) -> None:
    ensure_no_running_loop("thing()", "await thing()")

    async def main() -> None:
        in_thread(lambda: ensure_no_running_loop("thing()", "await thing()")).join()

    run(main)
