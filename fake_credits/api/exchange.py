"""Own one request and its answer: what is known of them, the decision, and the entry of the journal.

It knows nothing of sockets, of waits or of what faults do.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol, Self, cast

import msgspec

from fake_credits.api.codec import TransactionInput
from fake_credits.api.contract_runtime import ContractRuntime
from fake_credits.api.error_bodies import error_cause, error_response
from fake_credits.api.handlers import OPERATION_HANDLERS, FaultOverrides, OperationCall
from fake_credits.api.routing import RouteMatch, escape_path
from fake_credits.clock import perf_counter_ns
from fake_credits.contract import Operation
from fake_credits.errors import ApiError, Forbidden, InsufficientScope, InternalError, ValidationError
from fake_credits.faults.active_rule import Firing
from fake_credits.faults.context import Delivery
from fake_credits.faults.gates import Gate, GateTicket
from fake_credits.http_message import RawHeaders, Response
from fake_credits.journal import ClientKind, JournalEntry
from fake_credits.ledger import Ledger
from fake_credits.sandbox import Sandbox
from fake_credits.tokens.credentials import Credential

__all__ = ["Connection", "Exchange", "MatchedFaults", "RequestHead", "ServerStopping"]

_NO_ROUTE = ("", "", "")
_MAX_JOURNALED_CHARS = 1000
"""So many characters of an id or a message are journalled: a path can have 64 KiB, and 10,000 entries are kept."""


class ServerStopping(BaseException):
    """End an exchange that waits, as its server stops: no answer, and no error either."""


class RequestHead(msgspec.Struct, eq=False):
    """Be a request as it came; the headers' names are in lower case."""

    method: str
    raw_path: bytes
    query: bytes
    headers: RawHeaders


class MatchedFaults(NamedTuple):
    """Be the rules that fire for an exchange, in their order, and the world that they are of."""

    firings: Sequence[Firing]
    ledger: Ledger


class Connection(Protocol):
    """Be what the driver lends to an exchange: whose it is, whether the client still listens, and how to wait."""

    @property
    def sandbox(self) -> Sandbox | None:
        """Return the driver's own sandbox, None where the credential names it."""
        ...

    def host_error(self, raw_path: bytes, headers: RawHeaders, /) -> ApiError | None:
        """Return why this request is refused before all else (its Host), None where it is not."""
        ...

    def body(self) -> bytes | None:
        """Return the whole body where it is here already, None where it is still to be received."""
        ...

    async def sleep(self, ms: float, exchange: "Exchange") -> None:
        """Let milliseconds pass, never fewer; a client that gives up meanwhile is told to the exchange."""
        ...

    async def wait_at_gate(self, gate: Gate, exchange: "Exchange") -> bool:
        """Wait until the gate lets the exchange go, and return True; False at the gate's limit."""
        ...

    def schedule_run_due(self, ms: float, sandbox: Sandbox) -> None:
        """See to it that what is due by then is run, where nobody may come to do it."""
        ...

    async def is_client_connected(self) -> bool:
        """Tell, just before the answer's first byte, whether the client is still there."""
        ...

    async def send(self, response: Response, request_id: str) -> None:
        """Send a whole answer."""
        ...

    async def abort(self, delivery: Delivery, exchange: "Exchange") -> None:
        """Send as much of an answer as a fault lets through, and end the connection as it says."""
        ...


