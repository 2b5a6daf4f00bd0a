"""A live connection, plain and over TLS: framing, the queue, flow control, disconnects, shutdown and gates."""

# pyright: reportPrivateUsage=false
import asyncio
import gc
import json
import logging
import re
import resource
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from fake_credits.clock import monotonic_s
from fake_credits.control.app import ControlPlane
from fake_credits.control_schemas import TOKEN_HEADER
from fake_credits.faults.effects import Close, Hang, HoldAtGate, Latency, Reset
from fake_credits.faults.effects.connection import Drip, Truncate
from fake_credits.faults.rule import Rule
from fake_credits.sandbox import Sandbox
from fake_credits.sandbox_options import SandboxOptions
from fake_credits.sandboxes import SandboxRegistry
from fake_credits.tokens.keys import SigningKeys
from fake_credits.transports.certificates import issue_certificate, server_ssl_context
from fake_credits.transports.live import BindOptions, LiveServer, TlsOptions
from fake_credits.transports.protocol import CreditsProtocol
from fake_credits.transports.uvicorn_adapter import UvicornProtocol

KEYS = SigningKeys()
ISSUED = issue_certificate()
LIMIT_S = 10.0
KIB, MIB = 1024, 1024 * 1024
TOKEN = "the-control-token"

BALANCE = "/v1/applications/app-id/users/user-id/balance"
TRANSACTIONS = "/v1/applications/app-id/users/user-id/transactions"
SPEND = b'{"delta":-1,"reason":"consume"}'
GRANT = b'{"delta":1,"reason":"grant"}'


def request_bytes(
    method: str = "GET",
    target: str = BALANCE,
    *fields: str,
    body: bytes = b"",
    version: str = "1.1",
    close: bool = False,
) -> bytes:
    """Return a request with a Host, the API key, and a Content-Length if there is a body."""
    lines = [f"{method} {target} HTTP/{version}"]
    if not any(field.lower().startswith("host:") for field in fields):
        lines.append("Host: localhost")
    if not any(field.lower().startswith("x-api-key:") for field in fields):
        lines.append("X-API-Key: key")
    lines += [field for field in fields if not field.endswith(":")]
    if body and not any(field.lower().startswith(("content-length:", "transfer-encoding:")) for field in fields):
        lines.append(f"Content-Length: {len(body)}")
    if method == "POST":
        lines.append("Content-Type: application/json")
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def post(body: bytes = SPEND, *fields: str, close: bool = False) -> bytes:
    return request_bytes("POST", TRANSACTIONS, *fields, body=body, close=close)


