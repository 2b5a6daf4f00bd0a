"""Test that each operation is described as the contract says."""

import json
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_credits.client import calls
from fake_credits.client.calls import Shaping
from fake_credits.contract import DEFAULT, Contract, Operation, RouteTemplate
from fake_credits.models import Reason

SHAPING = Shaping(DEFAULT)

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: text not in (".", ".."))


def test_every_operation_goes_where_the_default_contract_says() -> None:
    user = "/v1/applications/app-id/users/user-id"
    described: list[calls.Call[Any]] = [
        calls.create_user(SHAPING, "app-id", "user-id"),
        calls.get_user(SHAPING, "app-id", "user-id"),
        calls.list_users(SHAPING, "app-id", None),
        calls.get_balance(SHAPING, "app-id", "user-id"),
        calls.create_transaction(SHAPING, "app-id", "user-id", delta=100, reason="grant"),
        calls.list_transactions(SHAPING, "app-id", "user-id", None),
    ]
    assert [(call.operation, call.method, call.target) for call in described] == [
        (Operation.CREATE_USER, "PUT", user),
        (Operation.GET_USER, "GET", user),
        (Operation.LIST_USERS, "GET", "/v1/applications/app-id/users"),
        (Operation.GET_BALANCE, "GET", user + "/balance"),
        (Operation.CREATE_TRANSACTION, "POST", user + "/transactions"),
        (Operation.LIST_TRANSACTIONS, "GET", user + "/transactions"),
    ]
    assert {call.operation for call in described} == set(Operation)


def test_only_create_transaction_has_a_body() -> None:
    assert calls.create_user(SHAPING, "a", "u").body is None
    assert calls.create_transaction(SHAPING, "a", "u", delta=-10, reason="consume").body == (
        b'{"delta":-10,"reason":"consume"}'
    )


@given(application_id=ids, user_id=ids)
def test_any_id_survives_the_way_through_the_path(application_id: str, user_id: str) -> None:
    target = calls.get_balance(SHAPING, application_id, user_id).target
    segments = target.split("/")
    assert target.isascii()
    assert len(segments) == 7
    assert (unquote(segments[3], errors="strict"), unquote(segments[5], errors="strict")) == (application_id, user_id)


@given(cursor=st.text(st.characters(exclude_categories=["Cs"])))
def test_any_cursor_survives_the_way_through_the_query(cursor: str) -> None:
    target = calls.list_users(SHAPING, "a", cursor).target
    assert unquote(target.removeprefix("/v1/applications/a/users?cursor="), errors="strict") == cursor


@pytest.mark.parametrize(
    ("text", "encoded"),
    [("auth0|x/y z", "auth0%7Cx%2Fy%20z"), ("😀", "%F0%9F%98%80"), ("%2F", "%252F"), ("...", "..."),
     ("a+b?#", "a%2Bb%3F%23"), ("{userId}", "%7BuserId%7D"), ("A.b-c_d~", "A.b-c_d~")],
)  # fmt: skip
def test_odd_ids_are_percent_encoded(text: str, encoded: str) -> None:
    assert calls.get_user(SHAPING, text, text).target == f"/v1/applications/{encoded}/users/{encoded}"


@pytest.mark.parametrize("value", [None, 7, b"ada", ["ada"]])
def test_an_id_that_is_no_text_is_a_type_error_that_names_it(value: Any) -> None:
    with pytest.raises(TypeError, match="user_id must be a str"):
        calls.get_user(SHAPING, "a", value)
    with pytest.raises(TypeError, match="application_id must be a str"):
        calls.list_users(SHAPING, value, None)


@pytest.mark.parametrize("value", ["", ".", "..", "\udc00"])
def test_an_id_that_must_not_be_sent_is_a_value_error_that_names_it(value: str) -> None:
    with pytest.raises(ValueError, match="user_id"):
        calls.get_balance(SHAPING, "a", value)
    with pytest.raises(ValueError, match="application_id"):
        calls.get_balance(SHAPING, value, "u")


def test_long_ids_and_control_characters_are_the_servers_to_refuse() -> None:
    assert calls.get_user(SHAPING, "a", "x" * 1000 + "\n").target.endswith("x%0A")


@pytest.mark.parametrize("reason", [Reason.REFUND, "refund"])
def test_a_reason_is_the_enum_or_its_text(reason: Reason | str) -> None:
    call = calls.create_transaction(SHAPING, "a", "u", delta=1, reason=reason)
    assert call.body == b'{"delta":1,"reason":"refund"}'


def test_an_unknown_reason_is_sent_for_the_server_to_judge() -> None:
    assert calls.create_transaction(SHAPING, "a", "u", delta=1, reason="gift").body == b'{"delta":1,"reason":"gift"}'


@pytest.mark.parametrize("delta", [10, -10, 0, 10.0, 1.5, 10**30])
def test_a_delta_is_sent_as_it_is(delta: float) -> None:
    body = calls.create_transaction(SHAPING, "a", "u", delta=delta, reason="grant").body
    assert body is not None
    assert repr(json.loads(body)["delta"]) == repr(delta)


@pytest.mark.parametrize("delta", [True, "10", None])
def test_a_delta_that_is_no_number_is_a_type_error(delta: Any) -> None:
    with pytest.raises(TypeError, match="delta must be a number"):
        calls.create_transaction(SHAPING, "a", "u", delta=delta, reason="grant")


@pytest.mark.parametrize("delta", [float("nan"), float("inf"), float("-inf")])
def test_a_delta_that_json_cannot_say_is_a_value_error(delta: float) -> None:
    with pytest.raises(ValueError, match="delta must be finite"):
        calls.create_transaction(SHAPING, "a", "u", delta=delta, reason="grant")


def test_other_texts_that_are_none_are_a_type_error() -> None:
    value: Any = 7
    with pytest.raises(TypeError, match="reason must be a str"):
        calls.create_transaction(SHAPING, "a", "u", delta=1, reason=value)
    with pytest.raises(TypeError, match="cursor must be a str"):
        calls.list_users(SHAPING, "a", value)


def test_an_empty_cursor_is_sent_for_the_server_to_refuse() -> None:
    assert calls.list_transactions(SHAPING, "a", "u", "").target.endswith("/transactions?cursor=")


def test_a_contract_moves_routes_cursor_and_members() -> None:
    routes = dict(DEFAULT.routes)
    routes[Operation.LIST_TRANSACTIONS] = RouteTemplate("POST", "/u/{userId}/of/{applicationId}/log")
    contract = Contract(
        routes=routes, cursor_parameter="page[after]", field_names={"delta": "amount", "reason": "kind"}
    )
    shaping = Shaping(contract)
    listing = calls.list_transactions(shaping, "a", "u", "x&y")
    assert (listing.method, listing.target) == ("POST", "/u/u/of/a/log?page%5Bafter%5D=x%26y")
    assert calls.create_transaction(shaping, "a", "u", delta=1, reason="grant").body == b'{"amount":1,"kind":"grant"}'


def test_an_application_id_is_never_filled_in_twice() -> None:
    assert calls.get_user(SHAPING, "{userId}", "u").target == "/v1/applications/%7BuserId%7D/users/u"
