"""Recording one run: observing a sandbox's calls, and injecting the faults of a schedule."""

import math
from collections.abc import Sequence
from typing import cast

from fake_credits.contract import Operation
from fake_credits.explore.ownership import CALLER_HEADER, TestCode, is_in_process, mark_transports
from fake_credits.explore.runs import KeyAssigner, ObservedCall, Run
from fake_credits.explore.schedules import FAULTS, CallFault, CallKey, Injection, Schedule
from fake_credits.fake import FakeCredits
from fake_credits.faults.active_rule import ActiveRule, Firing
from fake_credits.faults.effects.base import Effect
from fake_credits.faults.rule import DEFAULT_LATENCY_NAME, IncomingCall
from fake_credits.journal import JournalEntry
from fake_credits.ledger import LedgerInconsistency
from fake_credits.problems import problem_texts

MIN_STORM_CALLS = 20
"""A run of an application may make at least so many calls, however few the fault-free run makes."""


class CallStorm(BaseException):
    """Raised in an application that makes far more calls than without a fault, to end the run.

    It is not an Exception, so that a retry loop does not catch it.
    """


class Recorder:
    """The recording of one run with the faults of a schedule.

    ``attach`` it to the run's sandbox before the first call, and call `finish` before the sandbox is closed. Calls over
    ``max_calls`` of the application are a storm.
    """

    def __init__(
        self,
        schedule: Schedule,
        test_code: TestCode,
        *,
        stable_ids: frozenset[str] | None = None,
        max_calls: float = math.inf,
        label: str = "",
    ) -> None:
        self.run = Run(schedule)
        self.label = label
        self.is_final = False
        self.traces_lines = False
        self.test_code = test_code
        self._stable_ids = stable_ids
        self._max_calls = max_calls
        self._pending: list[Injection] = list(schedule)
        self._lasting: CallFault | None = None
        self._application_count = 0
        self._calls_by_ordinal: dict[int, ObservedCall] = {}
        self._fake: FakeCredits | None = None
        self._keys = KeyAssigner("", None)
        self._rules: dict[str, ActiveRule] = {}

    def __repr__(self) -> str:
        return f"<Recorder of {self.label or 'a fault-free run'}: {len(self.run.calls)} calls>"

    @property
    def fake(self) -> FakeCredits | None:
        """Return the façade of the run's sandbox, once there is one."""
        return self._fake

    def attach(self, fake: FakeCredits) -> None:
        """Observe the run's sandbox."""
        self.run.has_sandbox, self.run.secrets = True, (fake.api_key,)
        self._fake, sandbox = fake, fake.sandbox
        self._keys = KeyAssigner(fake.application_id, self._stable_ids)
        self._initial_ledger = sandbox.ledger
        self.run.has_own_rules = bool(sandbox.faults.rules)
        self._rules = {fault.name: self._activate(fault) for _, fault in self.run.schedule}
        sandbox.hooks.wrap_live_transports = lambda transports: mark_transports(transports, self.test_code)
        sandbox.faults.set_call_hook(self._on_call)
        sandbox.journal.watch(self._on_entry)
        sandbox.hooks.on_inspection = self._on_inspection
        sandbox.hooks.explored = self.label

    def finish(self) -> None:
        """Record the state of the sandbox at the end of the test's call."""
        run, fake = self.run, self._fake
        run.not_met = len(self._pending)
        if fake is None:
            return
        sandbox = fake.sandbox
        sandbox.hooks.on_inspection = None
        with sandbox.lock:
            run.was_reset = sandbox.ledger is not self._initial_ledger
            rule_names = set(sandbox.journal.rule_history) - {DEFAULT_LATENCY_NAME}
            run.has_own_rules = bool(rule_names or sandbox.gates)
            run.problems = [*problem_texts(sandbox.problems), *map(repr, sandbox.bugs)]
            accounts = {(call.application, call.user) for call in run.calls if call.user}
            found = ((key, sandbox.ledger.find_account(*key)) for key in sorted(accounts))
            run.balances = {key: account.balance for key, account in found if account is not None}
            try:
                sandbox.ledger.verify_balances()
            except LedgerInconsistency as error:
                run.ledger_error = str(error)

    # ------------------------------------------------------------ in the sandbox, under its lock

    def _on_call(self, incoming: IncomingCall, own_firings: Sequence[Firing]) -> Sequence[Firing]:
        owner = self.test_code.calls_now()
        if owner == "stack" and incoming.fields.get(CALLER_HEADER) == b"test":
            owner = "test"
        self.run.uses_socket = self.run.uses_socket or not is_in_process()
        call = self._observe(incoming, is_application=owner != "test")
        call.has_own_rule = any(firing.active_rule.name != DEFAULT_LATENCY_NAME for firing in own_firings)
        if not call.number:
            return ()
        if call.number > self._max_calls:
            self.run.is_storm = True
            if owner == "application":
                raise CallStorm(f"more than {self._max_calls:g} calls: the application never stops")
            return [self._fire(FAULTS["refused"], call)]  # over a socket, or in a task of its own: it can't be ended
        fault = None if call.has_own_rule else self._fault_for(call)
        if fault is None:
            return ()
        call.fault, retry_after_s = fault.name, getattr(fault.rule.effect, "retry_after_s", None)
        call.retry_after_ms = (retry_after_s or 0) * 1000
        return [self._fire(fault, call)]

    def _observe(self, incoming: IncomingCall, *, is_application: bool) -> ObservedCall:
        self._application_count += is_application
        call = ObservedCall(
            incoming.ordinal,
            self._application_count if is_application else 0,
            str(incoming.operation),
            incoming.application,
            incoming.user,
            incoming.delta,
            incoming.reason,
            incoming.now_ms,
            incoming.client,
        )
        self._keys.assign(call)
        self._calls_by_ordinal[call.ordinal] = call
        self.run.calls.append(call)
        return call

    def _fault_for(self, call: ObservedCall) -> CallFault | None:
        if self._lasting is not None:
            return self._lasting
        for injection in self._pending:
            if _is_meant(injection.call, call) and injection.fault.applies_to(call.operation):
                self._pending.remove(injection)
                if injection.fault.lasts:
                    self._lasting = injection.fault
                return injection.fault
        return None

    def _fire(self, fault: CallFault, call: ObservedCall) -> Firing:
        active = self._rules.get(fault.name) or self._activate(fault)
        active.fired += 1
        seed = 0 if self._fake is None else self._fake.sandbox.seed
        call_key = (Operation(call.operation), call.application, call.user)
        return Firing(active, cast("Effect", fault.rule.effect), seed, (call_key, call.ordinal))

    def _activate(self, fault: CallFault) -> ActiveRule:
        name = fault.rule.name or fault.rule.word
        active = ActiveRule(fault.rule, name, (-math.inf, math.inf), _keep)
        if fault.rule.phase == "read" and self._fake is not None:
            active.history_lengths = self._fake.sandbox.ledger.history_lengths()
        return active

    def _on_entry(self, entry: JournalEntry) -> None:
        call = self._calls_by_ordinal.get(entry.ordinal)
        if call is not None:
            call.entry = entry

    def _on_inspection(self) -> None:
        self.run.inspected_after = len(self.run.calls)


def _keep(_active: ActiveRule, _reports_unused: bool) -> None:
    """Do nothing: a schedule's rules end with the run."""


def _is_meant(wanted: CallKey | int, call: ObservedCall) -> bool:
    return call.number == wanted if isinstance(wanted, int) else wanted.matches(call.key)
