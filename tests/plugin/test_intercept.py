"""Interception by ini option, marker, settings fixture and factory."""

import pytest

from tests.plugin.conftest import Suite

BALANCE_HELPER = """
import pytest, httpx2

def balance(credits, base="https://credits.internal"):
    url = base + "/v1/applications/app-id/users/user-id/balance"
    return httpx2.get(url, headers={"X-API-Key": credits.api_key}).json()["balance"]
"""
INI = "fake_credits_intercept =\n    https://credits.internal\n    http://other.internal:81/api"


def test_ini_option_intercepts_for_every_tests_sandbox(suite: Suite) -> None:
    """The option has one URL per line; each test's requests reach that test's sandbox."""
    result = suite(
        BALANCE_HELPER
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


def test_nearest_marker_replaces_all_intercepted_urls(suite: Suite) -> None:
    """A marker's list replaces the ini option's list; an empty list turns interception off."""
    result = suite(
        BALANCE_HELPER
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


def test_settings_fixture_can_set_intercepted_urls(suite: Suite) -> None:
    conftest = (
        "import pytest\n@pytest.fixture(scope='session')\n"
        "def fake_credits_settings(): return {'intercept': 'https://own.internal', 'balance': 4}"
    )
    source = BALANCE_HELPER + "def test_it(fake_credits): assert balance(fake_credits, 'https://own.internal') == 4"
    suite(source, conftest=conftest, ini=INI).assert_outcomes(passed=1)


def test_factory_sandbox_intercepts_only_its_given_urls(suite: Suite) -> None:
    """The ini option applies only to the fixture; otherwise, a module's sandbox would take the fixture's requests."""
    result = suite(
        BALANCE_HELPER
        + """
@pytest.fixture(scope="module")
def shared(fake_credits_factory):
    with fake_credits_factory(balance=7) as credits:
        yield credits

@pytest.fixture(scope="module")
def intercepting(fake_credits_factory):
    with fake_credits_factory(balance=8, intercept="https://factory.internal") as credits:
        yield credits

@pytest.mark.fake_credits(balance=1)
def test_it(fake_credits, shared, intercepting):
    assert balance(fake_credits) == 1
    assert balance(intercepting, "https://factory.internal") == 8
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
            "*cannot create the sandbox: invalid base URL 'credits.internal' to intercept: it must start with http*",
        ),
        (
            "",
            "@pytest.mark.fake_credits(intercept='https://credits.internal/?a=b')",
            "cannot create the sandbox: invalid base URL 'https://credits.internal/[?][*][*][*]'*: it must not have a*",
        ),
    ],
    ids=["ini", "marker"],
)
def test_invalid_base_url_is_a_setup_error(suite: Suite, ini: str, mark: str, line: str) -> None:
    result = suite(f"import pytest\n{mark}\ndef test_it(fake_credits): pass", ini=ini)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([line])


def test_invalid_marker_value_is_shown_without_secrets(suite: Suite) -> None:
    mark = "@pytest.mark.fake_credits(intercept=['https://credits.internal/?k=SECRET', 1])"
    result = suite(f"import pytest\n{mark}\ndef test_it(fake_credits): pass")
    result.stderr.fnmatch_lines(["*intercept=*https://credits.internal/[?][*][*][*]: it must be a base URL*"])
    assert "SECRET" not in result.stderr.str()


def test_invalid_marker_value_is_a_usage_error(suite: Suite) -> None:
    result = suite("import pytest\n@pytest.mark.fake_credits(intercept=1)\ndef test_it(fake_credits): pass")
    result.stderr.fnmatch_lines(["*intercept=1: it must be a base URL such as https://credits.internal, or a list*"])
