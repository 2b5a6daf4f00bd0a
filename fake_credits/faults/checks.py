"""Own the refusal of a malformed rule, where it is declared; know nothing of what rules do."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from fake_credits.text import short_repr

__all__ = ["FaultError", "check_choice", "check_int", "check_number", "check_text", "format_kwargs", "short_repr"]

T = TypeVar("T")


class FaultError(ValueError):
    """Refuse a rule that can't be, naming the field, what it is and what it may be."""


def check_number(field: str, value: object, low: float, high: float) -> None:
    """Raise FaultError for what is no number, as NaN is none, from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise FaultError(f"{field} is {short_repr(value)}, a {type(value).__name__}: it must be a number")
    if not low <= value <= high:
        raise FaultError(f"{field} is {short_repr(value)}: it must be from {low:g} to {high:g}")


def check_int(field: str, value: object, low: int, high: int) -> None:
    """Raise FaultError for what is no integer from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise FaultError(f"{field} is {short_repr(value)}, a {type(value).__name__}: it must be an integer")
    if not low <= value <= high:
        raise FaultError(f"{field} is {short_repr(value)}: it must be from {low} to {high}")


def check_text(field: str, value: object, min_chars: int, max_chars: int) -> None:
    """Raise FaultError for what is no text of ``min_chars`` to ``max_chars`` characters that UTF-8 can say."""
    if not isinstance(value, str) or not min_chars <= len(value) <= max_chars:
        length = f"{min_chars} to" if min_chars else "at most"
        raise FaultError(f"{field} is {short_repr(value)}: it must be a text of {length} {max_chars} characters")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise FaultError(f"{field} is {short_repr(value)}: it has a lone surrogate, which no request can say")


def check_choice(field: str, value: object, allowed: Iterable[object]) -> None:
    """Raise FaultError for what is none of the allowed values."""
    choices = tuple(allowed)
    if not isinstance(value, str | int | None) or value not in choices:
        raise FaultError(f"{field} is {short_repr(value)}: choose {', '.join(map(repr, choices))}")


def format_kwargs(kwargs: Mapping[str, object]) -> str:
    """Return names and values for people, as Python's keyword arguments have them."""
    return ", ".join(f"{name}={short_repr(value)}" for name, value in kwargs.items())
