"""Own the table of who answers which URL, and what a library's module needs to ask it; know no HTTP library."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fake_credits.drivers.in_process import InProcess, Outgoing
from fake_credits.drivers.intercept.base_urls import BaseUrl

__all__ = ["Route", "Routes"]

_Origin = tuple[str | bytes, str | bytes, int | None]
_Table = Mapping[_Origin, Sequence["Route"]]


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """Be one base URL and the sandbox behind it: its driver, and its clock for whoever waits between two requests."""

    base: BaseUrl
    driver: InProcess
    sleep: Callable[[float], None]
    now_s: Callable[[], float]

    def outgoing(
        self, method: str, target: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes, timeout_s: float | None
    ) -> Outgoing:
        """Return a request as the sandbox's driver takes it, without the base URL's path."""
        return Outgoing(method, self.base.strip(target), headers, body, timeout_s)


class Routes:
    """Find the sandbox for a URL; of several that hold it, the one that was added last.

    Reading takes no lock: the table is replaced as a whole. Whoever adds or removes holds a lock of his own.
    """

    def __init__(self) -> None:
        self._table: _Table = {}
        self.open: tuple[Route, ...] = ()

    def __repr__(self) -> str:
        return f"<Routes: {', '.join(str(route.base) for route in self.open) or 'none'}>"

    def replace(self, routes: Sequence[Route]) -> None:
        """Let these be the routes, newest first."""
        table: dict[_Origin, list[Route]] = {}
        for route in routes:
            for scheme, host, port in route.base.origins():
                table.setdefault((scheme, host, port), []).append(route)
                table.setdefault((scheme.encode(), host.encode(), port), []).append(route)
        self._table, self.open = table, tuple(routes)

    def at(self, scheme: str | bytes, host: str | bytes, port: int | None) -> Sequence[Route]:
        """Return the routes of an origin, newest first; ``port`` may be None for the scheme's own.

        Every request of the process comes here, and nearly all find nothing.
        """
        return self._table.get((scheme, host.lower(), port), ())

    def find(self, scheme: str | bytes, host: str | bytes, port: int | None, target: bytes) -> Route | None:
        """Return the route that holds a URL; scheme and host are both text or both bytes."""
        for route in self.at(scheme, host, port):
            if route.base.holds(target):
                return route
        return None
