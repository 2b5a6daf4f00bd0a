"""Test the live server's connection handling: malformed, split and pipelined requests, and gates."""

import asyncio
import socket
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

import pytest

from fake_credits.client.server import ServerClient
from fake_credits.fake import FakeCredits
from fake_credits.faults import Hang, IncomingCall, Latency, Rule
from fake_credits.faults.gates import GateTicket
from fake_credits.sandbox import Sandbox
from fake_credits.transports import live_connection
from fake_credits.transports.live import LiveServer
from fake_credits.transports.sockets import PendingWaits
from tests.transports.test_live import (
    GET,
    LIMIT_S,
    POST_HEAD,
    TRANSACTION_BODY,
    connect,
    read_response,
    sandbox,
    server,
    wait_until,
)

__all__ = ["sandbox", "server"]

CHUNKED = POST_HEAD.replace(b"Content-Length: 31", b"Transfer-Encoding: chunked")
HEAD_ONLY = b"PUT /nowhere HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"


def read_until_closed(connection: socket.socket) -> bytes:
    """Return all bytes received until the server closes the connection."""
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


@pytest.mark.usefixtures("short_linger")
def test_response_before_100_continue_closes_connection(server: LiveServer) -> None:
    """The client skips its body, so its next request must not be read as the body (RFC 9110, section 10.1.1)."""
    with connect(server) as connection:
        connection.sendall(HEAD_ONLY)
        response = read_until_closed(connection)
    assert response.startswith(b"HTTP/1.1 404")
    assert b"connection: close" in response


