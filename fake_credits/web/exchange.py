"""Own the way of one request through a sandbox, top to bottom; know nothing of sockets or of how time passes.

    pick the sandbox → route → method → body, bounded → credential → permission → ids → body decoded → ledger
    → is the client still there? → journal → answer

The order is README's, "The API". Each refusal leaves the ledger as it was.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from fake_credits.auth.credentials import Credential
from fake_credits.clock import stopwatch_ns
from fake_credits.contract import BODY_LIMIT_BYTES, Operation
from fake_credits.errors import (
    ApiError,
    Forbidden,
    InsufficientScope,
    InternalError,
    MalformedRequest,
    PayloadTooLarge,
)
from fake_credits.journal import Client, Entry
from fake_credits.sandbox import Sandbox
from fake_credits.web.answer import Answer, Headers, Message
from fake_credits.web.errors import cause_of, render
from fake_credits.web.operations import OPERATIONS, Request
from fake_credits.web.routing import Matched, escape
from fake_credits.web.service import Service
from fake_credits.web.wire import Order

__all__ = ["Exchange", "Line", "Receive"]

_SHOWN = 1000
"""So many characters of an id or a message are journalled: a path can have 64 KiB, and 10,000 entries are kept."""

Receive = Callable[[], Awaitable[Message]]


class Line(Protocol):
    """Be what the driver lends to an exchange: whose it is, and whether the client still listens."""

    @property
    def sandbox(self) -> Sandbox | None:
        """Return the driver's own sandbox, None where the credential names it."""
        ...

    def refusal(self, raw_path: bytes, headers: Headers) -> ApiError | None:
        """Return why this request is refused before all else (its Host), None where it is not."""
        ...

    def body(self) -> bytes | None:
        """Return the whole body where it is here already, None where it is still to be received."""
        ...

    async def deliverable(self) -> bool:
        """Tell, just before the answer's first byte, whether the client is still there."""
        ...

    async def deliver(self, answer: Answer, request_id: str) -> None:
        """Send a whole answer."""
        ...


