"""Own what an application under test finds in its environment; know no process and no test that sets it.

Importing this loads no server: the command line's help and the pytest plugin go by it.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fake_credits.sandbox import Sandbox

__all__ = ["ENV_VALUE_NAMES", "LOOPBACK_HOSTS", "env_values", "env_variables", "no_proxy_with_loopback"]

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
"""How URLs name this machine."""


def _mint_user_token(sandbox: "Sandbox", lifetime_s: int | None) -> str:
    from fake_credits.sandbox_options import MintOptions

    return sandbox.token(sandbox.options.user_id, MintOptions(expires_in_s=lifetime_s))


_ENV_VALUE_GETTERS: Mapping[str, Callable[["Sandbox", str, int | None], str]] = {
    "base_url": lambda _sandbox, base_url, _life: base_url,
    "api_key": lambda sandbox, _base_url, _life: sandbox.api_key,
    "application_id": lambda sandbox, _base_url, _life: sandbox.options.application_id,
    "user_id": lambda sandbox, _base_url, _life: sandbox.options.user_id,
    "user_token": lambda sandbox, _base_url, life_s: _mint_user_token(sandbox, life_s),
    "jwks_url": lambda _sandbox, base_url, _life: f"{base_url}/.well-known/jwks.json",
    "jwt_public_key": lambda sandbox, _base_url, _life: sandbox.minter.signing_key.pem(),
}

ENV_VALUE_NAMES = tuple(_ENV_VALUE_GETTERS)
"""What a client of a sandbox has to know, each the name of a variable in lower case and without ``CREDITS_``."""


def env_values(sandbox: "Sandbox", base_url: str, *, token_lifetime_s: int | None = None) -> dict[str, str]:
    """Return what a client of a sandbox has to know; the user's token lives as long as the provider's unless told."""
    return {name: value(sandbox, base_url, token_lifetime_s) for name, value in _ENV_VALUE_GETTERS.items()}


def env_variables(sandbox: "Sandbox", base_url: str, *, token_lifetime_s: int | None = None) -> dict[str, str]:
    """Return the same as variables: ``CREDITS_BASE_URL`` and so on."""
    values = env_values(sandbox, base_url, token_lifetime_s=token_lifetime_s)
    return {f"CREDITS_{name.upper()}": value for name, value in values.items()}


def no_proxy_with_loopback(variables: Mapping[str, str]) -> dict[str, str]:
    """Return ``NO_PROXY`` with loopback added, in both spellings, as programs differ in which they read.

    ``*`` means all hosts to most programs, but only where it stands alone: it stays so.
    """
    entries = f"{variables.get('no_proxy', '')},{variables.get('NO_PROXY', '')}".split(",")
    hosts = dict.fromkeys(entry.strip() for entry in entries if entry.strip())
    merged = "*" if "*" in hosts else ",".join(hosts | dict.fromkeys(LOOPBACK_HOSTS))
    return {"NO_PROXY": merged, "no_proxy": merged}
