"""The docs' examples that need a separate process, unittest or Hypothesis."""

import unittest
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.examples import test_plain_unittest
from tests.plugin.conftest import Suite

EXAMPLES = Path(__file__).parents[1] / "examples"

SHOP_SETTINGS = """
import os

SECRET_KEY = "of a test"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
CREDITS_URL, CREDITS_KEY = os.environ["CREDITS_BASE_URL"], os.environ["CREDITS_API_KEY"]
"""


class StandaloneRun(NamedTuple):
    """Configuration for an example that runs in a subprocess."""

    ini: str = ""
    plugins: tuple[str, ...] = ()


STANDALONE = {
    "celery_worker.py": StandaloneRun(),
    "django_view.py": StandaloneRun(
        "fake_credits_early_env = true\nDJANGO_SETTINGS_MODULE = shop_settings\npythonpath = .",
        ("pytest_django.plugin",),
    ),
    "processes.py": StandaloneRun(),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "processes.py" else [pytest.mark.slow]) for name in STANDALONE]
)
def test_standalone_example_passes_in_a_subprocess(suite: Suite, pytester: pytest.Pytester, name: str) -> None:
    """These examples start processes or read settings at import."""
    pytester.makepyfile(shop_settings=SHOP_SETTINGS)
    source = (EXAMPLES / "alone" / name).read_text(encoding="utf-8")
    result = suite(source, ini=STANDALONE[name].ini, plugins=STANDALONE[name].plugins, alone=True)
    result.assert_outcomes(passed=1)


def test_every_standalone_example_is_tested() -> None:
    assert sorted(STANDALONE) == sorted(path.name for path in (EXAMPLES / "alone").glob("*.py"))


def test_plain_unittest_example_runs_without_pytest() -> None:
    tests = unittest.defaultTestLoader.loadTestsFromModule(test_plain_unittest)
    result = unittest.TestResult()
    tests.run(result)
    assert (result.testsRun, result.errors, result.failures) == (1, [], [])


@pytest.mark.parametrize("count", [1, 2])
def test_hypothesis_failure_report_shows_the_last_example(suite: Suite, count: int) -> None:
    """Hypothesis runs many examples; the last one is the smallest failure, and all its sandboxes are shown."""
    source = """
    from hypothesis import given, settings, strategies as st

    @settings(max_examples=30, database=None, derandomize=True)
    @given(balance=st.integers(0, 10**6))
    def test_given(fake_credits_factory, balance):
        with fake_credits_factory(users={"ada": balance}) as credits, fake_credits_factory() as other:
            for sandbox in [credits, other][:COUNT]:
                sandbox.server_client.list_users("app-id")
            assert credits.balance("ada") < 1000
            other.server_client.list_users("app-id")
    """
    result = suite(source.replace("COUNT", str(count)), plugins=("hypothesispytest",))
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert text.count("\nsandbox s") == 2
    assert text.count("1 exchange in this test") == count
    assert "earlier sandboxes" not in text


def test_hypothesis_rejects_the_function_scoped_fixture(suite: Suite) -> None:
    """A function-scoped fixture is shared by all examples; the docs recommend the factory."""
    source = """
    from hypothesis import given, settings, strategies as st

    @settings(database=None)
    @given(balance=st.integers(0, 9))
    def test_given(fake_credits, balance):
        pass
    """
    result = suite(source, plugins=("hypothesispytest",))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*FailedHealthCheck*uses a function-scoped fixture 'fake_credits'*"])
