"""Own the rows that run pytest in a process: what the plugin and its fixture add to somebody's suite."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.plan import Plan, compiled

_PLUGIN = ("-p", "pytest_fake_credits")

# Both sides import what the fixture needs, so that the difference is that of the tests alone.
_SUITE = """\
import pytest
import pytest_fake_credits.factory


@pytest.mark.parametrize("number", range({tests}))
def test_one({fixture}number):
    assert {call} == "ada"
"""


def fixture(plan: Plan) -> str:
    """Measure a fresh sandbox and one call in a test, against the same test without."""
    call = 'fake_credits.server_client.create_user("app-id", "ada").user_id'
    with tempfile.TemporaryDirectory() as name, compiled() as environment:
        with_it, without = Path(name) / "with", Path(name) / "without"
        _write(with_it, _SUITE.format(tests=plan.tests, fixture="fake_credits, ", call=call))
        _write(without, _SUITE.format(tests=plan.tests, fixture="", call='"ada"'))
        ours = theirs = float("inf")
        for _ in range(1 + plan.test_rounds):
            ours = min(ours, _pytest_ms(environment, with_it, *_PLUGIN))
            theirs = min(theirs, _pytest_ms(environment, without, *_PLUGIN))
    return f"{(ours - theirs) / plan.tests:.2f} ms more ({ours / plan.tests:.2f} : {theirs / plan.tests:.2f} ms a test)"


def start(plan: Plan) -> str:
    """Measure the start of pytest with the plugin installed and unused, by turns."""
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as name, compiled() as environment:
        folder = Path(name) / "suite"
        _write(folder, "def test_nothing():\n    pass\n")
        for _ in range(1 + plan.starts):
            ours.append(_pytest_ms(environment, folder, *_PLUGIN, "--collect-only"))
            theirs.append(_pytest_ms(environment, folder, "--collect-only"))
    del ours[0], theirs[0]
    # By pairs: what else the machine does for some seconds costs a start more than the plugin ever could.
    more = statistics.median(our - their for our, their in zip(ours, theirs, strict=True))
    return f"{more:.1f} ms more (on {statistics.median(theirs):.0f} ms, median of {plan.starts} pairs)"


def _write(folder: Path, test: str) -> None:
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_suite.py").write_text(test)


def _pytest_ms(environment: dict[str, str], folder: Path, *words: str) -> float:
    alone = {**environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", *words]
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True, check=False)
    spent_ms = (time.perf_counter() - begun) * 1000
    if done.returncode:
        raise RuntimeError(f"pytest ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return spent_ms
