"""The `--tls...` flags: certificates, their files, and the environment variables that make clients trust them.

A command started by `run` or `explore` can still reach other servers: its environment variables point to bundles that
contain the generated CA in addition to the usual CAs.
"""

import contextlib
import re
import ssl
import sys
import tempfile
from collections.abc import Generator, Mapping
from pathlib import Path

import click
from msgspec.structs import replace

from fake_credits.cli.bootstrap import remove_file, write_file
from fake_credits.cli.flags import ServerFlags
from fake_credits.transports.live import BindOptions, TlsOptions

_CA_FLAG, _CERT_FLAG, _KEY_FLAG = "--tls-ca", "--tls-cert", "--tls-key"
_NODE_VAR, _OPENSSL_VAR = "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"
_REQUESTS_VAR, _CURL_VAR = "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"
_WORLD_READABLE_MODE = 0o644  # lets other users' programs read and trust the CA, if the umask permits
_PEM_CERTIFICATE = re.compile(
    r"-----BEGIN (?:TRUSTED )?CERTIFICATE-----.*?-----END (?:TRUSTED )?CERTIFICATE-----", re.DOTALL
)
_HASHED_CA_FILE_NAME = re.compile(r"[0-9a-f]{8}\.[0-9]+")  # the files that OpenSSL reads in a certificate folder


@contextlib.contextmanager
def tls_setup(options: ServerFlags, address: BindOptions, host: str) -> Generator[tuple[BindOptions, Path | None]]:
    """Yield the address with the TLS options from the flags, and the path of the generated CA file, if any.

    The file is removed on exit. ``host`` is the name by which this machine reaches the server.
    """
    if (options.tls_cert is None) is not (options.tls_key is None):
        raise click.UsageError(f"{_CERT_FLAG} and {_KEY_FLAG} must be used together")
    if options.tls_ca is not None and (options.tls_cert is not None or not options.tls):
        raise click.UsageError(f"{_CA_FLAG} requires --tls without {_CERT_FLAG}, because it writes the generated CA")
    if options.tls_cert is not None and options.tls_key is not None:
        tls, names = _from_files(options.tls_cert, options.tls_key, host)
        yield replace(address, tls=tls, allow_hosts=(*address.allow_hosts, *names)), None
    elif options.tls:
        with _generated(options.tls_ca, (host, address.host, *address.allow_hosts)) as (tls, ca_file):
            yield replace(address, tls=tls), ca_file
    else:
        yield address, None


def _from_files(certificate: Path, key: Path, host: str) -> tuple[TlsOptions, tuple[str, ...]]:
    from fake_credits.transports.certificates import certificate_hosts, server_ssl_context_from_files

    try:
        context, names = server_ssl_context_from_files(certificate, key), certificate_hosts(certificate)
    except ValueError as error:
        raise click.UsageError(f"{_CERT_FLAG} {str(certificate)!r} with {_KEY_FLAG} {str(key)!r}: {error}") from error
    name = "" if host in names else "localhost" if "localhost" in names else next(iter(names), "")
    return TlsOptions(context, name), names


@contextlib.contextmanager
def _generated(ca_file: Path | None, hosts: tuple[str, ...]) -> Generator[tuple[TlsOptions, Path]]:
    from fake_credits.transports.certificates import CA_FILE_COMMENT, issue_certificate, server_ssl_context

    if ca_file is not None and ca_file.exists() and not ca_file.read_bytes().startswith(CA_FILE_COMMENT.encode()):
        raise click.UsageError(
            f"{_CA_FLAG} {str(ca_file)!r} exists and was not created by fake-credits; choose another file"
        )
    issued = issue_certificate(hosts)
    with _temporary_folder() as folder:
        ca_path = (ca_file or folder / "ca.pem").absolute()
        write_file(ca_path, issued.ca_pem, _CA_FLAG, mode=_WORLD_READABLE_MODE)
        try:
            with _temporary_file_errors():
                ssl_context = server_ssl_context(issued)
            yield TlsOptions(ssl_context), ca_path
        finally:
            remove_file(ca_path, _CA_FLAG, only_with_text=issued.ca_pem)


@contextlib.contextmanager
def trust_env(ca_file: Path | None, env: Mapping[str, str]) -> Generator[dict[str, str]]:
    """Yield the environment variables that make a command trust a CA in addition to its usual CAs.

    If ``ca_file`` is None, there are none. ``NODE_EXTRA_CA_CERTS`` adds to Node's built-in roots. Each of the other
    variables points to a file that replaces the usual roots, so that file must include them as well.
    """
    if ca_file is None:
        yield {}
        return
    with _temporary_folder() as folder:
        bundles: dict[str, str] = {}
        for name, roots in _trusted_certificates(env).items():
            bundle = folder / f"{name}.pem"
            certificates = [*roots, *_read_certificates(ca_file)]
            with _temporary_file_errors():
                bundle.write_bytes("".join(f"{certificate}\n" for certificate in certificates).encode("utf-8"))
            bundles[name] = str(bundle)
        yield bundles


@contextlib.contextmanager
def _temporary_folder() -> Generator[Path]:
    with contextlib.ExitStack() as stack:
        with _temporary_file_errors():
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fake-credits-"))
        yield Path(folder)


@contextlib.contextmanager
def _temporary_file_errors() -> Generator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise click.ClickException(
            f"--tls needs a writable temporary folder: {reason}; set TMPDIR to another one"
        ) from error


def _trusted_certificates(env: Mapping[str, str]) -> dict[str, list[str]]:
    """Return, for each variable, the certificates that its file must contain in addition to the generated CA."""
    configured = {
        name: _certificates_from_env(name, env) for name in (_NODE_VAR, _OPENSSL_VAR, _REQUESTS_VAR, _CURL_VAR)
    }
    system = _system_roots()
    if not system and not configured[_OPENSSL_VAR]:
        click.echo("Warning: --tls: no root certificates found, so the command trusts only this server", err=True)
    by_variable = {
        _NODE_VAR: configured[_NODE_VAR],
        _OPENSSL_VAR: configured[_OPENSSL_VAR] or system,
        # in the order of precedence that the requests library uses
        _REQUESTS_VAR: configured[_REQUESTS_VAR] or configured[_CURL_VAR] or system,
    }
    if configured[_CURL_VAR]:  # otherwise, curl uses SSL_CERT_FILE
        by_variable[_CURL_VAR] = configured[_CURL_VAR]
    return by_variable


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
    """Return the distinct certificates in a PEM file, or in a folder laid out for OpenSSL."""
    paths = (
        [file for file in sorted(path.iterdir()) if _HASHED_CA_FILE_NAME.fullmatch(file.name)]
        if path.is_dir()
        else [path]
    )
    texts = (file.read_text("utf-8", errors="replace") for file in paths)
    return list(dict.fromkeys(match[0] for text in texts for match in _PEM_CERTIFICATE.finditer(text)))
