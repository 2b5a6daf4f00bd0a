"""Test interception in urllib3 and requests: `Retry` and its clock, pool limits and request bodies."""

import contextlib
import io
import logging
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util import SKIP_HEADER, Retry, Timeout

from fake_credits.fake import FakeCredits
from fake_credits.faults.effects import Close, Hang, Reset, Status
from tests.intercept.libraries import BALANCE, TRANSACTION_BODY, TRANSACTIONS

URL = "https://credits.internal/base"


@pytest.fixture
def credits() -> Iterator[FakeCredits]:
    with FakeCredits(balance=5, clock="frozen") as fake, fake.intercept(URL, "http://plain.internal:8080"):
        yield fake


@pytest.fixture
def headers(credits: FakeCredits) -> dict[str, str]:
    return {"X-API-Key": credits.api_key, "Content-Type": "application/json"}


@pytest.fixture
def pool_manager() -> Iterator[urllib3.PoolManager]:
    with urllib3.PoolManager(maxsize=1, block=True) as manager:
        yield manager


def elapsed_s(fake: FakeCredits, started_at: datetime) -> float:
    return (fake.clock.now() - started_at).total_seconds()


def test_retry_backoff_runs_on_sandbox_clock(credits: FakeCredits, headers: dict[str, str]) -> None:
    """urllib3 waits 0, 20 and 40 seconds."""
    credits.faults.add(Status(503), "getBalance", first=3)
    started_at = credits.clock.now()
    with requests.Session() as session:
        session.mount("https://", HTTPAdapter(max_retries=Retry(3, status_forcelist=[503], backoff_factor=10)))
        assert session.get(URL + BALANCE, headers=headers, timeout=5).json() == {"balance": 5}
    assert elapsed_s(credits, started_at) == 0 + 20 + 40
    assert [entry.status for entry in credits.journal] == [503, 503, 503, 200]


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_runs_on_sandbox_clock(
    credits: FakeCredits, headers: dict[str, str], pool_manager: urllib3.PoolManager, form: Any
) -> None:
    """A date is computed from the same clock, which may be years away from the wall clock."""
    credits.clock.travel(datetime(2040, 1, 1, tzinfo=UTC))
    credits.faults.add(Status(429, retry_after_s=120, retry_after_form=form), "getBalance", first=1)
    started_at = credits.clock.now()
    response = pool_manager.request("GET", URL + BALANCE, headers=headers, retries=Retry(1))
    assert (response.status, elapsed_s(credits, started_at)) == (200, 120)


def test_exhausted_retries_raise_connection_error(credits: FakeCredits, headers: dict[str, str]) -> None:
    credits.faults.add(Reset(), "getBalance")
    with requests.Session() as session:
        session.mount("https://", HTTPAdapter(max_retries=Retry(2)))
        with pytest.raises(requests.ConnectionError, match="Max retries exceeded"):
            session.get(URL + BALANCE, headers=headers, timeout=5)
    assert len(credits.journal) == 3


def test_retry_to_other_host_uses_wall_clock(
    credits: FakeCredits, monkeypatch: pytest.MonkeyPatch, pool_manager: urllib3.PoolManager
) -> None:
    """The sandbox's clock applies to intercepted requests only; a test's own patch of the clock still applies."""
    sleeps: list[float] = []
    started_at = credits.clock.now()
    monkeypatch.setattr(time, "sleep", sleeps.append)
    with pytest.raises(urllib3.exceptions.MaxRetryError):
        pool_manager.request("GET", "http://127.0.0.1:9/", retries=Retry(2, backoff_factor=1))
    assert sleeps == [2.0]
    assert credits.clock.now() == started_at


def test_patched_time_module_keeps_other_functions(credits: FakeCredits) -> None:
    assert credits.clock.mode == "frozen"
    retry_time: Any = vars(sys.modules["urllib3.util.retry"])["time"]
    assert retry_time.monotonic is time.monotonic
    assert abs(retry_time.time() - time.time()) < 60


def test_read_timeout_runs_on_sandbox_clock(
    credits: FakeCredits, headers: dict[str, str], pool_manager: urllib3.PoolManager
) -> None:
    credits.faults.add(Hang(), "getBalance")
    started_at = credits.clock.now()
    with pytest.raises(urllib3.exceptions.ReadTimeoutError, match=r"read timeout=30"):
        pool_manager.request("GET", URL + BALANCE, headers=headers, timeout=Timeout(connect=1, read=30), retries=False)
    assert elapsed_s(credits, started_at) == 30


