"""Interception: a sandbox answers, in process, what an application's own HTTP library sends to some base URLs."""

import importlib
import sys
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from types import ModuleType, TracebackType
from typing import Self

from fake_credits.clock import Clock
from fake_credits.intercept.patching import ImportHook, Patches
from fake_credits.intercept.routes import Route, Routes, parse_base_url
from fake_credits.transports.in_process import InProcessDriver

__all__ = ["ADAPTER_MODULES", "INTERCEPTION_REGISTRY", "Interception", "InterceptionRegistry", "intercept"]


ADAPTER_MODULES: Mapping[str, str] = {
    "aiohttp.connector": "aiohttp",
    "httpcore": "httpcore",
    "httpcore2": "httpcore",
    "urllib3.connectionpool": "urllib3",
}
"""The modules whose classes are patched, each with the module beside this one that does it."""


class InterceptionRegistry:
    """Answer the requests of this process to some base URLs; of two that hold a URL, the one added last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._finalized: deque[Sequence[Route]] = deque()
        self._routes = Routes()
        self._patches = Patches()
        self._import_hook = ImportHook(ADAPTER_MODULES, self._on_import)

    def __repr__(self) -> str:
        return f"<InterceptionRegistry: {self._routes!r}>"

    def add(self, routes: Sequence[Route]) -> None:
        """Answer the requests to these, from now on; nothing is left behind where that fails."""
        with self._lock:
            is_first = not self._routes.active
            self._routes.replace_all([*routes, *self._routes.active])
            if is_first and routes:
                self._patch_libraries()
        self._process_finalized()

    def remove(self, routes: Sequence[Route]) -> None:
        """Answer them no more; the last one puts every library back. Routes that are gone already are left out."""
        with self._lock:
            self._remove_locked(routes)
        self._process_finalized()

    def remove_finalized(self, routes: Sequence[Route]) -> None:
        """Answer them no more, from a finalizer: it may run in a thread that is at work here, and so waits for none."""
        self._finalized.append(routes)
        self._process_finalized()

    def _process_finalized(self) -> None:
        """Remove what was dropped; where another is at work, he does so once he is done."""
        while self._finalized and self._lock.acquire(blocking=False):
            try:
                while self._finalized:
                    self._remove_locked(self._finalized.popleft())
            finally:
                self._lock.release()

    def _remove_locked(self, routes: Sequence[Route]) -> None:
        remaining = [route for route in self._routes.active if route not in routes]
        is_last = bool(self._routes.active) and not remaining
        self._routes.replace_all(remaining)
        if is_last:
            self._restore_libraries()

    def _patch_libraries(self) -> None:
        self._patches = Patches()
        self._import_hook.start()
        try:
            for name in ADAPTER_MODULES:
                if name in sys.modules:
                    # Of a module that another thread is importing just now, this waits for the end.
                    self._on_import(importlib.import_module(name))
        except BaseException:
            self._routes.replace_all([])
            self._restore_libraries()
            raise

    def _restore_libraries(self) -> None:
        self._import_hook.stop()
        self._patches.undo()

    def _on_import(self, module: ModuleType) -> None:
        """Patch a library; whoever imports it may be another thread, so this takes no lock.

        Raises RuntimeError for a release of it that is made otherwise: its requests would reach the network unseen.
        """
        adapter = importlib.import_module(f"{__package__}.{ADAPTER_MODULES[module.__name__]}")
        try:
            adapter.patch(module, self._routes, self._patches)
        except (AttributeError, KeyError) as error:
            name = module.__name__.partition(".")[0]
            raise RuntimeError(f"this release of {name} can't be intercepted: {error!r}") from error


# What is patched is the process's own, so the one who knows of it is too; empty, it has no effect.
INTERCEPTION_REGISTRY = InterceptionRegistry()


class Interception:
    """Be some base URLs under interception, from being made until `close` or the end of its ``with`` block.

    One that nobody holds any more ends too, with a ResourceWarning: it would answer this process's requests for ever.
    """

    def __init__(self, registry: InterceptionRegistry, routes: Sequence[Route]) -> None:
        self._registry = registry
        self._routes = tuple(routes)
        registry.add(self._routes)
        self._finalizer = weakref.finalize(self, _on_garbage_collected, registry, self._routes)
        self._finalizer.atexit = False

    def __repr__(self) -> str:
        return f"<Interception: {_format_routes(self._routes)}>"

    @property
    def base_urls(self) -> tuple[str, ...]:
        """Return the base URLs in their one form; none once it is over."""
        return tuple(str(route.base_url) for route in self._routes) if self._finalizer.alive else ()

    def __enter__(self) -> Self:
        """Return this; raise RuntimeError where it is over, as it would intercept nothing."""
        if not self._finalizer.alive:
            raise RuntimeError(f"{self!r} is over: call credits.intercept(...) again")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End it; a second call does nothing."""
        self._finalizer.detach()
        self._registry.remove(self._routes)


def intercept(base_urls: Sequence[str], driver: InProcessDriver, clock: Clock) -> Interception:
    """Begin to answer this process's requests to some base URLs; whoever waits between two lets ``clock`` advance.

    Raises TypeError or ValueError, naming the rule, for what is no base URL, and where there is none.
    """
    if not base_urls:
        raise ValueError("intercept(...) needs a base URL, such as https://credits.internal")

    def sleep(seconds: float) -> None:
        clock.advance(seconds=seconds)

    parsed_urls = [parse_base_url(url) for url in base_urls]
    return Interception(
        INTERCEPTION_REGISTRY, [Route(url, driver, sleep, lambda: clock.now_ms() / 1000) for url in parsed_urls]
    )


def _format_routes(routes: Sequence[Route]) -> str:
    return ", ".join(str(route.base_url) for route in routes)


def _on_garbage_collected(registry: InterceptionRegistry, routes: Sequence[Route]) -> None:
    registry.remove_finalized(routes)
    warnings.warn(
        f"the interception of {_format_routes(routes)} was dropped without close(): use with credits.intercept(...), "
        "or close the FakeCredits",
        ResourceWarning,
        stacklevel=2,
    )
