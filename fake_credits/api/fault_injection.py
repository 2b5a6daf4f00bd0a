"""Fault injection: finding the rules that match an exchange, and applying their effects."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from fake_credits.api.exchange import Exchange, FaultOverrides
from fake_credits.api.handlers import authorize_and_execute, execute
from fake_credits.clock import MAX_TIMESTAMP_MS
from fake_credits.errors import ApiError, GatewayTimeout, ServerError, Unavailable
from fake_credits.faults.active_rule import Firing, PredicateError
from fake_credits.faults.effects.base import CursorFault, Delivery
from fake_credits.faults.effects.connection import Abort
from fake_credits.faults.rule import IncomingCall
from fake_credits.faults.waits import AtGate, Sleep
from fake_credits.http_message import Connection, Response, http_date


def match_faults(exchange: Exchange, connection: Connection) -> "ExchangeFaultContext | None":
    """Return the context for applying an exchange's faults, or None if no fault fires.

    Raises ServerError if a rule's predicate raises an exception.
    """
    sandbox = exchange.sandbox
    if sandbox.is_closed:
        return None
    if not isinstance(exchange.credential, ApiError):
        exchange.client = exchange.credential.kind
    with sandbox.lock:  # so that no reset can happen between matching and creating the context
        firings = _match_rules(exchange)
        return ExchangeFaultContext(exchange, connection, firings) if firings else None


def _match_rules(exchange: Exchange) -> list[Firing]:
    try:
        return exchange.sandbox.faults.match(_incoming_call(exchange))
    except PredicateError as failure:
        exchange.sandbox.add_problem(failure.problem_with_traceback)
        error = ServerError(failure.problem)
        error.fault = failure.rule_name
        raise error from None


def _incoming_call(exchange: Exchange) -> IncomingCall:
    operation, application_id, user_id, _, _ = exchange.route_match
    sandbox, credential = exchange.sandbox, exchange.credential
    delta, reason = exchange.requested_transaction() if sandbox.faults.needs_body else (None, "")
    return IncomingCall(
        exchange.ordinal,
        operation,
        application_id,
        user_id,
        "" if isinstance(credential, ApiError) else credential.kind,
        str(reason),
        exchange.headers_by_name,
        sandbox.clock.now_ms(),
        delta,
    )


class ExchangeFaultContext:
    """The context in which effects are applied to an exchange."""

    def __init__(self, exchange: Exchange, connection: Connection, firings: Sequence[Firing]) -> None:
        self._exchange = exchange
        self._connection = connection
        self._firings = firings
        self._ledger = exchange.sandbox.ledger
        self._firing = firings[0]
        self._previous_rules = "", ""
        self._clock_skew_s = 0
        self._write_count = 1

    async def apply_before(self) -> None:
        """Apply the effects that precede the operation, until one of them determines the outcome."""
        for firing in self._firings:
            if firing.active_rule.rule.phase != "after" and not self._has_outcome:
                await self._apply(firing)

    async def apply_after(self) -> None:
        """Apply the effects that follow the operation, until one of them sets the delivery."""
        for firing in self._firings:
            if firing.active_rule.rule.phase == "after" and self._exchange.delivery is None:
                await self._apply(firing)

    @property
    def _has_outcome(self) -> bool:
        return self._exchange.response is not None or self._exchange.delivery is not None

    async def _apply(self, firing: Firing) -> None:
        self._firing = firing
        exchange = self._exchange
        self._previous_rules = exchange.rule_names, exchange.rule_phases
        exchange.rule_names = f"{exchange.rule_names}+{firing.active_rule.name}".lstrip("+")
        exchange.rule_phases = f"{exchange.rule_phases}+{firing.active_rule.rule.phase}".lstrip("+")
        await firing.effect.apply(self)

    def authorize_and_execute(self) -> None:
        """Authorize and execute the operation, unless an effect has already determined the outcome.

        An ApiError becomes the response, so that later effects can modify it too.
        """
        if not self._has_outcome:
            self._authorize_and_execute()

    def _authorize_and_execute(self) -> None:
        exchange = self._exchange
        try:
            with exchange.sandbox.lock:
                if exchange.sandbox.ledger is not self._ledger:
                    raise Unavailable("the sandbox was reset while an injected fault was delaying this call")
                authorize_and_execute(exchange, clock_skew_s=self._clock_skew_s)
        except ApiError as error:
            exchange.respond_with_error(error.with_traceback(None))
        self._repeat_write()

    def _repeat_write(self) -> None:
        """Repeat a committed write if a fault duplicates it, and discard the second result."""
        exchange = self._exchange
        if self._write_count == 1 or not exchange.committed:
            return
        response, error, transaction_number = exchange.response, exchange.error, exchange.transaction_number
        self._execute()
        exchange.response, exchange.error, exchange.transaction_number = response, error, transaction_number
        exchange.committed = True

    def _execute(self) -> None:
        exchange = self._exchange
        with exchange.sandbox.lock:
            try:
                execute(exchange)
            except ApiError as error:
                exchange.respond_with_error(error.with_traceback(None))

    # ------------------------------------------------------------ FaultContext

    def random(self) -> float:
        """Return the next random number for the rule being applied."""
        return self._firing.random()

    async def sleep(self, ms: float) -> None:
        """Wait for ``ms`` milliseconds."""
        await Sleep(ms)

    async def hold_at_gate(self, gate_name: str) -> None:
        """Wait until a gate is released; raise GatewayTimeout if that takes too long."""
        exchange = self._exchange
        gate = exchange.sandbox.gates.get(gate_name)
        if gate is None or await AtGate(gate):
            return
        problem = f"{exchange.label} was still held at gate {gate_name!r} after {gate.limit_s:g} s"
        exchange.sandbox.add_problem(f"{problem}; other calls held there: {gate.waiters() or 'none'}")
        exchange.fault_cause, error = "", GatewayTimeout(problem)
        error.fault = self._firing.active_rule.name
        raise error

    def respond_with_error(self, error: ApiError, *, status: int | None = None, retry_after: str = "") -> None:
        """Respond with an error."""
        rule_name = error.fault = self._firing.active_rule.name
        self._exchange.fault_cause = ""  # the cause of the previous response no longer applies
        error.message = f"{error.message} (injected by the fault {rule_name!r})"
        response = self._exchange.respond_with_error(error, status=status)
        if retry_after:
            # A Retry-After date is meaningful only with a Date header from the same clock.
            date = http_date(self._exchange.sandbox.clock.now_ms() // 1000)
            response.headers += [(b"retry-after", retry_after.encode("ascii")), (b"date", date)]

    def respond(self, status: int, body: bytes, media_type: str) -> None:
        """Respond with a status and arbitrary bytes."""
        cause = f"fault:{self._firing.active_rule.name}"
        headers = [(b"x-fake-credits-cause", cause.encode("ascii"))]
        exchange = self._exchange
        exchange.response = Response(status, body, headers, media_type.encode("ascii"))
        exchange.error, exchange.fault_cause = None, cause

    def edit_body(self, edit: Callable[[dict[str, Any]], None]) -> None:
        """Change the members of a successful response's body."""
        response = self._exchange.response
        if response is None or not (200 <= response.status < 300 and response.body):
            return
        try:
            members = msgspec.json.decode(response.body, type=dict[str, Any])
        except msgspec.DecodeError:
            return  # another fault has already replaced the body
        edit(members)
        response.body = msgspec.json.encode(members)

    def field_name(self, default_name: str) -> str:
        """Return the contract's name for a body member."""
        return self._exchange.runtime.contract.name_of(default_name)

    def body_size(self) -> int:
        """Return the size of the response body in bytes."""
        response = self._exchange.response
        return 0 if response is None else len(response.body)

    def format_retry_after(self, seconds: float, form: str) -> str:
        """Return the value of Retry-After (RFC 9110, section 10.2.3), rounded up to whole seconds."""
        form = form or self._exchange.runtime.contract.retry_after
        at_s = min(math.ceil(self._exchange.sandbox.clock.now_ms() / 1000 + seconds), MAX_TIMESTAMP_MS // 1000)
        values: Mapping[str, str] = {
            "seconds": str(math.ceil(seconds)),
            "date": http_date(at_s).decode("ascii"),
            "garbage": "soon",
        }
        return values.get(form, "")

    def set_delivery(self, delivery: Delivery) -> None:
        """Set how the response is delivered."""
        exchange = self._exchange
        exchange.delivery, exchange.fault_cause = delivery, f"fault:{self._firing.active_rule.name}"

    def read_stale(self, *, by_ms: int, by_writes: int) -> None:
        """Read an earlier state, but never one from before the rule was added."""
        overrides = self._overrides()
        overrides.stale_by_ms, overrides.stale_by_writes, overrides.history_lengths = (
            by_ms,
            by_writes,
            self._firing.active_rule.history_lengths,
        )

    def duplicate_write(self) -> None:
        """Apply the write twice."""
        self._write_count = 2

    def inject_cursor_fault(self, cursor_fault: CursorFault) -> None:
        """Apply a fault to the pagination of a list operation."""
        self._overrides().cursor_fault = cursor_fault

    def _overrides(self) -> FaultOverrides:
        exchange = self._exchange
        exchange.overrides = exchange.overrides or FaultOverrides()
        return exchange.overrides

    def skew_token_clock(self, skew_s: int) -> None:
        """Verify the token against a clock that is ``skew_s`` seconds ahead."""
        self._clock_skew_s = skew_s

    def defer_write(self, after_ms: int) -> None:
        """Check the write now; if it is valid, apply it after ``after_ms`` milliseconds without sending a response."""
        exchange = self._exchange
        with exchange.sandbox.lock:
            exchange.overrides = FaultOverrides(dry_run=True)
            self._authorize_and_execute()
            if exchange.error is not None:
                self._firing.undo()
                exchange.rule_names, exchange.rule_phases = self._previous_rules
                return
            exchange.response = None
            self.set_delivery(Abort("hang"))
            clock = exchange.sandbox.clock
            clock.schedule(
                clock.now_ms() + after_ms, self._apply_late_write, label=exchange.label, ordinal=exchange.ordinal
            )
        self._connection.call_later(after_ms, clock.run_due)

    def _apply_late_write(self) -> None:
        sandbox = self._exchange.sandbox
        try:
            self._exchange.overrides = None
            self._execute()
            self._repeat_write()
        except Exception as bug:  # noqa: BLE001 - recorded, because the caller that moved the clock did not cause it
            sandbox.add_bug(bug)
        self._exchange.journal(delivered=False)
