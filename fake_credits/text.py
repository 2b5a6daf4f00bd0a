"""Shortening, aligning, escaping and redacting text for display."""

import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from urllib.parse import unquote_plus

_SECRET_PARAMETER = re.compile(
    r"auth|bearer|credential|jwt|key|passw|^pwd$|secret|session|^sig$|signature|token", re.IGNORECASE
)
_JWT_PATTERN = re.compile(r"eyJ[\w.-]+")
_MAX_CELL_CHARS = 48
_MAX_SHOWN_BITS = 512


def pluralize(number: int, noun: str) -> str:
    """Return a number followed by a noun in the singular or plural."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def redact(text: str, api_key: str) -> str:
    """Replace the API key and all tokens in a string with placeholders; call this before `truncate`."""
    return _JWT_PATTERN.sub("<token>", text.replace(api_key, "<api key>") if api_key else text)


def mask_query(target: bytes, shown: Collection[str] = ()) -> bytes:
    """Return a request's target, masking the values of query parameters whose names suggest a secret.

    The values of parameters named in ``shown`` are kept.
    """
    path, question_mark, query = target.partition(b"?")
    if b"=" not in query:
        return target
    pairs: list[bytes] = []
    for raw_name, sign, value in (pair.partition(b"=") for pair in query.split(b"&")):
        name = unquote_plus(raw_name.decode("latin-1"))
        is_secret = name not in shown and _SECRET_PARAMETER.search(name)
        pairs.append(raw_name + sign + (b"***" if is_secret else value))
    return path + question_mark + b"&".join(pairs)


def mask_url(url: str) -> str:
    """Return a URL for display, masking its user information, query and fragment, which may contain secrets."""
    masked = re.sub(r"(?s)([?#]).+", r"\1***", url, count=1)
    return re.sub(r"(?s)^(\w+://)?.*@", r"\1***@", masked)


def escape_control(text: str) -> str:
    """Escape all non-printable characters in a string."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def truncate(text: str, max_chars: int = _MAX_CELL_CHARS) -> str:
    """Shorten a string to at most ``max_chars`` characters, by default the maximum width of a table cell."""
    return text if len(text) <= max_chars else text[: max_chars - 1] + "…"


def truncate_with_hash(text: str, max_chars: int = 256) -> str:
    """Truncate a string to ``max_chars`` characters, replacing the excess with a hash of the complete string."""
    if len(text) <= max_chars:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{text[: max_chars - len(digest) - 1]}…{digest}"


def short_repr(value: object, max_chars: int = 80) -> str:
    """Return a value's repr for an error message, shortened to ``max_chars`` characters."""
    if isinstance(value, int) and value.bit_length() > _MAX_SHOWN_BITS:
        return f"an integer of {value.bit_length()} bits"  # repr() would raise ValueError for thousands of digits
    return truncate(repr(value), max_chars)


def align_columns(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return rows as the lines of a table, each column as wide as its widest cell."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
