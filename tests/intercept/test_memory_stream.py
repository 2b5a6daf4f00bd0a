"""Test HTTP/1.1 in memory: requests as clients write them, whole and in pieces, and answers as far as they came."""

import pytest

from fake_credits.http_message import Request, Response
from fake_credits.intercept.memory_stream import RequestParser, origin_form, response_bytes

GET = b"GET /v1/users?cursor=a HTTP/1.1\r\nHost: credits.internal\r\nX-API-Key:  key \r\n\r\n"
POST = b"POST /v1 HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"PUT /v1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;note=1\r\nlo\r\n0\r\n\r\n"

REQUESTS = {
    "without a body": (
        GET,
        Request("GET", b"/v1/users?cursor=a", [(b"host", b"credits.internal"), (b"x-api-key", b"key")], b""),
    ),
    "with a length": (POST, Request("POST", b"/v1", [(b"content-length", b"5")], b"hello")),
    "in chunks": (CHUNKED, Request("PUT", b"/v1", [(b"transfer-encoding", b"chunked")], b"hello")),
    "for a proxy": (
        b"GET http://credits.internal:81/v1?a=b HTTP/1.1\r\nA: b\r\n\r\n",
        Request("GET", b"/v1?a=b", [(b"a", b"b")], b""),
    ),
}


def parts(request: Request | None) -> object:
    """Return what a request consists of, to compare."""
    return None if request is None else (request.method, request.target, request.headers, request.body)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_read_whole(name: str) -> None:
    text, request = REQUESTS[name]
    assert parts(RequestParser().feed(text)) == parts(request)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_read_byte_by_byte(name: str) -> None:
    """It is complete with its last byte, and not before."""
    text, request = REQUESTS[name]
    reader = RequestParser()
    read = [parts(reader.feed(text[place : place + 1])) for place in range(len(text))]
    assert read == [None] * (len(text) - 1) + [parts(request)]


def test_one_connection_has_many_requests() -> None:
    reader = RequestParser()
    assert [reader.feed(text) is not None for text in (GET, POST, CHUNKED, GET)] == [True] * 4


def test_a_client_may_wait_for_leave_to_send_its_body() -> None:
    reader = RequestParser()
    head = b"POST /v1 HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    assert not reader.awaits_continue
    assert reader.feed(head) is None
    assert reader.awaits_continue
    assert reader.feed(b"he") is None
    assert not reader.awaits_continue
    request = reader.feed(b"llo")
    assert request is not None
    assert request.body == b"hello"


@pytest.mark.parametrize(
    ("target", "form"),
    [
        (b"/v1", b"/v1"),
        (b"https://a.internal/v1?a=http://b/", b"/v1?a=http://b/"),
        (b"http://a.internal", b""),
        (b"http://a.internal?a", b"?a"),
        (b"/http://a/", b"/http://a/"),
    ],
)
def test_a_target_for_a_proxy_is_brought_to_its_usual_form(target: bytes, form: bytes) -> None:
    assert origin_form(target) == form


def test_an_answer_stands_on_the_wire_as_far_as_it_came() -> None:
    head = [(b"content-type", b"application/json"), (b"content-length", b"13")]
    text = b"HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n"
    assert response_bytes(Response(404, b'{"bal', head, outcome="reset")) == text + b'{"bal'
    assert response_bytes(Response(0, outcome="closed")) == b""
    assert response_bytes(Response(0, b"noise", outcome="garbage")) == b"noise"
