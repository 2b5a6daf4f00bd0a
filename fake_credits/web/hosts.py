"""Own which Host headers a live server answers to; know nothing of what is asked.

A page in a developer's browser can send requests to loopback under a name of its own (DNS rebinding): so loopback
names are answered, and others only where the server was told so.
"""

import ipaddress
import re

from fake_credits.errors import ApiError, HostNotAllowed, MalformedRequest
from fake_credits.web.answer import Headers

__all__ = ["HostPolicy"]

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::[0-9]{1,5})?")
_REMEMBERED = 64
_HEALTH = (b"/_fake/livez", b"/_fake/readyz")


class HostPolicy:
    """Judge Host headers.

    ``exposed``: the server is bound beyond loopback, so any Host may ask the API and for health (compose and kubelet
    use names of their own, and a credential guards the data); the control plane still wants an allowed name.
    """

    def __init__(self, allowed: tuple[str, ...] = (), *, exposed: bool = False) -> None:
        self._allowed = frozenset(_normal(name) for name in allowed)
        self._exposed = exposed
        self._known: set[bytes] = set()

    def __repr__(self) -> str:
        return f"<HostPolicy: loopback and {len(self._allowed)} more{', exposed' if self._exposed else ''}>"

    def refusal(self, raw_path: bytes, headers: Headers) -> ApiError | None:
        """Return HostNotAllowed or, for a missing, repeated or broken Host, MalformedRequest; None where it passes."""
        hosts = [value for name, value in headers if name == b"host"]
        return None if len(hosts) == 1 and hosts[0] in self._known else self._judge(raw_path, hosts)

    def _judge(self, raw_path: bytes, hosts: list[bytes]) -> ApiError | None:
        if len(hosts) != 1:
            return MalformedRequest(f"the request has {len(hosts)} Host headers, not one (RFC 9112, section 3.2)")
        sent = hosts[0].decode("latin-1")
        match = _HOST.fullmatch(sent)
        if match is None:
            return MalformedRequest(f"the Host header is no host: {sent[:60]!r}")
        name = _normal(match["name"])
        if _is_loopback(name) or name in self._allowed:
            if len(self._known) < _REMEMBERED:
                self._known.add(hosts[0])
            return None
        if self._exposed and (not raw_path.startswith(b"/_fake/") or raw_path in _HEALTH):
            return None
        return HostNotAllowed(f"this server does not answer to the host {name!r}: start it with --allow-host {name}")


def _normal(name: str) -> str:
    return name.lower().rstrip(".").strip("[]")


def _is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
