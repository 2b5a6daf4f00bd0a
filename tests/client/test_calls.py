"""Building the request of each operation from the contract."""

import json
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_credits.client import calls
from fake_credits.client.calls import CallBuilder
from fake_credits.contract import DEFAULT_CONTRACT, Contract, Operation, RouteTemplate
from fake_credits.models import Reason

BUILDER = CallBuilder(DEFAULT_CONTRACT)

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: text not in (".", ".."))


def test_every_operation_uses_the_default_contracts_route() -> None:
    user = "/v1/applications/app-id/users/user-id"
    prepared: list[calls.PreparedCall[Any]] = [
        calls.create_user(BUILDER, "app-id", "user-id"),
        calls.get_user(BUILDER, "app-id", "user-id"),
        calls.list_users(BUILDER, "app-id", None),
        calls.get_balance(BUILDER, "app-id", "user-id"),
        calls.create_transaction(BUILDER, "app-id", "user-id", delta=100, reason="grant"),
        calls.list_transactions(BUILDER, "app-id", "user-id", None),
    ]
    assert [(call.operation, call.method, call.target) for call in prepared] == [
        (Operation.CREATE_USER, "PUT", user),
        (Operation.GET_USER, "GET", user),
        (Operation.LIST_USERS, "GET", "/v1/applications/app-id/users"),
        (Operation.GET_BALANCE, "GET", user + "/balance"),
        (Operation.CREATE_TRANSACTION, "POST", user + "/transactions"),
        (Operation.LIST_TRANSACTIONS, "GET", user + "/transactions"),
    ]
    assert {call.operation for call in prepared} == set(Operation)


def test_only_create_transaction_has_a_body() -> None:
    assert calls.create_user(BUILDER, "a", "u").body is None
    assert calls.create_transaction(BUILDER, "a", "u", delta=-10, reason="consume").body == (
        b'{"delta":-10,"reason":"consume"}'
    )


@given(application_id=ids, user_id=ids)
def test_any_id_round_trips_through_the_path(application_id: str, user_id: str) -> None:
    target = calls.get_balance(BUILDER, application_id, user_id).target
    segments = target.split("/")
    assert target.isascii()
    assert len(segments) == 7
    assert (unquote(segments[3], errors="strict"), unquote(segments[5], errors="strict")) == (application_id, user_id)


@given(cursor=st.text(st.characters(exclude_categories=["Cs"])))
def test_any_cursor_round_trips_through_the_query(cursor: str) -> None:
    target = calls.list_users(BUILDER, "a", cursor).target
    assert unquote(target.removeprefix("/v1/applications/a/users?cursor="), errors="strict") == cursor


@pytest.mark.parametrize(
    ("text", "encoded"),
    [("auth0|x/y z", "auth0%7Cx%2Fy%20z"), ("😀", "%F0%9F%98%80"), ("%2F", "%252F"), ("...", "..."),
     ("a+b?#", "a%2Bb%3F%23"), ("{userId}", "%7BuserId%7D"), ("A.b-c_d~", "A.b-c_d~")],
)  # fmt: skip
def test_special_characters_in_ids_are_percent_encoded(text: str, encoded: str) -> None:
    assert calls.get_user(BUILDER, text, text).target == f"/v1/applications/{encoded}/users/{encoded}"


@pytest.mark.parametrize("value", [None, 7, b"ada"])
def test_non_string_id_raises_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="user_id must be a str"):
        calls.get_user(BUILDER, "a", value)
    with pytest.raises(TypeError, match="application_id must be a str"):
        calls.list_users(BUILDER, value, None)


@pytest.mark.parametrize("value", ["", ".", "..", "\udc00"])
def test_unsendable_id_raises_value_error(value: str) -> None:
    with pytest.raises(ValueError, match="user_id"):
        calls.get_balance(BUILDER, "a", value)
    with pytest.raises(ValueError, match="application_id"):
        calls.get_balance(BUILDER, value, "u")


def test_long_ids_and_control_characters_are_sent() -> None:
    assert calls.get_user(BUILDER, "a", "x" * 1000 + "\n").target.endswith("x%0A")


@pytest.mark.parametrize("reason", [Reason.REFUND, "refund"])
def test_reason_may_be_enum_or_string(reason: Reason | str) -> None:
    call = calls.create_transaction(BUILDER, "a", "u", delta=1, reason=reason)
    assert call.body == b'{"delta":1,"reason":"refund"}'


def test_unknown_reason_is_sent() -> None:
    assert calls.create_transaction(BUILDER, "a", "u", delta=1, reason="gift").body == b'{"delta":1,"reason":"gift"}'


@pytest.mark.parametrize("delta", [10, -10, 0, 10.0, 1.5, 10**30])
def test_delta_is_sent_unchanged(delta: float) -> None:
    body = calls.create_transaction(BUILDER, "a", "u", delta=delta, reason="grant").body
    assert body is not None
    assert repr(json.loads(body)["delta"]) == repr(delta)


@pytest.mark.parametrize("delta", [True, "10", None])
def test_non_numeric_delta_raises_type_error(delta: Any) -> None:
    with pytest.raises(TypeError, match="delta must be a number"):
        calls.create_transaction(BUILDER, "a", "u", delta=delta, reason="grant")


@pytest.mark.parametrize("delta", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_delta_raises_value_error(delta: float) -> None:
    with pytest.raises(ValueError, match="delta must be finite"):
        calls.create_transaction(BUILDER, "a", "u", delta=delta, reason="grant")


def test_non_string_reason_or_cursor_raises_type_error() -> None:
    value: Any = 7
    with pytest.raises(TypeError, match="reason must be a str"):
        calls.create_transaction(BUILDER, "a", "u", delta=1, reason=value)
    with pytest.raises(TypeError, match="cursor must be a str"):
        calls.list_users(BUILDER, "a", value)


def test_empty_cursor_is_sent() -> None:
    assert calls.list_transactions(BUILDER, "a", "u", "").target.endswith("/transactions?cursor=")


def test_contract_changes_routes_cursor_and_field_names() -> None:
    routes = dict(DEFAULT_CONTRACT.routes)
    routes[Operation.LIST_TRANSACTIONS] = RouteTemplate("POST", "/u/{userId}/of/{applicationId}/log")
    contract = Contract(
        routes=routes, cursor_parameter="page[after]", field_names={"delta": "amount", "reason": "kind"}
    )
    builder = CallBuilder(contract)
    call = calls.list_transactions(builder, "a", "u", "x&y")
    assert (call.method, call.target) == ("POST", "/u/u/of/a/log?page%5Bafter%5D=x%26y")
    assert calls.create_transaction(builder, "a", "u", delta=1, reason="grant").body == b'{"amount":1,"kind":"grant"}'


def test_placeholder_in_application_id_is_not_expanded() -> None:
    assert calls.get_user(BUILDER, "{userId}", "u").target == "/v1/applications/%7BuserId%7D/users/u"
