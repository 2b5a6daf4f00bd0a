"""Test that odd requests have the same outcome in process as over a socket: status or exception, and balance."""

import asyncio
import io
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import closing
from typing import Any, NamedTuple

import aiohttp
import httpx
import httpx2
import pytest
import requests
import trio
import urllib3
from multidict import CIMultiDict
from urllib3.util import SKIP_HEADER

from fake_credits.api.app import create_app
from fake_credits.client.server import ServerClient
from fake_credits.fake import FakeCredits
from fake_credits.http_message import http_date
from fake_credits.transports.in_process import IN_PROCESS_BASE_URL, InProcessDriver, InProcessTransport
from tests.intercept.libraries import BALANCE, TIMEOUT_S, TRANSACTION_BODY, TRANSACTIONS

URL = "http://credits.internal"
KEY = "fake_credits_key_strict"
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
SHORT_TIMEOUT_S = 0.05
"""How long a client waits for the response to a body that never ends."""

Text = str | bytes
Body = bytes | list[bytes] | None


class Row(NamedTuple):
    """An odd request; ``headers`` are added to those of a valid one, or replace them."""

    method: str = "POST"
    path: str = TRANSACTIONS
    headers: tuple[tuple[Text, Text], ...] = ()
    body: Body = TRANSACTION_BODY
    key: Text | None = KEY
    target: bytes | None = None
    """The target that httpx sends regardless of the URL."""

    def all_headers(self) -> list[tuple[Text, Text]]:
        replaced = {_text(name).lower() for name, _ in self.headers}
        common: list[tuple[Text, Text]] = [] if self.key is None else [("X-API-Key", self.key)]
        if self.body is not None:
            common.append(("Content-Type", "application/json"))
        return [*(field for field in common if _text(field[0]).lower() not in replaced), *self.headers]


def _text(text: Text) -> str:
    return text.decode("latin-1") if isinstance(text, bytes) else text


def header(name: Text, value: Text) -> Row:
    return Row(headers=((name, value),))


def get(path: str, **fields: Any) -> Row:
    return Row("GET", path, body=None, **fields)


def order_of(size: int) -> bytes:
    """Return a transaction body padded with spaces to the given size in bytes."""
    return TRANSACTION_BODY + b" " * (size - len(TRANSACTION_BODY))


