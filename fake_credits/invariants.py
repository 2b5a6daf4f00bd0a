"""What a test declares for exploration: invariants of its sandbox, and calls that are its own."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

from fake_credits.journal import JournalEntry
from fake_credits.sandbox import Sandbox

__all__ = ["Invariants", "is_aside"]

_is_aside: ContextVar[bool] = ContextVar("fake_credits_is_aside", default=False)


def is_aside() -> bool:
    """Return whether the current calls are marked as the test's own."""
    return _is_aside.get()


class Invariants:
    """The part of a sandbox's façade that serves exploration; every method also works without it.

    ``explored`` is the schedule of the current run, such as ``2:lost_after``; empty in a run without faults, and None
    outside an exploration.
    """

    sandbox: Sandbox
    explored: str | None = None

    @contextmanager
    def aside(self) -> Generator[None]:
        """Mark the calls in the block as the test's own: they meet no injected fault and are not judged."""
        token = _is_aside.set(True)
        try:
            yield
        finally:
            _is_aside.reset(token)

    def always(self, check: Callable[[], object]) -> None:
        """Call a function after each commit; the test fails if it returns False or raises AssertionError.

        It runs in the thread of the call that committed, and calls no API.
        """

        def on_entry(entry: JournalEntry) -> None:
            if entry.committed:
                self._check(check, f"after {entry.operation} of {entry.user or entry.application}")

        self.sandbox.journal.watch(on_entry)

    def eventually(self, check: Callable[[], object]) -> None:
        """Call a function at the end of the test, once all scheduled writes are applied, as `always` does."""
        self._eventual_checks = [*self._eventual_checks, check]

    _eventual_checks: list[Callable[[], object]] = []  # noqa: RUF012 - replaced, never changed

    def check_eventually(self) -> None:
        """Apply what is still scheduled, and call the functions of `eventually`, once."""
        checks, self._eventual_checks = self._eventual_checks, []
        if checks:
            self.sandbox.clock.run_pending()
        for check in checks:
            self._check(check, "at the end of the test")

    def _check(self, check: Callable[[], object], when: str) -> None:
        try:
            problem = "returned False" if check() is False else ""
        except AssertionError as error:
            problem = f"failed: {error}" if str(error) else "failed"
        if problem:
            name = getattr(check, "__qualname__", repr(check)).rpartition(".<locals>.")[2]
            self.sandbox.add_problem(f"invariant {name} {problem} {when}")
