"""Users and histories via the control plane: list, read, add and delete, without journal entries."""

from typing import Any

import pytest

from tests.control.conftest import ControlSession

START = "2030-01-01T00:00:00.000Z"


def test_histories_are_added_and_read_without_journal_entries(control: ControlSession) -> None:
    sandbox = control.create_sandbox(users={}, clock=START)
    transactions = [{"delta": 100, "created_at": "2029-12-01T00:00:00+01:00"}, -10, {"delta": 5, "reason": "refund"}]
    added = sandbox.request_json("POST", "/users/ada/transactions", {"transactions": transactions})
    assert added == {
        "transactions": [
            {"delta": 100, "reason": "grant", "created_at": "2029-11-30T23:00:00.000Z"},
            {"delta": -10, "reason": "consume", "created_at": START},
            {"delta": 5, "reason": "refund", "created_at": START},
        ]
    }
    assert sandbox.request_json("GET", "/users/ada/transactions") == added
    assert sandbox.spend() == 201
    assert (sandbox.balance(), sandbox.request_json("GET", "/journal")["total"]) == (94, 1)


def test_users_are_listed_by_application(control: ControlSession) -> None:
    sandbox = control.create_sandbox(users={"ada": 1})
    sandbox.request_json("PUT", "/users/bob", {"balance": 2})
    body = {"transactions": [7], "application_id": "shop"}
    sandbox.request_json("POST", "/users/eve/transactions", body)
    users = sandbox.request_json("GET", "/users")["users"]
    assert [(user["user_id"], user["balance"]) for user in users] == [("ada", 1), ("bob", 2)]
    (eve,) = sandbox.request_json("GET", "/users?application_id=shop")["users"]
    assert (eve["application_id"], eve["user_id"], eve["balance"]) == ("shop", "eve", 7)
    history = sandbox.request_json("GET", "/users/eve/transactions?application_id=shop")["transactions"]
    assert [each["delta"] for each in history] == [7]


def test_deleted_user_is_gone(control: ControlSession) -> None:
    sandbox = control.create_sandbox(users={"ada": 1})
    sandbox.request_json("PUT", "/users/ada", {"balance": 5, "application_id": "shop"})
    assert sandbox.request_json("DELETE", "/users/ada")["balance"] == 1
    assert sandbox.request("DELETE", "/users/ada").code == "user_not_found"
    assert sandbox.request("GET", "/users/ada/transactions").code == "user_not_found"
    assert sandbox.spend() == 404
    assert sandbox.request_json("DELETE", "/users/ada?application_id=shop")["application_id"] == "shop"
    sandbox.request_json("POST", "/reset")
    assert sandbox.balance() == 1


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({}, "transactions", "is missing"),
        ({"transactions": 5}, "transactions", "must be an array, got 5"),
        ({"transactions": ["5"]}, "transactions[0]", "must be an integer or an object"),
        ({"transactions": [1, {"delta": "5"}]}, "transactions", "transaction 2: delta must be an integer, not '5'"),
        (
            {"transactions": [{"amount": 5}]},
            "transactions",
            "transaction 1: unknown field 'amount' (known: delta, reason",
        ),
        ({"transactions": [{"delta": 1, "created_at": "2020-01-01"}]}, "transactions", "'2020-01-01' has no time zone"),
        ({"transactions": [1, -2]}, "", "has a balance of 1, which can't be reduced by 2"),
        ({"transactions": [1], "when": 1}, "when", "is not allowed here; allowed: transactions, application_id"),
    ],
)
def test_invalid_history_is_rejected_and_nothing_added(
    control: ControlSession, body: Any, field: str, message: str
) -> None:
    sandbox = control.create_sandbox(users={})
    response = sandbox.request("POST", "/users/ada/transactions", body)
    assert (response.status, response.code) == (400, "validation_error")
    assert message in response.body["error"]["message"]
    assert [each["field"] for each in response.details] == ([field] if field else [])
    assert sandbox.request_json("GET", "/users")["users"] == []


def test_delete_rejects_a_body_and_unknown_query_parameters(control: ControlSession) -> None:
    sandbox = control.create_sandbox()
    assert sandbox.request("DELETE", "/users/ada", {"application_id": "shop"}).code == "validation_error"
    assert sandbox.request("DELETE", "/users/ada?who=ada").details[0]["field"] == "who"
