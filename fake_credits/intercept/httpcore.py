"""Interception in the sync and async connection pools of httpcore and httpcore2, and thereby in httpx and httpx2.

An intercepted request occupies a slot in the pool, as a connection would, so the pool's limit and timeout apply. A
complete response bypasses the library's HTTP/1.1 connection, because using it would double the cost. An incomplete
response is read by that connection from an in-memory stream, so that the errors are the library's own. An unusual
request (see `is_plain`) is also written by that connection, so that h11 rejects what it would reject on a socket.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import wraps
from types import ModuleType
from typing import Any, NamedTuple

from fake_credits.http_message import Request, Response, reason_phrase
from fake_credits.intercept.patching import Patches
from fake_credits.intercept.routes import NearMissError, Route, Routes
from fake_credits.transports.framing import is_plain
from fake_credits.transports.memory_stream import AsyncMemoryStream, MemoryStream, WrittenRequest

Method = Callable[..., Any]


def patch(module: ModuleType, routes: Routes, patches: Patches) -> None:
    """Patch ``httpcore`` or ``httpcore2``."""
    httpcore = _Httpcore(module)
    sync_pool, async_pool = httpcore.module.ConnectionPool, httpcore.module.AsyncConnectionPool
    patches.set(sync_pool, "handle_request", _patched_handle_request(sync_pool.handle_request, httpcore, routes))
    patches.set(
        async_pool,
        "handle_async_request",
        _patched_handle_async_request(async_pool.handle_async_request, httpcore, routes),
    )
    for pool in (sync_pool, async_pool):
        for pool_class in (pool, *pool.__subclasses__()):  # subclasses include the pools for proxies
            if "create_connection" in vars(pool_class):
                patches.set(pool_class, "create_connection", _patched_create_connection(pool_class.create_connection))


def _patched_handle_request(original: Method, httpcore: "_Httpcore", routes: Routes) -> Method:
    @wraps(original)
    def handle_request(pool: Any, request: Any) -> Any:
        route = httpcore.find_route(routes, request)
        if route is None:
            return original(pool, request)
        connection = _Connection(httpcore, pool, route, request)
        response = None
        if connection.acquire():
            try:
                response = connection.complete_response()
            except BaseException:
                pool._close_connections(connection.release())
                raise
        return original(pool, _PoolRequest(connection)) if response is None else response

    return handle_request


def _patched_handle_async_request(original: Method, httpcore: "_Httpcore", routes: Routes) -> Method:
    @wraps(original)
    async def handle_async_request(pool: Any, request: Any) -> Any:
        route = httpcore.find_route(routes, request)
        if route is None:
            return await original(pool, request)
        connection = _AsyncConnection(httpcore, pool, route, request)
        response = None
        if connection.acquire():
            try:
                response = await connection.complete_response()
            except BaseException:
                await pool._close_connections(connection.release())
                raise
        return await original(pool, _PoolRequest(connection)) if response is None else response

    return handle_async_request


def _patched_create_connection(original: Method) -> Method:
    """Return a replacement for ``create_connection``.

    For an intercepted request, ``origin`` is already the connection to return.
    """

    @wraps(original)
    def create_connection(pool: Any, origin: Any) -> Any:
        return origin if isinstance(origin, _BaseConnection) else original(pool, origin)

    return create_connection


class _Httpcore:
    """A wrapper around ``httpcore`` or ``httpcore2`` that finds routes and builds requests and responses."""

    def __init__(self, module: ModuleType) -> None:
        self.module: Any = module
        self._response_attributes: dict[str, Any] = vars(self.module.Response(200))
        self._logger = logging.getLogger(f"{module.__name__}.http11")

    def find_route(self, routes: Routes, request: Any) -> Route | None:
        """Return a request's route, or None if it has none. Raises httpcore's ConnectError for a near miss."""
        url = request.url
        try:
            return routes.find(request.method, url.scheme, url.host, url.port, url.target)
        except NearMissError as error:
            raise self.module.ConnectError(str(error)) from None

    def is_traced(self, request: Any) -> bool:
        """Return whether the steps of a request must be reported to its ``trace`` extension or to the debug log."""
        return "trace" in request.extensions or self._logger.isEnabledFor(logging.DEBUG)

    def build_response(self, source: Response, connection: "_BaseConnection") -> Any:
        """Return a complete response as the library would have read it, but without validating each header again."""
        response: Any = object.__new__(self.module.Response)
        response.__dict__ = {
            **self._response_attributes,
            "status": source.status,
            "headers": source.headers,
            "stream": connection,
            "extensions": {
                "http_version": b"HTTP/1.1",
                "reason_phrase": reason_phrase(source.status).encode("ascii"),
                "network_stream": connection,
            },
        }
        return response

    def copy_request(self, request: Any, body: bytes) -> Any:
        """Return a copy of a request with ``body``, which was read from the request's stream."""
        copied = self.module.Request(request.method, request.url, content=body, extensions=request.extensions)
        copied.headers = request.headers  # unchanged: the constructor would add missing headers
        return copied


