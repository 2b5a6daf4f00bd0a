"""Helpers shared by the commands: sandboxes from flags, signing keys, environment variables and files."""

import itertools
import json
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fake_credits.cli.flags import ServerFlags, TokenFlags
from fake_credits.cli.output import ExchangeLog, print_loading
from fake_credits.clock import wall_clock_ms
from fake_credits.contract import Contract
from fake_credits.control.app import ControlPlane
from fake_credits.errors import ApplicationNotFound
from fake_credits.files import atomic_file
from fake_credits.sandbox import Sandbox
from fake_credits.sandbox_options import OPTION_RULES, OptionError, SandboxOptions, check_id
from fake_credits.sandboxes import SandboxRegistry
from fake_credits.tokens.keys import SigningKeys, new_private_pem
from fake_credits.tokens.minting import AUTH_PROVIDERS, Minter
from fake_credits.transports.environment import env_variables

if TYPE_CHECKING:
    from fake_credits.worlds.world import World

CA_VARIABLE = "CREDITS_CA_FILE"
"""The environment variable for the generated CA's path; `fake_credits.transports.environment` defines the others."""

_ENV_TOKEN_LIFETIME_S = 24 * 3600
_FLAGS_BY_OPTION = {"users": "user", "faults": "scenario", "keep_headers": "keep-header", "cors_origins": "cors-origin"}


def create_sandbox(options: ServerFlags) -> Sandbox:
    """Create this process's first sandbox; raise UsageError if flags are invalid or contradict each other."""
    _check_repeated_flags(options)
    _check_default_user(options)
    values = {name: getattr(options, name) for name in OPTION_RULES if hasattr(options, name)}
    values |= {"users": dict(options.users), "trust": dict(options.trust), "faults": options.scenarios}
    if options.world is not None:
        print_loading(options.world, options.log)
        values["world"] = find_world(options.world, options.seed, "--world")
    keys = load_signing_keys(options.key_file)
    try:
        if options.cors_origins:
            values["contract"] = replace(options.contract, cors_origins=options.cors_origins)
        return Sandbox(SandboxOptions(**values), keys, "s1")
    except OptionError as error:
        flag = _FLAGS_BY_OPTION.get(error.name, error.name.replace("_", "-"))
        raise click.UsageError(f"--{flag} must be {error.expected}, got {values[error.name]!r}") from None
    except ApplicationNotFound as error:
        raise click.UsageError(f"{error.message}; choose another with --application-id") from None
    except ValueError as error:  # two flags conflict, or a file has invalid content
        from fake_credits.worlds.world import WorldError

        if isinstance(error, WorldError):  # raised while the world's users are being created
            raise click.ClickException(f"--world: {error}") from None
        message = str(error)
        for name in ("keep_headers", "cors_origins"):
            message = message.replace(name, f"--{_FLAGS_BY_OPTION[name]}")
        raise click.UsageError(message) from None


def _check_repeated_flags(options: ServerFlags) -> None:
    for kind, pairs in (("user", options.users), ("trust", options.trust)):
        for name, count in Counter(name for name, _ in pairs).items():
            if count > 1:
                raise click.UsageError(f"--{kind} {name!r} appears {count} times: pass it once")


def _check_default_user(options: ServerFlags) -> None:
    """Raise UsageError if the contract disallows the default ids or flags give the default user different balances."""
    balance = dict(options.users).get(options.user_id, options.balance)
    if options.balance not in (None, balance):
        flags = f"--balance {options.balance} and --user {options.user_id}={balance}"
        raise click.UsageError(f"{flags} contradict each other: use only one of them")
    for kind, value in (("application", options.application_id), ("user", options.user_id)):
        try:
            check_id(kind, value, options.contract)
        except ValueError as error:
            raise click.UsageError(f"{error}; choose another with --{kind}-id") from None


def create_control_plane(
    options: ServerFlags, sandbox: Sandbox, log: ExchangeLog
) -> tuple[SandboxRegistry, ControlPlane]:
    """Create a registry that initially contains only ``sandbox``, and a control plane; ``log`` records exchanges."""
    sandboxes, ordinals = SandboxRegistry(sandbox), itertools.count(2)
    log.attach(sandbox.journal, sandbox.bugs)

    def create(settings: SandboxOptions) -> Sandbox:
        created = Sandbox(settings, sandbox.keys, f"s{next(ordinals)}")
        log.attach(created.journal, created.bugs)
        return created

    control = ControlPlane(sandboxes, create, options.control_token, sandbox_limit=options.sandbox_limit)
    return sandboxes, control


