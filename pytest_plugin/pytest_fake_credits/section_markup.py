"""The colours of the section of a failing test's report, on a terminal.

This module imports only pytest and the standard library, as the terminal of pytest-xdist is not in the test's process.
PYTEST_DONT_REWRITE
"""

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

SECTION_NAME = "fake-credits"
"""The name of the section."""

MARKUP_ATTRIBUTE = "fake_credits_markup"
"""The attribute of a report with the markup of each line of the section."""


@contextmanager
def colored_sections(terminal: pytest.TerminalReporter, candidates: Iterable[object]) -> Generator[None]:
    """Colour the sections of reports while pytest prints them."""
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
