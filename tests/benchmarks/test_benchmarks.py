"""A smoke run of the benchmarks: that they run, not how fast anything is."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("get-key", "client", "transport", "sandbox", "growth", "memory", "demo", "load", "seed")


@pytest.mark.benchmark
def test_a_quick_run_prints_every_row_that_was_asked_for_and_none_has_an_error() -> None:
    """The table has a row a name, measured or skipped with a reason."""
    command = [sys.executable, "-m", "tests.benchmarks", "--quick", *NAMES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert (done.returncode, len(rows)) == (0, 1 + len(NAMES)), done.stdout + done.stderr
    assert all(row.count(" | ") == 3 for row in rows)
