"""Interception in aiohttp, at its connector.

An intercepted request gets a connection from the connector under a separate key, so the connector's limits, traces and
keep-alive still apply. The connection uses aiohttp's own protocol over an in-memory transport, so aiohttp's parser,
errors and retries apply too.
"""

import asyncio
import errno
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any, NamedTuple

from fake_credits.http_message import Response
from fake_credits.intercept.patching import Patches
from fake_credits.intercept.routes import NearMissError, Route, Routes
from fake_credits.transports.framing import ReceivedRequest
from fake_credits.transports.in_process import CALLING_TASK
from fake_credits.transports.memory_stream import (
    CONTINUE_RESPONSE,
    RequestParser,
    connection_reset_error,
    response_bytes,
)

Method = Callable[..., Any]


def patch(module: ModuleType, routes: Routes, patches: Patches) -> None:
    """Patch ``aiohttp.connector``."""
    connector: Any = module
    base = connector.BaseConnector
    patches.set(base, "connect", _patched_connect(base.connect, routes, connector.ClientConnectorError))
    for connector_class in (connector.TCPConnector, connector.UnixConnector, connector.NamedPipeConnector):
        create = _patched_create_connection(connector_class._create_connection, connector.ResponseHandler)
        patches.set(connector_class, "_create_connection", create)


def _patched_connect(original: Method, routes: Routes, error_class: Any) -> Method:
    @wraps(original)
    async def connect(connector: Any, req: Any, traces: Any, timeout: Any) -> Any:
        url = req.url
        try:
            route = routes.find(req.method, url.scheme, url.raw_host or "", url.port, url.raw_path_qs.encode())
        except NearMissError as error:
            refusal = ConnectionRefusedError(errno.ECONNREFUSED, str(error))
            raise error_class(req.connection_key, refusal) from None
        if route is None:
            return await original(connector, req, traces, timeout)
        connection = await original(connector, _ConnectRequest(route), traces, timeout)
        timeouts = _Timeouts(timeout.sock_read, timeout.total, req._timer)
        connection.transport.prepare(timeouts, asyncio.current_task())
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
    """The key for intercepted connections in the connector's pool; no network connection has such a key."""

    route: Route
    is_ssl: bool = False

    def __repr__(self) -> str:
        return f"<{self.route.base_url} in memory>"  # appears in aiohttp's own errors


class _ConnectRequest:
    """The part of a request that the connector needs to find a connection."""

    proxy = None

    def __init__(self, route: Route) -> None:
        self.connection_key = _ConnectionKey(route)


class _Timeouts(NamedTuple):
    """A request's timeouts, and the timer that enforces the total timeout."""

    next_byte_s: float | None
    total_s: float | None
    total_timer: Any

    def shortest_s(self) -> float | None:
        """Return the shorter timeout in seconds, or None for no limit; in aiohttp, 0 also means no limit."""
        return min(filter(None, (self.next_byte_s, self.total_s)), default=None)


class _MemoryTransport(asyncio.Transport):
    """The transport for an intercepted connection; it feeds the sandbox's responses to the protocol."""

    def __init__(self, route: Route, protocol: Any, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._route = route
        self._protocol = protocol
        self._loop = loop
        self._parser = RequestParser()
        self._timeouts = _Timeouts(None, None, None)
        self._calling_task: asyncio.Task[Any] | None = None
        self._respond_task: asyncio.Task[None] | None = None
        self._is_closing = False

    def prepare(self, timeouts: _Timeouts, calling_task: "asyncio.Task[Any] | None") -> None:
        """Set the timeouts for the next request, and the task that makes it."""
        self._timeouts, self._calling_task = timeouts, calling_task

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add part of a request, and respond once the request is complete."""
        received = self._parser.feed(bytes(data))
        if received is not None:
            self._respond_task = self._loop.create_task(self._respond(received))
        elif self._parser.awaits_continue:
            self._loop.call_soon(self._feed_protocol, CONTINUE_RESPONSE)

    async def _respond(self, received: ReceivedRequest) -> None:
        CALLING_TASK.set(self._calling_task)
        try:
            response = await self._route.respond_async(received, self._timeouts.shortest_s())
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - re-raised where the response is awaited
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
        """Close the connection, cancelling any response in progress."""
        if not self._is_closing:
            self._close_with(None)
            if self._respond_task is not None:
                self._respond_task.cancel()

    abort = close

    def is_closing(self) -> bool:
        return self._is_closing

    def get_protocol(self) -> Any:
        return self._protocol

    def pause_reading(self) -> None:
        """Do nothing, because responses are small."""

    def resume_reading(self) -> None:
        """Do nothing, because reading is never paused."""
