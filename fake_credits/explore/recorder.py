"""The recording of one run of a test: its calls, what the test sees, real sleeps, and the outcome."""

import math
import re
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from enum import Enum
from itertools import chain
from pathlib import Path
from reprlib import Repr
from types import FrameType
from typing import Any, cast

from fake_credits.contract import Operation
from fake_credits.errors import Unavailable
from fake_credits.explore.order_scheduler import OrderScheduler
from fake_credits.explore.ownership import CALLER_HEADER, TestCode, is_in_process, mark_transports
from fake_credits.explore.runs import KeyAssigner, ObservedCall, Outcome, Run, RunTrace
from fake_credits.explore.schedules import CallFault, Injection, Schedule
from fake_credits.faults.active_rule import ActiveRule, Firing
from fake_credits.faults.effects.base import Effect, FaultContext
from fake_credits.faults.rule import DEFAULT_LATENCY_NAME, IncomingCall, Rule
from fake_credits.http_message import Connection, Response
from fake_credits.journal import JournalEntry
from fake_credits.ledger import LedgerInconsistency
from fake_credits.sandbox import Sandbox

MIN_STORM_CALLS = 20
"""The number of calls that an application may always make in a run, even if it makes few in the fault-free run."""


class CallStorm(BaseException):
    """Raised to end a run in which the application makes far more calls than in the fault-free run.

    It does not derive from Exception, so that retry loops don't catch it.
    """


class _RefuseAndClose(Effect):
    """A 503 response, after which the connection is closed."""

    async def apply(self, context: FaultContext) -> None:
        context.respond_with_error(Unavailable("too many calls"))
        context.set_delivery(_SendAndClose())


class _SendAndClose:
    """A delivery that sends the whole response and then closes the connection."""

    is_complete = True

    async def send(self, response: Response | None, connection: Connection) -> None:
        if response is not None:
            connection.send(response)
        connection.close()


_STORM = CallFault("storm", Rule(_RefuseAndClose(), name="storm"))


