"""Own distributions of delays, in milliseconds: data, and one pure method; know nothing of who waits.

As text, for files and flags: ``50``, ``fixed(50)``, ``uniform(10, 50)``, ``lognormal(20, 200)``.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, ClassVar

from fake_credits.faults.checks import FaultError, number_in, shown

if TYPE_CHECKING:
    from statistics import NormalDist

__all__ = ["DELAY_LIMIT_MS", "DISTRIBUTIONS", "Distribution", "Fixed", "Lognormal", "Uniform", "distribution"]

DELAY_LIMIT_MS = 60_000
"""No delay is longer than a minute."""

_P99 = 2.3263478740408408
"""Of a standard normal distribution, how far from its mean 99 values in 100 lie at most: in standard deviations."""

_FORM = re.compile(r"([a-z]+)\(([^()]*)\)")


class Distribution:
    """Be how long something takes."""

    word: ClassVar[str] = ""

    def __str__(self) -> str:
        values: list[float] = [getattr(self, spec.name) for spec in fields(self)]  # type: ignore[arg-type]
        return f"{self.word}({', '.join(repr(int(each) if each == int(each) else each) for each in values)})"

    def at(self, share: float) -> float:
        """Return the delay in milliseconds below which a share of all delays lies; ``share`` is from 0 up to 1."""
        raise NotImplementedError


@dataclass(frozen=True)
class Fixed(Distribution):
    """Take ``ms`` milliseconds each time."""

    word: ClassVar[str] = "fixed"
    ms: float

    def __post_init__(self) -> None:
        number_in("ms", self.ms, 0, DELAY_LIMIT_MS)

    def at(self, share: float) -> float:
        """Return the one delay."""
        return self.ms


@dataclass(frozen=True)
class Uniform(Distribution):
    """Take from ``low_ms`` to ``high_ms`` milliseconds, each as likely."""

    word: ClassVar[str] = "uniform"
    low_ms: float
    high_ms: float

    def __post_init__(self) -> None:
        number_in("low_ms", self.low_ms, 0, DELAY_LIMIT_MS)
        number_in("high_ms", self.high_ms, self.low_ms, DELAY_LIMIT_MS)

    def at(self, share: float) -> float:
        """Return the delay at a share."""
        return self.low_ms + (self.high_ms - self.low_ms) * share


@dataclass(frozen=True)
class Lognormal(Distribution):
    """Take ``median_ms`` in the middle and ``p99_ms`` in one call of a hundred, never more than ``max_ms``.

    These are the two numbers that people know of their API; most services' delays have this shape.
    """

    word: ClassVar[str] = "lognormal"
    median_ms: float
    p99_ms: float
    max_ms: float = DELAY_LIMIT_MS

    def __post_init__(self) -> None:
        number_in("median_ms", self.median_ms, 0.001, DELAY_LIMIT_MS)
        number_in("p99_ms", self.p99_ms, self.median_ms, DELAY_LIMIT_MS)
        number_in("max_ms", self.max_ms, self.p99_ms, DELAY_LIMIT_MS)

    def at(self, share: float) -> float:
        """Return the delay at a share."""
        if share <= 0.0:
            return 0.0
        sigma = math.log(self.p99_ms / self.median_ms) / _P99
        return min(self.median_ms * math.exp(sigma * _normal().inv_cdf(share)), self.max_ms)


@cache
def _normal() -> "NormalDist":
    from statistics import NormalDist  # loads a dozen modules, for those who draw

    return NormalDist()


DISTRIBUTIONS: Mapping[str, type[Distribution]] = {kind.word: kind for kind in (Fixed, Uniform, Lognormal)}
"""Every distribution by its word."""


def distribution(value: object, field: str = "latency") -> Distribution:
    """Return a distribution from itself, from milliseconds or from its text; raise FaultError for anything else."""
    if isinstance(value, Distribution):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        number_in(field, value, 0, DELAY_LIMIT_MS)
        return Fixed(value)
    if isinstance(value, str):
        return _read(value.strip(), field)
    raise _unknown(value, field)


def _read(text: str, field: str) -> Distribution:
    match = _FORM.fullmatch(text)
    word, inside = match.groups() if match else ("fixed", text.removesuffix("ms"))
    kind = DISTRIBUTIONS.get(word)
    try:
        numbers = [float(part) for part in inside.split(",")]
    except ValueError:
        numbers = []
    if kind is None or not numbers:
        raise _unknown(text, field)
    return _made(kind, numbers, text, field)


def _made(kind: type[Distribution], numbers: list[float], told: object, field: str) -> Distribution:
    try:
        return kind(*numbers)
    except TypeError:
        names = ", ".join(spec.name for spec in fields(kind))  # type: ignore[arg-type]
        raise FaultError(f"{field} is {shown(told)}: {kind.word} takes ({names})") from None
    except FaultError as error:
        raise FaultError(f"{field} is {shown(told)}: {error}") from None


def _unknown(value: object, field: str) -> FaultError:
    forms = "milliseconds, 'fixed(50)', 'uniform(10, 50)' or 'lognormal(20, 200)' (median and 99th percentile)"
    return FaultError(f"{field} is {shown(value)}, a {type(value).__name__}: give {forms}")
