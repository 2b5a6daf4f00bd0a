"""Own what `serve` and `run` share: a sandbox from options, and what a client of it has to know; know no sockets."""

import json
from dataclasses import replace
from pathlib import Path

import click

from fake_credits.cli.options import ServerOptions
from fake_credits.cli.tokens import signing_keys
from fake_credits.contract import DEFAULT, Contract, ContractError
from fake_credits.contract.loading import load_contract
from fake_credits.drivers.environment import environment
from fake_credits.sandbox import Sandbox, SandboxSettings

__all__ = ["document", "new_sandbox", "variables"]

_TOKEN_LIFE_S = 24 * 3600


def new_sandbox(options: ServerOptions) -> Sandbox:
    """Return the one sandbox that this process serves."""
    contract = _contract(options.contract, options.cors_origins)
    settings = SandboxSettings(
        contract=contract,
        seed=options.seed,
        application_id=options.application_id,
        user_id=options.user_id,
        balance=options.balance,
        users=dict(options.users),
        api_key=options.api_key,
        jwt=options.jwt,
        trust=dict(options.trust),
    )
    keys = signing_keys(options.key_file)
    try:
        return Sandbox(settings, keys, "s1")
    except ValueError as error:  # a file of keys that has none; all else was checked with its flag
        raise click.UsageError(str(error)) from None


def document(contract: Path | None) -> str:
    """Return the OpenAPI document of a contract file, as JSON."""
    # These cost 15 ms, which every start would pay.
    from importlib.metadata import version

    from fake_credits.web.openapi import openapi

    described = openapi(_contract(contract), version("fake-credits"))
    return json.dumps(described, indent=2, ensure_ascii=False)


def _contract(path: Path | None, cors_origins: tuple[str, ...] = ()) -> Contract:
    try:
        contract = DEFAULT if path is None else load_contract(path)
    except ContractError as error:
        raise click.UsageError(str(error)) from None
    try:
        return replace(contract, cors_origins=cors_origins) if cors_origins else contract
    except ContractError as error:
        raise click.UsageError(f"--cors-origin: {error}") from None


def variables(sandbox: Sandbox, base_url: str) -> dict[str, str]:
    """Return the variables that an application under test reads; the token is good for 24 hours."""
    return environment(sandbox, base_url, token_life_s=_TOKEN_LIFE_S)
