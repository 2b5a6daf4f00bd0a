"""Benchmarks of the live server: CPU per request against reference servers, memory under load, and startup."""

# ruff: noqa: RUF001 - ratios have multiplication signs

import statistics
import sys

from tests.benchmarks.load import (
    POST_LUA,
    Server,
    WrkLoad,
    best_cpu_us,
    free_port,
    require_proc,
    require_wrk,
    rss_bytes,
    run_server,
    run_wrk_until,
    start_server,
)
from tests.benchmarks.plan import ROOT, Measurement, Plan, bytecode_cache, compare
from tests.benchmarks.raw import USER


def get_with_api_key(plan: Plan) -> Measurement:
    """Measure GET balance with the API key."""
    require_wrk()
    with run_server("fake") as fake, run_server("raw") as raw_server:
        headers = {"X-API-Key": fake.key}
        return _compare_cpu([_balance_load(fake, headers), _balance_load(raw_server, headers)], plan)


def get_with_token(plan: Plan) -> Measurement:
    """Measure GET balance with a user's RS256 token."""
    require_wrk()
    with run_server("fake") as fake, run_server("raw") as raw_server:
        headers = _bearer_headers(fake)
        return _compare_cpu([_balance_load(fake, headers), _balance_load(raw_server, headers)], plan)


def naive_fake(plan: Plan) -> Measurement:
    """Measure a simple fake built on Starlette and PyJWT, with and without a token cache."""
    require_wrk()
    with (
        run_server("naive") as naive_server,
        run_server("naive-cached") as cached_server,
        run_server("raw") as raw_server,
    ):
        naive_load = _balance_load(naive_server, _bearer_headers(naive_server))
        costs = best_cpu_us(
            [
                naive_load,
                _balance_load(cached_server, _bearer_headers(cached_server)),
                _balance_load(raw_server, _bearer_headers(naive_server)),
            ],
            plan,
        )
    return Measurement(
        "{ratio:.2f}× ({naive_us:.0f} µs), "
        "with a token cache {cached_ratio:.2f}× ({cached_us:.0f} µs), raw {raw_us:.0f} µs",
        ratio=costs[0] / costs[2],
        naive_us=costs[0],
        cached_ratio=costs[1] / costs[2],
        cached_us=costs[1],
        raw_us=costs[2],
    )


def post(plan: Plan) -> Measurement:
    """Measure POST transaction for a user with few transactions and a user with many."""
    require_wrk()
    with (
        run_server("fake", "10") as small_server,
        run_server("fake", str(plan.many)) as large_server,
        run_server("raw") as raw_server,
    ):
        headers = {"X-API-Key": small_server.key, "Content-Type": "application/json"}
        loads = [
            WrkLoad(server, USER + "/transactions", headers, POST_LUA)
            for server in (small_server, large_server, raw_server)
        ]
        at_few, at_many, reference_us = best_cpu_us(loads, plan)
    return Measurement(
        "{ratio:.2f}× ({ours_us:.0f} : {reference_us:.0f} µs); "
        "at {transactions:,} transactions {growth_ratio:.2f}× of that at 10 (and what the load adds)",
        ratio=at_few / reference_us,
        ours_us=at_few,
        reference_us=reference_us,
        transactions=plan.many,
        growth_ratio=at_many / at_few,
    )


def memory_after_gets(plan: Plan) -> Measurement:
    """Measure how much the server's memory grows after the first fifth of many GETs."""
    require_wrk()
    with run_server("fake") as fake:
        load = _balance_load(fake, {"X-API-Key": fake.key})
        first = run_wrk_until(load, plan.gets // 5)
        before = rss_bytes(fake.pid)
        total = first + run_wrk_until(load, plan.gets - first)
        growth_bytes = rss_bytes(fake.pid) - before
    return Measurement(
        "{growth_mb:+.2f} MB from {first:,} to {total:,} GETs", growth_mb=growth_bytes / 2**20, first=first, total=total
    )


def start(plan: Plan) -> Measurement:
    """Measure the time from spawn to the first response, in interleaved rounds."""
    require_proc()
    fake_starts_ms: list[float] = []
    reference_starts_ms: list[float] = []
    with bytecode_cache() as environment:
        for _ in range(1 + plan.spawns):
            fake_starts_ms.append(_start_ms(environment, "fake_credits", "serve", "--log", "off", "--port"))
            reference_starts_ms.append(_start_ms(environment, "tests.benchmarks.raw"))
    del fake_starts_ms[0], reference_starts_ms[0]
    fake_ms, reference_ms = statistics.median(fake_starts_ms), statistics.median(reference_starts_ms)
    return Measurement(
        "{ratio:.2f}× ({ours_ms:.0f} : {reference_ms:.0f} ms, medians of {spawns})",
        ratio=fake_ms / reference_ms,
        ours_ms=fake_ms,
        reference_ms=reference_ms,
        spawns=plan.spawns,
    )


def _balance_load(server: Server, headers: dict[str, str]) -> WrkLoad:
    return WrkLoad(server, USER + "/balance", headers)


def _bearer_headers(server: Server) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.token}"}


def _compare_cpu(loads: list[WrkLoad], plan: Plan) -> Measurement:
    fake_us, reference_us = best_cpu_us(loads, plan)
    return compare(fake_us, reference_us, digits=0)


def _start_ms(environment: dict[str, str], *module: str) -> float:
    port = free_port()
    with start_server([sys.executable, "-m", *module, str(port)], port, ROOT, environment) as (_, start_ms):
        return start_ms
