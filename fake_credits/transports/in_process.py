"""The in-process transport: requests reach a sandbox without an event loop, a thread or a socket.

A request's coroutine awaits only this package's own objects, so the driver can step through it directly. An async
caller yields to its event loop once before the operation and once after it; otherwise tasks would never interleave, and
check-then-act bugs would go unnoticed.
"""

import errno
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from anyio.lowlevel import checkpoint

from fake_credits.api.app import SANDBOX_KEY, CreditsApplication
from fake_credits.api.exchange import Exchange
from fake_credits.api.pipeline import dispatch, handle
from fake_credits.concurrency import CURRENT_PROCESS
from fake_credits.contract import Operation
from fake_credits.errors import ApiError, ConnectionLost, Timeout, TransportFailure
from fake_credits.faults.waits import CHECKPOINT, Body, Forever, Wait, resume, run_to_wait
from fake_credits.http_message import (
    AsgiMessage,
    Outcome,
    Request,
    Response,
    http_date,
    http_scope,
    unknown_effect_message,
)
from fake_credits.sandbox import Sandbox
from fake_credits.transports.virtual_time import SuspendedExchange, finish_without_client

IN_PROCESS_BASE_URL = "http://credits.fake-credits.test"
"""The base URL of the in-process clients; its host never resolves (RFC 6761, section 6.2)."""

_IN_PROCESS_HOST = IN_PROCESS_BASE_URL.removeprefix("http://")


CALLING_TASK = ContextVar[object]("CALLING_TASK", default=None)
"""The task that made a request, if a different task responds to it; set only in the task that responds."""


class InProcessConnection:
    """The client's end of one request, which collects the response until it is complete or the client gives up."""

    __slots__ = ("_chunks", "_response", "outcome")

    def __init__(self) -> None:
        self._response: Response | None = None
        self._chunks: list[bytes] | None = None
        self.outcome: Outcome = "whole"

    @property
    def is_complete(self) -> bool:
        """Return whether the client has received the complete response; the connection may still break later."""
        if self._response is None or self.outcome != "whole":
            return False
        return self._chunks is None or sum(map(len, self._chunks)) == len(self._response.body)

    def result(self, date: bytes) -> Response:
        """Return the response, or the part of it that was received."""
        response = self._response
        if response is None:
            return Response(0, b"".join(self._chunks or ()), outcome=self.outcome)
        headers, outcome = response.full_headers(date), self.outcome
        if self._chunks is not None:
            return Response(response.status, b"".join(self._chunks), headers, outcome=outcome)
        response.headers, response.outcome = headers, outcome
        return response

    def end_with(self, outcome: Outcome) -> None:
        """End the response with an outcome, unless it has already ended."""
        if self.outcome == "whole":
            self.outcome = outcome

    def send(self, response: Response) -> None:
        """Receive a whole response."""
        if self.outcome == "whole":  # otherwise the client has already given up
            self._response = response

    def start(self, response: Response) -> None:
        """Receive the head of a response."""
        if self.outcome == "whole":
            self._response, self._chunks = response, []

    def write(self, data: bytes) -> None:
        """Receive part of the body, or bytes that are not HTTP."""
        if self.outcome == "whole":
            self._chunks = [*(self._chunks or ()), data]

    def end(self) -> None:
        """Do nothing, because the end of the body is known from its length."""

    def close(self) -> None:
        """Record that the connection was closed, unless the response is complete."""
        if not self.is_complete:
            self.end_with("garbage" if self._chunks and self._response is None else "closed")

    def reset(self) -> None:
        """Record that the connection was reset, unless the response is complete."""
        if not self.is_complete:
            self.end_with("reset")

    def call_later(self, ms: float, callback: Callable[[], object]) -> None:
        """Do nothing; moving the clock or sending the next request runs the timers that are due."""


