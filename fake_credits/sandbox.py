"""The state of one isolated Credits API, independent of HTTP."""

import hmac
import itertools
import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import cast

from fake_credits.assertions import JournalAssertions
from fake_credits.clock import Clock, Timer, wall_clock_ms
from fake_credits.concurrency import ForkGuard
from fake_credits.contract import MAX_AMOUNT, CredentialHeader
from fake_credits.contract.types import header_example
from fake_credits.errors import InvalidApiKey, InvalidToken
from fake_credits.faults.active_rule import ActiveRule
from fake_credits.faults.declarations import describe_match
from fake_credits.faults.effects import HoldAtGate
from fake_credits.faults.effects.base import FaultError
from fake_credits.faults.engine import FaultEngine
from fake_credits.faults.faults import describe_unused_rule
from fake_credits.faults.gates import Gate
from fake_credits.faults.rule import Rule, check_without_connection
from fake_credits.histories import TransactionInput, extend_history, transaction_from
from fake_credits.interception_log import InterceptionLog
from fake_credits.journal import JournalHeaders
from fake_credits.keyed_random import random_bytes
from fake_credits.ledger import Account, Ledger, LedgerInconsistency
from fake_credits.models import Reason, Transaction
from fake_credits.sandbox_hooks import ProblemKind, SandboxHooks, SandboxProblem
from fake_credits.sandbox_options import (
    API_KEY_PREFIX,
    LoadableWorld,
    MintOptions,
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
from fake_credits.tokens.minting import SANDBOX_CLAIM, find_minter, trusted_issuer
from fake_credits.tokens.verifying import VerifiedToken, Verifier

_MAX_KEPT_PROBLEMS = 100


class Sandbox:
    """One isolated Credits API: ledger, clock, journal, credentials and seed, behind one lock.

    Its methods acquire the lock; code that calls the ledger directly must hold it. A server's sandboxes share their
    ``keys``. Raises ValueError for an out-of-bounds balance, a key file without keys, or an invalid world.
    """

    _cursor_key: bytes | None

    def __init__(self, options: SandboxOptions, keys: SigningKeys, name: str = "sandbox") -> None:
        self.options = options
        self.name = name
        self.contract = options.contract
        self.seed = options.seed
        self.keys = keys
        trusted = {**options.contract.trust, **options.trust}
        self._verifier: Verifier | None
        self._trusted_issuers = [trusted_issuer(url, path) for url, path in trusted.items()]
        self._set_issuer("" if options.issuer == "server" else options.issuer)
        self.api_key = options.api_key or new_api_key()
        self._raw_api_key = self.api_key.encode()
        self.lock = threading.RLock()
        self.journal_headers = JournalHeaders(options.keep_headers, options.contract)
        self.clock = Clock(options.clock if isinstance(options.clock, datetime) else None, self.lock)
        self.interception_log = InterceptionLog()
        self.hooks = SandboxHooks(self.clock.run_due)
        self.journal = JournalAssertions(
            self.lock,
            run_due=self.hooks.prepare_read,
            api_key=self.api_key,
            kept_headers=self.journal_headers.names,
            interception_log=self.interception_log,
            contract=options.contract,
        )
        self.journal.seed = options.seed
        self.bugs: list[BaseException] = []
        self.problems: list[SandboxProblem] = []
        self.problems_at_reset: list[SandboxProblem] = []
        self.is_closed = False
        self._refuses_connection_faults = False
        self.fork_guard = ForkGuard(f"sandbox {name}")
        self.gates: dict[str, Gate] = {}
        self.close_callbacks: set[Callable[[], object]] = set()
        self.faults = FaultEngine(options.seed, self.lock)
        self.initial_rules = _parse_rules(options)
        self._start()

    def __repr__(self) -> str:
        return f"<Sandbox {self.name}: {self.ledger!r}, seed {self.seed}>"

    @property
    def cursor_key(self) -> bytes:
        """Return the key that signs list cursors; it is created on first use, because most tests don't need it."""
        if self._cursor_key is None:
            self._cursor_key = random_bytes(16)
        return self._cursor_key

    def check_open(self) -> None:
        """Raise RuntimeError if the sandbox is closed or this is a forked child: changes would have no effect."""
        self.fork_guard.check()
        if self.is_closed:
            raise RuntimeError(f"sandbox {self.name} is closed (its test is over)")

    def reset(self) -> list[SandboxProblem]:
        """Restore the initial users, balances, clock and rules, and empty the journal, but keep the keys.

        Held calls and late writes finish first, against the old state. Returns the problems found so far, and adds them
        to ``problems_at_reset``, which keeps the last 100. Raises RuntimeError if the sandbox is closed.
        """
        self.check_open()
        self.close_gates()
        with self.lock:
            self.clock.run_pending()
            problems = self.find_problems()
            self.problems_at_reset = [*self.problems_at_reset, *problems][-_MAX_KEPT_PROBLEMS:]
            self.journal.restart()
            self.problems, self.bugs = [], []
            self._start()
            return problems

    def close_gates(self) -> None:
        """Shut down every gate and resume the exchanges held there."""
        for gate in list(self.gates.values()):
            gate.close()

    def close(self) -> list[Timer]:
        """Shut down every gate, cancel endless waits, reject further calls, and return the timers still pending."""
        self.close_gates()
        with self.lock:
            self.is_closed = True
            self.cancel_waits()
            return self.clock.close()

    def cancel_waits(self) -> None:
        """Cancel all waits that could otherwise last forever."""
        for callback in list(self.close_callbacks):
            callback()

    def hold(self, rule: Rule) -> Gate:
        """Add a rule that holds calls at a gate, and return the gate; raise FaultError for an invalid rule."""
        self.check_open()
        with self.lock:
            active = self.add_fault(rule)
            return self.gates[cast("Gate", active.rule.effect).name]

    def add_fault(self, rule: Rule) -> ActiveRule:
        """Add a rule; raise FaultError for an invalid one."""
        self.check_open()
        if self._refuses_connection_faults:
            check_without_connection(rule)
        with self.lock:
            self.clock.run_due()
            active = self.faults.add(rule)
            if rule.phase == "read":
                active.history_lengths = self.ledger.history_lengths()
            self.journal.rule_history.add(active.name, rule)
            if isinstance(rule.effect, HoldAtGate):
                name = rule.effect.name
                if name not in self.gates or self.gates[name].is_open:
                    self.gates[name] = Gate(name, self.options.gate_timeout_s, self._remove_gate_rules)
                self.gates[name].add_expected_calls(describe_match(rule))
            return active

    def refuse_connection_faults(self) -> None:
        """From now on, reject faults that ASGI can't produce; raise FaultError if the sandbox already has one."""
        with self.lock:
            for rule in (*self.initial_rules, *(active.rule for active in self.faults)):
                check_without_connection(rule)
            self._refuses_connection_faults = True

    def _remove_gate_rules(self, gate: Gate) -> None:
        """Remove the rules of an open gate, so that they don't hold calls at the next gate with the same name."""
        with self.lock:
            for active in self.faults:
                if isinstance(active.rule.effect, HoldAtGate) and active.rule.effect.name == gate.name:
                    active.remove()

    def new_gate_name(self) -> str:
        """Return a gate name that is not in use."""
        return next(
            name for number in itertools.count(len(self.gates) + 1) if (name := f"gate{number}") not in self.gates
        )

    def gate(self, name: str) -> Gate:
        """Return the gate called ``name``; raise FaultError if there is none."""
        if name not in self.gates:
            raise FaultError(f"unknown gate {name!r} (known: {', '.join(self.gates) or 'none'})")
        return self.gates[name]

    def _start(self) -> None:
        options = self.options
        self.clock.reset()
        if options.clock == "frozen":
            self.clock.freeze()
        self._cursor_key = None  # a new key will be created, so that cursors from before a reset are rejected
        self.ledger = Ledger(options.contract)
        if options.world is not None:
            self.load_world(options.world)
        if options.balance is not None:
            self.set_balance(options.user_id, options.balance)
        for user_id, balance in options.users.items():
            self.set_balance(user_id, balance)
        self.gates.clear()
        self.faults.reset((), self.clock.now_ms())
        for rule in self.initial_rules:
            self.add_fault(rule)

    def load_world(self, world: LoadableWorld) -> tuple[str, ...]:
        """Add a world's users to the default application, and return their ids.

        Raises ValueError if a user already exists or violates the contract; in that case, no user is added.
        """
        self.check_open()
        with self.lock:
            return world.load_into(self.ledger, self.options.application_id, self.clock.now_ms())

    def set_balance(self, user_id: str, balance: int | None = None, *, application_id: str = "") -> Account:
        """Create a user if needed and, unless ``balance`` is None, set the user's balance to it in one transaction.

        Raises ValueError for an id or a balance that the contract does not allow, or for a change above ``MAX_AMOUNT``.
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
                raise ValueError(
                    f"the balance of {user_id!r} can't change from {account.balance} to {balance} in one transaction, "
                    f"which is limited to {MAX_AMOUNT}"
                )
            if delta:
                self.ledger.append(account, delta, Reason.GRANT if delta > 0 else Reason.CONSUME, self.clock.now_ms())
        return account

    def account(self, user_id: str, *, application_id: str = "") -> Account:
        """Return a user's account after running due timers; raise UserNotFound if there is no such user."""
        self.fork_guard.check()
        with self.lock:
            self.hooks.prepare_read()
            return self.ledger.get_account(application_id or self.options.application_id, user_id)

    def users(self, *, application_id: str = "") -> tuple[Account, ...]:
        """Return an application's accounts, oldest first; raise ApplicationNotFound for an unknown application."""
        self.fork_guard.check()
        with self.lock:
            self.hooks.prepare_read()
            return self.ledger.accounts(application_id or self.options.application_id)

    def delete_user(self, user_id: str, *, application_id: str = "") -> Account:
        """Delete a user and all their transactions, and return the account; raise UserNotFound for an unknown user."""
        self.check_open()
        with self.lock:
            self.clock.run_due()
            account = self.ledger.remove_account(application_id or self.options.application_id, user_id)
            for active in self.faults:
                active.history_lengths.pop((account.application_id, user_id), None)
            return account

    def transactions(self, user_id: str, *, application_id: str = "") -> tuple[Transaction, ...]:
        """Return a user's history, oldest first; raise UserNotFound if there is no such user."""
        account = self.account(user_id, application_id=application_id)
        with self.lock:
            return tuple(map(transaction_from, account.entries()))

    def add_transactions(
        self, user_id: str, transactions: Iterable[TransactionInput], *, application_id: str = ""
    ) -> tuple[Transaction, ...]:
        """Append transactions to a user's history, creating the user if needed, and return them.

        Raises ValueError or TypeError for an invalid transaction, and the ledger's errors for one that the contract
        does not allow; in either case, none is added.
        """
        self.check_open()
        application_id = application_id or self.options.application_id
        check_id("application", application_id, self.contract)
        check_id("user", user_id, self.contract)
        with self.lock:
            self.clock.run_due()
            return extend_history(self.ledger, application_id, user_id, transactions, self.clock.now_ms())

    def authenticate(self, credential: Credential, *, skew_s: int = 0) -> VerifiedToken | None:
        """Return the verified token, or None for the correct API key; raise ApiError if the credential is rejected.

        The token's lifetime is checked against a clock that is ``skew_s`` seconds ahead.
        """
        if credential.kind == "user":
            return self._authenticate_user(credential.value, skew_s)
        if self.is_closed:
            raise InvalidApiKey("this API key's sandbox is closed (its test is over)", auth_reason="closed_sandbox")
        if not self._is_api_key(credential.value):
            hint = self._other_kind_hint("this is a user's token", self.contract.user_token)
            is_token = credential.value.startswith("eyJ") and credential.value.count(".") == 2
            raise InvalidApiKey(f"unknown API key{hint if is_token else ''}", auth_reason="unknown_key")
        return None

    def _is_api_key(self, value: str) -> bool:
        return hmac.compare_digest(value.encode(errors="surrogatepass"), self._raw_api_key)

    def _other_kind_hint(self, problem: str, header: CredentialHeader) -> str:
        """Return a hint for an API key sent as a token or vice versa; empty if both use the same header and scheme."""
        is_same = self.contract.api_key == self.contract.user_token
        return "" if is_same else f": {problem}, so send it as {header_example(header)}"

    def _authenticate_user(self, token: str, skew_s: int) -> VerifiedToken:
        try:
            verifier = self._verifier = self._verifier or Verifier(self.issuers, self.contract)
            verified = verifier.verify(token, self.clock.now_ms() + skew_s * 1000)
        except InvalidToken as error:
            hint = self._other_kind_hint("this is an API key", self.contract.api_key)
            if hint and (token.startswith(API_KEY_PREFIX) or self._is_api_key(token)):
                raise InvalidToken(f"{error.message}{hint}", auth_reason=error.auth_reason) from None
            raise
        sandbox_name = verified.claims.get(SANDBOX_CLAIM, self.name)
        if self.is_closed or sandbox_name != self.name:
            message = "this token's sandbox is closed (its test is over), or belongs to another server"
            raise InvalidToken(message, auth_reason="closed_sandbox")
        return verified

    def token(self, user_id: str, options: MintOptions | None = None) -> str:
        """Mint a valid or deliberately invalid token for a user; raise ValueError or TypeError for invalid options."""
        self.fork_guard.check()  # the server would not know a key created in a forked child
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

    def set_server_url(self, url: str) -> None:
        """Make a live server's URL the issuer of tokens, if the ``issuer`` option is ``"server"``."""
        if self.options.issuer == "server":
            self._set_issuer(url)

    def _set_issuer(self, url: str) -> None:
        self.minter = find_minter(self.keys, self.options.auth_provider, url)
        self.issuers = (self.minter.issuer, *self._trusted_issuers)
        # Without trusted issuers, create the verifier on first use, because most tests use only the API key.
        self._verifier = Verifier(self.issuers, self.contract) if self._trusted_issuers else None

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Return the public keys that verify this sandbox's tokens, as a JWK Set (RFC 7517)."""
        return self.keys.jwks((self.minter.provider.algorithm,))

    def add_bug(self, bug: BaseException) -> None:
        """Record a bug in the fake, with its traceback; the last 100 are kept."""
        with self.lock:
            self.bugs.append(bug)
            del self.bugs[:-_MAX_KEPT_PROBLEMS]

    def add_problem(self, text: str, kind: ProblemKind = "calls") -> None:
        """Record a problem that fails the test even if the test swallows the error; the last 100 are kept."""
        with self.lock:
            if all(problem.text != text for problem in self.problems):
                self.problems.append(SandboxProblem(kind, text))
                del self.problems[:-_MAX_KEPT_PROBLEMS]

    def find_problems(self) -> list[SandboxProblem]:
        """Return the problems that should fail an otherwise passing test."""
        self.hooks.run_final_checks()
        with self.lock:
            found = [
                SandboxProblem("internal_errors", f"a bug in fake-credits caused a 500 response: {bug!r}", bug)
                for bug in self.bugs
            ]
            found += self.problems
            unused = self.faults.unused_rules()
            found += [SandboxProblem("unused_rules", describe_unused_rule(active), active) for active in unused]
            try:
                self.ledger.verify_balances()
            except LedgerInconsistency as error:
                found.append(SandboxProblem("ledger", f"the ledger is inconsistent: {error}", error))
        return found


def _parse_rules(options: SandboxOptions) -> tuple[Rule, ...]:
    if options.faults == () and options.latency is None:
        return ()
    from fake_credits.faults.scenarios import latency_rules, parse_rules  # deferred: few sandboxes start with rules

    return (*parse_rules(options.faults), *latency_rules(options.latency))
