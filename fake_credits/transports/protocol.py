"""Own the live server's side of a connection: a thin subclass of uvicorn's HTTP protocol.

With the runner this is the only code that knows uvicorn. It lends each request its connection, and writes the
contract's error body where the HTTP parser refuses what came.
"""

import asyncio
import contextlib
import logging
import re
import threading
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from fake_credits.api.access import HostPolicy
from fake_credits.api.app import CONNECTION_EXTENSION
from fake_credits.api.contract_runtime import ContractRuntime
from fake_credits.api.exchange import Exchange, RequestHead, ServerStopping
from fake_credits.clock import monotonic_s
from fake_credits.errors import ApiError, MalformedRequest
from fake_credits.faults.context import CloseMode, Delivery, DripBody, RawBytes
from fake_credits.faults.gates import Gate, GateTicket
from fake_credits.http_message import Response, status_line
from fake_credits.sandbox import Sandbox
from fake_credits.sandboxes import SandboxRegistry
from fake_credits.transports.sockets import KernelSocket, PendingWaits, set_done
from fake_credits.transports.waits import split_evenly

__all__ = ["MAX_HEAD_BYTES", "CreditsProtocol", "LiveConnection", "ServerContext", "without_upgrade"]

MAX_HEAD_BYTES = 64 * 1024
"""A larger request head is refused with ``malformed_request``: httptools itself has no limit."""

_LOGGER = logging.getLogger("fake_credits.server")
_LOGGER.setLevel(logging.ERROR)  # what uvicorn warns of, an unreadable request, is in the journal
_MAX_HANG_S = 60.0
_CLOSE_TIMEOUT_S = 5.0
_HANDOFF_TIMEOUT_S = 5.0
_FLUSH_POLL_INTERVAL_S = 0.0005
_TIMER_MARGIN_S = 0.002  # timers can be early, and what is due then would have to wait for the next one to come

T = TypeVar("T")

# No upgrade is taken (RFC 9110, section 7.8: a server may ignore it), but httptools stops reading at one, body and all,
# and Java's HttpClient offers h2c with every request. A JSON text has no bare CRLF, so no body changes by this.
_UPGRADE_HEADER_START = b"\r\nupgrade:"
_UPGRADE_HEADER_PATTERN = re.compile(re.escape(_UPGRADE_HEADER_START), re.IGNORECASE)


def without_upgrade(tail: bytes, data: bytes) -> bytes:
    """Return data with each Upgrade header under another name; ``ends`` is how what the parser has already ends."""
    match = _UPGRADE_HEADER_PATTERN.search(tail + data)
    if match is not None and match.start() + 2 < len(tail):
        data = b"x" + data  # a part of the name has gone: what follows makes it another
    return _UPGRADE_HEADER_PATTERN.sub(b"\r\nIgnored:", tail + data)[len(tail) :]


@dataclass(frozen=True)
class ServerContext:
    """Be what every connection of one server shares: its contract's service, sandboxes, Host policy and waits."""

    service: ContractRuntime
    sandboxes: SandboxRegistry
    host_policy: HostPolicy
    pending_waits: PendingWaits


