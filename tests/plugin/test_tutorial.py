"""The docs' tutorial: each of its three fixes makes one more test pass."""

from pathlib import Path

import pytest

from tests.plugin.conftest import Suite

TUTORIAL = Path(__file__).parents[1] / "examples" / "tutorial"
STRICT_429 = """from fake_credits.faults import Status
@pytest.mark.fake_credits(explore={"faults": [Status(429, retry_after_s=60)], "strict": True})
"""
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


@pytest.mark.parametrize(
    ("shop", "marker", "line"),
    [
        ("shop.py", "", "1 test explored, 15 schedules: 12 fine, 2 unsettled, 1 charged twice"),
        ("fixed/shop_3.py", "", "1 test explored, 18 schedules: 16 fine, 2 unsettled"),
        ("shop.py", STRICT_429, "*RETRY-AFTER IGNORED*"),
        ("fixed/shop_3.py", STRICT_429, "1 test explored, 3 schedules: 3 fine"),
    ],
)
def test_exploration_finds_what_the_last_section_says(
    suite: Suite, pytester: pytest.Pytester, shop: str, marker: str, line: str
) -> None:
    source = (TUTORIAL / "any_fault.py").read_text(encoding="utf-8").replace("@pytest", f"{marker}@pytest")
    pytester.makepyfile(shop=(TUTORIAL / shop).read_text(encoding="utf-8"), test_any_fault=source)
    result = suite("", "--fake-credits-explore", "test_any_fault.py")
    assert result.ret == (pytest.ExitCode.TESTS_FAILED if shop == "shop.py" else pytest.ExitCode.OK)
    result.stdout.fnmatch_lines([line])


@pytest.mark.parametrize(
    ("shop", "line"), [("shop.py", "6 orders: 4 fine, 2 race"), ("fixed/shop_3.py", "? orders: ? fine")]
)
def test_order_exploration_finds_second_click(suite: Suite, pytester: pytest.Pytester, shop: str, line: str) -> None:
    source = (TUTORIAL / "second_click.py").read_text(encoding="utf-8")
    pytester.makepyfile(shop=(TUTORIAL / shop).read_text(encoding="utf-8"), test_second_click=source)
    suite("", "test_second_click.py").stdout.fnmatch_lines([line])
