"""The ini option ``fake_credits_autouse``: a sandbox for every test."""

import pytest

from tests.plugin.conftest import Suite

ALL_TEST_TYPES = """
import unittest

import pytest

SANDBOX_NAMES = []


@pytest.fixture(autouse=True)
def record_sandbox(fake_credits_factory):
    (watched,) = fake_credits_factory.open_sandboxes()
    SANDBOX_NAMES.append(watched.fake.sandbox.name)


def test_function(): pass


class TestClass:
    def test_method(self): pass


class TestCase(unittest.TestCase):
    def test_method(self): pass


@pytest.mark.fake_credits(balance=3)
def test_with_fixture(fake_credits):
    assert fake_credits.balance() == 3
    assert fake_credits.sandbox.name == SANDBOX_NAMES[-1]


def test_sandboxes_were_different():
    assert len(SANDBOX_NAMES) == len(set(SANDBOX_NAMES)) == 5
"""


def test_autouse_gives_every_test_a_separate_sandbox(suite: Suite) -> None:
    """This covers functions, methods and unittest methods, with or without the fixture."""
    suite(ALL_TEST_TYPES, ini="fake_credits_autouse = true").assert_outcomes(passed=5)


@pytest.mark.parametrize("value", ["false", "0"])
def test_autouse_off_adds_no_fixture(suite: Suite, value: str) -> None:
    """Even an empty autouse fixture would slow down every test in every suite."""
    probe = "def test_probe(request): assert request.fixturenames == ['request']"
    suite(probe, ini=f"fake_credits_autouse = {value}").assert_outcomes(passed=1)
