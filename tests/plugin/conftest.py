"""Fixture that runs a downstream test suite with selected plugins only and every warning as an error."""

from collections.abc import Callable

import httpcore2
import httpx2
import pytest
import requests
from jwt import algorithms
from pytest_fake_credits.report import render_section

from fake_credits.fake import FakeCredits

PRELOADED = (FakeCredits, algorithms, render_section, httpx2, httpcore2, requests)
"""Modules to keep loaded: pytester unloads what a run imports, and a reloaded httpx2 has new exception classes."""

Suite = Callable[..., pytest.RunResult]

_ARGS = ("-p", "pytest_fake_credits", "-p", "no:cacheprovider", "-W", "error", "--strict-markers")


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """Return a function that runs a suite of one file, in this process or (``alone``) in a subprocess."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    for name in ("CI", "BUILD_NUMBER"):  # pytest's summary is longer in CI
        monkeypatch.delenv(name, raising=False)

    def run(
        source: str, *args: str, conftest: str = "", ini: str = "", plugins: tuple[str, ...] = (), alone: bool = False
    ) -> pytest.RunResult:
        pytester.makeini(f"[pytest]\n{ini}")
        pytester.makeconftest(conftest)
        pytester.makepyfile(test_suite=source)
        pytest_args = [*_ARGS, *(arg for plugin in plugins for arg in ("-p", plugin)), *args]
        return pytester.runpytest_subprocess(*pytest_args) if alone else pytester.runpytest_inprocess(*pytest_args)

    return run
