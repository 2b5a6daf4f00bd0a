"""Restrictions on callers: the Host allow-list, and CORS for browsers (docs/reference/contract.md, row 23)."""

import ipaddress
import re

from fake_credits.contract import Contract, Operation
from fake_credits.errors import ApiError, HostNotAllowed, MalformedRequest
from fake_credits.http_message import Headers, Response

_HOST_HEADER = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::[0-9]{1,5})?")
_MAX_CACHED_HOSTS = 64
_HEALTH_PATHS = (b"/_fake/livez", b"/_fake/readyz")


class HostPolicy:
    """The allow-list for Host headers.

    ``is_exposed`` means that the server is bound to a non-loopback address. The API and the health checks then accept
    any Host: Docker Compose and Kubernetes choose the host names, and the data is protected by credentials anyway. The
    control plane still requires an allowed name; otherwise a web page could reach it through DNS rebinding.
    """

    def __init__(self, allowed: tuple[str, ...] = (), *, is_exposed: bool = False) -> None:
        self._allowed = frozenset(_normalize(name) for name in allowed)
        self._is_exposed = is_exposed
        self._accepted_hosts: set[bytes] = set()

    def host_error(self, raw_path: bytes, headers: Headers) -> ApiError | None:
        """Return an error if the Host header is missing, repeated, invalid or not allowed, else None."""
        fields = dict(headers)
        if len(fields) == len(headers) and fields.get(b"host") in self._accepted_hosts:
            return None
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1:
            return MalformedRequest(
                f"a request must have exactly one Host header, not {len(hosts)} (RFC 9112, section 3.2)"
            )
        host = hosts[0].decode("latin-1")
        match = _HOST_HEADER.fullmatch(host)
        if match is None:
            return MalformedRequest(f"invalid Host header {host[:60]!r}")
        name = _normalize(match["name"])
        if _is_loopback(name) or name in self._allowed:
            if len(self._accepted_hosts) < _MAX_CACHED_HOSTS:
                self._accepted_hosts.add(hosts[0])
            return None
        if self._is_exposed and (not raw_path.startswith(b"/_fake/") or raw_path in _HEALTH_PATHS):
            return None
        return HostNotAllowed(f"the host {name!r} is not allowed: start the server with --allow-host {name}")


def _normalize(name: str) -> str:
    return name.lower().rstrip(".").strip("[]")


def _is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


_EXPOSED_HEADERS = b"X-Request-Id, X-Fake-Credits-Cause, Retry-After"
_MAX_AGE_S = b"600"


class CorsPolicy:
    """The CORS rules of a contract: browsers may make read requests with a user's token, but never send the API key."""

    def __init__(self, contract: Contract) -> None:
        self._allowed_origins = tuple(origin.encode("latin-1") for origin in contract.cors_origins)
        read_methods = {contract.routes[operation].method for operation in Operation if not operation.requires_api_key}
        self._allowed_methods = ", ".join(sorted(read_methods)).encode("ascii")
        self._allowed_headers = f"{contract.user_token.header}, Content-Type".encode("latin-1")

    def allowed_origin(self, headers: Headers) -> bytes:
        """Return the value of Access-Control-Allow-Origin, or b"" if the origin is not allowed."""
        if not self._allowed_origins:
            return b""
        request_origin = next((value for name, value in headers if name == b"origin"), b"")
        if not request_origin or b"*" in self._allowed_origins:
            return b"*" if request_origin else b""
        return request_origin if request_origin in self._allowed_origins else b""

    def preflight_response(self, headers: Headers) -> Response | None:
        """Return the response to a preflight from an allowed origin, or None for any other OPTIONS request.

        The response lists everything that the contract allows; the browser checks its own request against that list.
        """
        if not any(name == b"access-control-request-method" for name, _ in headers):
            return None
        origin = self.allowed_origin(headers)
        if not origin:
            return None
        preflight_headers = [
            (b"access-control-allow-methods", self._allowed_methods),
            (b"access-control-allow-headers", self._allowed_headers),
            (b"access-control-max-age", _MAX_AGE_S),
        ]
        headers = [*self._allow_origin_headers(origin), *preflight_headers]
        return Response(204, b"", headers, request_id="preflight")

    def add_headers(self, request_headers: Headers, response_headers: Headers) -> None:
        """Add the headers that let a script in a browser read the response, if the request's origin is allowed."""
        origin = self.allowed_origin(request_headers)
        if origin:
            response_headers += [
                *self._allow_origin_headers(origin),
                (b"access-control-expose-headers", _EXPOSED_HEADERS),
            ]

    def _allow_origin_headers(self, origin: bytes) -> Headers:
        headers = [(b"access-control-allow-origin", origin)]
        return headers if origin == b"*" else [*headers, (b"vary", b"Origin")]
