"""Own HTTP/1.1 between a library that believes to hold a socket and a driver; know no HTTP library.

What comes is what a client library wrote in this process, so it is well formed: nothing is refused here.
"""

import errno
import os
import re
from typing import NamedTuple

from fake_credits.drivers.in_process import Reply
from fake_credits.http_status import status_line

__all__ = [
    "CONTINUE",
    "Field",
    "Request",
    "RequestReader",
    "answer_bytes",
    "origin_form",
    "reset_by_peer",
]

Field = tuple[bytes, bytes]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_AUTHORITY = re.compile(rb"^https?://[^/?]*")


class Request(NamedTuple):
    """Be one whole request as it went out; the target is path and query, names are in lower case."""

    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


class RequestReader:
    """Read requests from bytes as a client writes them, one after the other on one connection."""

    def __init__(self) -> None:
        self._data = b""
        self._head: Request | None = None

    def feed(self, data: bytes) -> Request | None:
        """Take what was written, and return the request that it completes."""
        self._data += data
        if self._head is None:
            head, end, self._data = self._data.partition(b"\r\n\r\n")
            if not end:
                self._data = head
                return None
            self._head = _read_head(head)
        body = self._body(dict(self._head.headers))
        if body is None:
            return None
        request, self._head = self._head._replace(body=body), None
        return request

    @property
    def awaits_continue(self) -> bool:
        """Tell whether a client has sent a head and waits for leave to send the body (RFC 9110, section 10.1.1)."""
        return self._head is not None and not self._data and (b"expect", b"100-continue") in self._head.headers

    def _body(self, headers: dict[bytes, bytes]) -> bytes | None:
        if headers.get(b"transfer-encoding", b"").lower().endswith(b"chunked"):
            return self._chunked()
        length = int(headers.get(b"content-length", b"0"))
        if len(self._data) < length:
            return None
        body, self._data = self._data[:length], self._data[length:]
        return body

    def _chunked(self) -> bytes | None:
        """Return a body that came in chunks (RFC 9112, section 7.1) once the last one is there."""
        chunks: list[bytes] = []
        rest = self._data
        while True:
            size, end, rest = rest.partition(b"\r\n")
            length = int(size.partition(b";")[0], 16) if end else 0
            if not end or len(rest) < length + 2:
                return None
            if not length:
                _, _, self._data = rest.partition(b"\r\n")
                return b"".join(chunks)
            chunks.append(rest[:length])
            rest = rest[length + 2 :]


def _read_head(head: bytes) -> Request:
    line, *fields = head.split(b"\r\n")
    method, target, _ = line.split(b" ", 2)
    pairs = (field.partition(b":") for field in fields)
    headers = [(name.lower(), value.strip()) for name, _, value in pairs]
    return Request(method.decode("ascii"), origin_form(target), headers, b"")


def origin_form(target: bytes) -> bytes:
    """Return path and query of a target that may have the form for a proxy (RFC 9112, section 3.2.2)."""
    return target if target.startswith(b"/") else _AUTHORITY.sub(b"", target, count=1)


def answer_bytes(reply: Reply) -> bytes:
    """Return a reply as it stands on the wire, as far as it came."""
    if not reply.status:
        return reply.body
    lines = [b"%b: %b\r\n" % header for header in reply.headers]
    return b"%b%b\r\n%b" % (status_line(reply.status), b"".join(lines), reply.body)


def reset_by_peer() -> ConnectionResetError:
    """Return what a socket raises after an RST."""
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
