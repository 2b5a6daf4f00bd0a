"""Own what `serve` and `run` share: a sandbox from options, and what a client of it has to know; know no sockets."""

from dataclasses import replace

from fake_credits.cli.options import ServerOptions
from fake_credits.cli.tokens import signing_keys
from fake_credits.contract import DEFAULT
from fake_credits.sandbox import Sandbox, SandboxSettings, TokenWords

__all__ = ["environment", "new_sandbox"]

_TOKEN_LIFE_S = 24 * 3600


def new_sandbox(options: ServerOptions) -> Sandbox:
    """Return the one sandbox that this process serves."""
    contract = replace(DEFAULT, cors_origins=options.cors_origins) if options.cors_origins else DEFAULT
    settings = SandboxSettings(
        contract=contract,
        seed=options.seed,
        application_id=options.application_id,
        user_id=options.user_id,
        balance=options.balance,
        users=dict(options.users),
        api_key=options.api_key,
        jwt=options.jwt,
    )
    return Sandbox(settings, signing_keys(options.key_file), "s1")


def environment(sandbox: Sandbox, base_url: str) -> dict[str, str]:
    """Return the variables that an application under test reads; the token is good for 24 hours."""
    settings = sandbox.settings
    return {
        "CREDITS_BASE_URL": base_url,
        "CREDITS_API_KEY": sandbox.api_key,
        "CREDITS_APPLICATION_ID": settings.application_id,
        "CREDITS_USER_ID": settings.user_id,
        "CREDITS_USER_TOKEN": sandbox.token(settings.user_id, TokenWords(expires_in_s=_TOKEN_LIFE_S)),
        "CREDITS_JWKS_URL": f"{base_url}/.well-known/jwks.json",
        "CREDITS_JWT_PUBLIC_KEY": sandbox.keys.public_pem(sandbox.minter.preset.algorithm),
    }