ROWS: Mapping[str, Row] = {
    # ordinary requests, which must not be rejected
    "a plain POST": Row(),
    "a plain GET": get(BALANCE),
    # names
    "a name with a space": header("X Note", "a"),
    "a name with a trailing space": header("X-Note ", "a"),
    "a name with a leading space": header(" X-Note", "a"),
    "a name with a tab": header("X\tNote", "a"),
    "a name with a colon": header("X:Note", "a"),
    "a name with a line end": header("X\r\nNote", "a"),
    "a name with a NUL": header("X\0Note", "a"),
    "a name with a control character": header("X\x01Note", "a"),
    "an empty name": header("", "a"),
    "a name in latin-1": header("X-N\xf6te".encode("latin-1"), "a"),
    "a name in UTF-8": header("X-N\u00f6te".encode(), "a"),
    "a name in brackets": header("X(Note)", "a"),
    "a name with every token character": header("X!#$%&'*+-.^_`|~9", "a"),
    # values
    "a key with a trailing space": Row(key=KEY + " "),
    "a key with a leading space": Row(key=" " + KEY),
    "a key with a trailing tab": Row(key=KEY + "\t"),
    "a key with a line end": Row(key=KEY + "\n"),
    "a key with a carriage return": Row(key=KEY + "\r"),
    "a key with CR LF": Row(key=KEY + "\r\n"),
    "a key with a NUL": Row(key=KEY + "\0"),
    "an empty key": Row(key=""),
    "a value of spaces": header("X-Note", "  "),
    "a value with a tab inside": header("X-Note", "a\tb"),
    "a value with a space inside": header("X-Note", "a  b"),
    "a value with a control character": header("X-Note", "a\x01b"),
    "a value with a DEL": header("X-Note", "a\x7fb"),
    "a value with a vertical tab": header("X-Note", "a\x0bb"),
    "a value with a header in it": header("X-Note", "a\r\nX-Other: b"),
    "a value with a folded line": header("X-Note", "a\r\n b"),
    "a value in latin-1": header("X-Note", "\xe4".encode("latin-1")),
    "a value in UTF-8": header("X-Note", "\u20ac".encode()),
    "an empty value": header("X-Note", ""),
    "a cookie": header("Cookie", "a=b; c=d"),
    "a cookie with odd characters": header("Cookie", 'a="b,c"; d=\\'),
    # lengths
    "a length that is too small": header("Content-Length", "5"),
    "a length that is too large": header("Content-Length", "40"),
    "a length of 0": header("Content-Length", "0"),
    "a length with a sign": header("Content-Length", "+31"),
    "a negative length": header("Content-Length", "-1"),
    "a length in words": header("Content-Length", "many"),
    "an empty length": header("Content-Length", ""),
    "a list of equal lengths": header("Content-Length", f"{len(TRANSACTION_BODY)}, {len(TRANSACTION_BODY)}"),
    "a list of lengths": header("Content-Length", f"{len(TRANSACTION_BODY)}, 5"),
    "equal lengths": Row(
        headers=(("Content-Length", f"{len(TRANSACTION_BODY)}"), ("Content-Length", f"{len(TRANSACTION_BODY)}"))
    ),
    "two lengths": Row(headers=(("Content-Length", f"{len(TRANSACTION_BODY)}"), ("Content-Length", "5"))),
    "a length with leading zeros": header("Content-Length", f"000{len(TRANSACTION_BODY)}"),
    "a length that says chunked": header("Content-Length", "chunked"),
    "an empty length of no body": get(BALANCE, headers=(("Content-Length", ""),)),
    "a length of no body": get(BALANCE, headers=(("Content-Length", "0"),)),
    "a length of 30 digits": header("Content-Length", "9" * 30),
    # framing
    "a body in chunks": Row(body=[TRANSACTION_BODY[:5], TRANSACTION_BODY[5:]]),
    "a transfer coding": header("Transfer-Encoding", "chunked"),
    "a coding in capitals": Row(headers=(("Transfer-Encoding", "CHUNKED"),), body=[TRANSACTION_BODY]),
    "an unknown coding": header("Transfer-Encoding", "gzip"),
    "two codings": header("Transfer-Encoding", "gzip, chunked"),
    "the identity coding": header("Transfer-Encoding", "identity"),
    "an empty coding": header("Transfer-Encoding", ""),
    "chunked twice": Row(
        headers=(("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")), body=[TRANSACTION_BODY]
    ),
    "a coding and a length": Row(
        headers=(("Transfer-Encoding", "chunked"), ("Content-Length", f"{len(TRANSACTION_BODY)}"))
    ),
    "a trailer announced": header("Trailer", "X-Note"),
    "an expectation": header("Expect", "100-continue"),
    "another expectation": header("Expect", "200-ok"),
    "a connection that closes": header("Connection", "close"),
    "an upgrade": Row(headers=(("Connection", "Upgrade"), ("Upgrade", "h2c"))),
    "an upgrade without a body": get(BALANCE, headers=(("Connection", "Upgrade"), ("Upgrade", "websocket"))),
    "an odd connection": header("Connection", "keep-alive, X-Note"),
    # methods
    "a method in lower case": Row("post"),
    "an unknown method": Row("FOO"),
    "an empty method": Row(""),
    "a method with a space": Row("GET /"),
    "a method with a line end": Row("GET\r\n"),
    "a method in UTF-8": Row("G\u00cbT"),
    "HEAD": Row("HEAD", BALANCE, body=None),
    "OPTIONS": Row("OPTIONS", BALANCE, body=None),
    "TRACE": Row("TRACE", BALANCE, body=None),
    "QUERY": Row("QUERY", BALANCE, body=None),
    "CONNECT": Row("CONNECT", BALANCE, body=None),
    "PUT": Row("PUT"),
    "DELETE without a body": Row("DELETE", BALANCE, body=None),
    # targets
    "a path with a space": get(BALANCE + " a"),
    "a path with an escaped space": get(BALANCE + "%20a"),
    "a fragment": get(BALANCE + "#part"),
    "a path outside ASCII": get(BALANCE + "/\u20ac"),
    "a path with dots": get("/v1/../v1" + BALANCE[3:]),
    "a path with escaped dots": get("/v1/%2e%2e/v1" + BALANCE[3:]),
    "a path with two slashes": get("/v1/" + BALANCE[3:]),
    "a path that starts with two slashes": get("/" + BALANCE),
    "a path with a broken escape": get(BALANCE + "%zz"),
    "a path with a NUL": get(BALANCE + "%00"),
    "a path with a line end": get(BALANCE + "\r\nX-Note: a"),
    "a query outside ASCII": get(BALANCE + "?a=\u20ac"),
    "a query with odd characters": get(BALANCE + '?a=<b>&c="d"|{e}\\^`'),
    "a target of 70 KB": get(BALANCE + "?a=" + "x" * 70_000),
    "a raw target with a space": get(BALANCE, target=BALANCE.encode() + b" a"),
    "a raw target with a fragment": get(BALANCE, target=BALANCE.encode() + b"#a"),
    "a raw target in UTF-8": get(BALANCE, target=BALANCE.encode() + "\u20ac".encode()),
    "a raw target with dots": get(BALANCE, target=b"/v1/.." + BALANCE.encode()),
    "a raw target without a slash": get(BALANCE, target=BALANCE.encode()[1:]),
    "a raw target that is a star": get(BALANCE, target=b"*"),
    # sizes
    "a header of 70 KB": header("X-Note", "x" * 70_000),
    "a header of 40 KB": header("X-Note", "x" * 40_000),
    "300 headers": Row(headers=tuple((f"X-Note-{number}", "a") for number in range(300))),
    "a body of 65,536 bytes": Row(body=order_of(65_536)),
    "a body of 65,537 bytes": Row(body=order_of(65_537)),
    "a body on GET": Row("GET", BALANCE),
    "a body of 65,537 bytes on GET": Row("GET", BALANCE, body=order_of(65_537)),
    "an empty body": Row(body=b""),
    "no body": Row(headers=(("Content-Type", "application/json"),), body=None),
    # Host
    "a Host with a space": header("Host", "local host"),
    "an empty Host": header("Host", ""),
    "a Host with a path": header("Host", "localhost/a"),
    "a Host with a user": header("Host", "a@localhost"),
    "two Hosts": Row(headers=(("Host", "localhost"), ("Host", "localhost"))),
    "another Host": header("Host", "other.example"),
    "no Host, in urllib3": header("Host", SKIP_HEADER),
}

