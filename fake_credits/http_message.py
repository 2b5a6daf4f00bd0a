"""HTTP requests and responses, and the interfaces for sending them, shared by clients, transports and the server."""

import http
from collections.abc import Callable, MutableMapping
from functools import lru_cache
from typing import Any, Literal, Protocol

import msgspec

# fmt: off
HTTP_METHODS = frozenset({
    "ACL", "BIND", "CHECKOUT", "CONNECT", "COPY", "DELETE", "GET", "HEAD", "LINK", "LOCK", "M-SEARCH", "MERGE",
    "MKACTIVITY", "MKCALENDAR", "MKCOL", "MOVE", "NOTIFY", "OPTIONS", "PATCH", "POST", "PROPFIND", "PROPPATCH",
    "PURGE", "PUT", "QUERY", "REBIND", "REPORT", "SEARCH", "SOURCE", "SUBSCRIBE", "TRACE", "UNBIND", "UNLINK",
    "UNLOCK", "UNSUBSCRIBE",
})
# fmt: on
"""The methods that the live server's HTTP parser accepts; the in-process transport therefore accepts the same ones."""

# Python 3.13 renamed these four, following RFC 9110.
_PHRASES = {status.value: status.phrase for status in http.HTTPStatus} | {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}
_STATUS_LINES = {
    status: f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n".encode("ascii") for status in range(100, 600)
}


def reason_phrase(status: int) -> str:
    """Return the standard reason phrase for a status, or an empty string if there is none."""
    return _PHRASES.get(status, "")


def status_line(status: int) -> bytes:
    """Return the status line of a response, including CRLF.

    If the status has no standard phrase, it is still followed by a space (RFC 9112, section 4). Raises KeyError for a
    status outside 100 to 599.
    """
    return _STATUS_LINES[status]


AsgiMessage = MutableMapping[str, Any]

Headers = list[tuple[bytes, bytes]]
"""Header fields in order, as bytes; names are in lower case."""

Outcome = Literal["whole", "closed", "reset", "timeout", "garbage"]
"""Whether a response is complete, was cut off by a FIN, an RST or the client's timeout, or is not HTTP."""


class Request(msgspec.Struct, eq=False):
    """An HTTP request.

    ``target`` is the path with its query, as on the request line. ``body`` is None until it has arrived. The client
    waits up to ``timeout_s`` seconds for the next byte, or indefinitely if ``timeout_s`` is None. ``operation`` is used
    only in error messages.
    """

    method: str
    target: bytes
    headers: Headers = []
    body: bytes | None = b""
    timeout_s: float | None = None
    operation: str = ""


class Response(msgspec.Struct):
    """An HTTP response, possibly incomplete.

    On the server, ``headers`` excludes those that every response has. On a client, it has all of them, ``status`` is 0
    if no head arrived, and ``outcome`` says how the response ended. In a response to a HEAD request, ``content_length``
    is the length of the omitted body.
    """

    status: int
    body: bytes = b""
    headers: Headers = []
    media_type: bytes = b"application/json"
    request_id: str = ""
    content_length: int | None = None
    outcome: Outcome = "whole"

    def header(self, name: bytes) -> str:
        """Return the first value of the header with this lower-case name, or an empty string if it is missing."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), "")

    def full_headers(self, date: bytes | None) -> Headers:
        """Return all headers in the order they are sent, with ``date`` if it is given and no Date header is set."""
        headers = [(b"x-request-id", self.request_id.encode("latin-1")), (b"cache-control", b"no-store"), *self.headers]
        if date is not None and not self._has_date():
            headers.insert(0, (b"date", date))
        if self.status != 204:  # RFC 9110, section 8.6: a 204 has no Content-Length
            length = len(self.body) if self.content_length is None else self.content_length
            headers += [(b"content-type", self.media_type), (b"content-length", b"%d" % length)]
        return headers

    def head(self, date: bytes, *, close: bool) -> bytes:
        """Return the status line and all headers as bytes."""
        extra = b"".join([b"%b: %b\r\n" % header for header in self.headers]) if self.headers else b""
        date_line = b"" if extra and self._has_date() else b"date: %b\r\n" % date
        start = _STATUS_LINES[self.status] + date_line
        common = b"x-request-id: %b\r\ncache-control: no-store\r\n%b" % (self.request_id.encode("latin-1"), extra)
        end = b"connection: close\r\n\r\n" if close else b"\r\n"
        if self.status == 204:
            return start + common + end
        length = len(self.body) if self.content_length is None else self.content_length
        return b"%b%bcontent-type: %b\r\ncontent-length: %d\r\n%b" % (start, common, self.media_type, length, end)

    def _has_date(self) -> bool:
        return bool(self.headers) and any(name == b"date" for name, _ in self.headers)


@lru_cache(maxsize=64)
def http_date(second: int) -> bytes:
    """Format a time, in seconds since 1970, for the Date header (RFC 9110, section 5.6.7)."""
    from email.utils import formatdate  # takes 8 ms to import, and clients don't need it

    return formatdate(second, usegmt=True).encode("ascii")


class Connection(Protocol):
    """A connection to a client. Its methods do nothing after the client has disconnected."""

    def send(self, response: Response) -> None:
        """Send a complete response."""
        ...

    def start(self, response: Response) -> None:
        """Send the head of a response."""
        ...

    def write(self, data: bytes) -> None:
        """Send part of the body, or any other bytes."""
        ...

    def end(self) -> None:
        """Finish the response that was started."""
        ...

    def close(self) -> None:
        """Close the connection (FIN)."""
        ...

    def reset(self) -> None:
        """Reset the connection (RST)."""
        ...

    def call_later(self, ms: float, callback: Callable[[], object]) -> None:
        """Call a function after ``ms`` milliseconds, unless the transport leaves due timers to the next request."""
        ...


def http_scope(
    request: Request, *, scheme: str | None, server: tuple[str, int | None] | None, client: tuple[str, int] | None
) -> AsgiMessage:
    """Return the ASGI scope for a request to one of the fake's own paths."""
    path, _, query = request.target.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": scheme,
        "path": path.decode("latin-1"),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": request.headers,
        "server": server,
        "client": client,
    }


class Transport(Protocol):
    """A blocking transport for requests."""

    def send(self, request: Request) -> Response:
        """Send a request and return the response; raise a `TransportFailure` if no complete response arrives."""
        ...

    def close(self) -> None:
        """Close all connections; a second call does nothing."""
        ...


class AsyncTransport(Protocol):
    """An asynchronous transport for requests."""

    async def send(self, request: Request) -> Response:
        """Send a request and return the response; raise a `TransportFailure` if no complete response arrives."""
        ...

    async def aclose(self) -> None:
        """Close all connections; a second call does nothing."""
        ...


def unknown_effect_message(base_url: str, request: Request, problem: str) -> str:
    """Return the error message for a request that was sent but got no complete response."""
    where = f"{request.method} {base_url}{request.target.decode('ascii')}"
    return f"{request.operation}: {problem}; the request may or may not have taken effect ({where})"
