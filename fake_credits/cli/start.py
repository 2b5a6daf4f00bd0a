"""Own what `serve` and `run` share: a sandbox from options, and what a client of it has to know; know no sockets."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fake_credits.cli.lines import ExchangeLog
from fake_credits.cli.options import ServerOptions
from fake_credits.cli.telling import tell_loading
from fake_credits.cli.tokens import signing_keys
from fake_credits.contract import DEFAULT, Contract, ContractError
from fake_credits.contract.loading import load_contract
from fake_credits.drivers.environment import environment
from fake_credits.sandbox import Sandbox, Sandboxes, SandboxSettings
from fake_credits.seeding.errors import UnknownWorld, WorldError
from fake_credits.web.control.plane import ControlPlane

if TYPE_CHECKING:
    from fake_credits.seeding.world import World

__all__ = ["contract_of", "control_of", "control_variables", "document", "new_sandbox", "variables", "world"]

_TOKEN_LIFE_S = 24 * 3600


def new_sandbox(options: ServerOptions) -> Sandbox:
    """Return the one sandbox that this process serves."""
    settings, keys = _settings(options), signing_keys(options.key_file)
    try:
        return Sandbox(settings, keys, "s1")
    except WorldError as error:  # of the users: they are made now
        raise click.ClickException(f"--world: {error}") from None
    except ValueError as error:  # a file without keys, a header not to keep; all else was checked with its flag
        raise click.UsageError(str(error)) from None


def _settings(options: ServerOptions) -> SandboxSettings:
    _check_users(options.users)
    contract = contract_of(options.contract, options.cors_origins)
    if options.world:
        tell_loading(options.world, options.log)
    try:
        return SandboxSettings(
            contract=contract,
            seed=options.seed,
            application_id=options.application_id,
            user_id=options.user_id,
            balance=options.balance,
            users=dict(options.users),
            world=world(options.world, options.seed, "--world") if options.world else None,
            api_key=options.api_key,
            jwt=options.jwt,
            trust=dict(options.trust),
            keep_headers=options.keep_headers,
            faults=list(options.scenarios),
            latency=options.latency,
        )
    except ValueError as error:
        raise click.UsageError(f"--balance and --user: {error}") from None


def _check_users(users: tuple[tuple[str, int], ...]) -> None:
    names = [name for name, _ in users]
    for name in names:
        if names.count(name) > 1:
            raise click.UsageError(f"--user {name!r} is given {names.count(name)} times: once is enough")


def control_of(options: ServerOptions, sandboxes: Sandboxes, log: ExchangeLog) -> ControlPlane:
    """Return the control plane of the process's sandboxes; those that it makes are logged as the first one is."""
    numbers = itertools.count(2)
    keys = sandboxes.base.keys

    def new(settings: SandboxSettings) -> Sandbox:
        sandbox = Sandbox(settings, keys, f"s{next(numbers)}")
        log.follow(sandbox.journal, sandbox.bugs)
        return sandbox

    return ControlPlane(sandboxes, new, options.control_token, sandbox_limit=options.sandbox_limit)


def control_variables(base_url: str, control: ControlPlane) -> dict[str, str]:
    """Return the variables that a suite reads to reach the control plane."""
    return {"FAKE_CREDITS_URL": base_url, "FAKE_CREDITS_CONTROL_TOKEN": control.token}


def world(name: str, seed: int, flag: str) -> "World":
    """Return the world of a name or a file that a flag gives; a name that is neither is wrong usage."""
    from fake_credits.seeding.making import Worlds

    try:
        return Worlds().find(name, seed)
    except UnknownWorld as error:
        raise click.UsageError(f"{flag}: {error}") from None
    except WorldError as error:
        raise click.ClickException(f"{flag}: {error}") from None


def document(contract: Path | None) -> str:
    """Return the OpenAPI document of a contract file, as JSON."""
    # These cost 15 ms, which every start would pay.
    from importlib.metadata import version

    from fake_credits.web.openapi import openapi

    described = openapi(contract_of(contract), version("fake-credits"))
    return json.dumps(described, indent=2, ensure_ascii=False)


def contract_of(path: Path | None, cors_origins: tuple[str, ...] = ()) -> Contract:
    """Return the contract in a file, the default one without; what it can't be is wrong usage."""
    try:
        contract = DEFAULT if path is None else load_contract(path)
    except ContractError as error:
        raise click.UsageError(f"--contract: {error}") from None
    try:
        return replace(contract, cors_origins=cors_origins) if cors_origins else contract
    except ContractError as error:
        raise click.UsageError(f"--cors-origin: {error}") from None


def variables(sandbox: Sandbox, base_url: str) -> dict[str, str]:
    """Return the variables that an application under test reads; the token is good for 24 hours."""
    return environment(sandbox, base_url, token_life_s=_TOKEN_LIFE_S)
