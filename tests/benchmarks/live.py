"""Benchmarks of the live server: CPU per request against reference servers, memory under load, and startup."""

import http.client
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import closing, contextmanager

from tests.benchmarks.load import (
    POST_LUA,
    Server,
    WrkLoad,
    best_cpu_us,
    require_proc,
    require_wrk,
    rss_bytes,
    run_server,
    run_wrk,
    stop_process,
)
from tests.benchmarks.plan import ROOT, Plan, bytecode_cache, format_ratio
from tests.benchmarks.raw import USER

_START_LIMIT_S = 30


def get_with_api_key(plan: Plan) -> str:
    """Measure GET balance with the API key."""
    require_wrk()
    with run_server("fake") as fake, run_server("raw") as raw_server:
        headers = {"X-API-Key": fake.key}
        return _format_cpu([_balance_load(fake, headers), _balance_load(raw_server, headers)], plan)


def get_with_token(plan: Plan) -> str:
    """Measure GET balance with a user's RS256 token."""
    require_wrk()
    with run_server("fake") as fake, run_server("raw") as raw_server:
        headers = _bearer_headers(fake)
        return _format_cpu([_balance_load(fake, headers), _balance_load(raw_server, headers)], plan)


def naive_fake(plan: Plan) -> str:
    """Measure a simple fake on Starlette and PyJWT, with and without a token cache."""
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
    return (
        f"{format_ratio(costs[0], costs[2])} ({costs[0]:.0f} µs), "
        f"with a token cache {format_ratio(costs[1], costs[2])} ({costs[1]:.0f} µs), raw {costs[2]:.0f} µs"
    )


def post(plan: Plan) -> str:
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
    return (
        f"{format_ratio(at_few, reference_us)} ({at_few:.0f} : {reference_us:.0f} µs); at {plan.many:,} transactions "
        f"{format_ratio(at_many, at_few)} of that at 10 (and what the load adds)"
    )


def memory_after_gets(plan: Plan) -> str:
    """Measure the growth of the server's memory between the first fifth and the last of many GETs."""
    require_wrk()
    with run_server("fake") as fake:
        load = _balance_load(fake, {"X-API-Key": fake.key})
        first = _run_wrk_until(load, plan.gets // 5)
        before = rss_bytes(fake.pid)
        total = first + _run_wrk_until(load, plan.gets - first)
        growth_bytes = rss_bytes(fake.pid) - before
    return f"{growth_bytes / 2**20:+.2f} MB from {first:,} to {total:,} GETs"


def start(plan: Plan) -> str:
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
    return f"{format_ratio(fake_ms, reference_ms)} ({fake_ms:.0f} : {reference_ms:.0f} ms, medians of {plan.spawns})"


def _balance_load(server: Server, headers: dict[str, str]) -> WrkLoad:
    return WrkLoad(server, USER + "/balance", headers)


def _bearer_headers(server: Server) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.token}"}


def _format_cpu(loads: list[WrkLoad], plan: Plan) -> str:
    fake_us, reference_us = best_cpu_us(loads, plan)
    return f"{format_ratio(fake_us, reference_us)} ({fake_us:.0f} : {reference_us:.0f} µs)"


def _run_wrk_until(load: WrkLoad, requests: int) -> int:
    count = 0
    while count < requests:
        count += run_wrk(load, 1)
    return count


def _start_ms(environment: dict[str, str], *module: str) -> float:
    port = _free_port()
    started = time.perf_counter()
    with _spawn([sys.executable, "-m", *module, str(port)], environment) as process:
        while time.perf_counter() - started < _START_LIMIT_S:
            if process.poll() is not None:
                raise RuntimeError(f"{module[0]} ended with {process.returncode} before it answered")
            if _is_answering(port):
                return (time.perf_counter() - started) * 1000
            time.sleep(0.002)
    raise RuntimeError(f"{module[0]} did not answer within {_START_LIMIT_S} s")


@contextmanager
def _spawn(command: list[str], environment: dict[str, str]) -> "Generator[subprocess.Popen[str], None, None]":
    devnull = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=devnull, stderr=devnull, text=True)
    try:
        yield process
    finally:
        stop_process(process)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _is_answering(port: int) -> bool:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        try:
            connection.request("GET", USER + "/balance")
            return bool(connection.getresponse().status)
        except (OSError, http.client.HTTPException):
            return False
