"""Waiting with a limit across threads: a thread or a task sleeps until another thread wakes it.

A limit is in seconds of the monotonic clock, which freezegun can't stop, and a helper thread counts it: an event loop's
timers hang while freezegun stops the loop's clock. It stands still while a debugger has a prompt open in any thread.
"""

import asyncio
import contextlib
import faulthandler
import math
import re
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import Any, Protocol

from fake_credits.clock import monotonic_s

__all__ = [
    "CrossThreadEvent",
    "check_count",
    "check_limit",
    "ensure_no_running_loop",
    "is_debugger_open",
    "wait_event",
]

_POLL_INTERVAL_S = 0.25

# A program that runs under a debugger has its frames at the bottom of every stack: only these mean an open prompt.
_DEBUGGER_PROMPT_PATTERN = re.compile(
    rb'[/\\](?:bdb\.py", line \d+ in dispatch_|pdb\.py", line \d+ in interaction|pydevd\.py", .* in do_wait_suspend)'
)


class _LoopEvent(Protocol):
    def set(self) -> object: ...

    async def wait(self) -> object: ...


class CrossThreadEvent:
    """Wake one waiting task from any thread; make it in the waiter's own loop, asyncio's or trio's.

    Once woken it stays so. Raises RuntimeError where no event loop runs.
    """

    def __init__(self) -> None:
        trio = _trio_if_running()
        self._event_factory: Callable[[], _LoopEvent] = asyncio.Event if trio is None else trio.Event
        self._call_in_loop: Callable[[Callable[[], object]], object] = (
            asyncio.get_running_loop().call_soon_threadsafe
            if trio is None
            else trio.lowlevel.current_trio_token().run_sync_soon
        )
        self._event: _LoopEvent | None = None
        self._is_set = False

    def __repr__(self) -> str:
        return f"<CrossThreadEvent, {'set' if self._is_set else 'not set'}>"

    def set(self) -> None:
        """Wake the waiter, from any thread or task, any number of times; do nothing where its loop is closed."""
        self._is_set = True
        self._set_loop_event(self._event)

    async def wait(self, timeout_s: float | None) -> bool:
        """Wait, one task at a time, and tell whether it was woken: False at the limit in seconds, None for no limit."""
        event = self._event = self._event_factory()
        if self._is_set:
            self._set_loop_event(event)
        if timeout_s is None:
            await event.wait()
            return True
        finished = threading.Event()
        timeout_thread = threading.Thread(
            target=self._set_after_timeout, args=(event, finished, timeout_s), name="fake-credits-limit", daemon=True
        )
        timeout_thread.start()
        try:
            await event.wait()
        finally:
            finished.set()
            timeout_thread.join()
        return self._is_set

    def _set_after_timeout(self, event: _LoopEvent, finished: threading.Event, timeout_s: float) -> None:
        if not wait_event(finished, timeout_s):
            self._set_loop_event(event)

    def _set_loop_event(self, event: _LoopEvent | None) -> None:
        if event is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits
                self._call_in_loop(event.set)


def wait_event(event: threading.Event, timeout_s: float | None) -> bool:
    """Stop this thread until the event is set, and tell whether it was: False at the limit in seconds, None is none."""
    remaining_s = math.inf if timeout_s is None else timeout_s
    while remaining_s > 0 and not event.is_set():
        started_s = monotonic_s()
        if event.wait(min(remaining_s, _POLL_INTERVAL_S)):
            return True
        if not is_debugger_open():
            remaining_s -= monotonic_s() - started_s
    return event.is_set()


def ensure_no_running_loop(blocking_call: str, async_call: str) -> None:
    """Raise RuntimeError where this thread runs an event loop, which ``what`` would stop for as long as it waits."""
    if _trio_if_running() is None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
    raise RuntimeError(f"{blocking_call} would stop the event loop that this thread runs: write `{async_call}`")


def _trio_if_running() -> Any:
    """Return trio's module where a task of it runs in this thread; an application without trio does not import it."""
    trio = sys.modules.get("trio")
    if trio is None:
        return None
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return None
    return trio


def is_debugger_open() -> bool:
    """Tell whether a debugger has a prompt open, in whatever thread.

    The interpreter writes the stacks itself: to walk the frames of threads that run is not safe on CPython 3.11.
    """
    with tempfile.TemporaryFile() as stack_dump:
        faulthandler.dump_traceback(stack_dump)
        stack_dump.seek(0)
        return _DEBUGGER_PROMPT_PATTERN.search(stack_dump.read()) is not None


def check_count(name: str, count: object, minimum: int = 1) -> None:
    """Raise TypeError unless a count is an integer, ValueError if it is below a minimum."""
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"{name} must be an int, not {type(count).__name__}")
    if count < minimum:
        raise ValueError(f"{name} must be {minimum} or more, not {count}")


def check_limit(name: str, limit_s: object) -> None:
    """Raise TypeError unless a limit is a number, ValueError if it is negative or infinite."""
    if isinstance(limit_s, bool) or not isinstance(limit_s, int | float):
        raise TypeError(f"{name} must be a number of seconds, not {type(limit_s).__name__}")
    if not 0 <= limit_s < math.inf:
        raise ValueError(f"{name} must be 0 or more and finite, not {limit_s!r}")
