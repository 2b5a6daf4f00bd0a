"""Smoke test of the benchmarks: they run without errors."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = (
    "get-key",
    "live-before-key",
    "client",
    "transport",
    "sandbox",
    "growth",
    "memory",
    "demo",
    "load",
    "seed",
    "explore",
    "explore-orders",
)


@pytest.mark.benchmark
def test_quick_run_prints_requested_rows_without_errors() -> None:
    """The table has one row per name, measured or skipped with a reason."""
    command = [sys.executable, "-m", "tests.benchmarks", "--quick", *NAMES]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    rows = [line for line in result.stdout.splitlines() if line.startswith("| ")]
    assert (result.returncode, len(rows)) == (0, 1 + len(NAMES)), result.stdout + result.stderr
    assert all(row.count(" | ") == 3 for row in rows)