class Recorder:
    """A recorder of one run that also injects the faults of the run's schedule.

    Call `attach` with the run's sandbox before the first request, and `finish` before the sandbox is closed. If the
    application makes more than ``max_calls`` calls, a `CallStorm` ends the run; where no exception can reach the
    caller, the call is refused and `on_storm` is called instead. If ``scheduler`` is given, it determines the order of
    concurrent calls.
    """

    def __init__(
        self,
        schedule: Schedule,
        test_code: TestCode,
        *,
        stable_ids: frozenset[str] | None = None,
        max_calls: float = math.inf,
        label: str = "",
        scheduler: OrderScheduler | None = None,
    ) -> None:
        self.run = Run(schedule)
        self.scheduler = scheduler
        self.label = label
        self.is_final = False
        self.traces_test = False
        self.on_storm: Callable[[], object] = lambda: None
        self.test_code = test_code
        self._stable_ids = stable_ids
        self._max_calls = max_calls
        self._pending: list[Injection] = list(schedule)
        self._lasting: CallFault | None = None
        self._application_count = 0
        self._calls_by_ordinal: dict[int, ObservedCall] = {}
        self._sandbox: Sandbox | None = None
        self._keys = KeyAssigner("", None)
        self._rules: dict[str, ActiveRule] = {}

    def __repr__(self) -> str:
        return f"<Recorder of {self.label or 'a fault-free run'}: calls={len(self.run.calls)}>"

    @property
    def sandbox(self) -> Sandbox | None:
        """Return the run's sandbox, or None before `attach`."""
        return self._sandbox

    def attach(self, sandbox: Sandbox) -> None:
        """Connect to the run's sandbox, to record its calls and inject faults."""
        self.run.has_sandbox, self.run.secrets = True, (sandbox.api_key,)
        self._sandbox = sandbox
        self._keys = KeyAssigner(sandbox.options.application_id, self._stable_ids)
        self._initial_ledger = sandbox.ledger
        self.run.has_own_rules = bool(sandbox.faults.rules)
        self._rules = {fault.name: self._activate(fault) for _, fault in self.run.schedule}
        sandbox.hooks.wrap_live_transports = lambda transports: mark_transports(transports, self.test_code)
        sandbox.faults.set_call_hook(self._on_call)
        sandbox.journal.watch(self._on_entry)
        sandbox.hooks.on_inspection = self._on_inspection
        sandbox.hooks.explored = self.label
        sandbox.hooks.hold_exchange = None if self.scheduler is None else self.scheduler.hold

    def finish(self) -> None:
        """Record the state of the sandbox after the test's call phase or, outside pytest, at the end of the run."""
        run, sandbox = self.run, self._sandbox
        run.not_met = len(self._pending)
        if sandbox is None:
            return
        sandbox.hooks.on_inspection = None
        with sandbox.lock:
            run.was_reset = sandbox.ledger is not self._initial_ledger
            rule_names = set(sandbox.journal.rule_history) - {DEFAULT_LATENCY_NAME}
            run.has_own_rules = bool(rule_names or sandbox.gates)
            run.problems = [*(problem.text for problem in sandbox.problems), *map(repr, sandbox.bugs)]
            accounts = {(call.application, call.user) for call in run.calls if call.user}
            found = ((key, sandbox.ledger.find_account(*key)) for key in sorted(accounts))
            run.balances = {key: account.balance for key, account in found if account is not None}
            try:
                sandbox.ledger.verify_balances()
            except LedgerInconsistency as error:
                run.ledger_error = str(error)

    # ------------------------------------------------------------ called by the sandbox while it holds its lock

    def _on_call(self, incoming: IncomingCall, own_firings: Sequence[Firing]) -> Sequence[Firing]:
        owner = self.test_code.calls_now()
        if owner == "stack" and incoming.fields.get(CALLER_HEADER) == b"test":
            owner = "test"
        self.run.uses_socket = self.run.uses_socket or not is_in_process()
        call = self._observe(incoming, is_application=owner != "test")
        if self.scheduler is not None:
            self.scheduler.record_call(call)
        call.has_own_rule = any(firing.active_rule.name != DEFAULT_LATENCY_NAME for firing in own_firings)
        if not call.number:
            return ()
        if call.number > self._max_calls:
            self.run.is_storm = True
            if owner == "application":
                raise CallStorm(f"more than {self._max_calls:g} calls: the application might never stop")
            self.on_storm()
            # Over a socket, or in another task, no exception would reach the caller.
            return [self._fire(_STORM, call)]
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
            wanted = injection.call
            is_wanted = call.number == wanted if isinstance(wanted, int) else wanted.matches(call.key)
            if is_wanted and injection.fault.applies_to(call.operation):
                self._pending.remove(injection)
                if injection.fault.lasts:
                    self._lasting = injection.fault
                return injection.fault
        return None

    def _fire(self, fault: CallFault, call: ObservedCall) -> Firing:
        active = self._rules.get(fault.name) or self._activate(fault)
        active.fired += 1
        seed = 0 if self._sandbox is None else self._sandbox.seed
        call_key = (Operation(call.operation), call.application, call.user)
        return Firing(active, cast("Effect", fault.rule.effect), seed, (call_key, call.ordinal))

    def _activate(self, fault: CallFault) -> ActiveRule:
        name = fault.rule.name or fault.rule.word
        active = ActiveRule(fault.rule, name, (-math.inf, math.inf), _keep)
        if fault.rule.phase == "read" and self._sandbox is not None:
            active.history_lengths = self._sandbox.ledger.history_lengths()
        return active

    def _on_entry(self, entry: JournalEntry) -> None:
        call = self._calls_by_ordinal.get(entry.ordinal)
        if call is not None:
            call.entry = entry

    def _on_inspection(self) -> None:
        self.run.inspected_after = len(self.run.calls)


def _keep(_active: ActiveRule, _reports_unused: bool) -> None:
    """Do nothing: the rules of a schedule stay active until its run ends."""


def outcome_of(
    error: BaseException | None, test_code: TestCode, assertions: tuple[type[BaseException], ...] = (AssertionError,)
) -> Outcome:
    """Return the outcome of a run, given the ``error`` that ended it, or None if it passed.

    ``assertions`` are the types of exception that failed assertions raise.
    """
    if error is None:
        return Outcome()
    error = _single_error(error)
    in_test = isinstance(error, assertions) and _raised_by_test(error, test_code)
    return Outcome("failed", str(error), type(error).__name__, failed_in_test=in_test)


def _single_error(error: BaseException) -> BaseException:
    """Return the only exception in a group, as raised by trio and anyio; return any other error unchanged."""
    exceptions: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    return _single_error(exceptions[0]) if len(exceptions) == 1 else error