def test_expect_100_continue_is_answered(server: LiveServer) -> None:
    with connect(server) as connection:
        connection.sendall(POST_HEAD.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(TRANSACTION_BODY)
        assert connection.recv(12) == b"HTTP/1.1 201"


def test_garbage_after_request_is_rejected_after_response(server: LiveServer, sandbox: Sandbox) -> None:
    with connect(server) as connection:
        connection.sendall(POST_HEAD + TRANSACTION_BODY + b"NONSENSE\r\n\r\n")
        response = read_until_closed(connection)
    assert response.startswith(b"HTTP/1.1 201")
    assert response.count(b"HTTP/1.1 400") == 1
    wait_until(lambda: len(sandbox.journal) == 2)
    entries_by_status = {entry.status: (entry.committed, entry.delivered) for entry in sandbox.journal}
    assert entries_by_status == {201: (True, True), 400: (False, True)}


@pytest.mark.usefixtures("short_linger")
def test_malformed_body_after_pipelined_requests_is_not_answered_first(server: LiveServer) -> None:
    with connect(server) as connection:
        connection.sendall(GET + GET + CHUNKED + b"zz\r\n")
        response = read_until_closed(connection)
    assert not response.startswith(b"HTTP/1.1 400")


@pytest.mark.usefixtures("short_linger")
def test_malformed_chunked_body_is_answered_with_400(server: LiveServer) -> None:
    with connect(server) as connection:
        connection.sendall(CHUNKED + b"zz\r\n")
        assert read_until_closed(connection).startswith(b"HTTP/1.1 400")


GRANT = b'{"delta":1,"reason":"grant"}'
UPGRADE_HEADERS = b"\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
UPGRADE_REQUESTS = {
    "without body": GET.replace(b"\r\n\r\n", UPGRADE_HEADERS),
    "with body": POST_HEAD.replace(b"31", b"%d" % len(GRANT)).replace(b"\r\n\r\n", UPGRADE_HEADERS) + GRANT,
    "with empty body": GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 0" + UPGRADE_HEADERS),
    "chunked": CHUNKED.replace(b"\r\n\r\n", UPGRADE_HEADERS)
    + b"%x\r\n%b\r\n0\r\nX-Trailer: x\r\n\r\n" % (len(GRANT), GRANT),
}


@pytest.mark.parametrize("name", UPGRADE_REQUESTS)
def test_upgrade_is_ignored_wherever_request_is_split(server: LiveServer, sandbox: Sandbox, name: str) -> None:
    """The next request on the connection is answered too (RFC 9110, section 7.8)."""
    request = UPGRADE_REQUESTS[name]
    with connect(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for index in range(len(request) + 1):
            connection.sendall(request[:index])
            threading.Event().wait(0.0005)
            connection.sendall(request[index:])
            assert read_response(connection).startswith(b"HTTP/1.1 20")
            connection.sendall(GET)
            assert read_response(connection).startswith(b"HTTP/1.1 200")
    grants = len(request) + 1 if GRANT in request else 0
    assert sandbox.ledger.get_account("app-id", "user-id").balance == 5 + grants
    assert len(sandbox.journal) == 2 * (len(request) + 1)


def test_upgrade_is_ignored_in_pipelined_requests(server: LiveServer) -> None:
    pipelined_requests = b"".join(
        [*UPGRADE_REQUESTS.values(), GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")]
    )
    with connect(server) as connection:
        connection.sendall(pipelined_requests)
        assert read_until_closed(connection).count(b"HTTP/1.1 20") == len(UPGRADE_REQUESTS) + 1


# ------------------------------------------------------------ gates


@pytest.fixture
def fake() -> Iterator[FakeCredits]:
    with FakeCredits(mode="live", balance=5) as fake:
        yield fake


@contextmanager
def calling_in_thread(call: Callable[[str, str], object]) -> Generator[None]:
    """Make a call in another thread and join it at the end of the block."""
    thread = threading.Thread(target=call, args=("app-id", "user-id"))
    thread.start()
    yield
    thread.join(LIMIT_S)
    assert not thread.is_alive()


def test_released_call_reaches_next_gate_before_release_returns(
    fake: FakeCredits, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = fake.hold(phase="before"), fake.hold(phase="after")
    try_hold = second.try_hold

    def slow_try_hold(ticket: GateTicket) -> bool:
        threading.Event().wait(0.005)
        return try_hold(ticket)

    monkeypatch.setattr(second, "try_hold", slow_try_hold)
    with calling_in_thread(fake.server_client.get_balance):
        first.wait_for()
        first.release()
        assert second.arrivals == 1
        second.release()


def test_timeout_during_release_keeps_release_order(fake: FakeCredits, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, release_started, journal_sizes = fake.hold(), threading.Event(), list[int]()

    def callback() -> None:
        release_started.set()
        threading.Event().wait(0.01)
        journal_sizes.append(len(fake.journal))

    wait_until_done = PendingWaits.wait_until_done

    async def time_out_during_release(waits: PendingWaits, future: "asyncio.Future[bool]", limit_s: float) -> bool:
        if release_started.is_set():
            return await wait_until_done(waits, future, limit_s)
        while not release_started.is_set():
            await asyncio.sleep(0.001)
        return False

    monkeypatch.setattr(PendingWaits, "wait_until_done", time_out_during_release)
    gate.try_hold(GateTicket("first", 0, "the first", callback))
    with calling_in_thread(fake.server_client.get_balance):
        gate.wait_for(2)
        gate.release()
        journal_sizes.append(len(fake.journal))
    assert journal_sizes == [0, 1]


def test_where_function_can_release_gate_on_server(fake: FakeCredits) -> None:
    gate = fake.hold("getUser")

    def release_gate(_call: IncomingCall) -> bool:
        gate.release()
        return True

    fake.faults.add(Latency(0), "getBalance", where=release_gate)
    with calling_in_thread(fake.server_client.get_user):
        gate.wait_for()
        client = ServerClient(fake.base_url, fake.api_key, timeout_s=2)
        with client:
            assert client.get_balance("app-id", "user-id").balance == 5


def test_release_under_sandbox_lock_is_reported(fake: FakeCredits, monkeypatch: pytest.MonkeyPatch) -> None:
    """The held call cannot resume while the releasing thread holds the lock."""
    monkeypatch.setattr(live_connection, "_HANDOFF_TIMEOUT_S", 0.01)
    gate = fake.hold("getBalance")
    with calling_in_thread(fake.server_client.get_balance):
        gate.wait_for()
        with fake.sandbox.lock:
            gate.release()
    (problem,) = fake.sandbox.problems
    assert problem.text.startswith("gate 'gate1' released getBalance for user-id, which did not resume within 0.01 s")


def test_hang_ends_at_once_when_sandbox_closes(server: LiveServer, sandbox: Sandbox) -> None:
    sandbox.add_fault(Rule(effect=Hang(), where=lambda _: not sandbox.close()))
    with connect(server) as connection:
        connection.sendall(GET)
        assert connection.recv(1) == b""
