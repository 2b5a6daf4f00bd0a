"""Own the state of one isolated Credits API; know nothing of HTTP."""

import itertools
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from typing import cast

from fake_credits.auth.api_keys import new_api_key, same_key
from fake_credits.auth.credentials import Credential
from fake_credits.auth.issuers import SANDBOX_CLAIM, Issuer, Minter
from fake_credits.auth.keys import SigningKeys
from fake_credits.auth.negative import bad_token
from fake_credits.auth.providers import PRESETS, Preset
from fake_credits.auth.verify import VerifiedToken, Verifier
from fake_credits.chance import fresh_bytes
from fake_credits.clock import Clock, Due, wall_ms
from fake_credits.contract import MAX_AMOUNT
from fake_credits.contract.kept_headers import KeptHeaders
from fake_credits.errors import InvalidApiKey, InvalidToken
from fake_credits.faults.checks import FaultError, number_in
from fake_credits.faults.effects import Gate
from fake_credits.faults.gates import Hold
from fake_credits.faults.plan import ActiveRule, Plan
from fake_credits.faults.reading import waited_for
from fake_credits.faults.rule import Rule
from fake_credits.ledger import Account, Ledger
from fake_credits.models import Reason
from fake_credits.sandbox.asserting.journal import CallJournal
from fake_credits.sandbox.checks import check_api_key, check_balance, check_claims, check_id, check_life
from fake_credits.sandbox.home import Home
from fake_credits.sandbox.settings import SandboxSettings, StartingWorld, TokenWords

__all__ = ["Sandbox"]

_BUGS_KEPT = 100


