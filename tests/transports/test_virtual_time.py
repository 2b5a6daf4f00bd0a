"""An exchange in process that waits: what others do meanwhile to the clock, the sandbox and its gates."""

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fake_credits.api.app import create_app
from fake_credits.client.server import AsyncServerClient, ServerClient
from fake_credits.clock import Clock
from fake_credits.contract import Contract
from fake_credits.errors import ConnectionLost, Timeout
from fake_credits.fake import ClientMode, FakeCredits
from fake_credits.faults import Close, Drip, Effect, Garbage, Hang, Latency, Reset, Truncate
from fake_credits.transports.client_transports import AsyncInProcessTransport, InProcessTransport
from fake_credits.transports.in_process import IN_PROCESS_BASE_URL, InProcessDriver

APP = "app-id"
USER = "user-id"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LIMIT_S = 5.0


def frozen() -> FakeCredits:
    return FakeCredits(balance=100, clock=NOON)


def driver(credits: FakeCredits) -> InProcessDriver:
    return InProcessDriver(create_app(credits.sandbox.contract), credits.sandbox)


def patient(credits: FakeCredits, timeout_s: float | None) -> ServerClient:
    """Return a client with a patience of its own."""
    transport = InProcessTransport(driver(credits))
    return ServerClient(IN_PROCESS_BASE_URL, credits.api_key, transport=transport, timeout_s=timeout_s)


def patient_async(credits: FakeCredits, timeout_s: float | None) -> AsyncServerClient:
    transport = AsyncInProcessTransport(driver(credits))
    return AsyncServerClient(IN_PROCESS_BASE_URL, credits.api_key, transport=transport, timeout_s=timeout_s)


@pytest.mark.parametrize("effect", [Reset(), Close(), Garbage(), Truncate()], ids=repr)
def test_a_client_that_has_timed_out_is_not_told_how_its_answer_would_have_broken_off(effect: Effect) -> None:
    """Both happen in one jump of somebody else's clock; its own patience ended first."""
    credits = frozen()
    credits.faults.add(Latency(5000), phase="before")
    credits.faults.add(effect, phase="after")

    async def main() -> None:
        call = asyncio.create_task(patient_async(credits, 1.0).get_balance(APP, USER))
        while not credits.clock.pending():
            await asyncio.sleep(0)
        credits.sleep(10)
        with pytest.raises(Timeout):
            await call

    asyncio.run(main())
    (entry,) = credits.journal.entries()
    assert not entry.delivered


@pytest.mark.parametrize("mode", ["in-process", "live"])
@pytest.mark.parametrize("effect", [Truncate(), Truncate(then="reset"), Truncate(then="hang"), Drip()], ids=repr)
def test_an_answer_without_a_body_is_whole_with_its_head(effect: Effect, mode: ClientMode) -> None:
    """As on a socket: what the connection does behind it, or how slowly, its client does not wait to see."""
    with FakeCredits(balance=100, mode=mode, contract=Contract(created_transaction="empty")) as credits:
        credits.faults.add(effect)
        assert credits.server_client.create_transaction(APP, USER, delta=-1, reason="consume").delta == -1


@pytest.mark.parametrize("timeout_s", [None, 0.5])
@pytest.mark.parametrize("forget", [Clock.reset, Clock.cancel_all])
def test_a_delay_that_the_clock_has_forgotten_ends_in_a_closed_connection(
    forget: Callable[[Clock], object], timeout_s: float | None
) -> None:
    """Nothing else would end it: it must neither wait for ever nor for real."""
    credits = frozen()
    credits.faults.add(Latency(1000))

    async def main() -> None:
        call = asyncio.create_task(patient_async(credits, timeout_s).get_balance(APP, USER))
        while not credits.clock.pending():
            await asyncio.sleep(0)
        forget(credits.clock)
        with pytest.raises(ConnectionLost):
            await asyncio.wait_for(call, LIMIT_S)

    asyncio.run(main())


@pytest.mark.parametrize("timeout_s", [None, 0.5])
@pytest.mark.parametrize("effect", [Hang(), Truncate(then="hang")], ids=repr)
def test_a_hang_that_the_end_of_the_sandbox_ends_is_a_closed_connection(
    effect: Effect, timeout_s: float | None
) -> None:
    """It is no timeout: its client, who may have none, was still there."""
    credits = frozen()
    credits.faults.add(effect)

    async def main() -> None:
        call = asyncio.create_task(patient_async(credits, timeout_s).get_balance(APP, USER))
        while not credits.sandbox.close_callbacks:
            await asyncio.sleep(0)
        credits.close()
        with pytest.raises(ConnectionLost):
            await asyncio.wait_for(call, LIMIT_S)

    asyncio.run(main())


class _Generous:
    """Be a sandbox's lock that lets others go first whenever it opens."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        threading.Event().wait(0.001)


def test_delays_of_threads_add_up_however_the_threads_take_turns() -> None:
    credits = frozen()
    credits.faults.add(Latency(100))
    credits.sandbox.lock = _Generous(credits.sandbox.lock)  # type: ignore[assignment]
    threads = [threading.Thread(target=credits.server_client.get_balance, args=(APP, USER)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert credits.clock.now() - NOON == timedelta(milliseconds=400)