def test_tiny_total_timeout_raises_before_request(
    credits: FakeCredits, headers: dict[str, str], pool_manager: urllib3.PoolManager
) -> None:
    total = Timeout(total=1e-9)
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        pool_manager.request("GET", URL + BALANCE, headers=headers, timeout=total, retries=False)
    assert len(credits.journal) == 0


BODIES: dict[str, Any] = {
    "bytes": lambda: TRANSACTION_BODY,
    "text": TRANSACTION_BODY.decode,
    "file": lambda: io.BytesIO(TRANSACTION_BODY),
    "iterator": lambda: iter([TRANSACTION_BODY[:5], b"", TRANSACTION_BODY[5:]]),
    "bytearray": lambda: bytearray(TRANSACTION_BODY),
}


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("library", ["requests", "urllib3"])
def test_every_supported_body_type_is_sent(
    credits: FakeCredits, headers: dict[str, str], pool_manager: urllib3.PoolManager, kind: str, library: str
) -> None:
    body = BODIES[kind]()
    if library == "requests":
        status = requests.post(URL + TRANSACTIONS, data=body, headers=headers, timeout=5).status_code
    else:
        status = pool_manager.request("POST", URL + TRANSACTIONS, body=body, headers=headers).status
    assert (status, credits.balance()) == (201, 4)


def test_chunked_body_is_joined(
    credits: FakeCredits, headers: dict[str, str], pool_manager: urllib3.PoolManager
) -> None:
    response = pool_manager.request("POST", URL + TRANSACTIONS, body=TRANSACTION_BODY, headers=headers, chunked=True)
    assert (response.status, credits.balance()) == (201, 4)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("X-Note", "two\r\nlines", ValueError),
        ("X-Note", "\u2603", UnicodeEncodeError),
        ("X-Note", SKIP_HEADER, ValueError),
    ],
    ids=["line break", "not latin-1", "unskippable header"],
)
def test_invalid_header_raises_library_error(
    credits: FakeCredits, headers: dict[str, str], pool_manager: urllib3.PoolManager, name: str, value: str, error: Any
) -> None:
    with pytest.raises(error):
        pool_manager.request("GET", URL + BALANCE, headers={**headers, name: value}, retries=False)
    assert len(credits.journal) == 0


def test_skipped_and_numeric_headers_are_accepted(
    credits: FakeCredits, headers: dict[str, str], pool_manager: urllib3.PoolManager
) -> None:
    special_headers: dict[str, Any] = {"User-Agent": SKIP_HEADER, "X-Number": 7}
    assert pool_manager.request("GET", URL + BALANCE, headers={**headers, **special_headers}).status == 200
    assert len(credits.journal) == 1


@pytest.mark.parametrize("preload", [True, False])
def test_connection_returns_to_pool(
    credits: FakeCredits, headers: dict[str, str], pool_manager: urllib3.PoolManager, preload: bool
) -> None:
    """The pool has only one connection, so a request fails unless the previous response has returned it."""
    for _ in range(3):
        response = pool_manager.request(
            "GET", URL + BALANCE, headers=headers, preload_content=preload, pool_timeout=0.01
        )
        assert (response.read() or response.data, response.closed) == (b'{"balance":5}', True)
    assert len(credits.journal) == 3


def test_pool_limit_is_enforced(
    credits: FakeCredits, headers: dict[str, str], pool_manager: urllib3.PoolManager
) -> None:
    unread_response = pool_manager.request("GET", URL + BALANCE, headers=headers, preload_content=False)
    with pytest.raises(urllib3.exceptions.EmptyPoolError):
        pool_manager.request("GET", URL + BALANCE, headers=headers, pool_timeout=0.001)
    unread_response.release_conn()
    assert pool_manager.request("GET", URL + BALANCE, headers=headers, pool_timeout=0.01).status == 200


def test_response_can_be_streamed(credits: FakeCredits, headers: dict[str, str]) -> None:
    with requests.get(URL + BALANCE, headers=headers, stream=True, timeout=5) as response:
        assert b"".join(response.iter_content(4)) == b'{"balance":5}'
        assert (response.reason, response.raw.version, dict(response.cookies)) == ("OK", 11, {})


