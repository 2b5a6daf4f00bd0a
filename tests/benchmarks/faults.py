"""Benchmarks of faults: rules in process, virtual time, and delays over a socket."""

import asyncio
import statistics
import time
from contextlib import suppress
from unittest import mock

import tenacity

from fake_credits.errors import RateLimited, Timeout
from fake_credits.fake import FakeCredits
from fake_credits.faults import Latency, Reset, Status
from tests.benchmarks.load import run_server
from tests.benchmarks.plan import Measurement, Plan, best_us
from tests.benchmarks.raw import USER

_CONNECTIONS = 64
_RATE = 1000
_DELAY_MS = 20


def rules(plan: Plan) -> Measurement:
    """Measure an in-process exchange without the fault steps, with no rule, and with ten rules that don't match."""
    with FakeCredits(balance=1) as fake_without_rules, FakeCredits(balance=1) as fake_with_rules:
        for number in range(10):
            fake_with_rules.faults.add(Reset(), user=f"nobody-{number}")
        get_balance = fake_without_rules.server_client.get_balance
        get_balance_with_rules = fake_with_rules.server_client.get_balance

        def call_without_fault_steps() -> None:
            with mock.patch.object(fake_without_rules.sandbox.clock, "run_due", _run_nothing):
                for _ in range(_BATCH):
                    get_balance("app-id", "user-id")

        def call_without_rules() -> None:
            for _ in range(_BATCH):
                get_balance("app-id", "user-id")

        def call_with_ten_rules() -> None:
            for _ in range(_BATCH):
                get_balance_with_rules("app-id", "user-id")

        batches = Plan(call_rounds=plan.call_rounds, calls=max(1, plan.gets // _BATCH // plan.call_rounds))
        plain_us, no_rule_us, ten_rules_us = (
            each / _BATCH
            for each in best_us([call_without_fault_steps, call_without_rules, call_with_ten_rules], batches)
        )
    return Measurement(
        "{no_rule_us:+.2f} µs; {ten_rules_us:+.2f} µs (of {plain_us:.1f} µs)",
        no_rule_us=no_rule_us - plain_us,
        ten_rules_us=ten_rules_us - plain_us,
        plain_us=plain_us,
    )


_BATCH = 200


def _run_nothing() -> None:
    """Do nothing, in place of `Clock.run_due`, which reads the clock."""


def timeouts(plan: Plan) -> Measurement:
    """Measure a timeout of 30 s with a retry, and five attempts with a Retry-After of 30 s."""
    timeout_us, retries_us = best_us(
        [_time_out_and_retry, _retry_five_times], Plan(call_rounds=plan.call_rounds, calls=5)
    )
    return Measurement(
        "{timeout_ms:.2f} ms; {retries_ms:.2f} ms", timeout_ms=timeout_us / 1000, retries_ms=retries_us / 1000
    )


def _time_out_and_retry() -> None:
    with FakeCredits(balance=100) as credits:
        credits.faults.add(Latency(45_000), "createTransaction", nth=1)
        client = credits.server_client
        with suppress(Timeout):
            client.create_transaction("app-id", "user-id", delta=-10, reason="consume")
        credits.sleep(1)
        client.create_transaction("app-id", "user-id", delta=-10, reason="consume")
        credits.settle()


def _retry_five_times() -> None:
    with FakeCredits(balance=100) as credits:
        credits.faults.add(Status(429, retry_after_s=30), first=4)
        retry = tenacity.Retrying(stop=tenacity.stop_after_attempt(5), wait=_wait_retry_after, sleep=credits.sleep)
        retry(credits.server_client.get_balance, "app-id", "user-id")


def _wait_retry_after(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return float(error.retry_after_s or 0) if isinstance(error, RateLimited) else 0


def delays(plan: Plan) -> Measurement:
    """Measure the overhead of an injected delay, at a higher rate and on more connections than in most test suites."""
    seconds = plan.wrk_s * plan.rounds / 2
    with run_server("delayed") as delayed_server, run_server("fake") as plain_server:
        delayed_excess = asyncio.run(_excess(delayed_server.url, delayed_server.key, seconds, _DELAY_MS))
        plain_excess = asyncio.run(_excess(plain_server.url, plain_server.key, seconds, 0))
    added_ms = [_quantile(delayed_excess, share) - _quantile(plain_excess, share) for share in (0.5, 0.99)]
    return Measurement(
        "{median_ms:.2f} ms; {p99_ms:.2f} ms more than without one; earliest {earliest_ms:+.2f} ms "
        "(of {requests} requests)",
        median_ms=added_ms[0],
        p99_ms=added_ms[1],
        earliest_ms=min(delayed_excess),
        requests=len(delayed_excess),
    )


def _quantile(values: list[float], share: float) -> float:
    return statistics.quantiles(values, n=100)[round(share * 100) - 1]


async def _excess(url: str, key: str, seconds: float, delay_ms: float) -> list[float]:
    """Return how many milliseconds beyond the delay each response took; requests start at even intervals."""
    host, _, port = url.removeprefix("http://").partition(":")
    request = f"GET {USER}/balance HTTP/1.1\r\nhost: {host}\r\nx-api-key: {key}\r\n\r\n".encode()
    excess: list[float] = []
    started = time.perf_counter() + 0.1

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        next_start = started + number / _RATE
        while next_start < started + seconds:
            await asyncio.sleep(max(0.0, next_start - time.perf_counter()))
            sent_at = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(_length(head))
            excess.append((time.perf_counter() - sent_at) * 1000 - delay_ms)
            next_start += _CONNECTIONS / _RATE
        writer.close()

    await asyncio.gather(*map(client, range(_CONNECTIONS)))
    return excess


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
