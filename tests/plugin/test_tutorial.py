"""The tutorial of the docs: each of its three fixes makes one more test pass."""

from pathlib import Path

import pytest

from tests.plugin.conftest import Suite

TUTORIAL = Path(__file__).parents[1] / "examples" / "tutorial"
BUGS = ("double_charge", "double_spend", "retry_storm")


@pytest.mark.parametrize("fixes", range(len(BUGS) + 1))
def test_each_fix_makes_one_test_pass(suite: Suite, pytester: pytest.Pytester, fixes: int) -> None:
    shop = TUTORIAL / "fixed" / f"shop_{fixes}.py" if fixes else TUTORIAL / "shop.py"
    tests = {f"test_{bug}": (TUTORIAL / f"{bug}.py").read_text(encoding="utf-8") for bug in BUGS}
    pytester.makepyfile(shop=shop.read_text(encoding="utf-8"), **tests)
    result = suite("", "-v")
    result.stdout.fnmatch_lines(
        [f"test_{bug}.py::* {'PASSED' if number < fixes else 'FAILED'} *" for number, bug in enumerate(BUGS)]
    )
