"""The live server over https: it answers as over http, and clients that break off leave it quiet."""

import contextlib
import gc
import logging
import socket
import ssl
import sys
from collections.abc import Callable, Iterator

import pytest

from fake_credits.client.server import ServerClient
from fake_credits.clock import monotonic_s
from fake_credits.faults.context import Effect
from fake_credits.faults.effects import Close, Reset, Truncate
from fake_credits.faults.serialization import rule_from
from fake_credits.journal import JournalEntry
from fake_credits.sandbox import Sandbox
from fake_credits.sandbox_options import SandboxOptions
from fake_credits.sandboxes import SandboxRegistry
from fake_credits.tokens.keys import SigningKeys
from fake_credits.transports.certificates import IssuedCertificate, issue_certificate, server_ssl_context
from fake_credits.transports.live import BindOptions, LiveServer, TlsOptions

KEYS = SigningKeys()
LIMIT_S = 5.0
HEALTH = b"GET /_fake/readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def issued() -> IssuedCertificate:
    """The certificates of all servers here."""
    return issue_certificate()


@pytest.fixture(params=["the best loop", "asyncio's own loop"])
def server(
    request: pytest.FixtureRequest, issued: IssuedCertificate, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LiveServer]:
    """A server over https, on either event loop."""
    if request.param == "asyncio's own loop":
        monkeypatch.setitem(sys.modules, "uvloop", None)
    sandbox = Sandbox(SandboxOptions(api_key="key", balance=5), KEYS, "base")
    server = LiveServer(
        sandbox.contract, SandboxRegistry(sandbox), BindOptions(tls=TlsOptions(server_ssl_context(issued)))
    )
    server.start()
    yield server
    server.stop()


def connect(server: LiveServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.base_url.rpartition(":")[2])), timeout=LIMIT_S)


def entries(server: LiveServer) -> list[JournalEntry]:
    return list(server.sandboxes.default.journal.entries())


def ask(server: LiveServer, client: ssl.SSLContext) -> bytes:
    """Return the whole answer to a question for its health."""
    with connect(server) as plain, client.wrap_socket(plain, server_hostname="localhost") as connection:
        connection.sendall(HEALTH)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def test_it_answers_over_https_and_says_so_in_its_url(server: LiveServer, issued: IssuedCertificate) -> None:
    assert server.base_url.startswith("https://127.0.0.1:")
    assert ask(server, ssl.create_default_context(cadata=issued.ca_pem)).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_client_of_ours_works_and_its_answers_count_as_delivered(
    server: LiveServer,
    issued: IssuedCertificate,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Whether the client is still there is asked of the socket below TLS."""
    ca = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.write_text(issued.ca_pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    with ServerClient(server.base_url, "key") as client:
        client.create_transaction("app-id", "user-id", delta=-2, reason="consume")
        assert client.get_balance("app-id", "user-id").balance == 3
    assert [(entry.status, entry.delivered) for entry in entries(server)] == [(201, True), (200, True)]


def test_the_base_url_has_the_name_that_the_certificate_is_for(issued: IssuedCertificate) -> None:
    sandbox = Sandbox(SandboxOptions(), KEYS, "base")
    server = LiveServer(
        sandbox.contract, SandboxRegistry(sandbox), BindOptions(tls=TlsOptions(server_ssl_context(issued), "localhost"))
    )
    server.start()
    server.stop()
    assert server.base_url.startswith("https://localhost:")


def speak_plain_http(connection: socket.socket) -> None:
    connection.sendall(HEALTH)
    with contextlib.suppress(ConnectionResetError):
        assert b"200" not in connection.recv(65536)


def distrust(connection: socket.socket) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(connection, server_hostname="localhost")


def hang_up_in_the_handshake(connection: socket.socket) -> None:
    connection.sendall(b"\x16\x03\x01\x02\x00\x01")


def hang_up_at_once(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.slow
@pytest.mark.parametrize("way", [speak_plain_http, distrust, hang_up_in_the_handshake, hang_up_at_once])
def test_clients_that_break_off_leave_no_line_in_the_log_and_no_entry(
    way: Callable[[socket.socket], None],
    server: LiveServer,
    issued: IssuedCertificate,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with caplog.at_level(logging.DEBUG):
        with connect(server) as connection:
            way(connection)
        ask(server, ssl.create_default_context(cadata=issued.ca_pem))
        server.stop()
    gc.collect()
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []
    assert capfd.readouterr().err == ""
    assert entries(server) == []


def raw_end(server: LiveServer, client: ssl.SSLContext, request: bytes) -> tuple[bytes, str]:
    """Return what a client decrypts, and its end: TLS's own, or a RST below it, which Python's ssl would hide."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = client.wrap_bio(incoming, outgoing, server_hostname="localhost")
    answer, asked = b"", False
    with connect(server) as connection:
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                session.do_handshake()
                asked = asked or session.write(request) > 0
                while chunk := session.read(65536):
                    answer += chunk
                return answer, "close_notify"
            try:
                connection.sendall(outgoing.read())
                data = connection.recv(65536)
            except ConnectionResetError:
                return answer, "RST"
            assert data, "a FIN without a close_notify"
            incoming.write(data)


@pytest.mark.parametrize(
    ("effect", "ends", "body"),
    [
        (Reset(), "RST", b""),
        (Close(), "close_notify", b""),
        (Truncate(at_bytes=3, then="reset"), "RST", b'{"b'),
        (Truncate(at_bytes=3), "close_notify", b'{"b'),
    ],
)
def test_a_fault_on_the_connection_is_the_same_below_tls(
    effect: Effect, ends: str, body: bytes, server: LiveServer, issued: IssuedCertificate
) -> None:
    server.sandboxes.default.add_fault(rule_from(effect))
    path = "/v1/applications/app-id/users/user-id/balance"
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: key\r\n\r\n".encode()
    answer, ended = raw_end(server, ssl.create_default_context(cadata=issued.ca_pem), request)
    assert (answer.partition(b"\r\n\r\n")[2], ended) == (body, ends)
    assert [entry.delivered for entry in entries(server)] == [False]


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_a_handshake_that_never_ends_does_not_hold_up_the_end(
    sent: bytes, server: LiveServer, capfd: pytest.CaptureFixture[str]
) -> None:
    with connect(server) as connection:
        connection.sendall(sent)
        began_s = monotonic_s()
        server.stop()
        assert monotonic_s() - began_s < LIMIT_S / 2
        gc.collect()
        assert capfd.readouterr().err == ""


def test_an_idle_connection_does_not_hold_it_up_either(server: LiveServer, issued: IssuedCertificate) -> None:
    client = ssl.create_default_context(cadata=issued.ca_pem)
    with connect(server) as plain, client.wrap_socket(plain, server_hostname="localhost") as connection:
        connection.sendall(HEALTH.replace(b"Connection: close\r\n", b""))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        began_s = monotonic_s()
        server.stop()
        assert monotonic_s() - began_s < LIMIT_S / 2


def test_the_port_is_free_once_stop_returns(server: LiveServer) -> None:
    port = int(server.base_url.rpartition(":")[2])
    server.stop()
    socket.create_server(("127.0.0.1", port)).close()
