"""Own how these tests run a downstream suite: only the plugins that are asked for, and every warning an error."""

from collections.abc import Callable

import httpcore2
import httpx2
import pytest
import requests
from pytest_fake_credits.report import render_section

from fake_credits.fake import FakeCredits
from fake_credits.tokens import crypto

KEPT_LOADED = (FakeCredits, crypto, render_section, httpx2, httpcore2, requests)
"""Or each run inside this process would load them anew, and drop them: httpx2 would then not know its own errors."""

Suite = Callable[..., pytest.RunResult]

_ARGS = ("-p", "pytest_fake_credits", "-p", "no:cacheprovider", "-W", "error", "--strict-markers")


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """Return a function that runs a suite of one file, inside this process or as one of its own."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    for name in ("CI", "BUILD_NUMBER"):  # pytest's summary is longer there
        monkeypatch.delenv(name, raising=False)

    def run(
        source: str, *args: str, conftest: str = "", ini: str = "", plugins: tuple[str, ...] = (), alone: bool = False
    ) -> pytest.RunResult:
        pytester.makeini(f"[pytest]\n{ini}")
        pytester.makeconftest(conftest)
        pytester.makepyfile(test_suite=source)
        given = [*_ARGS, *(word for plugin in plugins for word in ("-p", plugin)), *args]
        return pytester.runpytest_subprocess(*given) if alone else pytester.runpytest_inprocess(*given)

    return run
