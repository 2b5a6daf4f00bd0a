"""Own the watch for modules that are imported later; import nothing itself and know no HTTP library."""

import sys
from collections.abc import Callable, Collection, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["ImportWatch"]

Arrived = Callable[[ModuleType], None]


class ImportWatch(MetaPathFinder):
    """Tell when one of some modules has been imported, at the end of its own code and before its importer goes on."""

    def __init__(self, names: Collection[str], arrived: Arrived) -> None:
        self._names = names
        self._arrived = arrived

    def __repr__(self) -> str:
        return f"<ImportWatch: {', '.join(self._names)}>"

    def start(self) -> None:
        """Watch."""
        sys.meta_path.insert(0, self)

    def stop(self) -> None:
        """Watch no more."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what the other finders find of a watched module, to be told of once it is loaded."""
        if fullname not in self._names:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Telling(spec.loader, self._arrived)
                return spec
        return None


class _Telling(Loader):
    """Load as another does, leave no trace in the module, and tell."""

    def __init__(self, loader: Loader, arrived: Arrived) -> None:
        self._loader = loader
        self._arrived = arrived

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._arrived(module)
