"""Own what a base URL is: which requests stand under it, and what is left of their target; know no HTTP library."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

__all__ = ["BaseUrl", "parse_base_url"]

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f:.]*:[0-9a-f:.]*")
_UNQUOTED = "/%:@!$&'()*+,;=~"  # RFC 3986, section 3.3: what a path may hold as it is


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """Be one base URL in its one form: lower case, no trailing dot, IDNA in ASCII, the port always told."""

    scheme: str
    host: str
    port: int
    path: bytes

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if _PORTS[self.scheme] == self.port else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path.decode('ascii')}"

    def origins(self) -> list[tuple[str, str, int | None]]:
        """Return scheme, host and port as libraries tell them: a default port as None too, a host with its root dot."""
        ports = [self.port, None] if _PORTS[self.scheme] == self.port else [self.port]
        return [(self.scheme, host, port) for host in (self.host, self.host + ".") for port in ports]

    def holds(self, target: bytes) -> bool:
        """Tell whether a target (path and query) stands under this URL's path, segment by segment."""
        path = self.path
        return not path or (target.startswith(path) and target[len(path) : len(path) + 1] in (b"", b"/", b"?"))

    def strip(self, target: bytes) -> bytes:
        """Return what is left of a target that this URL holds; it starts with a slash."""
        rest = target[len(self.path) :]
        return rest if rest.startswith(b"/") else b"/" + rest


def parse_base_url(url: str) -> BaseUrl:
    """Return a base URL in its one form.

    Raises TypeError for what is no text, ValueError for what is no base URL: only a scheme (http or https), a host, a
    port and a path may be told.
    """
    if not isinstance(url, str):  # pyright: ignore[reportUnnecessaryIsInstance] - settings come from files
        hint = ": give several one by one, as in intercept(*urls)" if isinstance(url, Iterable) else ""
        raise TypeError(f"a base URL to intercept is text, not {type(url).__name__}{hint}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _refusal(url, str(error)) from None
    if parts.scheme not in _PORTS:
        raise _refusal(url, "a base URL starts with http:// or https://")
    if "@" in parts.netloc:
        raise _refusal(url.replace(parts.netloc, "***@" + parts.netloc.rpartition("@")[2]), _has_no("user name", "one"))
    for name, mark in (("query", "?"), ("fragment", "#")):
        if part := getattr(parts, name):
            raise _refusal(url, _has_no(name, mark + part))
    path = quote(parts.path, safe=_UNQUOTED).rstrip("/")
    if any(segment in (".", "..") for segment in path.split("/")):
        raise _refusal(url, "libraries walk the segments . and .. of a path before they send: leave them out")
    return BaseUrl(
        parts.scheme, _host(url, parts.hostname), _PORTS[parts.scheme] if port is None else port, path.encode()
    )


def _host(url: str, host: str | None) -> str:
    name = (host or "").removesuffix(".")
    if not name.isascii():
        import httpx2  # only here: the libraries encode by IDNA 2008, the standard library by IDNA 2003

        try:
            name = httpx2.URL(f"http://{name}").raw_host.decode("ascii")
        except httpx2.InvalidURL as error:
            raise _refusal(url, str(error)) from None
    if not _HOST.fullmatch(name):
        shown = f"and this one has {name!r}" if name else "and this one has none"
        raise _refusal(url, f"a base URL has a host's one name or address, such as credits.internal, {shown}")
    return name


def _has_no(what: str, found: str) -> str:
    return f"a base URL has no {what}, and this one has {found}"


def _refusal(url: str, rule: str) -> ValueError:
    return ValueError(f"{url!r} is no base URL to intercept: {rule}")
