"""Reversible patches of library attributes, and a hook for libraries that are imported later."""

import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

OnImport = Callable[[ModuleType], None]


class ImportHook(MetaPathFinder):
    """An import hook that calls a function with each watched module before its import completes."""

    def __init__(self, module_names: Collection[str], on_import: OnImport) -> None:
        self._module_names = module_names
        self._on_import = on_import

    def start(self) -> None:
        """Start watching imports."""
        sys.meta_path.insert(0, self)

    def stop(self) -> None:
        """Stop watching imports."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a watched module's spec with the other finders, and wrap its loader so that it calls ``on_import``."""
        if fullname not in self._module_names:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _NotifyingLoader(spec.loader, self._on_import)
                return spec
        return None


class _NotifyingLoader(Loader):
    """A loader that restores the module's original loader, delegates to it, and then calls ``on_import``."""

    def __init__(self, loader: Loader, on_import: OnImport) -> None:
        self._loader = loader
        self._on_import = on_import

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._on_import(module)


class Patches:
    """Replaced attributes, and their original values.

    An attribute that other code has since replaced is not restored. If that code still calls our replacement, the
    replacement in turn calls the original, because no URLs are intercepted any more.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a finalizer may call undo() in a thread that is inside set()
        self._applied: list[tuple[Any, str, object, object]] = []
        self._is_undone = False

    def set(self, owner: Any, name: str, replacement: object) -> None:
        """Replace an attribute that a module or class defines itself; after `undo`, do nothing."""
        with self._lock:
            if not self._is_undone:
                self._applied.append((owner, name, _own_attributes(owner)[name], replacement))
                setattr(owner, name, replacement)

    def undo(self) -> None:
        """Restore all attributes; later calls to `set` do nothing."""
        with self._lock:
            self._is_undone = True
            for owner, name, original, replacement in reversed(self._applied):
                if _own_attributes(owner).get(name) is replacement:
                    setattr(owner, name, original)
            self._applied.clear()


def _own_attributes(owner: object) -> Mapping[str, object]:
    return vars(owner)
