"""Everything that depends on uvicorn: a base class for protocols, and a server that starts and stops quickly.

``tests/transports/test_uvicorn_adapter.py`` checks the parts of uvicorn's private API that are used here.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import httptools
from starlette.types import ASGIApp
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import Server

from fake_credits.clock import monotonic_s, wall_clock_ms
from fake_credits.http_message import http_date
from fake_credits.transports.sockets import PendingWaits, TlsListener

_STOP_TIMEOUT_S = 5.0


class UvicornProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol without its ASGI cycle; only the bookkeeping and the keep-alive timer remain."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_read_paused = self.is_write_paused = False
        self._last_active_s = 0.0
        # Otherwise, uvicorn logs requests if the process has configured its logger; the journal already records them.
        self.access_log = False

    @property
    def date(self) -> bytes:
        """Return the value of the Date header."""
        return self.server_state.default_headers[0][1]

    def pause_writing(self) -> None:
        """Record that the write buffer is full because the client is not reading."""
        self.is_write_paused = True

    def resume_writing(self) -> None:
        """Record that the client is reading again."""
        self.is_write_paused = False

    def set_reading(self, *, is_paused: bool) -> None:
        """Pause or resume reading."""
        if is_paused != self.is_read_paused:
            self.is_read_paused = is_paused
            if is_paused:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def restart_keep_alive_timer(self) -> None:
        """Close the connection unless a request arrives within the keep-alive timeout."""
        # A single timer keeps running and checks the time, because replacing the timer would add to the cost of every
        # request.
        self._last_active_s = monotonic_s()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self._check_keep_alive)

    def is_idle(self) -> bool:
        """Return whether the keep-alive timer may close the connection."""
        return True

    def _check_keep_alive(self) -> None:
        self.timeout_keep_alive_task = None
        remaining_s = self._last_active_s + self.timeout_keep_alive - monotonic_s()
        if remaining_s <= 0 and self.is_idle():
            self.timeout_keep_alive_handler()
        elif not self.transport.is_closing():
            delay_s = remaining_s if remaining_s > 0 else self.timeout_keep_alive
            self.timeout_keep_alive_task = self.loop.call_later(delay_s, self._check_keep_alive)

    def create_task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in a task; the server waits for such tasks when it stops."""
        task = self.loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def new_parser(self) -> None:
        """Replace the parser with a new one."""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)


class UvicornServer(Server):
    """A server without uvicorn's main loop, which checks only ten times a second whether to stop."""

    def __init__(self, app: ASGIApp, protocol: Callable[..., asyncio.Protocol], pending_waits: PendingWaits) -> None:
        config = Config(
            app,
            http=protocol,  # type: ignore[arg-type]
            interface="asgi3",
            ws="none",
            lifespan="off",
            proxy_headers=False,
            # False would silence "uvicorn.access" for the whole process; our protocol logs nothing either way.
            access_log=True,
            log_config=None,
            server_header=False,
            date_header=False,
        )
        config.load()
        super().__init__(config)
        self._pending_waits = pending_waits
        self._listener: socket.socket | None = None
        self._tls_listeners: tuple[TlsListener, ...] = ()

    async def start(self, listener: socket.socket, ssl_context: ssl.SSLContext | None) -> None:
        """Start accepting connections, over TLS unless ``ssl_context`` is None."""
        self._listener = listener
        self.lifespan = self.config.lifespan_class(self.config)
        self.servers = []
        if ssl_context is None:
            await self.startup(sockets=[listener])
            return
        protocol_class: Any = self.config.http_protocol_class
        protocol_kwargs = {"config": self.config, "server_state": self.server_state, "app_state": self.lifespan.state}
        tls_listener = TlsListener(
            listener, ssl_context, partial(protocol_class, **protocol_kwargs), self.server_state.tasks
        )
        tls_listener.start()
        self._tls_listeners = (tls_listener,)

    def refresh_date(self) -> None:
        """Set the Date header to the current time."""
        self.server_state.default_headers = [(b"date", http_date(wall_clock_ms() // 1000))]

    async def shut_down(self) -> None:
        """Close the listeners, abort all connections, and wait up to 5 s for their requests to end."""
        # asyncio sets up accepted connections in the loop's next iteration, so the listener must stay open until then.
        if self._listener is not None:
            with contextlib.suppress(NotImplementedError):  # not implemented by the default event loop on Windows
                asyncio.get_running_loop().remove_reader(self._listener)
        await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        for listener in self._tls_listeners:
            listener.close()
        # At the end of a loop iteration, uvloop sends what was just written; aborting now would drop it.
        await asyncio.sleep(0)
        deadline_s = monotonic_s() + _STOP_TIMEOUT_S
        while (self.server_state.connections or self.server_state.tasks) and monotonic_s() < deadline_s:
            # Repeated, because a connection accepted just before shutdown may be set up only now.
            for connection in list(self.server_state.connections):
                connection.transport.abort()
            if not self.server_state.connections:
                self._pending_waits.cancel_all()
            await asyncio.sleep(0.0005)
