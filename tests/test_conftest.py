"""Test the settings that every test of this tree runs under."""

from hypothesis import settings


def test_no_example_has_a_deadline() -> None:
    assert settings().deadline is None
