"""Own the live server's side of a connection: a thin subclass of uvicorn's HTTP protocol.

With the runner this is the only code that knows uvicorn. It lends each request its line, and writes the contract's
error body where the HTTP parser refuses what came.
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

from fake_credits.clock import monotonic_s
from fake_credits.drivers.kernel import KernelSocket
from fake_credits.drivers.steps import pieces
from fake_credits.drivers.waits import Waits, finish
from fake_credits.errors import ApiError, MalformedRequest
from fake_credits.faults.gates import Hold, Ticket
from fake_credits.faults.stage import Ending, Noise, Slow, Wire
from fake_credits.http_status import status_line
from fake_credits.sandbox import Sandbox, Sandboxes
from fake_credits.web.answer import Answer
from fake_credits.web.app import EXTENSION
from fake_credits.web.exchange import Asked, Exchange, Withdrawn
from fake_credits.web.hosts import HostPolicy
from fake_credits.web.service import Service

__all__ = ["HEAD_LIMIT_BYTES", "CreditsProtocol", "Front", "without_upgrade"]

HEAD_LIMIT_BYTES = 64 * 1024
"""A larger request head is refused with ``malformed_request``: httptools itself has no limit."""

_LOG = logging.getLogger("fake_credits.server")
_LOG.setLevel(logging.ERROR)  # what uvicorn warns of, an unreadable request, is in the journal
_HANG_LIMIT_S = 60.0
_LOSE_LIMIT_S = 5.0
_MOVE_LIMIT_S = 5.0
_FLUSH_S = 0.0005
_LATER_S = 0.002  # timers can be early, and what is due then would have to wait for the next one to come

T = TypeVar("T")

# No upgrade is taken (RFC 9110, section 7.8: a server may ignore it), but httptools stops reading at one, body and all,
# and Java's HttpClient offers h2c with every request. A JSON text has no bare CRLF, so no body changes by this.
_UPGRADE_START = b"\r\nupgrade:"
_UPGRADE = re.compile(re.escape(_UPGRADE_START), re.IGNORECASE)


def without_upgrade(ends: bytes, data: bytes) -> bytes:
    """Return data with each Upgrade header under another name; ``ends`` is how what the parser has already ends."""
    match = _UPGRADE.search(ends + data)
    if match is not None and match.start() + 2 < len(ends):
        data = b"x" + data  # a part of the name has gone: what follows makes it another
    return _UPGRADE.sub(b"\r\nIgnored:", ends + data)[len(ends) :]


@dataclass(frozen=True)
class Front:
    """Be what every connection of one server shares: its contract's service, sandboxes, Host policy and waits."""

    service: Service
    sandboxes: Sandboxes
    hosts: HostPolicy
    waits: Waits


