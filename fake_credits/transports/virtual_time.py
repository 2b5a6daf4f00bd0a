"""In-process exchanges that wait: what resumes them, when their clients time out, and how the clock moves meanwhile.

Delays and client timeouts are timers on the sandbox's clock. Moving the clock runs the timers that are due, so an
exchange whose client has timed out completes when the clock reaches the end of its delay
(docs/explanation/time-and-determinism.md).
"""

import math
import threading
from functools import partial
from typing import Protocol

from anyio.lowlevel import checkpoint

from fake_credits.api.exchange import Exchange
from fake_credits.clock import Timer, monotonic_s
from fake_credits.concurrency import CrossThreadEvent, wait_event
from fake_credits.errors import WouldHangForever
from fake_credits.faults.gates import GateTicket
from fake_credits.faults.waits import CHECKPOINT, AtGate, ExchangeCoroutine, Forever, Sleep, Wait, run_to_wait
from fake_credits.http_message import Outcome


def finish_without_client(coroutine: ExchangeCoroutine) -> None:
    """Finish an exchange whose client disconnected just before the response started."""
    wait = run_to_wait(coroutine, value=False)
    if wait is not None:
        coroutine.close()


class ClientEnd(Protocol):
    """The client's end of a request."""

    @property
    def is_complete(self) -> bool:
        """Return whether the client has received the complete response; the connection may still break later."""
        ...

    def end_with(self, outcome: Outcome) -> None:
        """End the response with an outcome, unless it has already ended."""
        ...


