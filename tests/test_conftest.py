"""Test the Hypothesis profile that the test suite uses."""

from hypothesis import settings


def test_hypothesis_deadline_is_disabled() -> None:
    assert settings().deadline is None
