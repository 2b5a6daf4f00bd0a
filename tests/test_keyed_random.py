"""Chance: a draw is a function of its key alone, and as likely anywhere from 0 up to 1."""

import math
import os
import subprocess
import sys
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_credits.keyed_random import keyed_generator, keyed_random, random_bytes, random_name

keys = st.lists(st.integers() | st.text(), max_size=4)


@given(st.integers(), keys)
def test_a_draw_is_from_0_up_to_1_and_the_same_each_time(seed: int, key: list[str | int]) -> None:
    number = keyed_random(seed, *key)
    assert 0 <= number < 1
    assert keyed_random(seed, *key) == number


def test_a_draw_is_the_same_in_every_version() -> None:
    """A seed in a bug report means the same faults next year."""
    assert keyed_random(0) == 0.6666513261516069
    assert keyed_random(7, "getBalance", "app-id", "ada", 3) == 0.5288268419260956


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_a_draw_is_the_same_under_every_hash_seed(hash_seed: str) -> None:
    code = (
        "from fake_credits.keyed_random import keyed_random; print(keyed_random(7, 'getBalance', 'app-id', 'ada', 3))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, text=True)
    assert float(printed.stdout) == keyed_random(7, "getBalance", "app-id", "ada", 3)


ALIKE: list[tuple[str | int, ...]] = [
    (),
    ("",),
    ("", ""),
    ("a", "b"),
    ("ab",),
    ("a", "", "b"),
    (1,),
    ("1",),
    (1, 1),
    (11,),
    (-1,),
    ("s1:a",),
    ("\ud800",),
    ("é",),
    ("e\u0301",),
]


def test_no_two_keys_run_into_one_another() -> None:
    for one, other in combinations(ALIKE, 2):
        assert keyed_random(0, *one) != keyed_random(0, *other), (one, other)
    assert keyed_random(1, 2) != keyed_random(12)


@given(keys, keys)
def test_keys_that_differ_draw_apart(one: list[str | int], other: list[str | int]) -> None:
    assert (keyed_random(0, *one) == keyed_random(0, *other)) is (
        [(type(x), x) for x in one] == [(type(x), x) for x in other]
    )


def test_probability_02_over_10_000_draws_is_within_4_standard_deviations() -> None:
    for seed in range(5):
        hits = sum(
            keyed_random(seed, "chance", "", "getBalance", "app-id", "ada", number) < 0.2 for number in range(10_000)
        )
        assert abs(hits - 2000) <= 4 * math.sqrt(10_000 * 0.2 * 0.8)


def test_draws_are_as_likely_in_each_hundredth() -> None:
    """Chi-squared with 99 degrees of freedom is over 148.2 in one case of a thousand; the seed is fixed."""
    buckets = [0] * 100
    for number in range(100_000):
        buckets[int(keyed_random(0, number) * 100)] += 1
    assert sum((count - 1000) ** 2 / 1000 for count in buckets) < 148.2


def test_one_draw_says_nothing_about_the_next() -> None:
    """The covariance of neighbours is within 4 standard deviations of none."""
    drawn = [keyed_random(3, "ada", number) - 0.5 for number in range(20_001)]
    covariance = sum(one * other for one, other in pairwise(drawn)) / 20_000
    assert abs(covariance) < 4 / 12 / math.sqrt(20_000)


def test_a_key_always_gives_the_same_draws() -> None:
    """The numbers are written down here: a release that changed them would change everybody's data."""
    draws = keyed_generator(0, "demo", 1, 7)
    assert [draws.random(), draws.random()] == [0.8643499071903211, 0.7271137180897601]
    assert (draws.getrandbits(32), keyed_random(0, "demo", 1, 7)) == (972672824, 0.9207161242160422)


def test_keys_whose_parts_run_together_differ() -> None:
    keys: list[tuple[int | str, ...]] = [("a", "b"), ("ab",), ("a, b",), ("a", "b", ""), (1, 2), (12,), ("1", 2)]
    assert len({keyed_generator(0, *key).random() for key in keys}) == len(keys)
    assert len({keyed_random(0, *key) for key in keys}) == len(keys)


def test_a_lone_surrogate_is_a_key_too() -> None:
    assert keyed_generator(0, "\ud800").random() != keyed_generator(0, "\ud801").random()


def test_what_must_be_unpredictable_is_fresh_each_time() -> None:
    assert random_bytes(16) != random_bytes(16)
    assert len(random_bytes(16)) == 16
    assert random_name("key_") != random_name("key_")
    assert random_name("key_", 4).startswith("key_")
    assert len(random_name("key_", 4)) == len("key_") + 8
