"""The display of a failing test on a terminal: tracebacks without the fake's frames, and a coloured section.

This module imports only pytest and the standard library, because, under pytest-xdist, the process that writes to the
terminal does not run tests. PYTEST_DONT_REWRITE
"""

import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

_BUGS = (ArithmeticError, AttributeError, LookupError, NameError)
"""Errors that the fake never raises on purpose."""


def hide_internal_frames() -> None:
    """Hide the frames of the fake's loaded modules in tracebacks, unless the error looks like a bug in the fake."""
    for name, module in list(sys.modules.items()):
        if name.startswith("fake_credits.") or name == "pytest_fake_credits.factory":
            vars(module).setdefault("__tracebackhide__", _is_deliberate)


def _is_deliberate(excinfo: "pytest.ExceptionInfo[BaseException] | None") -> bool:
    """Return whether the frames of an error should be hidden; pytest calls this as ``__tracebackhide__``."""
    return excinfo is None or not isinstance(excinfo.value, _BUGS)


SECTION_NAME = "fake-credits"
"""The name of the section in a report."""

MARKUP_ATTRIBUTE = "fake_credits_markup"
"""The report attribute that holds the markup of each line of the section."""


@contextmanager
def coloured_sections(terminal: pytest.TerminalReporter, candidates: Iterable[object]) -> Generator[None]:
    """Colour the fake's section in each report while pytest prints the reports."""
    reports: list[Any] = [report for report in candidates if hasattr(report, MARKUP_ATTRIBUTE)]
    plain = [report.sections for report in reports]
    for report in reports:
        report.sections = [
            (name, _color(terminal, text, getattr(report, MARKUP_ATTRIBUTE)) if name == SECTION_NAME else text)
            for name, text in report.sections
        ]
    try:
        yield
    finally:
        for report, sections in zip(reports, plain, strict=True):
            report.sections = sections


def _color(terminal: pytest.TerminalReporter, text: str, markups: Sequence[str]) -> str:
    lines = zip(text.split("\n"), markups, strict=True)
    writer = terminal.config.get_terminal_writer()
    return "\n".join(writer.markup(line, **dict.fromkeys(markup.split(), True)) for line, markup in lines)
