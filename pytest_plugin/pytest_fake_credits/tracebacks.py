"""The frames of the fake in tracebacks of failing tests.

PYTEST_DONT_REWRITE
"""

import sys

import pytest

_BUGS = (ArithmeticError, AttributeError, LookupError, NameError)
"""Errors that the fake never raises on purpose."""


def hide_internal_frames() -> None:
    """Hide the fake's frames in tracebacks, in all modules loaded so far, unless the error looks like a bug in it."""
    for name, module in list(sys.modules.items()):
        if name.startswith("fake_credits.") or name == "pytest_fake_credits.factory":
            vars(module).setdefault("__tracebackhide__", _is_deliberate)


def _is_deliberate(excinfo: "pytest.ExceptionInfo[BaseException] | None") -> bool:
    """Return whether the frames of an error can be hidden, as pytest asks of ``__tracebackhide__``."""
    return excinfo is None or not isinstance(excinfo.value, _BUGS)
