"""Benchmarks of exploration: the time per schedule, order and command run, and the memory used by many runs."""

import asyncio
import json
import math
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fake_credits import AsyncServerClient, FakeCredits
from fake_credits.explore.exploration import Exploration
from fake_credits.explore.options import ExploreOptions
from fake_credits.explore.ownership import TestCode
from fake_credits.transports.environment import env_variables
from fake_credits.transports.shared_resources import SharedResources
from tests.benchmarks.plan import BenchmarkSkipped, Measurement, Plan, bytecode_cache

_SUITE = """\
import pytest
from fake_credits.errors import ApiError, TransportFailure


def five_calls(api):
    api.get_balance("app-id", "ada")
    api.get_user("app-id", "ada")
    before = len(api.list_transactions("app-id", "ada").transactions)
    try:
        api.create_transaction("app-id", "ada", delta=-10, reason="consume")
    except (ApiError, TransportFailure):
        if len(api.list_transactions("app-id", "ada").transactions) == before:
            raise
    api.get_balance("app-id", "ada")


@pytest.mark.parametrize("number", range({tests}))
@pytest.mark.fake_credits(users={{"ada": 100}})
def test_five_calls(fake_credits, number):
    five_calls(fake_credits.server_client)
    assert fake_credits.balance("ada") == 90
"""

# Prints the number of schedules run so far and the process's memory, in bytes, after each tenth of a run.
_CONFTEST = """\
import gc
import sys
sys.path.insert(0, {root!r})
from tests.benchmarks.load import rss_bytes

schedules = tests = 0

def pytest_fake_credits_explored(exploration):
    global schedules
    schedules += len(exploration.results)

def pytest_runtest_logfinish():
    global tests
    tests += 1
    if tests % {interval}:
        return
    gc.collect()
    with open("memory.jsonl", "a") as file:
        print(f"[{{schedules}}, {{rss_bytes()}}]", file=file)
"""
_EXPLORE = "--fake-credits-explore"
_REGISTRATION = "pytest_fake_credits.registration"  # the plugin that loads exploration when it is needed
_ROOT = str(Path(__file__).resolve().parents[2])