class LiveConnection:
    """Be the connection of one request: the sandbox is named by the credential, and the Host is checked."""

    __slots__ = ("_cycle", "_handoff", "_protocol", "host_error")
    sandbox = None

    def __init__(self, protocol: "CreditsProtocol", cycle: RequestResponseCycle) -> None:
        self.host_error = protocol.server_context.host_policy.host_error
        self._protocol = protocol
        self._cycle = cycle
        self._handoff: threading.Event | None = None

    async def sleep(self, ms: float, exchange: Exchange) -> None:
        """Let milliseconds pass; the end of the sandbox is the end of this too, at once where the client has gone."""
        disconnected, sandbox = self._protocol.disconnected, exchange.sandbox
        with _sandbox_closed(sandbox, lambda: disconnected.done() or sandbox.is_closed) as stop:
            await self._wait(self._protocol.server_context.pending_waits.sleep(ms / 1000, stop))
        if stop.done():
            self._cycle.disconnected = True
            self._cycle.transport.close()
            raise ServerStopping

    async def wait_at_gate(self, gate: Gate, exchange: Exchange) -> bool:
        """Wait at a gate; whoever releases it waits until the exchange has gone on to its next wait or its end."""
        pending_waits, released = (
            self._protocol.server_context.pending_waits,
            asyncio.get_running_loop().create_future(),
        )
        ticket = self._gate_ticket(gate, exchange, released)
        if not gate.try_hold(ticket):
            return True
        try:
            if await self._wait(pending_waits.wait_until_done(released, gate.limit_s)):
                return True
            if gate.remove_ticket(ticket):
                return False
            # It is being released at this very moment, and goes on in its turn.
            return await self._wait(pending_waits.wait_until_done(released, _HANDOFF_TIMEOUT_S))
        finally:
            gate.remove_ticket(ticket)

    def _gate_ticket(self, gate: Gate, exchange: Exchange, released: "asyncio.Future[bool]") -> GateTicket:
        loop, server_thread, handoff = asyncio.get_running_loop(), threading.get_ident(), threading.Event()

        def release() -> None:
            with contextlib.suppress(RuntimeError):  # the server has stopped
                loop.call_soon_threadsafe(resume)
                # The server's own thread, which a rule's function runs in, can't wait for itself.
                if threading.get_ident() != server_thread and not handoff.wait(_HANDOFF_TIMEOUT_S):
                    exchange.sandbox.add_problem(
                        f"gate {gate.name!r} let {exchange.label} go, "
                        f"which did not go on within {_HANDOFF_TIMEOUT_S:g} s: "
                        "release it without the sandbox's lock"
                    )

        def resume() -> None:
            self._handoff = handoff
            if not released.done():
                released.set_result(True)

        return exchange.gate_ticket(release)

    def schedule_run_due(self, ms: float, sandbox: Sandbox) -> None:
        """Come back when it is due: nobody else may."""
        asyncio.get_running_loop().call_later(ms / 1000 + _TIMER_MARGIN_S, sandbox.clock.run_due)

    async def _wait(self, wait: Coroutine[Any, Any, T]) -> T:
        self._signal_progress()
        try:
            return await wait
        except ServerStopping:
            self._cycle.disconnected = True  # uvicorn tells only the newest request of a connection
            raise

    def _signal_progress(self) -> None:
        """Tell who released a gate that the exchange has come to its next wait or its end."""
        handoff, self._handoff = self._handoff, None
        if handoff is not None:
            handoff.set()

    def body(self) -> bytes | None:
        """Return the whole body where it has come already."""
        return None if self._cycle.more_body else bytes(self._cycle.body)

    async def is_client_connected(self) -> bool:
        """Tell whether the client has neither closed the connection nor been cut off."""
        return not self._cycle.transport.is_closing() and self._protocol.kernel_socket.is_established()

    async def send(self, response: Response, request_id: str) -> None:
        """Write a whole answer at once, as uvicorn's own ``send`` would in two writes with every header checked.

        Names and values are all ours; what of them comes from a request has passed the parser.
        """
        cycle = self._cycle
        # It holds the scope, which holds this object: uncut, every request would be work for the garbage collector.
        del cycle.scope["extensions"]
        self._signal_progress()
        if cycle.flow.write_paused and not self._is_client_gone():
            await cycle.flow.drain()
        if self._is_client_gone():
            return
        body = b"" if cycle.scope["method"] == "HEAD" else response.body
        # A client that was not told to continue sends its next request in the body's place (RFC 9110, section 10.1.1).
        close = not cycle.keep_alive or cycle.waiting_for_100_continue
        cycle.transport.write(self._protocol.response_head(response, request_id, close=close) + body)
        self._finish_response(close=close)

    def _is_client_gone(self) -> bool:
        """Tell whether the connection has ended; of the requests on it, uvicorn tells the newest only."""
        if self._cycle.transport.is_closing():
            self._cycle.disconnected = True
        return self._cycle.disconnected

    def _finish_response(self, *, close: bool) -> None:
        cycle = self._cycle
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        if close:
            cycle.transport.close()
        cycle.on_response()

    async def abort(self, delivery: Delivery, exchange: Exchange) -> None:
        """Do on the connection what a fault says, and return once it is lost: else uvicorn would answer a 500."""
        cycle = self._cycle
        del cycle.scope["extensions"]
        self._signal_progress()
        if self._is_client_gone():
            return
        if isinstance(delivery, DripBody):
            await self._drip(delivery, exchange)
        elif isinstance(delivery, RawBytes):
            cycle.transport.write(delivery.data)
            await self._close_connection("close", exchange.sandbox)
        else:
            response = exchange.response
            if delivery.sent_body_bytes is not None and response is not None:
                head = self._protocol.response_head(response, exchange.request_id, close=not cycle.keep_alive)
                cycle.transport.write(head + response.body[: delivery.sent_body_bytes])
            await self._close_connection(delivery.close_mode, exchange.sandbox)

    async def _drip(self, delivery: DripBody, exchange: Exchange) -> None:
        cycle, response = self._cycle, exchange.response
        if response is None:
            return
        close = not cycle.keep_alive or cycle.waiting_for_100_continue
        cycle.response_started = True
        cycle.transport.write(self._protocol.response_head(response, exchange.request_id, close=close))
        for chunk in split_evenly(response.body, delivery.chunk_count):
            await self.sleep(delivery.interval_ms, exchange)
            if cycle.transport.is_closing():
                break
            cycle.transport.write(chunk)
        self._finish_response(close=close)

    async def _close_connection(self, close_mode: CloseMode, sandbox: Sandbox) -> None:
        protocol, transport = self._protocol, self._cycle.transport
        if close_mode == "hang":
            await self._hang(sandbox)
        elif close_mode == "reset":
            await self._wait(protocol.wait_until_flushed(_CLOSE_TIMEOUT_S))
            if not transport.is_closing():
                protocol.kernel_socket.reset_on_close()
        if close_mode == "reset":
            transport.abort()
        else:
            transport.close()
        await self._wait(protocol.server_context.pending_waits.wait_until_done(protocol.disconnected, _CLOSE_TIMEOUT_S))
        self._cycle.disconnected = True

    async def _hang(self, sandbox: Sandbox) -> None:
        """Wait until the client gives up, the sandbox closes, or a minute has passed."""
        with _sandbox_closed(sandbox) as stop:
            self._protocol.disconnected.add_done_callback(lambda _: set_done(stop))
            await self._wait(self._protocol.server_context.pending_waits.wait_until_done(stop, _MAX_HANG_S))


