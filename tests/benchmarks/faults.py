"""Own the rows of what faults cost: rules in process, time that is virtual, delays over a socket."""

import asyncio
import statistics
import time
from contextlib import suppress
from unittest import mock

import tenacity

from fake_credits.api import pipeline
from fake_credits.errors import RateLimited, Timeout
from fake_credits.fake import FakeCredits
from fake_credits.faults import Latency, Reset, Status
from tests.benchmarks.load import served
from tests.benchmarks.plan import Plan, best_us
from tests.benchmarks.raw import USER

_CONNECTIONS = 64
_RATE = 1000
_DELAY_MS = 20


def rules(plan: Plan) -> str:
    """Measure an exchange in process without the steps that faults add, with no rule, and with ten that don't match."""
    with FakeCredits(balance=1) as without, FakeCredits(balance=1) as ruled:
        for number in range(10):
            ruled.faults.add(Reset(), user=f"nobody-{number}")
        read, read_ruled = without.server_client.get_balance, ruled.server_client.get_balance

        def plainly() -> None:
            with mock.patch.object(pipeline, "match_faults", _without_faults):
                for _ in range(_BATCH):
                    read("app-id", "user-id")

        def normally() -> None:
            for _ in range(_BATCH):
                read("app-id", "user-id")

        def with_ten() -> None:
            for _ in range(_BATCH):
                read_ruled("app-id", "user-id")

        batches = Plan(call_rounds=plan.call_rounds, calls=max(1, plan.gets // _BATCH // plan.call_rounds))
        plain, none, ten = (each / _BATCH for each in best_us([plainly, normally, with_ten], batches))
    return f"{none - plain:+.2f} µs; {ten - plain:+.2f} µs (of {plain:.1f} µs)"


_BATCH = 200


def _without_faults(_exchange: object, _connection: object) -> None:
    """Find no fault, without a look at the rules and the clock."""


def timeouts(plan: Plan) -> str:
    """Measure a timeout of 30 s with a retry, and five attempts with a Retry-After of 30 s."""
    timed_out, patient = best_us([_time_out, _be_patient], Plan(call_rounds=plan.call_rounds, calls=5))
    return f"{timed_out / 1000:.2f} ms; {patient / 1000:.2f} ms"


def _time_out() -> None:
    with FakeCredits(balance=100) as credits:
        credits.faults.add(Latency(45_000), "createTransaction", nth=1)
        client = credits.server_client
        with suppress(Timeout):
            client.create_transaction("app-id", "user-id", delta=-10, reason="consume")
        credits.sleep(1)
        client.create_transaction("app-id", "user-id", delta=-10, reason="consume")
        credits.settle()


def _be_patient() -> None:
    with FakeCredits(balance=100) as credits:
        credits.faults.add(Status(429, retry_after_s=30), first=4)
        retrying = tenacity.Retrying(stop=tenacity.stop_after_attempt(5), wait=_as_told, sleep=credits.sleep)
        retrying(credits.server_client.get_balance, "app-id", "user-id")


def _as_told(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return float(error.retry_after_s or 0) if isinstance(error, RateLimited) else 0


def delays(plan: Plan) -> str:
    """Measure what an injected delay adds to itself, at a rate and over connections that a suite rarely reaches."""
    seconds = plan.wrk_s * plan.rounds / 2
    with served("delayed") as slow, served("ours") as quick:
        late = asyncio.run(_excess(slow.url, slow.key, seconds, _DELAY_MS))
        plain = asyncio.run(_excess(quick.url, quick.key, seconds, 0))
    adds = [_at(late, share) - _at(plain, share) for share in (0.5, 0.99)]
    return (
        f"{adds[0]:.2f} ms; {adds[1]:.2f} ms more than without one; earliest {min(late):+.2f} ms "
        f"(of {len(late)} requests)"
    )


def _at(values: list[float], share: float) -> float:
    return statistics.quantiles(values, n=100)[round(share * 100) - 1]


async def _excess(url: str, key: str, seconds: float, delay_ms: float) -> list[float]:
    """Return by how many milliseconds each answer took longer than the delay; requests start at even intervals."""
    host, _, port = url.removeprefix("http://").partition(":")
    request = f"GET {USER}/balance HTTP/1.1\r\nhost: {host}\r\nx-api-key: {key}\r\n\r\n".encode()
    excess: list[float] = []
    begin = time.perf_counter() + 0.1

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        due = begin + number / _RATE
        while due < begin + seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            sent = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(_length(head))
            excess.append((time.perf_counter() - sent) * 1000 - delay_ms)
            due += _CONNECTIONS / _RATE
        writer.close()

    await asyncio.gather(*map(client, range(_CONNECTIONS)))
    return excess


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
