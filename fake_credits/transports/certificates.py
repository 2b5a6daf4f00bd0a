"""HTTPS certificates: a CA and a certificate for one server, certificates from files, and TLS contexts.

The CA's private key is discarded after signing, and name constraints (RFC 5280, section 4.2.1.10) limit the CA to
loopback and the server's own names, so trusting the CA affects no other hosts. Importing this module loads
cryptography.
"""

import contextlib
import ipaddress
import os
import ssl
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fake_credits.clock import from_ms, wall_clock_ms
from fake_credits.keyed_random import random_bytes, random_name

CA_FILE_COMMENT = "# The CA of one fake-credits server, created when it started. Its private key was discarded.\n"
"""The first line of generated CA files, used to recognize them; PEM parsers ignore it (RFC 7468, section 2)."""

_BACKDATE = timedelta(days=1)  # for clients with a slow clock
_VALIDITY = timedelta(days=365)  # Apple rejects server certificates that are valid for more than 825 days
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_LOOPBACK_NETWORKS = [x509.IPAddress(ipaddress.ip_network(network)) for network in ("127.0.0.0/8", "::1/128")]
_ALL_KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A CA certificate, a server certificate signed by it, and the server's private key, all in PEM format."""

    ca_pem: str
    certificate_pem: str
    key_pem: str = field(repr=False)


def issue_certificate(hosts: Iterable[str] = ()) -> IssuedCertificate:
    """Create a CA and a server certificate for loopback and ``hosts``, which are names or IP addresses.

    Both are valid for 365 days, starting one day ago. The keys are P-256, which all common TLS clients accept.
    """
    # A certificate's names have no brackets, zone or trailing dot.
    bare_hosts = [host.strip("[]").partition("%")[0].rstrip(".").lower() for host in hosts]
    names = [_general_name(host) for host in dict.fromkeys((*_LOOPBACK_NAMES, *bare_hosts))]
    permitted = [
        x509.IPAddress(ipaddress.ip_network(str(name.value))) if isinstance(name, x509.IPAddress) else name
        for name in names
    ]
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = _x509_name(random_name("fake-credits CA ", 8))
    ca_key_id, public_key = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), key.public_key()
    ca = _sign_as_pem(
        _certificate_builder(ca_name, ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(x509.NameConstraints([*permitted, *_LOOPBACK_NETWORKS], None), critical=True)
        .add_extension(ca_key_id, critical=False),
        ca_key,
    )
    certificate = _sign_as_pem(
        _certificate_builder(_x509_name("fake-credits"), ca_name, public_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_key_id), critical=False),
        ca_key,
    )
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return IssuedCertificate(CA_FILE_COMMENT + ca, certificate, key_pem)


def server_ssl_context(issued: IssuedCertificate) -> ssl.SSLContext:
    """Return a server TLS context that uses an issued certificate."""
    # Python's ssl loads keys only from files. Only the owner can read this file, which is deleted once it is loaded.
    with tempfile.TemporaryDirectory(prefix="fake-credits-") as folder:
        file = Path(folder) / "server.pem"
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as pem_file:
            pem_file.write((issued.key_pem + issued.certificate_pem).encode("ascii"))
        return server_ssl_context_from_files(file, file)


def server_ssl_context_from_files(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a server TLS context for a certificate chain and a private key, each in a PEM file.

    Raises ValueError if a file can't be read, or if the files don't contain a certificate and its private key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=_reject_encrypted_key)
    except ssl.SSLError as error:
        reason = (
            "key and certificate do not match" if "MISMATCH" in str(error.reason) else "not a PEM certificate and key"
        )
        raise ValueError(reason) from error
    except OSError as error:
        raise ValueError(f"one of the files can't be read: {error.strerror or error}") from error
    return context


def certificate_hosts(certificate: Path) -> tuple[str, ...]:
    """Return the host names (except wildcards) and IP addresses in the first certificate of a PEM file."""
    first = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    try:
        names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = tuple(str(address) for address in names.get_values_for_type(x509.IPAddress))
    return (*(name for name in names.get_values_for_type(x509.DNSName) if "*" not in name), *addresses)


def _reject_encrypted_key() -> str:
    raise ValueError("the key is encrypted: use one without a passphrase")


def _general_name(host: str) -> x509.GeneralName:
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(host))
    return x509.DNSName(host)


def _x509_name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*usages: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{usage: usage in usages for usage in _ALL_KEY_USAGES})


def _certificate_builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    not_before: datetime = from_ms(wall_clock_ms()) - _BACKDATE
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(int.from_bytes(random_bytes(16), "big") | 1)
        .not_valid_before(not_before)
        .not_valid_after(not_before + _VALIDITY)
    )


def _sign_as_pem(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> str:
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()