_ANY_HOST = "in process the sandbox stands for any host that the application was configured with"

DIFFERENCES: Mapping[tuple[str, str], str] = {
    (row, library): reason
    for row, libraries, reason in (("another Host", "httpx httpx2 requests urllib3 aiohttp", _ANY_HOST),)
    for library in libraries.split()
}
"""The rows with a different outcome in process, each with the reason."""

ASYNC_ROWS = (
    "a plain POST",
    "a key with a trailing space",
    "a length that is too small",
    "a value with a DEL",
    "two Hosts",
)
HEADER_ROWS: Mapping[str, Row] = {
    **{name: ROWS[name] for name in ("a plain GET", "a plain POST", "HEAD", "DELETE without a body")},
    "a connection that closes": ROWS["a connection that closes"],
    "an unknown path": get("/v1/nothing"),
    "a Host with a space": get(BALANCE, headers=(("Host", "local host"),)),
    "an unknown method": Row("FOO", BALANCE, body=None),
    "a path of the fake": get("/_fake/livez"),
    "no credential": get(BALANCE, key=None),
}


def by_httpx(library: Any, base_url: str, row: Row, transport: Any = None) -> int:
    with library.Client(timeout=_timeout_s(row), verify=TLS, transport=transport, trust_env=False) as client:
        content = iter(row.body) if isinstance(row.body, list) else row.body
        extensions = {} if row.target is None else {"target": row.target}
        response = client.request(
            row.method, base_url + row.path, headers=row.all_headers(), content=content, extensions=extensions
        )
        return int(response.status_code)


