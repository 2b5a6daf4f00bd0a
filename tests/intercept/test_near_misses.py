"""Test requests to an intercepted host that are outside every intercepted base URL."""

import time
from collections.abc import Iterator, Mapping

import aiohttp
import httpx
import httpx2
import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from fake_credits.contract import Contract, Operation, RouteTemplate
from fake_credits.fake import FakeCredits
from tests.intercept.libraries import BALANCE, SENDERS, TRANSACTIONS, LibraryRequest, Send

BASE_URL = "https://credits.internal/api"
UNUSED_URL = "http://127.0.0.1:9"
"""A URL with no server: its port is the discard port (RFC 863)."""

CONNECTION_ERRORS: Mapping[str, type[Exception]] = {
    "requests": requests.ConnectionError,
    "urllib3": urllib3.exceptions.NewConnectionError,
    "httpx": httpx.ConnectError,
    "httpx2": httpx2.ConnectError,
    "aiohttp": aiohttp.ClientConnectorError,
}
NEAR_MISSES = {
    "no path": "https://credits.internal",
    "other path": "https://credits.internal/apis/v2",
    "other scheme": "http://credits.internal/api",
    "other port": "https://credits.internal:8443/api",
    "other case of the path": "https://credits.internal/API",
    "double slash": "https://credits.internal//api",
}


@pytest.fixture
def credits() -> Iterator[FakeCredits]:
    with FakeCredits(balance=5) as fake:
        yield fake


@pytest.fixture(params=SENDERS)
def library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def send(library: str) -> Send:
    return SENDERS[library]