class _Line:
    """Be the line of one request: the sandbox is named by the credential, and the Host is checked."""

    __slots__ = ("_cycle", "_moved", "_protocol", "refusal")
    sandbox = None

    def __init__(self, protocol: "CreditsProtocol", cycle: RequestResponseCycle) -> None:
        self.refusal = protocol.front.hosts.refusal
        self._protocol = protocol
        self._cycle = cycle
        self._moved: threading.Event | None = None

    async def sleep(self, ms: float, exchange: Exchange) -> None:
        """Let milliseconds pass; the end of the sandbox is the end of this too, at once where the client has gone."""
        lost, sandbox = self._protocol.lost, exchange.sandbox
        with _end_of(sandbox, lambda: lost.done() or sandbox.closed) as over:
            await self._wait(self._protocol.front.waits.sleep(ms / 1000, over))
        if over.done():
            self._cycle.disconnected = True
            self._cycle.transport.close()
            raise Withdrawn

    async def hold(self, gate: Hold, exchange: Exchange) -> bool:
        """Wait at a gate; whoever releases it waits until the exchange has gone on to its next wait or its end."""
        waits, released = self._protocol.front.waits, asyncio.get_running_loop().create_future()
        ticket = self._ticket(gate, exchange, released)
        if not gate.arrive(ticket):
            return True
        try:
            if await self._wait(waits.until(released, gate.limit_s)):
                return True
            if gate.withdraw(ticket):
                return False
            # It is being released at this very moment, and goes on in its turn.
            return await self._wait(waits.until(released, _MOVE_LIMIT_S))
        finally:
            gate.withdraw(ticket)

    def _ticket(self, gate: Hold, exchange: Exchange, released: "asyncio.Future[bool]") -> Ticket:
        loop, own_thread, moved = asyncio.get_running_loop(), threading.get_ident(), threading.Event()

        def go() -> None:
            with contextlib.suppress(RuntimeError):  # the server has stopped
                loop.call_soon_threadsafe(resume)
                # The server's own thread, which a rule's function runs in, can't wait for itself.
                if threading.get_ident() != own_thread and not moved.wait(_MOVE_LIMIT_S):
                    exchange.sandbox.complain(
                        f"gate {gate.name!r} let {exchange.shown} go, which did not go on within {_MOVE_LIMIT_S:g} s: "
                        "release it without the sandbox's lock"
                    )

        def resume() -> None:
            self._moved = moved
            if not released.done():
                released.set_result(True)

        return exchange.ticket(go)

    def remind(self, ms: float, sandbox: Sandbox) -> None:
        """Come back when it is due: nobody else may."""
        asyncio.get_running_loop().call_later(ms / 1000 + _LATER_S, sandbox.clock.run_due)

    async def _wait(self, wait: Coroutine[Any, Any, T]) -> T:
        self._arrive()
        try:
            return await wait
        except Withdrawn:
            self._cycle.disconnected = True  # uvicorn tells only the newest request of a connection
            raise

    def _arrive(self) -> None:
        """Tell who released a gate that the exchange has come to its next wait or its end."""
        moved, self._moved = self._moved, None
        if moved is not None:
            moved.set()

    def body(self) -> bytes | None:
        """Return the whole body where it has come already."""
        return None if self._cycle.more_body else bytes(self._cycle.body)

    async def deliverable(self) -> bool:
        """Tell whether the client has neither closed the connection nor been cut off."""
        return not self._cycle.transport.is_closing() and self._protocol.kernel.is_established()

    async def deliver(self, answer: Answer, request_id: str) -> None:
        """Write a whole answer at once, as uvicorn's own ``send`` would in two writes with every header checked.

        Names and values are all ours; what of them comes from a request has passed the parser.
        """
        cycle = self._cycle
        # It holds the scope, which holds this line: uncut, every request would be work for the garbage collector.
        del cycle.scope["extensions"]
        self._arrive()
        if cycle.flow.write_paused and not self._is_gone():
            await cycle.flow.drain()
        if self._is_gone():
            return
        body = b"" if cycle.scope["method"] == "HEAD" else answer.body
        # A client that was not told to continue sends its next request in the body's place (RFC 9110, section 10.1.1).
        close = not cycle.keep_alive or cycle.waiting_for_100_continue
        cycle.transport.write(self._protocol.head(answer, request_id, close=close) + body)
        self._complete(close=close)

    def _is_gone(self) -> bool:
        """Tell whether the connection has ended; of the requests on it, uvicorn tells the newest only."""
        if self._cycle.transport.is_closing():
            self._cycle.disconnected = True
        return self._cycle.disconnected

    def _complete(self, *, close: bool) -> None:
        cycle = self._cycle
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        if close:
            cycle.transport.close()
        cycle.on_response()

    async def break_off(self, wire: Wire, exchange: Exchange) -> None:
        """Do on the connection what a fault says, and return once it is lost: else uvicorn would answer a 500."""
        cycle = self._cycle
        del cycle.scope["extensions"]
        self._arrive()
        if self._is_gone():
            return
        if isinstance(wire, Slow):
            await self._drip(wire, exchange)
        elif isinstance(wire, Noise):
            cycle.transport.write(wire.data)
            await self._lose("close", exchange.sandbox)
        else:
            answer = exchange.answer
            if wire.body_bytes is not None and answer is not None:
                head = self._protocol.head(answer, exchange.request_id, close=not cycle.keep_alive)
                cycle.transport.write(head + answer.body[: wire.body_bytes])
            await self._lose(wire.ending, exchange.sandbox)

    async def _drip(self, wire: Slow, exchange: Exchange) -> None:
        cycle, answer = self._cycle, exchange.answer
        if answer is None:
            return
        close = not cycle.keep_alive or cycle.waiting_for_100_continue
        cycle.response_started = True
        cycle.transport.write(self._protocol.head(answer, exchange.request_id, close=close))
        for piece in pieces(answer.body, wire.pieces):
            await self.sleep(wire.gap_ms, exchange)
            if cycle.transport.is_closing():
                break
            cycle.transport.write(piece)
        self._complete(close=close)

    async def _lose(self, ending: Ending, sandbox: Sandbox) -> None:
        protocol, transport = self._protocol, self._cycle.transport
        if ending == "hang":
            await self._hang(sandbox)
        elif ending == "reset":
            await self._wait(protocol.flushed(_LOSE_LIMIT_S))
            if not transport.is_closing():
                protocol.kernel.linger_not()
        if ending == "reset":
            transport.abort()
        else:
            transport.close()
        await self._wait(protocol.front.waits.until(protocol.lost, _LOSE_LIMIT_S))
        self._cycle.disconnected = True

    async def _hang(self, sandbox: Sandbox) -> None:
        """Wait until the client gives up, the sandbox closes, or a minute has passed."""
        with _end_of(sandbox) as over:
            self._protocol.lost.add_done_callback(lambda _: finish(over))
            await self._wait(self._protocol.front.waits.until(over, _HANG_LIMIT_S))


