"""Socket helpers for the live server: connection state and resets, a TLS listener, and waits in the event loop."""

import asyncio
import contextlib
import socket
import ssl
import struct
import sys
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from fake_credits.clock import monotonic_s
from fake_credits.concurrency import is_debugger_open
from fake_credits.faults.waits import ServerStopping
from fake_credits.sandbox import Sandbox

if sys.platform != "win32":
    import fcntl
    import termios

_TCP_ESTABLISHED = 1  # the value on Linux
_TCP_CONNECTION_INFO, _TCPS_ESTABLISHED, _SO_NWRITE = 0x106, 4, 0x1024  # the values on macOS


class KernelSocket:
    """A handle on a transport's socket, which the event loop closes; call ``detach`` when the connection is lost."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport_socket: Any = transport.get_extra_info("socket")
        self._query_socket: socket.socket | None = None
        if self._transport_socket is not None and sys.platform in ("linux", "darwin"):
            # Created once, because uvloop would create a new socket object for each query.
            whole = self._transport_socket
            self._query_socket = socket.socket(whole.family, whole.type, whole.proto, whole.fileno())

    def detach(self) -> None:
        """Release the socket without closing it."""
        query_socket, self._query_socket = self._query_socket, None
        if query_socket is not None:
            query_socket.detach()

    def unsent_bytes(self) -> int:
        """Return how many bytes the peer's kernel has not acknowledged yet, or 0 if the platform can't report it."""
        if self._query_socket is None:
            return 0
        if sys.platform == "darwin":
            with contextlib.suppress(OSError):  # the connection has been reset
                return self._query_socket.getsockopt(socket.SOL_SOCKET, _SO_NWRITE)
            return 0
        return int.from_bytes(fcntl.ioctl(self._query_socket, termios.TIOCOUTQ, bytes(4)), sys.byteorder)

    def is_established(self) -> bool:
        """Return whether the connection is open in both directions, or True if the platform can't report it."""
        if self._query_socket is None:
            return True
        try:
            # On both platforms the state is the first byte.
            if sys.platform == "darwin":
                return (
                    self._query_socket.getsockopt(socket.IPPROTO_TCP, _TCP_CONNECTION_INFO, 1)[0] == _TCPS_ESTABLISHED
                )
            return self._query_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_ESTABLISHED
        except OSError:
            return False

    def reset_on_close(self) -> None:
        """Make closing the connection send an RST."""
        if self._transport_socket is not None:
            self._transport_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


_LISTEN_BACKLOG = 2048  # like uvicorn
_ACCEPT_RETRY_DELAY_S = 0.1


class TlsListener:
    """A listener that performs the TLS handshake for each connection and then attaches a protocol to it.

    A client that aborts the handshake or does not speak TLS is ignored. ``tasks`` collects the tasks that accept
    connections and perform handshakes; they end soon after ``close``.
    """

    def __init__(
        self,
        listener: socket.socket,
        ssl_context: ssl.SSLContext,
        protocol_factory: Callable[[], asyncio.Protocol],
        tasks: set[asyncio.Task[None]],
    ) -> None:
        self._listener = listener
        self._ssl_context = ssl_context
        self._protocol_factory = protocol_factory
        self._tasks = tasks
        self._handshaking: set[socket.socket] = set()
        self._accept_task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start accepting connections."""
        self._listener.listen(_LISTEN_BACKLOG)
        self._accept_task = self._create_task(self._accept_connections())
        self._accept_task.add_done_callback(lambda _: self._listener.close())

    def close(self) -> None:
        """Stop accepting connections, close the listening socket, and abort handshakes in progress."""
        if self._accept_task is not None:
            self._accept_task.cancel()
        for connection in self._handshaking:
            with contextlib.suppress(OSError):  # already disconnected
                connection.shutdown(socket.SHUT_RDWR)

    def _create_task(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept_connections(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError:  # such as too many open files; the next attempt may succeed
                await asyncio.sleep(_ACCEPT_RETRY_DELAY_S)
                continue
            self._handshaking.add(connection)
            self._create_task(self._handshake(connection))

    async def _handshake(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            # ssl.SSLError is an OSError
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(self._protocol_factory, connection, ssl=self._ssl_context)
        finally:
            self._handshaking.discard(connection)


_MIN_TIMER_S = 0.001
_DEBUGGER_CHECK_INTERVAL_S = 0.25


class PendingWaits:
    """A server's pending waits; `cancel_all` ends all of them."""

    def __init__(self) -> None:
        self._pending: set[asyncio.Future[bool]] = set()

    def __repr__(self) -> str:
        return f"<PendingWaits: {len(self._pending)} pending>"

    async def sleep(self, seconds: float, stop: "asyncio.Future[bool]") -> None:
        """Sleep for at least ``seconds``, or until ``stop`` is done."""
        deadline_s = monotonic_s() + seconds
        while not stop.done() and (remaining_s := deadline_s - monotonic_s()) > 0:
            await self._wait_once(stop, max(remaining_s, _MIN_TIMER_S))

    async def wait_until_done(self, future: "asyncio.Future[bool]", timeout_s: float) -> bool:
        """Wait up to ``timeout_s`` for a future, and return whether it is done; time in a debugger does not count."""
        remaining_s = timeout_s
        while remaining_s > 0 and not future.done():
            started_s = monotonic_s()
            await self._wait_once(future, max(min(remaining_s, _DEBUGGER_CHECK_INTERVAL_S), _MIN_TIMER_S))
            if not future.done() and not is_debugger_open():
                remaining_s -= monotonic_s() - started_s
        return future.done()

    def cancel_all(self) -> None:
        """Make every pending wait raise ServerStopping."""
        for future in list(self._pending):
            if not future.done():
                future.set_exception(ServerStopping())

    async def _wait_once(self, future: "asyncio.Future[bool]", timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()

        def wake(_future: "asyncio.Future[bool]") -> None:
            set_done(waiter)

        timer = loop.call_later(timeout_s, set_done, waiter)
        future.add_done_callback(wake)
        self._pending.add(waiter)
        try:
            await waiter
        finally:
            self._pending.discard(waiter)
            timer.cancel()
            future.remove_done_callback(wake)


def set_done(future: "asyncio.Future[bool]") -> None:
    """Set a future's result to True unless it is already done."""
    if not future.done():
        future.set_result(True)


@contextlib.contextmanager
def until_sandbox_closes(
    sandbox: Sandbox, applies: Callable[[], bool] = lambda: True
) -> Generator["asyncio.Future[bool]"]:
    """Yield a future that is done once the sandbox is closed or reset while ``applies()`` is true."""
    loop = asyncio.get_running_loop()
    closed: asyncio.Future[bool] = loop.create_future()

    def on_close() -> None:
        if applies():
            set_done(closed)

    def on_close_from_any_thread() -> None:
        with contextlib.suppress(RuntimeError):  # the server has stopped
            loop.call_soon_threadsafe(on_close)

    with sandbox.lock:
        sandbox.close_callbacks.add(on_close_from_any_thread)
    if sandbox.is_closed:
        set_done(closed)
    try:
        yield closed
    finally:
        with sandbox.lock:
            sandbox.close_callbacks.discard(on_close_from_any_thread)
