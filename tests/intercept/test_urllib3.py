"""Test interception in urllib3 and requests: `Retry` and its clock, the pool's limits, bodies of every kind."""

import io
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util import SKIP_HEADER, Retry, Timeout

from fake_credits.fake import FakeCredits
from fake_credits.faults.effects import Hang, Reset, Status
from tests.intercept.libraries import BALANCE, ORDER, TRANSACTIONS

URL = "https://credits.internal/base"


@pytest.fixture
def credits() -> Iterator[FakeCredits]:
    with FakeCredits(balance=5, clock="frozen") as fake, fake.intercept(URL, "http://plain.internal:8080"):
        yield fake


@pytest.fixture
def headers(credits: FakeCredits) -> dict[str, str]:
    return {"X-API-Key": credits.api_key, "Content-Type": "application/json"}


@pytest.fixture
def pools() -> Iterator[urllib3.PoolManager]:
    with urllib3.PoolManager(maxsize=1, block=True) as manager:
        yield manager


def seconds_of(fake: FakeCredits, begun: datetime) -> float:
    return (fake.clock.now() - begun).total_seconds()


def test_retry_tries_again_and_its_back_off_runs_on_the_sandboxs_clock(
    credits: FakeCredits, headers: dict[str, str]
) -> None:
    """Two waits of urllib3's series 0, 20, 40, and no second of the wall's."""
    credits.faults.add(Status(503), "getBalance", first=3)
    begun = credits.clock.now()
    with requests.Session() as session:
        session.mount("https://", HTTPAdapter(max_retries=Retry(3, status_forcelist=[503], backoff_factor=10)))
        assert session.get(URL + BALANCE, headers=headers, timeout=5).json() == {"balance": 5}
    assert seconds_of(credits, begun) == 0 + 20 + 40
    assert [entry.status for entry in credits.journal] == [503, 503, 503, 200]


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_waited_for_on_the_sandboxs_clock(
    credits: FakeCredits, headers: dict[str, str], pools: urllib3.PoolManager, form: Any
) -> None:
    """A date too is one of that clock, which may be years away from the wall's."""
    credits.clock.travel(datetime(2040, 1, 1, tzinfo=UTC))
    credits.faults.add(Status(429, retry_after_s=120, retry_after_form=form), "getBalance", first=1)
    begun = credits.clock.now()
    answer = pools.request("GET", URL + BALANCE, headers=headers, retries=Retry(1))
    assert (answer.status, seconds_of(credits, begun)) == (200, 120)


def test_retries_that_run_out_raise_what_they_raise(credits: FakeCredits, headers: dict[str, str]) -> None:
    credits.faults.add(Reset(), "getBalance")
    with requests.Session() as session:
        session.mount("https://", HTTPAdapter(max_retries=Retry(2)))
        with pytest.raises(requests.ConnectionError, match="Max retries exceeded"):
            session.get(URL + BALANCE, headers=headers, timeout=5)
    assert len(credits.journal) == 3


def test_a_retry_to_elsewhere_waits_for_the_wall(
    credits: FakeCredits, monkeypatch: pytest.MonkeyPatch, pools: urllib3.PoolManager
) -> None:
    """The clock of the library is the sandbox's for its own requests only; a test's own patch of it still counts."""
    waited: list[float] = []
    begun = credits.clock.now()
    monkeypatch.setattr(time, "sleep", waited.append)
    with pytest.raises(urllib3.exceptions.MaxRetryError):
        pools.request("GET", "http://127.0.0.1:9/", retries=Retry(2, backoff_factor=1))
    assert waited == [2.0]
    assert credits.clock.now() == begun


def test_the_librarys_module_of_time_is_whole_otherwise(credits: FakeCredits) -> None:
    assert credits.clock.mode == "frozen"
    retry_time: Any = vars(sys.modules["urllib3.util.retry"])["time"]
    assert retry_time.monotonic is time.monotonic
    assert abs(retry_time.time() - time.time()) < 60


def test_a_timeout_ends_on_the_sandboxs_clock(
    credits: FakeCredits, headers: dict[str, str], pools: urllib3.PoolManager
) -> None:
    credits.faults.add(Hang(), "getBalance")
    begun = credits.clock.now()
    with pytest.raises(urllib3.exceptions.ReadTimeoutError, match=r"read timeout=30"):
        pools.request("GET", URL + BALANCE, headers=headers, timeout=Timeout(connect=1, read=30), retries=False)
    assert seconds_of(credits, begun) == 30


def test_a_timeout_of_nothing_is_the_librarys_to_judge(
    credits: FakeCredits, headers: dict[str, str], pools: urllib3.PoolManager
) -> None:
    total = Timeout(total=1e-9)
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        pools.request("GET", URL + BALANCE, headers=headers, timeout=total, retries=False)
    assert len(credits.journal) == 0


