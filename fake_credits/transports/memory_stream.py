"""In-memory streams: httpcore writes requests to a sandbox and reads its responses."""

import asyncio
import errno
import os
import re
from collections.abc import Awaitable, Callable
from typing import Any

from fake_credits.http_message import Response, status_line
from fake_credits.transports.framing import ReceivedRequest

__all__ = [
    "CONTINUE_RESPONSE",
    "AsyncMemoryStream",
    "HeaderField",
    "MemoryStream",
    "WrittenRequest",
    "connection_reset_error",
    "origin_form",
    "response_bytes",
]

HeaderField = tuple[bytes, bytes]

CONTINUE_RESPONSE = b"HTTP/1.1 100 Continue\r\n\r\n"
_AUTHORITY_PATTERN = re.compile(rb"^https?://[^/?]*")


def origin_form(target: bytes) -> bytes:
    """Return the path and query of a target that may be in absolute form, as for a proxy (RFC 9112, 3.2.2)."""
    return target if target.startswith(b"/") else _AUTHORITY_PATTERN.sub(b"", target, count=1)


def response_bytes(response: Response) -> bytes:
    """Return the bytes of a response on the wire, or the part of it that was sent."""
    if not response.status:
        return response.body
    lines = [b"%b: %b\r\n" % header for header in response.headers]
    return b"%b%b\r\n%b" % (status_line(response.status), b"".join(lines), response.body)


def connection_reset_error() -> ConnectionResetError:
    """Return the error that a socket raises after an RST."""
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))


class WrittenRequest:
    """A request that a library writes to memory, to be parsed as the live server parses it."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Add a part of the request."""
        self._chunks.append(bytes(data))

    def received(self) -> ReceivedRequest:
        """Return the request; its body is None if part of the body is missing."""
        from fake_credits.transports.request_parser import RequestParser  # loads httptools, which few requests need

        parser = RequestParser()
        received = parser.feed(b"".join(self._chunks)) or parser.unfinished()
        if received is None:
            raise RuntimeError("the response was read before a request was written")
        return received


class _BaseMemoryStream:
    """A connected stream whose response comes from a function, called on the first read."""

    def __init__(self, httpcore: Any) -> None:
        self._httpcore = httpcore
        self._written = WrittenRequest()
        self._unread: bytes | None = None

    def next_chunk(self, response: Response, max_bytes: int) -> bytes:
        """Return the next part of the response, empty at the end."""
        unread = response_bytes(response) if self._unread is None else self._unread
        chunk, self._unread = unread[:max_bytes], unread[max_bytes:]
        return chunk

    def get_extra_info(self, _info: str) -> None:
        """Return None for everything: there is no socket."""


class MemoryStream(_BaseMemoryStream):
    """The stream of a sync connection."""

    def __init__(self, httpcore: Any, respond: Callable[[WrittenRequest], Response]) -> None:
        super().__init__(httpcore)
        self._respond = respond
        self.response: Response | None = None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return the next part; raise what a network stream raises if the response is incomplete."""
        response = self.response = self.response or self._respond(self._written)
        chunk = self.next_chunk(response, max_bytes)
        if not chunk and response.outcome == "reset":
            error = connection_reset_error()
            raise self._httpcore.ReadError(error) from error
        if not chunk and response.outcome == "timeout":
            timeout_error = TimeoutError("timed out")
            raise self._httpcore.ReadTimeout(timeout_error) from timeout_error
        return chunk

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Add a part of the request."""
        self._written.write(buffer)

    def close(self) -> None:
        """Do nothing."""


class AsyncMemoryStream(_BaseMemoryStream):
    """The stream of an async connection, on asyncio or trio."""

    def __init__(self, httpcore: Any, respond: Callable[[WrittenRequest], Awaitable[Response]]) -> None:
        super().__init__(httpcore)
        self._respond = respond
        self.response: Response | None = None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return the next part; raise what a network stream raises if the response is incomplete."""
        response = self.response = self.response or await self._respond(self._written)
        chunk = self.next_chunk(response, max_bytes)
        if not chunk and response.outcome == "reset":
            error = _async_reset_error()
            raise self._httpcore.ReadError(error) from error
        if not chunk and response.outcome == "timeout":
            timeout_error = _async_timeout_error()
            raise self._httpcore.ReadTimeout(timeout_error) from timeout_error
        return chunk

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Add a part of the request."""
        self._written.write(buffer)

    async def aclose(self) -> None:
        """Do nothing."""


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
