"""Who may call a server: the Host allow-list, and CORS for browsers (CONTRACT.md, row 23)."""

import ipaddress
import re

from fake_credits.contract import Contract, Operation
from fake_credits.errors import ApiError, HostNotAllowed, MalformedRequest
from fake_credits.http_message import Headers, Response

__all__ = ["CorsPolicy", "HostPolicy"]

_HOST_HEADER = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::[0-9]{1,5})?")
_MAX_CACHED_HOSTS = 64
_HEALTH_PATHS = (b"/_fake/livez", b"/_fake/readyz")


class HostPolicy:
    """Judge Host headers.

    ``exposed``: the server is bound beyond loopback, so any Host may ask the API and for health (compose and kubelet
    use names of their own, and a credential guards the data); the control plane still wants an allowed name.
    """

    def __init__(self, allowed: tuple[str, ...] = (), *, is_exposed: bool = False) -> None:
        self._allowed = frozenset(_normalize(name) for name in allowed)
        self._is_exposed = is_exposed
        self._accepted_hosts: set[bytes] = set()

    def __repr__(self) -> str:
        return f"<HostPolicy: loopback and {len(self._allowed)} more{', exposed' if self._is_exposed else ''}>"

    def host_error(self, raw_path: bytes, headers: Headers) -> ApiError | None:
        """Return HostNotAllowed or, for a missing, repeated or broken Host, MalformedRequest; None where it passes."""
        hosts = [value for name, value in headers if name == b"host"]
        return None if len(hosts) == 1 and hosts[0] in self._accepted_hosts else self._check(raw_path, hosts)

    def _check(self, raw_path: bytes, hosts: list[bytes]) -> ApiError | None:
        if len(hosts) != 1:
            return MalformedRequest(f"the request has {len(hosts)} Host headers, not one (RFC 9112, section 3.2)")
        host = hosts[0].decode("latin-1")
        match = _HOST_HEADER.fullmatch(host)
        if match is None:
            return MalformedRequest(f"the Host header is no host: {host[:60]!r}")
        name = _normalize(match["name"])
        if _is_loopback(name) or name in self._allowed:
            if len(self._accepted_hosts) < _MAX_CACHED_HOSTS:
                self._accepted_hosts.add(hosts[0])
            return None
        if self._is_exposed and (not raw_path.startswith(b"/_fake/") or raw_path in _HEALTH_PATHS):
            return None
        return HostNotAllowed(f"this server does not answer to the host {name!r}: start it with --allow-host {name}")


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
    """Answer preflights and mark answers, for the origins of a contract."""

    def __init__(self, contract: Contract) -> None:
        self._allowed_origins = tuple(origin.encode("latin-1") for origin in contract.cors_origins)
        read_methods = {contract.routes[operation].method for operation in Operation if not operation.requires_api_key}
        self._allowed_methods = ", ".join(sorted(read_methods)).encode("ascii")
        self._allowed_headers = f"{contract.user_token.header}, Content-Type".encode("latin-1")

    def __repr__(self) -> str:
        return f"<CorsPolicy for {len(self._allowed_origins)} origins>"

    def allowed_origin(self, headers: Headers) -> bytes:
        """Return the value for Access-Control-Allow-Origin, b"" where the request gets none."""
        if not self._allowed_origins:
            return b""
        request_origin = next((value for name, value in headers if name == b"origin"), b"")
        if not request_origin or b"*" in self._allowed_origins:
            return b"*" if request_origin else b""
        return request_origin if request_origin in self._allowed_origins else b""

    def preflight_response(self, headers: Headers) -> Response | None:
        """Return the answer to an OPTIONS request that is a preflight, None where it is none.

        It allows what the contract allows, whatever was asked for: the browser compares.
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
        """Add to an answer's headers what lets a browser's script read it."""
        origin = self.allowed_origin(request_headers)
        if origin:
            response_headers += [
                *self._allow_origin_headers(origin),
                (b"access-control-expose-headers", _EXPOSED_HEADERS),
            ]

    def _allow_origin_headers(self, origin: bytes) -> Headers:
        headers = [(b"access-control-allow-origin", origin)]
        return headers if origin == b"*" else [*headers, (b"vary", b"Origin")]
