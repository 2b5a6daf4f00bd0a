"""Own what `--tls` and its siblings do: the certificates, their files, and what clients are told to trust.

A command that `run` starts trusts our CA beside what it would trust anyway, so that it still reaches other servers: its
variables name bundles of ours. Know no server but its `BindOptions`.
"""

import contextlib
import re
import ssl
import sys
import tempfile
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import click

from fake_credits.cli.bootstrap import remove_file, write_file
from fake_credits.cli.flags import ServerFlags
from fake_credits.transports.live import BindOptions, TlsOptions

__all__ = ["CA_VARIABLE", "TlsSetup", "tls_setup", "trust_env"]

CA_VARIABLE = "CREDITS_CA_FILE"
"""The variable that names the file of the CA that was made, beside those of `fake_credits.transports.environment`."""

_CA_FLAG, _CERT_FLAG, _KEY_FLAG = "--tls-ca", "--tls-cert", "--tls-key"
_NODE_VAR, _OPENSSL_VAR, _REQUESTS_VAR, _CURL_VAR = (
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
)
_WORLD_READABLE_MODE = 0o644  # other users' programs are to trust it too; the umask has the last word
_PEM_CERTIFICATE = re.compile(
    r"-----BEGIN (?:TRUSTED )?CERTIFICATE-----.*?-----END (?:TRUSTED )?CERTIFICATE-----", re.DOTALL
)
_HASHED_CA_FILE_NAME = re.compile(r"[0-9a-f]{8}\.[0-9]+")  # what OpenSSL reads of a folder of certificates


@dataclass(frozen=True, slots=True)
class TlsSetup:
    """Be how one server answers over https, or plain http where ``tls`` is None; ``ca`` is the file of our own CA."""

    tls: TlsOptions | None = None
    hosts: tuple[str, ...] = ()
    ca_file: Path | None = None

    def apply_to(self, address: BindOptions) -> BindOptions:
        """Return an address with this https; the names of a given certificate are answered to."""
        return replace(address, tls=self.tls, allow_hosts=(*address.allow_hosts, *self.hosts))

    @property
    def env_variables(self) -> dict[str, str]:
        """Return what an application under test has to know beside the server's own variables."""
        return {} if self.ca_file is None else {CA_VARIABLE: str(self.ca_file)}


@contextlib.contextmanager
def tls_setup(options: ServerFlags, host: str, hosts: Iterable[str] = ()) -> Generator[TlsSetup, None, None]:
    """Make ready what the flags ask for, and remove what was made.

    ``at`` is the address at which the server is reached, ``hosts`` the names that it has beside loopback's.
    """
    _check_tls_flags(options)
    if options.tls_cert is not None and options.tls_key is not None:
        yield _from_files(options.tls_cert, options.tls_key, host)
    elif options.tls:
        with _generated(options.tls_ca, (host, *hosts)) as setup:
            yield setup
    else:
        yield TlsSetup()


def _check_tls_flags(options: ServerFlags) -> None:
    if (options.tls_cert is None) is not (options.tls_key is None):
        raise click.UsageError(f"{_CERT_FLAG} and {_KEY_FLAG} belong together: give both or neither")
    if options.tls_ca is not None and (options.tls_cert is not None or not options.tls):
        raise click.UsageError(f"{_CA_FLAG} is where the CA of --tls is written: it needs --tls, and no {_CERT_FLAG}")


def _from_files(certificate: Path, key: Path, host: str) -> TlsSetup:
    from fake_credits.transports.certificates import certificate_hosts, server_ssl_context_from_files

    try:
        context, names = server_ssl_context_from_files(certificate, key), certificate_hosts(certificate)
    except ValueError as error:
        raise click.UsageError(f"{_CERT_FLAG} {str(certificate)!r} with {_KEY_FLAG} {str(key)!r}: {error}") from error
    name = "" if host in names else "localhost" if "localhost" in names else next(iter(names), "")
    return TlsSetup(TlsOptions(context, name), names)


