"""One request on a live connection.

The parser's callbacks run the request's coroutine directly; only waits such as delays and gates need a task.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import NamedTuple, Protocol

import msgspec

from fake_credits.api.access import HostPolicy
from fake_credits.api.app import CreditsApplication, drive
from fake_credits.api.exchange import Exchange
from fake_credits.api.pipeline import dispatch, handle
from fake_credits.errors import ApiError
from fake_credits.faults.gates import Gate, GateTicket
from fake_credits.faults.waits import (
    CHECKPOINT,
    AtGate,
    Body,
    Drain,
    ExchangeCoroutine,
    Forever,
    ServerStopping,
    Sleep,
    Wait,
    resume,
    throw,
)
from fake_credits.http_message import AsgiMessage, Request, Response
from fake_credits.sandbox import Sandbox
from fake_credits.sandboxes import SandboxRegistry
from fake_credits.transports.framing import expects_continue
from fake_credits.transports.sockets import KernelSocket, PendingWaits, set_done, until_sandbox_closes

_MAX_INTERNAL_BODY_BYTES = 1024 * 1024
_HANG_TIMEOUT_S = 60.0
_FLUSH_TIMEOUT_S = 5.0
_HANDOFF_TIMEOUT_S = 5.0
_TIMER_MARGIN_S = 0.002  # timers can fire early, and an action that is not due yet would then wait for the next timer


class ServerContext(NamedTuple):
    """The state shared by all connections to a server."""

    app: CreditsApplication
    sandboxes: SandboxRegistry
    host_policy: HostPolicy
    pending_waits: PendingWaits


class ClientProtocol(Protocol):
    """The members of a connection's protocol that its requests use."""

    server_context: ServerContext
    transport: asyncio.Transport
    kernel_socket: KernelSocket
    loop: asyncio.AbstractEventLoop
    disconnected: "asyncio.Future[bool]"

    def head(self, response: Response, *, close: bool) -> bytes:
        """Return the head of a response."""
        ...

    def raw_head(self, response: Response, *, close: bool) -> bytes:
        """Return the head of a response, adding only Date if it is missing and ``Connection: close`` if requested."""
        ...

    def scope_of(self, request: Request) -> AsgiMessage:
        """Return the ASGI scope for a request to one of the fake's own paths."""
        ...

    def create_task(self, coroutine: Coroutine[None, None, None], /) -> None:
        """Run a coroutine in a task; the server waits for such tasks when it stops."""
        ...

    async def wait_until_flushed(self, timeout_s: float) -> None:
        """Wait up to ``timeout_s`` for the peer's kernel to receive everything written."""
        ...

    def finish_connection(self, *, is_received: bool) -> None:
        """Close the connection.

        If the client is still sending, first keep reading briefly so that it gets the response.
        """
        ...

    def on_request_done(self, connection: "LiveConnection", /) -> None:
        """Continue with the next request on the connection."""
        ...