@pytest.mark.parametrize("base_url", NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_miss_raises_connection_error(credits: FakeCredits, library: str, send: Send, base_url: str) -> None:
    """The error names both URLs; nothing is sent, and the host's name is not even resolved."""
    request = LibraryRequest(base_url + BALANCE, {"X-API-Key": credits.api_key})
    with credits.intercept(BASE_URL), pytest.raises(CONNECTION_ERRORS[library.partition(",")[0]]) as error:
        send(request)
    message = f"fake-credits refused GET {request.url}: it ends with the path of getBalance"
    assert message in str(error.value)
    assert f"the intercepted base URL is {BASE_URL}, not {base_url}" in str(error.value)
    (missed,) = credits.sandbox.interception_log.missed()
    assert str(missed).startswith(message)
    assert len(credits.journal) == 0


def test_encoded_base_path_is_intercepted(credits: FakeCredits, send: Send) -> None:
    with credits.intercept(BASE_URL):
        request = LibraryRequest(f"https://credits.internal/%61pi{BALANCE}", {"X-API-Key": credits.api_key})
        assert send(request).body == b'{"balance":5}'


def test_other_paths_of_host_are_sent_and_listed(credits: FakeCredits, send: Send) -> None:
    """A request whose path does not end with an operation's path goes to the network (here, to another fake)."""
    with FakeCredits() as real, credits.intercept(f"{real.base_url}/api"):
        for _ in range(2):
            assert send(LibraryRequest(f"{real.base_url}/_fake/livez?token=secret", {})).status == 200
        assert credits.sandbox.interception_log.lines() == [
            f"GET {real.base_url}/_fake/livez was not intercepted and went to the network (2 times)"
        ]
        with pytest.raises(AssertionError, match=r"The requests listed below .*\nGET .*/_fake/livez was not"):
            credits.journal.assert_called("getBalance")
    assert len(real.journal) == 0


def test_other_port_of_loopback_host_is_sent_and_listed(credits: FakeCredits, send: Send) -> None:
    """On a loopback host, each port is a separate service, and no key can leave the machine."""
    with FakeCredits(balance=7) as real, credits.intercept(UNUSED_URL):
        response = send(LibraryRequest(real.base_url + BALANCE, {"X-API-Key": real.api_key}))
        assert response.body == b'{"balance":7}'
        assert "went to the network" in credits.sandbox.interception_log.lines()[0]


def test_near_miss_through_proxy_is_refused(
    credits: FakeCredits, library: str, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, UNUSED_URL)
        monkeypatch.setenv(name.lower(), UNUSED_URL)
    with credits.intercept(BASE_URL, "http://plain.internal/api"):
        for base_url in ("https://credits.internal", "http://plain.internal"):
            with pytest.raises(CONNECTION_ERRORS[library.partition(",")[0]], match="fake-credits refused GET"):
                send(LibraryRequest(base_url + BALANCE, {"X-API-Key": credits.api_key}))


@pytest.mark.parametrize("retries", [Retry(5, backoff_factor=100), 5])
def test_near_miss_is_not_retried(credits: FakeCredits, monkeypatch: pytest.MonkeyPatch, retries: Retry | int) -> None:
    """Requests raises its ConnectionError at once, without sleeping."""
    monkeypatch.setattr(time, "sleep", pytest.fail)
    with credits.intercept(BASE_URL), requests.Session() as session:
        session.mount("https://", HTTPAdapter(max_retries=retries))
        with pytest.raises(requests.ConnectionError, match="Max retries exceeded .*fake-credits refused POST"):
            session.post(f"https://credits.internal{TRANSACTIONS}", timeout=5)
    assert credits.sandbox.interception_log.total == 1


@pytest.mark.parametrize("retries", [False, Retry(False), Retry(connect=False)])
def test_urllib3_without_retries_raises_cause_of_near_miss(credits: FakeCredits, retries: Retry | bool) -> None:
    """A refused connection behaves the same way; ``retries`` may be passed positionally."""
    with credits.intercept(BASE_URL), urllib3.HTTPSConnectionPool("credits.internal") as pool:
        with pytest.raises(urllib3.exceptions.NewConnectionError, match="fake-credits refused GET"):
            pool.urlopen("GET", BALANCE, None, None, retries)
        with pytest.raises(urllib3.exceptions.MaxRetryError, match="fake-credits refused GET"):
            pool.urlopen("GET", BALANCE)


def test_error_names_closest_base_url(credits: FakeCredits) -> None:
    """A URL with the same scheme and port is preferred; the request is logged in the sandbox of that URL."""
    with FakeCredits() as other, credits.intercept(BASE_URL), other.intercept("http://credits.internal:81/x"):
        with pytest.raises(httpx2.ConnectError, match=f"the intercepted base URL is {BASE_URL}, not"):
            SENDERS["httpx2"](LibraryRequest(f"https://credits.internal/v2{BALANCE}", {}))
        assert (credits.sandbox.interception_log.total, other.sandbox.interception_log.total) == (1, 0)


def test_route_without_literal_segment_causes_no_near_miss() -> None:
    """Otherwise, every two-segment path on the host would be refused."""
    routes = {**Contract().routes, Operation.GET_USER: RouteTemplate("GET", "/{applicationId}/{userId}")}
    with FakeCredits(contract=Contract(routes=routes)) as fake, fake.intercept(f"{UNUSED_URL}/api"):
        with pytest.raises(httpx2.ConnectError, match="refused") as error:
            SENDERS["httpx2"](LibraryRequest(f"{UNUSED_URL}/status/health", {}))
        assert "fake-credits" not in str(error.value)


def test_trailing_slash_is_a_near_miss_but_undecodable_path_is_not(credits: FakeCredits) -> None:
    with credits.intercept(f"{UNUSED_URL}/api"):
        with pytest.raises(httpx2.ConnectError, match="ends with the path of getBalance"):
            SENDERS["httpx2"](LibraryRequest(f"{UNUSED_URL}{BALANCE}/", {}))
        with pytest.raises(requests.ConnectionError) as error:
            SENDERS["requests"](LibraryRequest(f"{UNUSED_URL}/%FF{BALANCE}", {}))
        assert "fake-credits" not in str(error.value)


def test_reset_clears_missed_requests(credits: FakeCredits) -> None:
    with credits.intercept(f"{UNUSED_URL}/api"):
        with pytest.raises(httpx2.ConnectError):
            SENDERS["httpx2"](LibraryRequest(f"{UNUSED_URL}/health", {}))
        log = credits.sandbox.interception_log
        assert log.base_urls == (f"{UNUSED_URL}/api",)
        credits.reset()
        assert (log.missed(), log.lines()) == ([], [])
        assert "missed=1" in repr(log)
    assert not log.base_urls
