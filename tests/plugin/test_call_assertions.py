"""Assertions on calls in a suite: failure output and kept headers."""

import pytest

from tests.plugin.conftest import Suite

FAILING_ASSERTION = """
def test_wrong(fake_credits):
    fake_credits.user("ada", balance=5)
    fake_credits.server_client.get_balance("app-id", "ada")
    fake_credits.journal.assert_called("createTransaction", user="ada")
"""

KEEP_HEADERS = """
import httpx2
import pytest

MARK

def test_keep_headers(fake_credits):
    transport = fake_credits.transport("httpx2")
    with httpx2.Client(transport=transport) as client:
        client.get("https://x/", headers={"X-Tenant": "a", "X-Team": "b", "X-Other": "c", "traceparent": "00-1"})
    pytest.fail(repr(dict(sorted(fake_credits.journal.calls()[0].headers.items()))))
"""


def test_failed_assertion_shows_only_the_tests_line_and_nearest_calls(suite: Suite) -> None:
    """The traceback has no frames from fake-credits."""
    result = suite(FAILING_ASSERTION)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            '>*fake_credits.journal.assert_called("createTransaction", user="ada")',
            "E*AssertionError: createTransaction(user='ada') was not called",
            "E*the closest of 1 exchange (!= marks a difference):",
            "E*operation          user   response",
            "E*wanted  createTransaction  'ada'",
            "E*#1      != getBalance      'ada'  200",
        ]
    )
    assert "sandbox/asserting" not in result.stdout.str()


@pytest.mark.parametrize(
    ("marker_options", "ini", "kept_headers"),
    [
        ("", "", "{'traceparent': '00-1'}"),
        ("", "X-Tenant, X-Team", "{'traceparent': '00-1', 'x-team': 'b', 'x-tenant': 'a'}"),
        ("keep_headers='X-Tenant'", "X-Team", "{'traceparent': '00-1', 'x-tenant': 'a'}"),
        ("keep_headers=['X-Tenant', 'X-Team']", "", "{'traceparent': '00-1', 'x-team': 'b', 'x-tenant': 'a'}"),
    ],
)
def test_marker_and_ini_select_the_kept_headers(suite: Suite, marker_options: str, ini: str, kept_headers: str) -> None:
    source = KEEP_HEADERS.replace("MARK", f"@pytest.mark.fake_credits({marker_options})" if marker_options else "")
    result = suite(source, ini=f"fake_credits_keep_headers = {ini}" if ini else "")
    result.stdout.fnmatch_lines([f"E*Failed: {kept_headers}"])


@pytest.mark.parametrize(
    ("marker_options", "message"),
    [
        ("keep_headers=5", "*has keep_headers=5: it must be a header name, or a list of header names*"),
        (
            "keep_headers='Cookie'",
            "*cannot create the sandbox: keep_headers contains 'Cookie', which carries a credential*",
        ),
    ],
)
def test_invalid_keep_headers_value_is_rejected(suite: Suite, marker_options: str, message: str) -> None:
    result = suite(KEEP_HEADERS.replace("MARK", f"@pytest.mark.fake_credits({marker_options})"))
    assert result.ret != pytest.ExitCode.OK
    result.stdout.fnmatch_lines([message]) if "create" in message else result.stderr.fnmatch_lines([message])
