"""Interception by ini, marker, settings and factory: it lasts as long as the sandbox, and no longer."""

import pytest

from tests.plugin.conftest import Suite

CALL = """
import pytest, httpx2

def balance(credits, base="https://credits.internal"):
    url = base + "/v1/applications/app-id/users/user-id/balance"
    return httpx2.get(url, headers={"X-API-Key": credits.api_key}).json()["balance"]
"""
INI = "fake_credits_intercept =\n    https://credits.internal\n    http://other.internal:81/api"


def test_the_ini_lets_every_tests_sandbox_answer(suite: Suite) -> None:
    """Line by line; the next test's sandbox answers the next test."""
    result = suite(
        CALL
        + """
@pytest.mark.parametrize("amount", [1, 2])
def test_one(fake_credits, amount):
    fake_credits.user("user-id", balance=amount)
    assert balance(fake_credits) == balance(fake_credits, "http://other.internal:81/api") == amount

def test_between():
    from fake_credits.intercept import INTERCEPTION_REGISTRY
    assert "none" in repr(INTERCEPTION_REGISTRY)
""",
        ini=INI,
    )
    result.assert_outcomes(passed=3)


def test_the_nearest_marker_wins_whole(suite: Suite) -> None:
    """A list replaces the ini's; an empty one turns it off."""
    result = suite(
        CALL
        + """
from fake_credits.intercept import INTERCEPTION_REGISTRY

@pytest.mark.fake_credits(balance=3, intercept="https://mine.internal/x")
def test_one_url(fake_credits):
    assert balance(fake_credits, "https://mine.internal/x") == 3
    assert "credits.internal" not in repr(INTERCEPTION_REGISTRY)

@pytest.mark.fake_credits(balance=3, intercept=["https://a.internal", "https://b.internal"])
def test_two(fake_credits):
    assert balance(fake_credits, "https://a.internal") == balance(fake_credits, "https://b.internal") == 3

@pytest.mark.fake_credits(intercept=[])
def test_none(fake_credits):
    assert "none" in repr(INTERCEPTION_REGISTRY)
""",
        ini=INI,
    )
    result.assert_outcomes(passed=3)


def test_the_settings_fixture_has_the_word_too(suite: Suite) -> None:
    own = (
        "import pytest\n@pytest.fixture(scope='session')\n"
        "def fake_credits_settings(): return {'intercept': 'https://own.internal', 'balance': 4}"
    )
    source = CALL + "def test_it(fake_credits): assert balance(fake_credits, 'https://own.internal') == 4"
    suite(source, conftest=own, ini=INI).assert_outcomes(passed=1)


def test_a_sandbox_of_the_factory_intercepts_only_where_it_is_told(suite: Suite) -> None:
    """The ini is the fixture's: a module's sandbox beside it would take its requests away."""
    result = suite(
        CALL
        + """
@pytest.fixture(scope="module")
def shared(fake_credits_factory):
    with fake_credits_factory(balance=7) as credits:
        yield credits

@pytest.fixture(scope="module")
def told(fake_credits_factory):
    with fake_credits_factory(balance=8, intercept="https://told.internal") as credits:
        yield credits

@pytest.mark.fake_credits(balance=1)
def test_it(fake_credits, shared, told):
    assert balance(fake_credits) == 1
    assert balance(told, "https://told.internal") == 8
""",
        ini=INI,
    )
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("ini", "mark", "line"),
    [
        (
            "fake_credits_intercept = credits.internal",
            "",
            "*the sandbox can't start: 'credits.internal' is no base URL to intercept: a base URL starts with http*",
        ),
        (
            "",
            "@pytest.mark.fake_credits(intercept='https://credits.internal/?a=b')",
            "the sandbox can't start: 'https://credits.internal/[?]a=b' is no base URL*has no query*",
        ),
    ],
    ids=["ini", "marker"],
)
def test_a_bad_base_url_is_an_error_that_names_it(suite: Suite, ini: str, mark: str, line: str) -> None:
    result = suite(f"import pytest\n{mark}\ndef test_it(fake_credits): pass", ini=ini)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([line])


def test_a_marker_of_another_form_is_refused_before_any_test(suite: Suite) -> None:
    result = suite("import pytest\n@pytest.mark.fake_credits(intercept=1)\ndef test_it(fake_credits): pass")
    result.stderr.fnmatch_lines(["*intercept=1: that must be a base URL such as https://credits.internal, or a list*"])