def chunks(*parts: bytes, trailers: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n" + trailers + b"\r\n"


def chunked_post(*parts: bytes, trailers: bytes = b"", fields: tuple[str, ...] = ()) -> bytes:
    return post(chunks(*parts, trailers=trailers), "Transfer-Encoding: chunked", *fields)


GET = request_bytes()
LAST_GET = request_bytes(close=True)
LIVEZ = request_bytes("GET", "/_fake/livez", "X-API-Key:")


class Answer(NamedTuple):
    """A response as received."""

    status: int
    headers: dict[str, str]
    body: bytes


def parse_answers(data: bytes, *, heads: int = 0) -> list[Answer]:
    """Return the responses in a stream; the first ``heads`` have no body, like responses to HEAD requests."""
    answers: list[Answer] = []
    while data:
        head, separator, data = data.partition(b"\r\n\r\n")
        assert separator, f"a response that breaks off: {head!r}"
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = 0 if len(answers) < heads else int(headers.get("content-length", 0))
        status = int(first.split()[1])
        answers.append(Answer(status, headers, data[:length]))
        data = data[length:]
    return answers


def read_all(connection: socket.socket) -> bytes:
    """Return everything received until the connection ends in any way."""
    data = b""
    try:
        while chunk := connection.recv(65536):
            data += chunk
    except (ConnectionError, ssl.SSLEOFError):
        pass
    return data


def read_answer(connection: socket.socket, *, has_body: bool = True) -> Answer:
    """Return the next response without reading further."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        assert byte, f"the connection ended within a head: {data!r}"
        data += byte
    (answer,) = parse_answers(data, heads=1)
    body = b""
    while has_body and len(body) < int(answer.headers.get("content-length", 0)):
        body += connection.recv(int(answer.headers["content-length"]) - len(body))
    return answer._replace(body=body)


def until(condition: Callable[[], object]) -> None:
    """Wait until a condition in the server's thread holds."""
    pause, deadline_s = threading.Event(), monotonic_s() + LIMIT_S
    while not condition():
        assert monotonic_s() < deadline_s, "the server did not get there in time"
        pause.wait(0.001)


class Live:
    """A live server, its sandbox and its connections."""

    def __init__(self, *, is_tls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sandbox = Sandbox(SandboxOptions(api_key="key", balance=100), KEYS, "base")
        tls = TlsOptions(server_ssl_context(ISSUED)) if is_tls else None
        registry = SandboxRegistry(self.sandbox)
        control = ControlPlane(registry, lambda options: Sandbox(options, KEYS, "other"), TOKEN)
        self.server = LiveServer(self.sandbox.contract, registry, BindOptions(tls=tls), control=control)
        self.client_context = ssl.create_default_context(cadata=ISSUED.ca_pem) if is_tls else None
        self.protocols: list[CreditsProtocol] = []
        self._connections: list[socket.socket] = []
        make_connection = CreditsProtocol.connection_made

        def connection_made(protocol: CreditsProtocol, transport: asyncio.Transport) -> None:
            self.protocols.append(protocol)
            make_connection(protocol, transport)

        monkeypatch.setattr(CreditsProtocol, "connection_made", connection_made)
        self.server.start()

    def connect(self, *, receive_buffer: int = 0) -> socket.socket:
        """Return a new connection; its protocol on the server is the last of ``protocols``."""
        plain = socket.socket()
        plain.settimeout(LIMIT_S)
        if receive_buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        count = len(self.protocols)
        plain.connect(("127.0.0.1", int(self.server.base_url.rpartition(":")[2])))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = plain
        if self.client_context is not None:
            connection = self.client_context.wrap_socket(plain, server_hostname="localhost")
        until(lambda: len(self.protocols) > count)
        self._connections.append(connection)
        return connection

    def send(self, *segments: bytes) -> list[Answer]:
        """Send segments on a new connection, and return the responses until the server closes it."""
        with self.connect() as connection:
            for segment in segments:
                connection.sendall(segment)
                threading.Event().wait(0.001)
            return parse_answers(read_all(connection))

    def statuses(self, *segments: bytes) -> list[int]:
        return [answer.status for answer in self.send(*segments)]

    @property
    def balance(self) -> int:
        return self.sandbox.ledger.get_account("app-id", "user-id").balance

    @property
    def outcomes(self) -> list[tuple[int, bool, bool]]:
        """Return the status and the committed and delivered flags of each journaled exchange."""
        return [(entry.status, entry.committed, entry.delivered) for entry in self.sandbox.journal.entries()]

    def stop(self) -> None:
        self.server.stop()
        for connection in self._connections:
            connection.close()


OTHER_COMBINATIONS = ("plain-asyncio", "tls-uvloop", "tls-asyncio")
"""The combinations of layer and event loop that are tested only with ``-m slow``."""


@pytest.fixture(params=["plain-uvloop", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHER_COMBINATIONS)])
def live(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    if request.param.endswith("asyncio"):
        monkeypatch.setitem(sys.modules, "uvloop", None)
    elif sys.platform == "win32":
        pytest.skip("there is no uvloop here")
    live = Live(is_tls=request.param.startswith("tls"), monkeypatch=monkeypatch)
    yield live
    live.stop()
    assert live.sandbox.bugs == []


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Yield the log, which must contain no warnings when the test ends."""
    with caplog.at_level(logging.DEBUG):
        yield caplog
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def cut_what_arrives(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Split the data that the protocol receives into segments of at most ``size`` bytes."""
    receive = CreditsProtocol.data_received

    def data_received(protocol: CreditsProtocol, data: bytes) -> None:
        for start in range(0, len(data), size):
            receive(protocol, data[start : start + size])

    monkeypatch.setattr(CreditsProtocol, "data_received", data_received)


# 1. The states of a message: head, body and trailers, for any segmentation.

segment_sizes = pytest.mark.parametrize("size", [1, 2, 7, 65536])


@segment_sizes
@pytest.mark.parametrize("trailers", [b"", b"X-Checksum: 1\r\n", b"Upgrade: h2c\r\nHost: evil\r\n"])
def test_trailers_are_ignored(live: Live, monkeypatch: pytest.MonkeyPatch, size: int, trailers: bytes) -> None:
    cut_what_arrives(monkeypatch, size)
    assert live.statuses(chunked_post(SPEND, trailers=trailers) + LAST_GET) == [201, 200]
    assert live.balance == 99


@segment_sizes
def test_an_api_key_in_a_trailer_is_not_a_credential(live: Live, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    cut_what_arrives(monkeypatch, size)
    sent = chunked_post(SPEND, trailers=b"X-API-Key: key\r\n", fields=("X-API-Key:",))
    assert live.statuses(sent + LAST_GET) == [401, 200]
    assert live.balance == 100


def test_trailers_in_their_own_segment_are_ignored(live: Live) -> None:
    sent = chunked_post(SPEND, trailers=b"X-API-Key: key\r\n", fields=("X-API-Key:",))
    body_end = sent.index(b"0\r\nX-API-Key") + 3
    assert live.statuses(sent[:body_end], sent[body_end:] + LAST_GET) == [401, 200]


@pytest.mark.parametrize("field_size", [10, 30_000])
def test_trailers_over_64_kib_are_refused_with_bounded_memory(live: Live, field_size: int) -> None:
    field = b"X-T: " + b"x" * field_size + b"\r\n"
    sent = chunked_post(SPEND)[:-2]
    with live.connect() as connection:
        connection.sendall(sent)
        sent_bytes = send_until_refused(connection, field * (65536 // len(field)), limit_bytes=32 * MIB)
        answers = parse_answers(read_all(connection))
    assert [answer.status for answer in answers] == [400]
    assert "64 KiB" in json.loads(answers[0].body)["error"]["message"]
    assert sent_bytes < 32 * MIB
    assert live.balance == 100


def send_until_refused(connection: socket.socket, block: bytes, *, limit_bytes: int) -> int:
    """Keep sending a block until the connection closes or a limit is reached, and return the number of bytes sent."""
    sent_bytes = 0
    try:
        while sent_bytes < limit_bytes:
            connection.sendall(block)
            sent_bytes += len(block)
    except (ConnectionError, ssl.SSLError):
        pass
    return sent_bytes


@segment_sizes
def test_a_head_of_64_kib_is_read_and_a_larger_one_refused(
    live: Live, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Segmentation makes no difference, nor do earlier requests on the connection."""
    cut_what_arrives(monkeypatch, max(size, 16))
    large = request_bytes("GET", BALANCE, *[f"X-{number:04}: {'x' * 25}" for number in range(1724)], close=True)
    padding = 65536 - len(large)
    assert padding > 10

    def head_of(total: int) -> bytes:
        return large.replace(b"\r\n\r\n", b"\r\nX-Padding: " + b"x" * (padding - 13 + total - 65536) + b"\r\n\r\n")

    assert len(head_of(65536)) == 65536
    assert live.statuses(GET * 90 + head_of(65536)) == [200] * 91
    assert live.statuses(GET * 90 + head_of(65537 + 64)) == [200] * 90 + [400]


OFFER = ("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: x")
OFFERS = {
    "no body": request_bytes("GET", BALANCE, *OFFER),
    "a body": post(GRANT, *OFFER),
    "an empty body": request_bytes("GET", BALANCE, "Content-Length: 0", *OFFER),
    "chunks": chunked_post(GRANT[:3], GRANT[3:], fields=OFFER),
    "chunks and trailers": chunked_post(GRANT, trailers=b"X-T: t\r\n", fields=OFFER),
}


@segment_sizes
@pytest.mark.parametrize("name", OFFERS)
def test_an_offer_to_upgrade_is_ignored(live: Live, monkeypatch: pytest.MonkeyPatch, size: int, name: str) -> None:
    """The body is intact, and the pipelined request after it is answered too (RFC 9110, section 7.8)."""
    cut_what_arrives(monkeypatch, size)
    status = 201 if GRANT in OFFERS[name].replace(b"\r\n", b"") or "chunks" in name else 200
    assert live.statuses(OFFERS[name] + GET + OFFERS[name] + LAST_GET) == [status, 200, status, 200]
    assert live.balance == (102 if status == 201 else 100)


@pytest.mark.usefixtures("short_linger")
@segment_sizes
@pytest.mark.parametrize("coding", ["gzip", "gzip, chunked", "chunked, gzip", "x"])
def test_an_offer_to_upgrade_with_an_unknown_coding_is_refused(
    live: Live, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture, size: int, coding: str
) -> None:
    cut_what_arrives(monkeypatch, size)
    assert live.statuses(post(GRANT, f"Transfer-Encoding: {coding}", *OFFER)) == [400]
    assert live.balance == 100


@segment_sizes
def test_a_chunk_that_begins_like_a_header_is_not_altered(
    live: Live, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    cut_what_arrives(monkeypatch, size)
    body = b'{"delta":1,"reason":"grant","note":"upgrade: x\\r\\nhost: y"}'
    cut = body.index(b"upgrade: x")
    sent = chunked_post(body[:cut], body[cut:]) + chunked_post(GRANT) + LAST_GET
    alone, _, _ = live.send(sent)
    whole, _ = live.send(post(body) + LAST_GET)
    assert (alone.status, error_of(alone)) == (whole.status, error_of(whole))


def error_of(answer: Answer) -> object:
    error = json.loads(answer.body).get("error", {})
    return {**error, "requestId": ""}


# 2. The start of a request: 100 Continue, and bodies that are not read.

REFUSED_HEADS = {
    404: request_bytes("PUT", "/nowhere", "Expect: 100-continue", "Content-Length: 5"),
    405: request_bytes("PUT", BALANCE, "Expect: 100-continue", "Content-Length: 5"),
    413: post(b"", "Expect: 100-continue", f"Content-Length: {64 * KIB + 1}"),
    421: post(b"", "Expect: 100-continue", "Content-Length: 5", "Host: evil.example"),
    401: post(b"", "Expect: 100-continue", "Content-Length: 5", "X-API-Key: other"),
}


@pytest.mark.usefixtures("short_linger")
@pytest.mark.parametrize("status", REFUSED_HEADS)
def test_a_refused_request_gets_no_100_continue(live: Live, status: int) -> None:
    """A client that skips its body may send the next request in its place, so the connection closes."""
    with live.connect() as connection:
        connection.sendall(REFUSED_HEADS[status])
        data = read_all(connection)
    (answer,) = parse_answers(data)
    assert (answer.status, answer.headers["connection"]) == (status, "close")
    assert b"100 Continue" not in data


@pytest.mark.parametrize("expectation", ["100-continue", "100-Continue", " \t100-continue \t"])
def test_an_accepted_head_gets_100_continue(live: Live, expectation: str) -> None:
    with live.connect() as connection:
        connection.sendall(post(b"", f"Expect:{expectation}", f"Content-Length: {len(SPEND)}"))
        assert read_answer(connection, has_body=False).status == 100
        connection.sendall(SPEND)
        answer = read_answer(connection)
        assert (answer.status, "connection" in answer.headers) == (201, False)
        connection.sendall(GET)
        assert read_answer(connection).status == 200


def test_a_body_sent_with_its_head_gets_no_100_continue_and_the_connection_stays_open(live: Live) -> None:
    with live.connect() as connection:
        connection.sendall(post(SPEND, "Expect: 100-continue") + LAST_GET)
        answers = parse_answers(read_all(connection))
    assert [answer.status for answer in answers] == [201, 200]
    assert "connection" not in answers[0].headers


def test_a_request_without_a_body_may_expect_100_continue(live: Live) -> None:
    assert live.statuses(request_bytes("GET", BALANCE, "Expect: 100-continue") + LAST_GET) == [200, 200]


def test_an_http_1_0_client_gets_no_100_continue(live: Live) -> None:
    """RFC 9110, section 10.1.1: the client would mistake it for the response."""
    head = request_bytes("POST", TRANSACTIONS, "Expect: 100-continue", "Content-Length: 31", version="1.0")
    assert live.statuses(head, SPEND) == [201]


def test_the_control_plane_requests_a_body_with_100_continue(live: Live) -> None:
    body = b'{"name":"other"}'
    head = request_bytes(
        "POST",
        "/_fake/sandboxes",
        f"{TOKEN_HEADER}: {TOKEN}",
        "Expect: 100-continue",
        f"Content-Length: {len(body)}",
    )
    with live.connect() as connection:
        connection.sendall(head)
        assert read_answer(connection, has_body=False).status == 100
        connection.sendall(body)
        assert read_answer(connection).status != 100


@pytest.mark.usefixtures("short_linger")
def test_the_control_plane_sends_no_100_continue_without_its_token(live: Live) -> None:
    head = request_bytes("POST", "/_fake/sandboxes", "Expect: 100-continue", "Content-Length: 5")
    assert live.statuses(head) == [401]


def test_a_request_can_be_refused_before_its_body_arrives(live: Live) -> None:
    """The client waits for the response before it sends the body."""
    with live.connect() as connection:
        connection.sendall(request_bytes("PUT", "/nowhere", "Content-Length: 5"))
        assert read_answer(connection).status == 404


@pytest.mark.parametrize("is_chunked", [True, False], ids=["chunked", "announced"])
@pytest.mark.parametrize("total_bytes", [200 * KIB, 8 * MIB, pytest.param(1024 * MIB, marks=pytest.mark.slow)])
def test_a_body_over_the_limit_is_answered_with_413_and_not_read_to_the_end(
    live: Live, monkeypatch: pytest.MonkeyPatch, is_chunked: bool, total_bytes: int
) -> None:
    received_bytes = 0
    receive = CreditsProtocol.data_received

    def data_received(protocol: CreditsProtocol, data: bytes) -> None:
        nonlocal received_bytes
        received_bytes += len(data)
        receive(protocol, data)

    monkeypatch.setattr(CreditsProtocol, "data_received", data_received)
    framing = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {total_bytes}"
    data = b"x" * (16 * KIB)
    block = b"%x\r\n%b\r\n" % (len(data), data) if is_chunked else data
    started_s = monotonic_s()
    with live.connect() as connection:
        connection.sendall(post(b"", framing))
        send_until_refused(connection, block, limit_bytes=total_bytes)
        (answer,) = parse_answers(read_all(connection))
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert received_bytes < 2 * MIB
    assert monotonic_s() - started_s < LIMIT_S
    assert live.outcomes == [(413, False, True)]


@pytest.mark.usefixtures("short_linger")
def test_data_after_a_refused_body_is_never_treated_as_a_request(live: Live) -> None:
    sent = post(b"", f"Content-Length: {64 * KIB + 1}")
    assert live.statuses(sent + post(SPEND) * 3) == [413]
    assert live.balance == 100


@pytest.mark.usefixtures("short_linger")
def test_a_client_that_sends_its_whole_body_gets_the_refusal(live: Live) -> None:
    """The server keeps reading briefly: closing with unread bytes sends a reset, which may overtake the response."""
    with live.connect() as connection:
        connection.sendall(chunked_post(b"x" * (100 * KIB)))
        answer = read_answer(connection)
        assert answer.status == 413
        connection.settimeout(LIMIT_S)
        assert connection.recv(1) == b""  # a FIN, not a reset


# 3. One queue per connection.


def test_a_pipelined_health_check_is_answered_after_the_delayed_call_before_it(live: Live) -> None:
    live.sandbox.add_fault(Rule(effect=Latency(20)))
    answers = live.send(GET + LIVEZ + LAST_GET)
    assert [answer.body[:10] for answer in answers] == [b'{"balance"', b'{"status":', b'{"balance"']


def test_requests_queued_behind_a_held_one_are_answered_in_order(live: Live) -> None:
    gate = live.sandbox.hold(Rule(effect=HoldAtGate("gate"), operation="createTransaction", first=1))
    with live.connect() as connection:
        connection.sendall(post(SPEND) + GET + LIVEZ + post(GRANT) + LAST_GET)
        gate.wait_for()
        assert live.balance == 100
        assert len(live.outcomes) == 0
        gate.release()
        statuses = [answer.status for answer in parse_answers(read_all(connection))]
    assert statuses == [201, 200, 200, 201, 200]
    assert live.balance == 100


@pytest.mark.parametrize("effect", [Reset(), Close(), Truncate(at_bytes=1, then="reset")])
@pytest.mark.parametrize("size", [1, 65536])
def test_no_pipelined_request_is_executed_after_an_aborted_response(
    live: Live, monkeypatch: pytest.MonkeyPatch, effect: Any, size: int
) -> None:
    cut_what_arrives(monkeypatch, size)
    live.sandbox.add_fault(Rule(effect=effect, phase="after", times=1))
    with live.connect() as connection:
        connection.sendall(post(SPEND) + post(SPEND) + LIVEZ + post(SPEND))
        assert b"livez" not in read_all(connection)
    until(lambda: len(live.outcomes) == 1)
    until(lambda: live.protocols[-1].disconnected.done())
    assert live.balance == 99
    assert live.outcomes == [(201, True, False)]


def test_no_pipelined_request_is_executed_after_connection_close(live: Live) -> None:
    assert live.statuses(post(SPEND, close=True) + post(SPEND) * 3) == [201]
    assert live.balance == 99


def test_pipelined_garbage_is_refused_after_the_delayed_responses(live: Live) -> None:
    live.sandbox.add_fault(Rule(effect=Latency(10)))
    assert live.statuses(GET + GET + b"NONSENSE\r\n\r\n") == [200, 200, 400]


def flood(live: Live, count: int) -> None:
    """Pipeline requests, check that the server's buffers stay small, and only then read the responses."""
    with live.connect(receive_buffer=4 * KIB) as connection:
        protocol = live.protocols[-1]
        memory_before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        block, limit = GET * 100, {"limit_bytes": len(GET) * count}
        sent = threading.Thread(target=send_until_refused, args=(connection, block), kwargs=limit)
        sent.start()
        until(lambda: protocol.is_write_paused and protocol.is_read_paused)
        assert protocol.server_state.total_requests < count
        assert len(protocol._queue) < 1000
        assert len(protocol._unfed) < MIB
        assert protocol.transport.get_write_buffer_size() < MIB
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory_before_kib < 48 * KIB
        answers = 0
        tail = b""
        while answers < count:
            data = tail + connection.recv(65536)
            answers += data.count(b"HTTP/1.1 200")
            tail = data[-11:] if not data[-12:].startswith(b"HTTP/1.1 200") else b""
        sent.join(LIMIT_S)
        assert answers == count


def test_unread_responses_pause_execution_and_reading(live: Live) -> None:
    flood(live, 30_000)


@pytest.mark.slow
def test_memory_is_bounded_with_200_000_unread_responses(live: Live) -> None:
    flood(live, 200_000)


def test_the_queue_behind_a_waiting_request_is_bounded_and_reading_pauses(live: Live) -> None:
    gate = live.sandbox.hold(Rule(effect=HoldAtGate("gate"), first=1))
    count = 30_000
    with live.connect() as connection:
        protocol = live.protocols[-1]
        sending = threading.Thread(
            target=lambda: send_until_refused(connection, GET * 100, limit_bytes=len(GET) * count)
        )
        sending.start()
        gate.wait_for()
        until(lambda: protocol.is_read_paused)
        assert len(protocol._queue) < 1000
        assert len(protocol._unfed) < MIB
        assert live.outcomes == []
        protocol.loop.call_soon_threadsafe(protocol.transport.abort)
        sending.join(LIMIT_S)
        gate.release()


# 4. Disconnects and stops.


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


hang_ups = pytest.mark.parametrize("hang_up", [socket.socket.close, reset], ids=["close", "reset"])
WAITS: dict[str, tuple[Callable[[Sandbox], object] | None, bytes]] = {
    "body": (None, post(b"", "Content-Length: 31") + SPEND[:5]),
    "delay": (lambda sandbox: sandbox.add_fault(Rule(effect=Latency(30))), post(SPEND)),
    "gate": (lambda sandbox: sandbox.hold(Rule(effect=HoldAtGate("gate"), phase="after")), post(SPEND)),
    "hang": (lambda sandbox: sandbox.add_fault(Rule(effect=Hang(), phase="after")), post(SPEND)),
    "drip": (lambda sandbox: sandbox.add_fault(Rule(effect=Drip(chunks=5, over_ms=50))), post(SPEND)),
    "control": (
        lambda sandbox: sandbox.hold(Rule(effect=HoldAtGate("gate"))),
        request_bytes(
            "POST", "/_fake/sandboxes/default/gates/gate/wait", f"{TOKEN_HEADER}: {TOKEN}", body=b'{"limit_s":60}'
        ),
    ),
}
waits = pytest.mark.parametrize("wait", WAITS)


def begin_wait(live: Live, wait: str, behind: bytes = b"") -> socket.socket:
    """Start a request that waits, pipeline any others behind it, and return the connection."""
    prepare, sent = WAITS[wait]
    if prepare is not None:
        prepare(live.sandbox)
    connection = live.connect()
    connection.sendall(sent + (b"" if wait == "body" else behind))
    protocol = live.protocols[-1]
    until(lambda: protocol._current is not None)
    if wait == "gate":
        live.sandbox.gate("gate").wait_for()
    elif wait == "drip":
        until(lambda: live.outcomes)  # journaled when the response begins
    if behind and wait != "body":
        until(lambda: protocol._queue)
    return connection


@hang_ups
@pytest.mark.parametrize("behind", [b"", post(SPEND) * 3], ids=["alone", "queued"])
@waits
def test_a_disconnect_reaches_the_request_in_flight_and_drops_the_queue(
    live: Live, log: pytest.LogCaptureFixture, wait: str, behind: bytes, hang_up: Callable[[socket.socket], None]
) -> None:
    connection = begin_wait(live, wait, behind)
    protocol = live.protocols[-1]
    hang_up(connection)
    until(lambda: protocol.disconnected.done())
    if wait == "gate":
        live.sandbox.gate("gate").release()
    until(lambda: protocol._current is None)
    assert not protocol._queue
    until(lambda: live.sandbox.journal.in_flight == 0)
    until(lambda: len(protocol.tasks) == (live.client_context is not None))  # over TLS, the listener's task remains
    expected = {
        "body": [(400, False, False)],
        "control": [],
        "drip": [(201, True, True)],  # the response had begun when the client disconnected
    }
    assert live.outcomes == expected.get(wait, [(201, True, False)])
    assert live.balance == (100 if wait in ("body", "control") else 99)


@pytest.mark.parametrize("behind", [b"", post(SPEND) * 3], ids=["alone", "queued"])
@waits
def test_stop_ends_every_wait(live: Live, log: pytest.LogCaptureFixture, wait: str, behind: bytes) -> None:
    live_connections = [begin_wait(live, wait, behind)]
    live_connections.append(live.connect())
    live_connections[-1].sendall(post(b"", "Content-Length: 31") + b"{")  # a body that never ends
    until(lambda: live.protocols[-1]._current is not None)
    started_s = monotonic_s()
    live.server.stop()
    assert monotonic_s() - started_s < 1
    assert live.sandbox.journal.in_flight == 0
    for connection in live_connections:
        read_all(connection)
    gc.collect()
    assert live.balance >= 99


LEFTOVERS = """
import logging, socket, ssl, sys, threading
if sys.argv[2] == "asyncio":
    sys.modules["uvloop"] = None
logging.getLogger("asyncio").setLevel(logging.ERROR)  # -X dev reports slow callbacks
from tests.transports import test_connection as t
import pytest
others = set(threading.enumerate())
patch = pytest.MonkeyPatch()
for wait in t.WAITS:
    live = t.Live(is_tls=sys.argv[1] == "tls", monkeypatch=patch)
    connection = t.begin_wait(live, wait, t.post(t.SPEND) * 3)
    live.stop()
    assert live.sandbox.journal.in_flight == 0, wait
    assert live.sandbox.bugs == [], wait
    patch.undo()
assert set(threading.enumerate()) == others
"""


@pytest.mark.parametrize(
    ("layer", "loop"),
    [
        ("plain", "uvloop"),
        ("tls", "asyncio"),
        pytest.param("plain", "asyncio", marks=pytest.mark.slow),
        pytest.param("tls", "uvloop", marks=pytest.mark.slow),
    ],
)
def test_no_task_socket_or_thread_is_left_after_the_server_stops(layer: str, loop: str) -> None:
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", LEFTOVERS, layer, loop]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (0, "")


# 5. Keep-alive, HTTP/1.0, HEAD, and targets and versions that are rejected.


def test_an_idle_connection_is_closed_and_a_busy_one_is_not(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    init = UvicornProtocol.__init__

    def with_short_timeout(protocol: UvicornProtocol, *args: Any, **kwargs: Any) -> None:
        init(protocol, *args, **kwargs)
        protocol.timeout_keep_alive = 0.02  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]

    monkeypatch.setattr(UvicornProtocol, "__init__", with_short_timeout)
    live.sandbox.add_fault(Rule(effect=Latency(60), operation="createTransaction"))
    with live.connect() as idle, live.connect() as busy, live.connect() as sending:
        idle.sendall(GET)
        busy.sendall(GET + post(SPEND))
        sending.sendall(GET + post(b"", "Content-Length: 31"))
        assert read_answer(idle).status == read_answer(busy).status == read_answer(sending).status == 200
        assert idle.recv(1) == b""
        assert read_answer(busy).status == 201
        sending.sendall(SPEND)
        assert read_answer(sending).status == 201
        assert busy.recv(1) == sending.recv(1) == b""


@pytest.mark.parametrize("target", ["/_fake/livez", BALANCE])
def test_http_1_0_needs_no_host(live: Live, target: str) -> None:
    (answer,) = live.send(f"GET {target} HTTP/1.0\r\nX-API-Key: key\r\n\r\n".encode())
    assert (answer.status, answer.headers["connection"]) == (200, "close")


@pytest.mark.parametrize("target", ["/_fake/livez", BALANCE])
def test_http_1_1_needs_a_host(live: Live, target: str) -> None:
    assert live.statuses(f"GET {target} HTTP/1.1\r\nConnection: close\r\n\r\n".encode()) == [400]


def test_a_repeated_host_is_refused_and_the_next_request_is_served(live: Live) -> None:
    assert live.statuses(request_bytes("GET", BALANCE, "Host: localhost", "Host: localhost") + LAST_GET) == [400, 200]


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (f"http://evil.example{BALANCE}", 421),
        ("http://evil.example/_fake/livez", 421),
        ("http://evil.example", 421),
        (f"http://localhost{BALANCE}", 200),
        (f"http://user@localhost:80{BALANCE}", 200),
        ("http://localhost/_fake/livez", 200),
        (f"{BALANCE}#fragment", 400),
        ("balance", 400),
        ("ftp://localhost/", 400),
        ("*", 404),
    ],
)
def test_the_form_and_host_of_a_target_determine_the_status(live: Live, target: str, status: int) -> None:
    assert live.statuses(request_bytes("GET", target, close=True)) == [status]


@pytest.mark.parametrize("host", ["localhost", "evil.example"])
def test_an_absolute_target_overrides_the_host(live: Live, host: str) -> None:
    """RFC 9112, section 3.2.2."""
    target = f"http://localhost{BALANCE}"
    assert live.statuses(request_bytes("GET", target, f"Host: {host}", close=True)) == [200]


@pytest.mark.parametrize(
    "sent",
    [
        post(chunks(SPEND), "Transfer-Encoding: gzip, chunked"),
        post(chunks(SPEND), "Transfer-Encoding: gzip", "Transfer-Encoding: chunked"),
        post(SPEND, "Transfer-Encoding: gzip"),
        post(SPEND, "Content-Length: 31", "Content-Length: 30"),
        post(chunks(SPEND), "Content-Length: 31", "Transfer-Encoding: chunked"),
        request_bytes(version="2.0"),
        request_bytes(version="1.2"),
        request_bytes(version="0.9"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /_fake/livez\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        request_bytes("CONNECT", "localhost:80"),
        request_bytes("GET", BALANCE, "Bad Name: x"),
    ],
)
@pytest.mark.usefixtures("short_linger")
@pytest.mark.parametrize("size", [1, 65536])
def test_a_malformed_request_is_refused_and_ends_the_connection(
    live: Live, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture, sent: bytes, size: int
) -> None:
    cut_what_arrives(monkeypatch, size)
    answers = live.send(sent + b"\r\n\r\n")
    assert [answer.status for answer in answers] == [400]
    assert answers[0].headers["connection"] == "close"
    assert live.balance == 100


@pytest.mark.parametrize("target", [BALANCE, TRANSACTIONS, "/_fake/livez", "/nowhere"])
def test_head_is_get_without_the_body(live: Live, target: str) -> None:
    with live.connect() as connection:
        connection.sendall(request_bytes("GET", target))
        got = read_answer(connection)
        connection.sendall(request_bytes("HEAD", target))
        head = read_answer(connection, has_body=False)
        connection.sendall(LAST_GET)
        assert [answer.status for answer in parse_answers(read_all(connection))] == [200]
    assert head.status == got.status
    if target != "/nowhere":  # its error message contains the method
        assert head.headers["content-length"] == got.headers["content-length"]
    variable = ("date", "x-request-id", "content-length")
    assert {name: value for name, value in head.headers.items() if name not in variable} == {
        name: value for name, value in got.headers.items() if name not in variable
    }


@pytest.mark.parametrize("effect", [Latency(5), Drip(chunks=3, over_ms=6), None])
def test_head_is_subject_to_faults_and_journaled_as_head(live: Live, effect: Any) -> None:
    if effect is not None:
        live.sandbox.add_fault(Rule(effect=effect))
    with live.connect() as connection:
        connection.sendall(request_bytes("HEAD") + LAST_GET)
        head, got = parse_answers(read_all(connection), heads=1)
    assert (head.status, got.status) == (200, 200)
    assert head.headers["content-length"] == got.headers["content-length"]
    assert [entry.method for entry in live.sandbox.journal.entries()] == ["HEAD", "GET"]
    assert [bool(entry.rule) for entry in live.sandbox.journal.entries()] == [effect is not None] * 2


def test_the_response_to_head_can_be_lost(live: Live) -> None:
    live.sandbox.add_fault(Rule(effect=Reset(), phase="after"))
    assert live.statuses(request_bytes("HEAD")) == []
    assert live.outcomes == [(200, False, False)]


@pytest.mark.parametrize("space", [" ", "\t", " \t  "])
def test_whitespace_around_a_header_value_is_ignored(live: Live, space: str) -> None:
    fields = [f"Host:{space}localhost{space}", f"X-API-Key:{space}key{space}"]
    control = [f"Host:{space}localhost{space}", f"{TOKEN_HEADER}:{space}{TOKEN}{space}", "Connection: close"]
    sent = request_bytes("GET", BALANCE, *fields) + request_bytes("GET", "/_fake/sandboxes/default", *control)
    assert live.statuses(sent) == [200, 200]


# 6. Gates.


def test_release_returns_once_the_exchange_reaches_its_next_wait(live: Live) -> None:
    first = live.sandbox.hold(Rule(effect=HoldAtGate("first"), phase="before"))
    second = live.sandbox.hold(Rule(effect=HoldAtGate("second"), phase="after"))
    with live.connect() as connection:
        connection.sendall(post(SPEND, close=True))
        first.wait_for()
        assert live.balance == 100
        first.release()
        assert (second.arrivals, live.balance) == (1, 99)
        second.release()
        assert live.outcomes == [(201, True, True)]
        assert read_answer(connection).status == 201


@pytest.mark.parametrize("effect", [Latency(5), Hang(), Drip(chunks=2, over_ms=10)])
def test_release_does_not_wait_for_a_delay_or_a_hang(live: Live, effect: Any) -> None:
    gate = live.sandbox.hold(Rule(effect=HoldAtGate("gate"), phase="before"))
    live.sandbox.add_fault(Rule(effect=effect))
    with live.connect() as connection:
        connection.sendall(GET)
        gate.wait_for()
        started_s = monotonic_s()
        gate.release()
        assert monotonic_s() - started_s < 1


@hang_ups
def test_release_returns_once_the_connection_is_lost(live: Live, hang_up: Callable[[socket.socket], None]) -> None:
    gate = live.sandbox.hold(Rule(effect=HoldAtGate("gate"), phase="after"))
    connections = [live.connect() for _ in range(3)]
    for count, connection in enumerate(connections):
        connection.sendall(post(SPEND))
        gate.wait_for(count + 1)
    hang_up(connections[1])
    until(lambda: live.protocols[1].disconnected.done())
    gate.release()
    assert live.outcomes == [(201, True, True), (201, True, False), (201, True, True)]


def test_gates_are_released_from_many_threads(live: Live) -> None:
    gate = live.sandbox.hold(Rule(effect=HoldAtGate("gate")))
    connections = [live.connect() for _ in range(6)]
    for connection in connections:
        connection.sendall(post(SPEND, close=True))
    gate.wait_for(6)
    threads = [threading.Thread(target=lambda: gate.release([0], keep=True)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert len(live.outcomes) == 6
    assert live.balance == 94


# Any segmentation yields the same responses.

STREAM = b"".join(
    [
        GET,
        post(SPEND),
        request_bytes("GET", BALANCE, *OFFER),
        chunked_post(GRANT[:5], GRANT[5:], trailers=b"X-API-Key: other\r\nUpgrade: x\r\n"),
        LIVEZ,
        post(SPEND, *OFFER),
        chunked_post(GRANT, fields=OFFER),
        request_bytes("GET", "/nowhere"),
        post(SPEND, "X-API-Key: other"),
        b"\r\n" + GET,
        request_bytes("DELETE", BALANCE),
        post(b'{"delta":0}'),
        b"NONSENSE\r\n\r\n",
    ]
)


def normalized(answers: list[Answer]) -> list[tuple[int, str, bytes]]:
    """Return the parts of the responses that do not depend on the time or on earlier requests."""
    return [
        (answer.status, answer.headers.get("connection", ""), re.sub(rb"\d+|txn_\w+", b"0", answer.body))
        for answer in answers
    ]


def send_in_pieces(live: Live, cuts: list[int], stream: bytes = STREAM) -> list[tuple[int, str, bytes]]:
    with live.connect() as connection:
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            connection.sendall(stream[start:end])
            threading.Event().wait(0.0003)
        return normalized(parse_answers(read_all(connection)))


@seed(13)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=10).map(sorted), latency=st.booleans())
def test_the_same_bytes_yield_the_same_responses_wherever_they_are_cut(
    live: Live, cuts: list[int], latency: bool
) -> None:
    whole = send_in_pieces(live, [])
    assert [status for status, _, _ in whole] == [200, 201, 200, 201, 200, 201, 201, 404, 401, 200, 405, 400, 400]
    if latency:
        live.sandbox.add_fault(Rule(effect=Latency(1), every=2))
    balance = live.balance
    assert send_in_pieces(live, cuts) == whole
    assert live.balance == balance


@pytest.mark.parametrize("size", [1, 2, 3, 5, 11, 64, 300])
@pytest.mark.parametrize("is_delayed", [False, True], ids=["at once", "delayed"])
def test_the_same_bytes_yield_the_same_responses_at_any_segment_size(
    live: Live, monkeypatch: pytest.MonkeyPatch, size: int, is_delayed: bool
) -> None:
    whole = send_in_pieces(live, [])
    if is_delayed:
        live.sandbox.add_fault(Rule(effect=Latency(1), every=2))
    cut_what_arrives(monkeypatch, size)
    assert send_in_pieces(live, []) == whole
