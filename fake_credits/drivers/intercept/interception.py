"""Own one interception: some base URLs, the sandbox that answers, and the end."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from fake_credits.clock import Clock
from fake_credits.drivers.in_process import InProcess
from fake_credits.drivers.intercept.base_urls import parse_base_url
from fake_credits.drivers.intercept.routes import Route
from fake_credits.drivers.intercept.switchboard import SWITCHBOARD, Switchboard

__all__ = ["Interception", "intercept"]


class Interception:
    """Be some base URLs under interception, from being made until `close` or the end of its ``with`` block."""

    def __init__(self, switchboard: Switchboard, routes: Sequence[Route]) -> None:
        self._switchboard = switchboard
        self._given = tuple(routes)
        switchboard.add(self._given)

    def __repr__(self) -> str:
        return f"<Interception: {', '.join(str(route.base) for route in self._given)}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End it; a second call does nothing."""
        self._switchboard.remove(self._given)


def intercept(
    base_urls: Sequence[str], driver: InProcess, clock: Clock, sleep: Callable[[float], None]
) -> Interception:
    """Begin to answer this process's requests to some base URLs; ``sleep`` lets time pass on the sandbox's clock.

    Raises TypeError or ValueError, naming the rule, for what is no base URL.
    """
    bases = [parse_base_url(url) for url in base_urls]
    return Interception(SWITCHBOARD, [Route(base, driver, sleep, lambda: clock.now_ms() / 1000) for base in bases])
