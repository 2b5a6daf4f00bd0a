"""Own one request and its answer: what is known of them, the decision, and the entry of the journal.

It knows nothing of sockets, of waits or of what faults do.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol, Self, cast

import msgspec

from fake_credits.auth.credentials import Credential
from fake_credits.clock import stopwatch_ns
from fake_credits.contract import Operation
from fake_credits.errors import ApiError, Forbidden, InsufficientScope, InternalError, ValidationError
from fake_credits.faults.gates import Hold, Ticket
from fake_credits.faults.plan import Shot
from fake_credits.faults.stage import Wire
from fake_credits.journal import Client, Entry
from fake_credits.ledger import Ledger
from fake_credits.sandbox import Sandbox
from fake_credits.web.answer import Answer, Headers
from fake_credits.web.errors import cause_of, render
from fake_credits.web.operations import OPERATIONS, Bent, Request
from fake_credits.web.routing import Matched, escape
from fake_credits.web.service import Service
from fake_credits.web.wire import Order

__all__ = ["Asked", "Exchange", "Line", "Met", "Withdrawn"]

_NOWHERE = ("", "", "")
_SHOWN = 1000
"""So many characters of an id or a message are journalled: a path can have 64 KiB, and 10,000 entries are kept."""


class Withdrawn(BaseException):
    """End an exchange that waits, as its server stops: no answer, and no error either."""


class Asked(msgspec.Struct, eq=False):
    """Be a request as it came; the headers' names are in lower case."""

    method: str
    raw_path: bytes
    query: bytes
    headers: Headers


class Met(NamedTuple):
    """Be the rules that fire for an exchange, in their order, and the world that they are of."""

    shots: Sequence[Shot]
    world: Ledger


class Line(Protocol):
    """Be what the driver lends to an exchange: whose it is, whether the client still listens, and how to wait."""

    @property
    def sandbox(self) -> Sandbox | None:
        """Return the driver's own sandbox, None where the credential names it."""
        ...

    def refusal(self, raw_path: bytes, headers: Headers, /) -> ApiError | None:
        """Return why this request is refused before all else (its Host), None where it is not."""
        ...

    def body(self) -> bytes | None:
        """Return the whole body where it is here already, None where it is still to be received."""
        ...

    async def sleep(self, ms: float, exchange: "Exchange") -> None:
        """Let milliseconds pass, never fewer; a client that gives up meanwhile is told to the exchange."""
        ...

    async def hold(self, gate: Hold, exchange: "Exchange") -> bool:
        """Wait until the gate lets the exchange go, and return True; False at the gate's limit."""
        ...

    def remind(self, ms: float, sandbox: Sandbox) -> None:
        """See to it that what is due by then is run, where nobody may come to do it."""
        ...

    async def deliverable(self) -> bool:
        """Tell, just before the answer's first byte, whether the client is still there."""
        ...

    async def deliver(self, answer: Answer, request_id: str) -> None:
        """Send a whole answer."""
        ...

    async def break_off(self, wire: Wire, exchange: "Exchange") -> None:
        """Send as much of an answer as a fault lets through, and end the connection as it says."""
        ...


