"""Own the state of one isolated Credits API, and which credential means which sandbox; know nothing of HTTP."""

import threading
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Literal

from fake_credits.auth.api_keys import new_api_key, same_key
from fake_credits.auth.credentials import Credential, peek_claims
from fake_credits.auth.issuers import SANDBOX_CLAIM, Issuer, Minter
from fake_credits.auth.keys import SigningKeys
from fake_credits.auth.negative import bad_token
from fake_credits.auth.providers import PRESETS, Preset
from fake_credits.auth.verify import VerifiedToken, Verifier
from fake_credits.chance import fresh_bytes
from fake_credits.clock import Clock, wall_ms
from fake_credits.contract import DEFAULT, MAX_AMOUNT, Contract, id_problem
from fake_credits.errors import InvalidApiKey, InvalidToken
from fake_credits.journal import Journal
from fake_credits.ledger import Account, Ledger
from fake_credits.models import Reason

__all__ = ["Sandbox", "SandboxSettings", "Sandboxes", "TokenWords"]

_REMEMBERED = 1024
_LONGEST = 1024
_BUGS_KEPT = 100


@dataclass(frozen=True, kw_only=True)
class SandboxSettings:
    """Say how a sandbox starts. ``reset`` returns to exactly this.

    ``balance`` is one grant to ``user_id``; ``users`` is one grant each; a balance of 0 makes the user without one.
    ``clock`` is ``"real"``, ``"frozen"`` (now) or an aware datetime to stand still at. An empty ``api_key`` means a
    fresh one. ``jwt`` names a preset. ``trust`` names foreign issuers by URL, beside those of the contract, each with a
    file of its keys (JWKS or PEM).
    """

    contract: Contract = DEFAULT
    seed: int = 0
    application_id: str = "app-id"
    user_id: str = "user-id"
    balance: int | None = None
    users: Mapping[str, int] = field(default_factory=dict[str, int])
    clock: datetime | Literal["real", "frozen"] = "real"
    api_key: str = ""
    jwt: str = "plain"
    trust: Mapping[str, str | Path] = field(default_factory=dict[str, str | Path])

    def __repr__(self) -> str:
        return f"<SandboxSettings of {self.application_id!r}, seed {self.seed}, {len(self.users)} users>"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenWords:
    """Say what a minted token is to be like.

    ``bad`` names a kind that must be refused. ``expires_in_s`` is a life in seconds, by default the preset's.
    ``claims`` are added. ``wall`` mints for the wall clock rather than the sandbox's.
    """

    bad: str = ""
    expires_in_s: int | None = None
    claims: Mapping[str, object] = field(default_factory=dict[str, object])
    wall: bool = False


