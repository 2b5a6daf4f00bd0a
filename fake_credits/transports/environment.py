"""Environment variables for an application under test. Importing this module does not load the server."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fake_credits.sandbox import Sandbox

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
"""The loopback hosts that are added to ``NO_PROXY``."""


ENV_VALUE_NAMES = ("base_url", "api_key", "application_id", "user_id", "user_token", "jwks_url", "jwt_public_key")
"""The names of the values that a client needs; ``base_url`` is passed in ``CREDITS_BASE_URL``, and so on."""


def env_values(sandbox: "Sandbox", base_url: str, *, token_lifetime_s: int | None = None) -> dict[str, str]:
    """Return the value for each name in `ENV_VALUE_NAMES`; the token's lifetime defaults to the provider's."""
    from fake_credits.sandbox_options import MintOptions

    options = sandbox.options
    values = (
        base_url,
        sandbox.api_key,
        options.application_id,
        options.user_id,
        sandbox.token(options.user_id, MintOptions(expires_in_s=token_lifetime_s)),
        f"{base_url}/.well-known/jwks.json",
        sandbox.minter.signing_key.pem(),
    )
    return dict(zip(ENV_VALUE_NAMES, values, strict=True))


def env_variables(sandbox: "Sandbox", base_url: str, *, token_lifetime_s: int | None = None) -> dict[str, str]:
    """Return the values of `env_values` as environment variables: ``CREDITS_BASE_URL`` and so on."""
    values = env_values(sandbox, base_url, token_lifetime_s=token_lifetime_s)
    return {f"CREDITS_{name.upper()}": value for name, value in values.items()}


def no_proxy_with_loopback(variables: Mapping[str, str]) -> dict[str, str]:
    """Return ``NO_PROXY`` and ``no_proxy`` with the loopback hosts added; some programs read only one of the two.

    If one of the entries is ``*``, both are just ``*``, because many programs recognize it only on its own.
    """
    entries = f"{variables.get('no_proxy', '')},{variables.get('NO_PROXY', '')}".split(",")
    hosts = dict.fromkeys(entry.strip() for entry in entries if entry.strip())
    merged = "*" if "*" in hosts else ",".join(hosts | dict.fromkeys(LOOPBACK_HOSTS))
    return {"NO_PROXY": merged, "no_proxy": merged}
