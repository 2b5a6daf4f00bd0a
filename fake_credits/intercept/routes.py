"""Routes from intercepted base URLs to sandboxes."""

import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from urllib.parse import quote, unquote_to_bytes, urlsplit

import msgspec

from fake_credits.api.routing import escape_path
from fake_credits.clock import Clock
from fake_credits.http_message import Request, Response
from fake_credits.interception_log import InterceptionLog, MissedRequest
from fake_credits.text import mask_url
from fake_credits.transports.framing import ReceivedRequest
from fake_credits.transports.in_process import InProcessDriver

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST_PATTERN = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f:.]*:[0-9a-f:.]*")
_SAFE_SEGMENT_CHARS = ":@!$&'()*+,;=~"  # allowed in a path segment without encoding (RFC 3986, section 3.3)


class InterceptedUrl(msgspec.Struct, frozen=True):
    """A normalized base URL: the host is in lower-case ASCII without a trailing dot, and there is always a port."""

    scheme: str
    host: str
    port: int
    path: bytes

    def __str__(self) -> str:
        return _format_url(self.scheme, self.host, self.port, self.path.decode("ascii"))

    @property
    def ports(self) -> tuple[int | None, ...]:
        """Return the forms in which libraries may pass the port: the number and, for the scheme's default, None."""
        return (self.port, None) if _DEFAULT_PORTS[self.scheme] == self.port else (self.port,)

    def contains(self, target: bytes) -> bool:
        """Return whether a target (path and query) is at or below this URL's path, comparing whole decoded segments."""
        return self._path_end(target) >= 0

    def relative_target(self, target: bytes) -> bytes:
        """Return the rest of a target after this URL's path, always starting with a slash."""
        rest = target[self._path_end(target) :]
        return rest if rest.startswith(b"/") else b"/" + rest

    def _path_end(self, target: bytes) -> int:
        """Return the index at which this URL's path ends in a target, or -1 if the target is outside the path."""
        path = self.path
        if not path:
            return 0
        if target.startswith(path) and target[len(path) : len(path) + 1] in (b"", b"/", b"?"):
            return len(path)
        if b"%" not in target:
            return -1
        expected = path.split(b"/")
        actual = target.partition(b"?")[0].split(b"/")[: len(expected)]
        if list(map(unquote_to_bytes, actual)) != list(map(unquote_to_bytes, expected)):
            return -1
        return len(b"/".join(actual))


def parse_base_url(url: str) -> InterceptedUrl:
    """Parse and normalize a base URL.

    A base URL must have no parts other than a scheme (http or https), a host, a port and a path. Raises TypeError if it
    is not a string, and ValueError if it is invalid.
    """
    if not isinstance(url, str):  # pyright: ignore[reportUnnecessaryIsInstance] - settings come from files
        hint = ": pass several as arguments, as in intercept(*urls)" if isinstance(url, Iterable) else ""
        raise TypeError(f"a base URL to intercept must be a str, not {type(url).__name__}{hint}")
    try:
        split_url = urlsplit(url)
        port = split_url.port
    except ValueError as error:
        raise _base_url_error(url, "it is not a URL" if "@" in url else str(error)) from None
    if split_url.scheme not in _DEFAULT_PORTS:
        raise _base_url_error(url, "it must start with http:// or https://")
    for component, is_present in (
        ("user name", "@" in split_url.netloc),
        ("query", split_url.query),
        ("fragment", split_url.fragment),
    ):
        if is_present:
            raise _base_url_error(url, f"it must not have a {component}")
    segments = [quote(unquote_to_bytes(part), safe=_SAFE_SEGMENT_CHARS) for part in split_url.path.split("/")]
    if "." in segments or ".." in segments:
        raise _base_url_error(url, "its path must not have '.' or '..' segments, because HTTP libraries resolve them")
    return InterceptedUrl(
        split_url.scheme,
        _canonical_host(url, split_url.hostname),
        _DEFAULT_PORTS[split_url.scheme] if port is None else port,
        "/".join(segments).rstrip("/").encode(),
    )


def _canonical_host(url: str, host: str | None) -> str:
    name = (host or "").removesuffix(".")
    if not name.isascii():
        import httpx2  # HTTP libraries use IDNA 2008, but the standard library uses IDNA 2003

        try:
            name = httpx2.URL(f"http://{name}").raw_host.decode("ascii")
        except httpx2.InvalidURL as error:
            raise _base_url_error(url, str(error)) from None
    if not _HOST_PATTERN.fullmatch(name):
        reason = f"not {name!r}" if name else "but has none"
        raise _base_url_error(url, f"it must have a valid host name or address, such as credits.internal, {reason}")
    return name


def _base_url_error(url: str, reason: str) -> ValueError:
    return ValueError(f"invalid base URL {mask_url(url)!r} to intercept: {reason}")


def _format_url(scheme: str, host: str, port: int, path: str) -> str:
    host = f"[{host}]" if ":" in host else host
    shown_port = "" if _DEFAULT_PORTS.get(scheme, 0) == port else f":{port}"
    return f"{scheme}://{host}{shown_port}{path}"


class NearMissError(Exception):
    """Raised if a URL on an intercepted host ends with an operation's path, but is outside the base URLs."""


