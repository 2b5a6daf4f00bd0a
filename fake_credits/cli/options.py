"""Own every flag: name, environment twin, default, rule and help, from one dataclass a command; know no command.

A field ``port`` is the flag ``--port`` and the variable ``FAKE_CREDITS_PORT``. Nothing here loads the server.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import click

from fake_credits.cli import rules
from fake_credits.contract import MAX_AMOUNT

__all__ = [
    "ENV_PREFIX",
    "Flag",
    "OpenApiOptions",
    "RunOptions",
    "SeedOptions",
    "ServeOptions",
    "ServerOptions",
    "TokenOptions",
    "WaitOptions",
    "flags_of",
    "takes",
]

ENV_PREFIX = "FAKE_CREDITS_"
_FILE_TO_READ = rules.Checked("FILE", rules.file_to_read)
_PRESETS = "plain, clerk, auth0, supabase, firebase, cognito or workos"
_BAD_DAYS = "flaky, slow, brownout, outage, rate_limited, lost_responses, stale_replica, bad_proxy, version_ahead"
_WORLDS = "tiny, demo, edge, load, a profile of your own (TOML) or a world in a file (JSON)"


def _flag(default: object, explains: str, kind: Any = None, *, name: str = "") -> Any:
    return field(default=default, metadata={"help": explains, "type": kind, "name": name})


def _key_file(explains: str) -> Any:
    return _flag(None, explains, rules.Checked("FILE", rules.file_to_write))


def _jwt() -> Any:
    return _flag(
        "plain", f"Shape users' tokens as this provider does: {_PRESETS}.", rules.Checked("NAME", rules.preset)
    )


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Say what both ``serve`` and ``run`` start."""

    seed: int = _flag(0, "The number that all chance is drawn from.")
    api_key: str = _flag("", "The API key; a fresh one unless given.", rules.Checked("KEY", rules.api_key))
    application_id: str = _flag("app-id", "The default application.", rules.Checked("ID", rules.identifier))
    user_id: str = _flag("user-id", "The default user.", rules.Checked("ID", rules.identifier))
    balance: int | None = _flag(None, "Let the default user exist, with this balance.", click.IntRange(0, MAX_AMOUNT))
    users: tuple[tuple[str, int], ...] = _flag(
        (),
        "Let a user exist, with this balance; may be repeated.",
        rules.Checked("NAME=BALANCE", rules.user),
        name="user",
    )
    world: str = _flag("", f"Start from users with histories: {_WORLDS}.", rules.Checked("WORLD", rules.world))
    scenarios: tuple[str, ...] = _flag(
        (),
        f"Let calls meet faults: {_BAD_DAYS}, or a scenario file (*.toml); may be repeated.",
        rules.Checked("NAME", rules.scenario),
        name="scenario",
    )
    latency: str | None = _flag(
        None,
        "Delay every answer: milliseconds, 'uniform(10, 50)' or 'lognormal(20, 200)', median and 99th percentile.",
        rules.Checked("MS", rules.latency),
    )
    jwt: str = _jwt()
    contract: Path | None = _flag(  # noqa: RUF009 - a field
        None, "Speak the contract in this TOML file.", rules.Checked("FILE", rules.file_to_read)
    )
    trust: tuple[tuple[str, Path], ...] = _flag(
        (),
        "Accept users' tokens of this issuer by its keys in a file (JWKS or PEM); may be repeated.",
        rules.Checked("ISSUER=FILE", rules.issuer),
    )
    key_file: Path | None = _key_file("Sign users' tokens with the keys in this file; made (mode 0600) where absent.")  # noqa: RUF009 - a field
    cors_origins: tuple[str, ...] = _flag(
        (),
        "Let pages of this origin call the API; may be repeated; any origin unless given.",
        rules.Checked("ORIGIN", str),  # the rule is the contract's
        name="cors-origin",
    )
    keep_headers: tuple[str, ...] = _flag(
        (),
        "Keep this header of each request, for --log json; may be repeated.",
        rules.Checked("NAME", str),  # the rule is the sandbox's
        name="keep-header",
    )
    control_token: str = _flag(
        "", "What opens the control plane; a fresh one unless given.", rules.Checked("TOKEN", rules.control_token)
    )
    sandbox_limit: int = _flag(
        1000, "Let the control plane have at most so many sandboxes.", click.IntRange(1, 100_000)
    )
    log: str = _flag("text", "One line an exchange on stderr, and a summary at exit.", click.Choice(rules.LOG_FORMS))
    tls: bool = _flag(False, "Answer over https, by a certificate of a CA that is made at the start.")
    tls_ca: Path | None = _flag(  # noqa: RUF009 - a field
        None,
        "Write that CA here, for clients to trust; removed at exit. A temporary file unless given.",
        rules.Checked("FILE", rules.file_to_write),
    )
    tls_cert: Path | None = _flag(  # noqa: RUF009 - a field
        None, "Answer over https by the certificate, with its chain, in this PEM file.", _FILE_TO_READ
    )
    tls_key: Path | None = _flag(None, "The private key of --tls-cert: a PEM file, not encrypted.", _FILE_TO_READ)  # noqa: RUF009 - a field


@dataclass(frozen=True, kw_only=True)
class ServeOptions(ServerOptions):
    """Say what ``serve`` starts, and where."""

    host: str = _flag("127.0.0.1", "The address to listen at.", rules.Checked("HOST", rules.host))
    port: int = _flag(8402, "The port to listen at; 0 is any free one.", click.IntRange(0, 65535))
    expose: bool = _flag(False, "Allow a --host beyond loopback: everyone who reaches it can try.")
    allow_hosts: tuple[str, ...] = _flag(
        (),
        "Answer to this name in the Host header, beside loopback's; may be repeated.",
        rules.Checked("NAME", rules.host),
        name="allow-host",
    )
    ready_file: Path | None = _flag(  # noqa: RUF009 - a field
        None,
        "Write CREDITS_BASE_URL=... and its siblings here once requests are answered; removed at exit.",
        rules.Checked("FILE", rules.file_to_write),
    )


