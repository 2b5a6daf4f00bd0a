"""Helpers for waiting across threads and event loops, and a guard against using inherited objects after a fork."""

import asyncio
import contextlib
import faulthandler
import math
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import Any, Protocol

from fake_credits.clock import monotonic_s

_POLL_INTERVAL_S = 0.25

# A program that runs under a debugger has debugger frames in its stacks even while no prompt is open, so only match
# the frames of an open prompt.
_DEBUGGER_PROMPT_PATTERN = re.compile(
    rb'[/\\](?:bdb\.py", line \d+ in dispatch_|pdb\.py", line \d+ in interaction|pydevd\.py", .* in do_wait_suspend)'
)


class _LoopEvent(Protocol):
    def set(self) -> object: ...

    async def wait(self) -> object: ...


class CrossThreadEvent:
    """An event that any thread can set and one asyncio or trio task can wait for.

    Create it in the task's event loop; without a running loop, this raises RuntimeError. Once set, it stays set.
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

    def set(self) -> None:
        """Set the event and wake any waiting task.

        Safe to call from any thread, more than once, and after the loop is closed.
        """
        self._is_set = True
        self._set_loop_event(self._event)

    async def wait(self, timeout_s: float | None) -> bool:
        """Wait until the event is set, for at most ``timeout_s`` seconds (None: no timeout); return whether it was set.

        Only one task may wait at a time.
        """
        event = self._event = self._event_factory()
        if self._is_set:
            self._set_loop_event(event)
        if timeout_s is None:
            await event.wait()
            return True
        finished = threading.Event()

        def set_after_timeout() -> None:
            if not wait_event(finished, timeout_s):
                self._set_loop_event(event)

        timeout_thread = threading.Thread(target=set_after_timeout, name="fake-credits-limit", daemon=True)
        timeout_thread.start()
        try:
            await event.wait()
        finally:
            finished.set()
            timeout_thread.join()
        return self._is_set

    def _set_loop_event(self, event: _LoopEvent | None) -> None:
        if event is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, so no task is waiting
                self._call_in_loop(event.set)


def wait_event(event: threading.Event, timeout_s: float | None) -> bool:
    """Block this thread until the event is set or ``timeout_s`` seconds have passed; return whether it was set.

    None means no timeout. Time spent at a debugger prompt does not count.
    """
    remaining_s = math.inf if timeout_s is None else timeout_s
    while remaining_s > 0 and not event.is_set():
        started_s = monotonic_s()
        if event.wait(min(remaining_s, _POLL_INTERVAL_S)):
            return True
        if not is_debugger_open():
            remaining_s -= monotonic_s() - started_s
    return event.is_set()


def ensure_no_running_loop(blocking_call: str, async_call: str) -> None:
    """Raise RuntimeError if this thread is running an event loop, which ``blocking_call`` would block."""
    if _trio_if_running() is None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
    raise RuntimeError(f"{blocking_call} would block this thread's event loop: use `{async_call}`")


def _trio_if_running() -> Any:
    """Return the trio module if a trio task is running in this thread, otherwise None, without importing trio."""
    trio = sys.modules.get("trio")
    if trio is None:
        return None
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return None
    return trio


def is_debugger_open() -> bool:
    """Return whether a debugger prompt is open in any thread.

    The stacks come from faulthandler, because walking the frames of running threads is not safe on CPython 3.11.
    """
    with tempfile.TemporaryFile() as stack_dump:
        faulthandler.dump_traceback(stack_dump)
        stack_dump.seek(0)
        return _DEBUGGER_PROMPT_PATTERN.search(stack_dump.read()) is not None


class _CurrentProcess:
    """The id of this process, cached because a system call for each request would take up to 0.3 µs."""

    def __init__(self) -> None:
        self.refresh_id()
        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(after_in_child=self.refresh_id)

    def refresh_id(self) -> None:
        self.process_id = os.getpid()


CURRENT_PROCESS = _CurrentProcess()


class ForkGuard:
    """A check that an object is used only in the process that created it. ``label`` names the object in messages."""

    __slots__ = ("_label", "process_id")

    def __init__(self, label: str) -> None:
        self._label = label
        self.process_id = CURRENT_PROCESS.process_id

    @property
    def in_child(self) -> bool:
        """Return whether this process is a forked child, which has only a copy of the object."""
        return self.process_id != CURRENT_PROCESS.process_id

    def check(self) -> None:
        """Raise RuntimeError in a forked child, where changes would be lost and locks might never be released."""
        if self.process_id != CURRENT_PROCESS.process_id:
            raise RuntimeError(
                f"{self._label} belongs to process {self.process_id}; process {CURRENT_PROCESS.process_id} was forked "
                "from it and has only a copy: read base_url, api_key and token() before the fork, "
                "and call the API with them"
            )
