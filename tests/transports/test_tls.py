"""Test the live server over HTTPS: responses, connection faults, aborted handshakes and shutdown."""

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
from fake_credits.faults import Close, Reset, Truncate
from fake_credits.faults.declarations import rule_from
from fake_credits.faults.effects.base import Effect
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
def certificate() -> IssuedCertificate:
    """Issue one certificate for all servers in this module."""
    return issue_certificate()


@pytest.fixture(params=["default loop", "asyncio loop"])
def server(
    request: pytest.FixtureRequest, certificate: IssuedCertificate, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LiveServer]:
    """Start an HTTPS server on each event loop."""
    if request.param == "asyncio loop":
        monkeypatch.setitem(sys.modules, "uvloop", None)
    sandbox = Sandbox(SandboxOptions(api_key="key", balance=5), KEYS, "base")
    server = LiveServer(
        sandbox.contract, SandboxRegistry(sandbox), BindOptions(tls=TlsOptions(server_ssl_context(certificate)))
    )
    server.start()
    yield server
    server.stop()


def connect(server: LiveServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.base_url.rpartition(":")[2])), timeout=LIMIT_S)


def entries(server: LiveServer) -> list[JournalEntry]:
    return list(server.sandboxes.default.journal.entries())


def get_health(server: LiveServer, client: ssl.SSLContext) -> bytes:
    """Return the complete response to a health check."""
    with connect(server) as plain, client.wrap_socket(plain, server_hostname="localhost") as connection:
        connection.sendall(HEALTH)
        response = b""
        while chunk := connection.recv(65536):
            response += chunk
    return response


def test_server_answers_over_https_and_base_url_says_https(server: LiveServer, certificate: IssuedCertificate) -> None:
    assert server.base_url.startswith("https://127.0.0.1:")
    assert get_health(server, ssl.create_default_context(cadata=certificate.ca_pem)).startswith(b"HTTP/1.1 200 OK\r\n")


def test_server_client_works_over_https_and_responses_are_delivered(
    server: LiveServer,
    certificate: IssuedCertificate,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The server checks the socket below TLS to see whether the client is still connected."""
    ca = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.write_text(certificate.ca_pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    with ServerClient(server.base_url, "key") as client:
        client.create_transaction("app-id", "user-id", delta=-2, reason="consume")
        assert client.get_balance("app-id", "user-id").balance == 3
    assert [(entry.status, entry.delivered) for entry in entries(server)] == [(201, True), (200, True)]


def test_base_url_contains_certificate_host(certificate: IssuedCertificate) -> None:
    sandbox = Sandbox(SandboxOptions(), KEYS, "base")
    server = LiveServer(
        sandbox.contract,
        SandboxRegistry(sandbox),
        BindOptions(tls=TlsOptions(server_ssl_context(certificate), "localhost")),
    )
    server.start()
    server.stop()
    assert server.base_url.startswith("https://localhost:")


def speak_plain_http(connection: socket.socket) -> None:
    connection.sendall(HEALTH)
    with contextlib.suppress(ConnectionResetError):
        assert b"200" not in connection.recv(65536)


def reject_certificate(connection: socket.socket) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(connection, server_hostname="localhost")


def disconnect_during_handshake(connection: socket.socket) -> None:
    connection.sendall(b"\x16\x03\x01\x02\x00\x01")


def disconnect_immediately(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.slow
@pytest.mark.parametrize(
    "break_off", [speak_plain_http, reject_certificate, disconnect_during_handshake, disconnect_immediately]
)
def test_aborted_handshake_is_not_logged_or_journaled(
    break_off: Callable[[socket.socket], None],
    server: LiveServer,
    certificate: IssuedCertificate,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with caplog.at_level(logging.DEBUG):
        with connect(server) as connection:
            break_off(connection)
        get_health(server, ssl.create_default_context(cadata=certificate.ca_pem))
        server.stop()
    gc.collect()
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []
    assert capfd.readouterr().err == ""
    assert entries(server) == []


def read_to_end(server: LiveServer, client: ssl.SSLContext, request: bytes) -> tuple[bytes, str]:
    """Return the decrypted response and how the connection ended: close_notify, or an RST, which Python's ssl hides."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = client.wrap_bio(incoming, outgoing, server_hostname="localhost")
    response, has_sent = b"", False
    with connect(server) as connection:
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                session.do_handshake()
                has_sent = has_sent or session.write(request) > 0
                while chunk := session.read(65536):
                    response += chunk
                return response, "close_notify"
            try:
                connection.sendall(outgoing.read())
                data = connection.recv(65536)
            except ConnectionResetError:
                return response, "RST"
            assert data, "a FIN without a close_notify"
            incoming.write(data)


@pytest.mark.parametrize(
    ("effect", "expected_end", "body"),
    [
        (Reset(), "RST", b""),
        (Close(), "close_notify", b""),
        (Truncate(at_bytes=3, then="reset"), "RST", b'{"b'),
        (Truncate(at_bytes=3), "close_notify", b'{"b'),
    ],
)
def test_connection_fault_ends_tls_connection_as_configured(
    effect: Effect, expected_end: str, body: bytes, server: LiveServer, certificate: IssuedCertificate
) -> None:
    server.sandboxes.default.add_fault(rule_from(effect))
    path = "/v1/applications/app-id/users/user-id/balance"
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: key\r\n\r\n".encode()
    response, end = read_to_end(server, ssl.create_default_context(cadata=certificate.ca_pem), request)
    assert (response.partition(b"\r\n\r\n")[2], end) == (body, expected_end)
    assert [entry.delivered for entry in entries(server)] == [False]


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_unfinished_handshake_does_not_delay_stop(
    sent: bytes, server: LiveServer, capfd: pytest.CaptureFixture[str]
) -> None:
    with connect(server) as connection:
        connection.sendall(sent)
        started_s = monotonic_s()
        server.stop()
        assert monotonic_s() - started_s < LIMIT_S / 2
        gc.collect()
        assert capfd.readouterr().err == ""


def test_idle_connection_does_not_delay_stop(server: LiveServer, certificate: IssuedCertificate) -> None:
    client = ssl.create_default_context(cadata=certificate.ca_pem)
    with connect(server) as plain, client.wrap_socket(plain, server_hostname="localhost") as connection:
        connection.sendall(HEALTH.replace(b"Connection: close\r\n", b""))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        started_s = monotonic_s()
        server.stop()
        assert monotonic_s() - started_s < LIMIT_S / 2


def test_port_is_free_after_stop(server: LiveServer) -> None:
    port = int(server.base_url.rpartition(":")[2])
    server.stop()
    socket.create_server(("127.0.0.1", port)).close()
