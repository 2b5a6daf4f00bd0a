"""Shared configuration of all tests: the ``pytester`` plugin, the Hypothesis profile and a fixture."""

import gc

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["pytester"]

# The duration of an example depends on the machine's load, not on the code.
settings.register_profile("tests", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@pytest.fixture
def short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten how long a live server reads on after a rejection, for tests that wait for the connection to close."""
    monkeypatch.setattr("fake_credits.transports.protocol._LINGER_TIMEOUT_S", 0.01)


def pytest_collection_finish() -> None:
    """Exclude the thousands of collected tests from garbage collection."""
    gc.freeze()
