"""The state of one isolated Credits API, independent of HTTP."""

import hmac
import itertools
import os
import threading
from collections.abc import Callable
from datetime import datetime
from typing import cast

from fake_credits.assertions import JournalAssertions
from fake_credits.clock import Clock, Timer, wall_clock_ms
from fake_credits.contract import MAX_AMOUNT
from fake_credits.errors import InvalidApiKey, InvalidToken
from fake_credits.faults.active_rule import ActiveRule
from fake_credits.faults.declarations import describe_match
from fake_credits.faults.effects import HoldAtGate
from fake_credits.faults.effects.base import FaultError
from fake_credits.faults.engine import FaultEngine
from fake_credits.faults.gates import Gate
from fake_credits.faults.rule import Rule, check_without_connection
from fake_credits.journal import JournalHeaders
from fake_credits.keyed_random import random_bytes
from fake_credits.ledger import Account, Ledger
from fake_credits.models import Reason
from fake_credits.sandbox_options import (
    LoadableWorld,
    MintOptions,
    OptionError,
    SandboxOptions,
    check_balance,
    check_claims,
    check_id,
    check_lifetime,
    new_api_key,
)
from fake_credits.tokens.bad_tokens import mint_bad_token
from fake_credits.tokens.credentials import Credential
from fake_credits.tokens.keys import SigningKeys
from fake_credits.tokens.minting import SANDBOX_CLAIM, Minter, trusted_issuer
from fake_credits.tokens.providers import AUTH_PROVIDERS, AuthProvider
from fake_credits.tokens.verifying import VerifiedToken, Verifier

__all__ = ["ForkGuard", "Sandbox"]


class _CurrentProcess:
    """The id of this process, read once per process: a system call would cost every request up to 0.3 µs."""

    def __init__(self) -> None:
        self.refresh_id()
        if hasattr(os, "register_at_fork"):  # where there is a fork at all
            os.register_at_fork(after_in_child=self.refresh_id)

    def refresh_id(self) -> None:
        self.process_id = os.getpid()


_CURRENT_PROCESS = _CurrentProcess()


class ForkGuard:
    """The process in which an object was created. ``label`` names the object in messages, such as ``sandbox s1``."""

    __slots__ = ("_label", "_process_id")

    def __init__(self, label: str) -> None:
        self._label = label
        self._process_id = _CURRENT_PROCESS.process_id

    def __repr__(self) -> str:
        return f"<ForkGuard of {self._label}: process {self._process_id}>"

    @property
    def in_child(self) -> bool:
        """Return whether this is a forked child, which has only a copy of the object."""
        return self._process_id != _CURRENT_PROCESS.process_id

    def check(self) -> None:
        """Raise RuntimeError in a forked child: what it did would be lost, and its locks may never open."""
        if self._process_id != _CURRENT_PROCESS.process_id:
            raise RuntimeError(
                f"{self._label} belongs to process {self._process_id}; "
                f"this is {_CURRENT_PROCESS.process_id}, forked from it: a "
                "copy that nobody else sees. Read base_url, api_key and token() before the fork, and call the API there"
            )


_MAX_KEPT_BUGS = 100


