"""Certificates: what a client as strict as there is says of them, and what is said of files that are none."""

import ipaddress
import shutil
import ssl
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from fake_credits.clock import from_ms, wall_clock_ms
from fake_credits.transports.certificates import (
    CA_FILE_COMMENT,
    IssuedCertificate,
    certificate_hosts,
    issue_certificate,
    server_ssl_context,
    server_ssl_context_from_files,
)

HOSTS = ("credits", "credits.example.", "[fd00::1]", "fe80::1%eth0", "192.0.2.7")


@pytest.fixture(scope="module")
def issued() -> IssuedCertificate:
    """What a server with some hosts shows."""
    return issue_certificate(HOSTS)


@pytest.fixture
def files(issued: IssuedCertificate, tmp_path: Path) -> tuple[Path, Path]:
    """Return the files of certificate and key, as a user would have them."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_text(issued.certificate_pem)
    key.write_text(issued.key_pem)
    return certificate, key


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> ssl.SSLObject:
    """Return the client's side after a handshake in memory; raise what the client raises."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    serving = server.wrap_bio(up, down, server_side=True)
    asking = client.wrap_bio(down, up, server_hostname=host)
    for _ in range(3):
        for side in (asking, serving):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return asking


def trusting(ca: str) -> ssl.SSLContext:
    """Return a client's context that is as strict as Python 3.13's own."""
    context = ssl.create_default_context(cadata=ca)
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1", "::1", "credits", "credits.example", "fd00::1", "fe80::1", "192.0.2.7"],
)
def test_a_strict_client_that_trusts_the_ca_takes_every_host(issued: IssuedCertificate, host: str) -> None:
    connection = shake_hands(server_ssl_context(issued), trusting(issued.ca_pem), host)
    assert connection.version() == "TLSv1.3"


def test_a_client_that_trusts_another_ca_refuses(issued: IssuedCertificate) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        shake_hands(server_ssl_context(issued), trusting(issue_certificate().ca_pem), "localhost")


def test_a_host_that_was_not_named_is_refused(issued: IssuedCertificate) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(server_ssl_context(issued), trusting(issued.ca_pem), "elsewhere")


def test_http_1_1_is_what_a_client_of_http_2_is_given(issued: IssuedCertificate) -> None:
    client = trusting(issued.ca_pem)
    client.set_alpn_protocols(["h2", "http/1.1"])
    assert shake_hands(server_ssl_context(issued), client, "localhost").selected_alpn_protocol() == "http/1.1"


def test_the_ca_may_vouch_for_the_servers_own_hosts_and_loopback_alone(issued: IssuedCertificate) -> None:
    ca = x509.load_pem_x509_certificate(issued.ca_pem.encode())
    constraints = ca.extensions.get_extension_for_class(x509.NameConstraints)
    permitted = constraints.value.permitted_subtrees or []
    assert constraints.critical
    assert {str(subtree.value) for subtree in permitted} == {
        *("localhost", "credits", "credits.example", "127.0.0.1/32", "127.0.0.0/8", "::1/128"),
        *("fd00::1/128", "fe80::1/128", "192.0.2.7/32"),
    }


def test_both_are_good_from_yesterday_and_for_less_than_clients_allow(issued: IssuedCertificate) -> None:
    now = from_ms(wall_clock_ms())
    for pem in (issued.ca_pem, issued.certificate_pem):
        certificate = x509.load_pem_x509_certificate(pem.encode())
        assert certificate.not_valid_before_utc < now - timedelta(hours=23)
        assert now + timedelta(days=360) < certificate.not_valid_after_utc < now + timedelta(days=398)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_finds_nothing_amiss(issued: IssuedCertificate, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(issued.ca_pem)
    (tmp_path / "leaf.pem").write_text(issued.certificate_pem)
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "ca.pem", "leaf.pem"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "leaf.pem: OK\n", done.stderr


def test_keys_and_names_are_fresh_each_time_and_the_key_is_not_shown(issued: IssuedCertificate) -> None:
    other = issue_certificate(HOSTS)
    subjects = {x509.load_pem_x509_certificate(each.ca_pem.encode()).subject for each in (issued, other)}
    assert len(subjects) == 2
    assert issued.key_pem != other.key_pem
    assert "PRIVATE" not in repr(issued)


def test_the_ca_says_whose_it_is(issued: IssuedCertificate) -> None:
    assert issued.ca_pem.startswith(CA_FILE_COMMENT + "-----BEGIN CERTIFICATE-----\n")


def test_given_files_serve_as_ours_do(issued: IssuedCertificate, files: tuple[Path, Path]) -> None:
    connection = shake_hands(server_ssl_context_from_files(*files), trusting(issued.ca_pem), "credits")
    assert connection.version() == "TLSv1.3"


def test_the_hosts_of_a_given_certificate_are_read_from_it(files: tuple[Path, Path]) -> None:
    names = ("localhost", "credits", "credits.example", "127.0.0.1", "::1", "fd00::1", "fe80::1", "192.0.2.7")
    assert certificate_hosts(files[0]) == names
    assert ipaddress.ip_address(names[-1])


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("key of another", "the key is another certificate's"),
        ("no PEM", "no PEM of these"),
        ("encrypted", "the key is encrypted: give one without a passphrase"),
        ("not there", "can't be read: No such file"),
    ],
)
def test_files_that_can_not_serve_are_refused_with_the_reason(
    broken: str, said: str, issued: IssuedCertificate, files: tuple[Path, Path]
) -> None:
    certificate, key = files
    if broken == "key of another":
        key.write_text(issue_certificate().key_pem)
    elif broken == "no PEM":
        certificate.write_text("no PEM")
    elif broken == "encrypted":
        private = load_pem_private_key(issued.key_pem.encode(), None)
        locked = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
        key.write_bytes(locked)
    else:
        key.unlink()
    with pytest.raises(ValueError, match=said):
        server_ssl_context_from_files(certificate, key)
