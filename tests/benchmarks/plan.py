"""Benchmark plans, table rows and timing in interleaved rounds."""

import gc
import os
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class BenchmarkSkipped(Exception):
    """Raised when a benchmark cannot run on this machine."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The sizes and repetitions of a run; ``many`` is a million in the full run."""

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
    """A row of the table: what is measured, the reference, the target, and the function that measures it."""

    subject: str
    reference: str
    target: str
    measure: Callable[[Plan], str]


@contextmanager
def bytecode_cache() -> Generator[dict[str, str], None, None]:
    """Yield an environment in which Python caches compiled modules, as it usually does.

    The cache is a temporary folder: the first run of each side fills it and must not be counted.
    """
    excluded = ("PYTHONDONTWRITEBYTECODE", "PYTEST_ADDOPTS")
    environment = {name: value for name, value in os.environ.items() if name not in excluded}
    with tempfile.TemporaryDirectory() as folder:
        yield {**environment, "PYTHONPYCACHEPREFIX": folder}


def best_us(sides: Sequence[Callable[[], object]], plan: Plan) -> list[float]:
    """Return the microseconds of one call of each side: the best of several interleaved rounds."""
    best = [float("inf")] * len(sides)
    for _ in range(plan.call_rounds):
        for index, side in enumerate(sides):
            best[index] = min(best[index], _round_us(side, plan.calls))
    return best


def _round_us(side: Callable[[], object], calls: int) -> float:
    gc.collect()
    started = time.perf_counter()
    for _ in range(calls):
        side()
    return (time.perf_counter() - started) / calls * 1e6


def format_ratio(value: float, reference: float) -> str:
    """Return a ratio as text."""
    return f"{value / reference:.2f}×"  # noqa: RUF001 - a multiplication sign is what it is
