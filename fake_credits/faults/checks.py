"""Own the refusal of a malformed rule, where it is declared; know nothing of what rules do."""

import math
from collections.abc import Iterable
from typing import TypeVar

__all__ = ["FaultError", "choice", "number_in", "whole_in"]

T = TypeVar("T")


class FaultError(ValueError):
    """Refuse a rule that can't be, naming the field, what it is and what it may be."""


def number_in(field: str, value: object, low: float, high: float) -> None:
    """Raise FaultError for what is no number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise FaultError(f"{field} is {value!r}, a {type(value).__name__}: it must be a number")
    if not low <= value <= high:
        raise FaultError(f"{field} is {value}: it must be from {low:g} to {high:g}")


def whole_in(field: str, value: object, low: int, high: int) -> None:
    """Raise FaultError for what is no integer from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise FaultError(f"{field} is {value!r}, a {type(value).__name__}: it must be an integer")
    if not low <= value <= high:
        raise FaultError(f"{field} is {value}: it must be from {low} to {high}")


def choice(field: str, value: object, allowed: Iterable[object]) -> None:
    """Raise FaultError for what is none of the allowed values."""
    known = tuple(allowed)
    if not isinstance(value, str | int | None) or value not in known:
        raise FaultError(f"{field} is {value!r}: choose {', '.join(map(repr, known))}")
