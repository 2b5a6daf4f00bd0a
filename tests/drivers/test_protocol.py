"""The live server's side of a connection: what comes broken, in pieces, behind others, or not at all."""

import socket

import pytest

from fake_credits.drivers.live import LiveServer
from fake_credits.drivers.protocol import without_upgrade
from fake_credits.sandbox import Sandbox
from tests.drivers.test_live import GET, POST_HEAD, SPEND, connect, sandbox, server, until

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


def test_garbage_behind_a_whole_request_is_journalled_undelivered_and_that_request_is_answered(
    server: LiveServer,
    sandbox: Sandbox,
) -> None:
    with connect(server) as connection:
        connection.sendall(POST_HEAD + SPEND + b"NONSENSE\r\n\r\n")
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 201")
    assert answer.count(b"HTTP/1.1 ") == 1
    until(lambda: len(sandbox.journal) == 2)
    seen = {entry.status: (entry.committed, entry.delivered) for entry in sandbox.journal}
    assert seen == {201: (True, True), 400: (False, False)}


def test_a_broken_body_behind_other_requests_is_never_answered_in_their_place(server: LiveServer) -> None:
    with connect(server) as connection:
        connection.sendall(GET + GET + CHUNKED + b"zz\r\n")
        answer = everything(connection)
    assert not answer.startswith(b"HTTP/1.1 400")


def test_a_broken_body_alone_is_answered(server: LiveServer) -> None:
    with connect(server) as connection:
        connection.sendall(CHUNKED + b"zz\r\n")
        assert everything(connection).startswith(b"HTTP/1.1 400")


UPGRADING = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"


@pytest.mark.parametrize("cut", range(len(UPGRADING) + 1))
def test_an_offer_to_upgrade_is_gone_wherever_the_network_cuts_it(cut: int) -> None:
    first, second = UPGRADING[:cut], UPGRADING[cut:]
    seen = without_upgrade(b"", first) + without_upgrade(first[-9:], second)
    assert b"\r\nupgrade:" not in seen.lower()
    assert seen.count(b"\r\n") == UPGRADING.count(b"\r\n")


@pytest.mark.parametrize("cut", [4, 12])
def test_a_post_that_offers_an_upgrade_in_two_pieces_is_answered(server: LiveServer, cut: int) -> None:
    offer = POST_HEAD.replace(b"\r\n\r\n", b"\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n")
    at = offer.index(b"\r\nUpgrade") + cut
    with connect(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(offer[:at])
        connection.sendall(offer[at:] + SPEND)
        assert connection.recv(12) == b"HTTP/1.1 201"
