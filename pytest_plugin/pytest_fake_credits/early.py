"""Own what stands before conftests load: the worker's port, the constant key, the environment; start no server.

For applications that read their settings at import. The port is bound by the standard library; what a line of the ini
``fake_credits_env`` asks for is loaded when it does. PYTEST_DONT_REWRITE
"""

import os
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from fake_credits.auth.api_keys import new_api_key
from fake_credits.drivers.environment import with_loopback
from pytest_fake_credits.settings import Setting

if TYPE_CHECKING:
    from fake_credits.auth.issuers import Minter
    from fake_credits.auth.keys import SigningKeys

__all__ = ["PROMISES", "Early"]

_TOKEN_LIFE_S = 24 * 3600


class Early:
    """Be what the environment promises before there is a sandbox; ``close`` puts it back as it was.

    ``listener`` is bound but does not listen: until a server takes it over, a request is refused, not left hanging.
    Raises ValueError for a preset that there is not.
    """

    def __init__(self, settings: Mapping[str, Setting], templates: Mapping[str, str]) -> None:
        self._settings = settings
        self._keys: SigningKeys | None = None
        self.api_key = str(settings["api_key"].value) or new_api_key()
        self.listener = _bound()
        self.base_url = "http://{}:{}".format(*self.listener.getsockname())
        self._before: dict[str, str | None] = {}
        try:
            fields = _Fields(self)
            self._set({name: text.format_map(fields) for name, text in templates.items()} | with_loopback(os.environ))
        except BaseException:
            self.listener.close()
            raise

    def __repr__(self) -> str:
        return f"<Early environment for {self.base_url}>"

    def _set(self, variables: Mapping[str, str]) -> None:
        self._before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)

    def close(self) -> None:
        """Put the environment back, and free the port where no server has taken it."""
        for name, text in self._before.items():
            if text is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = text
        self.listener.close()

    @property
    def keys(self) -> "SigningKeys":
        """Return the signing keys that every sandbox of the session has."""
        if self._keys is None:
            from fake_credits.auth.keys import SigningKeys

            self._keys = SigningKeys()
        return self._keys

    def setting(self, name: str) -> str:
        """Return an option's value."""
        return str(self._settings[name].value)

    def token(self) -> str:
        """Return a token of the default user that names no sandbox: the running test's accepts it."""
        from fake_credits.clock import wall_ms

        return self._minter().mint(self.setting("user_id"), now_ms=wall_ms(), expires_in_s=_TOKEN_LIFE_S)

    def public_key(self) -> str:
        """Return the public half of the key that signs tokens, as PEM text."""
        return self._minter().signing_key.verifying.pem()

    def _minter(self) -> "Minter":
        from fake_credits.auth.issuers import Minter
        from fake_credits.auth.providers import PRESETS

        preset = self.setting("jwt")
        if preset not in PRESETS:
            raise ValueError(f"there is no JWT preset {preset!r}: choose one of {', '.join(PRESETS)}")
        return Minter(self.keys, PRESETS[preset])


PROMISES: Mapping[str, Callable[[Early], str]] = {
    "base_url": lambda early: early.base_url,
    "api_key": lambda early: early.api_key,
    "application_id": lambda early: early.setting("application_id"),
    "user_id": lambda early: early.setting("user_id"),
    "user_token": Early.token,
    "jwks_url": lambda early: f"{early.base_url}/.well-known/jwks.json",
    "jwt_public_key": Early.public_key,
}
"""What can be promised early, each by its name in the ini ``fake_credits_env``."""


class _Fields(dict[str, str]):
    """Make each field when a line first asks for it: the token and the public key load the cryptography, 60 ms."""

    def __init__(self, early: Early) -> None:
        super().__init__()
        self._early = early

    def __missing__(self, name: str) -> str:
        text = self[name] = PROMISES[name](self._early)
        return text


def _bound() -> socket.socket:
    # IPPROTO_TCP by name: without it asyncio leaves Nagle's algorithm on, 44 ms a keep-alive request.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.setblocking(False)
    return listener