@dataclass(frozen=True, kw_only=True)
class RunOptions(ServerOptions):
    """Say what ``run`` starts, and what the command finds in its environment."""

    log: str = _flag("off", "One line an exchange on stderr, and a summary at exit.", click.Choice(rules.LOG_FORMS))
    env: tuple[tuple[str, str], ...] = _flag(
        (),
        f"Set one more variable; may be repeated. TEXT may hold {', '.join(f'{{{p}}}' for p in rules.PLACEHOLDERS)}.",
        rules.Checked("NAME=TEXT", rules.variable),
    )
    grace: float = _flag(
        5.0, "Let what is told to end have so many seconds, before SIGKILL.", rules.Checked("SECONDS", rules.seconds)
    )


@dataclass(frozen=True, kw_only=True)
class TokenOptions:
    """Say what the token of ``token`` is like."""

    bad: str = _flag("", "Break one rule: expired, wrong_key, ...", rules.Checked("KIND", rules.bad_token_kind))
    expires_in: int | None = _flag(
        None, "Let it live for so many seconds; the provider's life unless given.", click.IntRange(1, 10 * 366 * 86400)
    )
    jwt: str = _jwt()
    key_file: Path | None = _key_file("The file with the signing keys that the server was started with.")  # noqa: RUF009 - a field


@dataclass(frozen=True, kw_only=True)
class SeedOptions:
    """Say which demo data ``seed`` makes, and where they go."""

    profile: str = _flag("demo", f"Make these users: {_WORLDS}.", rules.Checked("WORLD", rules.world))
    seed: int = _flag(0, "The number that all chance is drawn from.")
    out: Path | None = _flag(None, "Write a world's file.", rules.Checked("FILE", rules.file_to_write))  # noqa: RUF009 - a field
    url: str = _flag("", "Write to the server with this base URL.", rules.Checked("URL", rules.base_url))
    api_key: str = _flag("", "That server's API key.", rules.Checked("KEY", rules.api_key))
    application_id: str = _flag(
        "app-id", "The application whose users they are.", rules.Checked("ID", rules.identifier)
    )
    concurrency: int = _flag(8, "So many users at once.", click.IntRange(1, 100))
    contract: Path | None = _flag(  # noqa: RUF009 - a field
        None, "Speak the contract in this TOML file, and keep its rules.", rules.Checked("FILE", rules.file_to_read)
    )
    dry_run: bool = _flag(False, "Tell what would be written, and write nothing.")
    yes: bool = _flag(False, "Allow a --url beyond loopback.")
    json: bool = _flag(False, "Print objects of JSON, one a line, for programs.")
    quiet: bool = _flag(False, "Print nothing but errors.")


@dataclass(frozen=True, kw_only=True)
class OpenApiOptions:
    """Say what ``openapi`` describes."""

    contract: Path | None = _flag(  # noqa: RUF009 - a field
        None, "Describe the contract in this TOML file.", rules.Checked("FILE", rules.file_to_read)
    )


@dataclass(frozen=True, kw_only=True)
class WaitOptions:
    """Say how long ``wait`` waits."""

    timeout: float = _flag(30.0, "Give up after so many seconds.", rules.Checked("SECONDS", rules.seconds))
    ca: Path | None = _flag(  # noqa: RUF009 - a field
        None,
        "Trust the CA in this PEM file too, once it is there: that of --tls-ca.",
        rules.Checked("FILE", rules.path),
    )


@dataclass(frozen=True, slots=True)
class Flag:
    """Be one row of the table of flags."""

    command: str
    flag: str
    variable: str
    default: str
    explains: str

    def __str__(self) -> str:
        return f"{self.command} {self.flag}"


def takes(options: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command the flags of a dataclass, and hands them over as one object."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def collected(**values: Any) -> None:
            given = {spec.name: values.pop(spec.name) for spec in fields(options)}
            function(options(**{name: value for name, value in given.items() if value is not None}), **values)

        decorated: Callable[..., None] = collected
        for spec in reversed(fields(options)):
            decorated = _option(spec)(decorated)
        return decorated

    return decorate


def flags_of(group: click.Group) -> tuple[Flag, ...]:
    """Return every flag of every command with its twin in the environment: what README and tests go by."""
    return tuple(
        Flag(name, option.opts[0], str(option.envvar), _shown(option.default), option.help or "")
        for name, command in group.commands.items()
        for option in command.params
        if isinstance(option, click.Option) and not option.is_eager
    )


def _shown(default: object) -> str:
    return str(default) if isinstance(default, str | int | float) and not isinstance(default, bool) else ""


def _option(spec: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    name = spec.metadata["name"] or spec.name.replace("_", "-")
    kind = spec.metadata["type"]
    variable = ENV_PREFIX + name.replace("-", "_").upper()
    words: dict[str, Any] = {"type": kind, "multiple": isinstance(spec.default, tuple)}
    if isinstance(kind, rules.Checked):
        words.update(type=rules.Several(variable), metavar=kind.metavar, callback=kind)
    if isinstance(spec.default, bool):
        words = {"is_flag": True, "default": spec.default}
    elif spec.default not in (None, "", ()):  # these mean "not given", and would have to pass the flag's rule
        words.update(default=spec.default, show_default=True)
    return click.option(f"--{name}", spec.name, envvar=variable, show_envvar=True, help=spec.metadata["help"], **words)
