"""Benchmarks that run pytest in a subprocess: the cost of the plugin and its fixture."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.plan import Measurement, Plan, bytecode_cache

_PLUGIN = ("-p", "pytest_fake_credits")

# Both sides import what the fixture requires, so that only the tests themselves differ.
_SUITE = """\
import pytest
import pytest_fake_credits.factory


@pytest.mark.parametrize("number", range({tests}))
def test_one({fixture}number):
    assert {call} == "ada"
"""


def fixture(plan: Plan) -> Measurement:
    """Measure a test with a fresh sandbox and one call against the same test without them."""
    call = 'fake_credits.server_client.create_user("app-id", "ada").user_id'
    with tempfile.TemporaryDirectory() as name, bytecode_cache() as environment:
        with_fixture, without_fixture = Path(name) / "with", Path(name) / "without"
        write_suite(with_fixture, _SUITE.format(tests=plan.tests, fixture="fake_credits, ", call=call))
        write_suite(without_fixture, _SUITE.format(tests=plan.tests, fixture="", call='"ada"'))
        plugin_ms = plain_ms = float("inf")
        for _ in range(1 + plan.test_rounds):
            plugin_ms = min(plugin_ms, pytest_ms(environment, with_fixture, *_PLUGIN))
            plain_ms = min(plain_ms, pytest_ms(environment, without_fixture, *_PLUGIN))
    with_ms, without_ms = plugin_ms / plan.tests, plain_ms / plan.tests
    return Measurement(
        "{added_ms:.2f} ms more ({with_ms:.2f} : {without_ms:.2f} ms a test)",
        added_ms=with_ms - without_ms,
        with_ms=with_ms,
        without_ms=without_ms,
    )


def start(plan: Plan) -> Measurement:
    """Measure the startup of pytest with the plugin installed and unused, in interleaved rounds."""
    plugin_ms: list[float] = []
    plain_ms: list[float] = []
    with tempfile.TemporaryDirectory() as name, bytecode_cache() as environment:
        folder = Path(name) / "suite"
        write_suite(folder, "def test_nothing():\n    pass\n")
        for _ in range(1 + plan.starts):
            plugin_ms.append(pytest_ms(environment, folder, *_PLUGIN, "--collect-only"))
            plain_ms.append(pytest_ms(environment, folder, "--collect-only"))
    del plugin_ms[0], plain_ms[0]
    # in pairs, because other load on the machine affects startup time more than the plugin does
    added_ms = statistics.median(
        plugin_start - plain_start for plugin_start, plain_start in zip(plugin_ms, plain_ms, strict=True)
    )
    return Measurement(
        "{added_ms:.1f} ms more (on {plain_ms:.0f} ms, median of {pairs} pairs)",
        added_ms=added_ms,
        plain_ms=statistics.median(plain_ms),
        pairs=plan.starts,
    )


def write_suite(folder: Path, test: str) -> None:
    """Create a folder with one test module."""
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_suite.py").write_text(test)


def pytest_ms(environment: dict[str, str], folder: Path, *arguments: str) -> float:
    """Run pytest in a folder and return the duration in milliseconds; raise RuntimeError if it fails."""
    isolated = {**environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    started = time.perf_counter()
    result = subprocess.run(command, cwd=folder, env=isolated, capture_output=True, text=True, check=False)
    duration_ms = (time.perf_counter() - started) * 1000
    if result.returncode:
        raise RuntimeError(f"pytest ended with {result.returncode}: {result.stdout[-2000:]}{result.stderr[-2000:]}")
    return duration_ms
