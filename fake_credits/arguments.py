"""Checks for arguments passed by Python callers: keywords, numbers, base URLs, ids, credentials and timeouts."""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, wraps
from inspect import iscoroutinefunction
from typing import Any, ParamSpec, TypeVar, cast
from urllib.parse import SplitResult, quote, urlsplit

from fake_credits.text import mask_url, short_repr

__tracebackhide__ = True  # a failing test then shows the caller's line, not ours

_CONTROL_CHARACTERS = frozenset(map(chr, (*range(32), 127)))
_DOT_SEGMENTS = frozenset({".", ".."})
_UNMASKED_CHARS = 4

P = ParamSpec("P")
T = TypeVar("T")


def keyword_hint(keyword: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator for methods with keyword-only parameters.

    If a method is called with too many positional arguments, the TypeError suggests passing the extra ones by keyword,
    the first one as ``keyword``.
    """

    def decorate(method: Callable[P, T]) -> Callable[P, T]:
        code = cast("Any", method).__code__
        limit = code.co_argcount
        accepted = "1 positional argument" if limit == 2 else f"{limit - 1 or 'no'} positional arguments"
        keywords = code.co_varnames[limit : limit + code.co_kwonlyargcount]
        required = set(keywords) - (cast("Any", method).__kwdefaults__ or {}).keys()

        def check(args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
            if len(args) > limit:
                names = (keyword, *(name for name in keywords if name != keyword))
                given = {**dict(zip(names, args[limit:], strict=False)), **kwargs}
                texts = [f"{name}={short_repr(value)}" for name, value in given.items()]
                texts += [f"{name}=..." for name in names if name in required and name not in given]
                call = f"{method.__name__}({', '.join([*map(short_repr, args[1:limit]), *texts])})"
                name = f"{type(args[0]).__name__}.{method.__name__}"
                raise TypeError(f"{name}() takes {accepted} (keywords: {', '.join(keywords)}): use {call}")

        @wraps(method)
        def checked_method(*args: P.args, **kwargs: P.kwargs) -> T:
            check(args, kwargs)
            return method(*args, **kwargs)

        @wraps(method)
        async def checked_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
            check(args, kwargs)
            return await cast("Any", method)(*args, **kwargs)

        return cast("Callable[P, T]", checked_coroutine) if iscoroutinefunction(method) else checked_method

    return decorate


def check_count(name: str, count: object, minimum: int = 1) -> None:
    """Raise TypeError unless a count is an integer, and ValueError if it is less than ``minimum``."""
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"{name} must be an int, not {type(count).__name__}")
    if count < minimum:
        raise ValueError(f"{name} must be {minimum} or more, not {count}")


def check_limit(name: str, limit_s: object) -> None:
    """Raise TypeError unless a limit is a number, and ValueError if it is negative or not finite."""
    if isinstance(limit_s, bool) or not isinstance(limit_s, int | float):
        raise TypeError(f"{name} must be a number of seconds, not {type(limit_s).__name__}")
    if not 0 <= limit_s < math.inf:
        raise ValueError(f"{name} must be finite and at least 0, not {limit_s!r}")


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """A valid base URL: ``text`` without trailing slashes, and its parts."""

    text: str
    scheme: str
    host: str
    path_prefix: str

    @classmethod
    def parse(cls, text: str) -> "BaseUrl":
        """Parse an absolute http or https URL; raise TypeError or ValueError if it is invalid.

        The URL may have a path prefix and a trailing slash. A query, a fragment and user information are rejected,
        because they would be lost or sent twice.
        """
        return cls._parse(require_str("base_url", text))

    @classmethod
    @lru_cache(maxsize=16)
    def _parse(cls, text: str) -> "BaseUrl":
        """Parse a URL; results are cached, because a test suite may create thousands of clients for one URL."""
        if not text.isascii() or any(character <= " " or character == "\x7f" for character in text):
            raise ValueError("base_url must be ASCII, without spaces or control characters; percent-encode its path")
        parts = _split_url(text)
        if "@" in parts.netloc:
            raise ValueError("base_url must not contain user information; pass the credential as a separate argument")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"base_url {mask_url(text)!r} must be an absolute http:// or https:// URL")
        if "?" in text or "#" in text:
            raise ValueError(f"base_url {mask_url(text)!r} must not have a query or a fragment")
        if not _DOT_SEGMENTS.isdisjoint(parts.path.split("/")):
            raise ValueError(f"base_url {text!r} must not have '.' or '..' path segments; HTTP libraries resolve them")
        return cls(text.rstrip("/"), parts.scheme, parts.hostname, parts.path.rstrip("/"))


def _split_url(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.port  # reading the port raises ValueError if it is invalid
    except ValueError as error:
        raise ValueError(f"base_url is not a valid URL: {error}") from None
    return parts


def require_str(argument: str, value: str) -> str:
    """Return ``value``; raise TypeError unless it is a str, because not all callers use a type checker."""
    if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{argument} must be a str, not {type(value).__name__}")
    return value


def quote_id(argument: str, value: str) -> str:
    """Return an id as one percent-encoded path segment; raise TypeError or ValueError for one that can't be sent."""
    return cached_quote_id(argument, require_str(argument, value))  # checked first: the cache needs a hashable value


@lru_cache(maxsize=1024)
def cached_quote_id(argument: str, value: str) -> str:
    """Return an id as one percent-encoded path segment; the value must be hashable.

    Raises ValueError for lone surrogates, which can't be sent, and for an empty id, ``.`` and ``..``, which would
    select another operation: URL libraries resolve even ``%2E%2E``. All other rules are checked by the server (docs,
    "Contract", row 24).
    """
    if not require_str(argument, value) or value in _DOT_SEGMENTS:
        raise ValueError(f"{argument} must not be {value!r}: as a path segment it would select another operation")
    return quote_text(argument, value)


def quote_text(argument: str, value: str) -> str:
    """Percent-encode all but RFC 3986's unreserved characters; raise ValueError for lone surrogates."""
    try:
        return quote(require_str(argument, value), safe="")
    except UnicodeEncodeError as error:
        raise ValueError(f"{argument} {value!r} contains a lone surrogate, which UTF-8 can't encode") from error


def encode_secret(argument: str, value: str) -> bytes:
    """Return a credential as the bytes of a header value.

    Raises TypeError or ValueError if a header can't carry it (RFC 9110, section 5.5); the message omits the secret.
    """
    if not require_str(argument, value):
        raise ValueError(f"{argument} must not be empty")
    if value != value.strip() or not _CONTROL_CHARACTERS.isdisjoint(value):
        raise ValueError(f"{argument} must not contain control characters, or start or end with whitespace")
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(f"{argument} must be Latin-1, because a header can't contain other characters") from None


def check_timeout(value: float | None) -> float | None:
    """Return a timeout in seconds; raise TypeError or ValueError unless it is None or a finite positive number."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"timeout_s must be a number of seconds or None, not {type(value).__name__}")
    if not 0 < value <= sys.float_info.max:
        raise ValueError(
            f"timeout_s must be finite and greater than 0, got {short_repr(value)}; use None to wait forever"
        )
    return value


def mask(secret: str) -> str:
    """Return a secret's first four characters and an ellipsis; for a short secret, only the ellipsis."""
    return (secret[:_UNMASKED_CHARS] if len(secret) > 2 * _UNMASKED_CHARS else "") + "…"
