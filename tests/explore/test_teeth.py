"""What exploration finds in bad applications, and does not find in good ones."""

from collections import Counter

import pytest

from tests.explore.applications import AMBER, NO_RED, RED, Test
from tests.explore.conftest import Explore


@pytest.mark.parametrize("test", RED, ids=lambda test: test.__name__.removeprefix("test_"))
def test_bad_application_is_red(explore: Explore, test: Test) -> None:
    assert explore(test).red


@pytest.mark.parametrize("test", AMBER, ids=lambda test: test.__name__.removeprefix("test_"))
def test_careless_application_is_amber(explore: Explore, test: Test) -> None:
    exploration = explore(test)
    assert not exploration.red
    assert any(judged.judgement.colour == "amber" for judged in exploration.results)


@pytest.mark.parametrize("test", NO_RED, ids=lambda test: test.__name__.removeprefix("test_"))
def test_good_application_is_not_red(explore: Explore, test: Test) -> None:
    exploration = explore(test)
    assert (exploration.skip_reason, exploration.leaks) == ("", False)
    assert exploration.results
    assert [judged.text for judged in exploration.red] == []


def test_fewer_than_one_schedule_in_ten_of_good_applications_is_amber(explore: Explore) -> None:
    colours = Counter(judged.judgement.colour for test in NO_RED for judged in explore(test).results)
    assert colours["amber"] < colours.total() / 10
