"""The live server's side of a connection: what comes broken, in pieces, behind others, or not at all."""

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
from tests.transports.test_live import GET, LIMIT_S, POST_HEAD, SPEND, connect, read_answer, sandbox, server, until

__all__ = ["sandbox", "server"]

CHUNKED = POST_HEAD.replace(b"Content-Length: 31", b"Transfer-Encoding: chunked")
HEAD_ONLY = b"PUT /nowhere HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"


def everything(connection: socket.socket) -> bytes:
    """Return all that comes until the server closes the connection."""
    got = b""
    while chunk := connection.recv(65536):
        got += chunk
    return got


def test_an_answer_before_100_continue_closes_the_connection(server: LiveServer) -> None:
    """The client skips its body, and what it would send next must not be taken for that (RFC 9110, section 10.1.1)."""
    with connect(server) as connection:
        connection.sendall(HEAD_ONLY)
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 404")
    assert b"connection: close" in answer


def test_a_client_that_waits_for_100_continue_gets_it_and_its_answer(server: LiveServer) -> None:
    with connect(server) as connection:
        connection.sendall(POST_HEAD.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(SPEND)
        assert connection.recv(12) == b"HTTP/1.1 201"


def test_garbage_after_a_whole_request_is_refused_in_its_turn(server: LiveServer, sandbox: Sandbox) -> None:
    with connect(server) as connection:
        connection.sendall(POST_HEAD + SPEND + b"NONSENSE\r\n\r\n")
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 201")
    assert answer.count(b"HTTP/1.1 400") == 1
    until(lambda: len(sandbox.journal) == 2)
    seen = {entry.status: (entry.committed, entry.delivered) for entry in sandbox.journal}
    assert seen == {201: (True, True), 400: (False, True)}


def test_a_broken_body_behind_other_requests_is_never_answered_in_their_place(server: LiveServer) -> None:
    with connect(server) as connection:
        connection.sendall(GET + GET + CHUNKED + b"zz\r\n")
        answer = everything(connection)
    assert not answer.startswith(b"HTTP/1.1 400")


def test_a_broken_body_alone_is_answered(server: LiveServer) -> None:
    with connect(server) as connection:
        connection.sendall(CHUNKED + b"zz\r\n")
        assert everything(connection).startswith(b"HTTP/1.1 400")


GRANT = b'{"delta":1,"reason":"grant"}'
OFFER = b"\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
OFFERING = {
    "without a body": GET.replace(b"\r\n\r\n", OFFER),
    "with a body": POST_HEAD.replace(b"31", b"%d" % len(GRANT)).replace(b"\r\n\r\n", OFFER) + GRANT,
    "with an empty body": GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 0" + OFFER),
    "in chunks": CHUNKED.replace(b"\r\n\r\n", OFFER) + b"%x\r\n%b\r\n0\r\nX-Trailer: x\r\n\r\n" % (len(GRANT), GRANT),
}


@pytest.mark.parametrize("name", OFFERING)
def test_an_offer_to_upgrade_is_ignored_wherever_the_network_cuts_it(
    server: LiveServer, sandbox: Sandbox, name: str
) -> None:
    """RFC 9110, section 7.8; what comes behind it on the connection is answered too."""
    offering = OFFERING[name]
    with connect(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for cut in range(len(offering) + 1):
            connection.sendall(offering[:cut])
            threading.Event().wait(0.0005)
            connection.sendall(offering[cut:])
            assert read_answer(connection).startswith(b"HTTP/1.1 20")
            connection.sendall(GET)
            assert read_answer(connection).startswith(b"HTTP/1.1 200")
    grants = len(offering) + 1 if GRANT in offering else 0
    assert sandbox.ledger.get_account("app-id", "user-id").balance == 5 + grants
    assert len(sandbox.journal) == 2 * (len(offering) + 1)


def test_an_offer_to_upgrade_at_once_with_what_follows_is_ignored(server: LiveServer) -> None:
    everything_at_once = b"".join([*OFFERING.values(), GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")])
    with connect(server) as connection:
        connection.sendall(everything_at_once)
        assert everything(connection).count(b"HTTP/1.1 20") == len(OFFERING) + 1


# ------------------------------------------------------------ gates


@pytest.fixture
def fake() -> Iterator[FakeCredits]:
    with FakeCredits(mode="live", balance=5) as fake:
        yield fake


@contextmanager
def asking(call: Callable[[str, str], object]) -> Generator[None]:
    """Let another thread make a call, and see it through."""
    thread = threading.Thread(target=call, args=("app-id", "user-id"))
    thread.start()
    yield
    thread.join(LIMIT_S)
    assert not thread.is_alive()


def test_who_is_released_has_arrived_at_the_next_gate_when_release_returns(
    fake: FakeCredits, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = fake.hold(phase="before"), fake.hold(phase="after")
    arrive = second.try_hold

    def slowly(ticket: GateTicket) -> bool:
        threading.Event().wait(0.005)
        return arrive(ticket)

    monkeypatch.setattr(second, "try_hold", slowly)
    with asking(fake.server_client.get_balance):
        first.wait_for()
        first.release()
        assert second.arrivals == 1
        second.release()


def test_a_limit_that_passes_during_the_release_lets_nobody_go_out_of_turn(
    fake: FakeCredits, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, releasing, journalled = fake.hold(), threading.Event(), list[int]()

    def go_first() -> None:
        releasing.set()
        threading.Event().wait(0.01)
        journalled.append(len(fake.journal))

    until = PendingWaits.wait_until_done

    async def meets_its_limit(waits: PendingWaits, future: "asyncio.Future[bool]", limit_s: float) -> bool:
        if releasing.is_set():
            return await until(waits, future, limit_s)
        while not releasing.is_set():
            await asyncio.sleep(0.001)
        return False

    monkeypatch.setattr(PendingWaits, "wait_until_done", meets_its_limit)
    gate.try_hold(GateTicket("first", 0, "the first", go_first))
    with asking(fake.server_client.get_balance):
        gate.wait_for(2)
        gate.release()
        journalled.append(len(fake.journal))
    assert journalled == [0, 1]


def test_a_rules_function_can_release_a_gate_though_the_server_runs_it(fake: FakeCredits) -> None:
    gate = fake.hold("getUser")

    def releases(_call: IncomingCall) -> bool:
        gate.release()
        return True

    fake.faults.add(Latency(0), "getBalance", where=releases)
    with asking(fake.server_client.get_user):
        gate.wait_for()
        client = ServerClient(fake.base_url, fake.api_key, timeout_s=2)
        with client:
            assert client.get_balance("app-id", "user-id").balance == 5


def test_a_release_under_the_sandboxs_lock_is_told(fake: FakeCredits, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server needs the lock to go on, so nobody would."""
    monkeypatch.setattr(live_connection, "_HANDOFF_TIMEOUT_S", 0.01)
    gate = fake.hold("getBalance")
    with asking(fake.server_client.get_balance):
        gate.wait_for()
        with fake.sandbox.lock:
            gate.release()
    (problem,) = fake.sandbox.problems
    assert problem.startswith("gate 'gate1' let getBalance of user-id go, which did not go on within 0.01 s")


def test_a_hang_that_begins_as_its_sandbox_closes_ends_at_once(server: LiveServer, sandbox: Sandbox) -> None:
    sandbox.add_fault(Rule(effect=Hang(), where=lambda _: not sandbox.close()))
    with connect(server) as connection:
        connection.sendall(GET)
        assert connection.recv(1) == b""
