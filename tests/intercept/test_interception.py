"""Test interception through each library: intercepted URLs, other URLs, and removal of patches."""

import gc
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import aiohttp
import httpcore
import httpcore2
import pytest
import requests
import urllib3

from fake_credits.fake import FakeCredits
from fake_credits.intercept import ADAPTER_MODULES, INTERCEPTION_REGISTRY, InterceptionRegistry
from tests.documentation import TEXT
from tests.intercept.libraries import BALANCE, SENDERS, TRANSACTION_BODY, TRANSACTIONS, LibraryRequest, Send

URL = "https://credits.internal"
UNUSED_URL = "http://127.0.0.1:9"
"""A URL with no server: its port is the discard port (RFC 863)."""

PATCHED_ATTRIBUTES: tuple[tuple[Any, str], ...] = (
    (urllib3.HTTPConnectionPool, "urlopen"),
    (urllib3.HTTPConnectionPool, "_make_request"),
    (urllib3.connectionpool, "is_connection_dropped"),
    (urllib3.HTTPSConnectionPool, "_prepare_proxy"),
    (sys.modules["urllib3.util.retry"], "time"),
    *(
        (pool, name)
        for core in (httpcore, httpcore2)
        for pool, name in (
            (core.ConnectionPool, "handle_request"),
            (core.ConnectionPool, "create_connection"),
            (core.HTTPProxy, "create_connection"),
            (core.AsyncConnectionPool, "handle_async_request"),
            (core.AsyncConnectionPool, "create_connection"),
            (core.AsyncHTTPProxy, "create_connection"),
        )
    ),
    (aiohttp.connector.BaseConnector, "connect"),
    (aiohttp.connector.TCPConnector, "_create_connection"),
    (aiohttp.connector.UnixConnector, "_create_connection"),
    (aiohttp.connector.NamedPipeConnector, "_create_connection"),
)


def attributes_of(owner: object) -> Mapping[str, Any]:
    return vars(owner)


def current_patches() -> tuple[list[object], list[object]]:
    """Return the current values of the patched attributes, and the import finders."""
    return [attributes_of(owner).get(name) for owner, name in PATCHED_ATTRIBUTES], list(sys.meta_path)


@pytest.fixture(autouse=True)
def no_patches_left() -> Iterator[None]:
    before = current_patches()
    yield
    assert current_patches() == before
    assert "none" in repr(INTERCEPTION_REGISTRY)


@pytest.fixture
def credits() -> Iterator[FakeCredits]:
    with FakeCredits(balance=5) as fake:
        yield fake


@pytest.fixture(params=SENDERS)
def send(request: pytest.FixtureRequest) -> Send:
    return SENDERS[str(request.param)]


def balance_request(fake: FakeCredits, url: str = URL) -> LibraryRequest:
    return LibraryRequest(url + BALANCE, {"X-API-Key": fake.api_key})


def transaction_request(fake: FakeCredits, url: str = URL) -> LibraryRequest:
    return LibraryRequest(
        url + TRANSACTIONS, {"X-API-Key": fake.api_key, "Content-Type": "application/json"}, TRANSACTION_BODY
    )


def test_every_patched_attribute_is_listed() -> None:
    """Otherwise the fixture ``no_patches_left`` would miss a patch."""
    with FakeCredits() as fake, fake.intercept(URL):
        applied: list[tuple[Any, str, object, object]] = attributes_of(
            attributes_of(INTERCEPTION_REGISTRY)["_patches"]
        )["_applied"]
        assert {(owner, name) for owner, name, _, _ in applied} == set(PATCHED_ATTRIBUTES)
        assert [attributes_of(owner)[name] for owner, name, _, _ in applied] == [
            replacement for *_, replacement in applied
        ]
    assert set(ADAPTER_MODULES) == {
        "aiohttp.connector",
        "httpcore",
        "httpcore2",
        "urllib3.connectionpool",
        "urllib3_future.connectionpool",
    }


def test_sandbox_answers_reads_and_writes(credits: FakeCredits, send: Send) -> None:
    with credits.intercept(URL):
        response = send(transaction_request(credits))
        assert (response.status, response.headers["content-type"]) == (201, "application/json")
        read = send(balance_request(credits))
    assert (read.status, read.body) == (200, b'{"balance":4}')
    assert read.headers["content-length"] == "13"
    assert [entry.operation for entry in credits.journal] == ["createTransaction", "getBalance"]


def test_error_response_is_returned(credits: FakeCredits, send: Send) -> None:
    with credits.intercept(URL):
        response = send(LibraryRequest(URL + BALANCE, {"X-API-Key": "wrong"}))
    assert response.status == 401
    assert b"invalid_api_key" in response.body


@pytest.mark.parametrize("base", ["http://credits.internal:8080/api/v3", "https://[::1]:8443", "http://127.0.0.1:9"])
def test_base_url_may_have_port_path_or_address(credits: FakeCredits, send: Send, base: str) -> None:
    """No server listens at any of these URLs."""
    with credits.intercept(base):
        assert send(balance_request(credits, base)).status == 200


