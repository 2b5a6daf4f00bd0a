"""The sandboxes of a server: selecting one by credential, and draining its exchanges before it is closed."""

import threading
from collections.abc import Iterator
from functools import lru_cache

from fake_credits.clock import monotonic_s
from fake_credits.sandbox import Sandbox
from fake_credits.tokens.credentials import Credential, peek_claims
from fake_credits.tokens.minting import SANDBOX_CLAIM

_TOKEN_CACHE_SIZE = 1024
_MAX_CACHED_TOKEN_CHARS = 1024


class SandboxRegistry:
    """The sandboxes of a server, selected by a request's credential.

    See docs/how-to/shared-servers.md for which requests reach which sandbox.
    """

    def __init__(self, base_sandbox: Sandbox) -> None:
        self._lock = threading.Lock()
        self._by_api_key: dict[str, Sandbox] = {}
        self._by_name: dict[str, Sandbox] = {}
        self._by_token_subject: dict[tuple[str, str], Sandbox] = {}
        self._defaults: list[Sandbox] = []
        self._refuses_connection_faults = False
        self._server_url = ""
        self._cached_token_hints = lru_cache(_TOKEN_CACHE_SIZE)(_token_hints)
        self.base_sandbox = base_sandbox
        self.attach(base_sandbox)

    def __repr__(self) -> str:
        return f"<SandboxRegistry: {len(self._by_name)} attached>"

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Sandbox]:
        with self._lock:
            return iter(tuple(self._by_name.values()))

    @property
    def default(self) -> Sandbox:
        """Return the sandbox that was most recently attached as the default.

        It serves the requests without a credential, and those whose credential selects no sandbox.
        """
        return self._defaults[-1]

    def get(self, name: str) -> Sandbox | None:
        """Return the attached sandbox called ``name``, or None."""
        return self._by_name.get(name)

    def attach(self, sandbox: Sandbox, *, as_default: bool = True) -> None:
        """Add a sandbox, and make it the default unless ``as_default`` is False.

        Raises ValueError if its name or API key is already in use, and FaultError if the sandboxes are served over ASGI
        and the new one has a fault that ASGI can't produce.
        """
        with self._lock:
            if sandbox.name in self._by_name:
                raise ValueError(f"a sandbox named {sandbox.name!r} is already attached")
            if other := self._by_api_key.get(sandbox.api_key):
                raise ValueError(f"the API key is in use by sandbox {other.name!r}, which is already attached")
            if self._refuses_connection_faults:
                sandbox.refuse_connection_faults()
            if self._server_url:
                sandbox.set_server_url(self._server_url)
            self._by_name[sandbox.name] = sandbox
            self._by_api_key[sandbox.api_key] = sandbox
            if as_default:
                self._defaults.append(sandbox)

    def set_server_url(self, url: str) -> None:
        """Set the URL of the live server in all sandboxes, including those attached later."""
        with self._lock:
            self._server_url = url
            for sandbox in self._by_name.values():
                sandbox.set_server_url(url)

    def refuse_connection_faults(self) -> None:
        """From now on, reject faults that ASGI can't produce; raise FaultError if a sandbox already has one."""
        with self._lock:
            for sandbox in self._by_name.values():
                sandbox.refuse_connection_faults()
            self._refuses_connection_faults = True

    def detach(self, sandbox: Sandbox) -> None:
        """Remove a sandbox; do nothing if it is not attached."""
        with self._lock:
            if self._by_name.get(sandbox.name) is sandbox:
                self._by_name.pop(sandbox.name)
                self._by_api_key.pop(sandbox.api_key, None)
                self._defaults = [other for other in self._defaults if other is not sandbox]
                self._by_token_subject = {
                    subject: other for subject, other in self._by_token_subject.items() if other is not sandbox
                }

    def bind_token_subject(self, sandbox: Sandbox, issuer: str, user_id: str) -> None:
        """Make a foreign issuer's tokens for ``user_id`` select ``sandbox``.

        Raises ValueError if the sandbox does not trust the issuer, or if the tokens already select another sandbox.
        """
        trusted_urls = [trusted.url for trusted in sandbox.issuers]
        if issuer not in trusted_urls:
            known = ", ".join(map(repr, trusted_urls))
            raise ValueError(
                f"{issuer!r} is not trusted: pass its keys in the 'trust' option (trusted issuers: {known})"
            )
        with self._lock:
            if self._by_token_subject.setdefault((issuer, user_id), sandbox) is not sandbox:
                raise ValueError(f"user {user_id!r} from {issuer!r} is bound to another sandbox")

    def resolve(self, credential: Credential | None) -> Sandbox:
        """Return the sandbox that a credential selects; the credential is not verified."""
        if credential is None:
            return self.default
        # A key sent as a token, or vice versa, also selects its sandbox, so that the error message can say what is
        # wrong.
        if credential.value in self._by_api_key:
            return self._by_api_key[credential.value]
        if credential.kind == "server" and credential.value.count(".") != 2:
            return self.default
        # A long token is parsed each time, because caching it would let unauthenticated requests fill up memory.
        token = credential.value
        name, subject = (
            self._cached_token_hints(token) if len(token) <= _MAX_CACHED_TOKEN_CHARS else _token_hints(token)
        )
        return self._by_name.get(name) or self._by_token_subject.get(subject) or self.default


def _token_hints(token: str) -> tuple[str, tuple[str, str]]:
    """Return the sandbox name, and the issuer and subject, from an unverified token."""
    claims = peek_claims(token)
    return str(claims.get(SANDBOX_CLAIM, "")), (str(claims.get("iss", "")), str(claims.get("sub", "")))


_SANDBOX_DRAIN_TIMEOUT_S = 1.0


def drain(sandbox: Sandbox) -> list[str]:
    """Release waiting calls, wait up to a second for exchanges to finish, and return a problem if some haven't."""
    for gate in list(sandbox.gates.values()):
        gate.release()
    sandbox.cancel_waits()
    never_set = threading.Event()
    deadline_s = monotonic_s() + _SANDBOX_DRAIN_TIMEOUT_S
    while sandbox.journal.in_flight and monotonic_s() < deadline_s:
        never_set.wait(0.001)
        sandbox.cancel_waits()  # again, because a call may have started to wait, or its client may have disconnected
    count = sandbox.journal.in_flight
    exchanges = "exchange" if count == 1 else "exchanges"
    return [f"{count} {exchanges} still in progress one second after closing"] if count else []
