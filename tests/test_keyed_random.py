"""Test keyed random numbers: repeatable for a key, uniform, and different for different keys."""

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
def test_number_is_below_1_and_repeatable(seed: int, key: list[str | int]) -> None:
    number = keyed_random(seed, *key)
    assert 0 <= number < 1
    assert keyed_random(seed, *key) == number


def test_numbers_are_stable_across_versions() -> None:
    """A seed in a bug report must reproduce the same faults in later versions."""
    assert keyed_random(0) == 0.6666513261516069
    assert keyed_random(7, "getBalance", "app-id", "ada", 3) == 0.5288268419260956


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_number_does_not_depend_on_hash_seed(hash_seed: str) -> None:
    code = (
        "from fake_credits.keyed_random import keyed_random; print(keyed_random(7, 'getBalance', 'app-id', 'ada', 3))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, text=True)
    assert float(printed.stdout) == keyed_random(7, "getBalance", "app-id", "ada", 3)


SIMILAR_KEYS: list[tuple[str | int, ...]] = [
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


def test_similar_keys_give_different_numbers() -> None:
    for left, right in combinations(SIMILAR_KEYS, 2):
        assert keyed_random(0, *left) != keyed_random(0, *right), (left, right)
    assert keyed_random(1, 2) != keyed_random(12)


@given(keys, keys)
def test_numbers_are_equal_only_for_equal_keys(left: list[str | int], right: list[str | int]) -> None:
    assert (keyed_random(0, *left) == keyed_random(0, *right)) is (
        [(type(x), x) for x in left] == [(type(x), x) for x in right]
    )


def test_share_of_10_000_numbers_below_0_2_is_within_4_standard_deviations() -> None:
    for seed in range(5):
        hits = sum(
            keyed_random(seed, "chance", "", "getBalance", "app-id", "ada", number) < 0.2 for number in range(10_000)
        )
        assert abs(hits - 2000) <= 4 * math.sqrt(10_000 * 0.2 * 0.8)


def test_numbers_are_uniformly_distributed() -> None:
    """Chi-squared with 99 degrees of freedom exceeds 148.2 with probability 0.001; the seed is fixed."""
    buckets = [0] * 100
    for number in range(100_000):
        buckets[int(keyed_random(0, number) * 100)] += 1
    assert sum((count - 1000) ** 2 / 1000 for count in buckets) < 148.2


def test_consecutive_numbers_are_uncorrelated() -> None:
    """The covariance of consecutive numbers is within 4 standard deviations of zero."""
    samples = [keyed_random(3, "ada", number) - 0.5 for number in range(20_001)]
    covariance = sum(left * right for left, right in pairwise(samples)) / 20_000
    assert abs(covariance) < 4 / 12 / math.sqrt(20_000)


def test_generator_sequence_is_stable_across_versions() -> None:
    """The expected numbers are fixed: a release that changed them would change generated data."""
    draws = keyed_generator(0, "demo", 1, 7)
    assert [draws.random(), draws.random()] == [0.8643499071903211, 0.7271137180897601]
    assert (draws.getrandbits(32), keyed_random(0, "demo", 1, 7)) == (972672824, 0.9207161242160422)


def test_keys_with_equal_concatenation_give_different_numbers() -> None:
    keys: list[tuple[int | str, ...]] = [("a", "b"), ("ab",), ("a, b",), ("a", "b", ""), (1, 2), (12,), ("1", 2)]
    assert len({keyed_generator(0, *key).random() for key in keys}) == len(keys)
    assert len({keyed_random(0, *key) for key in keys}) == len(keys)


def test_lone_surrogate_is_a_valid_key() -> None:
    assert keyed_generator(0, "\ud800").random() != keyed_generator(0, "\ud801").random()


def test_random_bytes_and_names_differ_on_every_call() -> None:
    assert random_bytes(16) != random_bytes(16)
    assert len(random_bytes(16)) == 16
    assert random_name("key_") != random_name("key_")
    assert random_name("key_", 4).startswith("key_")
    assert len(random_name("key_", 4)) == len("key_") + 8
