"""Latency: distributions of delays and their text form."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_credits.faults import FaultError, Fixed, Latency, Lognormal, Uniform
from fake_credits.faults.effects.timing import DISTRIBUTIONS_BY_NAME, Distribution, parse_distribution
from fake_credits.keyed_random import keyed_random
from tests.faults.strategies import distributions


def draw_delays(distribution: Distribution, count: int = 100_000) -> list[float]:
    return sorted(distribution.quantile(keyed_random(0, "latency", number)) for number in range(count))


@pytest.mark.parametrize(("median_ms", "p99_ms"), [(20, 200), (1, 1.5), (300, 3000)])
def test_lognormal_median_and_p99_are_within_3_percent(median_ms: float, p99_ms: float) -> None:
    delays = draw_delays(Lognormal(median_ms, p99_ms))
    assert delays[50_000] == pytest.approx(median_ms, rel=0.03)
    assert delays[99_000] == pytest.approx(p99_ms, rel=0.03)


def test_lognormal_respects_maximum_and_keeps_median() -> None:
    delays = draw_delays(Lognormal(20, 200, 250), 10_000)
    assert delays[-1] == 250
    assert delays[5000] == pytest.approx(20, rel=0.05)


def test_uniform_is_evenly_distributed() -> None:
    delays = draw_delays(Uniform(10, 50), 10_000)
    assert delays[0] >= 10
    assert delays[-1] < 50
    assert delays[2500] == pytest.approx(20, rel=0.03)
    assert delays[7500] == pytest.approx(40, rel=0.03)


def test_fixed_is_constant() -> None:
    assert {Fixed(30).quantile(share) for share in (0.0, 0.5, 1 - 2**-53)} == {30}


@given(distributions, st.floats(0, 1, exclude_max=True))
def test_every_delay_is_between_0_and_60_seconds(distribution: Distribution, share: float) -> None:
    assert 0 <= distribution.quantile(share) <= 60_000.001


@given(distributions)
def test_distribution_round_trips_through_text(distribution: Distribution) -> None:
    assert parse_distribution(str(distribution)) == distribution


VALID: Mapping[str, tuple[object, Distribution]] = {
    "number": (50, Fixed(50)),
    "fraction": (0.5, Fixed(0.5)),
    "number as string": ("50", Fixed(50)),
    "with unit": ("50ms", Fixed(50)),
    "fixed": ("fixed(50)", Fixed(50)),
    "uniform": (" uniform(10,50) ", Uniform(10, 50)),
    "lognormal": ("lognormal(20, 200)", Lognormal(20, 200)),
    "lognormal with maximum": ("lognormal(20, 200, 5e3)", Lognormal(20, 200, 5000)),
    "distribution": (Uniform(1, 2), Uniform(1, 2)),
}


@pytest.mark.parametrize(("value", "expected"), VALID.values(), ids=VALID)
def test_valid_distribution_is_parsed(value: object, expected: Distribution) -> None:
    assert parse_distribution(value) == expected
    assert Latency(value) == Latency(expected)  # type: ignore[arg-type] # text, as in files


INVALID: Mapping[str, tuple[object, str]] = {
    "over a minute": (60_001, r"latency is 60001: it must be from 0 to 60000"),
    "over a minute as string": ("uniform(1, 60001)", r"latency is 'uniform\(1, 60001\)': high_ms is 60001.0"),
    "negative": (-1, "^latency is -1: it must be from 0"),
    "not a number": (float("nan"), "must be a number"),
    "infinite": ("inf", "ms is inf: it must be from 0 to 60000"),
    "high below low": ("uniform(50, 10)", "high_ms is 10.0: it must be from 50 to 60000"),
    "p99 under the median": ("lognormal(200, 20)", "p99_ms is 20.0: it must be from 200 to 60000"),
    "maximum under the p99": ("lognormal(20, 200, 100)", "max_ms is 100.0: it must be from 200"),
    "median of 0": ("lognormal(0, 20)", "median_ms is 0.0: it must be from 0.001"),
    "too few numbers": ("lognormal(20)", r"lognormal takes \(median_ms, p99_ms, max_ms\)"),
    "too many numbers": ("fixed(1, 2)", r"fixed takes \(ms\)"),
    "unknown word": ("normal(1, 2)", r"a number of milliseconds, 'fixed\(50\)', 'uniform\(10, 50\)' or 'lognormal"),
    "empty string": ("", "latency is '': it must be a number of milliseconds"),
    "true": (True, "latency is true: it must be a number of milliseconds"),
    "list": ([1, 2], ": it must be a number of milliseconds"),
}


@pytest.mark.parametrize(("value", "problem"), INVALID.values(), ids=INVALID)
def test_invalid_distribution_is_rejected_with_allowed_values(value: object, problem: str) -> None:
    with pytest.raises(FaultError, match=problem):
        parse_distribution(value)


def test_latency_error_names_the_attribute() -> None:
    with pytest.raises(FaultError, match="^distribution is 60001: it must be"):
        Latency(60_001)


def test_every_distribution_is_registered_by_name() -> None:
    assert set(DISTRIBUTIONS_BY_NAME.values()) == set(Distribution.__subclasses__())
    assert all(distribution.name == name for name, distribution in DISTRIBUTIONS_BY_NAME.items())


def test_distributions_have_value_equality() -> None:
    lognormal: Any = Lognormal(20, 200)
    assert lognormal == Lognormal(20.0, 200.0)
    assert replace(lognormal, median_ms=30) == Lognormal(30, 200)
    assert len({lognormal, Lognormal(20, 200), Fixed(20)}) == 2
