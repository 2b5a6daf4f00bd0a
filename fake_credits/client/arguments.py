"""The checks of what callers pass to a client: base URLs, ids, credentials and timeouts."""

import math
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import SplitResult, quote, urlsplit

__all__ = [
    "BaseUrl",
    "check_timeout",
    "encode_secret",
    "mask",
    "quote_id",
    "quote_text",
]

__tracebackhide__ = True  # a failing test shows the caller's line, not ours

_DOT_SEGMENTS = frozenset({".", ".."})
_UNMASKED_CHARS = 4


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """Be a base URL that was found fit: ``text`` without trailing slashes, and its parts."""

    text: str
    scheme: str
    host: str
    path_prefix: str

    @classmethod
    def parse(cls, text: str) -> "BaseUrl":
        """Return the parts of an absolute http or https URL; raise TypeError or ValueError where it is none.

        It may have a path in front of the API's own and a trailing slash; a query, a fragment and user information
        are refused, as they would be lost or sent twice.
        """
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance] callers may be untyped
            raise TypeError(f"base_url must be a str, not {type(text).__name__}")
        return cls._parse(text)

    @classmethod
    @lru_cache(maxsize=16)
    def _parse(cls, text: str) -> "BaseUrl":
        """Return the parts; kept, as a suite makes thousands of clients of one URL."""
        if not text.isascii() or any(character <= " " or character == "\x7f" for character in text):
            raise ValueError("base_url must be ASCII without spaces: percent-encode its path")
        parts = _split_url(text)
        if "@" in parts.netloc:
            raise ValueError("base_url must not bear user information: the credential is an argument of its own")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"base_url {text!r} must be an absolute http:// or https:// URL")
        if "?" in text or "#" in text:
            raise ValueError(f"base_url {text!r} must have neither a query nor a fragment")
        if not _DOT_SEGMENTS.isdisjoint(parts.path.split("/")):
            raise ValueError(f"base_url {text!r} must have no '.' or '..' in its path: HTTP libraries walk them")
        return cls(text.rstrip("/"), parts.scheme, parts.hostname, parts.path.rstrip("/"))


def _split_url(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises ValueError for a port that is none
    except ValueError as error:
        raise ValueError(f"base_url is no URL: {error}") from None
    return parts


@lru_cache(maxsize=1024)
def quote_id(argument: str, value: str) -> str:
    """Return an id as one percent-encoded path segment.

    Raise ValueError for what would reach another operation or no server at all: an empty id, ``.`` and ``..``, which
    URL libraries walk even as ``%2E%2E``, and lone surrogates. All other limits are the server's (README,
    "What is a guess", row 24).
    """
    if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance] callers may be untyped
        raise TypeError(f"{argument} must be a str, not {type(value).__name__}")
    if not value or value in _DOT_SEGMENTS:
        raise ValueError(f"{argument} must not be {value!r}: as a part of a path it names another operation")
    return quote_text(argument, value)


def quote_text(argument: str, value: str) -> str:
    """Return text percent-encoded, all but RFC 3986's unreserved characters; raise ValueError for lone surrogates."""
    try:
        return quote(value, safe="")
    except UnicodeEncodeError as error:
        raise ValueError(f"{argument} {value!r} has a lone surrogate, which UTF-8 can't encode") from error


def encode_secret(argument: str, value: str) -> bytes:
    """Return a credential as the bytes of a header's value.

    Raise TypeError or ValueError, without repeating the secret, for what no header can carry (RFC 9110, 5.5).
    """
    if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance] callers may be untyped
        raise TypeError(f"{argument} must be a str, not {type(value).__name__}")
    if not value:
        raise ValueError(f"{argument} must not be empty")
    if value != value.strip() or any(character < " " or character == "\x7f" for character in value):
        raise ValueError(f"{argument} must have no control characters, and no space at either end")
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(f"{argument} must be Latin-1 text: a header can't carry anything else") from None


def check_timeout(value: float | None) -> float | None:
    """Return a timeout in seconds; raise TypeError or ValueError where it is neither None nor finite and positive."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"timeout_s must be a number of seconds or None, not {type(value).__name__}")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"timeout_s must be more than 0 and finite, not {value!r}: None waits for ever")
    return value


def mask(secret: str) -> str:
    """Return no more of a secret than its first four characters, and nothing of a short one."""
    return (secret[:_UNMASKED_CHARS] if len(secret) > 2 * _UNMASKED_CHARS else "") + "…"