def by_requests(base_url: str, row: Row) -> int:
    data: Any = iter(row.body) if isinstance(row.body, list) else row.body
    with requests.Session() as session:
        session.trust_env = False
        headers: Any = dict(row.all_headers())
        response = session.request(
            row.method, base_url + row.path, headers=headers, data=data, timeout=TIMEOUT_S, allow_redirects=False
        )
        return response.status_code


def by_urllib3(base_url: str, row: Row) -> int:
    headers: Any = urllib3.HTTPHeaderDict()
    for name, value in row.all_headers():
        headers.add(name, value)
    body: Any = io.BytesIO(b"".join(row.body)) if isinstance(row.body, list) else row.body
    with urllib3.PoolManager(retries=False, timeout=_timeout_s(row)) as pools:
        return pools.request(row.method, base_url + row.path, headers=headers, body=body).status


def by_aiohttp(base_url: str, row: Row) -> int:
    async def stream(chunks: list[bytes]) -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async def main() -> int:
        headers = CIMultiDict([(_text(name), _text(value)) for name, value in row.all_headers()])
        data = stream(row.body) if isinstance(row.body, list) else row.body
        timeout = aiohttp.ClientTimeout(sock_read=_timeout_s(row))
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(row.method, base_url + row.path, headers=headers, data=data) as response,
        ):
            await response.read()
            return response.status

    return asyncio.run(main())


def _timeout_s(row: Row) -> float:
    return SHORT_TIMEOUT_S if row is ROWS["a length that is too large"] else TIMEOUT_S


async def by_async_httpx(library: Any, base_url: str, row: Row, transport: Any = None) -> int:
    async with library.AsyncClient(timeout=_timeout_s(row), verify=TLS, transport=transport, trust_env=False) as client:
        response = await client.request(row.method, base_url + row.path, headers=row.all_headers(), content=row.body)
        return int(response.status_code)


Send = Callable[[str, Row], int]

SENDS: Mapping[str, Send] = {
    "httpx": lambda base_url, row: by_httpx(httpx, base_url, row),
    "httpx2": lambda base_url, row: by_httpx(httpx2, base_url, row),
    "requests": by_requests,
    "urllib3": by_urllib3,
    "aiohttp": by_aiohttp,
}


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeCredits]:
    with FakeCredits(balance=5, api_key=KEY, delays="virtual") as fake:
        fake.serve()
        yield fake


def transport_for(fake: FakeCredits, library: str) -> Any:
    return fake.transport("httpx") if library == "httpx" else fake.transport("httpx2")


def end_of(fake: FakeCredits, send: Callable[[], int]) -> tuple[object, int]:
    """Return the status or the exception's type, and the balance afterwards."""
    fake.reset()
    try:
        result: object = send()
    except Exception as error:  # noqa: BLE001 - whatever it is, it has to be the same
        result = type(error)
    return result, fake.sandbox.ledger.get_account(fake.application_id, fake.user_id).balance


CASES = [
    pytest.param(library, name, id=f"{library}-{name}")
    for library in SENDS
    for name, row in ROWS.items()
    if row.target is None or library in ("httpx", "httpx2")
]


@pytest.mark.parametrize(("library", "name"), CASES)
def test_odd_request_has_same_outcome_as_on_socket(fake: FakeCredits, library: str, name: str) -> None:
    row, send = ROWS[name], SENDS[library]
    live = end_of(fake, lambda: send(fake.base_url, row))
    with fake.intercept(URL):
        ends = [end_of(fake, lambda: send(URL, row))]
    if library in ("httpx", "httpx2"):
        module: Any = httpx if library == "httpx" else httpx2
        transport = transport_for(fake, library)
        ends.append(end_of(fake, lambda: by_httpx(module, URL, row, transport)))
    if (name, library) in DIFFERENCES:
        assert all(end != live for end in ends), "the reason for a difference no longer holds"
    else:
        assert ends == [live] * len(ends)


