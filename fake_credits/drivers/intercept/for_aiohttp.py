"""Own interception in aiohttp: at its connector.

An intercepted request takes a place in the connector under a key of its own, so the limits, the traces and keeping
alive are the connector's; what it gets is aiohttp's own protocol over a transport in memory, so that its parser, its
errors and its own second try take part.
"""

import asyncio
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any, NamedTuple

from fake_credits.drivers.in_process import Reply
from fake_credits.drivers.intercept.patches import Patches
from fake_credits.drivers.intercept.routes import Route, Routes
from fake_credits.drivers.intercept.wire import CONTINUE, Request, RequestReader, answer_bytes, reset_by_peer

__all__ = ["patch"]

Method = Callable[..., Any]


def patch(module: ModuleType, routes: Routes, patches: Patches) -> None:
    """Patch ``aiohttp.connector``."""
    connector: Any = module
    base = connector.BaseConnector
    patches.set(base, "connect", _connect(base.connect, routes))
    for each in (connector.TCPConnector, connector.UnixConnector, connector.NamedPipeConnector):
        create = _create_connection(each._create_connection, connector.ResponseHandler)
        patches.set(each, "_create_connection", create)


def _connect(original: Method, routes: Routes) -> Method:
    @wraps(original)
    async def connect(connector: Any, req: Any, traces: Any, timeout: Any) -> Any:
        url = req.url
        route = routes.find(url.scheme, url.raw_host or "", url.port, url.raw_path_qs.encode())
        if route is None:
            return await original(connector, req, traces, timeout)
        connection = await original(connector, _Wanted(route), traces, timeout)
        connection.transport.begin(_Patience(timeout.sock_read, timeout.total, req._timer))
        return connection

    return connect


def _create_connection(original: Method, protocol_class: Any) -> Method:
    @wraps(original)
    async def create_connection(connector: Any, req: Any, traces: Any, timeout: Any) -> Any:
        if not isinstance(req, _Wanted):
            return await original(connector, req, traces, timeout)
        loop = asyncio.get_running_loop()
        protocol = protocol_class(loop=loop)
        protocol.connection_made(_Transport(req.connection_key.route, protocol, loop))
        return protocol

    return create_connection


class _Key(NamedTuple):
    """Be the key of an intercepted connection in the connector's pool: no real one has it."""

    route: Route
    is_ssl: bool = False

    def __repr__(self) -> str:
        return f"<{self.route.base} in memory>"  # aiohttp's own errors show it


class _Wanted:
    """Be as much of a request as the connector reads while it finds a connection for it."""

    proxy = None

    def __init__(self, route: Route) -> None:
        self.connection_key = _Key(route)


class _Patience(NamedTuple):
    """Say how long a request waits: for the next byte, and for everything; ``timer`` ends the latter."""

    next_byte_s: float | None
    total_s: float | None
    timer: Any

    def least_s(self) -> float | None:
        """Return what ends first, in seconds; 0 is no limit to aiohttp."""
        return min(filter(None, (self.next_byte_s, self.total_s)), default=None)


class _Transport(asyncio.Transport):
    """Be the connection's other end: it has each request that was written answered, and feeds the protocol."""

    def __init__(self, route: Route, protocol: Any, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._route = route
        self._protocol = protocol
        self._loop = loop
        self._reader = RequestReader()
        self._patience = _Patience(None, None, None)
        self._answering: asyncio.Task[None] | None = None
        self._closing = False

    def __repr__(self) -> str:
        return f"<{self._route.base} in memory>"

    def begin(self, patience: _Patience) -> None:
        """Take over how long the next request waits."""
        self._patience = patience

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take a part of a request; with its last one, have it answered."""
        request = self._reader.feed(bytes(data))
        if request is not None:
            self._answering = self._loop.create_task(self._answer(request))
        elif self._reader.awaits_continue:
            self._loop.call_soon(self._receive, CONTINUE)

    async def _answer(self, request: Request) -> None:
        outgoing = self._route.outgoing(*request, self._patience.least_s())
        try:
            reply = await self._route.driver.call_async(outgoing)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - it is raised to whoever awaits the answer
            self._protocol.set_exception(error)
            return
        self._receive(answer_bytes(reply))
        self._end(reply)

    def _receive(self, data: bytes) -> None:
        if data and not self._closing:
            self._protocol.data_received(data)

    def _end(self, reply: Reply) -> None:
        if self._closing or reply.end == "whole":
            return
        if reply.end == "reset":
            self._lose(reset_by_peer())
        elif reply.end != "timeout":
            self._protocol.eof_received()
            self._lose(None)
        elif self._patience.least_s() == self._patience.next_byte_s:
            self._protocol._on_read_timeout()
        else:
            self._patience.timer.timeout()

    def _lose(self, error: Exception | None) -> None:
        self._closing = True
        self._loop.call_soon(self._protocol.connection_lost, error)

    def close(self) -> None:
        """End the connection; an answer under way is not waited for."""
        if not self._closing:
            self._lose(None)
            if self._answering is not None:
                self._answering.cancel()

    abort = close

    def is_closing(self) -> bool:
        """Tell whether the connection has ended."""
        return self._closing

    def get_protocol(self) -> Any:
        """Return aiohttp's side."""
        return self._protocol

    def pause_reading(self) -> None:
        """Do nothing: an answer is small."""

    def resume_reading(self) -> None:
        """Do nothing."""