@contextlib.contextmanager
def _sandbox_closed(sandbox: Sandbox, applies: Callable[[], bool] = lambda: True) -> Generator["asyncio.Future[bool]"]:
    """Yield what is done once the sandbox ends its waits, where ``ends`` says that this is one of them."""
    loop = asyncio.get_running_loop()
    closed: asyncio.Future[bool] = loop.create_future()

    def set_closed() -> None:
        if applies():
            set_done(closed)

    def set_closed_threadsafe() -> None:
        with contextlib.suppress(RuntimeError):  # the server has stopped
            loop.call_soon_threadsafe(set_closed)

    with sandbox.lock:
        sandbox.close_callbacks.add(set_closed_threadsafe)
    if sandbox.is_closed:
        set_done(closed)
    try:
        yield closed
    finally:
        with sandbox.lock:
            sandbox.close_callbacks.discard(set_closed_threadsafe)


class CreditsProtocol(HttpToolsProtocol):
    """Speak HTTP/1.1 with one client."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        server_context: ServerContext,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.logger = _LOGGER  # uvicorn's own would print each unreadable request as a warning of the server
        self.access_log = False  # uvicorn writes one where anybody in the process listens; we have a journal
        self.server_context = server_context
        self._head_bytes = self._chunk_bytes = 0
        self._has_failed_parsing = False
        self._tail = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection."""
        super().connection_made(transport)
        self.disconnected: asyncio.Future[bool] = self.loop.create_future()
        self.kernel_socket = KernelSocket(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection; its socket is the loop's to close."""
        self.kernel_socket.detach()
        super().connection_lost(exc)
        if not self.disconnected.done():
            self.disconnected.set_result(True)

    async def wait_until_flushed(self, timeout_s: float) -> None:
        """Wait until the client's machine has all that was written: a RST throws away what the kernel has not sent."""
        deadline_s = monotonic_s() + timeout_s
        while not self.disconnected.done() and (
            self.transport.get_write_buffer_size() or self.kernel_socket.unsent_bytes()
        ):
            if monotonic_s() > deadline_s:
                return
            await self.server_context.pending_waits.sleep(_FLUSH_POLL_INTERVAL_S, self.disconnected)

    def response_head(self, response: Response, request_id: str, *, close: bool) -> bytes:
        """Return the head of an answer, with the date unless it has one of its own."""
        date_line = b""
        if not (response.headers and any(name == b"date" for name, _ in response.headers)):
            date_line = b"%b: %b\r\n" % self.server_state.default_headers[0]  # the runner's, who keeps it fresh
        lines = response.header_bytes(request_id) + (b"connection: close\r\n\r\n" if close else b"\r\n")
        return status_line(response.status) + date_line + lines

    def data_received(self, data: bytes) -> None:
        """Read on, and refuse a head that does not end."""
        previous_scope = self.scope
        in_head = bool(previous_scope) and "path" not in previous_scope
        tail, self._tail = self._tail if in_head else b"", data[1 - len(_UPGRADE_HEADER_START) :]
        if _UPGRADE_HEADER_START in (tail + data).lower():
            data = without_upgrade(tail, data)
        self._chunk_bytes = len(data)
        HttpToolsProtocol.data_received(self, data)
        # The parser keeps an unfinished header to itself, so what came is counted where it was all one head's.
        if self.scope is not previous_scope:
            self._head_bytes = 0
        elif in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response("")

    def on_headers_complete(self) -> None:
        """End a request's head, and lend it its connection; an error raised here is the parser's, which answers it."""
        # What came may be more than the head, so that is measured only where it could be too large.
        if self._head_bytes + self._chunk_bytes > MAX_HEAD_BYTES and self._head_size() > MAX_HEAD_BYTES:
            self._head_bytes = MAX_HEAD_BYTES + 1
            raise ValueError("the head is too large")
        HttpToolsProtocol.on_headers_complete(self)
        # Older uvicorns hear "Connection: close" from an application only.
        if not self.parser.should_keep_alive():  # pyright: ignore[reportOptionalMemberAccess]
            self.cycle.keep_alive = False
        # The request's task has been made but has not run yet.
        extensions: Any = {CONNECTION_EXTENSION: LiveConnection(self, self.cycle)}
        self.scope["extensions"] = extensions

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP in the contract's error body, journal it, and close.

        Where whole requests came before it, they are answered first and the connection then closes; a broken one
        behind others closes it at once, as an answer to it would be taken for theirs.
        """
        if self._has_failed_parsing:
            return
        self._has_failed_parsing = True
        if self._head_bytes > MAX_HEAD_BYTES:
            msg = f"its head has more than {MAX_HEAD_BYTES} bytes (64 KiB)"
        error: ApiError = MalformedRequest(f"this is no HTTP request that can be read: {msg}")
        exchange = Exchange.begin(
            self.server_context.service, self.server_context.sandboxes.default, error, RequestHead("", b"", b"", [])
        )
        newest_cycle = cast("RequestResponseCycle | None", self.cycle)  # uvicorn begins without one
        is_idle = newest_cycle is None or newest_cycle.response_complete
        is_body_malformed = (
            newest_cycle is not None and newest_cycle.more_body
        )  # it is that request's own body that can't be read
        respond_now = is_idle or (is_body_malformed and not self.pipeline)
        response = exchange.respond_with_error(error)
        exchange.journal(delivered=respond_now)
        if respond_now:
            self.transport.write(self.response_head(response, exchange.request_id, close=True) + response.body)
        if newest_cycle is None or respond_now or is_body_malformed:
            self.transport.close()
        else:
            newest_cycle.keep_alive = False
