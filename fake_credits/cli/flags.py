"""The flags of each command: name, environment variable, default, type and help, one dataclass per command.

The field ``port`` is the flag ``--port`` and the variable ``FAKE_CREDITS_PORT``. Importing this loads no server.
"""

import functools
import math
import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from string import Formatter
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import click

from fake_credits.contract import DEFAULT_CONTRACT, MAX_AMOUNT, Contract
from fake_credits.contract.loading import load_contract
from fake_credits.transports.environment import ENV_VALUE_NAMES

__all__ = [
    "ENV_PREFIX",
    "Flag",
    "OpenApiFlags",
    "Parsed",
    "RunFlags",
    "SeedFlags",
    "ServeFlags",
    "ServerFlags",
    "TokenFlags",
    "WaitFlags",
    "health_url",
    "list_flags",
    "options_from",
    "parse_id",
    "writable_file",
]

ENV_PREFIX = "FAKE_CREDITS_"


class Parsed(click.types.StringParamType):
    """The type of a value that a function parses, or a type of click's under another metavar."""

    def __init__(self, metavar: str, parse: Callable[[str], object]) -> None:
        self.name = metavar
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the parsed value; a TypeError or ValueError becomes a usage error that names the flag."""
        try:
            return self._parse(value)
        except (TypeError, ValueError) as error:
            self.fail(str(error), param, ctx)

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        """Return the values in a repeatable flag's variable, split at blanks outside quotes.

        A backslash is kept: paths on Windows contain it.
        """
        lexer = shlex.shlex(rv, posix=True)
        lexer.whitespace_split, lexer.escape, lexer.commenters = True, "", ""
        try:
            return list(lexer)
        except ValueError:
            self.fail(
                f"the environment variable has {rv!r}, with an unclosed quote: quote a value with a blank or a quote"
            )


def parse_id(text: str) -> str:
    """Return an id of a user or an application; a contract may have further rules."""
    from fake_credits.sandbox_options import check_id

    check_id("given", text)
    return text


def _header_value(text: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]{1,256}", text):
        raise ValueError("must be 1 to 256 visible ASCII characters, no blanks: it travels in a header")
    return text


def _user_balance(text: str) -> tuple[str, int]:
    name, equals, balance = text.rpartition("=")
    if not equals:
        raise ValueError(f"{text!r} is not NAME=BALANCE")
    return parse_id(name), click.IntRange(0, MAX_AMOUNT)(balance)


def _scenario(text: str) -> str:
    from fake_credits.faults.scenarios import parse_rules

    parse_rules(text, source="")
    return text


def _latency(text: str) -> str:
    from fake_credits.faults.scenarios import latency_rules

    latency_rules(text)
    return text


def _auth_provider(text: str) -> object:
    from fake_credits.tokens.providers import AUTH_PROVIDERS

    return click.Choice(tuple(AUTH_PROVIDERS))(text)


def _bad_token_kind(text: str) -> object:
    from fake_credits.tokens.bad_tokens import BAD_TOKENS

    return click.Choice(tuple(BAD_TOKENS))(text)


def _seconds(text: str) -> float:
    seconds: float = click.FloatRange(0, 10**6)(text)
    if math.isnan(seconds):  # it is in every range
        raise ValueError(f"{text!r} is not a number of seconds")
    return seconds


def _base_url(text: str) -> str:
    from fake_credits.client.arguments import BaseUrl

    return BaseUrl.parse(text).text


def health_url(text: str) -> str:
    """Return the URL to poll: the given one, or the server's readiness where that has no path."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError(f"{text!r} is not the URL of a server: give http://host:port")
    return text if parts.path not in ("", "/") else parts._replace(path="/_fake/readyz").geturl()


def _host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._~-]{1,253}|\[?[0-9A-Fa-f:.]{2,45}(%[A-Za-z0-9]+)?\]?", text):
        raise ValueError(f"{text!r} is not a host: give a name or an address, without scheme and port")
    return text


def writable_file(text: str) -> Path:
    """Return the path of a file that is there or can be made; for a link, of the file that it leads to.

    A device, a pipe or a socket is refused: a file would take its place, and be removed at the end.
    """
    path = Path(os.path.realpath(text) if Path(text).is_symlink() else text)
    if path.exists() and not path.is_file():
        raise ValueError(f"{text!r} is a folder, a device, a pipe or a socket: give a file")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"{text!r} can't be written: there is no folder {str(path.parent)!r}, or it is read-only")
    return path


def _issuer_and_file(text: str) -> tuple[str, Path]:
    issuer, _, path = text.rpartition("=")
    if not issuer:
        raise ValueError(f"{text!r} is not ISSUER=FILE")
    return issuer, Path(path)


def _env_variable(text: str) -> tuple[str, str]:
    name, equals, template = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"{text!r} is not NAME=TEXT with a NAME of letters, digits and _")
    for _, placeholder, spec, conversion in Formatter().parse(template):
        if placeholder is not None and (placeholder not in ENV_VALUE_NAMES or spec or conversion):
            raise ValueError(
                f"{text!r} has the unknown placeholder {{{placeholder}}}: there are {_PLACEHOLDERS}; {{{{ is a brace"
            )
    return name, template


