"""The ini ``fake_credits_autouse``: a sandbox for every test; and nothing at all where it is off."""

import pytest

from tests.plugin.conftest import Suite

EVERY_SHAPE = """
import unittest

import pytest

SEEN = []


@pytest.fixture(autouse=True)
def seen(fake_credits_factory):
    (watched,) = fake_credits_factory.open_sandboxes()
    SEEN.append(watched.fake.sandbox.name)


def test_function(): pass


class TestClass:
    def test_method(self): pass


class TestCase(unittest.TestCase):
    def test_method(self): pass


@pytest.mark.fake_credits(balance=3)
def test_that_asks(fake_credits):
    assert fake_credits.balance() == 3
    assert fake_credits.sandbox.name == SEEN[-1]


def test_each_had_its_own():
    assert len(SEEN) == len(set(SEEN)) == 5
"""


def test_every_test_has_a_sandbox_of_its_own(suite: Suite) -> None:
    """Functions, methods and unittest's, asked for or not."""
    suite(EVERY_SHAPE, ini="fake_credits_autouse = true").assert_outcomes(passed=5)


@pytest.mark.parametrize("word", ["false", "0"])
def test_off_no_test_has_a_fixture_more(suite: Suite, word: str) -> None:
    """It is not there at all: a fixture that does nothing would cost each test of every suite."""
    probe = "def test_probe(request): assert request.fixturenames == ['request']"
    suite(probe, ini=f"fake_credits_autouse = {word}").assert_outcomes(passed=1)