class LiveConnection(msgspec.Struct, eq=False):
    """One request on a connection, with the operations for sending its response."""

    protocol: ClientProtocol
    request: Request
    error: ApiError | None = None
    keeps_alive: bool = False
    accepts_continue: bool = False
    is_received: bool = False
    body: bytearray = msgspec.field(default_factory=bytearray)
    _exchange: Exchange | None = None
    _coroutine: ExchangeCoroutine | None = None
    _body_wait: Body | None = None
    _body_error: ApiError | None = None
    _body_end: "asyncio.Future[bool] | None" = None
    _handoff: threading.Event | None = None

    # ------------------------------------------------------------ the request

    def begin(self) -> None:
        """Serve the request until it is done or has to wait."""
        context = self.protocol.server_context
        if self.is_received:
            self.request.body = bytes(self.body)
        target = dispatch(context.app.runtime, self.request, context.sandboxes, self.error)
        if isinstance(target, Exchange):
            self._exchange = target
            self._coroutine = handle(target, self)
            self._run(resume(self._coroutine, None))
        elif target is None:
            self.protocol.create_task(self._serve_internal())
        else:
            self.send(target)
            self._finish()

    def add_body(self, data: bytes) -> None:
        """Add part of the body; reject the body if it exceeds the pending wait's limit."""
        if self._body_error is not None:
            return
        self.body += data
        if self._body_wait is not None and len(self.body) > self._body_wait.limit_bytes:
            self.fail_body(self._body_wait.too_large())

    def receive_all(self) -> None:
        """Mark the body as complete, and resume the request if it is waiting for the body."""
        self.is_received = True
        if self._body_wait is not None:
            self._end_body_wait(lambda coroutine: resume(coroutine, bytes(self.body)))

    def fail_body(self, error: ApiError) -> None:
        """Reject a body that is too large, unreadable or cut off."""
        if self.is_received or self._body_error is not None:
            return
        self._body_error, self.keeps_alive = error, False
        if self._body_wait is not None:
            self._end_body_wait(lambda coroutine: throw(coroutine, error))

    def _end_body_wait(self, go_on: Callable[[ExchangeCoroutine], Wait | None]) -> None:
        if self._body_end is not None:
            set_done(self._body_end)
        elif self._coroutine is not None:
            self._body_wait = None
            self._run(go_on(self._coroutine))

    def _run(self, wait: Wait | None) -> None:
        """Handle this wait and those that follow, until the request ends, needs a task or waits for its body."""
        coroutine = self._coroutine
        assert coroutine is not None  # noqa: S101 - set by begin()
        while wait is not None:
            if wait is CHECKPOINT:
                wait = resume(coroutine, self._is_client_connected())
            elif isinstance(wait, Body):
                wait = self._await_body(coroutine, wait)
                if self._body_wait is not None:
                    return
            else:
                self.protocol.create_task(self._drive(coroutine, wait))
                return
        self._finish()

    def _await_body(self, coroutine: ExchangeCoroutine, wait: Body) -> Wait | None:
        if len(self.body) > wait.limit_bytes:
            self.fail_body(wait.too_large())
        if self._body_error is not None:
            return throw(coroutine, self._body_error)
        self._body_wait = wait
        self._continue()
        return wait

    def _continue(self) -> None:
        if self.accepts_continue and not self.body and expects_continue(self.request.headers):
            self.protocol.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def _drive(self, coroutine: ExchangeCoroutine, wait: Wait) -> None:
        await drive(coroutine, wait, self)
        self._finish()

    def _finish(self) -> None:
        if self._handoff is not None:
            self._signal_progress()
        self._coroutine = None
        self.protocol.on_request_done(self)

    async def _receive_body(self) -> bytes:
        """Return the whole body; raise ApiError if it is too large, unreadable or cut off."""
        if not self.is_received and self._body_error is None:
            self._body_wait, self._body_end = Body(_MAX_INTERNAL_BODY_BYTES), self.protocol.loop.create_future()
            self.add_body(b"")  # the body may already be too large
            self._continue()
            await self._body_end
        if self._body_error is not None:
            raise self._body_error
        return bytes(self.body)

    async def _serve_internal(self) -> None:
        """Serve one of the fake's own paths through the ASGI application."""
        protocol, is_read = self.protocol, False
        response = Response(0)

        async def receive() -> AsgiMessage:
            nonlocal is_read
            if not is_read:
                is_read = True
                return {"type": "http.request", "body": await self._receive_body(), "more_body": False}
            with contextlib.suppress(ServerStopping):
                await protocol.server_context.pending_waits.wait_until_done(protocol.disconnected, float("inf"))
            return {"type": "http.disconnect"}

        async def send(message: AsgiMessage) -> None:
            if message["type"] == "http.response.start":
                response.status, response.headers = message["status"], list(message["headers"])
            else:
                response.body += message.get("body", b"")

        try:
            scope = protocol.scope_of(self.request)
            await protocol.server_context.app.serve_internal(scope, receive, send)
        except Exception as bug:  # noqa: BLE001 - recorded like a bug in an exchange
            protocol.server_context.sandboxes.base_sandbox.add_bug(bug)
            protocol.transport.close()
        else:
            self._send(response, protocol.raw_head)
        self._finish()

    # ------------------------------------------------------------ waits, in the server's loop

    async def wait(self, wait: Wait) -> object:
        """Wait as ``wait`` specifies, and return the value to resume the request with."""
        if wait is CHECKPOINT:
            return self._is_client_connected()
        if isinstance(wait, AtGate):
            return await self._wait_at_gate(wait.gate)
        self._signal_progress()
        if isinstance(wait, Drain):
            await self.protocol.wait_until_flushed(_FLUSH_TIMEOUT_S)
        elif isinstance(wait, Forever):
            await self._hang()
        elif isinstance(wait, Sleep):
            await self._sleep(wait.ms)
        else:
            raise TypeError(f"a task can't wait for {wait!r}")
        return None

    @property
    def _sandbox(self) -> Sandbox:
        assert self._exchange is not None  # noqa: S101 - only exchanges wait
        return self._exchange.sandbox

    async def _sleep(self, ms: float) -> None:
        """Sleep for at least ``ms`` milliseconds.

        Raises ServerStopping if the sandbox is closed in the meantime, or if it is reset after the client has
        disconnected.
        """
        disconnected, sandbox = self.protocol.disconnected, self._sandbox
        with until_sandbox_closes(sandbox, lambda: disconnected.done() or sandbox.is_closed) as stop:
            await self.protocol.server_context.pending_waits.sleep(ms / 1000, stop)
        if stop.done():
            self.protocol.transport.close()
            raise ServerStopping

    async def _wait_at_gate(self, gate: Gate) -> bool:
        """Wait at a gate, and return whether the exchange was released within the gate's limit.

        The releasing thread blocks until the exchange ends or reaches its next wait.
        """
        waits, released = self.protocol.server_context.pending_waits, asyncio.get_running_loop().create_future()
        ticket = self._gate_ticket(gate, released)
        if not gate.try_hold(ticket):
            return True
        self._signal_progress()
        try:
            if await waits.wait_until_done(released, gate.limit_s):
                return True
            if gate.remove_ticket(ticket):
                return False
            # The gate is already releasing exchanges, including this one, so wait for this one's turn.
            return await waits.wait_until_done(released, _HANDOFF_TIMEOUT_S)
        finally:
            gate.remove_ticket(ticket)

    def _gate_ticket(self, gate: Gate, released: "asyncio.Future[bool]") -> GateTicket:
        loop, own_thread, handoff = asyncio.get_running_loop(), threading.get_ident(), threading.Event()
        exchange = self._exchange
        assert exchange is not None  # noqa: S101 - only exchanges wait

        def release() -> None:
            with contextlib.suppress(RuntimeError):  # the server has stopped
                loop.call_soon_threadsafe(resume_exchange)
                # A predicate that releases a gate runs in the server's own thread, which must not wait for itself.
                if threading.get_ident() != own_thread and not handoff.wait(_HANDOFF_TIMEOUT_S):
                    exchange.sandbox.add_problem(
                        f"gate {gate.name!r} released {exchange.label}, which did not resume within "
                        f"{_HANDOFF_TIMEOUT_S:g} s: don't hold the sandbox's lock while releasing a gate"
                    )

        def resume_exchange() -> None:
            self._handoff = handoff
            if not released.done():
                released.set_result(True)

        return exchange.gate_ticket(release)

    async def _hang(self) -> None:
        """Wait until the client disconnects, the sandbox is closed or reset, or a minute has passed."""
        protocol = self.protocol
        with until_sandbox_closes(self._sandbox) as stop:
            protocol.disconnected.add_done_callback(lambda _: set_done(stop))
            await protocol.server_context.pending_waits.wait_until_done(stop, _HANG_TIMEOUT_S)

    def _signal_progress(self) -> None:
        """Signal to the releasing thread that the exchange has ended or reached its next wait."""
        handoff, self._handoff = self._handoff, None
        if handoff is not None:
            handoff.set()

    def _is_client_connected(self) -> bool:
        return not self.protocol.transport.is_closing() and self.protocol.kernel_socket.is_established()

    # ------------------------------------------------------------ the connection

    def send(self, response: Response) -> None:
        """Send a whole response."""
        self._send(response, self.protocol.head)

    def start(self, response: Response) -> None:
        """Send the head of a response."""
        self.write(self.protocol.head(response, close=self._must_close()))

    def write(self, data: bytes) -> None:
        """Send raw bytes."""
        if not self.protocol.transport.is_closing():
            self.protocol.transport.write(data)

    def end(self) -> None:
        """Close the connection unless it is kept alive for another request."""
        if self._must_close():
            self.protocol.finish_connection(is_received=self.is_received)

    def close(self) -> None:
        """Close the connection."""
        self.protocol.transport.close()

    def reset(self) -> None:
        """Reset the connection."""
        if not self.protocol.transport.is_closing():
            self.protocol.kernel_socket.reset_on_close()
        self.protocol.transport.abort()

    def call_later(self, ms: float, callback: Callable[[], object]) -> None:
        """Schedule a callback in the server's event loop, because there may be no further request to trigger it."""
        self.protocol.loop.call_later(ms / 1000 + _TIMER_MARGIN_S, callback)

    def _send(self, response: Response, head_of: Callable[..., bytes]) -> None:
        is_last = self._must_close()
        head = head_of(response, close=is_last)
        self.write(head if self.request.method == "HEAD" else head + response.body)
        if is_last:
            self.protocol.finish_connection(is_received=self.is_received)

    def _must_close(self) -> bool:
        # A client that received no 100 Continue may skip the body and send its next request (RFC 9110, section 10.1.1).
        self.keeps_alive = self.keeps_alive and self.is_received
        return not self.keeps_alive
