"""What exploration finds in bad applications, and does not find in good ones."""

from collections import Counter
from collections.abc import Callable
from functools import lru_cache

import pytest

from fake_credits.explore.exploration import Exploration
from fake_credits.explore.judge import Colour
from tests.explore.applications import AMBER, NO_RED, RED, Test
from tests.explore.conftest import Explore


@pytest.fixture(scope="module")
def explore_once(explore: Explore) -> Callable[[Test], Exploration]:
    """Return a function that explores each test once and caches the result."""
    return lru_cache(explore)


EXPECTED = {
    "test_careless_reconciliation": {"failed read mistaken for a failed write"},
    "test_lost_refund": {"false success"},
    "test_lost_grant": {"false success"},
    "test_blind_refund": {"given twice"},
    "test_key_misuse": {"key misuse"},
    "test_no_timeout": {"hang"},
    "test_storm": {"storm"},
}


@pytest.mark.parametrize("test", RED, ids=lambda test: test.__name__.removeprefix("test_"))
def test_bad_application_is_red(explore: Explore, test: Test) -> None:
    found = {judged.judgement.verdict.value for judged in explore(test).red}
    assert found == EXPECTED.get(test.__name__, {"charged twice"})


@pytest.mark.parametrize("test", AMBER, ids=lambda test: test.__name__.removeprefix("test_"))
def test_careless_application_is_amber(explore: Explore, test: Test) -> None:
    exploration = explore(test)
    assert not exploration.red
    assert any(judged.judgement.colour is Colour.AMBER for judged in exploration.results)


@pytest.mark.parametrize("test", NO_RED, ids=lambda test: test.__name__.removeprefix("test_"))
def test_good_application_is_not_red(explore_once: Callable[[Test], Exploration], test: Test) -> None:
    exploration = explore_once(test)
    assert (exploration.skip_reason, exploration.leaks) == ("", False)
    assert exploration.results
    assert [judged.text for judged in exploration.red] == []


def test_fewer_than_one_schedule_in_ten_of_good_applications_is_amber(
    explore_once: Callable[[Test], Exploration],
) -> None:
    colours = Counter(judged.judgement.colour for test in NO_RED for judged in explore_once(test).results)
    assert colours[Colour.AMBER] < colours.total() / 10
