"""Own the waits of a live server: futures of one loop, that end when they are due or when the server withdraws.

Cancelling would make uvicorn log each as an error of the application. Time is the clock that freezegun can't stop, and
no wait is early: uvloop's timers can be, by a millisecond.
"""

import asyncio

from fake_credits.clock import monotonic_s
from fake_credits.clock.waking import debugger_is_open
from fake_credits.web.exchange import Withdrawn

__all__ = ["Waits", "finish"]

_SHORTEST_S = 0.001
_SLICE_S = 0.25


class Waits:
    """Keep every wait of one server, so that all can be ended."""

    def __init__(self) -> None:
        self._pending: set[asyncio.Future[bool]] = set()

    def __repr__(self) -> str:
        return f"<Waits: {len(self._pending)} pending>"

    async def sleep(self, seconds: float, over: "asyncio.Future[bool]") -> None:
        """Let seconds pass, never fewer, unless it is over before."""
        end_s = monotonic_s() + seconds
        while not over.done() and (left_s := end_s - monotonic_s()) > 0:
            await self._turn(over, max(left_s, _SHORTEST_S))

    async def until(self, future: "asyncio.Future[bool]", limit_s: float) -> bool:
        """Wait until a future is done, and tell whether it was: False at the limit, which a debugger stops."""
        left_s = limit_s
        while left_s > 0 and not future.done():
            begun_s = monotonic_s()
            await self._turn(future, max(min(left_s, _SLICE_S), _SHORTEST_S))
            if not future.done() and not debugger_is_open():
                left_s -= monotonic_s() - begun_s
        return future.done()

    def withdraw(self) -> None:
        """End every wait: the server stops."""
        for future in list(self._pending):
            if not future.done():
                future.set_exception(Withdrawn())

    async def _turn(self, future: "asyncio.Future[bool]", seconds: float) -> None:
        """Wait for a future for a while."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()

        def end(_future: "asyncio.Future[bool]") -> None:
            finish(turn)

        timer = loop.call_later(seconds, finish, turn)
        future.add_done_callback(end)
        self._pending.add(turn)
        try:
            await turn
        finally:
            self._pending.discard(turn)
            timer.cancel()
            future.remove_done_callback(end)


def finish(turn: "asyncio.Future[bool]") -> None:
    """Let a wait be over, where it is not already."""
    if not turn.done():
        turn.set_result(True)
