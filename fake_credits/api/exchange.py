"""One request in a sandbox and its outcome: routing, authorization and the journal entry."""

from bisect import bisect_right
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Self, cast

import msgspec

from fake_credits.api.access import CorsPolicy
from fake_credits.api.codec import Codec, TransactionInput, error_cause, error_response
from fake_credits.api.routing import MAX_CACHED_PATH_BYTES, RouteMatch, RouteTable, escape_path
from fake_credits.clock import perf_counter_ns
from fake_credits.contract import MAX_BODY_BYTES, Contract, Operation
from fake_credits.errors import ApiError, Forbidden, InsufficientScope, InternalError, RouteNotFound
from fake_credits.faults.effects.base import CursorFault, Delivery
from fake_credits.faults.gates import GateTicket
from fake_credits.faults.waits import Body
from fake_credits.http_message import Request, Response
from fake_credits.journal import ClientKind, JournalEntry
from fake_credits.ledger import Account
from fake_credits.sandbox import Sandbox
from fake_credits.text import mask_query, truncate_with_hash
from fake_credits.tokens.credentials import Credential, CredentialReader

_PATHS_OF_NO_CLIENT = (b"/favicon.ico", b"/_fake", b"/.well-known")
"""Paths requested only by browsers and tools; a request for one doesn't suggest that a client's base URL is wrong."""
_NO_ROUTE = RouteMatch(cast("Operation", ""), "", "")
_MAX_JOURNALED_CHARS = 1000
"""Longer ids and messages are truncated, because a path can be 64 KiB long and the journal keeps 10,000 entries."""


class ContractRuntime:
    """A contract with its routes, codec, credential reader and CORS policy."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.routes = RouteTable(contract)
        self.credential_reader = CredentialReader(contract)
        self.codec = Codec(contract)
        self.cors = CorsPolicy(contract)


class FaultOverrides(msgspec.Struct):
    """The changes that a fault makes to an operation.

    A stale read does not see the transactions from the last ``stale_by_ms`` milliseconds, or the last
    ``stale_by_writes`` transactions. It always sees those that existed when the rule was added; ``history_lengths``
    holds their count for each application and user. A ``dry_run`` checks a write without applying it.
    """

    stale_by_ms: int = 0
    stale_by_writes: int = 0
    history_lengths: Mapping[tuple[str, str], int] | None = None
    cursor_fault: CursorFault | None = None
    dry_run: bool = False

    def visible_count(self, account: Account, now_ms: int) -> int:
        """Return how many of a user's transactions a read can see."""
        if self.history_lengths is None:
            return len(account)
        minimum = min(self.history_lengths.get((account.application_id, account.user_id), 0), len(account))
        if self.stale_by_writes:
            return max(minimum, len(account) - self.stale_by_writes)
        positions = range(minimum, len(account))
        return minimum + bisect_right(
            positions, now_ms - self.stale_by_ms, key=lambda position: account[position].at_ms
        )


