"""HTTP/1.1 in memory: what a library writes to a socket is parsed, and it reads the response from a stream."""

import asyncio
import errno
import os
import re
from typing import Any

from fake_credits.http_message import Request, Response, status_line

__all__ = [
    "CONTINUE_RESPONSE",
    "AsyncMemoryStream",
    "HeaderField",
    "MemoryStream",
    "RequestParser",
    "connection_reset_error",
    "origin_form",
    "response_bytes",
]

HeaderField = tuple[bytes, bytes]

CONTINUE_RESPONSE = b"HTTP/1.1 100 Continue\r\n\r\n"
_AUTHORITY_PATTERN = re.compile(rb"^https?://[^/?]*")


class RequestParser:
    """Read requests from bytes as a client writes them, one after the other on one connection."""

    def __init__(self) -> None:
        self._unparsed = b""
        self._parsed_head: Request | None = None

    def feed(self, data: bytes) -> Request | None:
        """Take what was written, and return the request that it completes."""
        self._unparsed += data
        if self._parsed_head is None:
            head, separator, self._unparsed = self._unparsed.partition(b"\r\n\r\n")
            if not separator:
                self._unparsed = head
                return None
            self._parsed_head = _parse_head(head)
        body = self._parse_body(dict(self._parsed_head.headers))
        if body is None:
            return None
        request, self._parsed_head = self._parsed_head, None
        request.body = body
        return request

    @property
    def awaits_continue(self) -> bool:
        """Tell whether a client has sent a head and waits for leave to send the body (RFC 9110, section 10.1.1)."""
        return (
            self._parsed_head is not None
            and not self._unparsed
            and (b"expect", b"100-continue") in self._parsed_head.headers
        )

    def _parse_body(self, headers: dict[bytes, bytes]) -> bytes | None:
        if headers.get(b"transfer-encoding", b"").lower().endswith(b"chunked"):
            return self._parse_chunked_body()
        length = int(headers.get(b"content-length", b"0"))
        if len(self._unparsed) < length:
            return None
        body, self._unparsed = self._unparsed[:length], self._unparsed[length:]
        return body

    def _parse_chunked_body(self) -> bytes | None:
        """Return a body that came in chunks (RFC 9112, section 7.1) once the last one is there."""
        chunks: list[bytes] = []
        unparsed = self._unparsed
        while True:
            size_line, separator, unparsed = unparsed.partition(b"\r\n")
            length = int(size_line.partition(b";")[0], 16) if separator else 0
            if not separator or len(unparsed) < length + 2:
                return None
            if not length:
                _, _, self._unparsed = unparsed.partition(b"\r\n")
                return b"".join(chunks)
            chunks.append(unparsed[:length])
            unparsed = unparsed[length + 2 :]


def _parse_head(head: bytes) -> Request:
    request_line, *fields = head.split(b"\r\n")
    method, target, _ = request_line.split(b" ", 2)
    pairs = (field.partition(b":") for field in fields)
    headers = [(name.lower(), value.strip()) for name, _, value in pairs]
    return Request(method.decode("ascii"), origin_form(target), headers, b"")


def origin_form(target: bytes) -> bytes:
    """Return path and query of a target that may have the form for a proxy (RFC 9112, section 3.2.2)."""
    return target if target.startswith(b"/") else _AUTHORITY_PATTERN.sub(b"", target, count=1)


def response_bytes(response: Response) -> bytes:
    """Return a reply as it stands on the wire, as far as it came."""
    if not response.status:
        return response.body
    lines = [b"%b: %b\r\n" % header for header in response.headers]
    return b"%b%b\r\n%b" % (status_line(response.status), b"".join(lines), response.body)


def connection_reset_error() -> ConnectionResetError:
    """Return what a socket raises after an RST."""
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))


class _BaseMemoryStream:
    """Be a connected stream: what is written was answered before, what is read is the answer as far as it came."""

    def __init__(self, httpcore: Any, response: Response) -> None:
        self._httpcore = httpcore
        self._response = response
        self._unread: bytes | None = None

    def next_chunk(self, max_bytes: int) -> bytes:
        """Return the next part of the answer, or empty bytes."""
        unread = response_bytes(self._response) if self._unread is None else self._unread
        chunk, self._unread = unread[:max_bytes], unread[max_bytes:]
        return chunk

    def get_extra_info(self, _info: str) -> None:
        """Tell that nothing is known: there is no socket."""


class MemoryStream(_BaseMemoryStream):
    """Be the stream of a sync connection."""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return the next part; raise as a stream of a socket does where the answer breaks off."""
        chunk = self.next_chunk(max_bytes)
        if not chunk and self._response.outcome == "reset":
            error = connection_reset_error()
            raise self._httpcore.ReadError(error) from error
        if not chunk and self._response.outcome == "timeout":
            timeout_error = TimeoutError("timed out")
            raise self._httpcore.ReadTimeout(timeout_error) from timeout_error
        return chunk

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class AsyncMemoryStream(_BaseMemoryStream):
    """Be the stream of an async connection, on asyncio or trio."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return the next part; raise as a stream of a socket does where the answer breaks off."""
        chunk = self.next_chunk(max_bytes)
        if not chunk and self._response.outcome == "reset":
            error = _async_reset_error()
            raise self._httpcore.ReadError(error) from error
        if not chunk and self._response.outcome == "timeout":
            timeout_error = _async_timeout_error()
            raise self._httpcore.ReadTimeout(timeout_error) from timeout_error
        return chunk

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Do nothing."""

    async def aclose(self) -> None:
        """Do nothing."""


def _async_reset_error() -> Exception:
    """Return what the running loop's own streams raise after an RST: anyio's on asyncio, trio's on trio."""
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
    """Return what the running loop's own streams raise when a timeout is over."""
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