BODIES: dict[str, Any] = {
    "bytes": lambda: ORDER,
    "text": ORDER.decode,
    "a file": lambda: io.BytesIO(ORDER),
    "pieces": lambda: iter([ORDER[:5], b"", ORDER[5:]]),
    "a buffer": lambda: bytearray(ORDER),
}


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("library", ["requests", "urllib3"])
def test_a_body_may_be_anything_that_the_library_takes(
    credits: FakeCredits, headers: dict[str, str], pools: urllib3.PoolManager, kind: str, library: str
) -> None:
    body = BODIES[kind]()
    if library == "requests":
        status = requests.post(URL + TRANSACTIONS, data=body, headers=headers, timeout=5).status_code
    else:
        status = pools.request("POST", URL + TRANSACTIONS, body=body, headers=headers).status
    assert (status, credits.balance()) == (201, 4)


def test_a_body_in_chunks_is_one_body(
    credits: FakeCredits, headers: dict[str, str], pools: urllib3.PoolManager
) -> None:
    answer = pools.request("POST", URL + TRANSACTIONS, body=ORDER, headers=headers, chunked=True)
    assert (answer.status, credits.balance()) == (201, 4)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("X-Note", "two\r\nlines", ValueError),
        ("X-Note", "\u2603", UnicodeEncodeError),
        ("X-Note", SKIP_HEADER, ValueError),
    ],
    ids=["a line break", "beyond Latin-1", "not to skip"],
)
def test_a_header_that_the_library_refuses_is_refused(
    credits: FakeCredits, headers: dict[str, str], pools: urllib3.PoolManager, name: str, value: str, error: Any
) -> None:
    with pytest.raises(error):
        pools.request("GET", URL + BALANCE, headers={**headers, name: value}, retries=False)
    assert len(credits.journal) == 0


def test_a_header_that_is_skipped_or_a_number_is_written_by_the_library(
    credits: FakeCredits, headers: dict[str, str], pools: urllib3.PoolManager
) -> None:
    odd: dict[str, Any] = {"User-Agent": SKIP_HEADER, "X-Number": 7}
    assert pools.request("GET", URL + BALANCE, headers={**headers, **odd}).status == 200
    assert len(credits.journal) == 1


@pytest.mark.parametrize("preload", [True, False])
def test_the_pool_gets_its_connection_back(
    credits: FakeCredits, headers: dict[str, str], pools: urllib3.PoolManager, preload: bool
) -> None:
    """It has one, and blocks: each request waits until the one before has been read to its end."""
    for _ in range(3):
        answer = pools.request("GET", URL + BALANCE, headers=headers, preload_content=preload, pool_timeout=0.01)
        assert (answer.read() or answer.data, answer.closed) == (b'{"balance":5}', True)
    assert len(credits.journal) == 3


def test_the_pools_limit_holds(credits: FakeCredits, headers: dict[str, str], pools: urllib3.PoolManager) -> None:
    unread = pools.request("GET", URL + BALANCE, headers=headers, preload_content=False)
    with pytest.raises(urllib3.exceptions.EmptyPoolError):
        pools.request("GET", URL + BALANCE, headers=headers, pool_timeout=0.001)
    unread.release_conn()
    assert pools.request("GET", URL + BALANCE, headers=headers, pool_timeout=0.01).status == 200


def test_an_answer_may_be_streamed_piece_by_piece(credits: FakeCredits, headers: dict[str, str]) -> None:
    with requests.get(URL + BALANCE, headers=headers, stream=True, timeout=5) as answer:
        assert b"".join(answer.iter_content(4)) == b'{"balance":5}'
        assert (answer.reason, answer.raw.version, dict(answer.cookies)) == ("OK", 11, {})


def test_a_head_request_has_no_body(credits: FakeCredits, headers: dict[str, str]) -> None:
    answer = requests.head("http://plain.internal:8080/_fake/livez", headers=headers, timeout=5)
    assert answer.content == b""


def test_hooks_and_sessions_take_part(credits: FakeCredits, headers: dict[str, str]) -> None:
    seen: list[int] = []

    def note(answer: requests.Response, *_: object, **_words: object) -> None:
        seen.append(answer.status_code)

    with requests.Session() as session:
        session.headers.update(headers)
        session.hooks["response"].append(note)
        answer = session.post(URL + TRANSACTIONS, data=ORDER, timeout=5)
    assert answer.request.url == URL + TRANSACTIONS
    assert answer.elapsed.total_seconds() < 5
    assert seen == [201]


def test_a_pool_of_ones_own_is_intercepted_too(credits: FakeCredits, headers: dict[str, str]) -> None:
    with urllib3.HTTPSConnectionPool("credits.internal") as pool:
        assert pool.request("GET", f"/base{BALANCE}", headers=headers).status == 200
    with urllib3.HTTPConnectionPool("PLAIN.internal", 8080) as pool:
        assert pool.request("GET", BALANCE, headers=headers).status == 200
    assert len(credits.journal) == 2
