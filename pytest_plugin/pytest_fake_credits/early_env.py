"""Environment variables that are set before conftests load, for applications that read their settings at import time.

They contain a base URL and an API key, although no server is running yet. Only the modules that the requested variables
need are imported.

PYTEST_DONT_REWRITE
"""

import os
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from fake_credits.sandbox_options import new_api_key
from fake_credits.transports.environment import no_proxy_with_loopback
from pytest_fake_credits.config_options import PluginSetting

if TYPE_CHECKING:
    from fake_credits.tokens.keys import SigningKeys
    from fake_credits.tokens.minting import Minter

_EARLY_TOKEN_LIFETIME_S = 24 * 3600


class EarlyEnvironment:
    """The environment variables that are set before the first sandbox exists; ``close`` restores the original values.

    Until a server uses it, ``listener`` is bound but not listening, so that connections are refused instead of hanging.
    Raises ValueError for an unknown auth provider.
    """

    def __init__(self, settings: Mapping[str, PluginSetting]) -> None:
        self._settings = settings
        self._keys: SigningKeys | None = None
        self.api_key = settings["api_key"].value or new_api_key()
        self.listener = _bind_listener()
        self.base_url = "http://{}:{}".format(*self.listener.getsockname())
        try:
            variables = {name: text.format_map(self) for name, text in settings["env"].value.items()}
            variables |= no_proxy_with_loopback(os.environ)
        except BaseException:
            self.listener.close()
            raise
        self._original_values = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)

    def __repr__(self) -> str:
        return f"<EarlyEnvironment for {self.base_url}>"

    def __getitem__(self, name: str) -> str:
        return EARLY_VALUES[name](self)

    def close(self) -> None:
        """Restore the environment, and close ``listener``."""
        for name, text in self._original_values.items():
            if text is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = text
        self.listener.close()

    @property
    def keys(self) -> "SigningKeys":
        """Return the signing keys that all sandboxes of the session share."""
        if self._keys is None:
            from fake_credits.tokens.keys import SigningKeys

            self._keys = SigningKeys()
        return self._keys

    def setting_text(self, name: str) -> str:
        """Return an option's value as a string."""
        return str(self._settings[name].value)

    def token(self) -> str:
        """Return a token for the default user; it names no sandbox, so that each test's sandbox accepts it."""
        from fake_credits.clock import wall_clock_ms

        return self._minter().mint(
            self.setting_text("user_id"), now_ms=wall_clock_ms(), expires_in_s=_EARLY_TOKEN_LIFETIME_S
        )

    def public_key(self) -> str:
        """Return the public key that verifies the tokens, in PEM format."""
        return self._minter().signing_key.pem()

    def _minter(self) -> "Minter":
        from fake_credits.tokens.minting import AUTH_PROVIDERS, Minter

        provider = self.setting_text("auth_provider")
        if provider not in AUTH_PROVIDERS:
            raise ValueError(f"unknown auth provider {provider!r}; use one of {', '.join(AUTH_PROVIDERS)}")
        issuer = self.setting_text("issuer")
        return Minter(self.keys, AUTH_PROVIDERS[provider], self.base_url if issuer == "server" else issuer)


EARLY_VALUES: Mapping[str, Callable[[EarlyEnvironment], str]] = {
    "base_url": lambda early: early.base_url,
    "api_key": lambda early: early.api_key,
    "application_id": lambda early: early.setting_text("application_id"),
    "user_id": lambda early: early.setting_text("user_id"),
    "user_token": EarlyEnvironment.token,
    "jwks_url": lambda early: f"{early.base_url}/.well-known/jwks.json",
    "jwt_public_key": EarlyEnvironment.public_key,
}
"""Functions that return the fields of ``fake_credits_env``.

Those for ``user_token`` and ``jwt_public_key`` import cryptography, which takes 60 ms.
"""


def _bind_listener() -> socket.socket:
    # Without IPPROTO_TCP, asyncio does not disable Nagle's algorithm, which delays keep-alive requests by 44 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.setblocking(False)
    return listener
