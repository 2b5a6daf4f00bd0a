"""Own every flag: name, environment twin, default, rule and help, from one dataclass a command; know no command.

A field ``port`` is the flag ``--port`` and the variable ``FAKE_CREDITS_PORT``. Nothing here loads the server.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import click

from fake_credits.cli import params
from fake_credits.contract import MAX_AMOUNT

__all__ = [
    "ENV_PREFIX",
    "Flag",
    "OpenApiFlags",
    "RunFlags",
    "SeedFlags",
    "ServeFlags",
    "ServerFlags",
    "TokenFlags",
    "WaitFlags",
    "list_flags",
    "options_from",
]

ENV_PREFIX = "FAKE_CREDITS_"
_EXISTING_FILE = params.Validated("FILE", params.existing_file)
_PROVIDER_NAMES = "plain, clerk, auth0, supabase, firebase, cognito or workos"
_FAULT_PRESET_NAMES = (
    "flaky, slow, brownout, outage, rate_limited, lost_responses, stale_replica, bad_proxy, version_ahead"
)
_WORLD_CHOICES = "tiny, demo, edge, load, a profile of your own (TOML) or a world in a file (JSON)"


def _flag(default: object, help_text: str, param_type: Any = None, *, name: str = "") -> Any:
    return field(default=default, metadata={"help": help_text, "type": param_type, "name": name})


def _key_file_flag(help_text: str) -> Any:
    return _flag(None, help_text, params.Validated("FILE", params.writable_file))


def _auth_provider_flag() -> Any:
    return _flag(
        "plain",
        f"Shape users' tokens as this provider does: {_PROVIDER_NAMES}.",
        params.Validated("NAME", params.validate_auth_provider),
    )


@dataclass(frozen=True, kw_only=True)
class ServerFlags:
    """Say what both ``serve`` and ``run`` start."""

    seed: int = _flag(0, "The number that all chance is drawn from.")
    api_key: str = _flag("", "The API key; a fresh one unless given.", params.Validated("KEY", params.validate_api_key))
    application_id: str = _flag("app-id", "The default application.", params.Validated("ID", params.validate_id))
    user_id: str = _flag("user-id", "The default user.", params.Validated("ID", params.validate_id))
    balance: int | None = _flag(None, "Let the default user exist, with this balance.", click.IntRange(0, MAX_AMOUNT))
    users: tuple[tuple[str, int], ...] = _flag(
        (),
        "Let a user exist, with this balance; may be repeated.",
        params.Validated("NAME=BALANCE", params.parse_user_balance),
        name="user",
    )
    world: str = _flag(
        "", f"Start from users with histories: {_WORLD_CHOICES}.", params.Validated("WORLD", params.validate_world)
    )
    scenarios: tuple[str, ...] = _flag(
        (),
        f"Let calls meet faults: {_FAULT_PRESET_NAMES}, or a scenario file (*.toml); may be repeated.",
        params.Validated("NAME", params.validate_scenario),
        name="scenario",
    )
    latency: str | None = _flag(
        None,
        "Delay every answer: milliseconds, 'uniform(10, 50)' or 'lognormal(20, 200)', median and 99th percentile.",
        params.Validated("MS", params.validate_latency),
    )
    auth_provider: str = _auth_provider_flag()
    contract: Path | None = _flag(  # noqa: RUF009 - a field
        None, "Speak the contract in this TOML file.", params.Validated("FILE", params.existing_file)
    )
    trust: tuple[tuple[str, Path], ...] = _flag(
        (),
        "Accept users' tokens of this issuer by its keys in a file (JWKS or PEM); may be repeated.",
        params.Validated("ISSUER=FILE", params.parse_issuer_file),
    )
    key_file: Path | None = _key_file_flag(  # noqa: RUF009 - a field
        "Sign users' tokens with the keys in this file; made (mode 0600) where absent."
    )
    cors_origins: tuple[str, ...] = _flag(
        (),
        "Let pages of this origin call the API; may be repeated; any origin unless given.",
        params.Validated("ORIGIN", str),  # the rule is the contract's
        name="cors-origin",
    )
    keep_headers: tuple[str, ...] = _flag(
        (),
        "Keep this header of each request, for --log json; may be repeated.",
        params.Validated("NAME", str),  # the rule is the sandbox's
        name="keep-header",
    )
    control_token: str = _flag(
        "",
        "What opens the control plane; a fresh one unless given.",
        params.Validated("TOKEN", params.validate_control_token),
    )
    sandbox_limit: int = _flag(
        1000, "Let the control plane have at most so many sandboxes.", click.IntRange(1, 100_000)
    )
    log: str = _flag("text", "One line an exchange on stderr, and a summary at exit.", click.Choice(params.LOG_FORMATS))
    tls: bool = _flag(False, "Answer over https, by a certificate of a CA that is made at the start.")
    tls_ca: Path | None = _flag(  # noqa: RUF009 - a field
        None,
        "Write that CA here, for clients to trust; removed at exit. A temporary file unless given.",
        params.Validated("FILE", params.writable_file),
    )
    tls_cert: Path | None = _flag(  # noqa: RUF009 - a field
        None, "Answer over https by the certificate, with its chain, in this PEM file.", _EXISTING_FILE
    )
    tls_key: Path | None = _flag(None, "The private key of --tls-cert: a PEM file, not encrypted.", _EXISTING_FILE)  # noqa: RUF009 - a field


@dataclass(frozen=True, kw_only=True)
class ServeFlags(ServerFlags):
    """Say what ``serve`` starts, and where."""

    host: str = _flag("127.0.0.1", "The address to listen at.", params.Validated("HOST", params.validate_host))
    port: int = _flag(8402, "The port to listen at; 0 is any free one.", click.IntRange(0, 65535))
    expose: bool = _flag(False, "Allow a --host beyond loopback: everyone who reaches it can try.")
    allow_hosts: tuple[str, ...] = _flag(
        (),
        "Answer to this name in the Host header, beside loopback's; may be repeated.",
        params.Validated("NAME", params.validate_host),
        name="allow-host",
    )
    ready_file: Path | None = _flag(  # noqa: RUF009 - a field
        None,
        "Write CREDITS_BASE_URL=... and its siblings here once requests are answered; removed at exit.",
        params.Validated("FILE", params.writable_file),
    )


@dataclass(frozen=True, kw_only=True)
class RunFlags(ServerFlags):
    """Say what ``run`` starts, and what the command finds in its environment."""

    log: str = _flag("off", "One line an exchange on stderr, and a summary at exit.", click.Choice(params.LOG_FORMATS))
    env: tuple[tuple[str, str], ...] = _flag(
        (),
        "Set one more variable; may be repeated. TEXT may hold "
        f"{', '.join(f'{{{name}}}' for name in params.ENV_PLACEHOLDERS)}.",
        params.Validated("NAME=TEXT", params.parse_env_variable),
    )
    grace: float = _flag(
        5.0,
        "Let what is told to end have so many seconds, before SIGKILL.",
        params.Validated("SECONDS", params.parse_seconds),
    )


@dataclass(frozen=True, kw_only=True)
class TokenFlags:
    """Say what the token of ``token`` is like."""

    bad: str = _flag(
        "", "Break one rule: expired, wrong_key, ...", params.Validated("KIND", params.validate_bad_token_kind)
    )
    expires_in: int | None = _flag(
        None, "Let it live for so many seconds; the provider's life unless given.", click.IntRange(1, 10 * 366 * 86400)
    )
    auth_provider: str = _auth_provider_flag()
    key_file: Path | None = _key_file_flag("The file with the signing keys that the server was started with.")  # noqa: RUF009 - a field


@dataclass(frozen=True, kw_only=True)
class SeedFlags:
    """Say which demo data ``seed`` makes, and where they go."""

    profile: str = _flag(
        "demo", f"Make these users: {_WORLD_CHOICES}.", params.Validated("WORLD", params.validate_world)
    )
    seed: int = _flag(0, "The number that all chance is drawn from.")
    out: Path | None = _flag(None, "Write a world's file.", params.Validated("FILE", params.writable_file))  # noqa: RUF009 - a field
    url: str = _flag("", "Write to the server with this base URL.", params.Validated("URL", params.validate_base_url))
    api_key: str = _flag("", "That server's API key.", params.Validated("KEY", params.validate_api_key))
    application_id: str = _flag(
        "app-id", "The application whose users they are.", params.Validated("ID", params.validate_id)
    )
    concurrency: int = _flag(8, "So many users at once.", click.IntRange(1, 100))
    contract: Path | None = _flag(  # noqa: RUF009 - a field
        None,
        "Speak the contract in this TOML file, and keep its rules.",
        params.Validated("FILE", params.existing_file),
    )
    dry_run: bool = _flag(False, "Tell what would be written, and write nothing.")
    yes: bool = _flag(False, "Allow a --url beyond loopback.")
    json: bool = _flag(False, "Print objects of JSON, one a line, for programs.")
    quiet: bool = _flag(False, "Print nothing but errors.")


@dataclass(frozen=True, kw_only=True)
class OpenApiFlags:
    """Say what ``openapi`` describes."""

    contract: Path | None = _flag(  # noqa: RUF009 - a field
        None, "Describe the contract in this TOML file.", params.Validated("FILE", params.existing_file)
    )


@dataclass(frozen=True, kw_only=True)
class WaitFlags:
    """Say how long ``wait`` waits."""

    timeout: float = _flag(30.0, "Give up after so many seconds.", params.Validated("SECONDS", params.parse_seconds))
    ca: Path | None = _flag(  # noqa: RUF009 - a field
        None,
        "Trust the CA in this PEM file too, once it is there: that of --tls-ca.",
        params.Validated("FILE", params.parse_path),
    )


@dataclass(frozen=True, slots=True)
class Flag:
    """Be one row of the table of flags."""

    command: str
    flag: str
    variable: str
    default: str
    help: str

    def __str__(self) -> str:
        return f"{self.command} {self.flag}"


def options_from(flags_type: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command the flags of a dataclass, and hands them over as one object."""

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


def list_flags(group: click.Group) -> tuple[Flag, ...]:
    """Return every flag of every command with its twin in the environment: what README and tests go by."""
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


def _click_option(spec: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    name = spec.metadata["name"] or spec.name.replace("_", "-")
    param_type = spec.metadata["type"]
    variable = ENV_PREFIX + name.replace("-", "_").upper()
    kwargs: dict[str, Any] = {"type": param_type, "multiple": isinstance(spec.default, tuple)}
    if isinstance(param_type, params.Validated):
        kwargs.update(type=params.QuotedList(variable), metavar=param_type.metavar, callback=param_type)
    if isinstance(spec.default, bool):
        kwargs = {"is_flag": True, "default": spec.default}
    elif spec.default not in (None, "", ()):  # these mean "not given", and would have to pass the flag's rule
        kwargs.update(default=spec.default, show_default=True)
    return click.option(f"--{name}", spec.name, envvar=variable, show_envvar=True, help=spec.metadata["help"], **kwargs)
