"""Interception in urllib3, and so in requests and botocore, at the connection pool, below `Retry`."""

import inspect
import io
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import wraps
from http.client import HTTPMessage
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from fake_credits.http_message import Request, Response, reason_phrase
from fake_credits.intercept.patching import Patches
from fake_credits.intercept.routes import Route, Routes
from fake_credits.transports.framing import is_plain
from fake_credits.transports.memory_stream import (
    HeaderField,
    WrittenRequest,
    connection_reset_error,
    origin_form,
    response_bytes,
)

__all__ = ["MemorySocket", "patch"]


class MemorySocket:
    """A connected in-memory socket for one request to the sandbox and its response.

    If ``response`` is given, the request has already been answered, and what is written is ignored.
    """

    def __init__(self, route: Route, response: Response | None = None) -> None:
        self._route = route
        self._response = response
        self._written = WrittenRequest()
        self._timeout_s: float | None = None

    def settimeout(self, timeout_s: float | None) -> None:
        """Set the timeout for the next byte in seconds; None waits forever."""
        self._timeout_s = timeout_s

    def sendall(self, data: bytes) -> None:
        """Add a part of the request."""
        self._written.write(data)

    def makefile(self, _mode: str) -> io.BufferedIOBase:
        """Return the response as a file, sending the request first if it is unanswered."""
        response = self._response or self._route.respond(self._written.received(), self._timeout_s)
        return io.BufferedReader(_ResponseFile(response))

    def shutdown(self, _how: int) -> None:
        """Do nothing: there is no peer."""

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


class _ResponseFile(io.RawIOBase):
    def __init__(self, response: Response) -> None:
        self._unread = response_bytes(response)
        self._outcome = response.outcome

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._unread:
            chunk, self._unread = self._unread[: len(buffer)], self._unread[len(buffer) :]
            buffer[: len(chunk)] = chunk
            return len(chunk)
        if self._outcome == "reset":
            raise connection_reset_error()
        if self._outcome == "timeout":
            raise TimeoutError("timed out")
        return 0


Method = Callable[..., Any]
Kwargs = dict[str, Any]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_RESPONSE_OPTIONS = ("preload_content", "decode_content", "enforce_content_length")
_SKIP_HEADER_MARK = b"@@@SKIP_HEADER@@@"  # urllib3's value for a default header to leave out


class _CurrentRoute(threading.local):
    """The route of the ``urlopen`` call in progress, per thread."""

    route: Route | None = None


def patch(module: ModuleType, routes: Routes, patches: Patches) -> None:
    """Patch ``urllib3.connectionpool``, and the clock of ``urllib3.util.retry``."""
    connectionpool: Any = module
    current_route = _CurrentRoute()
    http, https, retry = (
        connectionpool.HTTPConnectionPool,
        connectionpool.HTTPSConnectionPool,
        sys.modules[connectionpool.Retry.__module__],
    )
    patches.set(http, "urlopen", _patched_urlopen(http.urlopen, routes, current_route))
    patches.set(
        http, "_make_request", _patched_make_request(http._make_request, _Urllib3(connectionpool), current_route)
    )
    patches.set(https, "_prepare_proxy", _patched_prepare_proxy(https._prepare_proxy, current_route))
    patches.set(retry, "time", _RetryTime(current_route))


