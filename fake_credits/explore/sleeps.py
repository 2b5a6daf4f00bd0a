"""Finding real sleeps in an application while it is explored: the fake's own delays take no time, these do."""

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from fake_credits.explore.ownership import TestCode

_MIN_RECORDED_S = 0.01


class SleepLog:
    """The longest sleep at each line of the application that sleeps for 10 ms or more."""

    def __init__(self, test_code: TestCode) -> None:
        self._test_code = test_code
        self._longest: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<SleepLog of {len(self._longest)} lines>"

    def slowest(self) -> list[tuple[float, str]]:
        """Return seconds and line of each sleep, the longest first."""
        return sorted(((seconds, where) for where, seconds in self._longest.items()), reverse=True)

    @contextmanager
    def recording(self) -> Generator[None]:
        """Record calls of `time.sleep` in the block."""
        original = time.sleep

        def sleep(seconds: float) -> None:  # `SupportsIndex` too, but no application sleeps for one
            frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
            if seconds >= _MIN_RECORDED_S and self._test_code.owner_of(frame) == "application":
                where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                self._longest[where] = max(seconds, self._longest.get(where, 0))
            original(seconds)

        time.sleep = sleep  # type: ignore[assignment]
        try:
            yield
        finally:
            time.sleep = original
