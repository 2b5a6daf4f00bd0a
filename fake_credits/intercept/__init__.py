"""Interception: sending this process's HTTP requests for certain base URLs to a sandbox instead of the network."""

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
from fake_credits.interception_log import InterceptionLog
from fake_credits.transports.in_process import InProcessDriver

__all__ = ["ADAPTER_MODULES", "INTERCEPTION_REGISTRY", "Interception", "InterceptionRegistry", "intercept"]


ADAPTER_MODULES: Mapping[str, str] = {
    "aiohttp.connector": "aiohttp",
    "httpcore": "httpcore",
    "httpcore2": "httpcore",
    "urllib3.connectionpool": "urllib3",
    "urllib3_future.connectionpool": "urllib3",
}
"""The library modules to patch, each mapped to the module in this package that patches it."""


class InterceptionRegistry:
    """The base URLs intercepted in this process; if several match a URL, the most recently added one wins."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._finalized: deque[Sequence[Route]] = deque()
        self._routes = Routes()
        self._patches = Patches()
        self._import_hook = ImportHook(ADAPTER_MODULES, self._on_import)

    def __repr__(self) -> str:
        return f"<InterceptionRegistry: {self._routes!r}>"

    def add(self, routes: Sequence[Route]) -> None:
        """Start intercepting requests to these routes; undo everything if that fails."""
        with self._lock:
            is_first = not self._routes.active
            self._routes.replace_all([*routes, *self._routes.active])
            if is_first and routes:
                self._patch_libraries()
        self._process_finalized()

    def remove(self, routes: Sequence[Route]) -> None:
        """Stop intercepting these routes; once none are left, restore the libraries. Unknown routes are ignored."""
        with self._lock:
            self._remove_locked(routes)
        self._process_finalized()

    def remove_finalized(self, routes: Sequence[Route]) -> None:
        """Stop intercepting these routes without blocking, because a finalizer's thread may already hold the lock."""
        self._finalized.append(routes)
        self._process_finalized()

    def _process_finalized(self) -> None:
        """Remove finalized routes, unless the lock is held; in that case, its holder removes them afterwards."""
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
                    # If another thread is importing the module, this waits for that import to finish.
                    self._on_import(importlib.import_module(name))
        except BaseException:
            self._routes.replace_all([])
            self._restore_libraries()
            raise

    def _restore_libraries(self) -> None:
        self._import_hook.stop()
        self._patches.undo()

    def _on_import(self, module: ModuleType) -> None:
        """Patch a library.

        This doesn't take the lock, because another thread may hold it while waiting for this import to finish. Raises
        RuntimeError if this version of the library is unsupported; its requests would otherwise reach the network.
        """
        adapter = importlib.import_module(f"{__package__}.{ADAPTER_MODULES[module.__name__]}")
        try:
            adapter.patch(module, self._routes, self._patches)
        except (AttributeError, KeyError) as error:
            name = module.__name__.partition(".")[0]
            raise RuntimeError(f"this version of {name} can't be intercepted: {error!r}") from error


# The patches are global to the process, so the registry is too. While it is empty, nothing is patched.
INTERCEPTION_REGISTRY = InterceptionRegistry()


class Interception:
    """An active interception of base URLs, which lasts until `close` or the end of its ``with`` block.

    If it is garbage-collected before that, it ends with a ResourceWarning.
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
        """Return the normalized base URLs, or an empty tuple once the interception has ended."""
        return tuple(str(route.base_url) for route in self._routes) if self._finalizer.alive else ()

    def __enter__(self) -> Self:
        """Return the interception; raise RuntimeError if it has already ended."""
        if not self._finalizer.alive:
            raise RuntimeError(f"{self!r} has ended: call credits.intercept(...) again")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the interception; a second call does nothing."""
        self._finalizer.detach()
        self._registry.remove(self._routes)


def intercept(base_urls: Sequence[str], driver: InProcessDriver, clock: Clock, log: InterceptionLog) -> Interception:
    """Start intercepting this process's requests to these base URLs.

    urllib3's waits between retries advance ``clock`` instead of taking real time. Requests to the same hosts but
    outside the base URLs are recorded in ``log``. Raises TypeError if a base URL is not a string, and ValueError if one
    is invalid or none is passed.
    """
    if not base_urls:
        raise ValueError("intercept(...) requires at least one base URL, such as https://credits.internal")
    return Interception(INTERCEPTION_REGISTRY, [Route(parse_base_url(url), driver, clock, log) for url in base_urls])


def _format_routes(routes: Sequence[Route]) -> str:
    return ", ".join(str(route.base_url) for route in routes)


def _on_garbage_collected(registry: InterceptionRegistry, routes: Sequence[Route]) -> None:
    registry.remove_finalized(routes)
    warnings.warn(
        f"the interception of {_format_routes(routes)} was never closed: use `with credits.intercept(...)`, or close "
        "the FakeCredits instance",
        ResourceWarning,
        stacklevel=2,
    )