def _patched_urlopen(original: Method, routes: Routes, current_route: _CurrentRoute) -> Method:
    """Return a method that selects the route of each attempt; a retry calls it again, nested."""

    @wraps(original)
    def urlopen(pool: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        previous_route, route = current_route.route, _find_route(routes, pool, url)
        if route is previous_route:
            return original(pool, method, url, *args, **kwargs)
        current_route.route = route
        try:
            return original(pool, method, url, *args, **kwargs)
        finally:
            current_route.route = previous_route

    return urlopen


def _find_route(routes: Routes, pool: Any, url: str) -> Route | None:
    if pool.proxy is None or url.startswith("/"):
        candidates = routes.for_origin(pool.scheme, pool.host, pool.port)
    else:
        split_url = urlsplit(url)  # for a proxy, the pool's host is the proxy's
        candidates = routes.for_origin(split_url.scheme, split_url.hostname or "", split_url.port)
    if not candidates:
        return None
    target = _request_target(url)
    return next((route for route in candidates if route.base_url.contains(target)), None)


def _request_target(url: str) -> bytes:
    return origin_form(url.encode("utf-8", "surrogateescape"))


def _patched_make_request(original: Method, urllib3: "_Urllib3", current_route: _CurrentRoute) -> Method:
    """Return a method that sends a request to its route; the pool's own connection stays unused."""

    @wraps(original)
    def make_request(pool: Any, conn: Any, method: str, url: str, **kwargs: Any) -> Any:
        route = current_route.route
        if route is None:
            return original(pool, conn, method, url, **kwargs)
        request = urllib3.simple_request(method, url, kwargs)
        response = None
        if request is not None:
            request.target = route.base_url.relative_target(request.target)
            response = route.driver.call(request)
        if response is not None and response.outcome == "whole":
            return urllib3.build_response(pool, method, url, kwargs, response)
        if conn.proxy is not None:
            conn._has_connected_to_proxy = True  # otherwise errors would be attributed to the proxy
        return original(pool, urllib3.build_connection(pool, MemorySocket(route, response)), method, url, **kwargs)

    return make_request


def _patched_prepare_proxy(original: Method, current_route: _CurrentRoute) -> Method:
    """Return a method that opens no tunnel for intercepted requests."""

    @wraps(original)
    def prepare_proxy(pool: Any, conn: Any) -> Any:
        return original(pool, conn) if current_route.route is None else None

    return prepare_proxy


class _Urllib3:
    """A factory for urllib3's connections and responses, with urllib3's own classes."""

    def __init__(self, connectionpool: Any) -> None:
        package = connectionpool.__package__
        self._connection_class = connectionpool.HTTPConnection
        self._headers_class: Any = sys.modules[f"{package}._collections"].HTTPHeaderDict
        self._response_class: Any = sys.modules[f"{package}.response"].HTTPResponse
        parameters = inspect.signature(self._response_class.__init__).parameters
        self._version_kwargs = {"version_string": "HTTP/1.1"} if "version_string" in parameters else {}  # since 2.3
        self._pool_reads_response = hasattr(
            connectionpool, "BaseHTTPResponse"
        )  # since 2.0 the pool's method returns a response

    def build_connection(self, pool: Any, socket: MemorySocket) -> Any:
        """Return a connection that is already connected to an in-memory socket."""
        port = _DEFAULT_PORTS[pool.scheme]
        connection = self._connection_class(pool.host, pool.port or port)
        connection.default_port = port  # omitted from the Host header
        connection.is_verified = True
        connection.sock = socket
        return connection

    def simple_request(self, method: str, url: str, kwargs: Kwargs) -> Request | None:
        """Return a request as urllib3 would write it, or None if urllib3 has to write it itself."""
        body, headers = _encode_body(kwargs["body"]), _encode_headers(kwargs["headers"] or {})
        if body is None or headers is None or kwargs["chunked"] or not self._pool_reads_response:
            return None
        timeout = kwargs["timeout"]
        if timeout.total is not None:  # its clock must be running; cloned, as urllib3 may start it later itself
            timeout = timeout.clone()
            timeout.start_connect()
        timeout_s = timeout.resolve_default_timeout(timeout.read_timeout)
        request = Request(method, _request_target(url), headers, body, timeout_s)
        return request if timeout_s != 0 and is_plain(request, has_host=False) else None

    def build_response(self, pool: Any, method: str, url: str, kwargs: Kwargs, source: Response) -> Any:
        """Return a complete response as urllib3 would have read it."""
        body = _ResponseBody(source)
        response = self._response_class(
            body=body,
            original_response=body,
            headers=self._headers_class(
                [(name.decode("latin-1"), value.decode("latin-1")) for name, value in source.headers]
            ),
            status=source.status,
            version=11,
            **self._version_kwargs,
            reason=reason_phrase(source.status),
            request_method=method,
            request_url=url,
            **{name: kwargs[name] for name in _RESPONSE_OPTIONS if name in kwargs},
        )
        response.retries = kwargs["retries"]
        response._connection, response._pool = kwargs["response_conn"], pool
        return response


class _ResponseBody(io.BytesIO):
    """A complete body, with the parts of an ``http.client`` response that urllib3 and requests use.

    Once the body has been read, urllib3 returns the connection to its pool.
    """

    def __init__(self, response: Response) -> None:
        super().__init__(response.body)
        self._response = response

    def isclosed(self) -> bool:
        """Return whether the whole body has been read."""
        return self.closed or self.tell() == len(self._response.body)

    @property
    def msg(self) -> HTTPMessage:
        """Return the cookies, the only headers that requests reads here."""
        message = HTTPMessage()
        for name, value in self._response.headers:
            if name == b"set-cookie":
                message["Set-Cookie"] = value.decode("latin-1")
        return message


def _encode_body(body: object) -> bytes | None:
    """Return a str or bytes body as bytes, or None for one that has to be read first."""
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode("utf-8")
    return body if isinstance(body, bytes) else None


def _encode_headers(headers: Mapping[Any, Any]) -> list[HeaderField] | None:
    """Return header fields as bytes, or None if ``http.client`` has to handle one of them."""
    pairs = getattr(headers, "lower_items", headers.items)()  # lower_items() is requests' own, at a third of the cost
    try:
        fields = [
            (
                (name if isinstance(name, bytes) else name.encode("latin-1")).lower(),
                value if isinstance(value, bytes) else value.encode("latin-1"),
            )
            for name, value in pairs
        ]
    except (AttributeError, UnicodeEncodeError):
        return None
    return None if any(value == _SKIP_HEADER_MARK for _, value in fields) else fields


class _RetryTime:
    """A replacement for the module ``time`` in ``urllib3.util.retry``, which uses the current sandbox's clock."""

    def __init__(self, current_route: _CurrentRoute) -> None:
        self._current_route = current_route

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        """Sleep on the sandbox's clock, or in real time outside an interception."""
        route = self._current_route.route
        if route is None:
            time.sleep(seconds)
        else:
            route.clock.advance(seconds=seconds)

    def time(self) -> float:
        """Return the Unix time in seconds, which dates in Retry-After are compared with."""
        route = self._current_route.route
        return time.time() if route is None else route.clock.now_ms() / 1000
