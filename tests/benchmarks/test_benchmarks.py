"""Smoke test of the benchmarks: they run without errors."""

import json
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


@pytest.mark.benchmark
def test_json_has_the_figures_of_each_row() -> None:
    """Programs read the numbers by name, without parsing the table."""
    command = [sys.executable, "-m", "tests.benchmarks", "--quick", "--json", "client", "sandbox"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    rows = {row["name"]: row for row in json.loads(result.stdout)["rows"]}
    assert list(rows) == ["client", "sandbox"]
    figures = rows["client"]["figures"]
    assert figures["ratio"] == figures["ours_us"] / figures["reference_us"]
    assert rows["sandbox"]["problem"] == ""
