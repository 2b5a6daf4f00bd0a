"""The commands' flags, with one dataclass per command; each field defines a flag with a heading, type and help text.

For example, the field ``port`` defines the flag ``--port`` and the environment variable ``FAKE_CREDITS_PORT``.
Importing this module does not load the server.
"""

import ipaddress
import math
import os
import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from string import Formatter
from typing import Any, get_args
from urllib.parse import urlsplit

import click

from fake_credits.cli.parameters import Parsed
from fake_credits.contract import DEFAULT_CONTRACT, MAX_AMOUNT, Contract
from fake_credits.contract.loading import load_contract
from fake_credits.sandbox_options import AuthProviderName, check_id, parse_issuer_url
from fake_credits.transports.environment import ENV_VALUE_NAMES


def parse_id(text: str) -> str:
    """Return ``text`` as a user or application id; raise ValueError if no contract would allow it."""
    check_id("given", text)
    return text


def _header_value(text: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]{1,256}", text):
        raise ValueError(
            "the value must be 1 to 256 visible ASCII characters without spaces, because it is sent in a header"
        )
    return text


def _header_name(text: str) -> str:
    if not text:
        raise ValueError("a header name must not be empty")
    return text


def _user_balance(text: str) -> tuple[str, int]:
    name, equals, balance = text.rpartition("=")
    if not equals:
        raise ValueError(f"{text!r} does not have the form NAME=BALANCE")
    return parse_id(name), click.IntRange(0, MAX_AMOUNT)(balance)


def _scenario(text: str) -> str:
    from fake_credits.faults.scenarios import parse_rules

    parse_rules(text, source="")
    return text


def _latency(text: str) -> str:
    from fake_credits.faults.scenarios import latency_rules

    latency_rules(text)
    return text


def _what(text: str) -> object:
    from fake_credits.explore.options import ExploreOptions, parse_what

    what = parse_what(text)
    ExploreOptions().with_what(what)
    return what


def _schedule(text: str) -> str:
    from fake_credits.explore.schedules import parse_schedule

    parse_schedule(text)
    return text


def _bad_token_kind(text: str) -> object:
    from fake_credits.tokens.bad_tokens import BAD_TOKENS

    return click.Choice(tuple(BAD_TOKENS))(text)


def _seconds(text: str, *, is_zero_allowed: bool = True) -> float:
    seconds: float = click.FloatRange(0, 10**6, min_open=not is_zero_allowed)(text)
    if math.isnan(seconds):  # NaN passes every range check
        raise ValueError(f"{text!r} is not a number of seconds")
    return seconds


def _base_url(text: str) -> str:
    from fake_credits.arguments import BaseUrl

    return BaseUrl.parse(text).text


