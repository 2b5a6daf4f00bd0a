"""Own waiting with a limit: a thread or a task sleeps until another thread wakes it; know nothing of what it waits for.

A limit is seconds of the clock that freezegun can't stop, and a helper thread counts it: the timers of an event loop
hang while freezegun stops the loop's clock. It stands still while a debugger has a prompt open, in whatever thread.
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

__all__ = ["Waker", "block", "debugger_is_open", "refuse_running_loop"]

_SLICE_S = 0.25

# A program that runs under a debugger has its frames at the bottom of every stack: only these mean an open prompt.
_PROMPTS = re.compile(
    rb'[/\\](?:bdb\.py", line \d+ in dispatch_|pdb\.py", line \d+ in interaction|pydevd\.py", .* in do_wait_suspend)'
)


class _Event(Protocol):
    def set(self) -> object: ...

    async def wait(self) -> object: ...


class Waker:
    """Wake one waiting task from any thread; make it in the waiter's own loop, asyncio's or trio's.

    Once woken it stays so. Raises RuntimeError where no event loop runs.
    """

    def __init__(self) -> None:
        trio = _running_trio()
        self._new_event: Callable[[], _Event] = asyncio.Event if trio is None else trio.Event
        self._call_soon: Callable[[Callable[[], object]], object] = (
            asyncio.get_running_loop().call_soon_threadsafe
            if trio is None
            else trio.lowlevel.current_trio_token().run_sync_soon
        )
        self._event: _Event | None = None
        self._woken = False

    def __repr__(self) -> str:
        return f"<Waker, {'woken' if self._woken else 'not woken yet'}>"

    def wake(self) -> None:
        """Wake the waiter, from any thread or task, any number of times; do nothing where its loop is closed."""
        self._woken = True
        self._set(self._event)

    async def wait(self, limit_s: float | None) -> bool:
        """Wait, one task at a time, and tell whether it was woken: False at the limit in seconds, None for no limit."""
        event = self._event = self._new_event()
        if self._woken:
            self._set(event)
        if limit_s is None:
            await event.wait()
            return True
        over = threading.Event()
        limit = threading.Thread(
            target=self._end_at, args=(event, over, limit_s), name="fake-credits-limit", daemon=True
        )
        limit.start()
        try:
            await event.wait()
        finally:
            over.set()
            limit.join()
        return self._woken

    def _end_at(self, event: _Event, over: threading.Event, limit_s: float) -> None:
        if not block(over, limit_s):
            self._set(event)

    def _set(self, event: _Event | None) -> None:
        if event is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits
                self._call_soon(event.set)


def block(event: threading.Event, limit_s: float | None) -> bool:
    """Stop this thread until the event is set, and tell whether it was: False at the limit in seconds, None is none."""
    left_s = math.inf if limit_s is None else limit_s
    while left_s > 0 and not event.is_set():
        begun_s = monotonic_s()
        if event.wait(min(left_s, _SLICE_S)):
            return True
        if not debugger_is_open():
            left_s -= monotonic_s() - begun_s
    return event.is_set()


def refuse_running_loop(what: str, instead: str) -> None:
    """Raise RuntimeError where this thread runs an event loop, which ``what`` would stop for as long as it waits."""
    if _running_trio() is None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
    raise RuntimeError(f"{what} would stop the event loop that this thread runs: write `{instead}`")


def _running_trio() -> Any:
    """Return trio's module where a task of it runs in this thread; an application without trio does not import it."""
    trio = sys.modules.get("trio")
    if trio is None:
        return None
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return None
    return trio


def debugger_is_open() -> bool:
    """Tell whether a debugger has a prompt open, in whatever thread.

    The interpreter writes the stacks itself: to walk the frames of threads that run is not safe on CPython 3.11.
    """
    with tempfile.TemporaryFile() as stacks:
        faulthandler.dump_traceback(stacks)
        stacks.seek(0)
        return _PROMPTS.search(stacks.read()) is not None