class Exchange(msgspec.Struct, eq=False):
    """Be one request and its answer on their way through a sandbox.

    ``fields`` are its headers by name, the last of each. ``body`` is None until it is here, ``met`` until rules fire;
    ``noted`` says that the journal has an entry of it. A struct of msgspec, as one is made for every call: a class of
    this size takes twice as long to make.
    """

    service: Service
    sandbox: Sandbox
    credential: Credential | ApiError
    method: str
    raw_path: bytes
    query: bytes
    headers: Headers
    fields: Mapping[bytes, bytes]
    ordinal: int
    request_id: str
    started_ns: int
    matched: Matched | None = None
    client: Client = "none"
    body: bytes | None = None
    order: Order | None = None
    committed: bool = False
    transaction: int = 0
    refusal: ApiError | None = None
    answer: Answer | None = None
    wire: Wire | None = None
    rule: str = ""
    phase: str = ""
    fault: str = ""
    met: Met | None = None
    noted: bool = False

    @classmethod
    def begin(cls, service: Service, sandbox: Sandbox, credential: Credential | ApiError, asked: Asked) -> Self:
        """Return the exchange of a request that has just come."""
        ordinal = sandbox.journal.next_ordinal()
        return cls(
            service,
            sandbox,
            credential,
            asked.method,
            asked.raw_path,
            asked.query,
            asked.headers,
            dict(asked.headers),
            ordinal,
            f"req_{sandbox.name}_{ordinal}",
            stopwatch_ns(),
        )

    def refuse(self, refusal: ApiError, *, status: int | None = None) -> Answer:
        """Let the answer be a refusal, with a status of its own where one is given, and return it."""
        self.refusal = refusal
        answer = self.answer = render(self.service.contract, refusal, self.request_id, status=status)
        return answer

    def blame(self, bug: Exception) -> None:
        """Let the answer be an internal error, which the test that met it will raise."""
        self.sandbox.remember(bug)
        self.refuse(InternalError(f"a bug of fake-credits: {type(bug).__name__}: {bug}"))

    def conclude(self, *, delivered: bool) -> None:
        """Let the page that asked read the answer, where the contract does, and journal the exchange."""
        if self.answer is not None and b"origin" in self.fields:
            self.service.cors.mark(self.headers, self.answer.headers)
        self.record(delivered=delivered)

    @property
    def shown(self) -> str:
        """Return whose call it is, for people."""
        matched = self.matched
        if matched is None:
            return f"{self.method} {escape(self.raw_path)}"
        return f"{matched.operation.value} of {matched.user_id or matched.application_id}"

    def ticket(self, go: Callable[[], None]) -> Ticket:
        """Return what a gate knows of this exchange; ``go`` runs it on."""
        return Ticket("" if self.matched is None else self.matched.user_id, self.ordinal, self.shown, go)

    def decide(self, body: bytes, *, bent: Bent | None = None, skew_s: int = 0) -> None:
        """Check the credential and do what was asked for, all under the sandbox's lock; raise the refusal."""
        with self.sandbox.lock:
            matched = cast("Matched", self.matched)
            self._admit(matched, skew_s)
            if matched.flaw is not None:
                raise ValidationError(f"{matched.flaw.field} {matched.flaw.problem}", details=(matched.flaw,))
            self.operate(body, bent)

    def operate(self, body: bytes, bent: Bent | None = None) -> None:
        """Do what was asked for once that is admitted; raise the refusal. The caller holds the sandbox's lock."""
        operation, application_id, user_id = cast("Matched", self.matched)[:3]
        request = Request(
            self.service, self.sandbox, operation, application_id, user_id, self.headers, self.query, body, bent
        )
        try:
            self.answer = OPERATIONS[operation](request)
        finally:
            self.committed, self.order, self.transaction = request.committed, request.order, request.transaction

    def _admit(self, matched: Matched, skew_s: int) -> None:
        """Check credential and permission; existence comes later, so that a stranger learns nothing from it."""
        credential = self.credential
        if isinstance(credential, ApiError):
            raise credential
        self.client = credential.kind
        token = self.sandbox.authenticate(credential, skew_s=skew_s)
        if token is None:
            self._admit_key(matched)
            return
        if matched.operation.server_only:
            message = f"{matched.operation} needs the API key: a user's token reads its own user only"
            raise InsufficientScope(message, why="insufficient_scope")
        token.require_user(matched.user_id)

    def _admit_key(self, matched: Matched) -> None:
        allowed = self.service.contract.key_applications
        if allowed is not None and matched.application_id not in allowed:
            message = f"the API key may not touch application {matched.application_id!r}"
            raise Forbidden(message, why="other_application")

    def leave_behind(self) -> None:
        """Journal the exchange as far as it has come, as its client has given it up; it may go on, and amend that."""
        if not self.noted:
            self.record(delivered=False)

    def record(self, *, delivered: bool) -> None:
        """Journal the exchange as it stands; once more, that takes the place of the first time."""
        if not self.rule:
            self._record(delivered=delivered)
            return
        with self.sandbox.lock:  # whoever moves the clock may run it meanwhile
            self._record(delivered=delivered)

    def _asked(self) -> tuple[int | None, str]:
        """Return what the body of a transaction asks for, though nobody came to do it."""
        if self.body and self.matched is not None and self.matched.operation is Operation.CREATE_TRANSACTION:
            with suppress(ApiError):
                return self.service.codec.order(self.body)
        return None, ""

    def _target(self) -> str:
        """Return path and query for people; the routes remember the paths of most calls."""
        if self.matched is not None and not self.query:
            return self.matched.shown
        return escape(self.raw_path + (b"?" + self.query if self.query else b""))

    def _record(self, *, delivered: bool) -> None:
        answer, refusal, journal = self.answer, self.refusal, self.sandbox.journal
        operation, application, user = _NOWHERE if self.matched is None else self.matched[:3]
        delta, reason = self.order or self._asked()
        key = self.fields.get(b"idempotency-key", b"")
        entry = Entry(  # by position, in the order of its fields: by name it would cost seven times as much
            self.ordinal,
            self.request_id,
            self.sandbox.clock.now_ms(),
            self.method,
            self._target(),
            str(operation),
            application[:_SHOWN],
            user[:_SHOWN],
            self.client,
            0 if answer is None else answer.status,
            "" if refusal is None else refusal.code,
            self.fault or ("" if refusal is None else cause_of(refusal)),
            "" if refusal is None else refusal.message[:_SHOWN],
            delta,
            reason,
            f"txn_{self.transaction}" if self.transaction else "",
            self.committed,
            delivered,
            self.rule,
            self.phase,
            key.decode("latin-1")[:256] if key else "",
            (stopwatch_ns() - self.started_ns) // 1000,
            self.sandbox.kept_headers.of(self.fields),
        )
        if self.noted:
            journal.amend(entry)
        else:
            self.noted = True
            journal.write(entry)