class SuspendedExchange:
    """An in-process exchange that is waiting for a delay to end, a gate to release it, or its client to give up.

    It is resumed by its client, by the clock or by a gate, always under the sandbox's lock. ``timeout_s`` is the
    client's timeout in seconds; None means no timeout.
    """

    def __init__(
        self, exchange: Exchange, connection: ClientEnd, coroutine: ExchangeCoroutine, timeout_s: float | None
    ) -> None:
        self._exchange = exchange
        self._sandbox = exchange.sandbox
        self._connection = connection
        self._coroutine = coroutine
        self._timeout_ms = math.inf if timeout_s is None else timeout_s * 1000
        self._waited_ms = 0.0
        self._started_s = 0.0
        self._wait: Sleep | AtGate | Forever | None = None
        self._resume_timer: Timer | None = None
        self._timeout_timer: Timer | None = None
        self._ticket: GateTicket | None = None
        self._client_gone = False
        self._failure: BaseException | None = None
        self._changed = threading.Event()
        self._async_changed: CrossThreadEvent | None = None

    def finish(self, wait: Wait) -> None:
        """Wait as a sync client does, until the response arrives or the client times out."""
        try:
            with self._sandbox.lock:  # held across both calls, so that no other thread moves the clock in between
                self._start_waiting(wait)
                next_wait = self._next_wait()
            while next_wait is not None:
                self._wait_once(next_wait)
                next_wait = self._next_wait()
        finally:
            self._stop_waiting()

    async def finish_async(self, wait: Wait) -> None:
        """Wait as an async client does: delays of concurrent tasks overlap, and cancellation abandons the exchange."""
        self._async_changed = CrossThreadEvent()
        self._start_waiting(wait)
        try:
            await checkpoint()
            while (next_wait := self._next_wait()) is not None:
                await self._wait_once_async(next_wait)
                if self._timers:
                    await checkpoint()
        finally:
            self._stop_waiting()

    # ------------------------------------------------------------ the client's side

    def _start_waiting(self, wait: Wait) -> None:
        with self._sandbox.lock:
            self._sandbox.close_callbacks.add(self._on_sandbox_close)
            self._arm(wait)

    def _stop_waiting(self) -> None:
        with self._sandbox.lock:
            self._sandbox.close_callbacks.discard(self._on_sandbox_close)
            self._continue_without_client()
        if self._failure is not None:
            raise self._failure

    def _next_wait(self) -> Sleep | AtGate | Forever | None:
        """Move the clock past pending timers; return the remaining wait, or None once the exchange is finished."""
        with self._sandbox.lock:
            self._changed.clear()
            if self._async_changed is not None:
                self._async_changed = CrossThreadEvent()
            while self._timers and not self._is_finished:
                upcoming_ms = [due.at_ms for due in self._timers if due.is_pending]
                if not upcoming_ms:
                    self._on_sandbox_close()  # the clock was reset, which dropped the timers
                    break
                self._sandbox.clock.move_to(min(upcoming_ms))
                if self._async_changed is not None and self._timers:
                    break  # so that other tasks in the event loop can run before the next delay
            return None if self._is_finished else self._wait

    async def _wait_once_async(self, wait: Sleep | AtGate | Forever) -> None:
        if self._timers:
            return
        if isinstance(wait, AtGate):
            if not await self._wait_until_changed(wait.gate.limit_s):
                self._gate_timed_out(wait)
        elif isinstance(wait, Sleep) or self._timeout_ms < math.inf:
            await self._sleep_async(wait)
        elif not await self._wait_until_changed(self._sandbox.options.gate_timeout_s):
            raise self._hang_error(f"nothing happened for {self._sandbox.options.gate_timeout_s:g} s")

    async def _wait_until_changed(self, timeout_s: float) -> bool:
        changed = self._async_changed
        return changed is None or await changed.wait(timeout_s)

    def _wait_once(self, wait: Sleep | AtGate | Forever) -> None:
        if isinstance(wait, AtGate):
            self._wait_at_gate(wait)
        elif isinstance(wait, Sleep) or self._timeout_ms < math.inf:
            self._sleep(wait)
        else:
            raise self._hang_error("the client has no timeout")

    def _wait_at_gate(self, wait: AtGate) -> None:
        if wait.gate.would_deadlock():
            raise self._hang_error(f"it is held at gate {wait.gate.name!r}, which no other thread can release")
        if not wait_event(self._changed, wait.gate.limit_s):
            self._gate_timed_out(wait)

    def _gate_timed_out(self, wait: AtGate) -> None:
        if self._ticket is not None and wait.gate.remove_ticket(self._ticket):
            with self._sandbox.lock:
                self._run_to_next_wait(wait_result=False)

    def _sleep(self, wait: Sleep | Forever) -> None:
        while (remaining_s := self._remaining_s(wait)) > 0:
            if wait_event(self._changed, remaining_s):
                return
        self._end_sleep(wait)

    async def _sleep_async(self, wait: Sleep | Forever) -> None:
        while (remaining_s := self._remaining_s(wait)) > 0:
            if await self._wait_until_changed(remaining_s):
                return
        self._end_sleep(wait)

    def _remaining_s(self, wait: Sleep | Forever) -> float:
        """Return the seconds left until a real-time wait ends or the client times out, whichever comes first."""
        return self._started_s + min(wait.ms, self._timeout_ms - self._waited_ms) / 1000 - monotonic_s()

    def _end_sleep(self, wait: Sleep | Forever) -> None:
        with self._sandbox.lock:
            if wait is self._wait and not self._is_finished:
                if wait.ms > self._timeout_ms - self._waited_ms:
                    self._client_timed_out()
                else:
                    self._waited_ms += wait.ms
                    self._run_to_next_wait(wait_result=True)

    def _hang_error(self, reason: str) -> WouldHangForever:
        label = self._exchange.label
        message = f"{label} would hang forever: {reason}"
        self._sandbox.add_problem(message)
        with self._sandbox.lock:
            if self._ticket is not None and isinstance(self._wait, AtGate):
                self._wait.gate.remove_ticket(self._ticket)
                self._wait = Forever()
            self._continue_without_client()
        return WouldHangForever(message)

    # ------------------------------------------------------------ the exchange's side, under the sandbox's lock

    @property
    def _timers(self) -> list[Timer]:
        return [due for due in (self._resume_timer, self._timeout_timer) if due is not None]

    @property
    def _is_finished(self) -> bool:
        return self._client_gone or self._wait is None

    def _arm(self, new_wait: Wait | None) -> None:
        """Set up the timers or the gate ticket that will end ``new_wait``."""
        if isinstance(new_wait, Forever) and self._connection.is_complete:
            self._coroutine.close()  # the client already has the complete response
            new_wait = None
        for timer in self._timers:
            timer.cancel()
        self._resume_timer = self._timeout_timer = self._ticket = None
        wait = self._wait = new_wait if isinstance(new_wait, Sleep | AtGate | Forever) else None
        self._started_s = monotonic_s()
        if isinstance(wait, Sleep | Forever):
            if wait.after_byte:
                self._waited_ms = 0.0
            self._arm_sleep(wait)
        elif isinstance(wait, AtGate):
            self._ticket = self._exchange.gate_ticket(self._on_gate_release)
            if not wait.gate.try_hold(self._ticket):
                self._run_to_next_wait(wait_result=True)

    def _arm_sleep(self, wait: Sleep | Forever) -> None:
        if self._client_gone:
            self._detach(wait, wait.ms)
        elif self._sandbox.options.delays == "virtual":
            remaining_ms = self._timeout_ms - self._waited_ms
            if isinstance(wait, Sleep):
                self._schedule_resume(wait.ms)
            if wait.ms <= remaining_ms < math.inf:
                self._waited_ms += wait.ms
            elif remaining_ms < math.inf:
                self._schedule_timeout(remaining_ms)

    def _detach(self, wait: Sleep | Forever, remaining_ms: float) -> None:
        """Schedule the end of an abandoned exchange's delay; if its wait is endless, end the exchange."""
        if isinstance(wait, Sleep):
            self._schedule_resume(max(0.0, remaining_ms))
        else:
            self._arm(None)
            self._coroutine.close()

    def _schedule_resume(self, ms: float) -> None:
        clock, exchange = self._sandbox.clock, self._exchange
        at_ms = clock.now_ms() + math.ceil(ms)
        resume = partial(self._run_to_next_wait, wait_result=True)
        self._resume_timer = clock.schedule(at_ms, resume, label=exchange.label, ordinal=exchange.ordinal)

    def _schedule_timeout(self, ms: float) -> None:
        clock, exchange = self._sandbox.clock, self._exchange
        self._timeout_timer = clock.schedule(
            clock.now_ms() + math.ceil(ms),
            self._client_timed_out,
            label=f"client timeout for {exchange.label}",
            ordinal=exchange.ordinal,
            is_timeout=True,
        )

    def _on_gate_release(self) -> None:
        """Run the exchange, now released from its gate, until it ends or reaches its next wait."""
        with self._sandbox.lock:
            if self._wait is not None:
                self._run_to_next_wait(wait_result=True)

    def _run_to_next_wait(self, *, wait_result: bool) -> None:
        try:
            wait = run_to_wait(self._coroutine, wait_result)
            while wait is CHECKPOINT:
                wait = run_to_wait(self._coroutine, value=not self._client_gone)
        except Exception as bug:  # noqa: BLE001 - re-raised in this exchange's client, not in the code that moved the clock
            self._sandbox.add_bug(bug)
            self._failure, wait = bug, None
        self._arm(wait)
        self._notify()

    def _client_timed_out(self) -> None:
        self._connection.end_with("timeout")
        self._continue_without_client()

    def _on_sandbox_close(self) -> None:
        """End the client's wait; called when the sandbox is closed or reset."""
        with self._sandbox.lock:
            if not self._is_finished:
                self._connection.end_with("closed")
                self._continue_without_client()

    def _continue_without_client(self) -> None:
        """Mark the exchange as abandoned and let it continue without its client; end it if it would wait forever."""
        wait = self._wait
        if self._is_finished:
            return
        self._client_gone = True
        self._exchange.abandon()
        if self._timeout_timer is not None:
            self._timeout_timer.cancel()
        if isinstance(wait, Forever) or (isinstance(wait, Sleep) and self._resume_timer is None):
            self._detach(wait, wait.ms - (monotonic_s() - self._started_s) * 1000)
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        if self._async_changed is not None:
            self._async_changed.set()