class _PoolRequestUrl(NamedTuple):
    """The part of a request's URL that a pool needs. ``origin`` is the connection, so no other connection matches."""

    scheme: bytes
    origin: "_BaseConnection"


class _PoolRequest:
    """The part of a request that a pool needs to find a connection."""

    def __init__(self, connection: "_BaseConnection") -> None:
        self.extensions = connection.request.extensions
        self.url = _PoolRequestUrl(connection.request.url.scheme, connection)


class _BaseConnection:
    """A pool connection that serves a single request and is also the response's body stream.

    If the pool has room, the connection is added before the request is answered. If the pool is full or the response is
    incomplete, the pool handles the request as usual and assigns it to this connection. Closing the stream removes the
    connection from the pool.
    """

    def __init__(self, httpcore: _Httpcore, pool: Any, route: Route, request: Any) -> None:
        self.httpcore = httpcore
        self.pool = pool
        self.route = route
        self.request = request
        self.body = b""
        self.response: Any = None  # set when received
        self.stream: Any = None  # the library's own stream, if its connection reads the response
        self.released = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} [{self.info()}]>"

    def acquire(self) -> bool:
        """Add this connection to the pool if there is room, and return whether there was."""
        pool = self.pool
        with pool._optional_thread_lock:
            has_room = len(pool._connections) < pool._max_connections
            if has_room:
                pool._connections.append(self)
        return bool(has_room)

    def release(self) -> list[Any]:
        """Remove this connection from the pool, assign waiting requests, and return the connections to close."""
        if self.released:
            return []
        self.released = True
        pool = self.pool
        with pool._optional_thread_lock:
            if pool._requests:
                return list(pool._assign_requests_to_connections())
            if self in pool._connections:
                pool._connections.remove(self)
        return []

    def build_request(self) -> Request:
        """Return the request to send to the sandbox; its body must already have been read."""
        request = self.request
        headers = [(name.lower(), value) for name, value in request.headers]
        return Request(request.method.decode("ascii"), request.url.target, headers, self.body)

    @property
    def timeout_s(self) -> float | None:
        """Return the request's read timeout in seconds, or None for no limit."""
        timeout_s: float | None = self.request.extensions.get("timeout", {}).get("read")
        return timeout_s

    def accept_response(self, response: Response) -> Any:
        """Store the response; return it as an httpcore response, or None if httpcore's connection must read it."""
        self.response = response
        if response.outcome != "whole" or self.httpcore.is_traced(self.request):
            return None
        return self.httpcore.build_response(response, self)

    def get_extra_info(self, _info: str) -> None:
        """Return None for everything, because there is no network stream."""

    def info(self) -> str:
        """Return the description that the pool's repr includes."""
        return f"{str(self.route.base_url)!r}, INTERCEPTED"

    def can_handle_request(self, origin: object) -> bool:
        """Return whether the request with this origin is the one that this connection serves."""
        return origin is self

    def is_connected(self) -> bool:
        """Return whether the connection is in use."""
        return not self.released

    def is_closed(self) -> bool:
        """Return whether the connection has been released."""
        return self.released

    def is_available(self) -> bool:
        """Return whether the pool may assign the request to this connection."""
        return not self.released

    def is_idle(self) -> bool:
        """Return False, because no other request can use the connection."""
        return False

    has_expired = can_multiplex = is_idle


