"""In-memory streams that HTTP libraries write requests to, and a parser that applies the live server's rules."""

import asyncio
import errno
import os
import re
from collections.abc import Awaitable, Callable
from typing import Any

import httptools

from fake_credits.api.access import HostPolicy
from fake_credits.errors import MalformedRequest
from fake_credits.http_message import Headers, Request, Response, status_line
from fake_credits.transports.framing import (
    MAX_HEAD_BYTES,
    ReceivedRequest,
    expects_continue,
    has_body,
    received_head,
    replay_framing,
)

HeaderField = tuple[bytes, bytes]

CONTINUE_RESPONSE = b"HTTP/1.1 100 Continue\r\n\r\n"
_AUTHORITY_PATTERN = re.compile(rb"^https?://[^/?]*")


def origin_form(target: bytes) -> bytes:
    """Return a target's path and query; the target may be a full URL (RFC 9112, section 3.2.2)."""
    return target if target.startswith(b"/") else _AUTHORITY_PATTERN.sub(b"", target, count=1)


def response_bytes(response: Response) -> bytes:
    """Return the bytes of a response on the wire; if the response was cut off, only those that were sent."""
    if not response.status:
        return response.body
    lines = [b"%b: %b\r\n" % header for header in response.headers]
    return b"%b%b\r\n%b" % (status_line(response.status), b"".join(lines), response.body)


def connection_reset_error() -> ConnectionResetError:
    """Return the error that a socket raises after an RST."""
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))


class RequestParser:
    """A parser for the successive requests that a client writes to one connection.

    Any host is accepted, because the application chose the base URL, but a Host header is required.
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
        """Parse data, and return the request if it is now complete or known to be unreadable, else None."""
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
            self._received = self._head  # rejected before its body arrives
        self._ignores_input = self._is_unreadable
        return self._received

    def unfinished(self) -> ReceivedRequest | None:
        """Return the request whose body is still incomplete, if any."""
        return self._head

    @property
    def awaits_continue(self) -> bool:
        """Return whether the client is waiting for 100 Continue before it sends the body."""
        return self._head is not None and not self._body and expects_continue(self._head.request.headers)

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:  # RFC 9110, section 7.8: a server may ignore Upgrade
            self._parser = httptools.HttpRequestParser(self)
            if self._head is not None:
                self._read_body_after_upgrade(self._head, data[upgrade.args[0] :])

    def _read_body_after_upgrade(self, head: ReceivedRequest, data: bytes) -> None:
        """Parse a body that the previous parser skipped, expecting data in another protocol."""
        self._replays_head = True
        replay_framing(self._parser, head.request.headers)
        self._replays_head = False
        self._parser.feed_data(data)

    # ------------------------------------------------------------ the parser's callbacks

    def on_url(self, url: bytes) -> None:
        """Add part of the target."""
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
        size = len(self._target) + sum(len(name) + len(value) for name, value in self._headers)
        self._head = ReceivedRequest(
            *received_head(self._parser, self._target, self._headers, self._host_policy, size > MAX_HEAD_BYTES)
        )
        self._is_unreadable = self._head.error is not None and not self._head.keeps_alive

    def on_body(self, body: bytes) -> None:
        """Add part of the body."""
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


class WrittenRequest:
    """A request that a library writes to memory; it is parsed according to the live server's rules."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Add part of the request."""
        self._chunks.append(bytes(data))

    def received(self, timeout_s: float | None = None) -> ReceivedRequest:
        """Return the request, with ``timeout_s`` as its timeout; the body is None if it is still incomplete."""
        parser = RequestParser()
        received = parser.feed(b"".join(self._chunks)) or parser.unfinished()
        if received is None:
            raise RuntimeError("the response was read before a request was written")
        received.request.timeout_s = timeout_s
        return received


class _BaseMemoryStream:
    """A connected stream that computes its response on the first read."""

    def __init__(self, httpcore: Any) -> None:
        self._httpcore = httpcore
        self._written = WrittenRequest()
        self._unread: bytes | None = None
        self.response: Response | None = None

    def _next_chunk(
        self,
        response: Response,
        max_bytes: int,
        reset_error: Callable[[], Exception],
        timeout_error: Callable[[], Exception],
    ) -> bytes:
        """Return the next part, or b"" at the end; after a reset or timeout, raise the error a network stream would."""
        unread = response_bytes(response) if self._unread is None else self._unread
        chunk, self._unread = unread[:max_bytes], unread[max_bytes:]
        if not chunk and response.outcome == "reset":
            error = reset_error()
            raise self._httpcore.ReadError(error) from error
        if not chunk and response.outcome == "timeout":
            error = timeout_error()
            raise self._httpcore.ReadTimeout(error) from error
        return chunk

    def get_extra_info(self, _info: str) -> None:
        """Return None for everything, because there is no socket."""


class MemoryStream(_BaseMemoryStream):
    """The stream for a sync connection."""

    def __init__(self, httpcore: Any, respond: Callable[[WrittenRequest], Response]) -> None:
        super().__init__(httpcore)
        self._respond = respond

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return the next part of the response."""
        response = self.response = self.response or self._respond(self._written)
        return self._next_chunk(response, max_bytes, connection_reset_error, lambda: TimeoutError("timed out"))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Add part of the request."""
        self._written.write(buffer)

    def close(self) -> None:
        """Do nothing, because there is no socket."""


class AsyncMemoryStream(_BaseMemoryStream):
    """The stream for an async connection, on asyncio or trio."""

    def __init__(self, httpcore: Any, respond: Callable[[WrittenRequest], Awaitable[Response]]) -> None:
        super().__init__(httpcore)
        self._respond = respond

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return the next part of the response."""
        response = self.response = self.response or await self._respond(self._written)
        return self._next_chunk(response, max_bytes, _async_reset_error, _async_timeout_error)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Add part of the request."""
        self._written.write(buffer)

    async def aclose(self) -> None:
        """Do nothing, because there is no socket."""


def _async_reset_error() -> Exception:
    """Return the error that network streams raise after an RST: anyio's on asyncio, trio's on trio."""
    reset = connection_reset_error()
    if _is_asyncio_running():
        import anyio

        error: Exception = anyio.BrokenResourceError()
    else:
        import trio

        error = trio.BrokenResourceError(f"socket connection broken: {reset}")
    error.__cause__ = reset
    return error


def _async_timeout_error() -> Exception:
    """Return the error that network streams raise on a timeout: asyncio's on asyncio, trio's on trio."""
    if _is_asyncio_running():
        return TimeoutError()
    import trio

    return trio.TooSlowError()


def _is_asyncio_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