@contextlib.contextmanager
def _end_of(sandbox: Sandbox, ends: Callable[[], bool] = lambda: True) -> Generator["asyncio.Future[bool]"]:
    """Yield what is done once the sandbox ends its waits, where ``ends`` says that this is one of them."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[bool] = loop.create_future()

    def end() -> None:
        if ends():
            finish(over)

    def end_from_outside() -> None:
        with contextlib.suppress(RuntimeError):  # the server has stopped
            loop.call_soon_threadsafe(end)

    with sandbox.lock:
        sandbox.endings.add(end_from_outside)
    if sandbox.closed:
        finish(over)
    try:
        yield over
    finally:
        with sandbox.lock:
            sandbox.endings.discard(end_from_outside)


class CreditsProtocol(HttpToolsProtocol):
    """Speak HTTP/1.1 with one client."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        front: Front,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.logger = _LOG  # uvicorn's own would print each unreadable request as a warning of the server
        self.access_log = False  # uvicorn writes one where anybody in the process listens; we have a journal
        self.front = front
        self._head_bytes = self._chunk_bytes = 0
        self._unreadable = False
        self._ends = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection."""
        super().connection_made(transport)
        self.lost: asyncio.Future[bool] = self.loop.create_future()
        self.kernel = KernelSocket(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection; its socket is the loop's to close."""
        self.kernel.detach()
        super().connection_lost(exc)
        if not self.lost.done():
            self.lost.set_result(True)

    async def flushed(self, limit_s: float) -> None:
        """Wait until the client's machine has all that was written: a RST throws away what the kernel has not sent."""
        end_s = monotonic_s() + limit_s
        while not self.lost.done() and (self.transport.get_write_buffer_size() or self.kernel.unsent()):
            if monotonic_s() > end_s:
                return
            await self.front.waits.sleep(_FLUSH_S, self.lost)

    def head(self, answer: Answer, request_id: str, *, close: bool) -> bytes:
        """Return the head of an answer, with the date unless it has one of its own."""
        date = b""
        if not (answer.headers and any(name == b"date" for name, _ in answer.headers)):
            date = b"%b: %b\r\n" % self.server_state.default_headers[0]  # the runner's, who keeps it fresh
        lines = answer.as_lines(request_id) + (b"connection: close\r\n\r\n" if close else b"\r\n")
        return status_line(answer.status) + date + lines

    def data_received(self, data: bytes) -> None:
        """Read on, and refuse a head that does not end."""
        before = self.scope
        in_head = bool(before) and "path" not in before
        ends, self._ends = self._ends if in_head else b"", data[1 - len(_UPGRADE_START) :]
        if _UPGRADE_START in (ends + data).lower():
            data = without_upgrade(ends, data)
        self._chunk_bytes = len(data)
        HttpToolsProtocol.data_received(self, data)
        # The parser keeps an unfinished header to itself, so what came is counted where it was all one head's.
        if self.scope is not before:
            self._head_bytes = 0
        elif in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT_BYTES:
                self.send_400_response("")

    def on_headers_complete(self) -> None:
        """End a request's head, and lend it its line; an error raised here is the parser's, which answers it."""
        # What came may be more than the head, so that is measured only where it could be too large.
        if self._head_bytes + self._chunk_bytes > HEAD_LIMIT_BYTES and self._head_size() > HEAD_LIMIT_BYTES:
            self._head_bytes = HEAD_LIMIT_BYTES + 1
            raise ValueError("the head is too large")
        HttpToolsProtocol.on_headers_complete(self)
        # Older uvicorns hear "Connection: close" from an application only.
        if not self.parser.should_keep_alive():  # pyright: ignore[reportOptionalMemberAccess]
            self.cycle.keep_alive = False
        # The request's task has been made but has not run yet.
        lent: Any = {EXTENSION: _Line(self, self.cycle)}
        self.scope["extensions"] = lent

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP in the contract's error body, journal it, and close.

        Where whole requests came before it, they are answered first and the connection then closes; a broken one
        behind others closes it at once, as an answer to it would be taken for theirs.
        """
        if self._unreadable:
            return
        self._unreadable = True
        if self._head_bytes > HEAD_LIMIT_BYTES:
            msg = f"its head has more than {HEAD_LIMIT_BYTES} bytes (64 KiB)"
        refusal: ApiError = MalformedRequest(f"this is no HTTP request that can be read: {msg}")
        exchange = Exchange.begin(self.front.service, self.front.sandboxes.default, refusal, Asked("", b"", b"", []))
        newest = cast("RequestResponseCycle | None", self.cycle)  # uvicorn begins without one
        answered = newest is None or newest.response_complete
        broken = newest is not None and newest.more_body  # it is that request's own body that can't be read
        now = answered or (broken and not self.pipeline)
        answer = exchange.refuse(refusal)
        exchange.record(delivered=now)
        if now:
            self.transport.write(self.head(answer, exchange.request_id, close=True) + answer.body)
        if newest is None or now or broken:
            self.transport.close()
        else:
            newest.keep_alive = False
