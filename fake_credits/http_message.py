"""HTTP messages as bytes, and the protocols of the transports that carry them."""

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

__all__ = [
    "AsgiMessage",
    "AsyncTransport",
    "ClientRequest",
    "ClientResponse",
    "Headers",
    "RawHeaders",
    "Response",
    "Transport",
    "reason_phrase",
    "status_line",
    "unknown_effect_message",
]

# IANA's registry (RFC 9110, section 16.2.1), and RFC 2324's 418. The standard library's table is not used: Python 3.13
# renamed 413, 414, 416 and 422.
_PHRASES = {
    100: "Continue",
    101: "Switching Protocols",
    102: "Processing",
    103: "Early Hints",
    200: "OK",
    201: "Created",
    202: "Accepted",
    203: "Non-Authoritative Information",
    204: "No Content",
    205: "Reset Content",
    206: "Partial Content",
    207: "Multi-Status",
    208: "Already Reported",
    226: "IM Used",
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Found",
    303: "See Other",
    304: "Not Modified",
    305: "Use Proxy",
    307: "Temporary Redirect",
    308: "Permanent Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    409: "Conflict",
    410: "Gone",
    411: "Length Required",
    412: "Precondition Failed",
    413: "Content Too Large",
    414: "URI Too Long",
    415: "Unsupported Media Type",
    416: "Range Not Satisfiable",
    417: "Expectation Failed",
    418: "I'm a Teapot",
    421: "Misdirected Request",
    422: "Unprocessable Content",
    423: "Locked",
    424: "Failed Dependency",
    425: "Too Early",
    426: "Upgrade Required",
    428: "Precondition Required",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    451: "Unavailable For Legal Reasons",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
    506: "Variant Also Negotiates",
    507: "Insufficient Storage",
    508: "Loop Detected",
    510: "Not Extended",
    511: "Network Authentication Required",
}
_STATUS_LINES = {
    status: f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n".encode("ascii") for status in range(100, 600)
}


def reason_phrase(status: int) -> str:
    """Return the standard phrase of a status, or an empty string where it has none."""
    return _PHRASES.get(status, "")


def status_line(status: int) -> bytes:
    """Return the first line of a response, with its line end.

    Without a standard phrase the line ends in a space (RFC 9112, section 4). Raises KeyError outside 100 to 599.
    """
    return _STATUS_LINES[status]


AsgiMessage = MutableMapping[str, Any]
RawHeaders = list[tuple[bytes, bytes]]


class Response(msgspec.Struct):
    """Be what goes back to the client; ``headers`` come on top of those that every answer bears."""

    status: int
    body: bytes
    headers: RawHeaders = []
    media_type: bytes = b"application/json"

    def full_headers(self, request_id: str) -> RawHeaders:
        """Return the headers as they go out."""
        headers = [(b"x-request-id", request_id.encode("latin-1")), (b"cache-control", b"no-store"), *self.headers]
        if self.status != 204:  # RFC 9110, section 8.6: a 204 has no Content-Length
            headers += [(b"content-type", self.media_type), (b"content-length", b"%d" % len(self.body))]
        return headers

    def header_bytes(self, request_id: str) -> bytes:
        """Return the same headers as lines of HTTP/1.1, at once: every live answer passes here."""
        extra = b"".join([b"%b: %b\r\n" % header for header in self.headers]) if self.headers else b""
        common = b"x-request-id: %b\r\ncache-control: no-store\r\n%b" % (request_id.encode("latin-1"), extra)
        if self.status == 204:
            return common
        return b"%bcontent-type: %b\r\ncontent-length: %d\r\n" % (common, self.media_type, len(self.body))


Headers = tuple[tuple[bytes, bytes], ...]
"""Header fields in order, as bytes; names are lower case."""


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """Be one request, ready to go.

    ``target`` is the percent-encoded path with its query, ASCII, relative to the base URL's path, and starts with
    ``/``. ``operation`` is for people. ``body`` is None where nothing is sent. ``timeout_s`` counts from the last byte
    received (and holds for connecting); None waits for ever.
    """

    operation: str
    method: str
    target: str
    headers: Headers
    body: bytes | None
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class ClientResponse:
    """Be one whole answer; ``body`` is already free of any content coding."""

    status: int
    headers: Headers
    body: bytes

    def header(self, name: bytes) -> str:
        """Return the first field of a lower-case name as text, or an empty string."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), "")


class Transport(Protocol):
    """Carry requests, blocking until the answer is whole."""

    def send(self, request: ClientRequest) -> ClientResponse:
        """Return the answer; raise a `TransportFailure` where there is none."""
        ...

    def close(self) -> None:
        """Let go of connections; a second call does nothing."""
        ...


class AsyncTransport(Protocol):
    """Carry requests in an event loop."""

    async def send(self, request: ClientRequest) -> ClientResponse:
        """Return the answer; raise a `TransportFailure` where there is none."""
        ...

    async def aclose(self) -> None:
        """Let go of connections; a second call does nothing."""
        ...


def unknown_effect_message(base_url: str, request: ClientRequest, problem: str) -> str:
    """Return what to say of a request that went out and has no whole answer."""
    where = f"{request.method} {base_url}{request.target}"
    return f"{request.operation}: {problem}; whether it took effect is unknown ({where})"