class _Connection(_BaseConnection):
    def complete_response(self) -> Any:
        """Send the request to the sandbox; return the response, or None if the library's connection must read it."""
        self.body = b"".join(self.request.stream)
        request = self.build_request()
        if not is_plain(request):
            return self._send_with_httpcore(self._respond_to_written)
        return self.accept_response(self.route.driver.call(self.route.localize(request, self.timeout_s)))

    def _respond_to_written(self, written: WrittenRequest) -> Response:
        if self.response is None:
            self.response = self.route.respond(written.received(), self.timeout_s)
        response: Response = self.response
        return response

    def handle_request(self, _request: _PoolRequest) -> Any:
        """Return the response to the connection's request; called by the pool."""
        try:
            response = self.complete_response() if self.response is None else None
            return self._send_with_httpcore(self._respond_to_written) if response is None else response
        except BaseException:
            self.released = True
            raise

    def _send_with_httpcore(self, respond: Callable[[WrittenRequest], Response]) -> Any:
        module = self.httpcore.module
        connection = module.HTTP11Connection(self.request.url.origin, MemoryStream(module, respond))
        response = connection.handle_request(self.httpcore.copy_request(self.request, self.body))
        self.stream, response.stream = response.stream, self
        return response

    def __iter__(self) -> Iterator[bytes]:
        return iter([self.response.body] if self.stream is None else self.stream)

    def close(self) -> None:
        """Close the stream and remove this connection from the pool; called when the response or the pool is closed."""
        if self.stream is not None:
            self.stream.close()
        if expired := self.release():
            self.pool._close_connections(expired)


class _AsyncConnection(_BaseConnection):
    async def complete_response(self) -> Any:
        """Send the request to the sandbox; return the response, or None if the library's connection must read it."""
        self.body = b"".join([part async for part in self.request.stream])
        request = self.build_request()
        if not is_plain(request):
            return await self._send_with_httpcore(self._respond_to_written)
        local_request = self.route.localize(request, self.timeout_s)
        return self.accept_response(await self.route.driver.call_async(local_request))

    async def _respond_to_written(self, written: WrittenRequest) -> Response:
        if self.response is None:
            self.response = await self.route.respond_async(written.received(), self.timeout_s)
        response: Response = self.response
        return response

    async def handle_async_request(self, _request: _PoolRequest) -> Any:
        """Return the response to the connection's request; called by the pool."""
        try:
            response = await self.complete_response() if self.response is None else None
            return await self._send_with_httpcore(self._respond_to_written) if response is None else response
        except BaseException:
            self.released = True
            raise

    async def _send_with_httpcore(self, respond: Callable[[WrittenRequest], Awaitable[Response]]) -> Any:
        module = self.httpcore.module
        connection = module.AsyncHTTP11Connection(self.request.url.origin, AsyncMemoryStream(module, respond))
        response = await connection.handle_async_request(self.httpcore.copy_request(self.request, self.body))
        self.stream, response.stream = response.stream, self
        return response

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _SingleChunk(self.response.body) if self.stream is None else aiter(self.stream)

    async def aclose(self) -> None:
        """Close the stream and remove this connection from the pool; called when the response or the pool is closed."""
        if self.stream is not None:
            await self.stream.aclose()
        if expired := self.release():
            await self.pool._close_connections(expired)


class _SingleChunk:
    def __init__(self, chunk: bytes) -> None:
        self._chunks = [chunk]

    def __aiter__(self) -> "_SingleChunk":
        return self

    async def __anext__(self) -> bytes:
        if not self._chunks:
            raise StopAsyncIteration
        return self._chunks.pop()
