"""Own the table of who answers which URL, and what a library's module needs to ask it; know no HTTP library."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fake_credits.drivers.in_process import InProcess, Outgoing
from fake_credits.drivers.intercept.base_urls import BaseUrl

__all__ = ["Route", "Routes"]

_Table = Mapping[tuple[str, str, int | None], Sequence["Route"]]


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
        table: dict[tuple[str, str, int | None], list[Route]] = {}
        for route in routes:
            for origin in route.base.origins():
                table.setdefault(origin, []).append(route)
        self._table, self.open = table, tuple(routes)

    def find(self, scheme: str, host: str, port: int | None, target: bytes) -> Route | None:
        """Return the route that holds a URL; ``port`` may be None for the scheme's own."""
        for route in self._table.get((scheme, host.lower(), port), ()):
            if route.base.holds(target):
                return route
        return None
