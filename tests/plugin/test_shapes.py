"""Every shape of test that the README shows works as it stands there; the rest of tests/examples runs by itself."""

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


class Alone(NamedTuple):
    """Say what an example needs that runs in a process of its own."""

    ini: str = ""
    plugins: tuple[str, ...] = ()


ALONE = {
    "celery_worker.py": Alone(),
    "django_view.py": Alone(
        "fake_credits_early_env = true\nDJANGO_SETTINGS_MODULE = shop_settings\npythonpath = .",
        ("pytest_django.plugin",),
    ),
    "processes.py": Alone(),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "processes.py" else [pytest.mark.slow]) for name in ALONE]
)
def test_an_example_runs_in_a_process_of_its_own(suite: Suite, pytester: pytest.Pytester, name: str) -> None:
    """It starts processes, or reads settings at import."""
    pytester.makepyfile(shop_settings=SHOP_SETTINGS)
    source = (EXAMPLES / "alone" / name).read_text(encoding="utf-8")
    result = suite(source, ini=ALONE[name].ini, plugins=ALONE[name].plugins, alone=True)
    result.assert_outcomes(passed=1)


def test_every_example_that_stands_alone_is_run() -> None:
    assert sorted(ALONE) == sorted(path.name for path in (EXAMPLES / "alone").glob("*.py"))


def test_plain_unittest_needs_no_pytest() -> None:
    """unittest's own loader and result run it."""
    tests = unittest.defaultTestLoader.loadTestsFromModule(test_plain_unittest)
    result = unittest.TestResult()
    tests.run(result)
    assert (result.testsRun, result.errors, result.failures) == (1, [], [])


def test_a_falsified_example_is_told_in_a_few_sandboxes(suite: Suite) -> None:
    """Hypothesis tries hundreds; the report shows the last, which is the smallest that fails."""
    source = """
    from hypothesis import given, settings, strategies as st

    @settings(max_examples=30, database=None, derandomize=True)
    @given(balance=st.integers(0, 10**6))
    def test_given(fake_credits_factory, balance):
        with fake_credits_factory(users={"ada": balance}) as credits:
            assert credits.server_client.get_balance("app-id", "ada").balance < 1000
    """
    result = suite(source, plugins=("hypothesispytest",))
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert text.count("exchanges of this test") == 3
    result.stdout.fnmatch_lines(["* more sandboxes before these", "balances: ada 1000", "the last call again*"])


def test_hypothesis_complains_of_one_sandbox_for_all_examples(suite: Suite) -> None:
    """A function's fixture is made once; the README's way is the factory."""
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
