"""Own interception in httpcore and httpcore2, and so in httpx and httpx2: at the connection pool, sync and async.

An intercepted request takes a place in the pool like a connection, so the pool's limit and its timeout hold. A whole
answer goes past the library's connection, which would cost as much as all the rest; any other is read by that
connection from a stream in memory, so that its errors are the library's own.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from functools import wraps
from types import ModuleType
from typing import Any, NamedTuple

from fake_credits.drivers.in_process import Outgoing, Reply
from fake_credits.drivers.intercept.httpcore_stream import AsyncMemoryStream, MemoryStream
from fake_credits.drivers.intercept.patches import Patches
from fake_credits.drivers.intercept.routes import Route, Routes
from fake_credits.http_status import reason_phrase

__all__ = ["patch"]

Method = Callable[..., Any]


def patch(module: ModuleType, routes: Routes, patches: Patches) -> None:
    """Patch ``httpcore`` or ``httpcore2``."""
    core = _Core(module)
    sync, asynchronous = core.module.ConnectionPool, core.module.AsyncConnectionPool
    patches.set(sync, "handle_request", _handle_request(sync.handle_request, core, routes))
    patches.set(
        asynchronous,
        "handle_async_request",
        _handle_async_request(asynchronous.handle_async_request, core, routes),
    )
    for pool in (sync, asynchronous):
        for each in (pool, *pool.__subclasses__()):  # those for proxies
            if "create_connection" in vars(each):
                patches.set(each, "create_connection", _create_connection(each.create_connection))


def _find(routes: Routes, request: Any) -> Route | None:
    url = request.url
    return routes.find(url.scheme, url.host, url.port, url.target)


def _handle_request(original: Method, core: "_Core", routes: Routes) -> Method:
    @wraps(original)
    def handle_request(pool: Any, request: Any) -> Any:
        route = _find(routes, request)
        if route is None:
            return original(pool, request)
        place = _Place(core, pool, route, request)
        answer = None
        if place.take():
            try:
                answer = place.whole_answer()
            except BaseException:
                pool._close_connections(place.leave())
                raise
        return original(pool, _Waiting(place)) if answer is None else answer

    return handle_request


def _handle_async_request(original: Method, core: "_Core", routes: Routes) -> Method:
    @wraps(original)
    async def handle_async_request(pool: Any, request: Any) -> Any:
        route = _find(routes, request)
        if route is None:
            return await original(pool, request)
        place = _AsyncPlace(core, pool, route, request)
        answer = None
        if place.take():
            try:
                answer = await place.whole_answer()
            except BaseException:
                await pool._close_connections(place.leave())
                raise
        return await original(pool, _Waiting(place)) if answer is None else answer

    return handle_async_request


def _create_connection(original: Method) -> Method:
    """Return a method that makes no connection for a request whose place is one already."""

    @wraps(original)
    def create_connection(pool: Any, origin: Any) -> Any:
        return origin if isinstance(origin, _BasePlace) else original(pool, origin)

    return create_connection


class _Core:
    """Make what httpcore would."""

    def __init__(self, module: ModuleType) -> None:
        self.module: Any = module
        self._pattern: dict[str, Any] = vars(self.module.Response(200))

    def response(self, reply: Reply, place: "_BasePlace") -> Any:
        """Return a whole answer as the library would have read it; its own way would check each header again."""
        response: Any = object.__new__(self.module.Response)
        response.__dict__ = {
            **self._pattern,
            "status": reply.status,
            "headers": reply.headers,
            "stream": place,
            "extensions": {
                "http_version": b"HTTP/1.1",
                "reason_phrase": reason_phrase(reply.status).encode("ascii"),
                "network_stream": place,
            },
        }
        return response

    def request(self, old: Any, body: bytes) -> Any:
        """Return a request anew whose body has been read."""
        return self.module.Request(old.method, old.url, headers=old.headers, content=body, extensions=old.extensions)


class _Url(NamedTuple):
    """Be as much of a request's URL as a pool reads: the origin is the place itself, which equals no other."""

    scheme: bytes
    origin: "_BasePlace"


class _Waiting:
    """Be as much of a request as a pool reads while it finds a connection for it."""

    def __init__(self, place: "_BasePlace") -> None:
        self.extensions = place.request.extensions
        self.url = _Url(place.request.url.scheme, place)


