"""The live server's HTTP/1.1 protocol, with one queue of requests per connection.

A request that does not wait is served within the parser's callback; only a request that has to wait continues in a
task. Meanwhile, the requests behind it stay queued in order, and reading pauses while too much data is waiting.
"""

import asyncio
import logging
from collections import deque
from typing import Any

import httptools

from fake_credits.clock import monotonic_s
from fake_credits.errors import MalformedRequest
from fake_credits.http_message import AsgiMessage, Headers, Request, Response, http_scope, status_line
from fake_credits.transports.framing import MAX_HEAD_BYTES, has_body, received_head, replay_framing
from fake_credits.transports.live_connection import LiveConnection, ServerContext
from fake_credits.transports.sockets import KernelSocket, set_done
from fake_credits.transports.uvicorn_adapter import UvicornProtocol

_LOG = logging.getLogger("fake_credits.server")
_LOG.setLevel(logging.ERROR)  # uvicorn warns about unreadable requests, which are in the journal anyway

_MAX_FED_BYTES = 16 * 1024
_MAX_UNFED_BYTES = 64 * 1024
_MAX_DISCARDED_BYTES = 256 * 1024
_LINGER_TIMEOUT_S = 0.5
_FLUSH_POLL_INTERVAL_S = 0.0005


class CreditsProtocol(UvicornProtocol):
    """The HTTP/1.1 protocol for one connection; it serves requests one at a time, in order."""

    def __init__(
        self,
        *args: Any,
        server_context: ServerContext,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _LOG
        self.server_context = server_context
        self._queue: deque[LiveConnection] = deque()
        self._current: LiveConnection | None = None
        self._newest: LiveConnection | None = None
        self._unfed = bytearray()
        self._unparsed_bytes = 0
        self._in_head = self._replays_head = False
        self._is_feeding = False
        self._is_processing = False
        self._ignores_input = False
        self._discarded_bytes = 0

    # ------------------------------------------------------------ connection lifetime

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start a connection."""
        super().connection_made(transport)
        self.disconnected: asyncio.Future[bool] = self.loop.create_future()
        self.kernel_socket = KernelSocket(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection: drop the queued requests, and signal the disconnect to the current one."""
        self.kernel_socket.detach()
        super().connection_lost(exc)
        set_done(self.disconnected)
        self._queue.clear()
        self._unfed.clear()
        if self._current is not None:
            self._current.fail_body(MalformedRequest("the client disconnected before the body was complete"))

    def shutdown(self) -> None:
        """Close the connection once the request in progress, if any, has ended."""
        if self._current is None:
            self.transport.close()
        else:
            self._current.keeps_alive = False

    def resume_writing(self) -> None:
        """Resume serving the queue, now that the client is reading again."""
        super().resume_writing()
        self.restart_keep_alive_timer()
        self._process_queue()

    def finish_connection(self, *, is_received: bool) -> None:
        """Close the connection.

        If the client is still sending, first keep reading briefly so that it gets the response.
        """
        self._queue.clear()
        self._ignores_input = True
        if is_received or self.transport.is_closing():
            self.transport.close()
        else:
            self.set_reading(is_paused=False)
            self.loop.call_later(_LINGER_TIMEOUT_S, self.transport.close)
            # Over TLS, closing waits for the client's close_notify.
            self.loop.call_later(2 * _LINGER_TIMEOUT_S, self.transport.abort)

    async def wait_until_flushed(self, timeout_s: float) -> None:
        """Wait up to ``timeout_s`` for the peer's kernel to receive everything written.

        Await this before a reset, because an RST discards any data that is still unsent.
        """
        deadline_s = monotonic_s() + timeout_s
        while not self.disconnected.done() and (
            self.transport.get_write_buffer_size() or self.kernel_socket.unsent_bytes()
        ):
            if monotonic_s() > deadline_s:
                return
            await self.server_context.pending_waits.sleep(_FLUSH_POLL_INTERVAL_S, self.disconnected)

    # ------------------------------------------------------------ the queue

    def _process_queue(self) -> None:
        """Serve queued requests in order, until one waits or the client stops reading."""
        if self._is_processing:
            return
        self._is_processing = True
        try:
            while self._serve_next():
                pass
        finally:
            self._is_processing = False
        self._set_reading()

    def _serve_next(self) -> bool:
        """Serve the next request or parse held-back data; return whether there may be more to do."""
        if self.transport.is_closing() or self.is_write_paused:
            return False
        if self._current is None and self._queue:
            if self._is_feeding and not self._queue[0].is_received:
                return False  # the rest of the body may be in the same segment
            if self.is_read_paused and not self.kernel_socket.is_established():
                self.transport.abort()  # the client has disconnected, but its EOF follows data that is still unread
                return False
            self._current = self._queue.popleft()
            self._current.begin()
        elif self._unfed and not self._is_feeding and not self._has_backlog():
            data, self._unfed = bytes(self._unfed), bytearray()
            self._feed(data)
        else:
            return False
        return bool(self._queue or self._unfed)

    def _set_reading(self) -> None:
        """Pause reading while too much data is waiting. Otherwise keep reading, so that a disconnect is noticed."""
        is_paused = self.is_write_paused or len(self._unfed) > _MAX_UNFED_BYTES
        if is_paused != self.is_read_paused and not self.transport.is_closing() and not self._ignores_input:
            self.set_reading(is_paused=is_paused)

    def is_idle(self) -> bool:
        """Return whether no request is in progress and writing is not paused."""
        newest = self._newest
        is_between_requests = not self._in_head and (newest is None or newest.is_received)
        return is_between_requests and self._current is None and not self.is_write_paused

    def _has_backlog(self) -> bool:
        """Return whether further input must wait for its turn."""
        newest = self._newest
        if newest is not None and not newest.is_received:
            return newest is not self._current and len(newest.body) > MAX_HEAD_BYTES
        return bool(self._queue)

    def on_request_done(self, connection: LiveConnection) -> None:
        """Continue with the next request."""
        if connection is self._current:
            self._current = None
        self.restart_keep_alive_timer()
        self._process_queue()

    # ------------------------------------------------------------ reading

    def data_received(self, data: bytes) -> None:
        """Parse data from the client, or hold it back while requests wait."""
        if self._ignores_input:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > _MAX_DISCARDED_BYTES:
                self.transport.abort()
        elif self._unfed or self._has_backlog():
            self._unfed += data
            self._set_reading()
        else:
            self._feed(data)
            if self._queue or self._unfed:
                self._process_queue()

    def _feed(self, data: bytes) -> None:
        """Parse a segment in chunks, and hold back the remainder if a request has to wait."""
        self._is_feeding, position = True, 0
        try:
            while position < len(data) and not self._ignores_input and not self.transport.is_closing():
                position += self._feed_parser(data[position : position + _MAX_FED_BYTES])
                if position < len(data) and self._has_backlog():
                    self._unfed += data[position:]
                    return
        finally:
            self._is_feeding = False

    def _feed_parser(self, data: bytes) -> int:
        """Parse a chunk, and return how many bytes were parsed; the parser stops after an Upgrade."""
        self._unparsed_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:  # RFC 9110, section 7.8: a server may ignore Upgrade
            self._read_body_after_upgrade()
            return int(upgrade.args[0])
        except httptools.HttpParserError as error:
            self._refuse(MalformedRequest(f"malformed HTTP request: {error}"))
        if self._unparsed_bytes > MAX_HEAD_BYTES and not self._ignores_input:
            part = "head" if self._in_head else "data outside the body"
            self._refuse(MalformedRequest(f"malformed HTTP request: the {part} exceeds 64 KiB"))
        return len(data)

    def _read_body_after_upgrade(self) -> None:
        """Prepare a new parser for a body that the old one skipped as another protocol's data."""
        newest = self._newest
        if newest is None or newest.is_received:
            return
        if newest.error is not None:
            self._ignores_input = True  # the connection ends after the error response
            return
        self.new_parser()
        self._replays_head = True
        replay_framing(self.parser, newest.request.headers)
        self._replays_head = False

    def _refuse(self, error: MalformedRequest) -> None:
        """Queue an error response for unreadable input, and stop parsing."""
        self._ignores_input = True
        newest = self._newest
        if newest is not None and not newest.is_received:
            newest.fail_body(error)
            return
        refused = LiveConnection(self, Request("", b""), error)
        refused.is_received = True
        self._queue.append(refused)

    # ------------------------------------------------------------ the parser's callbacks

    def on_message_begin(self) -> None:
        """Start a request."""
        if self._replays_head:
            return
        self._in_head = True
        self.url = b""
        self.headers: Headers = []

    def on_url(self, url: bytes) -> None:
        """Add part of the target."""
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header field. Trailers are dropped (RFC 9110, section 6.5.1)."""
        if self._in_head:
            self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """Queue the request, whose body may still be incomplete."""
        if self._replays_head:
            return
        self._in_head = False
        # The number of bytes fed only approximates the head's size, so measure the head if it could be too large.
        method, target, headers = self.parser.get_method(), self.url, self.headers
        is_large = self._unparsed_bytes > MAX_HEAD_BYTES - _MAX_FED_BYTES and (
            _head_size(method, target, headers) > MAX_HEAD_BYTES
        )
        self._unparsed_bytes = 0
        if self._ignores_input or self.transport.is_closing():
            return
        host_policy = self.server_context.host_policy
        request, error, keeps_alive = received_head(self.parser, target, headers, host_policy, is_large)
        newest = self._newest = LiveConnection(self, request, error, keeps_alive)
        newest.accepts_continue = self.parser.get_http_version() == "1.1"
        self._queue.append(newest)

    def on_body(self, body: bytes) -> None:
        """Add part of the body."""
        self._unparsed_bytes = 0
        if self._newest is not None and not self._ignores_input:
            self._newest.add_body(body)

    def on_message_complete(self) -> None:
        """Complete a request, and serve it if it is next."""
        newest = self._newest
        if newest is None or self._ignores_input:
            return
        if self.parser.should_upgrade() and not self._replays_head and has_body(newest.request.headers):
            return  # the parser skips the body; see _read_body_after_upgrade()
        self._unparsed_bytes = 0
        newest.receive_all()
        self._process_queue()

    # ------------------------------------------------------------ writing

    def head(self, response: Response, *, close: bool) -> bytes:
        """Return the head of a response."""
        return response.head(self.date, close=close)

    def raw_head(self, response: Response, *, close: bool) -> bytes:
        """Return the head of a response, adding only Date if it is missing and ``Connection: close`` if requested."""
        has_date = any(name.lower() == b"date" for name, _ in response.headers)
        headers = response.headers if has_date else [(b"date", self.date), *response.headers]
        lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        return status_line(response.status) + lines + (b"connection: close\r\n\r\n" if close else b"\r\n")

    def scope_of(self, request: Request) -> AsgiMessage:
        """Return the ASGI scope for a request to one of the fake's own paths."""
        return http_scope(request, scheme=self.scheme, server=self.server, client=self.client)


def _head_size(method: bytes, target: bytes, headers: Headers) -> int:
    """Return the size of a head in bytes, counting one space after each colon but no other optional whitespace."""
    return (
        len(method)
        + len(target)
        + len("  HTTP/1.1\r\n\r\n")
        + sum(len(name) + len(value) + 4 for name, value in headers)
    )