_PLACEHOLDERS = ", ".join(f"{{{name}}}" for name in ENV_VALUE_NAMES)
_PROVIDER_NAMES = "plain, clerk, auth0, supabase, firebase, cognito or workos"
_FAULT_PRESET_NAMES = (
    "flaky, slow, brownout, outage, rate_limited, lost_responses, stale_replica, bad_proxy, version_ahead"
)
_WORLD_CHOICES = "tiny, demo, edge, load, a profile of your own (TOML) or a world in a file (JSON)"

_CONTRACT_FILE = Parsed("FILE", load_contract)
_EXISTING_FILE = Parsed("FILE", click.Path(exists=True, dir_okay=False, path_type=Path))
_HOST = Parsed("HOST", _host)
_ID = Parsed("ID", parse_id)
_KEY = Parsed("KEY", _header_value)
_LOG_FORMAT = click.Choice(("text", "json", "off"))
_PROVIDER = Parsed("NAME", _auth_provider)
_SECONDS = Parsed("SECONDS", _seconds)
_WORLD = Parsed("WORLD", str)
_WRITABLE_FILE = Parsed("FILE", writable_file)


def _flag(default: object, help_text: str, param_type: Any = None) -> Any:
    return field(default=default, metadata={"help": help_text, "type": param_type})


@dataclass(frozen=True, kw_only=True)
class ServerFlags:
    """The flags that ``serve`` and ``run`` share."""

    seed: int = _flag(0, "Random seed.")
    api_key: str = _flag("", "API key (default: random).", _KEY)
    application_id: str = _flag("app-id", "Id of the default application.", _ID)
    user_id: str = _flag("user-id", "Id of the default user.", _ID)
    balance: int | None = _flag(None, "Create the default user with this balance.", click.IntRange(0, MAX_AMOUNT))
    users: tuple[tuple[str, int], ...] = _flag(
        (), "Create a user with this balance. Repeatable.", Parsed("NAME=BALANCE", _user_balance)
    )
    world: str | None = _flag(None, f"Start from users with histories: {_WORLD_CHOICES}.", _WORLD)
    scenarios: tuple[str, ...] = _flag(
        (),
        f"Inject faults: {_FAULT_PRESET_NAMES}, or a scenario file (*.toml). Repeatable.",
        Parsed("NAME", _scenario),
    )
    latency: str | None = _flag(
        None,
        "Delay every response: milliseconds, 'uniform(10, 50)', or 'lognormal(20, 200)' by median and 99th percentile.",
        Parsed("MS", _latency),
    )
    auth_provider: str = _flag("plain", f"Issue tokens in this provider's style: {_PROVIDER_NAMES}.", _PROVIDER)
    contract: Contract = _flag(DEFAULT_CONTRACT, "Use the contract in this TOML file.", _CONTRACT_FILE)
    trust: tuple[tuple[str, Path], ...] = _flag(
        (),
        "Accept this issuer's tokens, with its keys in a file (JWKS or PEM). Repeatable.",
        Parsed("ISSUER=FILE", _issuer_and_file),
    )
    key_file: Path | None = _flag(
        None, "Sign users' tokens with the keys in this file; created with mode 0600 if missing.", _WRITABLE_FILE
    )
    cors_origins: tuple[str, ...] = _flag(
        (), "Allow pages of this origin to call the API (default: any). Repeatable.", Parsed("ORIGIN", str)
    )
    keep_headers: tuple[str, ...] = _flag(
        (), "Keep this request header in the journal and in --log json. Repeatable.", Parsed("NAME", str)
    )
    control_token: str = _flag("", "Control-plane token (default: random).", Parsed("TOKEN", _header_value))
    sandbox_limit: int = _flag(1000, "Maximum number of sandboxes of the control plane.", click.IntRange(1, 100_000))
    log: str = _flag("text", "Log one line per exchange to stderr, and a summary on exit.", _LOG_FORMAT)
    tls: bool = _flag(False, "Serve https, with a certificate of a CA that is created at the start.")
    tls_ca: Path | None = _flag(
        None,
        "Write that CA to this file for clients to trust; removed on exit (default: a temporary file).",
        _WRITABLE_FILE,
    )
    tls_cert: Path | None = _flag(
        None, "Serve https with the certificate and its chain in this PEM file.", _EXISTING_FILE
    )
    tls_key: Path | None = _flag(None, "Private key of --tls-cert, an unencrypted PEM file.", _EXISTING_FILE)


@dataclass(frozen=True, kw_only=True)
class ServeFlags(ServerFlags):
    """The flags of ``serve``."""

    host: str = _flag("127.0.0.1", "Address to listen on.", _HOST)
    port: int = _flag(8402, "Port to listen on; 0 for any free one.", click.IntRange(0, 65535))
    expose: bool = _flag(False, "Allow binding to a non-loopback address.")
    allow_hosts: tuple[str, ...] = _flag(
        (), "Accept this name in the Host header, in addition to loopback's. Repeatable.", Parsed("NAME", _host)
    )
    ready_file: Path | None = _flag(
        None,
        "Write CREDITS_BASE_URL=... and the other variables to this file once ready; removed on exit.",
        _WRITABLE_FILE,
    )


