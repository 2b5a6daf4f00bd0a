"""The same seed and calls produce the same faults, whatever the process, driver or schedule."""

import asyncio
import contextlib
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from typing import cast

import msgspec
import pytest

from fake_credits.client.server import AsyncServerClient, ServerClient
from fake_credits.client.user import AsyncUserClient, UserClient
from fake_credits.errors import FakeCreditsError
from fake_credits.fake import ClientMode
from fake_credits.faults.effects import EFFECTS
from fake_credits.transports.shared_resources import SharedResources
from tests.behaviour.workload import (
    INSTANT_RULES,
    PER_USER_RULES,
    SHORT_LATENCY,
    TIMED_RULES,
    USERS,
    UserClients,
    WorkloadCall,
    WorkloadConfig,
    clients_for,
    generate_calls,
    run_workload,
)

CALL_COUNT = 25
MANY_USERS = tuple(f"user-{number}" for number in range(16))

_seed_ranges = [range(start, start + 20) for start in (0, 20)]
_slow_seed_ranges = [pytest.param(range(start, start + 250), marks=pytest.mark.slow) for start in range(100, 5100, 250)]


def test_workload_rules_cover_every_effect() -> None:
    names = {"script" if rule.effect is None else rule.effect.effect_name for rule in (*INSTANT_RULES, *TIMED_RULES)}
    assert names == {*EFFECTS, "script"}


@pytest.mark.parametrize("seeds", [*_seed_ranges, *_slow_seed_ranges], ids=lambda seeds: f"from-{seeds.start}")
def test_same_seed_and_calls_give_the_same_journal(shared: SharedResources, seeds: range) -> None:
    for seed in seeds:
        calls = generate_calls(seed, CALL_COUNT)
        first, second = (run_workload(WorkloadConfig(seed), shared, calls) for _ in range(2))
        assert first == second, f"seed {seed}"


def test_different_seeds_give_different_journals(shared: SharedResources) -> None:
    calls = generate_calls(0, CALL_COUNT)
    assert len({run_workload(WorkloadConfig(seed), shared, calls) for seed in range(10)}) == 10


def test_every_effect_fires_in_the_workload(shared: SharedResources) -> None:
    """Otherwise the tests above would not cover every effect."""
    fired_names: set[str] = set()
    for seed in range(60):
        fired_names.update(
            rule
            for line in _lines(run_workload(WorkloadConfig(seed), shared, generate_calls(seed, CALL_COUNT)))
            for rule in _rule_names(line)
        )
    assert {name.partition("#")[0] for name in fired_names} == {*EFFECTS, "script"}


@pytest.mark.parametrize("seed", range(20))
def test_live_and_in_process_journals_are_equal(shared: SharedResources, seed: int) -> None:
    calls = generate_calls(seed, CALL_COUNT)
    live_journal = run_workload(WorkloadConfig(seed, "live", INSTANT_RULES), shared, calls)
    assert live_journal == run_workload(WorkloadConfig(seed, "in-process", INSTANT_RULES), shared, calls)


def journal_digest() -> str:
    """Return a digest of the journals for several seeds, for comparison between processes."""
    shared = SharedResources()
    texts = [run_workload(WorkloadConfig(seed), shared, generate_calls(seed, CALL_COUNT)) for seed in range(10)]
    return hashlib.sha256("".join(texts).encode()).hexdigest()


def test_journal_does_not_depend_on_hash_seed() -> None:
    command = [sys.executable, "-c", "from tests.behaviour import test_determinism as t; print(t.journal_digest())"]
    digests = [
        subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    assert digests == [journal_digest()] * 2


# The faults of one user do not depend on other users.


@pytest.mark.parametrize("seed", range(10))
def test_faults_of_one_user_do_not_depend_on_other_users(shared: SharedResources, seed: int) -> None:
    calls, config = generate_calls(seed, 60), WorkloadConfig(seed, rules=(SHORT_LATENCY, *PER_USER_RULES))
    together = _lines(run_workload(config, shared, calls))
    for user in USERS:
        alone = _lines(
            run_workload(config, shared, [workload_call for workload_call in calls if workload_call.user == user])
        )
        assert alone == [line for line in together if line[2] == user] != []


@pytest.mark.parametrize("mode", ["in-process", "live"])
def test_sixteen_threads_produce_same_journal_as_one_thread(shared: SharedResources, mode: ClientMode) -> None:
    calls, config = _calls_of_many_users(), WorkloadConfig(5, mode, PER_USER_RULES, MANY_USERS)
    assert _run_in_threads(config, shared, calls) == run_workload(
        WorkloadConfig(5, "in-process", PER_USER_RULES, MANY_USERS), shared, calls
    )


@pytest.mark.parametrize("seed", range(5))
def test_overlapping_tasks_give_a_reproducible_journal(shared: SharedResources, seed: int) -> None:
    rules = [
        rule
        for rule in (*TIMED_RULES, *INSTANT_RULES)
        if rule.effect is None or rule.effect.effect_name != "hold_at_gate"
    ]
    config, calls = WorkloadConfig(seed, rules=rules), generate_calls(seed, 40)
    first, second = (_run_in_tasks(config, shared, calls) for _ in range(2))
    assert first == second


def test_tasks_of_different_users_produce_same_journal_as_one_thread(shared: SharedResources) -> None:
    calls, config = _calls_of_many_users(), WorkloadConfig(5, rules=(SHORT_LATENCY, *PER_USER_RULES), users=MANY_USERS)
    assert _run_in_tasks(config, shared, calls) == run_workload(config, shared, calls)


def _calls_of_many_users() -> list[WorkloadCall]:
    return [workload_call for workload_call in generate_calls(5, 400, MANY_USERS) if workload_call.user]


def _lines(canonical: str) -> list[list[object]]:
    return [msgspec.json.decode(line) for line in canonical.splitlines()]


def _rule_names(line: list[object]) -> Iterable[str]:
    return (name for name in cast("str", line[5]).split("+") if name)


def _make_job(clients: UserClients, calls: Iterable[WorkloadCall]) -> Callable[[], None]:
    def job() -> None:
        for workload_call in calls:
            with contextlib.suppress(FakeCreditsError):
                workload_call.call(clients)

    return job


def _run_in_threads(config: WorkloadConfig, shared: SharedResources, calls: Iterable[WorkloadCall]) -> str:
    """Make each user's calls in a separate thread."""
    with config.open_fake(shared) as fake:
        jobs = [
            _make_job(clients_for(fake, user), [workload_call for workload_call in calls if workload_call.user == user])
            for user in config.users
        ]
        threads = [threading.Thread(target=job) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return fake.journal.canonical()


def _run_in_tasks(config: WorkloadConfig, shared: SharedResources, calls: Iterable[WorkloadCall]) -> str:
    """Make each user's calls in a separate task on one event loop."""
    with config.open_fake(shared) as fake:

        async def task(user: str) -> None:
            server: AsyncServerClient = fake.async_server_client
            reader: AsyncUserClient = fake.async_user_client(user or None)
            clients = UserClients(cast("ServerClient", server), cast("UserClient", reader))
            for workload_call in calls:
                if workload_call.user == user:
                    with contextlib.suppress(FakeCreditsError):
                        await workload_call.call(clients)  # type: ignore[misc]

        async def main() -> None:
            await asyncio.gather(*map(task, ("", *config.users)))

        asyncio.run(main())
        fake.settle()
        return fake.journal.canonical()
