"""Own the rows of the live server: CPU per request against yardsticks, memory under load, and its start."""

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
    Shot,
    best_cpu_us,
    end,
    fire,
    need_proc,
    need_wrk,
    rss_bytes,
    served,
)
from tests.benchmarks.plan import ROOT, Plan, compiled, times
from tests.benchmarks.raw import USER

_START_LIMIT_S = 30


def get_with_key(plan: Plan) -> str:
    """Measure GET balance with the API key."""
    need_wrk()
    with served("ours") as ours, served("raw") as raw:
        headers = {"X-API-Key": ours.key}
        return _cpu_text([_get(ours, headers), _get(raw, headers)], plan)


def get_with_token(plan: Plan) -> str:
    """Measure GET balance with a user's RS256 token."""
    need_wrk()
    with served("ours") as ours, served("raw") as raw:
        headers = _bearer(ours)
        return _cpu_text([_get(ours, headers), _get(raw, headers)], plan)


def naive_get(plan: Plan) -> str:
    """Measure what the fake that somebody writes in an hour costs, without and with a cache of tokens."""
    need_wrk()
    with served("naive") as naive, served("naive-cached") as cached, served("raw") as raw:
        plain = _get(naive, _bearer(naive))
        costs = best_cpu_us([plain, _get(cached, _bearer(cached)), _get(raw, _bearer(naive))], plan)
    return (
        f"{times(costs[0], costs[2])} ({costs[0]:.0f} µs), with a token cache {times(costs[1], costs[2])} "
        f"({costs[1]:.0f} µs), raw {costs[2]:.0f} µs"
    )


def post(plan: Plan) -> str:
    """Measure POST transaction, at few and at many transactions of the user."""
    need_wrk()
    with served("ours", "10") as small, served("ours", str(plan.many)) as large, served("raw") as raw:
        headers = {"X-API-Key": small.key, "Content-Type": "application/json"}
        shots = [Shot(server, USER + "/transactions", headers, POST_LUA) for server in (small, large, raw)]
        at_few, at_many, theirs = best_cpu_us(shots, plan)
    return (
        f"{times(at_few, theirs)} ({at_few:.0f} : {theirs:.0f} µs); at {plan.many:,} transactions "
        f"{times(at_many, at_few)} of that at 10 (and what the load adds)"
    )


def memory_after_gets(plan: Plan) -> str:
    """Measure what the server's memory grows by between the first fifth of many GETs and the last."""
    need_wrk()
    with served("ours") as ours:
        shot = _get(ours, {"X-API-Key": ours.key})
        first = _fire_until(shot, plan.gets // 5)
        before = rss_bytes(ours.pid)
        total = first + _fire_until(shot, plan.gets - first)
        grown = rss_bytes(ours.pid) - before
    return f"{grown / 2**20:+.2f} MB from {first:,} to {total:,} GETs"


def start(plan: Plan) -> str:
    """Measure from spawn to the first answer, by turns."""
    need_proc()
    ours: list[float] = []
    theirs: list[float] = []
    with compiled() as environment:
        for _ in range(1 + plan.spawns):
            ours.append(_start_ms(environment, "fake_credits", "serve", "--log", "off", "--port"))
            theirs.append(_start_ms(environment, "tests.benchmarks.raw"))
    del ours[0], theirs[0]
    ours_ms, theirs_ms = statistics.median(ours), statistics.median(theirs)
    return f"{times(ours_ms, theirs_ms)} ({ours_ms:.0f} : {theirs_ms:.0f} ms, medians of {plan.spawns})"


def _get(server: Server, headers: dict[str, str]) -> Shot:
    return Shot(server, USER + "/balance", headers)


def _bearer(server: Server) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.token}"}


def _cpu_text(shots: list[Shot], plan: Plan) -> str:
    ours, theirs = best_cpu_us(shots, plan)
    return f"{times(ours, theirs)} ({ours:.0f} : {theirs:.0f} µs)"


def _fire_until(shot: Shot, requests: int) -> int:
    answered = 0
    while answered < requests:
        answered += fire(shot, 1)
    return answered


def _start_ms(environment: dict[str, str], *module: str) -> float:
    port = _free_port()
    begun = time.perf_counter()
    with _spawned([sys.executable, "-m", *module, str(port)], environment) as process:
        while time.perf_counter() - begun < _START_LIMIT_S:
            if process.poll() is not None:
                raise RuntimeError(f"{module[0]} ended with {process.returncode} before it answered")
            if _answers(port):
                return (time.perf_counter() - begun) * 1000
            time.sleep(0.002)
    raise RuntimeError(f"{module[0]} did not answer within {_START_LIMIT_S} s")


@contextmanager
def _spawned(command: list[str], environment: dict[str, str]) -> "Generator[subprocess.Popen[str], None, None]":
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=quiet, stderr=quiet, text=True)
    try:
        yield process
    finally:
        end(process)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        try:
            connection.request("GET", USER + "/balance")
            return bool(connection.getresponse().status)
        except (OSError, http.client.HTTPException):
            return False