@dataclass(frozen=True, kw_only=True)
class RunFlags(ServerFlags):
    """The flags of ``run``."""

    log: str = _flag("off", "Log one line per exchange to stderr, and a summary on exit.", _LOG_FORMAT)
    env: tuple[tuple[str, str], ...] = _flag(
        (),
        f"Set another variable. Repeatable. TEXT may contain {_PLACEHOLDERS}.",
        Parsed("NAME=TEXT", _env_variable),
    )
    grace: float = _flag(5.0, "Grace period in seconds before SIGKILL.", _SECONDS)


@dataclass(frozen=True, kw_only=True)
class TokenFlags:
    """The flags of ``token``."""

    bad: str = _flag("", "Break one rule: expired, wrong_key, ...", Parsed("KIND", _bad_token_kind))
    expires_in: int | None = _flag(
        None, "Lifetime in seconds (default: the provider's).", click.IntRange(1, 10 * 366 * 86400)
    )
    auth_provider: str = _flag("plain", f"Issue tokens in this provider's style: {_PROVIDER_NAMES}.", _PROVIDER)
    key_file: Path | None = _flag(None, "The server's file of signing keys.", _WRITABLE_FILE)


@dataclass(frozen=True, kw_only=True)
class SeedFlags:
    """The flags of ``seed``."""

    profile: str = _flag("demo", f"The users to create: {_WORLD_CHOICES}.", _WORLD)
    seed: int = _flag(0, "Random seed.")
    out: Path | None = _flag(None, "Write them to a file, for --world.", _WRITABLE_FILE)
    url: str = _flag("", "Write them to the server with this base URL.", Parsed("URL", _base_url))
    api_key: str = _flag("", "The server's API key.", _KEY)
    application_id: str = _flag("app-id", "Id of the users' application.", _ID)
    concurrency: int = _flag(8, "Users to write concurrently.", click.IntRange(1, 100))
    contract: Contract = _flag(DEFAULT_CONTRACT, "Use the contract in this TOML file.", _CONTRACT_FILE)
    dry_run: bool = _flag(False, "Print what would be written, and write nothing.")
    yes: bool = _flag(False, "Allow a --url that is not loopback.")
    json: bool = _flag(False, "Print one JSON object per line.")
    quiet: bool = _flag(False, "Print only errors.")


@dataclass(frozen=True, kw_only=True)
class OpenApiFlags:
    """The flags of ``openapi``."""

    contract: Contract = _flag(DEFAULT_CONTRACT, "Describe the contract in this TOML file.", _CONTRACT_FILE)


@dataclass(frozen=True, kw_only=True)
class WaitFlags:
    """The flags of ``wait``."""

    timeout: float = _flag(30.0, "Give up after this many seconds.", _SECONDS)
    ca: Path | None = _flag(
        None, "Also trust the CA in this PEM file, once it exists (see --tls-ca).", Parsed("FILE", Path)
    )


def options_from(flags_type: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command the flags of a dataclass, and passes them on as one object."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def wrapper(**values: Any) -> None:
            arguments = {spec.name: values.pop(spec.name) for spec in fields(flags_type)}
            function(flags_type(**{name: value for name, value in arguments.items() if value is not None}), **values)

        decorated: Callable[..., None] = wrapper
        for spec in reversed(fields(flags_type)):
            decorated = _click_option(spec)(decorated)
        return decorated

    return decorate


def _click_option(spec: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    param_type, is_multiple = spec.metadata["type"], isinstance(spec.default, tuple)
    name = (spec.name.removesuffix("s") if is_multiple else spec.name).replace("_", "-")
    # Any other default means "not given", and is no value that the flag could have.
    has_default = spec.default != "" and isinstance(spec.default, str | int | float)
    return click.option(
        f"--{name}",
        spec.name,
        envvar=ENV_PREFIX + name.replace("-", "_").upper(),
        show_envvar=True,
        help=spec.metadata["help"],
        type=param_type,
        metavar=param_type.name if isinstance(param_type, Parsed) else None,
        multiple=is_multiple,
        is_flag=isinstance(spec.default, bool),
        default=spec.default if has_default else None,
        show_default=has_default and spec.default is not False,
    )


class Flag(NamedTuple):
    """A row of the table of flags."""

    command: str
    flag: str
    variable: str
    default: str
    help: str

    def __str__(self) -> str:
        return f"{self.command} {self.flag}"


def list_flags(group: click.Group) -> tuple[Flag, ...]:
    """Return every flag of every command with its environment variable: what README and tests go by."""
    return tuple(
        Flag(
            command=name,
            flag=option.opts[0],
            variable=str(option.envvar),
            default=str(option.default) if isinstance(option.default, str | int | float) and not option.is_flag else "",
            help=option.help or "",
        )
        for name, command in group.commands.items()
        for option in command.params
        if isinstance(option, click.Option) and not option.is_eager
    )
