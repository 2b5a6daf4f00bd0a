"""The check that an object is not used in a forked child of its process."""

import os


class _CurrentProcess:
    """The id of this process, read once per process: a system call would cost every request up to 0.3 µs."""

    def __init__(self) -> None:
        self.refresh_id()
        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(after_in_child=self.refresh_id)

    def refresh_id(self) -> None:
        self.process_id = os.getpid()


CURRENT_PROCESS = _CurrentProcess()


class ForkGuard:
    """The process in which an object was created. ``label`` names the object in messages, such as ``sandbox s1``."""

    __slots__ = ("_label", "process_id")

    def __init__(self, label: str) -> None:
        self._label = label
        self.process_id = CURRENT_PROCESS.process_id

    @property
    def in_child(self) -> bool:
        """Return whether this is a forked child, which has only a copy of the object."""
        return self.process_id != CURRENT_PROCESS.process_id

    def check(self) -> None:
        """Raise RuntimeError in a forked child: its changes would be lost, and its locks may be held forever."""
        if self.process_id != CURRENT_PROCESS.process_id:
            raise RuntimeError(
                f"{self._label} belongs to process {self.process_id}, and process {CURRENT_PROCESS.process_id}, "
                "forked from it, has only a copy: "
                "read base_url, api_key and token() before the fork, and call the API with these"
            )
