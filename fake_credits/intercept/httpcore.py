"""Own interception in httpcore and httpcore2, and so in httpx and httpx2: at the connection pool, sync and async.

An intercepted request takes a place in the pool like a connection, so the pool's limit and its timeout hold. A whole
answer goes past the library's connection, which would cost as much as all the rest; any other is read by that
connection from a stream in memory, so that its errors are the library's own. That connection also writes every request
that is out of the ordinary, so that h11 refuses what it would refuse on a socket.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import wraps
from types import ModuleType
from typing import Any, NamedTuple

from fake_credits.http_message import Request, Response, reason_phrase
from fake_credits.intercept.patching import Patches
from fake_credits.intercept.routes import Route, Routes
from fake_credits.transports.framing import is_plain
from fake_credits.transports.memory_stream import AsyncMemoryStream, MemoryStream, WrittenRequest

__all__ = ["patch"]

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
        for pool_class in (pool, *pool.__subclasses__()):  # those for proxies
            if "create_connection" in vars(pool_class):
                patches.set(pool_class, "create_connection", _patched_create_connection(pool_class.create_connection))


def _find_route(routes: Routes, request: Any) -> Route | None:
    url = request.url
    return routes.find(url.scheme, url.host, url.port, url.target)


def _patched_handle_request(original: Method, httpcore: "_Httpcore", routes: Routes) -> Method:
    @wraps(original)
    def handle_request(pool: Any, request: Any) -> Any:
        route = _find_route(routes, request)
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
        route = _find_route(routes, request)
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
    """Return a method that makes no connection for a request whose place is one already."""

    @wraps(original)
    def create_connection(pool: Any, origin: Any) -> Any:
        return origin if isinstance(origin, _BaseConnection) else original(pool, origin)

    return create_connection


class _Httpcore:
    """Make what httpcore would."""

    def __init__(self, module: ModuleType) -> None:
        self.module: Any = module
        self._response_attributes: dict[str, Any] = vars(self.module.Response(200))

    def build_response(self, source: Response, connection: "_BaseConnection") -> Any:
        """Return a whole answer as the library would have read it; its own way would check each header again."""
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
        """Return a request anew whose body has been read."""
        copied = self.module.Request(request.method, request.url, content=body, extensions=request.extensions)
        copied.headers = request.headers  # as they are: the constructor would add what is missing
        return copied


class _PoolRequestUrl(NamedTuple):
    """Be as much of a request's URL as a pool reads: the origin is the place itself, which equals no other."""

    scheme: bytes
    origin: "_BaseConnection"


class _PoolRequest:
    """Be as much of a request as a pool reads while it finds a connection for it."""

    def __init__(self, connection: "_BaseConnection") -> None:
        self.extensions = connection.request.extensions
        self.url = _PoolRequestUrl(connection.request.url.scheme, connection)


class _BaseConnection:
    """Be a connection of one request in a pool's list, and the body of its answer: once that is closed it is gone.

    A request that finds room has its place before it is answered. Where the answer is not whole, or there was no room,
    the request then goes the pool's own way, to this very place.
    """

    def __init__(self, httpcore: _Httpcore, pool: Any, route: Route, request: Any) -> None:
        self.httpcore = httpcore
        self.pool = pool
        self.route = route
        self.request = request
        self.body = b""
        self.response: Any = None  # once there is one
        self.stream: Any = None  # of the library's own connection, where that reads the answer
        self.released = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} [{self.info()}]>"

    def acquire(self) -> bool:
        """Enter the pool's list at once where it has room; else the pool itself has to make some."""
        pool = self.pool
        with pool._optional_thread_lock:
            has_room = len(pool._connections) < pool._max_connections
            if has_room:
                pool._connections.append(self)
        return bool(has_room)

    def release(self) -> list[Any]:
        """Leave the list, let who waits take the place, and return the connections that the pool then closes."""
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
        """Return the request, whose body has been read."""
        request = self.request
        headers = [(name.lower(), value) for name, value in request.headers]
        return Request(request.method.decode("ascii"), request.url.target, headers, self.body)

    @property
    def timeout_s(self) -> float | None:
        """Return how long the request's client waits for the next byte, in seconds."""
        timeout_s: float | None = self.request.extensions.get("timeout", {}).get("read")
        return timeout_s

    def accept_response(self, response: Response) -> Any:
        """Keep the reply, and return the answer; None where the library's connection is to read it."""
        self.response = response
        if response.outcome != "whole" or "trace" in self.request.extensions:
            return None
        return self.httpcore.build_response(response, self)

    def get_extra_info(self, _info: str) -> None:
        """Tell that nothing is known of a stream that the answer did not come by."""

    def info(self) -> str:
        """Return what a pool's repr shows."""
        return f"{str(self.route.base_url)!r}, INTERCEPTED"

    def can_handle_request(self, origin: object) -> bool:
        """Tell whether this is the place of a request."""
        return origin is self

    def is_connected(self) -> bool:
        """Tell whether it is in use."""
        return not self.released

    def is_closed(self) -> bool:
        """Tell whether it is gone."""
        return self.released

    def is_available(self) -> bool:
        """Tell whether its own request may come, the pool's way."""
        return not self.released

    def is_idle(self) -> bool:
        """Tell that nobody else may have it."""
        return False

    has_expired = can_multiplex = is_idle


class _Connection(_BaseConnection):
    def complete_response(self) -> Any:
        """Have the request answered; return None where the answer is not whole."""
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
        """Answer the one request, for the pool."""
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
        """Be gone: the answer is read, or the pool is closed."""
        if self.stream is not None:
            self.stream.close()
        if expired := self.release():
            self.pool._close_connections(expired)


class _AsyncConnection(_BaseConnection):
    async def complete_response(self) -> Any:
        """Have the request answered; return None where the answer is not whole."""
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
        """Answer the one request, for the pool."""
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
        """Be gone: the answer is read, or the pool is closed."""
        if self.stream is not None:
            await self.stream.aclose()
        if expired := self.release():
            await self.pool._close_connections(expired)


class _SingleChunk:
    """Be an async iterator of one part."""

    def __init__(self, chunk: bytes) -> None:
        self._chunks = [chunk]

    def __aiter__(self) -> "_SingleChunk":
        return self

    async def __anext__(self) -> bytes:
        if not self._chunks:
            raise StopAsyncIteration
        return self._chunks.pop()
