"""Test certificates: strict clients accept them, and invalid files are rejected."""

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
def certificate() -> IssuedCertificate:
    """Issue a certificate for `HOSTS`."""
    return issue_certificate(HOSTS)


@pytest.fixture
def certificate_files(certificate: IssuedCertificate, tmp_path: Path) -> tuple[Path, Path]:
    """Write the certificate and its key to files, as a user would provide them."""
    certificate_file, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate_file.write_text(certificate.certificate_pem)
    key.write_text(certificate.key_pem)
    return certificate_file, key


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> ssl.SSLObject:
    """Perform a TLS handshake in memory and return the client side; its errors propagate."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_side = server.wrap_bio(to_server, to_client, server_side=True)
    client_side = client.wrap_bio(to_client, to_server, server_hostname=host)
    for _ in range(3):
        for side in (client_side, server_side):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return client_side


def client_context(ca: str) -> ssl.SSLContext:
    """Return a client context that is as strict as Python 3.13's default."""
    context = ssl.create_default_context(cadata=ca)
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1", "::1", "credits", "credits.example", "fd00::1", "fe80::1", "192.0.2.7"],
)
def test_strict_client_accepts_every_host(certificate: IssuedCertificate, host: str) -> None:
    connection = handshake(server_ssl_context(certificate), client_context(certificate.ca_pem), host)
    assert connection.version() == "TLSv1.3"


def test_client_with_other_ca_rejects_certificate(certificate: IssuedCertificate) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        handshake(server_ssl_context(certificate), client_context(issue_certificate().ca_pem), "localhost")


def test_unlisted_host_is_rejected(certificate: IssuedCertificate) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(server_ssl_context(certificate), client_context(certificate.ca_pem), "elsewhere")


def test_alpn_selects_http_1_1(certificate: IssuedCertificate) -> None:
    client = client_context(certificate.ca_pem)
    client.set_alpn_protocols(["h2", "http/1.1"])
    assert handshake(server_ssl_context(certificate), client, "localhost").selected_alpn_protocol() == "http/1.1"


def test_ca_name_constraints_permit_only_hosts_and_loopback(certificate: IssuedCertificate) -> None:
    ca = x509.load_pem_x509_certificate(certificate.ca_pem.encode())
    constraints = ca.extensions.get_extension_for_class(x509.NameConstraints)
    permitted = constraints.value.permitted_subtrees or []
    assert constraints.critical
    assert {str(subtree.value) for subtree in permitted} == {
        *("localhost", "credits", "credits.example", "127.0.0.1/32", "127.0.0.0/8", "::1/128"),
        *("fd00::1/128", "fe80::1/128", "192.0.2.7/32"),
    }


def test_validity_starts_yesterday_and_lasts_under_398_days(certificate: IssuedCertificate) -> None:
    now = from_ms(wall_clock_ms())
    for pem in (certificate.ca_pem, certificate.certificate_pem):
        parsed = x509.load_pem_x509_certificate(pem.encode())
        assert parsed.not_valid_before_utc < now - timedelta(hours=23)
        assert now + timedelta(days=360) < parsed.not_valid_after_utc < now + timedelta(days=398)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_verifies_certificate(certificate: IssuedCertificate, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(certificate.ca_pem)
    (tmp_path / "leaf.pem").write_text(certificate.certificate_pem)
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "ca.pem", "leaf.pem"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.stdout == "leaf.pem: OK\n", result.stderr


def test_each_certificate_has_new_key_and_subject_and_hides_key(certificate: IssuedCertificate) -> None:
    other = issue_certificate(HOSTS)
    subjects = {x509.load_pem_x509_certificate(each.ca_pem.encode()).subject for each in (certificate, other)}
    assert len(subjects) == 2
    assert certificate.key_pem != other.key_pem
    assert "PRIVATE" not in repr(certificate)


def test_ca_file_starts_with_comment(certificate: IssuedCertificate) -> None:
    assert certificate.ca_pem.startswith(CA_FILE_COMMENT + "-----BEGIN CERTIFICATE-----\n")


def test_ssl_context_can_be_loaded_from_files(
    certificate: IssuedCertificate, certificate_files: tuple[Path, Path]
) -> None:
    connection = handshake(
        server_ssl_context_from_files(*certificate_files), client_context(certificate.ca_pem), "credits"
    )
    assert connection.version() == "TLSv1.3"


def test_certificate_hosts_are_read_from_file(certificate_files: tuple[Path, Path]) -> None:
    names = ("localhost", "credits", "credits.example", "127.0.0.1", "::1", "fd00::1", "fe80::1", "192.0.2.7")
    assert certificate_hosts(certificate_files[0]) == names
    assert ipaddress.ip_address(names[-1])


@pytest.mark.parametrize(
    ("defect", "message"),
    [
        ("key of other certificate", "key and certificate do not match"),
        ("not PEM", "not a PEM certificate and key"),
        ("encrypted", "the key is encrypted: use one without a passphrase"),
        ("missing file", "can't be read: No such file"),
    ],
)
def test_invalid_certificate_files_are_rejected_with_reason(
    defect: str, message: str, certificate: IssuedCertificate, certificate_files: tuple[Path, Path]
) -> None:
    certificate_file, key = certificate_files
    if defect == "key of other certificate":
        key.write_text(issue_certificate().key_pem)
    elif defect == "not PEM":
        certificate_file.write_text("no PEM")
    elif defect == "encrypted":
        private = load_pem_private_key(certificate.key_pem.encode(), None)
        encrypted = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
        key.write_bytes(encrypted)
    else:
        key.unlink()
    with pytest.raises(ValueError, match=message):
        server_ssl_context_from_files(certificate_file, key)
