"""Shortening, aligning, escaping and redacting text for display."""

import re
from collections.abc import Iterable, Sequence

__all__ = ["align_columns", "escape_control", "redact", "short_repr", "truncate"]

_JWT_PATTERN = re.compile(r"eyJ[\w.-]+")
_MAX_CELL_CHARS = 48
_MAX_SHOWN_BITS = 512


def redact(text: str, api_key: str) -> str:
    """Return a text with the API key and all tokens replaced by placeholders; call this before `truncate`."""
    return _JWT_PATTERN.sub("<token>", text.replace(api_key, "<api key>") if api_key else text)


def escape_control(text: str) -> str:
    """Return a text with all non-printable characters escaped."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def truncate(text: str, max_chars: int = _MAX_CELL_CHARS) -> str:
    """Return a text shortened to ``max_chars`` characters, by default those of a table's cell."""
    return text if len(text) <= max_chars else text[: max_chars - 1] + "…"


def short_repr(value: object, max_chars: int = 80) -> str:
    """Return a value's repr for an error message, shortened to ``max_chars`` characters."""
    if isinstance(value, int) and value.bit_length() > _MAX_SHOWN_BITS:
        return f"an integer of {value.bit_length()} bits"  # Python refuses to write thousands of digits
    return truncate(repr(value), max_chars)


def align_columns(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table whose columns are as wide as their widest cell."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