class InProcessDriver:
    """A driver that carries requests to one sandbox."""

    def __init__(self, app: CreditsApplication, sandbox: Sandbox) -> None:
        self._app = app
        self._runtime = app.runtime
        self._sandbox = sandbox

    def call(self, request: Request, error: ApiError | None = None) -> Response:
        """Return the response; injected delays advance the sandbox's clock.

        ``error`` is the reason for rejecting an unreadable request. If ``request.body`` is None, a declared body
        never arrives, so the client waits until it times out. Raises WouldHangForever if nothing would end the call.
        """
        exchange = self._dispatch(request, error)
        if not isinstance(exchange, Exchange):
            return exchange
        connection = InProcessConnection()
        coroutine = handle(exchange, connection)
        wait = run_to_wait(coroutine, None)
        if wait is CHECKPOINT:
            wait = run_to_wait(coroutine, value=True)
        if wait is not None:
            SuspendedExchange(exchange, connection, coroutine, request.timeout_s).finish(_endless_if_body(wait))
        return connection.result(self._date())

    async def call_async(self, request: Request, error: ApiError | None = None) -> Response:
        """Return the response as `call` does, yielding to the running event loop before and after the operation.

        If the first yield is cancelled, the operation does not run. If the second one is cancelled, a committed write
        stays committed, and the journal shows that the response was not delivered.
        """
        await checkpoint()
        if (hold_exchange := self._sandbox.hooks.hold_exchange) is not None:
            await hold_exchange()
        exchange = self._dispatch(request, error)
        if not isinstance(exchange, Exchange):
            return exchange
        connection = InProcessConnection()
        coroutine = handle(exchange, connection)
        wait = run_to_wait(coroutine, None)
        if wait is CHECKPOINT:
            try:
                await checkpoint()
            except BaseException:
                finish_without_client(coroutine)
                raise
            wait = run_to_wait(coroutine, value=True)
        if wait is not None:
            suspended = SuspendedExchange(exchange, connection, coroutine, request.timeout_s)
            await suspended.finish_async(_endless_if_body(wait))
        return connection.result(self._date())

    def find_path_end(self, method: str, path: bytes) -> tuple[Operation, bytes] | None:
        """Return the operation matching the end of ``path``, and the part before it; return None if nothing matches."""
        return self._runtime.routes.find_path_end(method, path)

    def _dispatch(self, request: Request, error: ApiError | None) -> Exchange | Response:
        guard = self._sandbox.fork_guard
        if guard.process_id != CURRENT_PROCESS.process_id:  # calling `check()` for every request would be slower
            guard.check()
        if request.body and not any(name in (b"content-length", b"transfer-encoding") for name, _ in request.headers):
            length = (b"content-length", b"%d" % len(request.body))
            request = Request(request.method, request.target, [*request.headers, length], request.body)
        target = dispatch(self._runtime, request, self._sandbox, error)
        if target is None:
            return self._serve_internal(request)
        if isinstance(target, Response):
            target.headers = target.full_headers(self._date())
        return target

    def _date(self) -> bytes:
        return http_date(self._sandbox.clock.now_ms() // 1000)

    def _serve_internal(self, request: Request) -> Response:
        scope = http_scope(request, scheme="http", server=(_IN_PROCESS_HOST, 80), client=None)
        scope[SANDBOX_KEY] = self._sandbox
        response = Response(0)

        async def receive() -> AsgiMessage:
            return {"type": "http.request", "body": request.body or b"", "more_body": False}

        async def send(message: AsgiMessage) -> None:
            if message["type"] == "http.response.start":
                response.status, response.headers = message["status"], list(message["headers"])
            elif request.method != "HEAD":
                response.body += message.get("body", b"")

        wait: Wait | None = resume(self._app.serve_internal(scope, receive, send), None)
        assert wait is None, wait  # noqa: S101 - requests to these paths never wait
        if not any(name == b"date" for name, _ in response.headers):
            response.headers.insert(0, (b"date", self._date()))
        return response


def _endless_if_body(wait: Wait) -> Wait:
    """Turn a wait for a body that will never arrive into an endless wait; return other waits unchanged."""
    return Forever() if isinstance(wait, Body) else wait


class InProcessTransport:
    """A transport that carries a client's requests to one sandbox."""

    def __init__(self, driver: InProcessDriver, request_ids: deque[str] | None = None) -> None:
        self._driver = driver
        self._request_ids = deque[str](maxlen=0) if request_ids is None else request_ids

    def send(self, request: Request) -> Response:
        """Return the sandbox's response, and record its request id."""
        response = self._driver.call(request)
        self._request_ids.append(response.request_id)
        return _whole(request, response)

    def close(self) -> None:
        """Do nothing, because there is nothing to close."""


class AsyncInProcessTransport:
    """The async version of `InProcessTransport`, for asyncio and trio."""

    def __init__(self, driver: InProcessDriver, request_ids: deque[str] | None = None) -> None:
        self._driver = driver
        self._request_ids = deque[str](maxlen=0) if request_ids is None else request_ids

    async def send(self, request: Request) -> Response:
        """Return the sandbox's response; tasks interleave as they would over a network."""
        response = await self._driver.call_async(request)
        self._request_ids.append(response.request_id)
        return _whole(request, response)

    async def aclose(self) -> None:
        """Do nothing, because there is nothing to close."""


def _whole(request: Request, response: Response) -> Response:
    if response.outcome != "whole":
        raise _transport_failure(request, response)
    return response


def _transport_failure(request: Request, response: Response) -> TransportFailure:
    """Return the exception that the client would raise over a network, with the same ``__cause__``."""
    import httpx2  # needed only for faults

    error = httpx_error(httpx2, response)
    problem = f"no response within {request.timeout_s:g} s" if response.outcome == "timeout" else str(error)
    error_class = Timeout if response.outcome == "timeout" else ConnectionLost
    failure = error_class(unknown_effect_message(IN_PROCESS_BASE_URL, request, f"{problem} ({type(error).__name__})"))
    failure.__cause__ = error
    return failure


_ERROR_NAMES: Mapping[Outcome, str] = {
    "timeout": "ReadTimeout",
    "reset": "ReadError",
    "closed": "RemoteProtocolError",
    "garbage": "RemoteProtocolError",
}


def httpx_error(library: Any, response: Response) -> Exception:
    """Return the ``httpx`` or ``httpx2`` exception for an incomplete response, with the library's own message."""
    if response.outcome == "reset":
        message = f"[Errno {errno.ECONNRESET}] Connection reset by peer"
    elif response.outcome == "garbage":
        message = "illegal status line"
    elif response.outcome == "timeout":
        message = "timed out"
    elif not response.status:
        message = "Server disconnected without sending a response."
    else:
        received = f"received {len(response.body)} bytes, expected {response.header(b'content-length') or 'more'}"
        message = f"peer closed connection without sending complete message body ({received})"
    error: Exception = getattr(library, _ERROR_NAMES[response.outcome])(message)
    return error
