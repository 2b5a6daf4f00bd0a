"""Routes from intercepted base URLs to the sandboxes that answer them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from fake_credits.clock import Clock
from fake_credits.http_message import Request, Response
from fake_credits.transports.framing import ReceivedRequest
from fake_credits.transports.in_process import InProcessDriver

__all__ = ["InterceptedUrl", "Route", "Routes", "parse_base_url"]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST_PATTERN = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f:.]*:[0-9a-f:.]*")
_SAFE_PATH_CHARS = "/%:@!$&'()*+,;=~"  # RFC 3986, section 3.3: allowed in a path unencoded


@dataclass(frozen=True, slots=True)
class InterceptedUrl:
    """A normalized base URL: lower case, no trailing dot, IDNA in ASCII, always with a port."""

    scheme: str
    host: str
    port: int
    path: bytes

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if _DEFAULT_PORTS[self.scheme] == self.port else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path.decode('ascii')}"

    def origins(self) -> list[tuple[str, str, int | None]]:
        """Return scheme, host and port in each form libraries use: default port or None, host with or without dot."""
        ports = [self.port, None] if _DEFAULT_PORTS[self.scheme] == self.port else [self.port]
        return [(self.scheme, host, port) for host in (self.host, self.host + ".") for port in ports]

    def contains(self, target: bytes) -> bool:
        """Return whether a target (path and query) is below this URL's path, by whole segments."""
        path = self.path
        return not path or (target.startswith(path) and target[len(path) : len(path) + 1] in (b"", b"/", b"?"))

    def relative_target(self, target: bytes) -> bytes:
        """Return the rest of a target below this URL; it starts with a slash."""
        rest = target[len(self.path) :]
        return rest if rest.startswith(b"/") else b"/" + rest


def parse_base_url(url: str) -> InterceptedUrl:
    """Return a normalized base URL.

    A base URL may have only a scheme (http or https), a host, a port and a path. Raises TypeError if it is not a
    string, ValueError if it is invalid.
    """
    if not isinstance(url, str):  # pyright: ignore[reportUnnecessaryIsInstance] - settings come from files
        hint = ": pass several as arguments, as in intercept(*urls)" if isinstance(url, Iterable) else ""
        raise TypeError(f"a base URL to intercept must be a str, not {type(url).__name__}{hint}")
    try:
        split_url = urlsplit(url)
        port = split_url.port
    except ValueError as error:
        raise _base_url_error(url, str(error)) from None
    if split_url.scheme not in _DEFAULT_PORTS:
        raise _base_url_error(url, "it must start with http:// or https://")
    if "@" in split_url.netloc:
        raise _base_url_error(
            url.replace(split_url.netloc, "***@" + split_url.netloc.rpartition("@")[2]),
            _unexpected_component("user name", "one"),
        )
    for name, mark in (("query", "?"), ("fragment", "#")):
        if component := getattr(split_url, name):
            raise _base_url_error(url, _unexpected_component(name, mark + component))
    path = quote(split_url.path, safe=_SAFE_PATH_CHARS).rstrip("/")
    if any(segment in (".", "..") for segment in path.split("/")):
        raise _base_url_error(url, "leave out the segments . and .., which libraries resolve before sending")
    return InterceptedUrl(
        split_url.scheme,
        _canonical_host(url, split_url.hostname),
        _DEFAULT_PORTS[split_url.scheme] if port is None else port,
        path.encode(),
    )


def _canonical_host(url: str, host: str | None) -> str:
    name = (host or "").removesuffix(".")
    if not name.isascii():
        import httpx2  # the libraries use IDNA 2008, the standard library IDNA 2003

        try:
            name = httpx2.URL(f"http://{name}").raw_host.decode("ascii")
        except httpx2.InvalidURL as error:
            raise _base_url_error(url, str(error)) from None
    if not _HOST_PATTERN.fullmatch(name):
        reason = f"got {name!r}" if name else "got none"
        raise _base_url_error(url, f"it must have one host name or address, such as credits.internal, {reason}")
    return name


def _unexpected_component(component: str, found: str) -> str:
    return f"it must not have a {component}, got {found}"


def _base_url_error(url: str, reason: str) -> ValueError:
    return ValueError(f"invalid base URL {url!r} to intercept: {reason}")


_Origin = tuple[str | bytes, str | bytes, int | None]
_RoutesByOrigin = Mapping[_Origin, Sequence["Route"]]


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """A base URL and its sandbox: the driver, and the clock for waits between requests."""

    base_url: InterceptedUrl
    driver: InProcessDriver
    clock: Clock

    def localize(self, request: Request, timeout_s: float | None) -> Request:
        """Return a request relative to the base URL."""
        target = self.base_url.relative_target(request.target)
        return Request(request.method, target, request.headers, request.body, timeout_s)

    def respond(self, received: ReceivedRequest, timeout_s: float | None) -> Response:
        """Return the response to a request that was written to memory."""
        request = self.localize(received.request, timeout_s)
        return received.finish(self.driver.call(request, received.error))

    async def respond_async(self, received: ReceivedRequest, timeout_s: float | None) -> Response:
        """Return the response to a request that was written to memory, passing checkpoints of the running loop."""
        request = self.localize(received.request, timeout_s)
        return received.finish(await self.driver.call_async(request, received.error))


class Routes:
    """The active routes; if several contain a URL, the one added last matches.

    Lookups take no lock, as the table is replaced as a whole. Callers of `replace_all` must hold their own lock.
    """

    def __init__(self) -> None:
        self._by_origin: _RoutesByOrigin = {}
        self.active: tuple[Route, ...] = ()

    def __repr__(self) -> str:
        return f"<Routes: {', '.join(str(route.base_url) for route in self.active) or 'none'}>"

    def replace_all(self, routes: Sequence[Route]) -> None:
        """Replace all routes; ``routes`` are newest first."""
        by_origin: dict[_Origin, list[Route]] = {}
        for route in routes:
            for scheme, host, port in route.base_url.origins():
                by_origin.setdefault((scheme, host, port), []).append(route)
                by_origin.setdefault((scheme.encode(), host.encode(), port), []).append(route)
        self._by_origin, self.active = by_origin, tuple(routes)

    def for_origin(self, scheme: str | bytes, host: str | bytes, port: int | None) -> Sequence[Route]:
        """Return the routes of an origin, newest first; ``port`` may be None for the scheme's default.

        This is called for every request of the process, and nearly always finds nothing.
        """
        return self._by_origin.get((scheme, host.lower(), port), ())

    def find(self, scheme: str | bytes, host: str | bytes, port: int | None, target: bytes) -> Route | None:
        """Return the route that contains a URL, else None. ``scheme`` and ``host`` are both str or both bytes."""
        for route in self.for_origin(scheme, host, port):
            if route.base_url.contains(target):
                return route
        return None