# httpx leaves the request's body partly read, both over the network and in process, and trio emits a warning.
@pytest.mark.filterwarnings("ignore:.*async_generator object ByteStream:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", ASYNC_ROWS)
@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_odd_async_request_has_same_outcome_as_on_socket(fake: FakeCredits, library: Any, name: str, loop: str) -> None:
    def run(main: Coroutine[Any, Any, int]) -> int:
        return asyncio.run(main) if loop == "asyncio" else trio.run(lambda: main)

    row = ROWS[name]
    live = end_of(fake, lambda: run(by_async_httpx(library, fake.base_url, row)))
    with fake.intercept(URL):
        intercepted = end_of(fake, lambda: run(by_async_httpx(library, URL, row)))
    transport = transport_for(fake, library.__name__)
    in_process = end_of(fake, lambda: run(by_async_httpx(library, URL, row, transport)))
    assert intercepted == in_process == live


@pytest.mark.parametrize("key", [KEY + " ", " " + KEY, KEY + "\n", KEY + "\0", KEY + "\x7f", "", "\u20ac", "\xe4"])
def test_odd_key_in_our_client_has_same_outcome_as_on_socket(fake: FakeCredits, key: str) -> None:
    def spend(base_url: str, transport: Any) -> int:
        client = ServerClient(base_url, key, transport=transport)
        with closing(client):
            return client.create_transaction("app-id", "user-id", delta=-1, reason="consume").delta

    live = end_of(fake, lambda: spend(fake.base_url, None))
    in_process = InProcessTransport(InProcessDriver(create_app(fake.sandbox.contract), fake.sandbox))
    assert end_of(fake, lambda: spend(IN_PROCESS_BASE_URL, in_process)) == live


def header_names(library: str, base_url: str, row: Row, transport: Any = None) -> list[str]:
    """Return the names of a response's headers in order, as the library shows them."""
    url, headers = base_url + row.path, [(_text(name), _text(value)) for name, value in row.all_headers()]
    body: Any = row.body
    if library == "requests":
        return list(requests.request(row.method, url, headers=dict(headers), data=body, timeout=TIMEOUT_S).headers)
    if library == "urllib3":
        with urllib3.PoolManager(retries=False) as pools:
            return list(pools.request(row.method, url, headers=dict(headers), body=body).headers)
    if library == "aiohttp":

        async def main() -> list[str]:
            async with (
                aiohttp.ClientSession() as session,
                session.request(row.method, url, headers=headers, data=body) as response,
            ):
                return list(response.headers)

        return asyncio.run(main())
    module: Any = httpx if library == "httpx" else httpx2
    with module.Client(verify=TLS, transport=transport, trust_env=False) as client:
        response = client.request(row.method, url, headers=headers, content=body)
        return [name.decode() for name, _ in response.headers.raw]


@pytest.mark.parametrize("name", HEADER_ROWS)
@pytest.mark.parametrize("library", SENDS)
def test_response_headers_and_their_order_are_the_same_as_live(fake: FakeCredits, library: str, name: str) -> None:
    row = HEADER_ROWS[name]
    fake.reset()
    live = header_names(library, fake.base_url, row)
    with fake.intercept(URL):
        assert header_names(library, URL, row) == live
    if library in ("httpx", "httpx2"):
        assert header_names(library, URL, row, transport_for(fake, library)) == live


@pytest.mark.parametrize("path", [BALANCE, "/_fake/livez"])
def test_in_process_date_header_uses_sandbox_clock(path: str) -> None:
    with FakeCredits(balance=5, clock="frozen") as fake, httpx2.Client(transport=fake.transport("httpx2")) as client:
        fake.clock.advance(days=400)
        date = client.get(URL + path).headers["date"]
        assert date == http_date(fake.sandbox.clock.now_ms() // 1000).decode()