def find_world(name: str, seed: int, flag: str) -> "World":
    """Return the world that a flag's value names; raise UsageError if the value is neither a profile nor a file."""
    from fake_credits.worlds import WorldLibrary
    from fake_credits.worlds.world import UnknownWorld, WorldError

    try:
        return WorldLibrary().find(name, seed)
    except UnknownWorld as error:
        raise click.UsageError(f"{flag}: {error}") from None
    except WorldError as error:
        raise click.ClickException(f"{flag}: {error}") from None


def openapi_json(contract: Contract) -> str:
    """Return the OpenAPI document for a contract, as JSON."""
    # Importing these takes 15 ms, and no other command needs them.
    from importlib.metadata import version

    from fake_credits.api.openapi import openapi_document

    document = openapi_document(contract, version("fake-credits"))
    return json.dumps(document, indent=2, ensure_ascii=False)


def server_env(sandbox: Sandbox, base_url: str, control: ControlPlane, ca_file: Path | None) -> dict[str, str]:
    """Return the environment variables for an application and its test suite; the user token is valid for 24 hours."""
    return {
        **env_variables(sandbox, base_url, token_lifetime_s=_ENV_TOKEN_LIFETIME_S),
        **({} if ca_file is None else {CA_VARIABLE: str(ca_file)}),
        "FAKE_CREDITS_URL": base_url,
        "FAKE_CREDITS_CONTROL_TOKEN": control.token,
    }


def load_signing_keys(path: Path | None) -> SigningKeys:
    """Return the keys in a file, which is created if missing; without a file, return new keys for this process only."""
    if path is None:
        return SigningKeys()
    if not path.exists():
        write_file(path, new_private_pem(), "--key-file", keep_existing=True)
    try:
        with _file_errors(path, "--key-file", "read"):
            text = path.read_text("utf-8")
        return SigningKeys(text)
    except ValueError as error:
        raise click.UsageError(f"--key-file {str(path)!r} has no usable signing keys: {error}") from error


def write_file(path: Path, text: str, flag: str, *, mode: int = 0o600, keep_existing: bool = False) -> None:
    """Atomically write the file that a flag names."""
    with _file_errors(path, flag, "written"), atomic_file(path, mode=mode, keep_existing=keep_existing) as file:
        file.write(text.encode("utf-8"))  # bytes, because text mode on Windows writes CRLF, which sh mishandles


def remove_file(path: Path, flag: str, *, only_with_text: str | None = None) -> None:
    """Remove the file that a flag names, if it exists; with ``only_with_text``, only if it still has that content."""
    with _file_errors(path, flag, "removed"):
        if only_with_text is None or (path.is_file() and path.read_bytes() == only_with_text.encode("utf-8")):
            path.unlink(missing_ok=True)


@contextmanager
def _file_errors(path: Path, flag: str, verb: str) -> Generator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise click.ClickException(f"{flag} {str(path)!r} can't be {verb}: {reason}") from error


def mint_token(options: TokenFlags, user_id: str) -> str:
    """Return a token for a user.

    Servers with the same keys, provider and issuer accept the token or, if it was made with ``--bad``, reject it.
    """
    if options.key_file is None:
        raise click.UsageError(
            "--key-file is required: run `serve` and `token` with the same --key-file FILE (created if missing), "
            "or use `run`, which sets CREDITS_USER_TOKEN"
        )
    if options.bad and options.expires_in is not None:
        raise click.UsageError(f"--expires-in {options.expires_in} has no effect with --bad {options.bad}")
    is_new = not options.key_file.exists()
    minter = Minter(load_signing_keys(options.key_file), AUTH_PROVIDERS[options.auth_provider], options.issuer)
    if is_new:
        note = f"created --key-file {str(options.key_file)!r}; only servers started with this file accept the token"
        click.echo(f"Note: {note}.", err=True)
    if options.bad:
        from fake_credits.tokens.bad_tokens import mint_bad_token

        return mint_bad_token(options.bad, minter, user_id, now_ms=wall_clock_ms())
    return minter.mint(user_id, now_ms=wall_clock_ms(), expires_in_s=options.expires_in)
