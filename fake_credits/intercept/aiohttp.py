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

from fake_credits.http_message import Response
from fake_credits.intercept.patching import Patches
from fake_credits.intercept.routes import Route, Routes
from fake_credits.transports.framing import ReceivedRequest
from fake_credits.transports.memory_stream import (
    CONTINUE_RESPONSE,
    RequestParser,
    connection_reset_error,
    response_bytes,
)

__all__ = ["patch"]

Method = Callable[..., Any]


def patch(module: ModuleType, routes: Routes, patches: Patches) -> None:
    """Patch ``aiohttp.connector``."""
    connector: Any = module
    base = connector.BaseConnector
    patches.set(base, "connect", _patched_connect(base.connect, routes))
    for connector_class in (connector.TCPConnector, connector.UnixConnector, connector.NamedPipeConnector):
        create = _patched_create_connection(connector_class._create_connection, connector.ResponseHandler)
        patches.set(connector_class, "_create_connection", create)


def _patched_connect(original: Method, routes: Routes) -> Method:
    @wraps(original)
    async def connect(connector: Any, req: Any, traces: Any, timeout: Any) -> Any:
        url = req.url
        route = routes.find(url.scheme, url.raw_host or "", url.port, url.raw_path_qs.encode())
        if route is None:
            return await original(connector, req, traces, timeout)
        connection = await original(connector, _ConnectRequest(route), traces, timeout)
        connection.transport.set_timeouts(_Timeouts(timeout.sock_read, timeout.total, req._timer))
        return connection

    return connect


def _patched_create_connection(original: Method, protocol_class: Any) -> Method:
    @wraps(original)
    async def create_connection(connector: Any, req: Any, traces: Any, timeout: Any) -> Any:
        if not isinstance(req, _ConnectRequest):
            return await original(connector, req, traces, timeout)
        loop = asyncio.get_running_loop()
        protocol = protocol_class(loop=loop)
        protocol.connection_made(_MemoryTransport(req.connection_key.route, protocol, loop))
        return protocol

    return create_connection


class _ConnectionKey(NamedTuple):
    """Be the key of an intercepted connection in the connector's pool: no real one has it."""

    route: Route
    is_ssl: bool = False

    def __repr__(self) -> str:
        return f"<{self.route.base_url} in memory>"  # aiohttp's own errors show it


class _ConnectRequest:
    """Be as much of a request as the connector reads while it finds a connection for it."""

    proxy = None

    def __init__(self, route: Route) -> None:
        self.connection_key = _ConnectionKey(route)


class _Timeouts(NamedTuple):
    """Say how long a request waits: for the next byte, and for everything; ``timer`` ends the latter."""

    next_byte_s: float | None
    total_s: float | None
    total_timer: Any

    def shortest_s(self) -> float | None:
        """Return what ends first, in seconds; 0 is no limit to aiohttp."""
        return min(filter(None, (self.next_byte_s, self.total_s)), default=None)


class _MemoryTransport(asyncio.Transport):
    """Be the connection's other end: it has each request that was written answered, and feeds the protocol."""

    def __init__(self, route: Route, protocol: Any, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._route = route
        self._protocol = protocol
        self._loop = loop
        self._parser = RequestParser()
        self._timeouts = _Timeouts(None, None, None)
        self._respond_task: asyncio.Task[None] | None = None
        self._is_closing = False

    def __repr__(self) -> str:
        return f"<{self._route.base_url} in memory>"

    def set_timeouts(self, timeouts: _Timeouts) -> None:
        """Take over how long the next request waits."""
        self._timeouts = timeouts

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take a part of a request; with its last one, have it answered."""
        received = self._parser.feed(bytes(data))
        if received is not None:
            self._respond_task = self._loop.create_task(self._respond(received))
        elif self._parser.awaits_continue:
            self._loop.call_soon(self._feed_protocol, CONTINUE_RESPONSE)

    async def _respond(self, received: ReceivedRequest) -> None:
        try:
            response = await self._route.respond_async(received, self._timeouts.shortest_s())
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - it is raised to whoever awaits the answer
            self._protocol.set_exception(error)
            return
        self._feed_protocol(response_bytes(response))
        self._end_response(response)

    def _feed_protocol(self, data: bytes) -> None:
        if data and not self._is_closing:
            self._protocol.data_received(data)

    def _end_response(self, response: Response) -> None:
        if self._is_closing or response.outcome == "whole":
            return
        if response.outcome == "reset":
            self._close_with(connection_reset_error())
        elif response.outcome != "timeout":
            self._protocol.eof_received()
            self._close_with(None)
        elif self._timeouts.shortest_s() == self._timeouts.next_byte_s:
            self._protocol._on_read_timeout()
        else:
            self._timeouts.total_timer.timeout()

    def _close_with(self, error: Exception | None) -> None:
        self._is_closing = True
        self._loop.call_soon(self._protocol.connection_lost, error)

    def close(self) -> None:
        """End the connection; an answer under way is not waited for."""
        if not self._is_closing:
            self._close_with(None)
            if self._respond_task is not None:
                self._respond_task.cancel()

    abort = close

    def is_closing(self) -> bool:
        """Tell whether the connection has ended."""
        return self._is_closing

    def get_protocol(self) -> Any:
        """Return aiohttp's side."""
        return self._protocol

    def pause_reading(self) -> None:
        """Do nothing: an answer is small."""

    def resume_reading(self) -> None:
        """Do nothing."""
