"""Test in-memory streams: targets, and responses that end early."""

import pytest

from fake_credits.http_message import Response
from fake_credits.transports.memory_stream import origin_form, response_bytes


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
def test_a_target_for_a_proxy_is_converted_to_origin_form(target: bytes, form: bytes) -> None:
    assert origin_form(target) == form


def test_only_the_sent_part_of_an_incomplete_response_is_encoded() -> None:
    head = [(b"content-type", b"application/json"), (b"content-length", b"13")]
    text = b"HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n"
    assert response_bytes(Response(404, b'{"bal', head, outcome="reset")) == text + b'{"bal'
    assert response_bytes(Response(0, outcome="closed")) == b""
    assert response_bytes(Response(0, b"noise", outcome="garbage")) == b"noise"
