"""Virtual time: delays that take no real time, the order of timeouts, and everything that depends on the clock."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import freezegun
import pytest
import tenacity
import time_machine
import trio

from fake_credits.api.app import create_app
from fake_credits.client.server import AsyncServerClient, ServerClient
from fake_credits.client.user import UserClient
from fake_credits.clock import monotonic_s
from fake_credits.errors import (
    FakeCreditsError,
    RateLimited,
    Timeout,
    TokenExpired,
    WouldHangForever,
)
from fake_credits.fake import ClientMode, FakeCredits
from fake_credits.faults import (
    Drip,
    Hang,
    Latency,
    LateWrite,
    RateLimit,
    Reset,
    StaleRead,
    Status,
    Truncate,
    Unauthorized,
)
from fake_credits.models import Balance, Reason, Transaction
from fake_credits.transports.in_process import AsyncInProcessTransport, InProcessDriver, InProcessTransport

APP = "app-id"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
URL = "http://credits.test"
MODES: list[ClientMode] = ["in-process", "live"]


def frozen_fake(**balances: int) -> FakeCredits:
    return FakeCredits(users={"ada": balances.pop("ada", 100)}, clock=NOON)


def consume(client: ServerClient, amount: int = 10) -> Transaction:
    return client.create_transaction(APP, "ada", delta=-amount, reason=Reason.CONSUME)


def driver_for(credits: FakeCredits) -> InProcessDriver:
    return InProcessDriver(create_app(credits.sandbox.contract), credits.sandbox)


def client_with_timeout(credits: FakeCredits, timeout_s: float | None) -> ServerClient:
    """Return an in-process client with a timeout."""
    return ServerClient(URL, credits.api_key, transport=InProcessTransport(driver_for(credits)), timeout_s=timeout_s)


def async_client_with_timeout(credits: FakeCredits, timeout_s: float | None) -> AsyncServerClient:
    transport = AsyncInProcessTransport(driver_for(credits))
    return AsyncServerClient(URL, credits.api_key, transport=transport, timeout_s=timeout_s)


def elapsed_ms(credits: FakeCredits) -> int:
    return round((credits.clock.now() - NOON) / timedelta(milliseconds=1))


# ------------------------------------------------------------ delays and timeouts


def test_latency_moves_virtual_clock_without_real_time() -> None:
    with frozen_fake() as credits:
        credits.faults.add(Latency(20_000))
        started_s = monotonic_s()
        consume(credits.server_client)
        assert elapsed_ms(credits) == 20_000
        assert monotonic_s() - started_s < 10


def test_latency_switches_real_clock_to_offset() -> None:
    with FakeCredits(balance=1) as credits:
        credits.faults.add(Latency(5_000))
        modes = [credits.clock.mode]
        credits.server_client.get_balance(APP, "user-id")
        modes.append(credits.clock.mode)
        assert modes == ["real", "offset"]


def test_write_delayed_beyond_timeout_commits_late_after_retry() -> None:
    """The application's back-off uses the sandbox's clock, so it takes no real time."""
    with frozen_fake() as credits:
        credits.faults.add(Latency(45_000), "createTransaction", phase="before", nth=1)
        with pytest.raises(Timeout):
            consume(credits.server_client)
        assert elapsed_ms(credits) == 30_000
        assert credits.balance("ada") == 100
        (pending,) = credits.journal
        assert (pending.committed, pending.delivered, pending.status) == (False, False, 0)
        credits.sleep(2)
        consume(credits.server_client)
        assert credits.balance("ada") == 90
        assert credits.settle() == 1
        assert credits.balance("ada") == 80
        late_entry = credits.journal.entries()[0]
        assert (late_entry.ordinal, late_entry.committed, late_entry.delivered) == (1, True, False)
        assert late_entry.transaction == "txn_3"
        assert elapsed_ms(credits) == 45_000


def test_latency_after_commit_keeps_write_when_client_times_out() -> None:
    with frozen_fake() as credits:
        credits.faults.add(Latency(45_000), "createTransaction", phase="after")
        with pytest.raises(Timeout):
            consume(credits.server_client)
        assert credits.balance("ada") == 90
        assert [entry.committed for entry in credits.journal] == [True]


def test_latency_equal_to_timeout_does_not_time_out() -> None:
    """At equal times, resuming takes precedence over the timeout."""
    with frozen_fake() as credits:
        credits.faults.add(Latency(30_000))
        consume(credits.server_client)
        assert elapsed_ms(credits) == 30_000


def test_timeout_sums_delays_and_restarts_with_each_received_byte() -> None:
    with frozen_fake() as credits:
        credits.faults.add(Latency(20_000), phase="before")
        credits.faults.add(Latency(20_000), phase="after")
        with pytest.raises(Timeout):
            consume(credits.server_client)
        assert elapsed_ms(credits) == 30_000
    with frozen_fake() as credits:
        credits.faults.add(Drip(chunks=3, over_ms=60_000))
        consume(credits.server_client)
        assert elapsed_ms(credits) == 60_000


def test_drip_gap_longer_than_timeout_times_out() -> None:
    with frozen_fake() as credits:
        credits.faults.add(Drip(chunks=1, over_ms=31_000))
        with pytest.raises(Timeout):
            consume(credits.server_client)
        assert elapsed_ms(credits) == 30_000
        assert credits.balance("ada") == 90


@pytest.mark.parametrize("effect", [Hang(), Truncate(then="hang")])
def test_hang_ends_at_client_timeout(effect: Hang | Truncate) -> None:
    with frozen_fake() as credits:
        credits.faults.add(effect)
        with pytest.raises(Timeout):
            consume(credits.server_client)
        assert elapsed_ms(credits) == 30_000
        assert credits.problems() == []


def test_hang_without_timeout_raises_at_once_and_fails_the_test() -> None:
    with frozen_fake() as credits:
        credits.faults.add(Hang())
        with pytest.raises(WouldHangForever, match="createTransaction for ada would hang forever"):
            consume(client_with_timeout(credits, None))
        assert elapsed_ms(credits) == 0
        assert len(credits.problems()) == 1
        assert [entry.delivered for entry in credits.journal] == [False]


@pytest.mark.parametrize("run", [asyncio.run, trio.run], ids=["asyncio", "trio"])
def test_async_hang_without_timeout_waits_for_gate_timeout(
    run: Callable[..., object],
) -> None:
    async def main() -> None:
        with FakeCredits(balance=1, gate_timeout_s=0.01) as credits:
            credits.faults.add(Hang())
            with pytest.raises(WouldHangForever):
                await async_client_with_timeout(credits, None).get_balance(APP, "user-id")
            assert len(credits.problems()) == 1

    if run is trio.run:
        run(main)
    else:
        run(main())


def test_event_loop_timeout_ends_a_hang() -> None:
    async def main() -> None:
        with FakeCredits(balance=1) as credits:
            credits.faults.add(Hang())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await async_client_with_timeout(credits, None).get_balance(APP, "user-id")
            assert credits.problems() == []
            assert [entry.delivered for entry in credits.journal] == [False]

    asyncio.run(main())


def test_tenacity_waits_for_retry_after_on_sandbox_clock() -> None:
    with frozen_fake() as credits:
        credits.faults.add(Status(429, retry_after_s=30), "getBalance", first=4)

        def wait(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            return float(error.retry_after_s or 0) if isinstance(error, RateLimited) else 0

        retrying = tenacity.Retrying(stop=tenacity.stop_after_attempt(5), wait=wait, sleep=credits.sleep)
        assert retrying(credits.server_client.get_balance, APP, "ada").balance == 100
        assert elapsed_ms(credits) == 120_000


def test_async_tenacity_waits_for_retry_after_on_sandbox_clock() -> None:
    async def main() -> None:
        with frozen_fake() as credits:
            credits.faults.add(Status(503, retry_after_s=30), "getBalance", first=4)
            retrying = tenacity.AsyncRetrying(
                stop=tenacity.stop_after_attempt(5), wait=tenacity.wait_fixed(30), sleep=credits.async_sleep
            )
            balance: Balance = await retrying(credits.async_server_client.get_balance, APP, "ada")
            assert balance.balance == 100
            assert elapsed_ms(credits) == 120_000

    asyncio.run(main())


@pytest.mark.parametrize("run", ["asyncio", "trio"])
def test_latencies_of_concurrent_tasks_overlap(run: str) -> None:
    """Ten concurrent calls with a latency of 100 ms each advance the clock by 100 ms in total."""

    async def with_asyncio(credits: FakeCredits) -> None:
        await asyncio.gather(*(credits.async_server_client.get_balance(APP, "ada") for _ in range(10)))

    async def with_trio(credits: FakeCredits) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(credits.async_server_client.get_balance, APP, "ada")

    with frozen_fake() as credits:
        credits.faults.add(Latency(100))
        if run == "asyncio":
            asyncio.run(with_asyncio(credits))
        else:
            trio.run(with_trio, credits)
        assert elapsed_ms(credits) == 100
        assert len(credits.journal) == 10


def test_tasks_finish_in_order_of_their_latencies() -> None:
    async def call(credits: FakeCredits, user: str, done: list[str]) -> None:
        await credits.async_server_client.get_balance(APP, user)
        done.append(user)

    async def main() -> None:
        users = {"slow": 1, "middle": 1, "quick": 1}
        with FakeCredits(users=users, clock=NOON) as credits:
            for user, delay in (("slow", 300), ("middle", 200), ("quick", 100)):
                credits.faults.add(Latency(delay), user=user)
            done: list[str] = []
            await asyncio.gather(*(call(credits, user, done) for user in users))
            assert [entry.user for entry in credits.journal] == ["quick", "middle", "slow"]
            assert elapsed_ms(credits) == 300

    asyncio.run(main())


def test_cancelled_call_commits_when_clock_reaches_its_time() -> None:
    async def main() -> None:
        with frozen_fake() as credits:
            credits.faults.add(Latency(20_000), "createTransaction")
            client = credits.async_server_client
            task = asyncio.create_task(client.create_transaction(APP, "ada", delta=-10, reason="consume"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert credits.balance("ada") == 100
            credits.clock.advance(seconds=20)
            assert credits.balance("ada") == 90
            (entry,) = credits.journal
            assert (entry.committed, entry.delivered) == (True, False)

    asyncio.run(main())


# ------------------------------------------------------------ events on the clock


def test_late_write_commits_against_the_ledger_at_that_time() -> None:
    with frozen_fake() as credits:
        credits.faults.add(LateWrite(after_ms=60_000), "createTransaction", user="ada")
        with pytest.raises(Timeout):
            consume(credits.server_client, 80)
        consume(credits.server_client, 50)
        credits.clock.advance(seconds=31)
        first, second = credits.journal
        assert (first.ordinal, first.code, first.committed) == (1, "insufficient_credits", False)
        assert (second.ordinal, second.committed) == (2, True)
        assert credits.balance("ada") == 50


def test_due_events_run_before_next_exchange_on_real_clock() -> None:
    with FakeCredits(users={"ada": 100}) as credits:
        credits.faults.add(LateWrite(after_ms=0), "createTransaction")
        with pytest.raises(Timeout):
            consume(credits.server_client)
        assert credits.server_client.get_balance(APP, "ada").balance == 90


def test_rate_limit_window_ends_exactly_after_retry_after() -> None:
    with frozen_fake() as credits:
        credits.faults.add(RateLimit(2, 10), "getBalance")
        client = credits.server_client
        client.get_balance(APP, "ada")
        credits.clock.advance(seconds=3.5)
        client.get_balance(APP, "ada")
        with pytest.raises(RateLimited) as caught:
            client.get_balance(APP, "ada")
        assert caught.value.retry_after_s == 7
        assert caught.value.fault == "rate_limit#1"
        credits.sleep(caught.value.retry_after_s)
        client.get_balance(APP, "ada")


def test_stale_read_and_during_option_follow_the_clock() -> None:
    with frozen_fake() as credits:
        credits.faults.add(StaleRead(by_ms=1000))
        credits.faults.add(Status(503), "getUser", during=(10, 20))
        consume(credits.server_client)
        assert credits.server_client.get_balance(APP, "ada").balance == 100
        credits.clock.advance(seconds=1)
        assert credits.server_client.get_balance(APP, "ada").balance == 90
        credits.server_client.get_user(APP, "ada")
        credits.clock.advance(seconds=9)
        with pytest.raises(FakeCreditsError):
            credits.server_client.get_user(APP, "ada")
        credits.clock.advance(seconds=10)
        credits.server_client.get_user(APP, "ada")


def test_created_at_and_token_expiry_follow_latency() -> None:
    with frozen_fake() as credits:
        token = credits.token("ada", expires_in_s=10)
        credits.faults.add(Latency(20_000), "createTransaction")
        assert consume(credits.server_client, 1).created_at == NOON + timedelta(seconds=20)
        for _ in range(4):  # well past the expiry and the leeway
            consume(credits.server_client, 1)
        transport = InProcessTransport(driver_for(credits))
        with pytest.raises(TokenExpired):
            UserClient(URL, APP, token, transport=transport).get_balance("ada")


def test_clock_skew_rejects_a_valid_token() -> None:
    with frozen_fake() as credits:
        token = credits.token("ada", expires_in_s=60)
        transport = InProcessTransport(driver_for(credits))
        client = UserClient(URL, APP, token, transport=transport)
        with credits.faults(Unauthorized("clock_skew", clock_skew_s=121)), pytest.raises(TokenExpired):
            client.get_balance("ada")
        assert client.get_balance("ada").balance == 100


def test_reset_drops_pending_writes() -> None:
    with frozen_fake() as credits:
        credits.faults.add(Latency(45_000), "createTransaction")
        with pytest.raises(Timeout):
            consume(credits.server_client)
        assert [due.label for due in credits.clock.pending()] == ["createTransaction for ada"]
        credits.reset()
        assert credits.clock.pending() == []
        assert (credits.balance("ada"), len(credits.journal), elapsed_ms(credits)) == (100, 0, 0)


# ------------------------------------------------------------ real delays and frozen wall clocks


def test_real_delays_sleep_without_moving_the_clock() -> None:
    with FakeCredits(balance=1, delays="real") as credits:
        credits.faults.add(Latency(8))
        started_s = monotonic_s()
        credits.server_client.get_balance(APP, "user-id")
        assert monotonic_s() - started_s >= 0.008
        assert credits.clock.mode == "real"


@pytest.mark.parametrize("run", ["asyncio", "trio"])
def test_real_delays_sleep_in_event_loop(run: str) -> None:
    async def main(credits: FakeCredits) -> None:
        started_s = monotonic_s()
        await credits.async_server_client.get_balance(APP, "user-id")
        assert monotonic_s() - started_s >= 0.008

    with FakeCredits(balance=1, delays="real") as credits:
        credits.faults.add(Latency(8))
        if run == "asyncio":
            asyncio.run(main(credits))
        else:
            trio.run(main, credits)


@pytest.mark.parametrize("effect", [Latency(40), Hang()])
def test_real_delay_beyond_timeout_times_out(effect: Latency | Hang) -> None:
    with FakeCredits(balance=1, delays="real") as credits:
        credits.faults.add(effect)
        started_s = monotonic_s()
        with pytest.raises(Timeout):
            client_with_timeout(credits, 0.005).get_balance(APP, "user-id")
        assert monotonic_s() - started_s >= 0.005


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("delays", ["virtual", "real"])
@pytest.mark.parametrize("library", ["freezegun", "time-machine"])
def test_nothing_hangs_with_frozen_wall_clock(mode: ClientMode, delays: str, library: str) -> None:
    """Time-freezing libraries stop the sandbox's clock, but not the clock used for delays and timeouts."""
    frozen_time = freezegun.freeze_time(NOON) if library == "freezegun" else time_machine.travel(NOON, tick=False)
    with frozen_time, FakeCredits(balance=100, mode=mode, delays=delays) as credits:  # type: ignore[arg-type]
        with credits.faults(Latency(5)):
            created = credits.server_client.create_transaction(APP, "user-id", delta=-1, reason="consume")
        assert created.created_at - NOON in (timedelta(0), timedelta(milliseconds=5))
        with credits.faults(Reset()), pytest.raises(FakeCreditsError):
            credits.server_client.get_balance(APP, "user-id")

        async def main() -> None:
            with credits.faults(Latency(5)):
                await credits.async_server_client.get_balance(APP, "user-id")

        if mode == "in-process":
            trio.run(main)