def test_host_is_case_insensitive(credits: FakeCredits, send: Send) -> None:
    with credits.intercept("https://Credits.Internal:443/"):
        assert send(balance_request(credits, "https://CREDITS.internal")).status == 200


def test_other_urls_reach_the_network(credits: FakeCredits, send: Send) -> None:
    """A URL with another host, or another port on a loopback host, reaches a real server (here, another fake)."""
    with FakeCredits(balance=7) as real:
        url = real.base_url
        host = url.rpartition(":")[0]
        with credits.intercept(URL, f"{host}:9", "http://localhost"):
            assert send(balance_request(real, url)).body == b'{"balance":7}'
            assert send(transaction_request(real, url)).status == 201
    assert len(credits.journal) == 0


def test_url_outside_path_reaches_the_network(credits: FakeCredits, send: Send) -> None:
    with credits.intercept(f"{UNUSED_URL}/api"), pytest.raises(Exception, match=r"refused|[Cc]onnect"):
        send(LibraryRequest(f"{UNUSED_URL}/apis/health", {}))
    assert len(credits.journal) == 0


def test_proxy_in_environment_is_ignored(credits: FakeCredits, send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, UNUSED_URL)
        monkeypatch.setenv(name.lower(), UNUSED_URL)
    with credits.intercept(URL, "http://plain.internal/api"):
        assert send(transaction_request(credits)).status == 201
        assert send(balance_request(credits, "http://plain.internal/api")).status == 200


def test_inner_interception_answers_first(credits: FakeCredits, send: Send) -> None:
    with FakeCredits(balance=1) as inner, credits.intercept(URL):
        with inner.intercept(URL):
            assert send(balance_request(inner)).body == b'{"balance":1}'
        assert send(balance_request(credits)).body == b'{"balance":5}'


def test_interceptions_of_different_urls_coexist(credits: FakeCredits, send: Send) -> None:
    """A longer path that is added later does not hide the shorter one."""
    with (
        FakeCredits(balance=1) as other,
        credits.intercept(URL, f"{URL}:8443"),
        other.intercept(f"{URL}/other"),
    ):
        assert send(balance_request(other, f"{URL}/other")).body == b'{"balance":1}'
        assert send(balance_request(credits)).body == b'{"balance":5}'
        assert send(balance_request(credits, f"{URL}:8443")).body == b'{"balance":5}'


def test_outer_interception_may_close_first(credits: FakeCredits, send: Send) -> None:
    with FakeCredits(balance=1) as other:
        outer = credits.intercept(URL)
        with other.intercept(f"{URL}/other"):
            outer.close()
            outer.close()
            assert send(balance_request(other, f"{URL}/other")).body == b'{"balance":1}'


def test_error_in_block_ends_interception(credits: FakeCredits) -> None:
    with pytest.raises(LookupError), credits.intercept(URL):
        raise LookupError


def test_closing_sandbox_ends_interception(send: Send) -> None:
    fake = FakeCredits(balance=1)
    fake.intercept(URL, f"{UNUSED_URL}/api")
    assert send(balance_request(fake)).status == 200
    fake.close()
    with pytest.raises(Exception, match=r"refused|[Cc]onnect"):
        send(balance_request(fake, f"{UNUSED_URL}/api"))


def test_closed_sandbox_cannot_intercept(credits: FakeCredits) -> None:
    credits.close()
    with pytest.raises(RuntimeError, match=r"is closed \(its test is over\)"):
        credits.intercept(URL)


def test_invalid_base_url_leaves_no_patches(credits: FakeCredits) -> None:
    with pytest.raises(ValueError, match="invalid base URL .* to intercept"):
        credits.intercept(URL, "credits.internal")


