"""Test that codes, causes and rules unknown to the sandbox are rejected, and known ones accepted."""

from typing import Any

import pytest

from fake_credits.contract import Contract
from fake_credits.errors import ERRORS
from fake_credits.fake import FakeCredits
from fake_credits.faults import NotJson, Reset, Status
from fake_credits.faults.faults import RuleFields
from fake_credits.tokens.credentials import AUTH_FAILURE_REASONS
from tests.assertions.conftest import entry

UNKNOWN_CRITERIA = {
    "code": ({"code": "insufficent_credits"}, r"code 'insufficent_credits', did you mean 'insufficient_credits'\?"),
    "cause": ({"cause": "domian"}, r"cause 'domian', did you mean 'domain'\? \(possible: bug, domain, .*auth:<why>"),
    "auth reason": ({"cause": "auth:expird"}, r"cause 'auth:expird', did you mean 'auth:expired'\?"),
    "cause of rule": ({"cause": "fault:nosuch"}, "cause 'fault:nosuch'"),
    "rule": ({"rule": "nosuch"}, r"rule 'nosuch' \(possible: none\)"),
    "combined rules": ({"rule": "nosuch+other"}, "rule 'nosuch'"),
    "status": ({"status": 299}, r"status 299 \(possible: 0, 200, 201, 400, "),
    "error status": ({"status": 418}, "status 418"),
}


@pytest.mark.parametrize(("criteria", "message"), UNKNOWN_CRITERIA.values(), ids=UNKNOWN_CRITERIA)
def test_unknown_code_cause_or_rule_is_rejected(criteria: Any, message: str) -> None:
    with FakeCredits() as credits, pytest.raises(ValueError, match=f"no call in this sandbox can have the {message}"):
        credits.journal.assert_not_called(**criteria)


@pytest.mark.parametrize("code", ["", *ERRORS])
def test_every_api_error_code_is_accepted(code: str) -> None:
    with FakeCredits() as credits:
        credits.journal.assert_not_called(code=code)
        assert credits.journal.calls(cause=ERRORS[code].cause if code and ERRORS[code].cause != "auth" else "") == ()


@pytest.mark.parametrize("reason", AUTH_FAILURE_REASONS)
def test_every_auth_failure_reason_is_accepted(reason: str) -> None:
    with FakeCredits() as credits:
        credits.journal.assert_not_called(cause=f"auth:{reason}")


def test_rule_and_its_code_are_accepted_once_declared() -> None:
    """They are still accepted after the rule's `with` block has ended, even if the rule never fired."""
    with FakeCredits() as credits:
        rule: RuleFields = {"name": "storm", "optional": True, "nth": 1}
        with credits.faults(Status(503, code="meltdown"), "getBalance", **rule):
            credits.journal.assert_not_called(rule="storm")
        credits.journal.assert_not_called(rule="storm", code="meltdown", cause="fault:storm")
        with pytest.raises(ValueError, match=r"rule 'strom', did you mean 'storm'\?"):
            credits.journal.assert_not_called(rule="strom")


def test_read_can_only_commit_if_the_contract_creates_unknown_users() -> None:
    with (
        FakeCredits() as credits,
        pytest.raises(ValueError, match="omit committed=True: .* for reads, only for"),
    ):
        credits.journal.assert_not_called("reads", committed=True)
    with FakeCredits(contract=Contract(unknown_user="create")) as credits:
        credits.server_client.get_balance("app-id", "newcomer")
        credits.journal.assert_called("getBalance", committed=True, times=1)
        with pytest.raises(ValueError, match="omit committed=True: .* for listUsers, only for"):
            credits.journal.assert_not_called("listUsers", committed=True)


def test_script_codes_are_accepted() -> None:
    with FakeCredits() as credits:
        credits.faults.add(script=[418, "ok", 503], optional=True)
        credits.journal.assert_not_called(code="rejected")
        credits.journal.assert_not_called(code="unavailable")


def test_statuses_of_the_contract_and_of_declared_rules_are_accepted() -> None:
    contract = Contract(created_user_status=299, statuses={"insufficient_credits": 409})
    with FakeCredits(contract=contract) as credits:
        credits.faults.add(script=[418, "ok"], optional=True)
        credits.faults.add(NotJson(206), optional=True)
        for status in (0, 200, 201, 206, 299, 404, 409, 418, 429, 500, 502, 503, 504):
            credits.journal.assert_not_called(status=status)
        with pytest.raises(ValueError, match="status 402"):
            credits.journal.assert_not_called(status=402)


STATUSES: dict[str, tuple[Contract, Any, set[int]]] = {
    "new user": (Contract(created_user_status=299), "create_user", {200, 299}),
    "transaction": (Contract(), "createTransaction", {201}),
    "empty transaction": (Contract(created_transaction="empty"), "createTransaction", {204}),
    "writes": (Contract(created_transaction_status=202), "writes", {200, 201, 202}),
    "read": (Contract(), "getBalance", {200}),
}


@pytest.mark.parametrize(("contract", "operation", "successes"), STATUSES.values(), ids=STATUSES)
def test_success_status_of_another_operation_is_rejected(
    contract: Contract, operation: Any, successes: set[int]
) -> None:
    """Otherwise ``assert_not_called("createTransaction", status=200)`` could never fail."""
    with FakeCredits(contract=contract) as credits:
        for status in (0, 400, 401, *successes):
            credits.journal.assert_not_called(operation, status=status)
        for status in {200, 201, 202, 204, 299} - successes:
            with pytest.raises(ValueError, match=rf"^no \w+ in this sandbox can have the status {status} "):
                credits.journal.assert_not_called(operation, status=status)


def test_every_combined_rule_must_be_declared() -> None:
    with FakeCredits() as credits:
        credits.faults.add(Reset(), "getBalance", nth=1, name="a", optional=True)
        credits.faults.add(Reset(), "getBalance", nth=2, name="b+c", optional=True)
        credits.journal.assert_not_called(rule="a+a")
        credits.journal.assert_not_called(rule="b+c")
        with pytest.raises(ValueError, match="rule 'z'"):
            credits.journal.assert_not_called(rule="a+z")


def test_values_of_journaled_exchange_are_accepted() -> None:
    with FakeCredits() as credits:
        credits.journal.write(
            entry(credits.journal.begin_exchange()[0], code="theirs", cause="fault:theirs", rule="theirs")
        )
        credits.journal.assert_called(code="theirs", cause="fault:theirs", rule="theirs")


def test_history_keeps_at_most_10_000_rules() -> None:
    with FakeCredits() as credits:
        history = credits.journal.rule_history
        rule = credits.faults.add(Reset(), "getBalance", nth=1, optional=True).rule
        for number in range(10_001):
            history.add(f"rule{number}", rule)
        assert repr(history) == "<RuleHistory: rules=10000>"
