"""Declarations that a test makes for exploration: invariants, and calls that belong to the test itself."""

import inspect
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from fake_credits.journal import JournalEntry
from fake_credits.sandbox import Sandbox

_is_aside: ContextVar[bool] = ContextVar("fake_credits_is_aside", default=False)


def is_aside() -> bool:
    """Return whether an `Invariants.aside` block is active; if so, calls count as made by the test itself."""
    return _is_aside.get()


class Invariants:
    """The methods of `FakeCredits` for exploration, which also work when no exploration is running."""

    if TYPE_CHECKING:
        sandbox: Sandbox

    @property
    def explored(self) -> str | None:
        """Return the schedule or order of the current run ("" if it has neither), or None outside an exploration."""
        return self.sandbox.hooks.explored

    @contextmanager
    def aside(self) -> Generator[None]:
        """Mark the calls in a `with` block as made by the test itself, not by the application.

        Exploration neither injects faults into them nor judges them.
        """
        token = _is_aside.set(True)
        try:
            yield
        finally:
            _is_aside.reset(token)

    def always(self, check: Callable[[], object]) -> None:
        """Call a function after each commit; fail the test if the function returns False or raises AssertionError.

        The function runs in the thread of the call that committed, and must not call the API. Raises TypeError if
        ``check`` is not a function, or is a coroutine function.
        """
        _check_function("always", check)
        self.sandbox.fork_guard.check()

        def on_entry(entry: JournalEntry) -> None:
            if entry.committed:
                _run_check(self.sandbox, check, f"after {entry.operation} for {entry.user or entry.application}")

        self.sandbox.journal.watch(on_entry)

    def eventually(self, check: Callable[[], object]) -> None:
        """Call a function at the end of the test, after all scheduled writes, and fail the test as `always` does.

        Raises TypeError if ``check`` is not a function, or is a coroutine function.
        """
        _check_function("eventually", check)
        self.sandbox.fork_guard.check()

        def check_finally() -> None:
            self.sandbox.clock.run_pending()
            _run_check(self.sandbox, check, "at the end of the test")

        self.sandbox.hooks.final_checks.append(check_finally)


def _check_function(method: str, check: object) -> None:
    if not callable(check):
        raise TypeError(f"{method}() takes a function, not {type(check).__name__}: write {method}(lambda: ...)")
    if inspect.iscoroutinefunction(check):
        raise TypeError(f"{method}() takes a function, not a coroutine function: write def, not async def")


def _run_check(sandbox: Sandbox, check: Callable[[], object], when: str) -> None:
    try:
        problem = f"returned False {when}" if check() is False else ""
    except AssertionError as error:
        problem = f"failed {when}: {error}" if str(error) else f"failed {when}"
    if problem:
        sandbox.add_problem(f"invariant {_name_of(check)} {problem}")


def _name_of(check: Callable[[], object]) -> str:
    """Return a function's name or, for a lambda, its file and line."""
    if inspect.isfunction(check) and check.__name__ == "<lambda>":
        return f"at {Path(check.__code__.co_filename).name}:{check.__code__.co_firstlineno}"
    return getattr(check, "__qualname__", repr(check)).rpartition(".<locals>.")[2]
