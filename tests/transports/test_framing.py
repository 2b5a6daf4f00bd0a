"""Test the quick check for requests that every library sends unchanged."""

import pytest

from fake_credits.http_message import Headers, Request
from fake_credits.transports.framing import is_plain

HOST = (b"host", b"credits.internal:8080")


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([HOST, (b"x-api-key", b"key"), (b"connection", b"keep-alive"), (b"user-agent", b"a/1 (b)")], b""),
        ([HOST, (b"content-length", b"5")], b"hello"),
        ([HOST, (b"transfer-encoding", b"chunked")], b"hello"),
        ([HOST, (b"x-note", b"")], None),
    ],
)
def test_an_ordinary_request_is_plain(headers: Headers, body: bytes | None) -> None:
    assert is_plain(Request("POST", b"/v1?a=b", headers, body))


def test_a_request_without_host_is_plain_only_if_has_host_is_false() -> None:
    assert is_plain(Request("POST", b"/v1", [], b"hello"), has_host=False)
    assert not is_plain(Request("POST", b"/v1", [], b"hello"))


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [HOST, HOST],
        [(b"host", b"a b")],
        [HOST, (b"x-api-key", b"key ")],
        [HOST, (b"x-note", b"a\nx-other:b")],
        [HOST, (b"x-note", b"a\tb")],
        [HOST, (b"x-note", b"\xe4")],
        [HOST, (b"", b"a")],
        [HOST, (b"x note", b"a")],
        [HOST, (b"x-note:", b"a")],
        [HOST, (b"content-length", b"4")],
        [HOST, (b"content-length", b"chunked")],
        [HOST, (b"content-length", b"")],
        [HOST, (b"content-length", b"05")],
        [HOST, (b"transfer-encoding", b"gzip")],
        [HOST, (b"transfer-encoding", b"chunked"), (b"content-length", b"5")],
        [HOST, (b"connection", b"close")],
        [HOST, (b"expect", b"100-continue")],
        [HOST, (b"upgrade", b"h2c")],
        [HOST, (b"x-note", b"x" * 20_000)],
    ],
)
def test_a_request_with_unusual_headers_is_not_plain(headers: Headers) -> None:
    assert not is_plain(Request("POST", b"/v1", headers, b"hello"))


@pytest.mark.parametrize(
    ("method", "target"),
    [("FOO", b"/"), ("post", b"/"), ("GET", b"/a b"), ("GET", b"/#a"), ("GET", b"*"), ("GET", b"/\xe4"), ("GET", b"")],
)
def test_a_request_with_an_unusual_request_line_is_not_plain(method: str, target: bytes) -> None:
    assert not is_plain(Request(method, target, [HOST], b""))
