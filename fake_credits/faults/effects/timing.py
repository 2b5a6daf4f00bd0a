"""Effects on timing: delays, with their distributions, and calls held at a gate.

In files and flags, a distribution is written as ``50``, ``fixed(50)``, ``uniform(10, 50)`` or ``lognormal(20, 200)``.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

from fake_credits.faults.effects.base import (
    Effect,
    FaultContext,
    FaultError,
    FaultValue,
    check_number,
    check_text,
    invalid_value,
)

MAX_DELAY_MS = 60_000
"""The maximum delay: one minute."""

_P99_Z_SCORE = 2.3263478740408408
"""The 99th percentile of the standard normal distribution."""

_CALL_PATTERN = re.compile(r"([a-z]+)\(([^()]*)\)")


class Distribution(FaultValue):
    """A distribution of delays."""

    name: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        cls.name = cls.__name__.lower()

    def __str__(self) -> str:
        values: list[float] = [getattr(self, spec.name) for spec in fields(self)]  # type: ignore[arg-type]
        numbers = ", ".join(repr(int(value) if value == int(value) else value) for value in values)
        return f"{self.name}({numbers})"

    def quantile(self, p: float) -> float:
        """Return the ``p``-quantile of the delay in milliseconds, with ``p`` in [0, 1)."""
        raise NotImplementedError


@dataclass(frozen=True, repr=False)
class Fixed(Distribution):
    """A constant delay of ``ms`` milliseconds."""

    ms: float

    def __post_init__(self) -> None:
        check_number("ms", self.ms, 0, MAX_DELAY_MS)

    def quantile(self, p: float) -> float:
        """Return the constant delay."""
        return self.ms


@dataclass(frozen=True, repr=False)
class Uniform(Distribution):
    """A delay uniformly distributed between ``low_ms`` and ``high_ms`` milliseconds."""

    low_ms: float
    high_ms: float

    def __post_init__(self) -> None:
        check_number("low_ms", self.low_ms, 0, MAX_DELAY_MS)
        check_number("high_ms", self.high_ms, self.low_ms, MAX_DELAY_MS)

    def quantile(self, p: float) -> float:
        """Return the ``p``-quantile of the delay."""
        return self.low_ms + (self.high_ms - self.low_ms) * p


@dataclass(frozen=True, repr=False)
class Lognormal(Distribution):
    """A log-normal delay with median ``median_ms`` and 99th percentile ``p99_ms``, capped at ``max_ms``.

    The latency of many services has roughly this shape, and these two percentiles are often known.
    """

    median_ms: float
    p99_ms: float
    max_ms: float = MAX_DELAY_MS

    def __post_init__(self) -> None:
        check_number("median_ms", self.median_ms, 0.001, MAX_DELAY_MS)
        check_number("p99_ms", self.p99_ms, self.median_ms, MAX_DELAY_MS)
        check_number("max_ms", self.max_ms, self.p99_ms, MAX_DELAY_MS)

    def quantile(self, p: float) -> float:
        """Return the ``p``-quantile of the delay."""
        from statistics import NormalDist  # slow to import: loads a dozen modules

        if p <= 0.0:
            return 0.0
        sigma = math.log(self.p99_ms / self.median_ms) / _P99_Z_SCORE
        return min(self.median_ms * math.exp(sigma * NormalDist().inv_cdf(p)), self.max_ms)


DISTRIBUTIONS_BY_NAME: Mapping[str, type[Distribution]] = {"fixed": Fixed, "uniform": Uniform, "lognormal": Lognormal}
"""All distributions, keyed by name."""


def parse_distribution(value: object, field: str = "latency") -> Distribution:
    """Convert milliseconds, a string or a `Distribution` to a `Distribution`; raise FaultError for anything else."""
    if isinstance(value, Distribution):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        check_number(field, value, 0, MAX_DELAY_MS)
        return Fixed(value)
    if isinstance(value, str):
        return _parse(value.strip(), field)
    raise _invalid_distribution(value, field)


def _parse(text: str, field: str) -> Distribution:
    match = _CALL_PATTERN.fullmatch(text)
    name, arguments = match.groups() if match else ("fixed", text.removesuffix("ms"))
    try:
        distribution_type, numbers = DISTRIBUTIONS_BY_NAME[name], [float(part) for part in arguments.split(",")]
    except (KeyError, ValueError):
        raise _invalid_distribution(text, field) from None
    try:
        return distribution_type(*numbers)
    except TypeError:
        field_names = ", ".join(spec.name for spec in fields(distribution_type))  # type: ignore[arg-type]
        raise invalid_value(field, text, f"{name} takes ({field_names})") from None
    except FaultError as error:
        raise invalid_value(field, text, str(error)) from None


def _invalid_distribution(value: object, field: str) -> FaultError:
    expected = "milliseconds, 'fixed(50)', 'uniform(10, 50)' or 'lognormal(20, 200)' (median and 99th percentile)"
    return invalid_value(field, value, f"it must be a number of {expected}")


_MAX_GATE_NAME_CHARS = 64


@dataclass(frozen=True, repr=False)
class Latency(Effect):
    """Delay the response.

    ``distribution`` is a number of milliseconds, a `Distribution`, or a string such as ``uniform(10, 50)``.
    """

    reveals = "a missing timeout, or the assumption that a timed-out call had no effect"
    stacks = True
    distribution: Distribution | float | str

    def __post_init__(self) -> None:
        object.__setattr__(self, "distribution", parse_distribution(self.distribution, "distribution"))

    async def apply(self, context: FaultContext) -> None:
        """Delay the response by a time drawn from the distribution."""
        delay_distribution = parse_distribution(self.distribution)
        await context.sleep(delay_distribution.quantile(context.random()))


@dataclass(frozen=True, repr=False)
class HoldAtGate(Effect):
    """Hold the call until the test releases the gate called ``name``.

    Several rules can share a gate. A rule with this effect can't have a name, because in files ``name`` is the name of
    the gate.
    """

    needs_connection = True
    reveals = "a race condition"
    stacks = True
    name: str = "gate"

    def __post_init__(self) -> None:
        check_text("name", self.name, 1, _MAX_GATE_NAME_CHARS)

    async def apply(self, context: FaultContext) -> None:
        """Wait at the gate."""
        await context.hold_at_gate(self.name)