class Sandbox:
    """Be one isolated Credits API: ledger, clock, journal, credentials and seed, behind one lock.

    `reset`, `load`, `fund`, `remember` and `verify` take the lock themselves; whoever calls the ledger holds it.
    ``keys`` are the server's, shared by its sandboxes. Raises ValueError for settings that can't be met: an unknown
    preset, a negative balance, a naive ``clock``, a file of keys that has none, a world that does not fit the contract.
    """

    def __init__(self, settings: SandboxSettings, keys: SigningKeys, name: str = "sandbox") -> None:
        check_id("application", settings.application_id)
        check_id("user", settings.user_id)
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
        if settings.api_key:
            check_api_key(settings.api_key)
        self.api_key = settings.api_key or new_api_key()
        self.lock = threading.RLock()
        self.kept_headers = KeptHeaders(settings.keep_headers, settings.contract)
        self.clock = _clock(settings.clock, self.lock)
        self.journal = CallJournal(
            self.lock, catch_up=self.clock.run_due, api_key=self.api_key, kept_headers=self.kept_headers.names
        )
        self.journal.seed = settings.seed
        self.bugs: list[BaseException] = []
        self.problems: list[str] = []
        self.closed = False
        self.home = Home(f"sandbox {name}")
        self.gates: dict[str, Hold] = {}
        self.endings: set[Callable[[], object]] = set()
        self.faults = Plan(settings.seed, self.lock)
        self.faults.baseline = self._sizes
        self._rules = _rules(settings)
        _check_waits(settings)
        self._start()

    def __repr__(self) -> str:
        return f"<Sandbox {self.name}: {self.ledger!r}, seed {self.seed}>"

    def check_open(self) -> None:
        """Raise RuntimeError once it is closed, and in a forked child: what is done to it then would have no effect."""
        self.home.check()
        if self.closed:
            raise RuntimeError(f"sandbox {self.name} is closed: its test is over")

    def reset(self) -> None:
        """Return to how the sandbox started: users, balances, clock, rules and an empty journal; keys stay.

        What is held at a gate or parked runs to its end before that, in the world that it came to. Raises RuntimeError
        once it is closed, as what else changes it does.
        """
        self.check_open()
        self._close_gates()
        with self.lock:
            self.clock.settle()
            self.journal.clear()
            self.problems.clear()
            self._start()

    def release_gates(self) -> None:
        """Open every gate."""
        for gate in list(self.gates.values()):
            gate.release()

    def _close_gates(self) -> None:
        for gate in list(self.gates.values()):
            gate.close()

    def close(self) -> list[Due]:
        """Open every gate, end what hangs, refuse further calls, and return what was to happen later."""
        self._close_gates()
        with self.lock:
            self.closed = True
            self.end_waits()
            return self.clock.close()

    def end_waits(self) -> None:
        """End what hangs."""
        for end in list(self.endings):
            end()

    def hold(self, rule: Rule) -> Hold:
        """Add a rule with a gate, and return the gate; raise FaultError for a rule that can't be."""
        self.check_open()
        with self.lock:
            active = self.add_fault(rule)
            return self.gates[cast("Gate", active.rule.effect).name]

    def add_fault(self, rule: Rule) -> ActiveRule:
        """Add a rule; raise FaultError for one that can't be."""
        self.check_open()
        with self.lock:
            self.clock.run_due()
            active = self.faults.add(rule)
            self.journal.declared.add(active.name, rule)
            if isinstance(rule.effect, Gate):
                self._make_gate(rule.effect.name)
                self.gates[rule.effect.name].tell(waited_for(rule))
            return active

    def _make_gate(self, name: str) -> None:
        gate = self.gates.get(name)
        if gate is None or gate.is_open:
            self.gates[name] = Hold(name, self.settings.limit_s, self._forget_gate)

    def _forget_gate(self, gate: Hold) -> None:
        """Take out every rule of a gate that is open: the next gate of its name holds the calls of its own."""
        with self.lock:
            for active in self.faults:
                if isinstance(active.rule.effect, Gate) and active.rule.effect.name == gate.name:
                    active.remove()

    def new_gate_name(self) -> str:
        """Return a name that no gate has."""
        numbers = itertools.count(len(self.gates) + 1)
        return next(name for number in numbers if (name := f"gate{number}") not in self.gates)

    def gate(self, name: str) -> Hold:
        """Return the gate of a name; raise FaultError where there is none."""
        try:
            return self.gates[name]
        except KeyError:
            raise FaultError(f"there is no gate {name!r} (there are: {', '.join(self.gates) or 'none'})") from None

    def _sizes(self) -> Mapping[tuple[str, str], int]:
        return self.ledger.sizes()

    def _start(self) -> None:
        settings = self.settings
        self.clock.reset()
        if settings.clock == "frozen":
            self.clock.freeze()
        self.cursor_key = fresh_bytes(16)  # a cursor from before a reset is none of the new lists'
        self.ledger = Ledger(settings.contract)
        if settings.world is not None:
            self.load(settings.world)
        if settings.balance is not None:
            self.fund(settings.user_id, settings.balance)
        for user_id, balance in settings.users.items():
            self.fund(user_id, balance)
        self.gates.clear()
        self.faults.reset((), self.clock.now_ms(), self.journal.begun)
        for rule in self._rules:
            self.add_fault(rule)

    def load(self, world: StartingWorld) -> tuple[str, ...]:
        """Add a world's users to the default application, and return their ids.

        Raises ValueError, and adds none, where one exists already or breaks a rule of the contract.
        """
        self.check_open()
        with self.lock:
            return world.load_into(self.ledger, self.settings.application_id, self.clock.now_ms())

    def fund(self, user_id: str, balance: int | None = None, *, application_id: str = "") -> Account:
        """Make a user exist and, where a balance is given, bring the balance to it with one grant or consumption.

        Raises ValueError for an id or a balance that the API could not have either.
        """
        self.check_open()
        application_id = application_id or self.settings.application_id
        check_id("application", application_id, self.contract)
        check_id("user", user_id, self.contract)
        if balance is not None:
            check_balance(self.contract, user_id, balance)
        with self.lock:
            self.clock.run_due()
            account, _ = self.ledger.create_user(application_id, user_id, self.clock.now_ms())
            delta = 0 if balance is None else balance - account.balance
            if abs(delta) > MAX_AMOUNT:
                raise ValueError(f"no one transaction can bring {user_id!r} from {account.balance} to {balance}")
            if delta:
                reason = Reason.GRANT if delta > 0 else Reason.CONSUME
                self.ledger.append(account, delta, reason, self.clock.now_ms())
        return account

    def account(self, user_id: str, *, application_id: str = "") -> Account:
        """Return a user's account after all that is due by now; raise UserNotFound where there is no such user."""
        self.home.check()
        with self.lock:
            self.clock.run_due()
            return self.ledger.account(application_id or self.settings.application_id, user_id)

    def authenticate(self, credential: Credential, *, skew_s: int = 0) -> VerifiedToken | None:
        """Return the verified token, or None for the right API key; raise the refusal otherwise.

        ``skew_s`` judges the token's life by a clock that is so many seconds fast.
        """
        if credential.kind == "user":
            return self._authenticate_user(credential.value, skew_s)
        if self.closed:
            raise InvalidApiKey("the sandbox of this API key is closed: its test is over", why="closed_sandbox")
        if not same_key(credential.value, self.api_key):
            raise InvalidApiKey("this API key is not the sandbox's", why="unknown_key")
        return None

    def _authenticate_user(self, token: str, skew_s: int) -> VerifiedToken:
        verified = self.verifier.verify(token, self.clock.now_ms() + skew_s * 1000)
        named = verified.claims.get(SANDBOX_CLAIM, self.name)
        if self.closed or named != self.name:
            message = "the sandbox of this token is closed: its test is over, or it belongs to another server"
            raise InvalidToken(message, why="closed_sandbox")
        return verified

    def token(self, user_id: str, words: "TokenWords | None" = None) -> str:
        """Mint a user's token, good or bad; raise ValueError or TypeError for words that can't be."""
        self.home.check()  # a key that is made here would be unknown to the server
        words = words or TokenWords()
        check_id("user", user_id, self.contract)
        if words.expires_in_s is not None:
            check_life(words.expires_in_s)
        check_claims(words.claims)
        now_ms = wall_ms() if words.wall else self.clock.now_ms()
        claims = {SANDBOX_CLAIM: self.name, **words.claims}
        if words.bad is not None:
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

    def complain(self, problem: str) -> None:
        """Keep what fails the test that met it, also where it swallowed the error: the last 100."""
        with self.lock:
            self.problems.append(problem)
            del self.problems[:-_BUGS_KEPT]

    def verify(self) -> None:
        """Raise Inconsistency where the ledger contradicts itself."""
        with self.lock:
            self.ledger.verify()