class _BasePlace:
    """Be a connection of one request in a pool's list, and the body of its answer: once that is closed it is gone.

    A request that finds room has its place before it is answered. Where the answer is not whole, or there was no room,
    the request then goes the pool's own way, to this very place.
    """

    def __init__(self, core: _Core, pool: Any, route: Route, request: Any) -> None:
        self.core = core
        self.pool = pool
        self.route = route
        self.request = request
        self.sent = b""
        self.reply: Any = None  # a `Reply`, once there is one
        self.stream: Any = None  # of the library's own connection, where that reads the answer
        self.gone = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} [{self.info()}]>"

    def take(self) -> bool:
        """Enter the pool's list at once where it has room; else the pool itself has to make some."""
        pool = self.pool
        with pool._optional_thread_lock:
            has_room = len(pool._connections) < pool._max_connections
            if has_room:
                pool._connections.append(self)
        return bool(has_room)

    def leave(self) -> list[Any]:
        """Leave the list, let who waits take the place, and return the connections that the pool then closes."""
        if self.gone:
            return []
        self.gone = True
        pool = self.pool
        with pool._optional_thread_lock:
            if pool._requests:
                return list(pool._assign_requests_to_connections())
            if self in pool._connections:
                pool._connections.remove(self)
        return []

    def outgoing(self) -> Outgoing:
        """Return the request as the sandbox's driver takes it."""
        request = self.request
        headers = [(name.lower(), value) for name, value in request.headers]
        timeout_s = request.extensions.get("timeout", {}).get("read")
        return self.route.outgoing(request.method.decode("ascii"), request.url.target, headers, self.sent, timeout_s)

    def whole(self, reply: Reply) -> Any:
        """Keep the reply, and return the answer; None where the library's connection is to read it."""
        self.reply = reply
        if reply.end != "whole" or "trace" in self.request.extensions:
            return None
        return self.core.response(reply, self)

    def get_extra_info(self, _info: str) -> None:
        """Tell that nothing is known of a stream that the answer did not come by."""

    def info(self) -> str:
        """Return what a pool's repr shows."""
        return f"{str(self.route.base)!r}, INTERCEPTED"

    def can_handle_request(self, origin: object) -> bool:
        """Tell whether this is the place of a request."""
        return origin is self

    def is_connected(self) -> bool:
        """Tell whether it is in use."""
        return not self.gone

    def is_closed(self) -> bool:
        """Tell whether it is gone."""
        return self.gone

    def is_available(self) -> bool:
        """Tell whether its own request may come, the pool's way."""
        return not self.gone

    def is_idle(self) -> bool:
        """Tell that nobody else may have it."""
        return False

    has_expired = can_multiplex = is_idle


class _Place(_BasePlace):
    def whole_answer(self) -> Any:
        """Have the request answered; return None where the answer is not whole."""
        self.sent = b"".join(self.request.stream)
        return self.whole(self.route.driver.call(self.outgoing()))

    def handle_request(self, _waiting: _Waiting) -> Any:
        """Answer the one request, for the pool."""
        try:
            answer = self.whole_answer() if self.reply is None else None
            return self._read_by_the_library() if answer is None else answer
        except BaseException:
            self.gone = True
            raise

    def _read_by_the_library(self) -> Any:
        module = self.core.module
        connection = module.HTTP11Connection(self.request.url.origin, MemoryStream(module, self.reply))
        response = connection.handle_request(self.core.request(self.request, self.sent))
        self.stream, response.stream = response.stream, self
        return response

    def __iter__(self) -> Iterator[bytes]:
        return iter([self.reply.body] if self.stream is None else self.stream)

    def close(self) -> None:
        """Be gone: the answer is read, or the pool is closed."""
        if self.stream is not None:
            self.stream.close()
        if closing := self.leave():
            self.pool._close_connections(closing)


class _AsyncPlace(_BasePlace):
    async def whole_answer(self) -> Any:
        """Have the request answered; return None where the answer is not whole."""
        self.sent = b"".join([part async for part in self.request.stream])
        return self.whole(await self.route.driver.call_async(self.outgoing()))

    async def handle_async_request(self, _waiting: _Waiting) -> Any:
        """Answer the one request, for the pool."""
        try:
            answer = await self.whole_answer() if self.reply is None else None
            return await self._read_by_the_library() if answer is None else answer
        except BaseException:
            self.gone = True
            raise

    async def _read_by_the_library(self) -> Any:
        module = self.core.module
        connection = module.AsyncHTTP11Connection(self.request.url.origin, AsyncMemoryStream(module, self.reply))
        response = await connection.handle_async_request(self.core.request(self.request, self.sent))
        self.stream, response.stream = response.stream, self
        return response

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _One(self.reply.body) if self.stream is None else aiter(self.stream)

    async def aclose(self) -> None:
        """Be gone: the answer is read, or the pool is closed."""
        if self.stream is not None:
            await self.stream.aclose()
        if closing := self.leave():
            await self.pool._close_connections(closing)


class _One:
    """Be an async iterator of one part."""

    def __init__(self, part: bytes) -> None:
        self._parts = [part]

    def __aiter__(self) -> "_One":
        return self

    async def __anext__(self) -> bytes:
        if not self._parts:
            raise StopAsyncIteration
        return self._parts.pop()