class Exchange(msgspec.Struct, eq=False):
    """A request in a sandbox and its outcome.

    ``headers_by_name`` maps each header name to its last value. ``body`` is empty until it is read.
    ``transaction_number`` is the 1-based position of a committed transaction in its user's history. ``delivery`` is
    None for a normal response. This is a msgspec struct because one is created for every call, and creating an instance
    of an ordinary class would take twice as long.
    """

    runtime: ContractRuntime
    sandbox: Sandbox
    credential: Credential | ApiError
    request: Request
    path: bytes
    query: bytes
    headers_by_name: Mapping[bytes, bytes]
    ordinal: int
    request_id: str
    started_ns: int
    route_match: RouteMatch = _NO_ROUTE
    client: ClientKind = "none"
    body: bytes = b""
    overrides: FaultOverrides | None = None
    transaction_input: TransactionInput | None = None
    committed: bool = False
    transaction_number: int = 0
    error: ApiError | None = None
    response: Response | None = None
    delivery: Delivery | None = None
    rule_names: str = ""
    rule_phases: str = ""
    fault_cause: str = ""
    is_journaled: bool = False

    @classmethod
    def begin(
        cls, runtime: ContractRuntime, sandbox: Sandbox, credential: Credential | ApiError, request: Request
    ) -> Self:
        """Return the exchange for a request that has just arrived."""
        path, _, query = request.target.partition(b"?")
        ordinal, number = sandbox.journal.begin_exchange()
        return cls(
            runtime,
            sandbox,
            credential,
            request,
            path,
            query,
            dict(request.headers),
            ordinal,
            f"req_{sandbox.name}_{number}",
            perf_counter_ns(),
        )

    def match_route(self) -> None:
        """Find the operation for the request.

        Raises ``error`` if dispatch has set it; otherwise raises RouteNotFound, MethodNotAllowed or MalformedRequest if
        no operation matches.
        """
        if self.error is not None:
            raise self.error
        routes = self.runtime.routes
        match = routes.cached_match if len(self.path) <= MAX_CACHED_PATH_BYTES else routes.match
        try:
            self.route_match = match(self.request.method, self.path)
        except RouteNotFound as error:
            if self.path not in _PATHS_OF_NO_CLIENT:
                self.sandbox.add_problem(f"a request matched no operation: {error.message}", kind="unrouted")
            raise

    def must_wait_for_body(self) -> bool:
        """Store the body if it has arrived, and return whether a declared body is still missing.

        Raises PayloadTooLarge if the body, or its declared length, exceeds the limit.
        """
        headers, body = self.headers_by_name, self.request.body
        if b"content-length" not in headers and b"transfer-encoding" not in headers:
            return False
        if max(_declared_length(headers), len(body or b"")) > MAX_BODY_BYTES:
            raise Body(MAX_BODY_BYTES).too_large()
        self.body = body or b""
        if body is None and b"expect" in headers and not self.sandbox.faults:
            self.authorize()  # so that an unauthorized client isn't told to send its body
        return body is None

    def respond_with_error(self, error: ApiError, *, status: int | None = None) -> Response:
        """Set and return an error response, by default with the contract's status."""
        self.error = error
        response = self.response = error_response(self.runtime.contract, error, self.request_id, status=status)
        return response

    def fail_with_bug(self, bug: Exception) -> None:
        """Respond with an internal error, and record the bug so that the test fails."""
        self.sandbox.add_bug(bug)
        self.respond_with_error(InternalError(f"a bug in fake-credits: {type(bug).__name__}: {bug}"))

    def finish(self, *, is_connected: bool) -> None:
        """Complete the response, and journal the exchange."""
        response = self.response
        if response is not None:
            response.request_id = self.request_id
            if b"origin" in self.headers_by_name:
                self.runtime.cors.add_headers(self.request.headers, response.headers)
            if self.request.method == "HEAD":
                response.content_length, response.body = len(response.body), b""
        self.journal(delivered=is_connected and (self.delivery is None or self.delivery.is_complete))

    @property
    def label(self) -> str:
        """Return a label: the operation and its user or application, or the method and path if no route matched."""
        route_match = self.route_match
        if route_match is _NO_ROUTE:
            return f"{self.request.method} {escape_path(self.path)}"
        return f"{route_match.operation.value} for {route_match.user_id or route_match.application_id}"

    def gate_ticket(self, resume: Callable[[], None]) -> GateTicket:
        """Return the ticket for waiting at a gate; ``resume`` continues the exchange."""
        return GateTicket(self.route_match.user_id, self.ordinal, self.label, resume)

    def authorize(self, clock_skew_s: int = 0) -> None:
        """Check the credential and its permissions.

        Call this before checking any ids, so that unauthorized callers can't find out which users exist.
        """
        route_match, credential = self.route_match, self.credential
        if isinstance(credential, ApiError):
            raise credential
        self.client = credential.kind
        token = self.sandbox.authenticate(credential, skew_s=clock_skew_s)
        if token is None:
            self._authorize_api_key(route_match)
            return
        if route_match.operation.requires_api_key:
            message = f"{route_match.operation} requires the API key: a user's token can only read that user's own data"
            raise InsufficientScope(message, auth_reason="insufficient_scope")
        token.require_user(route_match.user_id)

    def _authorize_api_key(self, route_match: RouteMatch) -> None:
        key_applications = self.runtime.contract.key_applications
        if key_applications is not None and route_match.application_id not in key_applications:
            message = f"the API key has no access to application {route_match.application_id!r}"
            raise Forbidden(message, auth_reason="other_application")

    def abandon(self) -> None:
        """Journal an exchange abandoned by the client or server; if it continues, a later entry replaces this one."""
        if not self.is_journaled:
            self.journal(delivered=False)

    def journal(self, *, delivered: bool) -> None:
        """Journal the current state of the exchange, replacing any earlier entry."""
        if not self.rule_names:
            self._write_journal_entry(delivered=delivered)
            return
        with self.sandbox.lock:  # because a late write may journal the same exchange concurrently
            self._write_journal_entry(delivered=delivered)

    def requested_transaction(self) -> tuple[int | None, str]:
        """Return the delta and reason in the body, or None and "" if it is not a valid transaction."""
        if self.route_match.operation is Operation.CREATE_TRANSACTION:
            with suppress(ApiError):
                return self.runtime.codec.decode_transaction(self.body)
        return None, ""

    def _write_journal_entry(self, *, delivered: bool) -> None:
        response, error, sandbox = self.response, self.error, self.sandbox
        operation, application, user, _, target = self.route_match
        if self.query or not target:
            contract = self.runtime.contract
            target = escape_path(mask_query(self.request.target, (contract.cursor_parameter, contract.limit_parameter)))
        delta, reason = self.transaction_input or (self.requested_transaction() if self.body else (None, ""))
        idempotency_key = self.headers_by_name.get(b"idempotency-key", b"")
        entry = JournalEntry(  # positional, because keyword arguments take seven times as long
            self.ordinal,
            self.request_id,
            sandbox.clock.now_ms(),
            self.request.method,
            target,
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
            truncate_with_hash(idempotency_key.decode("latin-1")) if idempotency_key else "",
            (perf_counter_ns() - self.started_ns) // 1000,
            sandbox.journal_headers.select(self.headers_by_name),
        )
        if self.is_journaled:
            sandbox.journal.replace(entry)
        else:
            self.is_journaled = True
            sandbox.journal.write(entry)


def _declared_length(headers: Mapping[bytes, bytes]) -> int:
    """Return the Content-Length, or 0 if it is missing or invalid; reduce a huge value to just over the limit."""
    digits = headers.get(b"content-length", b"").lstrip(b"0")
    if not digits.isdigit():
        return 0
    return int(digits) if len(digits) < 10 else MAX_BODY_BYTES + 1  # int() rejects a string of thousands of digits
