"""Shortening, aligning, escaping and redacting text for display."""

import re
from collections.abc import Iterable, Sequence

__all__ = ["align_columns", "escape_control", "redact", "truncate"]

_JWT_PATTERN = re.compile(r"eyJ[\w.-]+")
_MAX_CELL_CHARS = 48


def redact(text: str, api_key: str) -> str:
    """Return a text with each API key and each token replaced by its name; do this before anything is cut."""
    return _JWT_PATTERN.sub("<token>", text.replace(api_key, "<api key>") if api_key else text)


def escape_control(text: str) -> str:
    """Return a text in which every character that is not printable is escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def truncate(text: str) -> str:
    """Return a cell of a table, with at most 48 characters."""
    return text if len(text) <= _MAX_CELL_CHARS else text[: _MAX_CELL_CHARS - 1] + "…"


def align_columns(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table whose columns are as wide as their widest cell."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