def health_url(text: str) -> str:
    """Return the URL to poll: ``text`` itself or, if it has no path, the server's readiness URL."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError(f"{text!r} is not a server URL such as http://127.0.0.1:8402")
    return text if parts.path not in ("", "/") else parts._replace(path="/_fake/readyz").geturl()


def _host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._~-]{1,253}", text):
        try:
            ipaddress.IPv6Address(re.sub(r"^\[(.*)\]$", r"\1", text))
        except ValueError:
            raise ValueError(f"{text!r} is not a host name or IP address; omit any scheme or port") from None
    return text


def writable_file(text: str) -> Path:
    """Return the path of the file to write, following a symbolic link; raise ValueError if it can't be written.

    Devices, pipes and sockets are rejected, because writing would replace them with a regular file, and some flags
    remove the file on exit.
    """
    path = Path(os.path.realpath(text) if Path(text).is_symlink() else text)
    if path.exists() and not path.is_file():
        raise ValueError(f"{text!r} is not a regular file")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"{text!r} is not writable: the folder {str(path.parent)!r} does not exist or is read-only")
    return path


def _issuer_and_file(text: str) -> tuple[str, Path]:
    from fake_credits.tokens.minting import trusted_issuer

    issuer, _, path = text.rpartition("=")
    if not issuer:
        raise ValueError(f"{text!r} does not have the form ISSUER=FILE")
    trusted_issuer(issuer, path)  # raises ValueError for an invalid file
    return issuer, Path(path)


def _env_variable(text: str) -> tuple[str, str]:
    name, equals, template = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"{text!r} does not have the form NAME=TEXT (NAME: letters, digits and _, no leading digit)")
    for _, placeholder, spec, conversion in Formatter().parse(template):
        if placeholder is not None and (placeholder not in ENV_VALUE_NAMES or spec or conversion):
            raise ValueError(
                f"unknown placeholder {{{placeholder}}} in {text!r}; use {_PLACEHOLDERS}, or {{{{ for a literal brace"
            )
    return name, template


_PLACEHOLDERS = ", ".join(f"{{{name}}}" for name in ENV_VALUE_NAMES)
_PROVIDER_HELP = f"Issue tokens in this provider's style: {', '.join(get_args(AuthProviderName))}."
_FAULT_PRESET_NAMES = (
    "flaky, slow, brownout, outage, rate_limited, lost_responses, stale_replica, bad_proxy, version_ahead"
)
_WORLD_CHOICES = "tiny, demo, edge, load, a custom profile (TOML file), or a saved world (JSON file)"

_REPORT_FORMATS = ("text", "json", "junit", "html", "markdown")

_BALANCE = click.IntRange(0, MAX_AMOUNT)
_CONTRACT_FILE = Parsed("FILE", load_contract)
_FILE = Parsed("FILE", click.Path(exists=True, dir_okay=False, path_type=Path))
_HOST = Parsed("HOST", _host)
_ID = Parsed("ID", parse_id)
_ISSUER = Parsed("URL", parse_issuer_url)
_KEY = Parsed("KEY", _header_value)
_LOG_FORMAT = click.Choice(("text", "json", "off"))
_PROVIDER = Parsed("NAME", click.Choice(get_args(AuthProviderName)))
_SECONDS = Parsed("SECONDS", _seconds)
_POSITIVE_SECONDS = Parsed("SECONDS", partial(_seconds, is_zero_allowed=False))
_WORLD = Parsed("WORLD")
_WRITABLE_FILE = Parsed("FILE", writable_file)


def _flag(heading: str, default: object, help_text: str, param_type: Any = None) -> Any:
    """Return a field for a flag; a flag with an empty ``help_text`` is not listed in the help."""
    return field(default=default, metadata={"heading": heading, "help": help_text, "type": param_type})


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ServerFlags:
    """The flags that ``serve`` and ``run`` share."""

    seed: int = _flag("Sandbox", 0, "Random seed.")
    world: str | None = _flag("Sandbox", None, f"Start with a world of users and histories: {_WORLD_CHOICES}.", _WORLD)
    users: tuple[tuple[str, int], ...] = _flag(
        "Sandbox", (), "Create a user with this balance. Repeatable.", Parsed("NAME=BALANCE", _user_balance)
    )
    balance: int | None = _flag("Sandbox", None, "Create the default user with this balance.", _BALANCE)
    user_id: str = _flag("Sandbox", "user-id", "Id of the default user.", _ID)
    application_id: str = _flag("Sandbox", "app-id", "Id of the default application.", _ID)
    api_key: str = _flag("Sandbox", "", "API key (default: random).", _KEY)
    contract: Contract = _flag("Sandbox", DEFAULT_CONTRACT, "Use the contract in this TOML file.", _CONTRACT_FILE)
    scenarios: tuple[str, ...] = _flag(
        "Faults",
        (),
        f"Inject faults: {_FAULT_PRESET_NAMES}, or a scenario file (*.toml). Repeatable.",
        Parsed("NAME", _scenario),
    )
    latency: str | None = _flag(
        "Faults",
        None,
        "Delay every response: milliseconds, 'uniform(10, 50)', or 'lognormal(20, 200)' (median and 99th percentile).",
        Parsed("MS", _latency),
    )
    auth_provider: str = _flag("Tokens", "plain", _PROVIDER_HELP, _PROVIDER)
    issuer: str = _flag(
        "Tokens",
        "",
        "Token issuer: a URL, or 'server' for this server's own URL (default: the provider's issuer).",
        Parsed("URL"),
    )
    key_file: Path | None = _flag(
        "Tokens", None, "Sign tokens with the keys in this file (created with mode 0600 if missing).", _WRITABLE_FILE
    )
    trust: tuple[tuple[str, Path], ...] = _flag(
        "Tokens",
        (),
        "Accept this issuer's tokens, verified with the keys in FILE (JWKS or PEM). Repeatable.",
        Parsed("ISSUER=FILE", _issuer_and_file),
    )
    cors_origins: tuple[str, ...] = _flag(
        "Network", (), "Allow pages from this origin to call the API (default: any). Repeatable.", Parsed("ORIGIN")
    )
    tls: bool = _flag("HTTPS", False, "Serve over HTTPS, with a certificate from a newly created CA.")
    tls_ca: Path | None = _flag(
        "HTTPS",
        None,
        "With --tls, write the CA certificate to this file, which is removed on exit (default: a temporary file).",
        _WRITABLE_FILE,
    )
    tls_cert: Path | None = _flag("HTTPS", None, "Serve over HTTPS with the certificate chain in this PEM file.", _FILE)
    tls_key: Path | None = _flag("HTTPS", None, "Unencrypted PEM file with the private key for --tls-cert.", _FILE)
    control_token: str = _flag("Control plane", "", "Access token (default: random).", Parsed("TOKEN", _header_value))
    sandbox_limit: int = _flag(
        "Control plane", 1000, "Maximum number of sandboxes at a time.", click.IntRange(1, 100_000)
    )
    log: str = _flag("Output", "text", "Log one line per exchange to stderr, and a summary on exit.", _LOG_FORMAT)
    keep_headers: tuple[str, ...] = _flag(
        "Output",
        (),
        "Keep this request header in the journal and in --log json output. Repeatable.",
        Parsed("NAME", _header_name),
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _ListenFlags:
    host: str = _flag("Network", "127.0.0.1", "Address to listen on.", _HOST)
    port: int = _flag("Network", 8402, "Port to listen on; 0 picks a free one.", click.IntRange(0, 65535))
    expose: bool = _flag("Network", False, "Allow binding to a non-loopback address.")
    allow_hosts: tuple[str, ...] = _flag(
        "Network",
        (),
        "Accept this name in the Host header, in addition to loopback names. Repeatable.",
        Parsed("NAME", _host),
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ServeFlags(ServerFlags, _ListenFlags):
    """The flags of ``serve``.

    Dataclasses collect fields in reverse method resolution order, so those of ``_ListenFlags`` come first in the help.
    """

    ready_file: Path | None = _flag(
        "Output",
        None,
        "Once ready, write the client's environment variables (CREDITS_BASE_URL etc.) to this file; remove it on exit.",
        _WRITABLE_FILE,
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class RunFlags(ServerFlags):
    """The flags of ``run``."""

    log: str = _flag("Output", "off", "Log one line per exchange to stderr, and a summary on exit.", _LOG_FORMAT)
    env: tuple[tuple[str, str], ...] = _flag(
        "Command",
        (),
        f"Set another environment variable; TEXT may contain {_PLACEHOLDERS}. Repeatable.",
        Parsed("NAME=TEXT", _env_variable),
    )
    grace: float = _flag("Command", 5.0, "Grace period in seconds before SIGKILL.", _SECONDS)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ExploreFlags(RunFlags):
    """The flags of ``explore``, in addition to those of ``run``."""

    scenarios: tuple[str, ...] = _flag("Faults", (), "", Parsed("NAME", _scenario))  # refused
    what: object = _flag(
        "Exploration",
        "default",
        "What to inject: default, writes (faults at writes only), same (like default, but any test failure under a "
        "fault is a red finding), all (every effect), or fault names separated by commas, such as lost_after.",
        Parsed("WHAT", _what),
    )
    depth: int = _flag("Exploration", 2, "Maximum number of faults per run.", click.IntRange(1, 3))
    budget: int = _flag("Exploration", 200, "Maximum number of runs with faults.", click.IntRange(1, 1_000_000))
    strict: bool = _flag("Exploration", False, "Also fail on amber findings (warnings).")
    schedule: str = _flag(
        "Exploration",
        "",
        "Run only this schedule, such as '2:lost_after', and show the command's output.",
        Parsed("TEXT", _schedule),
    )
    selftest: bool = _flag("Exploration", False, "Explore known-bad and known-good clients instead of a command.")
    jobs: int = _flag("Command", 1, "Number of concurrent runs.", click.IntRange(1, 64))
    run_timeout: float | None = _flag(
        "Command",
        None,
        "Time limit per run, in seconds (default: 5 times as long as a fault-free run, but at least 10).",
        _POSITIVE_SECONDS,
    )
    format: str = _flag("Output", "text", "Format of the report on stdout.", click.Choice(_REPORT_FORMATS))
    reports: tuple[Path, ...] = _flag(
        "Output",
        (),
        "Write a report to this file: HTML (.html), JUnit (.xml), Markdown (.md) or JSON. Repeatable.",
        _WRITABLE_FILE,
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TokenFlags:
    """The flags of ``token``."""

    bad: str = _flag(
        "Token",
        "",
        "Mint an invalid token of this kind, such as expired or wrong_key.",
        Parsed("KIND", _bad_token_kind),
    )
    expires_in: int | None = _flag(
        "Token", None, "Lifetime in seconds (default: the provider's).", click.IntRange(1, 10 * 366 * 86400)
    )
    auth_provider: str = _flag("Server", "plain", _PROVIDER_HELP, _PROVIDER)
    issuer: str = _flag("Server", "", "The server's --issuer (default: the provider's).", _ISSUER)
    key_file: Path | None = _flag("Server", None, "File with the server's signing keys.", _WRITABLE_FILE)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SeedFlags:
    """The flags of ``seed``."""

    profile: str = _flag("World", "demo", f"The users to create: {_WORLD_CHOICES}.", _WORLD)
    seed: int = _flag("World", 0, "Random seed.")
    application_id: str = _flag("World", "app-id", "Id of the application to create the users in.", _ID)
    contract: Contract = _flag("World", DEFAULT_CONTRACT, "Use the contract in this TOML file.", _CONTRACT_FILE)
    out: Path | None = _flag(
        "Destination", None, "Write the users to this file, for `serve --world` or `run --world`.", _WRITABLE_FILE
    )
    url: str = _flag("Destination", "", "Write the users to the server at this base URL.", Parsed("URL", _base_url))
    api_key: str = _flag("Destination", "", "The server's API key.", _KEY)
    concurrency: int = _flag("Destination", 8, "Number of users to write concurrently.", click.IntRange(1, 100))
    yes: bool = _flag("Destination", False, "Allow a non-loopback --url.")
    dry_run: bool = _flag("Output", False, "Print what would be written, without writing it.")
    json: bool = _flag("Output", False, "Print one JSON object per line.")
    quiet: bool = _flag("Output", False, "Print only errors.")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class OpenApiFlags:
    """The flags of ``openapi``."""

    contract: Contract = _flag("Contract", DEFAULT_CONTRACT, "Use the contract in this TOML file.", _CONTRACT_FILE)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class WaitFlags:
    """The flags of ``wait``."""

    timeout: float = _flag("Server", 30.0, "Give up after this many seconds.", _SECONDS)
    ca: Path | None = _flag(
        "Server",
        None,
        "Also trust the CA in this PEM file, which need not exist yet (see serve --tls-ca).",
        Parsed("FILE", Path),
    )
