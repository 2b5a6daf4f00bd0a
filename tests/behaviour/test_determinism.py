"""Test that one seed and the same calls meet the same faults: again, elsewhere, and whatever others do meanwhile."""

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
from tests.behaviour.workload import OWN, QUICK, SHORT, TIMED, USERS, Act, Play, Scene, acts, play, player

CALLS = 25
MANY = tuple(f"user-{number}" for number in range(16))

_in_chunks = [range(start, start + 20) for start in range(0, 100, 20)]
_all_seeds = [pytest.param(range(start, start + 250), marks=pytest.mark.slow) for start in range(100, 5100, 250)]


def test_the_workload_has_every_effect() -> None:
    words = {"script" if rule.effect is None else rule.effect.effect_name for rule in (*QUICK, *TIMED)}
    assert words == {*EFFECTS, "script"}


@pytest.mark.parametrize("seeds", [*_in_chunks, *_all_seeds], ids=lambda seeds: f"from-{seeds.start}")
def test_the_same_seed_and_the_same_calls_give_the_same_journal(shared: SharedResources, seeds: range) -> None:
    for seed in seeds:
        calls = acts(seed, CALLS)
        first, second = (play(Scene(seed), shared, calls) for _ in range(2))
        assert first == second, f"seed {seed}"


def test_another_seed_gives_another_journal(shared: SharedResources) -> None:
    calls = acts(0, CALLS)
    assert len({play(Scene(seed), shared, calls) for seed in range(10)}) == 10


def test_every_effect_of_the_workload_comes_about(shared: SharedResources) -> None:
    """The seeds above prove nothing of an effect that never fires."""
    met: set[str] = set()
    for seed in range(60):
        met.update(rule for line in _lines(play(Scene(seed), shared, acts(seed, CALLS))) for rule in _rules(line))
    assert {name.partition("#")[0] for name in met} == {*EFFECTS, "script"}


@pytest.mark.parametrize("seed", range(20))
def test_a_socket_gives_the_journal_that_in_process_gives(shared: SharedResources, seed: int) -> None:
    calls = acts(seed, CALLS)
    over_a_socket = play(Scene(seed, "live", QUICK), shared, calls)
    assert over_a_socket == play(Scene(seed, "in-process", QUICK), shared, calls)


def digest() -> str:
    """Return a digest of the journals of some seeds, for the test in other processes."""
    shared = SharedResources()
    texts = [play(Scene(seed), shared, acts(seed, CALLS)) for seed in range(10)]
    return hashlib.sha256("".join(texts).encode()).hexdigest()


def test_the_journal_is_the_same_under_any_hash_seed() -> None:
    command = [sys.executable, "-c", "from tests.behaviour import test_determinism as t; print(t.digest())"]
    found = [
        subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    assert found == [digest()] * 2


# What one user's calls meet does not depend on others.


@pytest.mark.parametrize("seed", range(10))
def test_a_users_calls_meet_the_same_without_the_calls_of_others(shared: SharedResources, seed: int) -> None:
    calls, scene = acts(seed, 60), Scene(seed, rules=(SHORT, *OWN))
    together = _lines(play(scene, shared, calls))
    for user in USERS:
        alone = _lines(play(scene, shared, [act for act in calls if act.user == user]))
        assert alone == [line for line in together if line[2] == user] != []


@pytest.mark.parametrize("mode", ["in-process", "live"])
def test_sixteen_threads_for_different_users_give_the_journal_of_one(shared: SharedResources, mode: ClientMode) -> None:
    calls, scene = _of_many(), Scene(5, mode, OWN, MANY)
    assert _by_threads(scene, shared, calls) == play(Scene(5, "in-process", OWN, MANY), shared, calls)


@pytest.mark.parametrize("seed", range(5))
def test_tasks_of_one_loop_with_delays_that_overlap_give_the_same_journal_again(
    shared: SharedResources, seed: int
) -> None:
    rules = [rule for rule in (*TIMED, *QUICK) if rule.effect is None or rule.effect.effect_name != "hold_at_gate"]
    scene, calls = Scene(seed, rules=rules), acts(seed, 40)
    first, second = (_by_tasks(scene, shared, calls) for _ in range(2))
    assert first == second


def test_tasks_for_different_users_give_the_journal_of_one_thread(shared: SharedResources) -> None:
    calls, scene = _of_many(), Scene(5, rules=(SHORT, *OWN), users=MANY)
    assert _by_tasks(scene, shared, calls) == play(scene, shared, calls)


def _of_many() -> list[Act]:
    return [act for act in acts(5, 400, MANY) if act.user]


def _lines(canonical: str) -> list[list[object]]:
    return [msgspec.json.decode(line) for line in canonical.splitlines()]


def _rules(line: list[object]) -> Iterable[str]:
    return (name for name in cast("str", line[5]).split("+") if name)


def _job(made: Play, calls: Iterable[Act]) -> Callable[[], None]:
    def job() -> None:
        for act in calls:
            with contextlib.suppress(FakeCreditsError):
                act.call(made)

    return job


def _by_threads(scene: Scene, shared: SharedResources, calls: Iterable[Act]) -> str:
    """Play the calls of each user in a thread of its own."""
    with scene.opened(shared) as fake:
        jobs = [_job(player(fake, user), [act for act in calls if act.user == user]) for user in scene.users]
        threads = [threading.Thread(target=job) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return fake.journal.canonical()


def _by_tasks(scene: Scene, shared: SharedResources, calls: Iterable[Act]) -> str:
    """Play the calls of each user in a task of its own, all in one loop."""
    with scene.opened(shared) as fake:

        async def task(user: str) -> None:
            server: AsyncServerClient = fake.async_server_client
            reader: AsyncUserClient = fake.async_user_client(user or None)
            made = Play(cast("ServerClient", server), cast("UserClient", reader))
            for act in calls:
                if act.user == user:
                    with contextlib.suppress(FakeCreditsError):
                        await act.call(made)  # type: ignore[misc]

        async def main() -> None:
            await asyncio.gather(*map(task, ("", *scene.users)))

        asyncio.run(main())
        fake.settle()
        return fake.journal.canonical()
