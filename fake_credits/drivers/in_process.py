"""Own the in-process driver: it decides a request at once, or steps the coroutine of one that has to wait by hand.

No event loop, no thread, no socket. What waits does so for nothing but our own objects, so one ``send(None)`` runs
a request to the moment before its answer's first byte; an async caller passes a checkpoint of its own loop there and
one before the decision, or tasks would never interleave and a check-then-act bug would stay green.
"""

from collections.abc import Sequence
from typing import Any, Protocol, cast

import msgspec
from anyio.lowlevel import checkpoint

from fake_credits.drivers.parking import Parked, abandon
from fake_credits.drivers.steps import CHECKPOINT, Call, End, Steps, step
from fake_credits.sandbox import Sandbox
from fake_credits.web.answer import Answer, Headers, Message
from fake_credits.web.app import EXTENSION
from fake_credits.web.exchange import Asked, Exchange
from fake_credits.web.way import attempt, go

__all__ = ["BASE_URL", "Application", "End", "InProcess", "Outgoing", "Reply"]

BASE_URL = "http://credits.fake-credits.test"
"""Where the in-process clients believe to be; the name can't be resolved (RFC 6761, section 6.2)."""

_HOST = BASE_URL.removeprefix("http://")


class Outgoing(msgspec.Struct, frozen=True):
    """Be one request as bytes; ``target`` is path and query, header names are lower case.

    ``timeout_s`` is how long the client waits for the next byte; None waits for ever.
    """

    method: str
    target: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    timeout_s: float | None = None


class Reply(msgspec.Struct, frozen=True):
    """Be one answer as far as it came: ``status`` is 0 where no head did, ``body`` may be a part."""

    status: int
    headers: Headers
    body: bytes
    end: End = "whole"


class Application(Protocol):
    """Be an application that tells which requests are exchanges, and answers the others as ASGI has it."""

    def begin(self, sandbox: Sandbox, asked: Asked) -> Exchange | None:
        """Return the exchange that a request is, None for one that is none."""
        ...

    def __call__(self, scope: Message, receive: Any, send: Any) -> Steps:
        """Answer a request."""
        ...


class InProcess:
    """Carry requests to one sandbox."""

    def __init__(self, app: Application, sandbox: Sandbox) -> None:
        self._app = app
        self._sandbox = sandbox

    def __repr__(self) -> str:
        return f"<InProcess driver of {self._sandbox!r}>"

    def call(self, request: Outgoing) -> Reply:
        """Answer a request at once; what an injected delay takes passes on the sandbox's clock.

        Raises WouldHangForever where nothing would ever end the call.
        """
        asked, exchange = self._begin(request)
        if exchange is not None and attempt(exchange, request.body):
            return _answered(request, exchange)
        call, steps = self._steps(request, asked, exchange)
        wait = step(steps, None)
        if wait is CHECKPOINT:
            wait = step(steps, value=True)
        if wait is not None:
            Parked(self._sandbox, call, steps, request.timeout_s).finish(wait)
        return _reply(request, call)

    async def call_async(self, request: Outgoing) -> Reply:
        """Answer a request, with a checkpoint of the running loop before the decision and one after it.

        A caller that is cancelled at the first leaves no trace; at the second what was committed stands, and the
        journal says that it was not delivered.
        """
        await checkpoint()
        asked, exchange = self._begin(request)
        if exchange is not None and attempt(exchange, request.body):
            try:
                await checkpoint()
            except BaseException:
                exchange.conclude(delivered=False)
                raise
            return _answered(request, exchange)
        call, steps = self._steps(request, asked, exchange)
        wait = step(steps, None)
        if wait is CHECKPOINT:
            try:
                await checkpoint()
            except BaseException:
                abandon(steps)
                raise
            wait = step(steps, value=True)
        if wait is not None:
            await Parked(self._sandbox, call, steps, request.timeout_s).finish_async(wait)
        return _reply(request, call)

    def _begin(self, request: Outgoing) -> tuple[Asked, Exchange | None]:
        self._sandbox.home.check()
        raw_path, _, query = request.target.partition(b"?")
        headers = list(request.headers)
        if request.body and not any(name in (b"content-length", b"transfer-encoding") for name, _ in headers):
            headers.append((b"content-length", b"%d" % len(request.body)))
        asked = Asked(request.method, raw_path, query, headers)
        return asked, self._app.begin(self._sandbox, asked)

    def _steps(self, request: Outgoing, asked: Asked, exchange: Exchange | None) -> tuple[Call, Steps]:
        call = Call(self._sandbox, request.body)
        if exchange is not None:
            return call, go(exchange, call, call.receive, decided=False)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": asked.method,
            "scheme": "http",
            "path": asked.raw_path.decode("latin-1"),
            "raw_path": asked.raw_path,
            "query_string": asked.query,
            "root_path": "",
            "headers": asked.headers,
            "server": (_HOST, 80),
            "client": None,
            "extensions": {EXTENSION: call},
        }
        return call, self._app(scope, call.receive, call.send)


def _answered(request: Outgoing, exchange: Exchange) -> Reply:
    """Return the answer of an exchange that nothing came between."""
    exchange.conclude(delivered=True)
    answer = cast("Answer", exchange.answer)
    body = b"" if request.method == "HEAD" else answer.body
    return Reply(answer.status, answer.all_headers(exchange.request_id), body)


def _reply(request: Outgoing, call: Call) -> Reply:
    return Reply(call.status, call.headers, b"" if request.method == "HEAD" else b"".join(call.chunks), call.end)
