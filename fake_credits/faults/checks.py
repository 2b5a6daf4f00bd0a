"""Own the refusal of a malformed rule, where it is declared; know nothing of what rules do."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

__all__ = ["FaultError", "as_words", "choice", "number_in", "shown", "text_in", "whole_in"]

T = TypeVar("T")

_SHOWN = 200


class FaultError(ValueError):
    """Refuse a rule that can't be, naming the field, what it is and what it may be."""


def number_in(field: str, value: object, low: float, high: float) -> None:
    """Raise FaultError for what is no number, as NaN is none, from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise FaultError(f"{field} is {shown(value)}, a {type(value).__name__}: it must be a number")
    if not low <= value <= high:
        raise FaultError(f"{field} is {shown(value)}: it must be from {low:g} to {high:g}")


def whole_in(field: str, value: object, low: int, high: int) -> None:
    """Raise FaultError for what is no integer from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise FaultError(f"{field} is {shown(value)}, a {type(value).__name__}: it must be an integer")
    if not low <= value <= high:
        raise FaultError(f"{field} is {shown(value)}: it must be from {low} to {high}")


def text_in(field: str, value: object, least: int, most: int) -> None:
    """Raise FaultError for what is no text of ``least`` to ``most`` characters that UTF-8 can say."""
    if not isinstance(value, str) or not least <= len(value) <= most:
        size = f"{least} to" if least else "at most"
        raise FaultError(f"{field} is {shown(value)}: it must be a text of {size} {most} characters")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise FaultError(f"{field} is {shown(value)}: it has a lone surrogate, which no request can say")


def choice(field: str, value: object, allowed: Iterable[object]) -> None:
    """Raise FaultError for what is none of the allowed values."""
    known = tuple(allowed)
    if not isinstance(value, str | int | None) or value not in known:
        raise FaultError(f"{field} is {shown(value)}: choose {', '.join(map(repr, known))}")


def shown(value: object) -> str:
    """Return a value for people: not all of it where it is long."""
    if isinstance(value, int) and value.bit_length() > _SHOWN:
        return f"an integer of {value.bit_length()} bits"  # Python does not say thousands of digits
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def as_words(told: Mapping[str, object]) -> str:
    """Return names and values for people, as Python's keyword arguments have them."""
    return ", ".join(f"{name}={shown(value)}" for name, value in told.items())