class Sandbox:
    """One isolated Credits API: ledger, clock, journal, credentials and seed, behind one lock.

    `reset`, `load_world`, `set_balance`, `add_bug`, `add_problem` and `verify_ledger` take the lock themselves;
    whoever calls the ledger holds it.
    ``keys`` are the server's, shared by its sandboxes. Raises ValueError for options that can't be met: an unknown
    preset, a balance out of bounds, a file of keys that has none, a world that does not fit the contract.
    """

    def __init__(self, options: SandboxOptions, keys: SigningKeys, name: str = "sandbox") -> None:
        self.options = options
        self.name = name
        self.contract = options.contract
        self.seed = options.seed
        self.keys = keys
        self.minter = Minter(keys, _find_preset(options.auth_provider))
        self.issuer = self.minter.issuer
        trusted = {**options.contract.trust, **options.trust}
        issuers = [self.issuer, *(trusted_issuer(url, path) for url, path in trusted.items())]
        self.issuer_urls = tuple(each.url for each in issuers)
        self.verifier = Verifier(issuers, options.contract)
        self.api_key = options.api_key or new_api_key()
        self._raw_api_key = self.api_key.encode()
        self.lock = threading.RLock()
        self.journal_headers = JournalHeaders(options.keep_headers, options.contract)
        self.clock = Clock(options.clock if isinstance(options.clock, datetime) else None, self.lock)
        self.journal = JournalAssertions(
            self.lock, run_due=self._prepare_read, api_key=self.api_key, kept_headers=self.journal_headers.names
        )
        self.journal.seed = options.seed
        self.bugs: list[BaseException] = []
        self.problems: list[str] = []
        self.is_closed = False
        self._refuses_connection_faults = False
        self.fork_guard = ForkGuard(f"sandbox {name}")
        self.gates: dict[str, Gate] = {}
        self.close_callbacks: set[Callable[[], object]] = set()
        self.on_inspection: Callable[[], object] | None = None
        self.faults = FaultEngine(options.seed, self.lock)
        self.faults.get_history_lengths = lambda: self.ledger.history_lengths()
        self._initial_rules = _parse_rules(options)
        self._start()

    def __repr__(self) -> str:
        return f"<Sandbox {self.name}: {self.ledger!r}, seed {self.seed}>"

    def check_open(self) -> None:
        """Raise RuntimeError once it is closed, and in a forked child: what is done to it then would have no effect."""
        self.fork_guard.check()
        if self.is_closed:
            raise RuntimeError(f"sandbox {self.name} is closed: its test is over")

    def reset(self) -> None:
        """Return to how the sandbox started: users, balances, clock, rules and an empty journal; keys stay.

        What is held at a gate or parked runs to its end before that, in the world that it came to. Raises RuntimeError
        once it is closed, as what else changes it does.
        """
        self.check_open()
        self.close_gates()
        with self.lock:
            self.clock.run_pending()
            self.journal.clear()
            self.problems.clear()
            self._start()

    def release_gates(self) -> None:
        """Open every gate."""
        for gate in list(self.gates.values()):
            gate.release()

    def close_gates(self) -> None:
        """Close every gate, and let its exchanges go on."""
        for gate in list(self.gates.values()):
            gate.close()

    def close(self) -> list[Timer]:
        """Open every gate, end what hangs, refuse further calls, and return what was to happen later."""
        self.close_gates()
        with self.lock:
            self.is_closed = True
            self.cancel_waits()
            return self.clock.close()

    def cancel_waits(self) -> None:
        """End what hangs."""
        for callback in list(self.close_callbacks):
            callback()

    def hold(self, rule: Rule) -> Gate:
        """Add a rule with a gate, and return the gate; raise FaultError for a rule that can't be."""
        self.check_open()
        with self.lock:
            active = self.add_fault(rule)
            return self.gates[cast("Gate", active.rule.effect).name]

    def add_fault(self, rule: Rule) -> ActiveRule:
        """Add a rule; raise FaultError for one that can't be."""
        self.check_open()
        if self._refuses_connection_faults:
            check_without_connection(rule)
        with self.lock:
            self.clock.run_due()
            active = self.faults.add(rule)
            self.journal.rule_history.add(active.name, rule)
            if isinstance(rule.effect, HoldAtGate):
                name = rule.effect.name
                if name not in self.gates or self.gates[name].is_open:
                    self.gates[name] = Gate(name, self.options.gate_timeout_s, self._remove_gate_rules)
                self.gates[name].add_expected_calls(describe_match(rule))
            return active

    def refuse_connection_faults(self) -> None:
        """Refuse faults that ASGI can't produce from now on; raise FaultError if there is one already."""
        with self.lock:
            for rule in (*self._initial_rules, *(active.rule for active in self.faults)):
                check_without_connection(rule)
            self._refuses_connection_faults = True

    def _remove_gate_rules(self, gate: Gate) -> None:
        """Remove the rules of an open gate, so that the next gate of its name holds only its own calls."""
        with self.lock:
            for active in self.faults:
                if isinstance(active.rule.effect, HoldAtGate) and active.rule.effect.name == gate.name:
                    active.remove()

    def new_gate_name(self) -> str:
        """Return a name that no gate has."""
        numbers = itertools.count(len(self.gates) + 1)
        return next(name for number in numbers if (name := f"gate{number}") not in self.gates)

    def gate(self, name: str) -> Gate:
        """Return the gate of a name; raise FaultError where there is none."""
        try:
            return self.gates[name]
        except KeyError:
            raise FaultError(f"there is no gate {name!r} (there are: {', '.join(self.gates) or 'none'})") from None

    def _start(self) -> None:
        options = self.options
        self.clock.reset()
        if options.clock == "frozen":
            self.clock.freeze()
        self.cursor_key = random_bytes(16)  # a cursor from before a reset is none of the new lists'
        self.ledger = Ledger(options.contract)
        if options.world is not None:
            self.load_world(options.world)
        if options.balance is not None:
            self.set_balance(options.user_id, options.balance)
        for user_id, balance in options.users.items():
            self.set_balance(user_id, balance)
        self.gates.clear()
        self.faults.reset((), self.clock.now_ms(), self.journal.started_count)
        for rule in self._initial_rules:
            self.add_fault(rule)

    def load_world(self, world: LoadableWorld) -> tuple[str, ...]:
        """Add a world's users to the default application, and return their ids.

        Raises ValueError, and adds none, where one exists already or breaks a rule of the contract.
        """
        self.check_open()
        with self.lock:
            return world.load_into(self.ledger, self.options.application_id, self.clock.now_ms())

    def set_balance(self, user_id: str, balance: int | None = None, *, application_id: str = "") -> Account:
        """Make a user exist and, where a balance is given, bring the balance to it with one grant or consumption.

        Raises ValueError for an id or a balance that the API could not have either.
        """
        self.check_open()
        application_id = application_id or self.options.application_id
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
        self.fork_guard.check()
        with self.lock:
            self._prepare_read()
            return self.ledger.get_account(application_id or self.options.application_id, user_id)

    def _prepare_read(self) -> None:
        """Run what is due before Python reads state, and report that it does."""
        self.clock.run_due()
        if self.on_inspection is not None:
            self.on_inspection()

    def authenticate(self, credential: Credential, *, skew_s: int = 0) -> VerifiedToken | None:
        """Return the verified token, or None for the right API key; raise the refusal otherwise.

        ``skew_s`` judges the token's life by a clock that is so many seconds fast.
        """
        if credential.kind == "user":
            return self._authenticate_user(credential.value, skew_s)
        if self.is_closed:
            raise InvalidApiKey("the sandbox of this API key is closed: its test is over", auth_reason="closed_sandbox")
        if not hmac.compare_digest(credential.value.encode(errors="surrogatepass"), self._raw_api_key):
            raise InvalidApiKey("this API key is not the sandbox's", auth_reason="unknown_key")
        return None

    def _authenticate_user(self, token: str, skew_s: int) -> VerifiedToken:
        verified = self.verifier.verify(token, self.clock.now_ms() + skew_s * 1000)
        sandbox_name = verified.claims.get(SANDBOX_CLAIM, self.name)
        if self.is_closed or sandbox_name != self.name:
            message = "the sandbox of this token is closed: its test is over, or it belongs to another server"
            raise InvalidToken(message, auth_reason="closed_sandbox")
        return verified

    def token(self, user_id: str, options: "MintOptions | None" = None) -> str:
        """Mint a user's token, good or bad; raise ValueError or TypeError for words that can't be."""
        self.fork_guard.check()  # a key that is made here would be unknown to the server
        options = options or MintOptions()
        check_id("user", user_id, self.contract)
        if options.expires_in_s is not None:
            check_lifetime(options.expires_in_s)
        check_claims(options.claims)
        now_ms = wall_clock_ms() if options.use_wall_clock else self.clock.now_ms()
        claims = {SANDBOX_CLAIM: self.name, **options.claims}
        if options.bad is not None:
            return mint_bad_token(options.bad, self.minter, user_id, now_ms=now_ms, claims=claims)
        return self.minter.mint(user_id, now_ms=now_ms, expires_in_s=options.expires_in_s, claims=claims)

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Return the public keys that tokens of this sandbox are signed with, as a JWK Set (RFC 7517)."""
        return self.keys.jwks((self.minter.provider.algorithm,))

    def add_bug(self, bug: BaseException) -> None:
        """Keep a bug of the fake, with its traceback, for whoever looks after the exchange: the last 100."""
        with self.lock:
            self.bugs.append(bug)
            del self.bugs[:-_MAX_KEPT_BUGS]

    def add_problem(self, problem: str) -> None:
        """Keep what fails the test that met it, also where it swallowed the error: the last 100."""
        with self.lock:
            self.problems.append(problem)
            del self.problems[:-_MAX_KEPT_BUGS]

    def verify_ledger(self) -> None:
        """Raise LedgerInconsistency where the ledger contradicts itself."""
        with self.lock:
            self.ledger.verify_balances()


def _parse_rules(options: SandboxOptions) -> tuple[Rule, ...]:
    if options.faults == () and options.latency is None:
        return ()
    from fake_credits.faults.scenarios import latency_rules, parse_rules  # few sandboxes start with rules

    return (*parse_rules(options.faults), *latency_rules(options.latency))


def _find_preset(name: str) -> AuthProvider:
    try:
        return AUTH_PROVIDERS[name]
    except KeyError:
        expected = f"one of {', '.join(AUTH_PROVIDERS)}"
        raise OptionError(f"there is no JWT preset {name!r}: choose {expected}", "auth_provider", expected) from None
