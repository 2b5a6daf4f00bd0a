"""Own the attributes of foreign classes that are replaced for a while, and their way back; know no HTTP library."""

import threading
from collections.abc import Mapping
from typing import Any

__all__ = ["Patches"]


class Patches:
    """Replace attributes, and put back what was there.

    An attribute that somebody else has replaced since stays his: what he calls in turn then does nothing of its own,
    as there are no routes any more.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a finalizer may undo in the thread that sets
        self._made: list[tuple[Any, str, object, object]] = []
        self._over = False

    def __repr__(self) -> str:
        return f"<Patches: {len(self._made)}>"

    def set(self, owner: Any, name: str, replacement: object) -> None:
        """Replace an attribute that a module or a class has of its own; once undone, do nothing."""
        with self._lock:
            if not self._over:
                self._made.append((owner, name, _own(owner)[name], replacement))
                setattr(owner, name, replacement)

    def undo(self) -> None:
        """Put everything back, and replace nothing any more."""
        with self._lock:
            self._over = True
            for owner, name, original, replacement in reversed(self._made):
                if _own(owner).get(name) is replacement:
                    setattr(owner, name, original)
            self._made.clear()


def _own(owner: object) -> Mapping[str, object]:
    return vars(owner)