def test_unpatchable_library_leaves_no_patches(credits: FakeCredits, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.delattr(aiohttp.connector.NamedPipeConnector, "_create_connection")
        before = current_patches()
        with pytest.raises(RuntimeError, match="this version of aiohttp can't be intercepted: .*_create_connection"):
            credits.intercept(URL)
        assert current_patches() == before


def test_existing_client_is_intercepted_and_reaches_network_afterwards(credits: FakeCredits) -> None:
    """The client's pool keeps its network connection and never stores an intercepted one."""
    url = credits.base_url
    with FakeCredits(balance=9) as other, requests.Session() as session:
        headers = {"X-API-Key": credits.api_key}
        assert session.get(url + BALANCE, headers=headers, timeout=5).json() == {"balance": 5}
        with other.intercept(url):
            response = session.get(url + BALANCE, headers={"X-API-Key": other.api_key}, timeout=5)
            assert response.json() == {"balance": 9}
        assert session.get(url + BALANCE, headers=headers, timeout=5).json() == {"balance": 5}


@pytest.mark.parametrize("core", [httpcore, httpcore2])
def test_pool_keeps_network_connection_during_interception(credits: FakeCredits, core: Any) -> None:
    url = credits.base_url + BALANCE
    with FakeCredits(balance=9) as other, core.ConnectionPool() as pool:
        assert pool.request("GET", url, headers={"X-API-Key": credits.api_key}).content == b'{"balance":5}'
        (connection,) = pool.connections
        with other.intercept(credits.base_url):
            assert pool.request("GET", url, headers={"X-API-Key": other.api_key}).content == b'{"balance":9}'
        assert pool.connections == [connection]
        assert pool.request("GET", url, headers={"X-API-Key": credits.api_key}).content == b'{"balance":5}'


def test_interception_applies_to_all_threads(credits: FakeCredits, send: Send) -> None:
    """Threads started before the interception write concurrently without losing a write."""
    start = threading.Event()
    statuses: list[int] = []

    def spend() -> None:
        start.wait(10)
        statuses.append(send(transaction_request(credits)).status)

    threads = [threading.Thread(target=spend) for _ in range(4)]
    for thread in threads:
        thread.start()
    with credits.intercept(URL):
        start.set()
        for thread in threads:
            thread.join()
    assert statuses == [201] * 4
    assert credits.balance() == 1


def test_threads_may_intercept_concurrently() -> None:
    """The libraries stay patched while any interception is open in any thread."""
    errors: list[BaseException] = []

    def intercept_repeatedly(number: int) -> None:
        try:
            with FakeCredits(balance=number) as fake:
                for _ in range(20):
                    with fake.intercept(f"{URL}/{number}"):
                        response = SENDERS["urllib3"](balance_request(fake, f"{URL}/{number}"))
                        assert response.body == b'{"balance":%d}' % number
        except BaseException as error:  # noqa: BLE001 - it is the main thread that fails
            errors.append(error)

    threads = [threading.Thread(target=intercept_repeatedly, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_later_patch_by_other_code_is_kept(credits: FakeCredits) -> None:
    """Instrumentation may patch the library during interception; its wrapper is kept and still calls the library."""
    pool = urllib3.HTTPConnectionPool
    original: Any = pool.urlopen
    methods: list[str] = []
    interception = credits.intercept(URL)
    patched_urlopen: Any = pool.urlopen

    def urlopen(self: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        methods.append(method)
        return patched_urlopen(self, method, url, *args, **kwargs)

    pool.urlopen = urlopen  # type: ignore[method-assign]
    try:
        SENDERS["urllib3"](balance_request(credits))
        interception.close()
        assert pool.urlopen is urlopen
        assert SENDERS["urllib3"](balance_request(credits, credits.base_url)).status == 200
        assert methods == ["GET", "GET"]
    finally:
        pool.urlopen = original  # type: ignore[method-assign]


def test_intercept_without_url_is_rejected(credits: FakeCredits) -> None:
    """For example, ``intercept(*urls)`` with an empty list would intercept nothing."""
    with pytest.raises(ValueError, match=r"requires at least one base URL, such as https://credits\.internal"):
        credits.intercept()


def test_closed_interception_cannot_be_entered_again(credits: FakeCredits) -> None:
    interception = credits.intercept(URL)
    with interception:
        pass
    with pytest.raises(
        RuntimeError, match=r"<Interception: https://credits\.internal> has ended: call credits\.intercept\("
    ):
        interception.__enter__()


def test_intercepted_lists_active_base_urls(credits: FakeCredits) -> None:
    with credits.intercept("https://Credits.Internal:443/"), credits.intercept(UNUSED_URL):
        assert list(credits.intercepted) == [URL, UNUSED_URL]
    assert list(credits.intercepted) == []


def test_garbage_collected_sandbox_ends_interception_with_warning() -> None:
    with pytest.warns(ResourceWarning, match=r"interception of https://credits\.internal was never closed"):
        FakeCredits(balance=1).intercept(URL)
    assert "none" in repr(INTERCEPTION_REGISTRY)


@pytest.mark.slow
def test_held_interception_outlives_garbage_collected_sandbox(send: Send) -> None:
    """In ``with FakeCredits().intercept(URL):``, for example, no variable refers to the fake."""
    fake = FakeCredits(balance=1)
    request = balance_request(fake)
    with fake.intercept(URL):
        del fake
        gc.collect()
        assert send(request).status == 200


def test_finalized_route_is_removed_by_next_add(credits: FakeCredits) -> None:
    """A finalizer may run in any thread at any time, so it must not wait for a lock that its thread may hold."""
    registry = InterceptionRegistry()
    with credits.intercept(URL):
        (route,) = attributes_of(INTERCEPTION_REGISTRY)["_routes"].active
    registry.add([route])
    with attributes_of(registry)["_lock"]:
        registry.remove_finalized([route])
        assert URL in repr(registry)
    registry.add([])
    assert "none" in repr(registry)


def test_repr_contains_urls(credits: FakeCredits) -> None:
    with credits.intercept(URL, "http://a.internal:81/b/") as interception:
        assert repr(interception) == "<Interception: https://credits.internal, http://a.internal:81/b>"
        assert "https://credits.internal, http://a.internal:81/b" in repr(INTERCEPTION_REGISTRY)


def test_docs_list_every_tested_library() -> None:
    table = TEXT.partition("| library | where the request is intercepted |")[2].partition("\n\n")[0]
    documented = {name for row in table.splitlines()[2:] for name in row.split("|")[1].strip().split(", ")}
    assert documented == {name.partition(",")[0] for name in SENDERS}
