"""How a run of a test ended, judged by its exception and by the lines of the test function that were executed."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from fake_credits.explore.ownership import TestCode
from fake_credits.explore.runs import Outcome


def outcome_of(
    error: BaseException | None, test_code: TestCode, assertions: tuple[type[BaseException], ...] = (AssertionError,)
) -> Outcome:
    """Return the outcome of a run that an exception ended; None is a run that passed.

    ``assertions`` are the exceptions that a failed assertion raises.
    """
    if error is None:
        return Outcome()
    error = _single_error(error)
    in_test = isinstance(error, assertions) and _raised_by_test(error, test_code)
    return Outcome("failed", str(error), type(error).__name__, failed_in_test=in_test)


def _single_error(error: BaseException) -> BaseException:
    """Return the only exception of a group, as trio and anyio raise; any other error as it is."""
    exceptions: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    return _single_error(exceptions[0]) if len(exceptions) == 1 else error


def _raised_by_test(error: BaseException, test_code: TestCode) -> bool:
    """Return whether the innermost frame outside the HTTP stack, where an exception was raised, is the test's."""
    owner, traceback = "stack", error.__traceback__
    while traceback is not None:
        frame_owner = test_code.owner_of(traceback.tb_frame)
        owner = owner if frame_owner == "stack" else frame_owner
        traceback = traceback.tb_next
    return owner == "test"


@contextmanager
def traced_lines(
    test_code: TestCode, *, is_wanted: bool, running: FrameType | None = None
) -> Generator[Callable[[], frozenset[tuple[str, int]] | None]]:
    """Collect the lines of the test that run in the block; yield a function that returns them, None if unwanted.

    ``running`` is a frame of the test that has begun already.
    """
    if not is_wanted:
        yield lambda: None
        return
    lines: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        if test_code.owner_of(frame) != "test":
            return None
        if event == "line":
            lines.add((frame.f_code.co_qualname, frame.f_lineno))
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    if running is not None:
        running.f_trace = trace
    try:
        yield lambda: frozenset(lines)
    finally:
        sys.settrace(previous)
        if running is not None:
            running.f_trace = None
