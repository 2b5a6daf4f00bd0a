"""Interception in urllib3's connection pools, and thereby in requests and botocore; `Retry` still applies."""

import importlib
import inspect
import io
import re
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
from fake_credits.intercept.routes import NearMissError, Route, Routes
from fake_credits.transports.framing import is_plain
from fake_credits.transports.memory_stream import (
    HeaderField,
    WrittenRequest,
    connection_reset_error,
    origin_form,
    response_bytes,
)


class MemorySocket:
    """A connected in-memory socket for one request to the sandbox and its response.

    If ``response`` is passed, it is the response to a request that was already sent, and writes are ignored.
    """

    def __init__(self, route: Route, response: Response | None = None) -> None:
        self._route = route
        self._response = response
        self._written = WrittenRequest()
        self._timeout_s: float | None = None

    def settimeout(self, timeout_s: float | None) -> None:
        """Set the timeout, in seconds, for the next byte; None waits forever."""
        self._timeout_s = timeout_s

    def sendall(self, data: bytes) -> None:
        """Append data to the request."""
        self._written.write(data)

    def makefile(self, _mode: str) -> io.BufferedIOBase:
        """Return the response as a file, sending the request first unless there is already a response."""
        response = self._response or self._route.respond(self._written.received(), self._timeout_s)
        return io.BufferedReader(_ResponseFile(response))

    def shutdown(self, _how: int) -> None:
        """Do nothing, because there is no peer."""

    def close(self) -> None:
        """Do nothing, because there is nothing to close."""


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
_LOG_FORMAT = '%s://%s:%s "%s %s %s" %s %s'  # the format of urllib3's own log line
_SKIP_HEADER_MARK = b"@@@SKIP_HEADER@@@"  # urllib3's value for omitting a default header


class _CurrentRoute(threading.local):
    """The route for the ``urlopen`` call in progress in the current thread."""

    route: Route | None = None


def patch(module: ModuleType, routes: Routes, patches: Patches) -> None:
    """Patch ``urllib3.connectionpool``, and the clock of ``urllib3.util.retry``.

    Raises RuntimeError for urllib3-future, which overwrites urllib3 on installation.
    """
    _refuse_urllib3_future(str(module.__package__))
    connectionpool: Any = module
    current_route, urllib3 = _CurrentRoute(), _Urllib3(connectionpool)
    http, https, retry = (
        connectionpool.HTTPConnectionPool,
        connectionpool.HTTPSConnectionPool,
        sys.modules[connectionpool.Retry.__module__],
    )
    patches.set(http, "urlopen", _patched_urlopen(http.urlopen, routes, urllib3, current_route))
    patches.set(http, "_make_request", _patched_make_request(http._make_request, urllib3, current_route))
    is_dropped = _patched_is_connection_dropped(connectionpool.is_connection_dropped, current_route)
    patches.set(connectionpool, "is_connection_dropped", is_dropped)
    patches.set(https, "_prepare_proxy", _patched_prepare_proxy(https._prepare_proxy, current_route))
    patches.set(retry, "time", _RetryTime(current_route))


def _refuse_urllib3_future(package: str) -> None:
    version = str(importlib.import_module(f"{package}._version").__version__)
    if re.fullmatch(r"\d+\.\d+\.9\d\d", version):  # urllib3-future's patch numbers start at 900
        raise RuntimeError(
            f"urllib3-future {version}, which niquests installs in place of urllib3, can't be intercepted: set the "
            "application's base URL to fake_credits.base_url, or uninstall urllib3-future and reinstall urllib3"
        )


