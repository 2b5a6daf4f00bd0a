"""Assertions on calls in a suite: what a failing one looks like, and the headers that settings keep."""

import pytest

from tests.plugin.conftest import Suite

WRONG = """
def test_wrong(fake_credits):
    fake_credits.user("ada", balance=5)
    fake_credits.server_client.get_balance("app-id", "ada")
    fake_credits.journal.assert_called("createTransaction", user="ada")
"""

KEPT = """
import httpx2
import pytest

MARK

def test_kept(fake_credits):
    transport = fake_credits.transport("httpx2")
    with httpx2.Client(transport=transport) as client:
        client.get("https://x/", headers={"X-Tenant": "a", "X-Team": "b", "X-Other": "c", "traceparent": "00-1"})
    pytest.fail(repr(dict(sorted(fake_credits.journal.calls()[0].headers.items()))))
"""


def test_a_failed_assertion_shows_the_test_s_line_and_the_nearest_calls_only(suite: Suite) -> None:
    """No frame of ours stands between."""
    result = suite(WRONG)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            '>*fake_credits.journal.assert_called("createTransaction", user="ada")',
            "E*AssertionError: createTransaction(user='ada') was not called",
            "E*the nearest of 1 exchange, != where they differ:",
            "E*operation          user   answer",
            "E*wanted  createTransaction  'ada'",
            "E*#1      != getBalance      'ada'  200",
        ]
    )
    assert "sandbox/asserting" not in result.stdout.str()


@pytest.mark.parametrize(
    ("mark", "ini", "kept"),
    [
        ("", "", "{'traceparent': '00-1'}"),
        ("", "X-Tenant, X-Team", "{'traceparent': '00-1', 'x-team': 'b', 'x-tenant': 'a'}"),
        ("keep_headers='X-Tenant'", "X-Team", "{'traceparent': '00-1', 'x-tenant': 'a'}"),
        ("keep_headers=['X-Tenant', 'X-Team']", "", "{'traceparent': '00-1', 'x-team': 'b', 'x-tenant': 'a'}"),
    ],
)
def test_marker_and_ini_say_which_headers_are_kept(suite: Suite, mark: str, ini: str, kept: str) -> None:
    source = KEPT.replace("MARK", f"@pytest.mark.fake_credits({mark})" if mark else "")
    result = suite(source, ini=f"fake_credits_keep_headers = {ini}" if ini else "")
    result.stdout.fnmatch_lines([f"E*Failed: {kept}"])


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("keep_headers=5", "*has keep_headers=5: that must be one or a list of names of headers*"),
        ("keep_headers='Cookie'", "*the sandbox can't start: keep_headers has 'Cookie', which carries a credential*"),
    ],
)
def test_headers_that_can_t_be_kept_are_refused(suite: Suite, mark: str, message: str) -> None:
    result = suite(KEPT.replace("MARK", f"@pytest.mark.fake_credits({mark})"))
    assert result.ret != pytest.ExitCode.OK
    result.stdout.fnmatch_lines([message]) if "start" in message else result.stderr.fnmatch_lines([message])
