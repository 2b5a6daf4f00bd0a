"""Configuration shared by all tests: the ``pytester`` plugin, the Hypothesis profile, fixtures and hooks."""

import gc
import os
import signal
import sys

import httpx2
import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["pytester"]

# The suite starts hundreds of processes. Without cached bytecode, each would recompile every module.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# The duration of an example depends on the machine's load, not on the code.
settings.register_profile("tests", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@pytest.fixture
def short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a live server stop reading soon after a rejection, for tests that wait for the connection to close."""
    monkeypatch.setattr("fake_credits.transports.protocol._LINGER_TIMEOUT_S", 0.01)


@pytest.fixture
def only_reads_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Apply the clients' timeout to reads only, because connecting may take longer on a busy machine."""
    timeout_class = httpx2.Timeout

    def read_timeout(timeout_s: float) -> httpx2.Timeout:
        return timeout_class(5, read=timeout_s)

    monkeypatch.setattr(httpx2, "Timeout", read_timeout)


def pytest_sessionstart() -> None:
    """Restore default handling of the signals that a shell ignores for background commands.

    Otherwise child processes would inherit the ignored signals.
    """
    for name, handler in (
        ("SIGINT", signal.default_int_handler),
        ("SIGQUIT", signal.SIG_DFL),
        ("SIGHUP", signal.SIG_DFL),
    ):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_collection_finish() -> None:
    """Exclude the thousands of collected tests from garbage collection."""
    gc.freeze()
