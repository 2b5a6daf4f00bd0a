"""Test suites with blocked sockets, and an unreachable HTTP proxy in the environment."""

import pytest
import requests

from fake_credits import FakeCredits
from tests.neighbours.connections import balance_over_requests, balances_in_process, balances_live
from tests.plugin.conftest import Suite, suite

__all__ = ["suite"]  # pytest finds the fixture by its name here

SOCKET_SUITE = """
import pytest
from pytest_socket import SocketBlockedError
from tests.neighbours.connections import balances_in_process, balances_live

pytestmark = pytest.mark.fake_credits(users={"ada": 3})

def test_in_process(fake_credits):
    assert balances_in_process(fake_credits) == [3] * 3

def test_live(fake_credits):
    with pytest.raises((SocketBlockedError, UserWarning), match="tried to use socket"):  # it warns first
        fake_credits.serve()

@pytest.mark.enable_socket
def test_enabled(fake_credits):
    assert balances_live(fake_credits) == [3] * 4

@pytest.mark.allow_hosts(["127.0.0.1"])
def test_loopback(fake_credits):
    assert balances_live(fake_credits) == [3] * 4
"""


def test_pytest_socket(suite: Suite) -> None:
    """In-process calls need no socket; the live server needs a marker, and raises a clear error without one."""
    suite(SOCKET_SUITE, "--disable-socket", plugins=("pytest_socket",)).assert_outcomes(passed=4)


@pytest.fixture
def dead_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.lower(), "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("dead_proxy")
@pytest.mark.fake_credits(users={"ada": 3})
def test_a_dead_http_proxy_in_the_environment(fake_credits: FakeCredits, request: pytest.FixtureRequest) -> None:
    """In-process calls ignore the proxy; ``fake_credits_env`` makes every library bypass it for loopback addresses."""
    assert balances_in_process(fake_credits) == [3] * 3
    with pytest.raises(requests.exceptions.ProxyError):
        balance_over_requests(fake_credits)
    request.getfixturevalue("fake_credits_env")
    assert balances_live(fake_credits) == [3] * 4
