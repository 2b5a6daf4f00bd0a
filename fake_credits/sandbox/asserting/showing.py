"""Own how a client's text is shown to a person: no secret, nothing that moves a cursor, cut; know not what it says."""

import re

__all__ = ["printable", "short", "without_secrets"]

_TOKEN = re.compile(r"eyJ[\w.-]+")
_CELL_MAX = 48


def without_secrets(text: str, api_key: str) -> str:
    """Return a text with each API key and each token replaced by its name; do this before anything is cut."""
    return _TOKEN.sub("<token>", text.replace(api_key, "<api key>") if api_key else text)


def printable(text: str) -> str:
    """Return a text in which every character that is not printable is escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def short(text: str) -> str:
    """Return a cell of a table, with at most 48 characters."""
    return text if len(text) <= _CELL_MAX else text[: _CELL_MAX - 1] + "…"