def test_head_response_has_no_body(credits: FakeCredits, headers: dict[str, str]) -> None:
    response = requests.head("http://plain.internal:8080/_fake/livez", headers=headers, timeout=5)
    assert response.content == b""


def test_session_hooks_are_called(credits: FakeCredits, headers: dict[str, str]) -> None:
    statuses: list[int] = []

    def record_status(response: requests.Response, *_: object, **_kwargs: object) -> None:
        statuses.append(response.status_code)

    with requests.Session() as session:
        session.headers.update(headers)
        session.hooks["response"].append(record_status)
        response = session.post(URL + TRANSACTIONS, data=TRANSACTION_BODY, timeout=5)
    assert response.request.url == URL + TRANSACTIONS
    assert response.elapsed.total_seconds() < 5
    assert statuses == [201]


def test_connection_pool_without_manager_is_intercepted(credits: FakeCredits, headers: dict[str, str]) -> None:
    with urllib3.HTTPSConnectionPool("credits.internal") as pool:
        assert pool.request("GET", f"/base{BALANCE}", headers=headers).status == 200
    with urllib3.HTTPConnectionPool("PLAIN.internal", 8080) as pool:
        assert pool.request("GET", BALANCE, headers=headers).status == 200
    assert len(credits.journal) == 2


def test_debug_lines_and_counts_are_the_same_as_live(caplog: pytest.LogCaptureFixture) -> None:
    """This includes faults, retries, closed connections and requests that urllib3 writes itself."""
    caplog.set_level(logging.DEBUG, "urllib3")
    with FakeCredits(balance=50) as live, FakeCredits(balance=50) as fake:
        url, results = live.base_url, list[tuple[object, ...]]()
        for each in (live, fake):
            interception = contextlib.nullcontext() if each is live else each.intercept(url)
            each.faults.add(Reset(), "getBalance", nth=3)
            each.faults.add(Status(503), "getBalance", nth=5)
            each.faults.add(Close(), "createTransaction", nth=2)
            with interception, urllib3.PoolManager() as pools:
                caplog.clear()
                headers = {"X-API-Key": each.api_key, "Content-Type": "application/json"}
                retries = Retry(2, status_forcelist=[503], allowed_methods=None, backoff_factor=0)
                for number in range(4):
                    pools.request("GET", url + BALANCE, headers=headers, retries=retries, preload_content=number != 1)
                    body = io.BytesIO(TRANSACTION_BODY)
                    pools.request("POST", url + TRANSACTIONS, headers=headers, retries=retries, body=body)
                pool: Any = pools.connection_from_url(url)
                results.append((*caplog.messages, pool.num_connections, pool.num_requests))
    assert results[0] == results[1]
    assert sum(f'"GET {BALANCE} HTTP/1.1" 200 ' in str(line) for line in results[0]) == 4


def test_requests_debug_lines_are_the_same_as_live(caplog: pytest.LogCaptureFixture) -> None:
    """A response without a body also returns its connection to the pool."""
    caplog.set_level(logging.DEBUG, "urllib3")
    with FakeCredits(balance=5) as live, FakeCredits(balance=5) as fake:
        url, lines = live.base_url, list[list[str]]()
        for each in (live, fake):
            interception = contextlib.nullcontext() if each is live else each.intercept(url)
            with interception, requests.Session() as session:
                caplog.clear()
                for method in ("GET", "HEAD", "GET"):
                    session.request(method, url + BALANCE, headers={"X-API-Key": each.api_key}, timeout=5)
                lines.append(caplog.messages)
    assert lines[0] == lines[1]
    assert len(lines[0]) == 1 + 3


@pytest.mark.parametrize("package", ["urllib3", "urllib3_future"])
def test_urllib3_future_is_refused_at_start(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It either replaces urllib3 or is installed as a separate package; its patch versions start at 900."""
    modules = {name: ModuleType(f"{package}{name}") for name in ("", "._version", ".connectionpool")}
    vars(modules["._version"])["__version__"] = "2.25.904"
    vars(modules[""])["__path__"] = []
    modules[".connectionpool"].__package__ = package
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, package + name, module)
    with FakeCredits() as fake:
        with pytest.raises(
            RuntimeError, match="urllib3-future 2.25.904, which niquests installs.* can't be intercepted"
        ):
            fake.intercept(URL)
        assert fake.intercepted == ()
