"""Test that an incomplete response raises the same exceptions and causes as on a socket."""

import contextlib
import socket
import struct
import threading
from collections.abc import Generator
from typing import NamedTuple, cast

import pytest

from fake_credits.clock import Clock
from fake_credits.http_message import Outcome, Request, Response
from fake_credits.intercept import INTERCEPTION_REGISTRY, Interception
from fake_credits.intercept.routes import Route, parse_base_url
from fake_credits.interception_log import InterceptionLog
from fake_credits.transports.in_process import InProcessDriver
from tests.intercept.libraries import (
    LIBRARY_PARAMS,
    SENDERS,
    TIMEOUT_S,
    TRANSACTION_BODY,
    LibraryRequest,
    LibraryResponse,
    Send,
    read_timeout_s,
)

URL = "https://credits.internal/v1"
JSON = {"Content-Type": "application/json"}
_RST = struct.pack("ii", 1, 0)


class WireCase(NamedTuple):
    """An incomplete response, as bytes on the wire and as the driver's `Response`."""

    wire_bytes: bytes
    reply: Response


def head(length: int) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % length)]
    return b"HTTP/1.1 200 OK\r\n" + b"".join(b"%b: %b\r\n" % field for field in fields) + b"\r\n", fields


def wire_case(body: bytes | None, end: Outcome) -> WireCase:
    if body is None:
        return WireCase(b"", Response(0, outcome=end))
    lines, fields = head(13)
    return WireCase(lines + body, Response(200, body, fields, outcome=end))


NON_HTTP_BYTES = b"\x15\x03\x01\x00\x02\x02\x50 this is no HTTP\r\n\r\n"

CASES = {
    "close without response": wire_case(None, "closed"),
    "reset without response": wire_case(None, "reset"),
    "timeout without response": wire_case(None, "timeout"),
    "not HTTP": WireCase(NON_HTTP_BYTES, Response(0, NON_HTTP_BYTES, outcome="garbage")),
    "close after headers": wire_case(b"", "closed"),
    "reset after headers": wire_case(b"", "reset"),
    "timeout after headers": wire_case(b"", "timeout"),
    "close in body": wire_case(b'{"bal', "closed"),
    "reset in body": wire_case(b'{"bal', "reset"),
    "timeout in body": wire_case(b'{"bal', "timeout"),
    "complete, then close": wire_case(b'{"balance":5}', "closed"),
}


class StubDriver:
    """A driver with one fixed reply."""

    def __init__(self, reply: Response) -> None:
        self._reply = reply
        self.requests: list[Request] = []

    def call(self, request: Request, _error: object = None) -> Response:
        self.requests.append(request)
        return self._reply

    async def call_async(self, request: Request, _error: object = None) -> Response:
        return self.call(request)


def intercept_with(driver: StubDriver) -> Interception:
    route = Route(parse_base_url(URL), cast("InProcessDriver", driver), Clock(), InterceptionLog())
    return Interception(INTERCEPTION_REGISTRY, [route])


@contextlib.contextmanager
def serve_bytes(wire_bytes: bytes, end: Outcome) -> Generator[str]:
    """Serve fixed bytes and end each connection in the given way; yield the URL."""
    connections: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                respond(connection)

    def respond(connection: socket.socket) -> None:
        received = b""
        while not received.endswith((b"\r\n\r\n", TRANSACTION_BODY)) or (
            b"POST" in received and not received.endswith(TRANSACTION_BODY)
        ):
            received += connection.recv(65536)
        connection.sendall(wire_bytes)
        if end == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
        if end != "timeout":
            connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for connection in connections:
            connection.close()


def outcome(send: Send, request: LibraryRequest) -> object:
    """Return the response, or the types of the exception, its arguments and its causes."""
    try:
        return send(request)
    except Exception as error:  # noqa: BLE001 - any exception is compared
        return types_of(error)


def types_of(error: BaseException | None) -> object:
    if error is None:
        return None
    return type(error), [argument_types(argument) for argument in error.args], types_of(error.__cause__)


def argument_types(argument: object) -> object:
    if isinstance(argument, BaseException):
        return types_of(argument)
    if isinstance(argument, tuple):
        return [argument_types(each) for each in cast("tuple[object, ...]", argument)]
    return type(argument)


@pytest.mark.parametrize(
    "body", [pytest.param(None, marks=pytest.mark.slow, id="GET"), pytest.param(TRANSACTION_BODY, id="POST")]
)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("library", LIBRARY_PARAMS)
def test_incomplete_response_raises_same_error_as_on_socket(library: str, name: str, body: bytes | None) -> None:
    send, (wire_bytes, reply) = SENDERS[library], CASES[name]
    timeout_s = read_timeout_s(library, in_body=bool(reply.status)) if reply.outcome == "timeout" else TIMEOUT_S
    with serve_bytes(wire_bytes, reply.outcome) as url:
        expected = outcome(send, LibraryRequest(url, JSON if body else {}, body, timeout_s))
    driver = StubDriver(reply)
    with intercept_with(driver):
        assert outcome(send, LibraryRequest(URL, JSON if body else {}, body, timeout_s)) == expected
    assert (expected == LibraryResponse(200, reply.body, dict(decoded_headers(reply)))) == (
        name == "complete, then close"
    )
    assert {request.timeout_s for request in driver.requests} == {timeout_s}


def decoded_headers(reply: Response) -> list[tuple[str, str]]:
    return [(name.decode(), value.decode()) for name, value in reply.headers]


@pytest.mark.parametrize("library", SENDERS)
def test_driver_exception_propagates_unchanged(library: str) -> None:
    """The error for a call that would hang forever, for example, must not be caught or converted by a library."""

    class WouldHang(BaseException):
        """An exception that ``except Exception`` does not catch."""

    class RaisingDriver(StubDriver):
        def call(self, request: Request, _error: object = None) -> Response:
            raise WouldHang

    with intercept_with(RaisingDriver(Response(0))), pytest.raises(WouldHang):
        SENDERS[library](LibraryRequest(URL, {}))
