"""Benchmarks of loading demo data: into a sandbox, at scale, and into a server compared with a loop of calls.

    python -m tests.benchmarks.worlds demo               the duration of the first and the second load
    python -m tests.benchmarks.worlds load TRANSACTIONS  the speed of a large load, and its memory per transaction

The benchmarks run these commands in separate processes; each prints one line of JSON.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from fake_credits.client.server import AsyncServerClient
from fake_credits.contract import DEFAULT_CONTRACT
from fake_credits.fake import FakeCredits
from fake_credits.transports.live import new_event_loop
from fake_credits.transports.shared_resources import SharedResources
from fake_credits.worlds import make_world
from fake_credits.worlds.profiles import PROFILES, Profile
from fake_credits.worlds.seeding import Seeder, Target
from fake_credits.worlds.world import World
from tests.benchmarks.load import Server, require_proc, rss_bytes, run_server
from tests.benchmarks.plan import ROOT, Measurement, Plan, bytecode_cache

_CONCURRENCY = 8
_TRANSACTIONS_PER_USER = 50  # as in the `load` profile

SeedFunction = Callable[[World, Target], Awaitable[None]]


def demo(plan: Plan) -> Measurement:
    """Measure loading `demo` into a sandbox in new processes, with and without the imports of the first load."""
    with bytecode_cache() as environment:
        measured = [_run_module(environment, "demo") for _ in range(1 + plan.rounds)][1:]
    first_s, second_s = (min(each[name] for each in measured) for name in ("first_s", "second_s"))
    return Measurement(
        "{first_s:.2f} s (a second sandbox {second_ms:.1f} ms)", first_s=first_s, second_ms=second_s * 1000
    )


def load(plan: Plan) -> Measurement:
    """Measure loading many users into a sandbox, in a new process."""
    require_proc()
    with bytecode_cache() as environment:
        measured = _run_module(environment, "load", str(_TRANSACTIONS_PER_USER * plan.many // 10))
    return Measurement("{rate:,.0f} a second, {bytes_each:.1f} bytes each ({transactions:,} transactions)", **measured)


def over_http(plan: Plan) -> Measurement:
    """Compare seeding a server with the same calls in a loop, in interleaved rounds, each in a separate application."""
    world = make_world(
        Profile(name="http", users=max(plan.calls // _TRANSACTIONS_PER_USER // 2, 5), transactions=plan.calls), 0
    )
    best = [0.0, 0.0]
    with run_server("fake") as server:
        for number in range(1 + plan.call_rounds):
            for index, seed in enumerate((_seed_with_seeder, _seed_with_loop)):
                rate = world.transaction_count / _seed_duration_s(seed, world, server, f"app-{number}-{index}")
                best[index] = max(best[index], rate) if number else 0.0
    return Measurement(
        "{ratio:.0%} ({seed_rate:,.0f} : {loop_rate:,.0f} transactions a second)",
        ratio=best[0] / best[1],
        seed_rate=best[0],
        loop_rate=best[1],
    )


def _seed_duration_s(seed: SeedFunction, world: World, server: Server, application_id: str) -> float:
    async def main() -> float:
        async with AsyncServerClient(server.url, server.key) as client:
            started = time.perf_counter()
            await seed(world, Target(client, application_id, DEFAULT_CONTRACT))
            return time.perf_counter() - started

    with asyncio.Runner(loop_factory=new_event_loop) as loop:
        return loop.run(main())


async def _seed_with_seeder(world: World, target: Target) -> None:
    seeder = Seeder(world, target, concurrency=_CONCURRENCY)
    await seeder.scan(_ignore)
    await seeder.create(_ignore)
    await seeder.write_transactions(_ignore)


async def _seed_with_loop(world: World, target: Target) -> None:
    """Create users and transactions in a simple loop without retries, the longest histories first."""
    pending = iter(sorted(world.histories(), key=lambda each: -len(each.columns.deltas)))

    async def worker() -> None:
        for history in pending:
            await target.client.create_user(target.application_id, history.user_id)
            for delta, reason, _ in history.columns.entries():
                await target.client.create_transaction(
                    target.application_id, history.user_id, delta=delta, reason=reason
                )

    await asyncio.gather(*(worker() for _ in range(_CONCURRENCY)))


def _ignore(_more: int) -> None:
    """Ignore progress."""


def _run_module(environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.worlds", *arguments]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    measured: dict[str, Any] = json.loads(result.stdout)
    return measured


def _measure_demo() -> dict[str, float]:
    shared = SharedResources()
    with FakeCredits(shared=shared) as first, FakeCredits(shared=shared) as second:
        started = time.perf_counter()
        first.load_world("demo")
        between = time.perf_counter()
        second.load_world("demo")
        return {"first_s": between - started, "second_s": time.perf_counter() - between}


def _measure_load(transactions: int) -> dict[str, float]:
    profile = replace(PROFILES["load"], users=transactions // _TRANSACTIONS_PER_USER, transactions=transactions)
    with FakeCredits() as fake:
        fake.load_world("tiny")  # so that the imports of the first load are not counted
        world = make_world(profile, 0)
        before, started = rss_bytes(), time.perf_counter()
        fake.load_world(world)
        duration_s = time.perf_counter() - started
        used = rss_bytes() - before
    return {"rate": transactions / duration_s, "bytes_each": used / transactions, "transactions": transactions}


def main() -> None:
    """Run a measurement and print it as one line of JSON."""
    measured = _measure_demo() if sys.argv[1] == "demo" else _measure_load(int(sys.argv[2]))
    sys.stdout.write(json.dumps(measured) + "\n")


if __name__ == "__main__":
    main()
