"""Own the rows of demo data: into a sandbox, at size, and into a server against a plain loop of calls.

    python -m tests.benchmarks.worlds demo              in a process of its own: how long, the first time and again
    python -m tests.benchmarks.worlds load TRANSACTIONS  the same for many: how fast, and how much memory each takes

Each prints one line of JSON.
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
from tests.benchmarks.load import Server, need_proc, rss_bytes, served
from tests.benchmarks.plan import ROOT, Plan, compiled

_CONCURRENCY = 8
_EACH = 50  # transactions a user, as in the profile

Way = Callable[[World, Target], Awaitable[None]]


def demo(plan: Plan) -> str:
    """Measure `demo` into a sandbox, in fresh processes: with all that a first time loads, and once it was made."""
    with compiled() as environment:
        told = [_told(environment, "demo") for _ in range(1 + plan.rounds)][1:]
    first_s, again_s = (min(each[name] for each in told) for name in ("first_s", "again_s"))
    return f"{first_s:.2f} s (a second sandbox {again_s * 1000:.1f} ms)"


def load(plan: Plan) -> str:
    """Measure many users into a sandbox, in a fresh process."""
    need_proc()
    with compiled() as environment:
        told = _told(environment, "load", str(_EACH * plan.many // 10))
    return f"{told['rate']:,.0f} a second, {told['bytes_each']:.1f} bytes each ({told['transactions']:,} transactions)"


def over_http(plan: Plan) -> str:
    """Measure seeding a server against the same calls in a plain loop, by turns, into an application each."""
    world = make_world(Profile(name="http", users=max(plan.calls // _EACH // 2, 5), transactions=plan.calls), 0)
    best = [0.0, 0.0]
    with served("ours") as server:
        for number in range(1 + plan.call_rounds):
            for place, way in enumerate((_seeded, _looped)):
                rate = world.transaction_count / _spent_s(way, world, server, f"app-{number}-{place}")
                best[place] = max(best[place], rate) if number else 0.0
    return f"{best[0] / best[1]:.0%} ({best[0]:,.0f} : {best[1]:,.0f} transactions a second)"


def _spent_s(way: Way, world: World, server: Server, application_id: str) -> float:
    async def main() -> float:
        async with AsyncServerClient(server.url, server.key) as client:
            begun = time.perf_counter()
            await way(world, Target(client, application_id, DEFAULT_CONTRACT))
            return time.perf_counter() - begun

    with asyncio.Runner(loop_factory=new_event_loop) as loop:
        return loop.run(main())


async def _seeded(world: World, site: Target) -> None:
    seeder = Seeder(world, site, concurrency=_CONCURRENCY)
    await seeder.scan(_ignore)
    await seeder.create(_ignore)
    await seeder.write_transactions(_ignore)


async def _looped(world: World, site: Target) -> None:
    """Do what somebody would write who needs it once: no reading, no second try; the longest first here too."""
    pending = iter(sorted(world.histories(), key=lambda each: -len(each.columns.deltas)))

    async def worker() -> None:
        for history in pending:
            await site.client.create_user(site.application_id, history.user_id)
            for delta, reason, _ in history.columns.entries():
                await site.client.create_transaction(site.application_id, history.user_id, delta=delta, reason=reason)

    await asyncio.gather(*(worker() for _ in range(_CONCURRENCY)))


def _ignore(_more: int) -> None:
    """Hear nothing."""


def _told(environment: dict[str, str], *words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.worlds", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _measured_demo() -> dict[str, float]:
    shared = SharedResources()
    with FakeCredits(shared=shared) as first, FakeCredits(shared=shared) as second:
        begun = time.perf_counter()
        first.load_world("demo")
        between = time.perf_counter()
        second.load_world("demo")
        return {"first_s": between - begun, "again_s": time.perf_counter() - between}


def _measured_load(transactions: int) -> dict[str, float]:
    profile = replace(PROFILES["load"], users=transactions // _EACH, transactions=transactions)
    with FakeCredits() as fake:
        fake.load_world("tiny")  # what a first time loads is no transaction's
        world = make_world(profile, 0)
        before, begun = rss_bytes(), time.perf_counter()
        fake.load_world(world)
        spent_s = time.perf_counter() - begun
        taken = rss_bytes() - before
    return {"rate": transactions / spent_s, "bytes_each": taken / transactions, "transactions": transactions}


def main() -> None:
    """Measure, and print one line of JSON."""
    told = _measured_demo() if sys.argv[1] == "demo" else _measured_load(int(sys.argv[2]))
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
