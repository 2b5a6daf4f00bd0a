"""Own an exchange in process that waits: what resumes it, when its client gives up, and who moves the clock meanwhile.

A delay is an entry of the sandbox's due-queue, and so is the end of its client's patience; whoever moves the clock runs
what is due, so an exchange whose client has given up lands when the clock gets there. README, "Time".
"""

import math
import threading

from anyio.lowlevel import checkpoint

from fake_credits.clock import Due, monotonic_s
from fake_credits.clock.waking import Waker, block
from fake_credits.drivers.steps import CHECKPOINT, Call, Never, Pause, Steps, Wait, Waiting, step
from fake_credits.errors import WouldHangForever
from fake_credits.faults.gates import Ticket
from fake_credits.sandbox import Sandbox
from fake_credits.web.exchange import Exchange

__all__ = ["Parked", "abandon"]


def abandon(steps: Steps) -> None:
    """Run an exchange whose client has gone just before its answer to the end."""
    wait = step(steps, value=False)
    if wait is not None:
        steps.close()


class Parked:
    """Be one exchange that waits, with its client's patience of ``timeout_s`` seconds, None for ever.

    It is stepped under the sandbox's lock by whoever gets to it: its client, another one who moves the clock, or the
    one who releases a gate.
    """

    def __init__(self, sandbox: Sandbox, call: Call, steps: Steps, timeout_s: float | None) -> None:
        self._sandbox = sandbox
        self._call = call
        self._steps = steps
        self._patience_ms = math.inf if timeout_s is None else timeout_s * 1000
        self._waited_ms = 0.0
        self._begun_s = 0.0
        self._wait: Pause | Waiting | Never | None = None
        self._resumption: Due | None = None
        self._deadline: Due | None = None
        self._ticket: Ticket | None = None
        self._gone = False
        self._failure: BaseException | None = None
        self._changed = threading.Event()
        self._waker: Waker | None = None

    def __repr__(self) -> str:
        return f"<Parked: {self._wait!r}>"

    def finish(self, wait: Wait) -> None:
        """Wait as a sync client does, until there is an answer or its patience ends."""
        try:
            with self._sandbox.lock:  # kept from the one to the other, so that the delays of threads add up
                self._begin(wait)
                now = self._next_wait()
            while now is not None:
                self._wait_out(now)
                now = self._next_wait()
        finally:
            self._end()

    async def finish_async(self, wait: Wait) -> None:
        """Wait as an async client does: delays of one loop's tasks overlap, and a cancelled one leaves its exchange."""
        self._waker = Waker()
        self._begin(wait)
        try:
            await checkpoint()
            while (now := self._next_wait()) is not None:
                await self._turn(now)
                if self._dues:
                    await checkpoint()
        finally:
            self._end()

    # ------------------------------------------------------------ the client's side

    def _begin(self, wait: Wait) -> None:
        with self._sandbox.lock:
            self._sandbox.endings.add(self._cut_off)
            self._take(wait)

    def _end(self) -> None:
        with self._sandbox.lock:
            self._sandbox.endings.discard(self._cut_off)
            self._give_up()
        if self._failure is not None:
            raise self._failure

    def _next_wait(self) -> Pause | Waiting | Never | None:
        """Return what only this client can wait for now, None once it is over; what the clock brings is waited out."""
        with self._sandbox.lock:
            self._changed.clear()
            if self._waker is not None:
                self._waker = Waker()
            while self._dues and not self._is_over:
                ahead = [due.at_ms for due in self._dues if due.is_ahead]
                if not ahead:
                    self._cut_off()  # the clock forgot it, which is then at its beginning
                    break
                self._sandbox.clock.move_to(min(ahead))
                if self._waker is not None and self._dues:
                    break  # another delay: the loop's other tasks come first
            return None if self._is_over else self._wait

    async def _turn(self, wait: Pause | Waiting | Never) -> None:
        if self._dues:
            return
        if isinstance(wait, Waiting):
            if not await self._woken(wait.gate.limit_s):
                self._expire(wait)
        elif isinstance(wait, Pause) or self._patience_ms < math.inf:
            await self._sleep_async(wait)
        elif not await self._woken(self._sandbox.settings.limit_s):
            raise self._would_hang(f"nothing happened for {self._sandbox.settings.limit_s:g} s")

    async def _woken(self, limit_s: float) -> bool:
        waker = self._waker
        return waker is None or await waker.wait(limit_s)

    def _wait_out(self, wait: Pause | Waiting | Never) -> None:
        if isinstance(wait, Waiting):
            self._wait_at_gate(wait)
        elif isinstance(wait, Pause) or self._patience_ms < math.inf:
            self._sleep(wait)
        else:
            raise self._would_hang("the client has no timeout")

    def _wait_at_gate(self, wait: Waiting) -> None:
        if wait.gate.only_this_thread_can_open():
            raise self._would_hang(f"gate {wait.gate.name!r} holds it, and there is no other thread to release that")
        if not block(self._changed, wait.gate.limit_s):
            self._expire(wait)

    def _expire(self, wait: Waiting) -> None:
        if self._ticket is not None and wait.gate.withdraw(self._ticket):
            with self._sandbox.lock:
                self._run(value=False)

    def _sleep(self, wait: Pause | Never) -> None:
        while (left_s := self._left_s(wait)) > 0:
            if block(self._changed, left_s):
                return
        self._wake_up(wait)

    async def _sleep_async(self, wait: Pause | Never) -> None:
        while (left_s := self._left_s(wait)) > 0:
            if await self._woken(left_s):
                return
        self._wake_up(wait)

    def _left_s(self, wait: Pause | Never) -> float:
        """Return how many seconds of a real wait are left, or of the client's patience."""
        return self._begun_s + min(wait.ms, self._patience_ms - self._waited_ms) / 1000 - monotonic_s()

    def _wake_up(self, wait: Pause | Never) -> None:
        with self._sandbox.lock:
            if wait is self._wait and not self._is_over:
                if wait.ms > self._patience_ms - self._waited_ms:
                    self._time_out()
                else:
                    self._waited_ms += wait.ms
                    self._run(value=True)

    def _would_hang(self, why: str) -> WouldHangForever:
        shown = _exchange_of(self._wait).shown
        message = f"{shown} would hang for ever: {why}"
        self._sandbox.complain(message)
        with self._sandbox.lock:
            if self._ticket is not None and isinstance(self._wait, Waiting):
                self._wait.gate.withdraw(self._ticket)
                self._wait = Never(self._wait.exchange)
            self._give_up()
        return WouldHangForever(message)

    # ------------------------------------------------------------ the exchange's side, under the sandbox's lock

    @property
    def _dues(self) -> list[Due]:
        return [due for due in (self._resumption, self._deadline) if due is not None]

    @property
    def _is_over(self) -> bool:
        return self._gone or self._wait is None

    def _take(self, taken: Wait | None) -> None:
        """Arrange what ends a wait."""
        for due in self._dues:
            due.cancel()
        self._resumption = self._deadline = self._ticket = None
        wait = self._wait = taken if isinstance(taken, Pause | Waiting | Never) else None
        self._begun_s = monotonic_s()
        if isinstance(wait, Pause | Never):
            if wait.after_byte:
                self._waited_ms = 0.0
            self._take_delay(wait)
        elif isinstance(wait, Waiting):
            self._ticket = wait.exchange.ticket(self._go)
            if not wait.gate.arrive(self._ticket):
                self._run(value=True)

    def _take_delay(self, wait: Pause | Never) -> None:
        if self._gone:
            self._leave(wait, wait.ms)
        elif self._sandbox.settings.delays == "virtual":
            left_ms = self._patience_ms - self._waited_ms
            if isinstance(wait, Pause):
                self._schedule(wait.ms, wait)
            if wait.ms <= left_ms < math.inf:
                self._waited_ms += wait.ms
            elif left_ms < math.inf:
                self._schedule_deadline(left_ms, wait)

    def _leave(self, wait: Pause | Never, left_ms: float) -> None:
        """Let a wait go on without its client; one that nothing would end is over."""
        if isinstance(wait, Pause):
            self._schedule(max(0.0, left_ms), wait)
        else:
            self._take(None)
            self._steps.close()

    def _schedule(self, ms: float, pause: Pause) -> None:
        clock, exchange = self._sandbox.clock, pause.exchange
        at_ms = clock.now_ms() + math.ceil(ms)
        self._resumption = clock.schedule(at_ms, self._resume, label=exchange.shown, ordinal=exchange.ordinal)

    def _schedule_deadline(self, ms: float, wait: Pause | Never) -> None:
        clock, exchange = self._sandbox.clock, wait.exchange
        self._deadline = clock.schedule(
            clock.now_ms() + math.ceil(ms),
            self._time_out,
            label=f"the end of the client's patience with {exchange.shown}",
            ordinal=exchange.ordinal,
            is_timeout=True,
        )

    def _go(self) -> None:
        """Go on from a gate, up to the next wait or the end."""
        with self._sandbox.lock:
            if self._wait is not None:
                self._run(value=True)

    def _resume(self) -> None:
        self._run(value=True)

    def _run(self, *, value: bool) -> None:
        try:
            wait = step(self._steps, value)
            while wait is CHECKPOINT:
                wait = step(self._steps, value=not self._gone)
        except Exception as bug:  # noqa: BLE001 - whoever moved the clock has nothing to do with it: its own client gets it
            self._sandbox.remember(bug)
            self._failure, wait = bug, None
        self._take(wait)
        self._tell()

    def _time_out(self) -> None:
        self._call.break_at("timeout")
        self._give_up()

    def _cut_off(self) -> None:
        """End the wait, as the sandbox closes."""
        with self._sandbox.lock:
            if not self._is_over:
                self._call.break_at("closed")
                self._give_up()

    def _give_up(self) -> None:
        """Leave the exchange to itself: it goes on without its client, unless it would never end."""
        wait = self._wait
        if self._is_over:
            return
        self._gone = True
        _exchange_of(wait).leave_behind()
        if self._deadline is not None:
            self._deadline.cancel()
        if isinstance(wait, Never) or (isinstance(wait, Pause) and self._resumption is None):
            self._leave(wait, wait.ms - (monotonic_s() - self._begun_s) * 1000)
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        if self._waker is not None:
            self._waker.wake()


def _exchange_of(wait: Wait | None) -> Exchange:
    assert isinstance(wait, Pause | Waiting | Never)  # noqa: S101 - the checkpoint is nobody's to park at
    return wait.exchange
