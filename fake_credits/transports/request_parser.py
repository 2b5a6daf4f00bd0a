"""A parser with the live server's rules, for requests that a library writes to memory."""

import httptools

from fake_credits.api.access import HostPolicy
from fake_credits.errors import ApiError, MalformedRequest
from fake_credits.http_message import Headers, Request
from fake_credits.transports.framing import (
    FRAMING_HEADERS,
    MAX_HEAD_BYTES,
    ReceivedRequest,
    expects_continue,
    framing_error,
    has_body,
    normalize_target,
)

__all__ = ["RequestParser"]


class RequestParser:
    """A parser for the requests that a client writes to one connection, one after the other.

    Any host is accepted, as the application chose the base URL, but a Host header is required.
    """

    def __init__(self) -> None:
        self._parser: httptools.HttpRequestParser = httptools.HttpRequestParser(self)
        self._host_policy = HostPolicy(is_exposed=True)
        self._received: ReceivedRequest | None = None
        self._head: ReceivedRequest | None = None
        self._replays_head = self._is_unreadable = self._ignores_input = False
        self._start()

    def _start(self) -> None:
        self._target = b""
        self._headers: Headers = []
        self._body: list[bytes] = []

    def feed(self, data: bytes) -> ReceivedRequest | None:
        """Parse data, and return the request that it completes or makes unreadable, else None."""
        self._received = None
        if self._ignores_input:
            return None
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            if self._received is None:
                problem = MalformedRequest(f"malformed HTTP request: {error}")
                head = Request("", b"") if self._head is None else self._head.request
                self._received = ReceivedRequest(head, problem, keeps_alive=False)
                self._is_unreadable = True
        if self._received is None and self._head is not None and self._is_unreadable:
            self._received = self._head  # refused before its body arrives
        self._ignores_input = self._is_unreadable
        return self._received

    def unfinished(self) -> ReceivedRequest | None:
        """Return the request whose body is still incomplete, else None."""
        return self._head

    @property
    def awaits_continue(self) -> bool:
        """Return whether the client waits for 100 Continue before it sends the body."""
        return self._head is not None and not self._body and expects_continue(self._head.request.headers)

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:  # RFC 9110, section 7.8: a server may ignore Upgrade
            self._parser = httptools.HttpRequestParser(self)
            if self._head is not None:
                self._read_body_after_upgrade(self._head, data[upgrade.args[0] :])

    def _read_body_after_upgrade(self, head: ReceivedRequest, data: bytes) -> None:
        """Parse a body that the parser skipped, taking it for another protocol."""
        framing = next(field for field in head.request.headers if field[0] in FRAMING_HEADERS)
        self._replays_head = True
        self._parser.feed_data(b"POST / HTTP/1.1\r\nhost: x\r\n%b: %b\r\n\r\n" % framing)
        self._replays_head = False
        self._parser.feed_data(data)

    # ------------------------------------------------------------ the parser's callbacks

    def on_url(self, url: bytes) -> None:
        """Add a part of the target."""
        if not self._replays_head:
            self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header field. Trailers are dropped (RFC 9110, section 6.5.1)."""
        if self._head is None:
            self._headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """Validate the head."""
        if self._replays_head:
            return
        target, headers, version = self._target, self._headers, self._parser.get_http_version()
        size = len(target) + sum(len(name) + len(value) for name, value in headers)
        error: ApiError | None = framing_error(version, target, headers, is_large=size > MAX_HEAD_BYTES)
        self._is_unreadable = error is not None
        if error is None:
            if not target.startswith((b"/", b"*")):
                target, headers = normalize_target(target, headers)
            error = self._host_policy.host_error(b"/", headers)
        request = Request(self._parser.get_method().decode("ascii"), target, headers, None)
        keeps_alive = not self._is_unreadable and version == "1.1" and self._parser.should_keep_alive()
        self._head = ReceivedRequest(request, error, keeps_alive)

    def on_body(self, body: bytes) -> None:
        """Add a part of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Complete the request. A second request in the same data is ignored."""
        head = self._head
        if self._replays_head or head is None or (self._parser.should_upgrade() and has_body(head.request.headers)):
            return
        head.request.body = b"".join(self._body)
        if self._received is None:
            self._received = head
        self._head = None
        self._start()
