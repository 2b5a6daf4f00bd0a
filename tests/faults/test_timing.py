"""Latency: distributions of delays, and the texts that mean them."""

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


def drawn(kind: Distribution, count: int = 100_000) -> list[float]:
    return sorted(kind.quantile(keyed_random(0, "latency", number)) for number in range(count))


@pytest.mark.parametrize(("median_ms", "p99_ms"), [(20, 200), (1, 1.5), (300, 3000)])
def test_lognormal_hits_median_and_p99_within_3_percent_over_100_000_draws(median_ms: float, p99_ms: float) -> None:
    delays = drawn(Lognormal(median_ms, p99_ms))
    assert delays[50_000] == pytest.approx(median_ms, rel=0.03)
    assert delays[99_000] == pytest.approx(p99_ms, rel=0.03)


def test_lognormal_is_never_over_its_maximum_and_keeps_its_median() -> None:
    delays = drawn(Lognormal(20, 200, 250), 10_000)
    assert delays[-1] == 250
    assert delays[5000] == pytest.approx(20, rel=0.05)


def test_uniform_is_as_likely_anywhere_between_its_ends() -> None:
    delays = drawn(Uniform(10, 50), 10_000)
    assert delays[0] >= 10
    assert delays[-1] < 50
    assert delays[2500] == pytest.approx(20, rel=0.03)
    assert delays[7500] == pytest.approx(40, rel=0.03)


def test_fixed_is_the_same_each_time() -> None:
    assert {Fixed(30).quantile(share) for share in (0.0, 0.5, 1 - 2**-53)} == {30}


@given(distributions, st.floats(0, 1, exclude_max=True))
def test_every_delay_is_from_0_to_a_minute(kind: Distribution, share: float) -> None:
    assert 0 <= kind.quantile(share) <= 60_000.001


@given(distributions)
def test_every_distribution_is_read_back_from_its_text(kind: Distribution) -> None:
    assert parse_distribution(str(kind)) == kind


TEXTS: Mapping[str, tuple[object, Distribution]] = {
    "a number": (50, Fixed(50)),
    "a fraction": (0.5, Fixed(0.5)),
    "a number as text": ("50", Fixed(50)),
    "with its unit": ("50ms", Fixed(50)),
    "fixed": ("fixed(50)", Fixed(50)),
    "uniform": (" uniform(10,50) ", Uniform(10, 50)),
    "lognormal": ("lognormal(20, 200)", Lognormal(20, 200)),
    "lognormal with its maximum": ("lognormal(20, 200, 5e3)", Lognormal(20, 200, 5000)),
    "itself": (Uniform(1, 2), Uniform(1, 2)),
}


@pytest.mark.parametrize(("told", "meant"), TEXTS.values(), ids=TEXTS)
def test_a_distribution_can_be_told_as(told: object, meant: Distribution) -> None:
    assert parse_distribution(told) == meant
    assert Latency(told) == Latency(meant)  # type: ignore[arg-type] # what a file may hold


REFUSED: Mapping[str, tuple[object, str]] = {
    "over a minute": (60_001, r"latency is 60001: it must be from 0 to 60000"),
    "over a minute in text": ("uniform(1, 60001)", r"latency is 'uniform\(1, 60001\)': high_ms is 60001.0"),
    "less than nothing": (-1, "^latency is -1: it must be from 0"),
    "not a number": (float("nan"), "must be a number"),
    "for ever": ("inf", "ms is inf: it must be from 0 to 60000"),
    "ends the wrong way round": ("uniform(50, 10)", "high_ms is 10.0: it must be from 50 to 60000"),
    "a p99 under the median": ("lognormal(200, 20)", "p99_ms is 20.0: it must be from 200 to 60000"),
    "a maximum under the p99": ("lognormal(20, 200, 100)", "max_ms is 100.0: it must be from 200"),
    "a median of 0": ("lognormal(0, 20)", "median_ms is 0.0: it must be from 0.001"),
    "too few numbers": ("lognormal(20)", r"lognormal takes \(median_ms, p99_ms, max_ms\)"),
    "too many numbers": ("fixed(1, 2)", r"fixed takes \(ms\)"),
    "an unknown word": ("normal(1, 2)", r"give milliseconds, 'fixed\(50\)', 'uniform\(10, 50\)' or 'lognormal"),
    "no text at all": ("", "latency is '', a str: give milliseconds"),
    "true": (True, "latency is True, a bool: give milliseconds"),
    "a list": ([1, 2], "a list: give milliseconds"),
}


@pytest.mark.parametrize(("told", "problem"), REFUSED.values(), ids=REFUSED)
def test_a_distribution_is_refused_with_what_it_may_be(told: object, problem: str) -> None:
    with pytest.raises(FaultError, match=problem):
        parse_distribution(told)


def test_a_latency_names_its_attribute_in_a_refusal() -> None:
    with pytest.raises(FaultError, match="^distribution is 60001: it must be"):
        Latency(60_001)


def test_every_distribution_is_known_by_its_word() -> None:
    assert set(DISTRIBUTIONS_BY_NAME.values()) == set(Distribution.__subclasses__())
    assert all(kind.name == word for word, kind in DISTRIBUTIONS_BY_NAME.items())


def test_distributions_are_values() -> None:
    one: Any = Lognormal(20, 200)
    assert one == Lognormal(20.0, 200.0)
    assert replace(one, median_ms=30) == Lognormal(30, 200)
    assert len({one, Lognormal(20, 200), Fixed(20)}) == 2
