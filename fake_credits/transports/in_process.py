"""The in-process transport: requests reach a sandbox without an event loop, a thread or a socket.

A request that waits suspends only on our own objects, so it is stepped by hand. An async caller passes one checkpoint
of its own loop before the decision and one after it; otherwise tasks would never interleave, and a check-then-act bug
would go unnoticed.
"""

import errno
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, cast

import msgspec
from anyio.lowlevel import checkpoint

from fake_credits.api.app import CONNECTION_EXTENSION
from fake_credits.api.exchange import Exchange, RequestHead
from fake_credits.api.pipeline import handle, handle_without_waiting
from fake_credits.http_message import AsgiMessage, RawHeaders, Response
from fake_credits.sandbox import Sandbox
from fake_credits.transports.virtual_time import SuspendedExchange, finish_without_client
from fake_credits.transports.waits import CHECKPOINT, ExchangeCoroutine, InProcessConnection, Outcome, resume

__all__ = [
    "IN_PROCESS_BASE_URL",
    "ConnectionFailure",
    "FailureKind",
    "InProcessApp",
    "InProcessDriver",
    "InProcessRequest",
    "InProcessResponse",
    "Outcome",
    "failure_of",
]

IN_PROCESS_BASE_URL = "http://credits.fake-credits.test"
"""Where the in-process clients believe to be; the name can't be resolved (RFC 6761, section 6.2)."""

_IN_PROCESS_HOST = IN_PROCESS_BASE_URL.removeprefix("http://")


class InProcessRequest(msgspec.Struct, frozen=True):
    """Be one request as bytes; ``target`` is path and query, header names are lower case.

    ``timeout_s`` is how long the client waits for the next byte; None waits for ever.
    """

    method: str
    target: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    timeout_s: float | None = None


class InProcessResponse(msgspec.Struct, frozen=True):
    """Be one answer as far as it came: ``status`` is 0 where no head did, ``body`` may be a part."""

    status: int
    headers: RawHeaders
    body: bytes
    outcome: Outcome = "whole"


class InProcessApp(Protocol):
    """Be an application that tells which requests are exchanges, and answers the others as ASGI has it."""

    def begin_exchange(self, sandbox: Sandbox, head: RequestHead) -> Exchange | None:
        """Return the exchange that a request is, None for one that is none."""
        ...

    def __call__(self, scope: AsgiMessage, receive: Any, send: Any) -> ExchangeCoroutine:
        """Answer a request."""
        ...


class InProcessDriver:
    """Carry requests to one sandbox."""

    def __init__(self, app: InProcessApp, sandbox: Sandbox) -> None:
        self._app = app
        self._sandbox = sandbox

    def __repr__(self) -> str:
        return f"<InProcess driver of {self._sandbox!r}>"

    def call(self, request: InProcessRequest) -> InProcessResponse:
        """Answer a request at once; what an injected delay takes passes on the sandbox's clock.

        Raises WouldHangForever where nothing would ever end the call.
        """
        head, exchange = self._begin_exchange(request)
        if exchange is not None and handle_without_waiting(exchange, request.body):
            return _finish_exchange(request, exchange)
        connection, coroutine = self._start_coroutine(request, head, exchange)
        wait = resume(coroutine, None)
        if wait is CHECKPOINT:
            wait = resume(coroutine, value=True)
        if wait is not None:
            SuspendedExchange(self._sandbox, connection, coroutine, request.timeout_s).finish(wait)
        return _response_of(request, connection)

    async def call_async(self, request: InProcessRequest) -> InProcessResponse:
        """Answer a request, with a checkpoint of the running loop before the decision and one after it.

        A caller that is cancelled at the first leaves no trace; at the second what was committed stands, and the
        journal says that it was not delivered.
        """
        await checkpoint()
        head, exchange = self._begin_exchange(request)
        if exchange is not None and handle_without_waiting(exchange, request.body):
            try:
                await checkpoint()
            except BaseException:
                exchange.finish(delivered=False)
                raise
            return _finish_exchange(request, exchange)
        connection, coroutine = self._start_coroutine(request, head, exchange)
        wait = resume(coroutine, None)
        if wait is CHECKPOINT:
            try:
                await checkpoint()
            except BaseException:
                finish_without_client(coroutine)
                raise
            wait = resume(coroutine, value=True)
        if wait is not None:
            await SuspendedExchange(self._sandbox, connection, coroutine, request.timeout_s).finish_async(wait)
        return _response_of(request, connection)

    def _begin_exchange(self, request: InProcessRequest) -> tuple[RequestHead, Exchange | None]:
        self._sandbox.fork_guard.check()
        raw_path, _, query = request.target.partition(b"?")
        headers = list(request.headers)
        if request.body and not any(name in (b"content-length", b"transfer-encoding") for name, _ in headers):
            headers.append((b"content-length", b"%d" % len(request.body)))
        head = RequestHead(request.method, raw_path, query, headers)
        return head, self._app.begin_exchange(self._sandbox, head)

    def _start_coroutine(
        self, request: InProcessRequest, head: RequestHead, exchange: Exchange | None
    ) -> tuple[InProcessConnection, ExchangeCoroutine]:
        connection = InProcessConnection(self._sandbox, request.body)
        if exchange is not None:
            return connection, handle(exchange, connection, connection.asgi_receive, is_decided=False)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": head.method,
            "scheme": "http",
            "path": head.raw_path.decode("latin-1"),
            "raw_path": head.raw_path,
            "query_string": head.query,
            "root_path": "",
            "headers": head.headers,
            "server": (_IN_PROCESS_HOST, 80),
            "client": None,
            "extensions": {CONNECTION_EXTENSION: connection},
        }
        return connection, self._app(scope, connection.asgi_receive, connection.asgi_send)


def _finish_exchange(request: InProcessRequest, exchange: Exchange) -> InProcessResponse:
    """Return the answer of an exchange that nothing came between."""
    exchange.finish(delivered=True)
    response = cast("Response", exchange.response)
    body = b"" if request.method == "HEAD" else response.body
    return InProcessResponse(response.status, response.full_headers(exchange.request_id), body)


def _response_of(request: InProcessRequest, connection: InProcessConnection) -> InProcessResponse:
    return InProcessResponse(
        connection.status,
        connection.headers,
        b"" if request.method == "HEAD" else b"".join(connection.body_chunks),
        connection.outcome,
    )


FailureKind = Literal["timeout", "read", "protocol"]
"""The kinds of failure that the httpx family tells apart."""

_FAILURE_KINDS: Mapping[Outcome, FailureKind] = {
    "timeout": "timeout",
    "reset": "read",
    "closed": "protocol",
    "garbage": "protocol",
}


class ConnectionFailure(NamedTuple):
    """Be a failure: its kind, and what to say."""

    kind: FailureKind
    message: str


def failure_of(response: InProcessResponse) -> ConnectionFailure:
    """Return the failure of an answer that is not whole."""
    kind = _FAILURE_KINDS[response.outcome]
    if response.outcome == "reset":
        return ConnectionFailure(kind, f"[Errno {errno.ECONNRESET}] Connection reset by peer")
    if response.outcome == "garbage":
        return ConnectionFailure(kind, "illegal status line")
    if response.outcome == "timeout":
        return ConnectionFailure(kind, "timed out")
    if not response.status:
        return ConnectionFailure(kind, "Server disconnected without sending a response.")
    content_length = next((value.decode() for name, value in response.headers if name == b"content-length"), "more")
    received = f"received {len(response.body)} bytes, expected {content_length}"
    return ConnectionFailure(kind, f"peer closed connection without sending complete message body ({received})")
