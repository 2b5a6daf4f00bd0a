"""Own which process something lives in, and tell its copy in a forked child; know nothing of what it is."""

import os

__all__ = ["Home"]


class _Process:
    """Be the number of this process, asked for once in each: a system call would cost every request up to 0.3 µs."""

    def __init__(self) -> None:
        self.look()
        if hasattr(os, "register_at_fork"):  # where there is a fork at all
            os.register_at_fork(after_in_child=self.look)

    def look(self) -> None:
        self.number = os.getpid()


_PROCESS = _Process()


class Home:
    """Be the process that something was made in: ``what``, for people, such as ``sandbox s1``."""

    __slots__ = ("_number", "_what")

    def __init__(self, what: str) -> None:
        self._what = what
        self._number = _PROCESS.number

    def __repr__(self) -> str:
        return f"<Home of {self._what}: process {self._number}>"

    @property
    def left(self) -> bool:
        """Tell whether this is a forked child, with a copy that nobody else sees."""
        return self._number != _PROCESS.number

    def check(self) -> None:
        """Raise RuntimeError in a forked child: what it did would be lost, and its locks may never open."""
        if self._number != _PROCESS.number:
            raise RuntimeError(
                f"{self._what} belongs to process {self._number}; this is {_PROCESS.number}, forked from it: a "
                "copy that nobody else sees. Read base_url, api_key and token() before the fork, and call the API there"
            )
