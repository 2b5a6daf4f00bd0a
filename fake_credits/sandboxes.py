"""The sandboxes of a server, how a credential selects one, and what is wrong with one at its end."""

import threading
from collections.abc import Iterator
from functools import lru_cache

from fake_credits.clock import monotonic_s
from fake_credits.faults.faults import describe_unused_rule
from fake_credits.ledger import LedgerInconsistency
from fake_credits.sandbox import Sandbox
from fake_credits.tokens.credentials import Credential, peek_claims
from fake_credits.tokens.minting import SANDBOX_CLAIM

__all__ = ["SandboxRegistry", "drain", "find_problems", "find_problems_except_bugs"]

_TOKEN_CACHE_SIZE = 1024
_MAX_CACHED_TOKEN_CHARS = 1024


class SandboxRegistry:
    """Keep a server's sandboxes, and find the one that a request's credential names.

    README, "How far each arrangement isolates", says what that keeps apart.
    """

    def __init__(self, base_sandbox: Sandbox) -> None:
        self._lock = threading.Lock()
        self._by_api_key: dict[str, Sandbox] = {}
        self._by_name: dict[str, Sandbox] = {}
        self._by_token_subject: dict[tuple[str, str], Sandbox] = {}
        self._defaults: list[Sandbox] = []
        self._refuses_connection_faults = False
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
        """Return the sandbox for a request whose credential names none: the one attached last as such."""
        return self._defaults[-1]

    def get(self, name: str) -> Sandbox | None:
        """Return the attached sandbox of a name, None where there is none."""
        return self._by_name.get(name)

    def attach(self, sandbox: Sandbox, *, as_default: bool = True) -> None:
        """Make a sandbox reachable, and the default unless told; raise ValueError where its name or key is taken.

        Raises FaultError for a sandbox with a fault that ASGI can't produce, if the sandboxes are served over ASGI.
        """
        with self._lock:
            if sandbox.name in self._by_name:
                raise ValueError(f"a sandbox named {sandbox.name!r} is attached already")
            if other := self._by_api_key.get(sandbox.api_key):
                raise ValueError(f"the API key is that of the sandbox {other.name!r}, which is attached already")
            if self._refuses_connection_faults:
                sandbox.refuse_connection_faults()
            self._by_name[sandbox.name] = sandbox
            self._by_api_key[sandbox.api_key] = sandbox
            if as_default:
                self._defaults.append(sandbox)

    def refuse_connection_faults(self) -> None:
        """Refuse faults that ASGI can't produce from now on; raise FaultError if a sandbox has one already."""
        with self._lock:
            for sandbox in self._by_name.values():
                sandbox.refuse_connection_faults()
            self._refuses_connection_faults = True

    def detach(self, sandbox: Sandbox) -> None:
        """Forget a sandbox; one that is not attached is none of our business."""
        with self._lock:
            if self._by_name.get(sandbox.name) is sandbox:
                self._by_name.pop(sandbox.name)
                self._by_api_key.pop(sandbox.api_key, None)
                self._defaults = [other for other in self._defaults if other is not sandbox]
                self._by_token_subject = {
                    subject: other for subject, other in self._by_token_subject.items() if other is not sandbox
                }

    def bind_token_subject(self, sandbox: Sandbox, issuer: str, user_id: str) -> None:
        """Let the tokens of a foreign issuer's user name a sandbox; raise ValueError where they name another."""
        with self._lock:
            if self._by_token_subject.setdefault((issuer, user_id), sandbox) is not sandbox:
                raise ValueError(f"user {user_id!r} of {issuer!r} is bound to another sandbox")

    def resolve(self, credential: Credential | None) -> Sandbox:
        """Return the sandbox that a credential names; this authenticates nothing."""
        if credential is None:
            return self.default
        if credential.kind == "server":
            return self._by_api_key.get(credential.value) or self.default
        # A long one is read each time: remembering it would let strangers fill the memory.
        token = credential.value
        name, subject = (
            self._cached_token_hints(token) if len(token) <= _MAX_CACHED_TOKEN_CHARS else _token_hints(token)
        )
        return self._by_name.get(name) or self._by_token_subject.get(subject) or self.default


def _token_hints(token: str) -> tuple[str, tuple[str, str]]:
    """Return what an unverified token names: a sandbox, and whose it is."""
    claims = peek_claims(token)
    return str(claims.get(SANDBOX_CLAIM, "")), (str(claims.get("iss", "")), str(claims.get("sub", "")))


_SANDBOX_DRAIN_TIMEOUT_S = 1.0


def find_problems(sandbox: Sandbox) -> list[str]:
    """Return what makes a test that passed prove nothing.

    A ledger that contradicts itself, a bug that answered 500, a call that would have hung for ever, a gate that nobody
    released, a scripted rule that stayed unused.
    """
    return [f"a bug of fake-credits answered 500: {bug!r}" for bug in sandbox.bugs] + find_problems_except_bugs(sandbox)


def find_problems_except_bugs(sandbox: Sandbox) -> list[str]:
    """Return the same without the bugs, for whoever has told them already."""
    problems = list(sandbox.problems)
    with sandbox.lock:
        problems += [describe_unused_rule(active) for active in sandbox.faults.unused_rules()]
    try:
        sandbox.verify_ledger()
    except LedgerInconsistency as error:
        problems.append(f"the ledger is inconsistent: {error}")
    return problems


def drain(sandbox: Sandbox) -> list[str]:
    """Let go what waits in a sandbox, wait a second for its exchanges, and return what was still under way then."""
    sandbox.release_gates()
    sandbox.cancel_waits()
    never_set = threading.Event()
    deadline_s = monotonic_s() + _SANDBOX_DRAIN_TIMEOUT_S
    while sandbox.journal.in_flight and monotonic_s() < deadline_s:
        never_set.wait(0.001)
        sandbox.cancel_waits()  # again: one may only now wait, or its client be known to have gone
    count = sandbox.journal.in_flight
    return [f"{count} exchanges were still under way a second after the end"] if count else []