@contextlib.contextmanager
def _generated(ca_file: Path | None, hosts: tuple[str, ...]) -> Generator[TlsSetup, None, None]:
    from fake_credits.transports.certificates import CA_FILE_COMMENT, issue_certificate, server_ssl_context

    if ca_file is not None and ca_file.exists() and not _starts_with(ca_file, CA_FILE_COMMENT):
        raise click.UsageError(f"{_CA_FLAG} {str(ca_file)!r} is there already and is no CA of ours: it is left alone")
    issued = issue_certificate(hosts)
    with tempfile.TemporaryDirectory(prefix="fake-credits-") as folder:
        ca_path = (ca_file or Path(folder) / "ca.pem").absolute()
        write_file(ca_path, issued.ca_pem, _CA_FLAG, mode=_WORLD_READABLE_MODE)
        try:
            yield TlsSetup(TlsOptions(server_ssl_context(issued)), ca_file=ca_path)
        finally:
            remove_file(ca_path, _CA_FLAG, only_with_text=issued.ca_pem)


def _starts_with(file: Path, prefix: str) -> bool:
    try:
        return file.read_text("utf-8", errors="replace").startswith(prefix)
    except OSError:
        return False


@contextlib.contextmanager
def trust_env(ca_file: Path | None, env: Mapping[str, str]) -> Generator[dict[str, str], None, None]:
    """Lend the variables by which a command trusts a CA beside what it trusts under these variables; none without one.

    Node adds to roots of its own; what the others name replaces the roots, so theirs are in it.
    """
    if ca_file is None:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="fake-credits-trust-") as folder:
        bundles: dict[str, str] = {}
        for name, roots in _trusted_certificates(env).items():
            bundle = Path(folder) / f"{name}.pem"
            certificates = [*roots, *_read_certificates(ca_file)]
            bundle.write_bytes("".join(f"{certificate}\n" for certificate in certificates).encode("utf-8"))
            bundles[name] = str(bundle)
        yield bundles


def _trusted_certificates(env: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the certificates that each variable is to name beside our CA."""
    configured = {
        name: _certificates_from_env(name, env) for name in (_NODE_VAR, _OPENSSL_VAR, _REQUESTS_VAR, _CURL_VAR)
    }
    system = _system_roots()
    if not system and not configured[_OPENSSL_VAR]:
        click.echo("Warning: --tls: no root certificates here: the command trusts this server alone", err=True)
    by_variable = {
        _NODE_VAR: configured[_NODE_VAR],
        _OPENSSL_VAR: configured[_OPENSSL_VAR] or system,
        _REQUESTS_VAR: configured[_REQUESTS_VAR] or configured[_CURL_VAR] or system,  # as requests itself does
    }
    return (
        {**by_variable, _CURL_VAR: configured[_CURL_VAR]} if configured[_CURL_VAR] else by_variable
    )  # unless set, curl goes by OpenSSL's


def _certificates_from_env(variable: str, env: Mapping[str, str]) -> list[str]:
    if not env.get(variable):
        return []
    try:
        return _read_certificates(Path(env[variable]))
    except OSError as error:
        click.echo(f"Warning: --tls: {variable} {env[variable]!r} can't be read: {error.strerror or error}", err=True)
        return []


def _system_roots() -> list[str]:
    if sys.platform == "win32":
        context = ssl.create_default_context()
        return [ssl.DER_cert_to_PEM_cert(each) for each in context.get_ca_certs(binary_form=True)]
    paths = ssl.get_default_verify_paths()
    for path in (Path(paths.openssl_cafile), Path(paths.openssl_capath)):
        with contextlib.suppress(OSError):
            if certificates := _read_certificates(path):
                return certificates
    return []


def _read_certificates(path: Path) -> list[str]:
    """Return the certificates of a PEM file, or of a folder as OpenSSL reads it, each once."""
    paths = (
        [file for file in sorted(path.iterdir()) if _HASHED_CA_FILE_NAME.fullmatch(file.name)]
        if path.is_dir()
        else [path]
    )
    texts = (file.read_text("utf-8", errors="replace") for file in paths)
    return list(dict.fromkeys(match[0] for text in texts for match in _PEM_CERTIFICATE.finditer(text)))
