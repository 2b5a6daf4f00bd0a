"""Test what an interception answers, what it leaves alone, and that nothing of it stays: library by library."""

import gc
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import httpcore
import httpcore2
import pytest
import requests
import urllib3

from fake_credits.fake import FakeCredits
from fake_credits.intercept import ADAPTER_MODULES, INTERCEPTION_REGISTRY, InterceptionRegistry
from tests.intercept.libraries import BALANCE, ORDER, SENDS, TRANSACTIONS, Ask, Send

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
URL = "https://credits.internal"
DEAD = "http://127.0.0.1:9"
"""Where nobody listens: the port discard (RFC 863)."""

PATCHED: tuple[tuple[Any, str], ...] = (
    (urllib3.HTTPConnectionPool, "urlopen"),
    (urllib3.HTTPConnectionPool, "_make_request"),
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


def own(owner: object) -> Mapping[str, Any]:
    return vars(owner)


def in_place() -> tuple[list[object], list[object]]:
    """Return what stands now where interception patches."""
    return [own(owner).get(name) for owner, name in PATCHED], list(sys.meta_path)


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    before = in_place()
    yield
    assert in_place() == before
    assert "none" in repr(INTERCEPTION_REGISTRY)


@pytest.fixture
def credits() -> Iterator[FakeCredits]:
    with FakeCredits(balance=5) as fake:
        yield fake


@pytest.fixture(params=SENDS)
def send(request: pytest.FixtureRequest) -> Send:
    return SENDS[str(request.param)]


def balance(fake: FakeCredits, url: str = URL) -> Ask:
    return Ask(url + BALANCE, {"X-API-Key": fake.api_key})


def order(fake: FakeCredits, url: str = URL) -> Ask:
    return Ask(url + TRANSACTIONS, {"X-API-Key": fake.api_key, "Content-Type": "application/json"}, ORDER)


def test_every_place_that_is_patched_is_known_here() -> None:
    """Or the fixture that looks for what stays would not see it."""
    with FakeCredits() as fake, fake.intercept(URL):
        made: list[tuple[Any, str, object, object]] = own(own(INTERCEPTION_REGISTRY)["_patches"])["_applied"]
        assert {(owner, name) for owner, name, _, _ in made} == set(PATCHED)
        assert [own(owner)[name] for owner, name, _, _ in made] == [replacement for *_, replacement in made]
    assert set(ADAPTER_MODULES) == {"aiohttp.connector", "httpcore", "httpcore2", "urllib3.connectionpool"}


def test_reads_and_writes_are_answered_by_the_sandbox(credits: FakeCredits, send: Send) -> None:
    with credits.intercept(URL):
        answer = send(order(credits))
        assert (answer.status, answer.headers["content-type"]) == (201, "application/json")
        read = send(balance(credits))
    assert (read.status, read.body) == (200, b'{"balance":4}')
    assert read.headers["content-length"] == "13"
    assert [entry.operation for entry in credits.journal] == ["createTransaction", "getBalance"]


def test_a_refusal_is_an_answer(credits: FakeCredits, send: Send) -> None:
    with credits.intercept(URL):
        answer = send(Ask(URL + BALANCE, {"X-API-Key": "wrong"}))
    assert answer.status == 401
    assert b"invalid_api_key" in answer.body


@pytest.mark.parametrize("base", ["http://credits.internal:8080/api/v3", "https://[::1]:8443", "http://127.0.0.1:9"])
def test_any_base_url_goes(credits: FakeCredits, send: Send, base: str) -> None:
    """With a port, a path, or a literal address; nobody listens anywhere."""
    with credits.intercept(base):
        assert send(balance(credits, base)).status == 200


def test_a_host_in_capitals_is_the_same(credits: FakeCredits, send: Send) -> None:
    with credits.intercept("https://Credits.Internal:443/"):
        assert send(balance(credits, "https://CREDITS.internal")).status == 200


def test_all_other_urls_pass(credits: FakeCredits, send: Send) -> None:
    """Those of another port or another path reach a real server, here one of our own."""
    with FakeCredits(balance=7) as real:
        url = real.base_url
        host = url.rpartition(":")[0]
        with credits.intercept(URL, f"{host}:9", f"{url}/v10", f"{url}/v1/app"):
            assert send(balance(real, url)).body == b'{"balance":7}'
            assert send(order(real, url)).status == 201
    assert len(credits.journal) == 0


def test_a_url_beside_the_path_is_left_to_the_network(credits: FakeCredits, send: Send) -> None:
    with credits.intercept(f"{DEAD}/api"), pytest.raises(Exception, match=r"refused|[Cc]onnect"):
        send(balance(credits, f"{DEAD}/apis"))
    assert len(credits.journal) == 0


def test_a_dead_proxy_in_the_environment_takes_no_part(
    credits: FakeCredits, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, DEAD)
        monkeypatch.setenv(name.lower(), DEAD)
    with credits.intercept(URL, "http://plain.internal/api"):
        assert send(order(credits)).status == 201
        assert send(balance(credits, "http://plain.internal/api")).status == 200


def test_of_two_that_hold_a_url_the_inner_one_answers(credits: FakeCredits, send: Send) -> None:
    with FakeCredits(balance=1) as inner, credits.intercept(URL):
        with inner.intercept(URL):
            assert send(balance(inner)).body == b'{"balance":1}'
        assert send(balance(credits)).body == b'{"balance":5}'


def test_two_stand_side_by_side(credits: FakeCredits, send: Send) -> None:
    """By host, and by path: a longer path that was added later does not hide what stands beside it."""
    with FakeCredits(balance=1) as other, credits.intercept(URL, f"{URL}:8443"), other.intercept(f"{URL}/other"):
        assert send(balance(other, f"{URL}/other")).body == b'{"balance":1}'
        assert send(balance(credits)).body == b'{"balance":5}'
        assert send(balance(credits, f"{URL}:8443")).body == b'{"balance":5}'


def test_the_outer_one_may_end_first(credits: FakeCredits, send: Send) -> None:
    with FakeCredits(balance=1) as other:
        outer = credits.intercept(URL)
        with other.intercept(f"{URL}/other"):
            outer.close()
            outer.close()
            assert send(balance(other, f"{URL}/other")).body == b'{"balance":1}'


def test_an_error_in_the_block_ends_it_too(credits: FakeCredits) -> None:
    with pytest.raises(LookupError), credits.intercept(URL):
        raise LookupError


def test_the_sandboxs_end_ends_it(send: Send) -> None:
    fake = FakeCredits(balance=1)
    fake.intercept(URL, f"{DEAD}/api")
    assert send(balance(fake)).status == 200
    fake.close()
    with pytest.raises(Exception, match=r"refused|[Cc]onnect"):
        send(balance(fake, f"{DEAD}/api"))


def test_a_closed_sandbox_intercepts_nothing(credits: FakeCredits) -> None:
    credits.close()
    with pytest.raises(RuntimeError, match="is closed: its test is over"):
        credits.intercept(URL)


def test_a_wrong_base_url_leaves_nothing_behind(credits: FakeCredits) -> None:
    with pytest.raises(ValueError, match="is no base URL to intercept"):
        credits.intercept(URL, "credits.internal")


def test_a_library_that_can_not_be_patched_leaves_nothing_behind(
    credits: FakeCredits, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.delattr(aiohttp.connector.NamedPipeConnector, "_create_connection")
        before = in_place()
        with pytest.raises(RuntimeError, match="this release of aiohttp can't be intercepted: .*_create_connection"):
            credits.intercept(URL)
        assert in_place() == before


def test_a_client_made_before_is_intercepted_and_talks_to_the_network_after(credits: FakeCredits) -> None:
    """Its pool keeps the connection that it had, and none of ours."""
    url = credits.base_url
    with FakeCredits(balance=9) as other, requests.Session() as session:
        headers = {"X-API-Key": credits.api_key}
        assert session.get(url + BALANCE, headers=headers, timeout=5).json() == {"balance": 5}
        with other.intercept(url):
            answer = session.get(url + BALANCE, headers={"X-API-Key": other.api_key}, timeout=5)
            assert answer.json() == {"balance": 9}
        assert session.get(url + BALANCE, headers=headers, timeout=5).json() == {"balance": 5}


@pytest.mark.parametrize("core", [httpcore, httpcore2])
def test_a_pool_keeps_its_own_connection_through_an_interception(credits: FakeCredits, core: Any) -> None:
    url = credits.base_url + BALANCE
    with FakeCredits(balance=9) as other, core.ConnectionPool() as pool:
        assert pool.request("GET", url, headers={"X-API-Key": credits.api_key}).content == b'{"balance":5}'
        (connection,) = pool.connections
        with other.intercept(credits.base_url):
            assert pool.request("GET", url, headers={"X-API-Key": other.api_key}).content == b'{"balance":9}'
        assert pool.connections == [connection]
        assert pool.request("GET", url, headers={"X-API-Key": credits.api_key}).content == b'{"balance":5}'


def test_it_holds_for_every_thread(credits: FakeCredits, send: Send) -> None:
    """One that was there before, and several at once: none loses a write."""
    go = threading.Event()
    statuses: list[int] = []

    def spend() -> None:
        go.wait(10)
        statuses.append(send(order(credits)).status)

    threads = [threading.Thread(target=spend) for _ in range(4)]
    for thread in threads:
        thread.start()
    with credits.intercept(URL):
        go.set()
        for thread in threads:
            thread.join()
    assert statuses == [201] * 4
    assert credits.balance() == 1


def test_two_threads_begin_and_end_as_they_like() -> None:
    """The libraries are patched while any interception is open, whoever opened it."""
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with FakeCredits(balance=number) as fake:
                for _ in range(20):
                    with fake.intercept(f"{URL}/{number}"):
                        answer = SENDS["urllib3"](balance(fake, f"{URL}/{number}"))
                        assert answer.body == b'{"balance":%d}' % number
        except BaseException as error:  # noqa: BLE001 - it is the main thread that fails
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_who_patches_on_top_stays_and_what_is_below_does_nothing(credits: FakeCredits) -> None:
    """An instrumentation may come in between: its wrapper is not thrown away, and still reaches the library."""
    pool = urllib3.HTTPConnectionPool
    original: Any = pool.urlopen
    seen: list[str] = []
    interception = credits.intercept(URL)
    below: Any = pool.urlopen

    def urlopen(self: Any, method: str, url: str, *args: Any, **words: Any) -> Any:
        seen.append(method)
        return below(self, method, url, *args, **words)

    pool.urlopen = urlopen  # type: ignore[method-assign]
    try:
        SENDS["urllib3"](balance(credits))
        interception.close()
        assert pool.urlopen is urlopen
        assert SENDS["urllib3"](balance(credits, credits.base_url)).status == 200
        assert seen == ["GET", "GET"]
    finally:
        pool.urlopen = original  # type: ignore[method-assign]


def test_nothing_to_intercept_is_refused(credits: FakeCredits) -> None:
    """Such as ``intercept(*urls)`` with a setting that is empty: it would let every request out."""
    with pytest.raises(ValueError, match=r"needs a base URL, such as https://credits\.internal"):
        credits.intercept()


def test_one_that_is_over_is_not_entered_again(credits: FakeCredits) -> None:
    interception = credits.intercept(URL)
    with interception:
        pass
    with pytest.raises(
        RuntimeError, match=r"<Interception: https://credits\.internal> is over: call credits\.intercept\("
    ):
        interception.__enter__()


def test_the_sandbox_tells_what_is_intercepted_now(credits: FakeCredits) -> None:
    with credits.intercept("https://Credits.Internal:443/"), credits.intercept(DEAD):
        assert list(credits.intercepted) == [URL, DEAD]
    assert list(credits.intercepted) == []


def test_a_sandbox_that_is_dropped_intercepts_no_more_and_says_so() -> None:
    with pytest.warns(ResourceWarning, match=r"interception of https://credits\.internal was dropped without close"):
        FakeCredits(balance=1).intercept(URL)
    assert "none" in repr(INTERCEPTION_REGISTRY)


@pytest.mark.slow
def test_one_that_is_held_outlives_its_dropped_sandbox(send: Send) -> None:
    """As in ``with FakeCredits().intercept(URL)``: the block is not over."""
    fake = FakeCredits(balance=1)
    ask = balance(fake)
    with fake.intercept(URL):
        del fake
        gc.collect()
        assert send(ask).status == 200


def test_one_that_is_dropped_while_another_begins_is_removed_by_that_one(credits: FakeCredits) -> None:
    """A finalizer runs in any thread at any time: so it waits for no lock, which its own thread may hold."""
    switchboard = InterceptionRegistry()
    with credits.intercept(URL):
        (route,) = own(INTERCEPTION_REGISTRY)["_routes"].active
    switchboard.add([route])
    with own(switchboard)["_lock"]:
        switchboard.remove_finalized([route])
        assert URL in repr(switchboard)
    switchboard.add([])
    assert "none" in repr(switchboard)


def test_its_repr_names_the_urls(credits: FakeCredits) -> None:
    with credits.intercept(URL, "http://a.internal:81/b/") as interception:
        assert repr(interception) == "<Interception: https://credits.internal, http://a.internal:81/b>"
        assert "https://credits.internal, http://a.internal:81/b" in repr(INTERCEPTION_REGISTRY)


def test_the_readme_has_a_row_for_every_library_that_is_tested_here() -> None:
    table = README.partition("| library | where the request is taken |")[2].partition("\n\n")[0]
    listed = {name for row in table.splitlines()[2:] for name in row.split("|")[1].strip().split(", ")}
    assert listed == {name.partition(",")[0] for name in SENDS}
