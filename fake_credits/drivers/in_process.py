"""Own the in-process driver: it builds a request's scope and steps the application's coroutine by hand.

No event loop, no thread, no socket. The application waits for nothing but our own objects, so one ``send(None)`` runs
a request to the moment before its answer's first byte; an async caller passes a checkpoint of its own loop there and
one before the decision, or tasks would never interleave and a check-then-act bug would stay green. A foreign
``await`` is a TypeError that names it.
"""

from collections.abc import Coroutine, Generator, Sequence
from typing import Any, Literal, NamedTuple

from anyio.lowlevel import checkpoint
from starlette.types import ASGIApp

from fake_credits.sandbox import Sandbox
from fake_credits.web.answer import Answer, Headers, Message
from fake_credits.web.app import EXTENSION

__all__ = ["BASE_URL", "End", "InProcess", "Outgoing", "Reply"]

BASE_URL = "http://credits.fake-credits.test"
"""Where the in-process clients believe to be; the name can't be resolved (RFC 6761, section 6.2)."""

_HOST = BASE_URL.removeprefix("http://")


End = Literal["whole", "closed", "reset", "timeout", "garbage"]
"""How an answer ends: whole; by a FIN; by an RST; with the client's patience; as bytes that are no HTTP."""


class Outgoing(NamedTuple):
    """Be one request as bytes; ``target`` is path and query, header names are lower case.

    ``timeout_s`` is how long the client waits for the next byte; None waits for ever.
    """

    method: str
    target: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    timeout_s: float | None = None


class Reply(NamedTuple):
    """Be one answer as far as it came: ``status`` is 0 where no head did, ``body`` may be a part."""

    status: int
    headers: Headers
    body: bytes
    end: End = "whole"


class _Checkpoint:
    """Be the one thing that an exchange awaits here; it resumes with whether the client still waits."""

    def __await__(self) -> Generator["_Checkpoint", bool, bool]:
        return (yield self)


_CHECKPOINT = _Checkpoint()


class _Call:
    """Be one request's receive and send, and its line: the sandbox is the transport's own, and no Host is checked."""

    __slots__ = ("_body", "chunks", "headers", "sandbox", "status")

    def __init__(self, sandbox: Sandbox, body: bytes) -> None:
        self.sandbox: Sandbox | None = sandbox
        self._body = body
        self.status = 0
        self.headers: Headers = []
        self.chunks: list[bytes] = []

    def refusal(self, _raw_path: bytes, _headers: Headers) -> None:
        """Refuse nothing."""

    def body(self) -> bytes:
        """Return the whole body."""
        return self._body

    async def deliverable(self) -> bool:
        """Tell whether the client still waits after the checkpoint."""
        return await _CHECKPOINT

    async def deliver(self, answer: Answer, request_id: str) -> None:
        """Keep a whole answer."""
        self.status, self.headers = answer.status, answer.all_headers(request_id)
        self.chunks.append(answer.body)

    async def receive(self) -> Message:
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], message["headers"]
        else:
            self.chunks.append(message["body"])


class InProcess:
    """Carry requests to one sandbox."""

    def __init__(self, app: ASGIApp, sandbox: Sandbox) -> None:
        self._app = app
        self._sandbox = sandbox

    def __repr__(self) -> str:
        return f"<InProcess driver of {self._sandbox!r}>"

    def call(self, request: Outgoing) -> Reply:
        """Answer a request at once."""
        call, steps = self._begin(request)
        if _step(steps, None):
            _finish(steps, waiting=True)
        return _reply(request, call)

    async def call_async(self, request: Outgoing) -> Reply:
        """Answer a request, with a checkpoint of the running loop before the decision and one after it.

        A caller that is cancelled at the first leaves no trace; at the second what was committed stands, and the
        journal says that it was not delivered.
        """
        await checkpoint()
        call, steps = self._begin(request)
        if _step(steps, None):
            try:
                await checkpoint()
            except BaseException:
                _finish(steps, waiting=False)
                raise
            _finish(steps, waiting=True)
        return _reply(request, call)

    def _begin(self, request: Outgoing) -> tuple[_Call, Coroutine[Any, Any, None]]:
        raw_path, _, query = request.target.partition(b"?")
        headers = list(request.headers)
        if request.body and not any(name in (b"content-length", b"transfer-encoding") for name, _ in headers):
            headers.append((b"content-length", b"%d" % len(request.body)))
        call = _Call(self._sandbox, request.body)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "http",
            "path": raw_path.decode("latin-1"),
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "server": (_HOST, 80),
            "client": None,
            "extensions": {EXTENSION: call},
        }
        steps: Any = self._app(scope, call.receive, call.send)
        return call, steps


def _step(steps: Coroutine[Any, Any, None], value: bool | None) -> bool:
    """Run to the next wait and tell whether there is one; a wait for anything but a checkpoint is a TypeError."""
    try:
        wait = steps.send(value)
    except StopIteration:
        return False
    if wait is not _CHECKPOINT:
        steps.close()
        shown = "a bare yield, as of asyncio.sleep(0)" if wait is None else repr(wait)
        raise TypeError(f"the application awaits {shown}, which no event loop drives in process")
    return True


def _finish(steps: Coroutine[Any, Any, None], *, waiting: bool) -> None:
    while _step(steps, waiting):
        pass


def _reply(request: Outgoing, call: _Call) -> Reply:
    return Reply(call.status, call.headers, b"" if request.method == "HEAD" else b"".join(call.chunks))
