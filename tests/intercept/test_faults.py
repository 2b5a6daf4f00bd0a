"""Test that an answer that does not come whole raises what the library raises on a socket: same types, same causes."""

import contextlib
import socket
import struct
import threading
from collections.abc import Generator
from typing import NamedTuple, cast

import pytest

from fake_credits.http_message import Outcome, Request, Response
from fake_credits.intercept import INTERCEPTION_REGISTRY, Interception
from fake_credits.intercept.routes import Route, parse_base_url
from fake_credits.transports.in_process import InProcessDriver
from tests.intercept.libraries import EACH, LIMIT_S, ORDER, SENDS, Ask, Got, Send, patience_s

URL = "https://credits.internal/v1"
JSON = {"Content-Type": "application/json"}
_RST = struct.pack("ii", 1, 0)


class Case(NamedTuple):
    """Be an answer as far as it came, on the wire and as the driver tells it."""

    wire: bytes
    reply: Response


def head(length: int) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % length)]
    return b"HTTP/1.1 200 OK\r\n" + b"".join(b"%b: %b\r\n" % field for field in fields) + b"\r\n", fields


def case(body: bytes | None, end: Outcome) -> Case:
    if body is None:
        return Case(b"", Response(0, outcome=end))
    lines, fields = head(13)
    return Case(lines + body, Response(200, body, fields, outcome=end))


JUNK = b"\x15\x03\x01\x00\x02\x02\x50 this is no HTTP\r\n\r\n"

CASES = {
    "closed without a byte": case(None, "closed"),
    "reset without a byte": case(None, "reset"),
    "nothing until the client gives up": case(None, "timeout"),
    "bytes that are no HTTP": Case(JUNK, Response(0, JUNK, outcome="garbage")),
    "closed after the head": case(b"", "closed"),
    "reset after the head": case(b"", "reset"),
    "nothing after the head": case(b"", "timeout"),
    "closed in the body": case(b'{"bal', "closed"),
    "reset in the body": case(b'{"bal', "reset"),
    "nothing in the middle of the body": case(b'{"bal', "timeout"),
    "whole, then closed": case(b'{"balance":5}', "closed"),
}


class Stub:
    """Be a driver that has one reply."""

    def __init__(self, reply: Response) -> None:
        self._reply = reply
        self.asked: list[Request] = []

    def call(self, request: Request, _error: object = None) -> Response:
        self.asked.append(request)
        return self._reply

    async def call_async(self, request: Request, _error: object = None) -> Response:
        return self.call(request)


def intercepted(stub: Stub) -> Interception:
    def no_wait(_seconds: float) -> None:
        raise AssertionError("nothing waits here")

    route = Route(parse_base_url(URL), cast("InProcessDriver", stub), no_wait, lambda: 0.0)
    return Interception(INTERCEPTION_REGISTRY, [route])


@contextlib.contextmanager
def served(wire: bytes, end: Outcome) -> Generator[str]:
    """Serve a fixed text and end each connection in one way; yield the URL."""
    held: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                held.append(connection)
                answer(connection)

    def answer(connection: socket.socket) -> None:
        asked = b""
        while not asked.endswith((b"\r\n\r\n", ORDER)) or (b"POST" in asked and not asked.endswith(ORDER)):
            asked += connection.recv(65536)
        connection.sendall(wire)
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
        for connection in held:
            connection.close()


def outcome(send: Send, ask: Ask) -> object:
    """Return an answer, or the types of what was raised, of its arguments and of its causes."""
    try:
        return send(ask)
    except Exception as error:  # noqa: BLE001 - whatever it is, it has to be the same
        return types_of(error)


def types_of(error: BaseException | None) -> object:
    if error is None:
        return None
    return type(error), [nested(argument) for argument in error.args], types_of(error.__cause__)


def nested(argument: object) -> object:
    if isinstance(argument, BaseException):
        return types_of(argument)
    if isinstance(argument, tuple):
        return [nested(each) for each in cast("tuple[object, ...]", argument)]
    return type(argument)


@pytest.mark.parametrize("body", [pytest.param(None, marks=pytest.mark.slow, id="GET"), pytest.param(ORDER, id="POST")])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("library", EACH)
def test_an_answer_that_is_not_whole_raises_what_a_socket_raises(library: str, name: str, body: bytes | None) -> None:
    send, (wire, reply) = SENDS[library], CASES[name]
    limit_s = patience_s(library) if reply.outcome == "timeout" else LIMIT_S
    with served(wire, reply.outcome) as url:
        real = outcome(send, Ask(url, JSON if body else {}, body, limit_s))
    stub = Stub(reply)
    with intercepted(stub):
        assert outcome(send, Ask(URL, JSON if body else {}, body, limit_s)) == real
    assert (real == Got(200, reply.body, dict(decoded(reply)))) == (name == "whole, then closed")
    assert {request.timeout_s for request in stub.asked} == {limit_s}


def decoded(reply: Response) -> list[tuple[str, str]]:
    return [(name.decode(), value.decode()) for name, value in reply.headers]


@pytest.mark.parametrize("library", SENDS)
def test_what_the_driver_itself_raises_comes_through_as_it_is(library: str) -> None:
    """As of a call that would hang for ever: no library's error, so that no library's handler swallows it."""

    class WouldHang(BaseException):
        """Be no `Exception`."""

    class Raising(Stub):
        def call(self, request: Request, _error: object = None) -> Response:
            raise WouldHang

    with intercepted(Raising(Response(0))), pytest.raises(WouldHang):
        SENDS[library](Ask(URL, {}))