class Sandbox:
    """Be one isolated Credits API: ledger, clock, journal, credentials and seed, behind one lock.

    `reset`, `fund`, `remember` and `verify` take the lock themselves; whoever calls the ledger holds it. ``keys`` are
    the server's, shared by its sandboxes. Raises ValueError for settings that can't be met: an unknown preset, a
    negative balance, a naive ``clock``, a file of keys that has none.
    """

    def __init__(self, settings: SandboxSettings, keys: SigningKeys, name: str = "sandbox") -> None:
        _check_id("application", settings.application_id)
        _check_id("user", settings.user_id)
        self.settings = settings
        self.name = name
        self.contract = settings.contract
        self.seed = settings.seed
        self.keys = keys
        self.minter = Minter(keys, _preset(settings.jwt))
        self.issuer = self.minter.issuer
        issuers = _issuers(self.issuer, settings)
        self.issuers = tuple(each.url for each in issuers)
        self.verifier = Verifier(issuers)
        self.api_key = settings.api_key or new_api_key()
        self.lock = threading.RLock()
        self.journal = Journal(self.lock)
        self.bugs: list[BaseException] = []
        self.closed = False
        self.clock = _clock(settings.clock)
        self._start()

    def __repr__(self) -> str:
        return f"<Sandbox {self.name}: {self.ledger!r}, seed {self.seed}>"

    def reset(self) -> None:
        """Return to how the sandbox started: users, balances, clock and an empty journal; keys stay."""
        with self.lock:
            self.journal.clear()
            self._start()

    def _start(self) -> None:
        settings = self.settings
        self.clock.reset()
        if settings.clock == "frozen":
            self.clock.freeze()
        self.cursor_key = fresh_bytes(16)  # a cursor from before a reset is none of the new lists'
        self.ledger = Ledger(settings.contract)
        if settings.balance is not None:
            self.fund(settings.user_id, settings.balance)
        for user_id, balance in settings.users.items():
            self.fund(user_id, balance)

    def fund(self, user_id: str, balance: int | None = None, *, application_id: str = "") -> Account:
        """Make a user exist and, where a balance is given, bring the balance to it with one grant or consumption.

        Raises ValueError for an id or a balance that the API could not have either.
        """
        application_id = application_id or self.settings.application_id
        _check_id("application", application_id, self.contract)
        _check_id("user", user_id, self.contract)
        if balance is not None:
            _check_balance(self.contract, user_id, balance)
        with self.lock:
            account, _ = self.ledger.create_user(application_id, user_id, self.clock.now_ms())
            delta = 0 if balance is None else balance - account.balance
            if abs(delta) > MAX_AMOUNT:
                raise ValueError(f"no one transaction can bring {user_id!r} from {account.balance} to {balance}")
            if delta:
                reason = Reason.GRANT if delta > 0 else Reason.CONSUME
                self.ledger.append(account, delta, reason, self.clock.now_ms())
        return account

    def authenticate(self, credential: Credential) -> VerifiedToken | None:
        """Return the verified token, or None for the right API key; raise the refusal otherwise."""
        if credential.kind == "user":
            return self._authenticate_user(credential.value)
        if self.closed:
            raise InvalidApiKey("the sandbox of this API key is closed: its test is over", why="closed_sandbox")
        if not same_key(credential.value, self.api_key):
            raise InvalidApiKey("this API key is not the sandbox's", why="unknown_key")
        return None

    def _authenticate_user(self, token: str) -> VerifiedToken:
        verified = self.verifier.verify(token, self.clock.now_ms())
        named = verified.claims.get(SANDBOX_CLAIM, self.name)
        if self.closed or named != self.name:
            message = "the sandbox of this token is closed: its test is over, or it belongs to another server"
            raise InvalidToken(message, why="closed_sandbox")
        return verified

    def token(self, user_id: str, words: "TokenWords | None" = None) -> str:
        """Mint a user's token, good or bad; raise ValueError for an unknown kind of bad token."""
        words = words or TokenWords()
        now_ms = wall_ms() if words.wall else self.clock.now_ms()
        claims = {SANDBOX_CLAIM: self.name, **words.claims}
        if words.bad:
            return bad_token(words.bad, self.minter, user_id, now_ms=now_ms, claims=claims)
        return self.minter.mint(user_id, now_ms=now_ms, expires_in_s=words.expires_in_s, claims=claims)

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Return the public keys that tokens of this sandbox are signed with, as a JWK Set (RFC 7517)."""
        return self.keys.jwks((self.minter.preset.algorithm,))

    def remember(self, bug: BaseException) -> None:
        """Keep a bug of the fake, with its traceback, for whoever looks after the exchange: the last 100."""
        with self.lock:
            self.bugs.append(bug)
            del self.bugs[:-_BUGS_KEPT]

    def verify(self) -> None:
        """Raise Inconsistency where the ledger contradicts itself."""
        with self.lock:
            self.ledger.verify()


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
        self.attach(base)

    def __repr__(self) -> str:
        return f"<Sandboxes: {len(self._by_name)} attached>"

    @property
    def default(self) -> Sandbox:
        """Return the sandbox for a request whose credential names none: the one attached last."""
        return self._defaults[-1]

    def attach(self, sandbox: Sandbox) -> None:
        """Make a sandbox reachable, and the default; raise ValueError where its name or key is taken."""
        with self._lock:
            if sandbox.name in self._by_name or sandbox.api_key in self._by_key:
                raise ValueError(f"a sandbox named {sandbox.name!r} or with the same API key is attached already")
            self._by_name[sandbox.name] = sandbox
            self._by_key[sandbox.api_key] = sandbox
            self._defaults.append(sandbox)

    def detach(self, sandbox: Sandbox) -> None:
        """Forget a sandbox; one that is not attached is none of our business."""
        with self._lock:
            if self._by_name.get(sandbox.name) is sandbox:
                self._by_name.pop(sandbox.name)
                self._by_key.pop(sandbox.api_key, None)
                self._defaults.remove(sandbox)
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


def _issuers(own: Issuer, settings: SandboxSettings) -> list[Issuer]:
    issuers, trusted = [own], {**settings.contract.trust, **settings.trust}
    if trusted:
        from fake_credits.auth.trusted import trusted_issuer  # loads the cryptography

        issuers += [trusted_issuer(url, path) for url, path in trusted.items()]
    longest = settings.contract.id_max_length
    return issuers if longest == own.user_id_limit else [replace(each, user_id_limit=longest) for each in issuers]


def _names_in(token: str) -> tuple[str, tuple[str, str]]:
    """Return what an unverified token names: a sandbox, and whose it is."""
    claims = peek_claims(token)
    return str(claims.get(SANDBOX_CLAIM, "")), (str(claims.get("iss", "")), str(claims.get("sub", "")))


def _clock(setting: datetime | str) -> Clock:
    if isinstance(setting, datetime):
        return Clock(setting)
    if setting not in ("real", "frozen"):
        raise ValueError(f"clock is {setting!r}: choose 'real', 'frozen' or an aware datetime")
    return Clock()


def _preset(name: str) -> Preset:
    try:
        return PRESETS[name]
    except KeyError:
        raise ValueError(f"there is no JWT preset {name!r}: choose one of {', '.join(PRESETS)}") from None


def _check_id(what: str, text: str, contract: Contract | None = None) -> None:
    """Refuse an id that no contract allows or, where one is given, that one does not."""
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"the {what} id must be a str, not {type(text).__name__}")
    if text in ("", ".", ".."):
        raise ValueError(f"the {what} id must not be empty, '.' or '..': {text!r}")
    if not text.isprintable() and any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise ValueError(f"the {what} id must have no control characters and no lone surrogates: {text!r}")
    problem = "" if contract is None else id_problem(contract, text)
    if problem:
        raise ValueError(f"the {what} id {text[:60]!r} {problem}")


def _check_balance(contract: Contract, user_id: str, balance: int) -> None:
    if isinstance(balance, bool) or not isinstance(balance, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"the balance of {user_id!r} must be an int, not {type(balance).__name__}")
    lowest = -MAX_AMOUNT if contract.floor is None else contract.floor
    highest = MAX_AMOUNT if contract.ceiling is None else contract.ceiling
    if not lowest <= balance <= highest:
        raise ValueError(
            f"the balance of {user_id!r} must be from {lowest} to {highest} (the contract's), not {balance}"
        )
