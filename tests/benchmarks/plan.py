"""Own how long a run measures, what a benchmark is, and the arithmetic of rounds; know nothing of what is measured."""

import gc
import os
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Skipped(Exception):
    """Say why a benchmark can't be measured here."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Say how much a run measures; ``many`` is the size that the full run puts at a million."""

    rounds: int = 4
    wrk_s: int = 2
    many: int = 1_000_000
    few: int = 1_000
    calls: int = 2_000
    call_rounds: int = 15
    spawns: int = 11
    starts: int = 21
    tests: int = 1_000
    test_rounds: int = 5
    gets: int = 100_000


FULL = Plan()
QUICK = Plan(
    rounds=1,
    wrk_s=1,
    many=50_000,
    calls=200,
    call_rounds=3,
    spawns=1,
    starts=1,
    tests=100,
    test_rounds=1,
    gets=25_000,
)


@dataclass(frozen=True)
class Benchmark:
    """Be one row: what is measured, against what, the reach, and the function that returns the measured text."""

    what: str
    against: str
    reach: str
    measure: Callable[[Plan], str]


@contextmanager
def compiled() -> Generator[dict[str, str], None, None]:
    """Lend an environment in which Python keeps compiled modules, as it does on anybody's machine.

    They are kept in a folder of the block's own: the first run of each side fills it and must not be counted.
    """
    unwanted = ("PYTHONDONTWRITEBYTECODE", "PYTEST_ADDOPTS")
    environment = {name: value for name, value in os.environ.items() if name not in unwanted}
    with tempfile.TemporaryDirectory() as folder:
        yield {**environment, "PYTHONPYCACHEPREFIX": folder}


def best_us(sides: Sequence[Callable[[], object]], plan: Plan) -> list[float]:
    """Return the microseconds of one call of each side: the best of several interleaved rounds."""
    best = [float("inf")] * len(sides)
    for _ in range(plan.call_rounds):
        for place, side in enumerate(sides):
            best[place] = min(best[place], _round_us(side, plan.calls))
    return best


def _round_us(side: Callable[[], object], calls: int) -> float:
    gc.collect()
    begun = time.perf_counter()
    for _ in range(calls):
        side()
    return (time.perf_counter() - begun) / calls * 1e6


def times(ours: float, theirs: float) -> str:
    """Return a ratio as text."""
    return f"{ours / theirs:.2f}×"  # noqa: RUF001 - a multiplication sign is what it is
