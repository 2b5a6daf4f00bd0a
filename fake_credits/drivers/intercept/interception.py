"""Own one interception: some base URLs, the sandbox that answers, and the end."""

import warnings
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from fake_credits.clock import Clock
from fake_credits.drivers.in_process import InProcess
from fake_credits.drivers.intercept.base_urls import parse_base_url
from fake_credits.drivers.intercept.routes import Route
from fake_credits.drivers.intercept.switchboard import SWITCHBOARD, Switchboard

__all__ = ["Interception", "intercept"]


class Interception:
    """Be some base URLs under interception, from being made until `close` or the end of its ``with`` block.

    One that nobody holds any more ends too, with a ResourceWarning: it would answer this process's requests for ever.
    """

    def __init__(self, switchboard: Switchboard, routes: Sequence[Route]) -> None:
        self._switchboard = switchboard
        self._given = tuple(routes)
        switchboard.add(self._given)
        self._dropped = weakref.finalize(self, _drop, switchboard, self._given)
        self._dropped.atexit = False

    def __repr__(self) -> str:
        return f"<Interception: {_shown(self._given)}>"

    @property
    def base_urls(self) -> tuple[str, ...]:
        """Return the base URLs in their one form; none once it is over."""
        return tuple(str(route.base) for route in self._given) if self._dropped.alive else ()

    def __enter__(self) -> Self:
        """Return this; raise RuntimeError where it is over, as it would intercept nothing."""
        if not self._dropped.alive:
            raise RuntimeError(f"{self!r} is over: call credits.intercept(...) again")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End it; a second call does nothing."""
        self._dropped.detach()
        self._switchboard.remove(self._given)


def intercept(base_urls: Sequence[str], driver: InProcess, clock: Clock) -> Interception:
    """Begin to answer this process's requests to some base URLs; whoever waits between two lets ``clock`` advance.

    Raises TypeError or ValueError, naming the rule, for what is no base URL, and where there is none.
    """
    if not base_urls:
        raise ValueError("intercept(...) needs a base URL, such as https://credits.internal")

    def sleep(seconds: float) -> None:
        clock.advance(seconds=seconds)

    bases = [parse_base_url(url) for url in base_urls]
    return Interception(SWITCHBOARD, [Route(base, driver, sleep, lambda: clock.now_ms() / 1000) for base in bases])


def _shown(routes: Sequence[Route]) -> str:
    return ", ".join(str(route.base) for route in routes)


def _drop(switchboard: Switchboard, routes: Sequence[Route]) -> None:
    switchboard.drop(routes)
    warnings.warn(
        f"the interception of {_shown(routes)} was dropped without close(): use with credits.intercept(...), "
        "or close the FakeCredits",
        ResourceWarning,
        stacklevel=2,
    )
