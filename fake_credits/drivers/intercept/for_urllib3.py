"""Own interception in urllib3, and so in requests and botocore: below `Retry`, at the connection pool.

A usual request that gets a whole answer goes past urllib3's connection, which would cost as much as all the rest. Any
other is written to a socket in memory and its answer read from there: with the library's own parser and errors.
"""

import inspect
import io
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import wraps
from http.client import HTTPMessage
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from fake_credits.drivers.in_process import Reply
from fake_credits.drivers.intercept.patches import Patches
from fake_credits.drivers.intercept.routes import Route, Routes
from fake_credits.drivers.intercept.urllib3_socket import MemorySocket
from fake_credits.drivers.intercept.wire import Field, origin_form
from fake_credits.http_status import reason_phrase

__all__ = ["patch"]

Method = Callable[..., Any]
Words = dict[str, Any]

_PORTS = {"http": 80, "https": 443}
_OPTIONS = ("preload_content", "decode_content", "enforce_content_length")
_SKIP_HEADER = b"@@@SKIP_HEADER@@@"  # urllib3's mark on a field that it would add and is not to


class _Current(threading.local):
    """Know, thread by thread, which route the call of ``urlopen`` that runs now takes."""

    route: Route | None = None


def patch(module: ModuleType, routes: Routes, patches: Patches) -> None:
    """Patch ``urllib3.connectionpool``, and the clock of ``urllib3.util.retry``."""
    pools: Any = module
    current = _Current()
    http, https, retry = pools.HTTPConnectionPool, pools.HTTPSConnectionPool, sys.modules[pools.Retry.__module__]
    patches.set(http, "urlopen", _urlopen(http.urlopen, routes, current))
    patches.set(http, "_make_request", _make_request(http._make_request, _Library(pools), current))
    patches.set(https, "_prepare_proxy", _prepare_proxy(https._prepare_proxy, current))
    patches.set(retry, "time", _RetryTime(current))


def _urlopen(original: Method, routes: Routes, current: _Current) -> Method:
    """Return a method that decides who answers an attempt; the next attempt comes here again, from within."""

    @wraps(original)
    def urlopen(pool: Any, method: str, url: str, *args: Any, **words: Any) -> Any:
        before, route = current.route, _find(routes, pool, url)
        if route is before:
            return original(pool, method, url, *args, **words)
        current.route = route
        try:
            return original(pool, method, url, *args, **words)
        finally:
            current.route = before

    return urlopen


def _find(routes: Routes, pool: Any, url: str) -> Route | None:
    if pool.proxy is None or url.startswith("/"):
        known = routes.at(pool.scheme, pool.host, pool.port)
        return routes.find(pool.scheme, pool.host, pool.port, _target(url)) if known else None
    parts = urlsplit(url)  # for a proxy, whose host the pool's is
    return routes.find(parts.scheme, parts.hostname or "", parts.port, _target(url))


def _target(url: str) -> bytes:
    return origin_form(url.encode("utf-8", "surrogateescape"))


def _make_request(original: Method, library: "_Library", current: _Current) -> Method:
    """Return a method that has a request answered; the pool's own connection lies by meanwhile."""

    @wraps(original)
    def make_request(pool: Any, conn: Any, method: str, url: str, **words: Any) -> Any:
        route = current.route
        if route is None:
            return original(pool, conn, method, url, **words)
        plain = library.plain(method, url, words)
        reply = None if plain is None else route.driver.call(route.outgoing(*plain))
        if reply is not None and reply.end == "whole":
            return library.response(pool, method, url, words, reply)
        if conn.proxy is not None:
            conn._has_connected_to_proxy = True  # or each of our errors would be put down to the proxy
        return original(pool, library.connection(pool, MemorySocket(route, reply)), method, url, **words)

    return make_request


def _prepare_proxy(original: Method, current: _Current) -> Method:
    """Return a method that opens no tunnel for what needs none."""

    @wraps(original)
    def prepare_proxy(pool: Any, conn: Any) -> Any:
        return original(pool, conn) if current.route is None else None

    return prepare_proxy


class _Plain(NamedTuple):
    """Be a request that needs no writing; the order is that of `Route.outgoing`."""

    method: str
    target: bytes
    headers: list[Field]
    body: bytes
    timeout_s: float | None