class Exchange(msgspec.Struct, eq=False):
    """Be one request and its answer on their way through a sandbox.

    ``headers_by_name`` are the last headers of each name. ``body`` is None until it is here, ``matched_faults`` until
    rules fire; ``is_journaled`` says that the journal has an entry of it. A struct of msgspec, as one is made for every
    call: a class of this size takes twice as long to make.
    """

    runtime: ContractRuntime
    sandbox: Sandbox
    credential: Credential | ApiError
    method: str
    raw_path: bytes
    query: bytes
    headers: RawHeaders
    headers_by_name: Mapping[bytes, bytes]
    ordinal: int
    request_id: str
    started_ns: int
    route_match: RouteMatch | None = None
    client: ClientKind = "none"
    body: bytes | None = None
    transaction_input: TransactionInput | None = None
    committed: bool = False
    transaction_number: int = 0
    error: ApiError | None = None
    response: Response | None = None
    delivery: Delivery | None = None
    rule_names: str = ""
    rule_phases: str = ""
    fault_cause: str = ""
    matched_faults: MatchedFaults | None = None
    is_journaled: bool = False

    @classmethod
    def begin(
        cls, runtime: ContractRuntime, sandbox: Sandbox, credential: Credential | ApiError, head: RequestHead
    ) -> Self:
        """Return the exchange of a request that has just come."""
        ordinal = sandbox.journal.next_ordinal()
        return cls(
            runtime,
            sandbox,
            credential,
            head.method,
            head.raw_path,
            head.query,
            head.headers,
            dict(head.headers),
            ordinal,
            f"req_{sandbox.name}_{ordinal}",
            perf_counter_ns(),
        )

    def respond_with_error(self, error: ApiError, *, status: int | None = None) -> Response:
        """Let the answer be a refusal, with a status of its own where one is given, and return it."""
        self.error = error
        response = self.response = error_response(self.runtime.contract, error, self.request_id, status=status)
        return response

    def fail_with_bug(self, bug: Exception) -> None:
        """Let the answer be an internal error, which the test that met it will raise."""
        self.sandbox.add_bug(bug)
        self.respond_with_error(InternalError(f"a bug of fake-credits: {type(bug).__name__}: {bug}"))

    def finish(self, *, delivered: bool) -> None:
        """Let the page that asked read the answer, where the contract does, and journal the exchange."""
        if self.response is not None and b"origin" in self.headers_by_name:
            self.runtime.cors.add_headers(self.headers, self.response.headers)
        self.journal(delivered=delivered)

    @property
    def label(self) -> str:
        """Return whose call it is, for people."""
        route_match = self.route_match
        if route_match is None:
            return f"{self.method} {escape_path(self.raw_path)}"
        return f"{route_match.operation.value} of {route_match.user_id or route_match.application_id}"

    def gate_ticket(self, resume: Callable[[], None]) -> GateTicket:
        """Return what a gate knows of this exchange; ``resume`` runs it on."""
        return GateTicket(
            "" if self.route_match is None else self.route_match.user_id, self.ordinal, self.label, resume
        )

    def authorize_and_execute(
        self, body: bytes, *, overrides: FaultOverrides | None = None, clock_skew_s: int = 0
    ) -> None:
        """Check the credential and do what was asked for, all under the sandbox's lock; raise the refusal."""
        with self.sandbox.lock:
            route_match = cast("RouteMatch", self.route_match)
            self._authorize(route_match, clock_skew_s)
            if route_match.id_error is not None:
                raise ValidationError(
                    f"{route_match.id_error.field} {route_match.id_error.problem}", details=(route_match.id_error,)
                )
            self.execute(body, overrides)

    def execute(self, body: bytes, overrides: FaultOverrides | None = None) -> None:
        """Do what was asked for once that is admitted; raise the refusal. The caller holds the sandbox's lock."""
        operation, application_id, user_id = cast("RouteMatch", self.route_match)[:3]
        call = OperationCall(
            self.runtime, self.sandbox, operation, application_id, user_id, self.headers, self.query, body, overrides
        )
        try:
            self.response = OPERATION_HANDLERS[operation](call)
        finally:
            self.committed, self.transaction_input, self.transaction_number = (
                call.committed,
                call.transaction_input,
                call.transaction_number,
            )

    def _authorize(self, route_match: RouteMatch, clock_skew_s: int) -> None:
        """Check credential and permission; existence comes later, so that a stranger learns nothing from it."""
        credential = self.credential
        if isinstance(credential, ApiError):
            raise credential
        self.client = credential.kind
        token = self.sandbox.authenticate(credential, skew_s=clock_skew_s)
        if token is None:
            self._authorize_api_key(route_match)
            return
        if route_match.operation.requires_api_key:
            message = f"{route_match.operation} needs the API key: a user's token reads its own user only"
            raise InsufficientScope(message, auth_reason="insufficient_scope")
        token.require_user(route_match.user_id)

    def _authorize_api_key(self, route_match: RouteMatch) -> None:
        key_applications = self.runtime.contract.key_applications
        if key_applications is not None and route_match.application_id not in key_applications:
            message = f"the API key may not touch application {route_match.application_id!r}"
            raise Forbidden(message, auth_reason="other_application")

    def abandon(self) -> None:
        """Journal the exchange as far as it has come, as its client has given it up; it may go on, and amend that."""
        if not self.is_journaled:
            self.journal(delivered=False)

    def journal(self, *, delivered: bool) -> None:
        """Journal the exchange as it stands; once more, that takes the place of the first time."""
        if not self.rule_names:
            self._write_journal_entry(delivered=delivered)
            return
        with self.sandbox.lock:  # whoever moves the clock may run it meanwhile
            self._write_journal_entry(delivered=delivered)

    def _requested_transaction(self) -> tuple[int | None, str]:
        """Return what the body of a transaction asks for, though nobody came to do it."""
        if self.body and self.route_match is not None and self.route_match.operation is Operation.CREATE_TRANSACTION:
            with suppress(ApiError):
                return self.runtime.codec.decode_transaction(self.body)
        return None, ""

    def _display_target(self) -> str:
        """Return path and query for people; the routes remember the paths of most calls."""
        if self.route_match is not None and not self.query:
            return self.route_match.printable_path
        return escape_path(self.raw_path + (b"?" + self.query if self.query else b""))

    def _write_journal_entry(self, *, delivered: bool) -> None:
        response, error, journal = self.response, self.error, self.sandbox.journal
        operation, application, user = _NO_ROUTE if self.route_match is None else self.route_match[:3]
        delta, reason = self.transaction_input or self._requested_transaction()
        idempotency_key = self.headers_by_name.get(b"idempotency-key", b"")
        entry = JournalEntry(  # by position, in the order of its fields: by name it would cost seven times as much
            self.ordinal,
            self.request_id,
            self.sandbox.clock.now_ms(),
            self.method,
            self._display_target(),
            str(operation),
            application[:_MAX_JOURNALED_CHARS],
            user[:_MAX_JOURNALED_CHARS],
            self.client,
            0 if response is None else response.status,
            "" if error is None else error.code,
            self.fault_cause or ("" if error is None else error_cause(error)),
            "" if error is None else error.message[:_MAX_JOURNALED_CHARS],
            delta,
            reason,
            f"txn_{self.transaction_number}" if self.transaction_number else "",
            self.committed,
            delivered,
            self.rule_names,
            self.rule_phases,
            idempotency_key.decode("latin-1")[:256] if idempotency_key else "",
            (perf_counter_ns() - self.started_ns) // 1000,
            self.sandbox.journal_headers.select(self.headers_by_name),
        )
        if self.is_journaled:
            journal.replace(entry)
        else:
            self.is_journaled = True
            journal.write(entry)