class Exchange:
    """Be one request and its answer on their way through a sandbox."""

    __slots__ = (
        "client",
        "committed",
        "credential",
        "fields",
        "headers",
        "matched",
        "method",
        "order",
        "ordinal",
        "query",
        "raw_path",
        "request_id",
        "sandbox",
        "service",
        "started_ns",
    )

    def __init__(self, service: Service, sandbox: Sandbox, scope: Message, credential: Credential | ApiError) -> None:
        self.started_ns = stopwatch_ns()
        self.service = service
        self.sandbox = sandbox
        self.credential = credential
        self.headers: Headers = scope["headers"]
        self.fields = dict(self.headers)
        self.method: str = scope["method"]
        self.raw_path: bytes = scope["raw_path"]
        self.query: bytes = scope["query_string"]
        self.ordinal = sandbox.journal.next_ordinal()
        self.request_id = f"req_{sandbox.name}_{self.ordinal}"
        self.matched: Matched | None = None
        self.client: Client = "none"
        self.order: Order | None = None
        self.committed = False

    async def run(self, line: Line, receive: Receive, refusal: ApiError | None = None) -> None:
        """Answer the request, with ``refusal`` where it is refused already, and journal it."""
        answer: Answer | None = None
        try:
            if refusal is None:
                answer = await self._answer(line, receive)
        except ApiError as error:
            refusal = error.with_traceback(None)  # it would hold this frame, and the frame it
        except Exception as bug:  # noqa: BLE001 - remembered, and raised again in the test that met it
            self.sandbox.remember(bug)
            refusal = InternalError(f"a bug of fake-credits: {type(bug).__name__}: {bug}")
        delivered = await line.deliverable()
        if answer is None:
            answer = self.refuse(refusal or InternalError("no answer"), delivered=delivered)
        else:
            self._record(answer, None, delivered=delivered)
        await line.deliver(answer, self.request_id)

    def refuse(self, refusal: ApiError, *, delivered: bool = True) -> Answer:
        """Return the answer for a refusal, and journal it."""
        answer = render(self.service.contract, refusal, self.request_id)
        self._record(answer, refusal, delivered=delivered)
        return answer

    async def _answer(self, line: Line, receive: Receive) -> Answer:
        self.matched = self.service.routes.match(self.method, self.raw_path)
        announced = _announced_length(self.fields)
        body = await _read_body(announced, line, receive) if announced else b""
        with self.sandbox.lock:
            self._admit(self.matched)
            self._check_ids(self.matched)
            request = Request(self.service, self.sandbox, self.matched)
            request.headers, request.query, request.body = self.headers, self.query, body
            try:
                return OPERATIONS[self.matched.operation](request)
            finally:
                self.committed, self.order = request.committed, request.order

    def _admit(self, matched: Matched) -> None:
        """Check credential and permission; existence comes later, so that a stranger learns nothing from it."""
        credential = self.credential
        if isinstance(credential, ApiError):
            raise credential
        self.client = credential.kind
        token = self.sandbox.authenticate(credential)
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

    def _check_ids(self, matched: Matched) -> None:
        self.service.check_id("applicationId", matched.application_id)
        if matched.operation is not Operation.LIST_USERS:
            self.service.check_id("userId", matched.user_id)

    def _record(self, answer: Answer, refusal: ApiError | None, *, delivered: bool) -> None:
        if b"origin" in self.fields:
            self.service.cors.mark(self.headers, answer.headers)
        matched = self.matched
        entry = Entry(
            ordinal=self.ordinal,
            request_id=self.request_id,
            at_ms=self.sandbox.clock.now_ms(),
            method=self.method,
            target=escape(self.raw_path + (b"?" + self.query if self.query else b"")),
            operation="" if matched is None else matched.operation.value,
            application="" if matched is None else matched.application_id[:_SHOWN],
            user="" if matched is None else matched.user_id[:_SHOWN],
            client=self.client,
            status=answer.status,
            code="" if refusal is None else refusal.code,
            cause="" if refusal is None else cause_of(refusal),
            message="" if refusal is None else refusal.message[:_SHOWN],
            delta=None if self.order is None else self.order[0],
            reason="" if self.order is None else self.order[1],
            committed=self.committed,
            delivered=delivered,
            idempotency_key=self.fields.get(b"idempotency-key", b"").decode("latin-1")[:256],
            duration_us=(stopwatch_ns() - self.started_ns) // 1000,
        )
        self.sandbox.journal.write(entry)


async def _read_body(announced: int, line: Line, receive: Receive) -> bytes:
    """Return the whole body; raise PayloadTooLarge as soon as it is known to be over the limit."""
    whole = line.body()
    if max(announced, len(whole or b"")) > BODY_LIMIT_BYTES:
        raise _too_large()
    if whole is not None:
        return whole
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise MalformedRequest("the client hung up before the body was whole")
        body += bytes(message.get("body", b""))
        if len(body) > BODY_LIMIT_BYTES:
            raise _too_large()
        if not message.get("more_body", False):
            return body


def _announced_length(fields: Mapping[bytes, bytes]) -> int:
    """Return Content-Length, 1 where a body of unknown length follows, 0 where none does."""
    length = fields.get(b"content-length")
    if length is not None:
        return _length(length)
    return 1 if b"transfer-encoding" in fields else 0


def _length(value: bytes) -> int:
    if not value.isdigit():
        return 1
    digits = value.lstrip(b"0")
    # int() refuses thousands of digits.
    return int(digits or b"0") if len(digits) < 10 else BODY_LIMIT_BYTES + 1


def _too_large() -> PayloadTooLarge:
    return PayloadTooLarge(f"a body may have at most {BODY_LIMIT_BYTES} bytes (64 KiB)")