class _Library:
    """Do what urllib3's connection does, with urllib3's own classes."""

    def __init__(self, pools: Any) -> None:
        package = pools.__package__
        self._connection = pools.HTTPConnection
        self._fields: Any = sys.modules[f"{package}._collections"].HTTPHeaderDict
        self._response: Any = sys.modules[f"{package}.response"].HTTPResponse
        known = inspect.signature(self._response.__init__).parameters
        self._version = {"version_string": "HTTP/1.1"} if "version_string" in known else {}  # since 2.3
        self._reads_in_pool = hasattr(pools, "BaseHTTPResponse")  # since 2.0 the pool's method returns an answer

    def connection(self, pool: Any, socket: MemorySocket) -> Any:
        """Return a connection that holds a socket in memory already."""
        port = _PORTS[pool.scheme]
        made = self._connection(pool.host, pool.port or port)
        made.default_port = port  # which the header Host leaves out
        made.is_verified = True
        made.sock = socket
        return made

    def plain(self, method: str, url: str, words: Words) -> _Plain | None:
        """Return a request as urllib3 would write it; None for one that is better left to urllib3."""
        body, headers = _encoded(words["body"]), _encoded_fields(words["headers"] or {})
        if body is None or headers is None or words["chunked"] or not self._reads_in_pool:
            return None
        timeout = words["timeout"].clone()  # made for this attempt, and begun anew where urllib3 goes its own way
        timeout.start_connect()
        timeout_s = timeout.resolve_default_timeout(timeout.read_timeout)
        return None if timeout_s == 0 else _Plain(method, _target(url), headers, body, timeout_s)

    def response(self, pool: Any, method: str, url: str, words: Words, reply: Reply) -> Any:
        """Return a whole answer as urllib3 would have read it."""
        body = _Body(reply)
        made = self._response(
            body=body,
            original_response=body,
            headers=self._fields([(name.decode("latin-1"), value.decode("latin-1")) for name, value in reply.headers]),
            status=reply.status,
            version=11,
            **self._version,
            reason=reason_phrase(reply.status),
            request_method=method,
            request_url=url,
            **{name: words[name] for name in _OPTIONS if name in words},
        )
        made.retries = words["retries"]
        made._connection, made._pool = words["response_conn"], pool
        return made


class _Body(io.BytesIO):
    """Be a whole body, and of what ``http.client`` read as much as urllib3 and requests ask for: is it over, its head.

    Once it is over urllib3 returns the connection to its pool.
    """

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.body)
        self._reply = reply

    def isclosed(self) -> bool:
        """Tell whether there is nothing left to read."""
        return self.closed or self.tell() == len(self._reply.body)

    @property
    def msg(self) -> HTTPMessage:
        """Return as much of the head as requests looks at: cookies."""
        message = HTTPMessage()
        for name, value in self._reply.headers:
            if name == b"set-cookie":
                message["Set-Cookie"] = value.decode("latin-1")
        return message


def _encoded(body: object) -> bytes | None:
    """Return a body that is one piece, as bytes; None for one that has to be read first."""
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode("utf-8")
    return body if isinstance(body, bytes) else None


def _encoded_fields(headers: Mapping[Any, Any]) -> list[Field] | None:
    """Return header fields as bytes; None where there is one that ``http.client`` would have to judge."""
    pairs = getattr(headers, "lower_items", headers.items)()  # requests' own, at a third of the cost
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
    whole = b" ".join([part for field in fields for part in field])
    return None if b"\n" in whole or b"\r" in whole or _SKIP_HEADER in whole else fields


class _RetryTime:
    """Be the module ``time`` of ``urllib3.util.retry``: between two attempts at a sandbox, its clock is the time."""

    def __init__(self, current: _Current) -> None:
        self._current = current

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        """Wait, on the sandbox's clock or the wall's."""
        route = self._current.route
        (time.sleep if route is None else route.sleep)(seconds)

    def time(self) -> float:
        """Return seconds since 1970, which a date in Retry-After is compared with."""
        route = self._current.route
        return time.time() if route is None else route.now_s()
