"""Own what this process intercepts: the routes, and when the libraries are patched and put back.

It patches the libraries that are imported, and those that come to be imported while it is on; it imports none.
"""

import importlib
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from types import ModuleType

from fake_credits.drivers.intercept.imports import ImportWatch
from fake_credits.drivers.intercept.patches import Patches
from fake_credits.drivers.intercept.routes import Route, Routes

__all__ = ["LIBRARIES", "SWITCHBOARD", "Switchboard"]

LIBRARIES: Mapping[str, str] = {
    "aiohttp.connector": "for_aiohttp",
    "httpcore": "for_httpcore",
    "httpcore2": "for_httpcore",
    "urllib3.connectionpool": "for_urllib3",
}
"""The modules whose classes are patched, each with the module beside this one that does it."""


class Switchboard:
    """Answer the requests of this process to some base URLs; of two that hold a URL, the one added last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._dropped: deque[Sequence[Route]] = deque()
        self._routes = Routes()
        self._patches = Patches()
        self._watch = ImportWatch(LIBRARIES, self._arrived)

    def __repr__(self) -> str:
        return f"<Switchboard: {self._routes!r}>"

    def add(self, routes: Sequence[Route]) -> None:
        """Answer the requests to these, from now on; nothing is left behind where that fails."""
        with self._lock:
            begins = not self._routes.open
            self._routes.replace([*routes, *self._routes.open])
            if begins and routes:
                self._begin()
        self._sweep()

    def remove(self, routes: Sequence[Route]) -> None:
        """Answer them no more; the last one puts every library back. Routes that are gone already are left out."""
        with self._lock:
            self._remove(routes)
        self._sweep()

    def drop(self, routes: Sequence[Route]) -> None:
        """Answer them no more, from a finalizer: it may run in a thread that is at work here, and so waits for none."""
        self._dropped.append(routes)
        self._sweep()

    def _sweep(self) -> None:
        """Remove what was dropped; where another is at work, he does so once he is done."""
        while self._dropped and self._lock.acquire(blocking=False):
            try:
                while self._dropped:
                    self._remove(self._dropped.popleft())
            finally:
                self._lock.release()

    def _remove(self, routes: Sequence[Route]) -> None:
        rest = [route for route in self._routes.open if route not in routes]
        ends = bool(self._routes.open) and not rest
        self._routes.replace(rest)
        if ends:
            self._end()

    def _begin(self) -> None:
        self._patches = Patches()
        self._watch.start()
        try:
            for name in LIBRARIES:
                if name in sys.modules:
                    # Of a module that another thread is importing just now, this waits for the end.
                    self._arrived(importlib.import_module(name))
        except BaseException:
            self._routes.replace([])
            self._end()
            raise

    def _end(self) -> None:
        self._watch.stop()
        self._patches.undo()

    def _arrived(self, module: ModuleType) -> None:
        """Patch a library; whoever imports it may be another thread, so this takes no lock.

        Raises RuntimeError for a release of it that is made otherwise: its requests would reach the network unseen.
        """
        adapter = importlib.import_module(f"{__package__}.{LIBRARIES[module.__name__]}")
        try:
            adapter.patch(module, self._routes, self._patches)
        except (AttributeError, KeyError) as error:
            name = module.__name__.partition(".")[0]
            raise RuntimeError(f"this release of {name} can't be intercepted: {error!r}") from error


# What is patched is the process's own, so the one who knows of it is too; empty, it has no effect.
SWITCHBOARD = Switchboard()
