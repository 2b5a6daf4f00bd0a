"""Own what `--tls` and its siblings do: the certificates, their files, and what clients are told to trust.

A command that `run` starts trusts our CA beside what it would trust anyway, so that it still reaches other servers: its
variables name bundles of ours. Know no server but its `Address`.
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

from fake_credits.cli import files
from fake_credits.cli.options import ServerOptions
from fake_credits.drivers.live import Address, Tls

__all__ = ["CA_VARIABLE", "Https", "https", "trusting"]

CA_VARIABLE = "CREDITS_CA_FILE"
"""The variable that names the file of the CA that was made, beside those of `fake_credits.drivers.environment`."""

_CA_FLAG, _CERT_FLAG, _KEY_FLAG = "--tls-ca", "--tls-cert", "--tls-key"
_NODE, _OPENSSL, _REQUESTS, _CURL = "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"
_PUBLIC = 0o644  # other users' programs are to trust it too; the umask has the last word
_CERTIFICATE = re.compile(
    r"-----BEGIN (?:TRUSTED )?CERTIFICATE-----.*?-----END (?:TRUSTED )?CERTIFICATE-----", re.DOTALL
)
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")  # what OpenSSL reads of a folder of certificates


@dataclass(frozen=True, slots=True)
class Https:
    """Be how one server answers over https, or plain http where ``tls`` is None; ``ca`` is the file of our own CA."""

    tls: Tls | None = None
    hosts: tuple[str, ...] = ()
    ca: Path | None = None

    def at(self, address: Address) -> Address:
        """Return an address with this https; the names of a given certificate are answered to."""
        return replace(address, tls=self.tls, allow_hosts=(*address.allow_hosts, *self.hosts))

    @property
    def variables(self) -> dict[str, str]:
        """Return what an application under test has to know beside the server's own variables."""
        return {} if self.ca is None else {CA_VARIABLE: str(self.ca)}


@contextlib.contextmanager
def https(options: ServerOptions, at: str, hosts: Iterable[str] = ()) -> Generator[Https, None, None]:
    """Make ready what the flags ask for, and remove what was made.

    ``at`` is the address at which the server is reached, ``hosts`` the names that it has beside loopback's.
    """
    _check(options)
    if options.tls_cert is not None and options.tls_key is not None:
        yield _given(options.tls_cert, options.tls_key, at)
    elif options.tls:
        with _made(options.tls_ca, (at, *hosts)) as made:
            yield made
    else:
        yield Https()


def _check(options: ServerOptions) -> None:
    if (options.tls_cert is None) is not (options.tls_key is None):
        raise click.UsageError(f"{_CERT_FLAG} and {_KEY_FLAG} belong together: give both or neither")
    if options.tls_ca is not None and (options.tls_cert is not None or not options.tls):
        raise click.UsageError(f"{_CA_FLAG} is where the CA of --tls is written: it needs --tls, and no {_CERT_FLAG}")


def _given(certificate: Path, key: Path, at: str) -> Https:
    from fake_credits.drivers.certificates import context_from_files, names_of

    try:
        context, names = context_from_files(certificate, key), names_of(certificate)
    except ValueError as error:
        raise click.UsageError(f"{_CERT_FLAG} {str(certificate)!r} with {_KEY_FLAG} {str(key)!r}: {error}") from error
    known = "" if at in names else "localhost" if "localhost" in names else next(iter(names), "")
    return Https(Tls(context, known), names)


@contextlib.contextmanager
def _made(file: Path | None, hosts: tuple[str, ...]) -> Generator[Https, None, None]:
    from fake_credits.drivers.certificates import CA_NOTE, context_of, issue

    if file is not None and file.exists() and not _begins(file, CA_NOTE):
        raise click.UsageError(f"{_CA_FLAG} {str(file)!r} is there already and is no CA of ours: it is left alone")
    issued = issue(hosts)
    with tempfile.TemporaryDirectory(prefix="fake-credits-") as folder:
        ca = (file or Path(folder) / "ca.pem").absolute()
        files.replace(ca, issued.ca, _CA_FLAG, mode=_PUBLIC)
        try:
            yield Https(Tls(context_of(issued)), ca=ca)
        finally:
            if files.holds(ca, issued.ca):  # else it is another server's by now
                files.remove(ca, _CA_FLAG)


def _begins(file: Path, text: str) -> bool:
    try:
        return file.read_text("utf-8", errors="replace").startswith(text)
    except OSError:
        return False


@contextlib.contextmanager
def trusting(ca: Path | None, variables: Mapping[str, str]) -> Generator[dict[str, str], None, None]:
    """Lend the variables by which a command trusts a CA beside what it trusts under these variables; none without one.

    Node adds to roots of its own; what the others name replaces the roots, so theirs are in it.
    """
    if ca is None:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="fake-credits-trust-") as folder:
        yield {
            name: str(_bundle(Path(folder) / f"{name}.pem", [*roots, *_certificates_in(ca)]))
            for name, roots in _trusted(variables).items()
        }


def _trusted(variables: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the certificates that each variable is to name beside our CA."""
    given = {name: _named(name, variables) for name in (_NODE, _OPENSSL, _REQUESTS, _CURL)}
    system = _system_roots()
    if not system and not given[_OPENSSL]:
        click.echo("Warning: --tls: no root certificates here: the command trusts this server alone", err=True)
    trusted = {
        _NODE: given[_NODE],
        _OPENSSL: given[_OPENSSL] or system,
        _REQUESTS: given[_REQUESTS] or given[_CURL] or system,  # as requests itself does
    }
    return {**trusted, _CURL: given[_CURL]} if given[_CURL] else trusted  # unless set, curl goes by OpenSSL's


def _named(name: str, variables: Mapping[str, str]) -> list[str]:
    if not variables.get(name):
        return []
    try:
        return _certificates_in(Path(variables[name]))
    except OSError as error:
        click.echo(f"Warning: --tls: {name} {variables[name]!r} can't be read: {error.strerror or error}", err=True)
        return []


def _system_roots() -> list[str]:
    if sys.platform == "win32":
        context = ssl.create_default_context()
        return [ssl.DER_cert_to_PEM_cert(each) for each in context.get_ca_certs(binary_form=True)]
    paths = ssl.get_default_verify_paths()
    for path in (Path(paths.openssl_cafile), Path(paths.openssl_capath)):
        with contextlib.suppress(OSError):
            if found := _certificates_in(path):
                return found
    return []


def _certificates_in(path: Path) -> list[str]:
    """Return the certificates of a PEM file, or of a folder as OpenSSL reads it, each once."""
    read = [file for file in sorted(path.iterdir()) if _HASHED.fullmatch(file.name)] if path.is_dir() else [path]
    texts = (file.read_text("utf-8", errors="replace") for file in read)
    return list(dict.fromkeys(found[0] for text in texts for found in _CERTIFICATE.finditer(text)))


def _bundle(file: Path, certificates: list[str]) -> Path:
    file.write_bytes("".join(f"{certificate}\n" for certificate in certificates).encode("utf-8"))
    return file
