"""The progress line that an exploration shows on a terminal, but not under pytest-xdist.

PYTEST_DONT_REWRITE
"""

from collections.abc import Callable

import pytest

from fake_credits.clock import monotonic_s
from fake_credits.explore.exploration import Exploration

_INTERVAL_S = 0.2
_ERASE_LINE = "\r\x1b[2K"


class Progress:
    """The progress line of one test's exploration. `show` and `clear` may be called repeatedly."""

    def __init__(
        self, config: pytest.Config, exploration: Exploration, now_s: Callable[[], float] = monotonic_s
    ) -> None:
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        self._reporter: pytest.TerminalReporter | None = reporter if reporter and reporter.isatty else None
        self._exploration = exploration
        self._now_s = now_s
        self._started_s = self._shown_s = now_s()
        self._is_visible = False

    def __repr__(self) -> str:
        return f"<Progress of {self._exploration!r}>"

    def show(self) -> None:
        """Show the line, at most five times a second."""
        if self._reporter is None:
            return
        now_s = self._now_s()
        if now_s - self._shown_s < _INTERVAL_S:
            return
        self._shown_s = now_s
        name = self._exploration.name.rpartition("::")[2]
        text = self._exploration.describe_progress(now_s - self._started_s)
        self._reporter.write(f"{_ERASE_LINE}{name:.40}: {text}", flush=True)
        self._is_visible = True

    def clear(self) -> None:
        """Erase the line."""
        if self._reporter is not None and self._is_visible:
            self._reporter.write(_ERASE_LINE, flush=True)
            self._reporter.currentfspath = None  # so that pytest writes the erased file name again
            self._is_visible = False
