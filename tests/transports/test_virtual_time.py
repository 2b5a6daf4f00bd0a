"""Test in-process exchanges that wait while the clock moves or the sandbox closes."""

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
from fake_credits.transports.in_process import (
    IN_PROCESS_BASE_URL,
    AsyncInProcessTransport,
    InProcessDriver,
    InProcessTransport,
)

APP = "app-id"
USER = "user-id"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LIMIT_S = 5.0


def new_fake() -> FakeCredits:
    return FakeCredits(balance=100, clock=NOON)


def new_driver(credits: FakeCredits) -> InProcessDriver:
    return InProcessDriver(create_app(credits.sandbox.contract), credits.sandbox)


def new_client(credits: FakeCredits, timeout_s: float | None) -> ServerClient:
    """Return a client with a timeout."""
    transport = InProcessTransport(new_driver(credits))
    return ServerClient(IN_PROCESS_BASE_URL, credits.api_key, transport=transport, timeout_s=timeout_s)


def new_async_client(credits: FakeCredits, timeout_s: float | None) -> AsyncServerClient:
    transport = AsyncInProcessTransport(new_driver(credits))
    return AsyncServerClient(IN_PROCESS_BASE_URL, credits.api_key, transport=transport, timeout_s=timeout_s)


@pytest.mark.parametrize("effect", [Reset(), Close(), Garbage(), Truncate()], ids=repr)
def test_client_timeout_precedes_later_connection_fault(effect: Effect) -> None:
    """Both are due within one jump of the clock, but the client's timeout comes first."""
    credits = new_fake()
    credits.faults.add(Latency(5000), phase="before")
    credits.faults.add(effect, phase="after")

    async def main() -> None:
        call = asyncio.create_task(new_async_client(credits, 1.0).get_balance(APP, USER))
        while not credits.clock.pending():
            await asyncio.sleep(0)
        credits.sleep(10)
        with pytest.raises(Timeout):
            await call

    asyncio.run(main())
    (entry,) = credits.journal.entries()
    assert not entry.delivered


@pytest.mark.parametrize("mode", ["in-process", "live"])
@pytest.mark.parametrize("delay_ms", [0, 5])
@pytest.mark.parametrize("effect", [Truncate(), Truncate(then="reset"), Truncate(then="hang"), Drip()], ids=repr)
def test_response_without_body_is_complete_after_headers(effect: Effect, delay_ms: int, mode: ClientMode) -> None:
    """As on a real socket, the client does not wait for anything after the headers."""
    with FakeCredits(balance=100, mode=mode, contract=Contract(created_transaction="empty")) as credits:
        if delay_ms:
            credits.faults.add(Latency(delay_ms))
        credits.faults.add(effect)
        assert credits.server_client.create_transaction(APP, USER, delta=-1, reason="consume").delta == -1


@pytest.mark.parametrize("timeout_s", [None, 0.5])
@pytest.mark.parametrize("cancel_timers", [Clock.reset, Clock.cancel_all])
def test_cancelled_delay_closes_connection(cancel_timers: Callable[[Clock], object], timeout_s: float | None) -> None:
    """Nothing else would end the delay, and the call must not wait forever or in real time."""
    credits = new_fake()
    credits.faults.add(Latency(1000))

    async def main() -> None:
        call = asyncio.create_task(new_async_client(credits, timeout_s).get_balance(APP, USER))
        while not credits.clock.pending():
            await asyncio.sleep(0)
        cancel_timers(credits.clock)
        with pytest.raises(ConnectionLost):
            await asyncio.wait_for(call, LIMIT_S)

    asyncio.run(main())


@pytest.mark.parametrize("timeout_s", [None, 0.5])
@pytest.mark.parametrize("effect", [Hang(), Truncate(then="hang")], ids=repr)
def test_closing_sandbox_during_hang_closes_connection(effect: Effect, timeout_s: float | None) -> None:
    """The result is not a timeout, because the client is still connected when the sandbox closes."""
    credits = new_fake()
    credits.faults.add(effect)

    async def main() -> None:
        call = asyncio.create_task(new_async_client(credits, timeout_s).get_balance(APP, USER))
        while not credits.sandbox.close_callbacks:
            await asyncio.sleep(0)
        credits.close()
        with pytest.raises(ConnectionLost):
            await asyncio.wait_for(call, LIMIT_S)

    asyncio.run(main())


class YieldingLock:
    """A sandbox lock that yields to other threads after each release."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        threading.Event().wait(0.001)


def test_latency_of_concurrent_threads_adds_up() -> None:
    credits = new_fake()
    credits.faults.add(Latency(100))
    credits.sandbox.lock = YieldingLock(credits.sandbox.lock)  # type: ignore[assignment]
    threads = [threading.Thread(target=credits.server_client.get_balance, args=(APP, USER)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert credits.clock.now() - NOON == timedelta(milliseconds=400)
