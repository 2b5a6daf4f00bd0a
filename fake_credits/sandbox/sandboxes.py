"""Own which credential means which sandbox; know nothing of HTTP, and authenticate nothing."""

import threading
from collections.abc import Iterator
from functools import lru_cache

from fake_credits.auth.credentials import Credential, peek_claims
from fake_credits.auth.issuers import SANDBOX_CLAIM
from fake_credits.sandbox.sandbox import Sandbox

__all__ = ["Sandboxes"]

_REMEMBERED = 1024
_LONGEST = 1024


class Sandboxes:
    """Keep a server's sandboxes, and find the one that a request's credential names.

    README, "How far each arrangement isolates", says what that keeps apart.
    """

    def __init__(self, base: Sandbox) -> None:
        self._lock = threading.Lock()
        self._by_key: dict[str, Sandbox] = {}
        self._by_name: dict[str, Sandbox] = {}
        self._bound: dict[tuple[str, str], Sandbox] = {}
        self._defaults: list[Sandbox] = []
        self._peek = lru_cache(_REMEMBERED)(_names_in)
        self.base = base
        self.attach(base)

    def __repr__(self) -> str:
        return f"<Sandboxes: {len(self._by_name)} attached>"

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Sandbox]:
        with self._lock:
            return iter(tuple(self._by_name.values()))

    @property
    def default(self) -> Sandbox:
        """Return the sandbox for a request whose credential names none: the one attached last as such."""
        return self._defaults[-1]

    def named(self, name: str) -> Sandbox | None:
        """Return the attached sandbox of a name, None where there is none."""
        return self._by_name.get(name)

    def attach(self, sandbox: Sandbox, *, as_default: bool = True) -> None:
        """Make a sandbox reachable, and the default unless told; raise ValueError where its name or key is taken."""
        with self._lock:
            if sandbox.name in self._by_name:
                raise ValueError(f"a sandbox named {sandbox.name!r} is attached already")
            if taken := self._by_key.get(sandbox.api_key):
                raise ValueError(f"the API key is that of the sandbox {taken.name!r}, which is attached already")
            self._by_name[sandbox.name] = sandbox
            self._by_key[sandbox.api_key] = sandbox
            if as_default:
                self._defaults.append(sandbox)

    def detach(self, sandbox: Sandbox) -> None:
        """Forget a sandbox; one that is not attached is none of our business."""
        with self._lock:
            if self._by_name.get(sandbox.name) is sandbox:
                self._by_name.pop(sandbox.name)
                self._by_key.pop(sandbox.api_key, None)
                self._defaults = [other for other in self._defaults if other is not sandbox]
                self._bound = {whose: other for whose, other in self._bound.items() if other is not sandbox}

    def bind(self, sandbox: Sandbox, issuer: str, user_id: str) -> None:
        """Let the tokens of a foreign issuer's user name a sandbox; raise ValueError where they name another."""
        with self._lock:
            if self._bound.setdefault((issuer, user_id), sandbox) is not sandbox:
                raise ValueError(f"user {user_id!r} of {issuer!r} is bound to another sandbox")

    def pick(self, credential: Credential | None) -> Sandbox:
        """Return the sandbox that a credential names; this authenticates nothing."""
        if credential is None:
            return self.default
        if credential.kind == "server":
            return self._by_key.get(credential.value) or self.default
        # A long one is read each time: remembering it would let strangers fill the memory.
        token = credential.value
        name, whose = self._peek(token) if len(token) <= _LONGEST else _names_in(token)
        return self._by_name.get(name) or self._bound.get(whose) or self.default


def _names_in(token: str) -> tuple[str, tuple[str, str]]:
    """Return what an unverified token names: a sandbox, and whose it is."""
    claims = peek_claims(token)
    return str(claims.get(SANDBOX_CLAIM, "")), (str(claims.get("iss", "")), str(claims.get("sub", "")))