class Route(msgspec.Struct, frozen=True, eq=False):
    """A base URL with its sandbox's driver and clock; urllib3's waits between retries advance the clock.

    Requests to the same host but outside the base URL are recorded in ``log``.
    """

    base_url: InterceptedUrl
    driver: InProcessDriver
    clock: Clock
    log: InterceptionLog

    def localize(self, request: Request, timeout_s: float | None) -> Request:
        """Return the request with its target relative to the base URL."""
        target = self.base_url.relative_target(request.target)
        return Request(request.method, target, request.headers, request.body, timeout_s)

    def respond(self, received: ReceivedRequest, timeout_s: float | None) -> Response:
        """Return the response to a request that a library wrote to an in-memory connection."""
        request = self.localize(received.request, timeout_s)
        return received.finish(self.driver.call(request, received.error))

    async def respond_async(self, received: ReceivedRequest, timeout_s: float | None) -> Response:
        """Return the response as `respond` does, but yield to the running event loop."""
        request = self.localize(received.request, timeout_s)
        return received.finish(await self.driver.call_async(request, received.error))


class HostRoutes:
    """The routes for one host, newest first."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._has_services_by_port = _is_loopback(host)
        self._by_origin: dict[tuple[str | bytes, int | None], list[Route]] = {}
        self._routes: list[Route] = []

    def __repr__(self) -> str:
        return f"<HostRoutes: {', '.join(str(route.base_url) for route in self._routes)}>"

    def add(self, route: Route) -> None:
        """Add a route; routes must be added newest first."""
        base_url = route.base_url
        self._routes.append(route)
        for scheme in (base_url.scheme, base_url.scheme.encode()):
            for port in base_url.ports:
                self._by_origin.setdefault((scheme, port), []).append(route)

    def find(self, method: str | bytes, scheme: str | bytes, port: int | None, target: bytes) -> Route | None:
        """Return the route for a URL on this host; if there is none, record the request and return None.

        Raises NearMissError instead if the path ends with an operation's path, because the URL was probably meant for a
        route.
        """
        for route in self._by_origin.get((scheme, port), ()):
            if route.base_url.contains(target):
                return route
        self._miss(_to_text(method), _to_text(scheme), port, target.partition(b"?")[0])
        return None

    def _miss(self, method: str, scheme: str, port: int | None, path: bytes) -> None:
        port = _DEFAULT_PORTS.get(scheme, 0) if port is None else port
        url = _format_url(scheme, self._host, port, escape_path(path))

        def distance(route: Route) -> int:
            return (route.base_url.scheme != scheme) + (route.base_url.port != port)

        for route in sorted(self._routes, key=distance):
            is_other_service = self._has_services_by_port and port != route.base_url.port
            found = None if is_other_service else route.driver.find_path_end(method, path)
            if found is not None:
                operation, prefix = found
                missing = _format_url(scheme, self._host, port, escape_path(prefix))
                error = (
                    f"fake-credits refused {method} {url}: it ends with the path of {operation}, but the intercepted "
                    f"base URL is {route.base_url}, not {missing}"
                )
                route.log.add(MissedRequest(method, url, error))
                raise NearMissError(error)
        for log in {route.log for route in self._routes}:
            log.add(MissedRequest(method, url))


def _to_text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("ascii", "backslashreplace")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")  # RFC 6761, section 6.3


class Routes:
    """The active routes; if several match a URL, the most recently added one is used.

    Lookups take no lock, because the table is replaced as a whole. Callers of `replace_all` must do their own locking.
    """

    def __init__(self) -> None:
        self._by_host: Mapping[str | bytes, HostRoutes] = {}
        self.active: tuple[Route, ...] = ()

    def __repr__(self) -> str:
        return f"<Routes: {', '.join(str(route.base_url) for route in self.active) or 'none'}>"

    def replace_all(self, routes: Sequence[Route]) -> None:
        """Replace all routes, and update the base URLs in the routes' logs; ``routes`` must be ordered newest first."""
        by_host: dict[str | bytes, HostRoutes] = {}
        for route in routes:
            host = route.base_url.host
            host_routes = by_host.get(host) or HostRoutes(host)
            host_routes.add(route)
            for name in (host, host + "."):  # libraries keep a trailing dot
                by_host[name] = by_host[name.encode()] = host_routes
        for route in self.active:
            route.log.base_urls = ()
        for route in reversed(routes):
            route.log.base_urls += (str(route.base_url),)
        self._by_host, self.active = by_host, tuple(routes)

    def for_host(self, host: str | bytes) -> HostRoutes | None:
        """Return the routes for a host, or None if there are none.

        This is called for every request in the process, and nearly always returns None.
        """
        return self._by_host.get(host.lower())

    def find(
        self, method: str | bytes, scheme: str | bytes, host: str | bytes, port: int | None, target: bytes
    ) -> Route | None:
        """Return the route for a URL, or None if there is none. ``port`` may be None for the scheme's default.

        ``method``, ``scheme`` and ``host`` must be either all str or all bytes. Raises NearMissError as
        `HostRoutes.find` does.
        """
        host_routes = self.for_host(host)
        return None if host_routes is None else host_routes.find(method, scheme, port, target)
