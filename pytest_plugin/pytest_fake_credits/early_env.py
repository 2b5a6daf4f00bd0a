"""What exists before conftests load: the worker's port, the constant key and the environment, but no server.

For applications that read their settings at import. Only the variables that the ini ``fake_credits_env`` names load
what they need. PYTEST_DONT_REWRITE
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

__all__ = ["EARLY_VALUES", "EarlyEnvironment"]

_EARLY_TOKEN_LIFETIME_S = 24 * 3600


class EarlyEnvironment:
    """The environment before there is a sandbox; ``close`` restores it.

    ``listener`` is bound but does not listen: until a server takes it over, a request is refused, not left hanging.
    Raises ValueError for a preset that there is not.
    """

    def __init__(self, settings: Mapping[str, PluginSetting]) -> None:
        self._settings = settings
        self._keys: SigningKeys | None = None
        self.api_key = settings["api_key"].value or new_api_key()
        self.listener = _bind_listener()
        self.base_url = "http://{}:{}".format(*self.listener.getsockname())
        try:
            values = _LazyValues(self)
            variables = {name: text.format_map(values) for name, text in settings["env"].value.items()}
            variables |= no_proxy_with_loopback(os.environ)
        except BaseException:
            self.listener.close()
            raise
        self._original_values = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)

    def __repr__(self) -> str:
        return f"<Early environment for {self.base_url}>"

    def close(self) -> None:
        """Put the environment back, and free the port where no server has taken it."""
        for name, text in self._original_values.items():
            if text is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = text
        self.listener.close()

    @property
    def keys(self) -> "SigningKeys":
        """Return the signing keys that every sandbox of the session has."""
        if self._keys is None:
            from fake_credits.tokens.keys import SigningKeys

            self._keys = SigningKeys()
        return self._keys

    def setting_text(self, name: str) -> str:
        """Return an option's value."""
        return str(self._settings[name].value)

    def token(self) -> str:
        """Return a token of the default user that names no sandbox: the running test's accepts it."""
        from fake_credits.clock import wall_clock_ms

        return self._minter().mint(
            self.setting_text("user_id"), now_ms=wall_clock_ms(), expires_in_s=_EARLY_TOKEN_LIFETIME_S
        )

    def public_key(self) -> str:
        """Return the public half of the key that signs tokens, as PEM text."""
        return self._minter().signing_key.pem()

    def _minter(self) -> "Minter":
        from fake_credits.tokens.minting import Minter
        from fake_credits.tokens.providers import AUTH_PROVIDERS

        provider = self.setting_text("auth_provider")
        if provider not in AUTH_PROVIDERS:
            raise ValueError(f"there is no JWT preset {provider!r}: choose one of {', '.join(AUTH_PROVIDERS)}")
        return Minter(self.keys, AUTH_PROVIDERS[provider])


EARLY_VALUES: Mapping[str, Callable[[EarlyEnvironment], str]] = {
    "base_url": lambda early: early.base_url,
    "api_key": lambda early: early.api_key,
    "application_id": lambda early: early.setting_text("application_id"),
    "user_id": lambda early: early.setting_text("user_id"),
    "user_token": EarlyEnvironment.token,
    "jwks_url": lambda early: f"{early.base_url}/.well-known/jwks.json",
    "jwt_public_key": EarlyEnvironment.public_key,
}
"""What can be promised early, each by its name in the ini ``fake_credits_env``."""


class _LazyValues(dict[str, str]):
    """Make each field when a line first asks for it: the token and the public key load the cryptography, 60 ms."""

    def __init__(self, environment: EarlyEnvironment) -> None:
        super().__init__()
        self._environment = environment

    def __missing__(self, name: str) -> str:
        text = self[name] = EARLY_VALUES[name](self._environment)
        return text


def _bind_listener() -> socket.socket:
    # IPPROTO_TCP by name: without it asyncio leaves Nagle's algorithm on, 44 ms a keep-alive request.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.setblocking(False)
    return listener