def _issuers(own: Issuer, settings: SandboxSettings) -> list[Issuer]:
    issuers, trusted = [own], {**settings.contract.trust, **settings.trust}
    if trusted:
        from fake_credits.auth.trusted import trusted_issuer  # loads the cryptography

        issuers += [trusted_issuer(url, path) for url, path in trusted.items()]
    longest = settings.contract.id_max_length
    return issuers if longest == own.user_id_limit else [replace(each, user_id_limit=longest) for each in issuers]


def _clock(setting: datetime | str, lock: AbstractContextManager[object]) -> Clock:
    if isinstance(setting, datetime):
        try:
            return Clock(setting, lock)
        except ValueError as error:
            raise ValueError(f"clock can't be: {error}") from None
    if setting not in ("real", "frozen"):
        raise ValueError(f"clock is {setting!r}: choose 'real', 'frozen' or an aware datetime")
    return Clock(lock=lock)


def _rules(settings: SandboxSettings) -> tuple[Rule, ...]:
    if settings.faults == () and settings.latency is None:
        return ()
    from fake_credits.faults.scenario import latency_rules, rules_of  # few sandboxes start with rules

    return (*rules_of(settings.faults), *latency_rules(settings.latency))


def _check_waits(settings: SandboxSettings) -> None:
    if settings.delays not in ("virtual", "real"):
        raise ValueError(f"delays is {settings.delays!r}: choose 'virtual' or 'real'")
    number_in("limit_s", settings.limit_s, 0.001, 3600)


def _preset(name: str) -> Preset:
    try:
        return PRESETS[name]
    except KeyError:
        raise ValueError(f"there is no JWT preset {name!r}: choose one of {', '.join(PRESETS)}") from None
