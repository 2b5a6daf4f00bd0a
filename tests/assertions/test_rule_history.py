"""Test that a code, a cause or a rule that no exchange of a sandbox can have is refused, and every other taken."""

from typing import Any

import pytest

from fake_credits.errors import ERRORS
from fake_credits.fake import FakeCredits
from fake_credits.faults import Reset, Status
from fake_credits.tokens.credentials import AUTH_FAILURE_REASONS
from tests.assertions.conftest import entry

UNKNOWN = {
    "a code": ({"code": "insufficent_credits"}, r"code 'insufficent_credits', did you mean 'insufficient_credits'\?"),
    "a cause": ({"cause": "domian"}, r"cause 'domian', did you mean 'domain'\? \(there are: bug, domain, .*auth:<why>"),
    "a why": ({"cause": "auth:expird"}, r"cause 'auth:expird', did you mean 'auth:expired'\?"),
    "a rule's cause": ({"cause": "fault:nosuch"}, "cause 'fault:nosuch'"),
    "a rule": ({"rule": "nosuch"}, r"rule 'nosuch' \(there are: none\)"),
    "a rule beside another": ({"rule": "nosuch+other"}, "rule 'nosuch'"),
}


@pytest.mark.parametrize(("criteria", "message"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_no_exchange_here_can_have_is_refused(criteria: Any, message: str) -> None:
    with FakeCredits() as credits, pytest.raises(ValueError, match=f"no call here can have the {message}"):
        credits.journal.assert_not_called(**criteria)


@pytest.mark.parametrize("code", ["", *ERRORS])
def test_every_code_of_the_api_is_known(code: str) -> None:
    with FakeCredits() as credits:
        credits.journal.assert_not_called(code=code)
        assert credits.journal.calls(cause=ERRORS[code].cause if code and ERRORS[code].cause != "auth" else "") == ()


@pytest.mark.parametrize("why", AUTH_FAILURE_REASONS)
def test_every_reason_of_a_refused_credential_is_known(why: str) -> None:
    with FakeCredits() as credits:
        credits.journal.assert_not_called(cause=f"auth:{why}")


def test_a_rule_and_its_code_are_known_once_it_is_declared() -> None:
    """Also after its block, where it never fired: that is what the assertion says."""
    with FakeCredits() as credits:
        rule = {"name": "storm", "optional": True}
        with credits.faults(Status(503, code="meltdown"), "getBalance", nth=1, **rule):
            credits.journal.assert_not_called(rule="storm")
        credits.journal.assert_not_called(rule="storm", code="meltdown", cause="fault:storm")
        with pytest.raises(ValueError, match=r"rule 'strom', did you mean 'storm'\?"):
            credits.journal.assert_not_called(rule="strom")


def test_the_codes_of_a_script_are_known() -> None:
    with FakeCredits() as credits:
        credits.faults.add(script=[418, "ok", 503], optional=True)
        credits.journal.assert_not_called(code="rejected")
        credits.journal.assert_not_called(code="unavailable")


def test_of_several_rules_at_once_each_must_be_known() -> None:
    with FakeCredits() as credits:
        credits.faults.add(Reset(), "getBalance", nth=1, name="a", optional=True)
        credits.faults.add(Reset(), "getBalance", nth=2, name="b+c", optional=True)
        credits.journal.assert_not_called(rule="a+a")
        credits.journal.assert_not_called(rule="b+c")
        with pytest.raises(ValueError, match="rule 'z'"):
            credits.journal.assert_not_called(rule="a+z")


def test_what_an_exchange_has_is_known() -> None:
    with FakeCredits() as credits:
        credits.journal.write(entry(credits.journal.next_ordinal(), code="theirs", cause="fault:theirs", rule="theirs"))
        credits.journal.assert_called(code="theirs", cause="fault:theirs", rule="theirs")


def test_it_remembers_no_more_than_ten_thousand_rules() -> None:
    with FakeCredits() as credits:
        declared = credits.journal.rule_history
        rule = credits.faults.add(Reset(), "getBalance", nth=1, optional=True).rule
        for number in range(10_001):
            declared.add(f"rule{number}", rule)
        assert repr(declared) == "<RuleHistory: 10000 rules>"