def _raised_by_test(error: BaseException, test_code: TestCode) -> bool:
    """Return whether the test itself raised ``error``, judging by the innermost frame outside the HTTP stack."""
    owner, traceback = "stack", error.__traceback__
    while traceback is not None:
        frame_owner = test_code.owner_of(traceback.tb_frame)
        owner = owner if frame_owner == "stack" else frame_owner
        traceback = traceback.tb_next
    return owner == "test"


@contextmanager
def traced_test(
    test_code: TestCode, *, is_wanted: bool, running: FrameType | None = None
) -> Generator[Callable[[], RunTrace]]:
    """Trace the test's code during the ``with`` block if ``is_wanted``, and yield a function that returns the trace.

    ``running`` is a frame of the test's code that is already executing and is to be traced as well.
    """
    if not is_wanted:
        yield RunTrace
        return
    lines: set[tuple[str, int]] = set()
    results: set[tuple[str, int, str]] = set()

    def trace_call(frame: FrameType, _event: str, _argument: object) -> Any:
        if test_code.owner_of(frame) == "test":
            return trace_test
        if frame.f_back is None or test_code.owner_of(frame.f_back) != "test" or frame.f_code.co_name in _EXITS:
            return None
        frame.f_trace_lines = False
        return trace_result

    def trace_test(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            lines.add((frame.f_code.co_qualname, frame.f_lineno))
        elif event == "exception":
            results.add((frame.f_code.co_qualname, frame.f_lineno, argument[0].__name__))
        elif event == "return":
            for name, value in frame.f_locals.items():
                results.add((f"{frame.f_code.co_qualname}:{name}", frame.f_lineno, _result_text(value, frame)))
        return trace_test

    def trace_result(frame: FrameType, event: str, argument: object) -> Any:
        caller = frame.f_back
        if event == "return" and caller is not None:
            results.add((caller.f_code.co_qualname, caller.f_lineno, _result_text(argument, caller)))
        return trace_result

    previous = sys.gettrace()
    sys.settrace(trace_call)
    if running is not None:
        running.f_trace = trace_test
    try:
        yield lambda: RunTrace(frozenset(lines), frozenset(results))
    finally:
        sys.settrace(previous)
        if running is not None:
            running.f_trace = None


_EXITS = ("__exit__", "__aexit__")  # a test does not see what these return


class _ResultRepr(Repr):
    """A repr for comparing results across runs, which omits digits in strings because times and ids may differ."""

    def repr_str(self, x: str, level: int) -> str:
        return super().repr_str(re.sub(r"\d", "", x), level)

    def repr_instance(self, x: object, level: int) -> str:
        return repr(x) if x is None or isinstance(x, (bool, Enum)) else type(x).__name__


_RESULT_REPR = _ResultRepr()


def _result_text(value: object, frame: FrameType) -> str:
    """Return a value as text, including any of its attributes that the frame's code mentions."""
    texts = [_RESULT_REPR.repr(value)]
    try:
        fields = ("__dataclass_fields__", "_fields")
        attributes = {*getattr(value, "__dict__", ()), *chain(*(getattr(type(value), name, ()) for name in fields))}
        for name in sorted(attributes.intersection(frame.f_code.co_names)):
            texts.append(f"{name}={_RESULT_REPR.repr(getattr(value, name))}")
    except Exception:  # noqa: BLE001 - a proxy may raise anything, and the test must not notice that it is traced
        texts.append("unreadable")
    return " ".join(texts)


_MIN_RECORDED_S = 0.01


class SleepLog:
    """A log of the longest real sleep on each line of the application's code, ignoring sleeps shorter than 10 ms."""

    def __init__(self, test_code: TestCode) -> None:
        self._test_code = test_code
        self._longest: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<SleepLog: lines={len(self._longest)}>"

    def slowest(self) -> list[tuple[float, str]]:
        """Return the longest sleep on each line as (seconds, line), in descending order."""
        return sorted(((seconds, where) for where, seconds in self._longest.items()), reverse=True)

    @contextmanager
    def recording(self) -> Generator[None]:
        """Record the application's calls to `time.sleep` during the ``with`` block."""
        original = time.sleep

        def sleep(seconds: float) -> None:  # typeshed also allows `SupportsIndex`, which applications rarely pass
            frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
            if seconds >= _MIN_RECORDED_S and self._test_code.owner_of(frame) == "application":
                where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                self._longest[where] = max(seconds, self._longest.get(where, 0))
            original(seconds)

        time.sleep = sleep  # type: ignore[assignment]
        try:
            yield
        finally:
            time.sleep = original