def _patched_urlopen(original: Method, routes: Routes, urllib3: "_Urllib3", current_route: _CurrentRoute) -> Method:
    """Return a method that selects the route for each attempt; to retry, urllib3 calls it recursively."""

    @wraps(original)
    def urlopen(pool: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        previous_route = current_route.route
        try:
            route = _find_route(routes, pool, method, url)
        except NearMissError as error:
            retries = kwargs.get("retries", args[2] if len(args) > 2 else None)
            raise urllib3.connection_error(pool, url, retries, str(error)) from None
        if route is previous_route:
            return original(pool, method, url, *args, **kwargs)
        current_route.route = route
        try:
            return original(pool, method, url, *args, **kwargs)
        finally:
            current_route.route = previous_route

    return urlopen


def _find_route(routes: Routes, pool: Any, method: str, url: str) -> Route | None:
    scheme, host, port = pool.scheme, pool.host, pool.port
    if pool.proxy is not None and not url.startswith("/"):
        split_url = urlsplit(url)  # when a proxy is used, pool.host is the proxy's host
        scheme, host, port = split_url.scheme, split_url.hostname or "", split_url.port
    host_routes = routes.for_host(host)
    return None if host_routes is None else host_routes.find(method, scheme, port, _request_target(url))


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


def _patched_is_connection_dropped(original: Callable[[Any], bool], current_route: _CurrentRoute) -> Method:
    """Return a function that reports a pool's unused connection as open while a request is being intercepted."""

    @wraps(original)
    def is_connection_dropped(conn: Any) -> bool:
        return original(conn) if current_route.route is None or conn.sock is not None else False

    return is_connection_dropped


def _patched_prepare_proxy(original: Method, current_route: _CurrentRoute) -> Method:
    """Return a method that opens no tunnel for intercepted requests."""

    @wraps(original)
    def prepare_proxy(pool: Any, conn: Any) -> Any:
        return original(pool, conn) if current_route.route is None else None

    return prepare_proxy


class _Urllib3:
    """A factory for connections, responses and errors that are instances of urllib3's own classes."""

    def __init__(self, connectionpool: Any) -> None:
        package = connectionpool.__package__
        self._connectionpool = connectionpool
        self._connection_class = connectionpool.HTTPConnection
        self._headers_class: Any = sys.modules[f"{package}._collections"].HTTPHeaderDict
        self._response_class: Any = sys.modules[f"{package}.response"].HTTPResponse
        parameters = inspect.signature(self._response_class.__init__).parameters
        self._version_kwargs = {"version_string": "HTTP/1.1"} if "version_string" in parameters else {}  # since 2.3
        self._pool_reads_response = hasattr(
            connectionpool, "BaseHTTPResponse"
        )  # since 2.0, the pool's _make_request() returns a response

    def connection_error(self, pool: Any, url: str, retries: Any, message: str) -> Exception:
        """Return the exception that urllib3 raises when it can't connect and has no retries left."""
        module = self._connectionpool
        error: Exception = module.NewConnectionError(pool, message)
        retry = module.Retry.from_int(retries, default=pool.retries)
        if retry.total is False or retry.connect is False:
            return error
        max_retry_error: Exception = module.MaxRetryError(pool, url, error)
        return max_retry_error

    def build_connection(self, pool: Any, socket: MemorySocket) -> Any:
        """Return a connection that is already connected to an in-memory socket."""
        port = _DEFAULT_PORTS[pool.scheme]
        connection = self._connection_class(pool.host, pool.port or port)
        connection.default_port = port  # so that it is omitted from the Host header
        connection.is_verified = True
        connection.sock = socket
        return connection

    def simple_request(self, method: str, url: str, kwargs: Kwargs) -> Request | None:
        """Return a request as urllib3 would write it, or None if urllib3 has to write it itself."""
        body, headers = _encode_body(kwargs["body"]), _encode_headers(kwargs["headers"] or {})
        if body is None or headers is None or kwargs["chunked"] or not self._pool_reads_response:
            return None
        timeout = kwargs["timeout"]
        if timeout.total is not None:  # use a clone, because urllib3 may start the original later
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
        pool.num_requests += 1
        arguments = (method, url, "HTTP/1.1", response.status, response.length_remaining)
        self._connectionpool.log.debug(_LOG_FORMAT, pool.scheme, pool.host, pool.port, *arguments)
        return response


class _ResponseBody(io.BytesIO):
    """A complete body, with the parts of an ``http.client`` response that urllib3 and requests use.

    After reading the body, even an empty one, urllib3 returns the connection to its pool.
    """

    def __init__(self, response: Response) -> None:
        super().__init__(response.body)
        self._response = response
        self._is_complete = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes."""
        data = super().read(size)
        self._is_complete = self.tell() == len(self._response.body)
        return data

    def read1(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes."""
        return self.read(size)

    def isclosed(self) -> bool:
        """Return whether the whole body has been read."""
        return self.closed or self._is_complete

    @property
    def msg(self) -> HTTPMessage:
        """Return the Set-Cookie headers, the only ones that the requests library reads from this message."""
        message = HTTPMessage()
        for name, value in self._response.headers:
            if name == b"set-cookie":
                message["Set-Cookie"] = value.decode("latin-1")
        return message


def _encode_body(body: object) -> bytes | None:
    """Return a str or bytes body as bytes, or None for a file or an iterable, which urllib3 has to read."""
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode("utf-8")
    return body if isinstance(body, bytes) else None


def _encode_headers(headers: Mapping[Any, Any]) -> list[HeaderField] | None:
    """Return header fields as bytes, or None if ``http.client`` has to handle one of them."""
    pairs = getattr(headers, "lower_items", headers.items)()  # requests' lower_items() is much faster than items()
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
    """A replacement for the ``time`` module in ``urllib3.util.retry`` that uses the current sandbox's clock."""

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
        """Return the Unix time in seconds, against which dates in Retry-After are compared."""
        route = self._current_route.route
        return time.time() if route is None else route.clock.now_ms() / 1000