def schedules(plan: Plan) -> Measurement:
    """Measure 100 schedules of a test with five calls; the first test, which imports what is needed, is not counted."""
    tests = 1 + max(2, plan.tests // 50)
    document = _explore(tests)
    explorations: list[dict[str, Any]] = document["explorations"][1:]
    per_schedule_s = [each["duration_s"] / len(each["schedules"]) for each in explorations]
    return Measurement(
        "{per_100_s:.2f} s (best of {tests} tests of {schedules} schedules)",
        per_100_s=min(per_schedule_s) * 100,
        tests=len(explorations),
        schedules=_count(explorations),
    )


def orders(plan: Plan) -> Measurement:
    """Measure the runs of three tasks that check and then act, on asyncio, without pytest."""
    shared = SharedResources()
    options = ExploreOptions(faults=(), orders=True, seconds=60)
    code = TestCode([_check_then_act.__code__])
    best_s, count = math.inf, 0
    for _ in range(plan.call_rounds):
        exploration = Exploration("check then act", options, code)
        started_s = time.process_time()
        for recorder in exploration.runs():
            with FakeCredits(shared=shared, users={"ada": 100}) as credits:
                recorder.attach(credits.sandbox)
                asyncio.run(_check_then_act(credits.async_server_client))
                recorder.finish()
        count = len(exploration.orders)
        best_s = min(best_s, (time.process_time() - started_s) / (count + 3))  # plus three runs without an order
    return Measurement(
        "{order_ms:.2f} ms of CPU (best of {rounds} rounds of {orders} orders of 3 tasks)",
        order_ms=best_s * 1000,
        rounds=plan.call_rounds,
        orders=count,
    )


async def _check_then_act(api: AsyncServerClient) -> None:
    async def buy() -> None:
        if (await api.get_balance("app-id", "ada")).balance == 100:
            await api.create_transaction("app-id", "ada", delta=-10, reason="consume")

    await asyncio.gather(buy(), buy(), buy())


def memory(plan: Plan) -> Measurement:
    """Measure the memory that the last 90% of the schedules add, beyond what pytest itself keeps for as many tests."""
    tests = max(10, plan.tests // 2)
    samples, plain_samples = (_explore(tests, report=False, flag=flag)["memory"] for flag in (_EXPLORE, "-q"))
    first, last = samples[0], samples[-1]
    plain_mb = (plain_samples[-1][1] - plain_samples[0][1]) / 1e6
    return Measurement(
        "{added_mb:.1f} MB more after {schedules:.0f} schedules than after {few_schedules:.0f}, besides "
        "{plain_mb:.1f} MB of pytest",
        added_mb=(last[1] - first[1]) / 1e6 - plain_mb,
        schedules=last[0],
        few_schedules=first[0],
        plain_mb=plain_mb,
    )


def off(plan: Plan) -> Measurement:
    """Measure the CPU time that exploration adds to each test while it is off, in interleaved rounds."""
    tests = max(10, plan.tests // 2)
    added_us: list[float] = []
    test_us: list[float] = []
    for _ in range(1 + plan.test_rounds):
        cpu_us = [_cpu_s_of(tests, flag) * 1e6 / tests for flag in ("-q", f"-pno:{_REGISTRATION}")]
        added_us.append(cpu_us[0] - cpu_us[1])
        test_us.append(cpu_us[1])
    return Measurement(
        "{added_us:+.0f} µs (on {test_us:.0f} µs of CPU for each test, median of {rounds} rounds)",
        added_us=statistics.median(added_us[1:]),
        test_us=statistics.median(test_us[1:]),
        rounds=plan.test_rounds,
    )


def _cpu_s_of(tests: int, flag: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _explore(tests, report=False, flag=flag)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


# With stale reads, every explored run gets the same response.
_NODE_SCRIPT = """\
const { CREDITS_BASE_URL, CREDITS_API_KEY, CREDITS_APPLICATION_ID } = process.env;
const url = `${CREDITS_BASE_URL}/v1/applications/${CREDITS_APPLICATION_ID}/users/ada/balance`;
await fetch(url, { headers: { "X-API-Key": CREDITS_API_KEY } }).catch(() => {});
"""


def node(plan: Plan) -> Measurement:
    """Measure what exploring adds to a run of a Node script with one call, in interleaved rounds."""
    program = shutil.which("node")
    if program is None:
        raise BenchmarkSkipped("node is not installed")
    explored_ms: list[float] = []
    bare_ms: list[float] = []
    with (
        tempfile.TemporaryDirectory() as name,
        bytecode_cache() as environment,
        FakeCredits(users={"ada": 1}) as credits,
    ):
        script = Path(name) / "script.mjs"
        script.write_text(_NODE_SCRIPT)
        flags = ("--user", "ada=1", "--what", "stale", "--format", "json")
        command = (sys.executable, "-m", "fake_credits", "explore", *flags, "--", program, str(script))
        bare_environment = {**environment, **env_variables(credits.sandbox, credits.base_url)}
        for _ in range(1 + plan.spawns):
            output = subprocess.run(command, env=environment, capture_output=True, check=True).stdout
            (exploration,) = json.loads(output)["explorations"]
            run_count = len(exploration["schedules"]) + 3  # plus two reference runs before and one run after
            explored_ms.append(exploration["duration_s"] * 1000 / run_count)
            started_s = time.perf_counter()
            for _ in range(run_count):
                subprocess.run((program, str(script)), env=bare_environment, check=True)
            bare_ms.append((time.perf_counter() - started_s) * 1000 / run_count)
    added_ms = statistics.median(map(float.__sub__, explored_ms[1:], bare_ms[1:]))
    return Measurement(
        "{added_ms:.1f} ms more (on {bare_ms:.0f} ms, median of {pairs} pairs)",
        added_ms=added_ms,
        bare_ms=statistics.median(bare_ms[1:]),
        pairs=plan.spawns,
    )


def _count(explorations: list[dict[str, Any]]) -> int:
    return len(explorations[0]["schedules"])


def _explore(tests: int, *, report: bool = True, flag: str = _EXPLORE) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name, bytecode_cache() as environment:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "test_suite.py").write_text(_SUITE.format(tests=tests))
        if not report:
            (folder / "conftest.py").write_text(_CONFTEST.format(root=_ROOT, interval=tests // 10))
        arguments = ("-q", "-p", "no:cacheprovider", "-p", "pytest_fake_credits", flag)
        report_arguments = ("--fake-credits-explore-report=report.json",) if report else ()
        command = [sys.executable, "-m", "pytest", *arguments, *report_arguments]
        isolated = {**environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        result = subprocess.run(command, cwd=folder, env=isolated, capture_output=True, text=True, check=False)
        if result.returncode:
            raise RuntimeError(f"pytest ended with {result.returncode}: {result.stdout[-2000:]}{result.stderr[-2000:]}")
        if report:
            document: dict[str, Any] = json.loads((folder / "report.json").read_text())
            return document
        lines = (folder / "memory.jsonl").read_text().splitlines()
        return {"memory": [json.loads(line) for line in lines]}
