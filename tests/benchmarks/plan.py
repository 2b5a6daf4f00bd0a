"""Benchmark plans, table rows and timing in interleaved rounds."""

# ruff: noqa: RUF001 - ratios contain multiplication signs

import gc
import os
import platform
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_LIBRARIES = (
    "fake-credits",
    "starlette",
    "uvicorn",
    "uvloop",
    "httptools",
    "httpx2",
    "requests",
    "PyJWT",
    "msgspec",
    "pytest",
)


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


class Measurement:
    """The text of a table row, and its figures by name; names end in the unit, except for ratios, rates and counts."""

    def __init__(self, template: str, **figures: float) -> None:
        self.text = template.format(**figures)
        self.figures = figures


def compare(ours_us: float, reference_us: float, *, digits: int = 1) -> Measurement:
    """Return a measurement with the ratio of two times and both times in microseconds."""
    template = f"{{ratio:.2f}}× ({{ours_us:.{digits}f}} : {{reference_us:.{digits}f}} µs)"
    return Measurement(template, ratio=ours_us / reference_us, ours_us=ours_us, reference_us=reference_us)


@dataclass(frozen=True)
class Benchmark:
    """A row of the table: what is measured, the reference, the target, and the function that measures it."""

    subject: str
    reference: str
    target: str
    measure: Callable[[Plan], Measurement]


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
    """Return the microseconds per call for each side, the best of several interleaved rounds."""
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


def describe_run(command: str, plan: Plan) -> str:
    """Return the command, the date, the machine and the versions of a run."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    versions = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    method = "a smoke run, short and smaller than the table says" if plan is QUICK else "best of interleaved rounds"
    machine = f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, {python}"
    return f"`{command}`, {datetime.now(UTC):%Y-%m-%d}: {method}, or medians where it says so.\n{machine}; {versions}."


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "an unnamed processor"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "an unnamed processor"
