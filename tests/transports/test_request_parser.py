"""Test the in-memory request parser: whole requests, requests in pieces, and those that the live server rejects."""

import pytest

from fake_credits.http_message import Request
from fake_credits.transports.framing import ReceivedRequest
from fake_credits.transports.memory_stream import RequestParser

GET = b"GET /v1/users?cursor=a HTTP/1.1\r\nHost: credits.internal\r\nX-API-Key:  key \r\n\r\n"
POST = b"POST /v1 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"PUT /v1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;note=1\r\nlo\r\n0\r\n\r\n"

REQUESTS = {
    "without a body": (
        GET,
        Request("GET", b"/v1/users?cursor=a", [(b"host", b"credits.internal"), (b"x-api-key", b"key")], b""),
    ),
    "with a length": (POST, Request("POST", b"/v1", [(b"host", b"h"), (b"content-length", b"5")], b"hello")),
    "in chunks": (CHUNKED, Request("PUT", b"/v1", [(b"host", b"h"), (b"transfer-encoding", b"chunked")], b"hello")),
    "for a proxy": (
        b"GET http://credits.internal:81/v1?a=b HTTP/1.1\r\nA: b\r\n\r\n",
        Request("GET", b"/v1?a=b", [(b"host", b"credits.internal:81"), (b"a", b"b")], b""),
    ),
}


def parts(received: ReceivedRequest | Request | None) -> object:
    """Return the parts of a request, for comparison."""
    if received is None:
        return None
    request = received if isinstance(received, Request) else received.request
    return request.method, request.target, request.headers, request.body


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_read_whole(name: str) -> None:
    text, request = REQUESTS[name]
    assert parts(RequestParser().feed(text)) == parts(request)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_read_byte_by_byte(name: str) -> None:
    """The request is complete only after its last byte."""
    text, request = REQUESTS[name]
    reader = RequestParser()
    read = [parts(reader.feed(text[place : place + 1])) for place in range(len(text))]
    assert read == [None] * (len(text) - 1) + [parts(request)]


def test_several_requests_on_one_connection_are_read() -> None:
    reader = RequestParser()
    assert [reader.feed(text) is not None for text in (GET, POST, CHUNKED, GET)] == [True] * 4


def test_a_client_may_wait_for_100_continue_before_sending_its_body() -> None:
    reader = RequestParser()
    head = b"POST /v1 HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    assert not reader.awaits_continue
    assert reader.feed(head) is None
    assert reader.awaits_continue
    assert reader.feed(b"he") is None
    assert not reader.awaits_continue
    received = reader.feed(b"llo")
    assert received is not None
    assert received.request.body == b"hello"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"POST /v1 HTTP/1.1\r\n\r\n", "one Host header, not 0"),
        (b"GET /v1#a HTTP/1.1\r\nHost: h\r\n\r\n", "fragment"),
        (b"GET /v1 HTTP/2.0\r\nHost: h\r\n\r\n", "HTTP/2.0"),
        (b"FOO /v1 HTTP/1.1\r\nHost: h\r\n\r\n", "Invalid method"),
        (b"GET /v1 HTTP/1.1\r\nHost: h\r\nX: %b\r\n\r\n" % (b"x" * 70_000), "64 KiB"),
    ],
)
def test_a_request_that_the_live_server_refuses_is_refused_with_the_same_error(text: bytes, problem: str) -> None:
    received = RequestParser().feed(text)
    assert received is not None
    assert problem in str(received.error)


def test_a_body_after_an_ignored_upgrade_is_read() -> None:
    head = b"POST /v1 HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\n"
    received = RequestParser().feed(head + b"hello")
    assert received is not None
    assert (received.request.body, received.error) == (b"hello", None)
