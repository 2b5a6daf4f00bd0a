"""Test that each operation is described as the contract says."""

import json
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_credits.client import operations
from fake_credits.client.operations import BaseUrl, RequestBuilder, check_timeout, encode_secret, mask, quote_id
from fake_credits.contract import DEFAULT_CONTRACT, Contract, Operation, RouteTemplate
from fake_credits.models import Reason

SHAPING = RequestBuilder(DEFAULT_CONTRACT)

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: text not in (".", ".."))


def test_every_operation_goes_where_the_default_contract_says() -> None:
    user = "/v1/applications/app-id/users/user-id"
    described: list[operations.PreparedCall[Any]] = [
        operations.create_user(SHAPING, "app-id", "user-id"),
        operations.get_user(SHAPING, "app-id", "user-id"),
        operations.list_users(SHAPING, "app-id", None),
        operations.get_balance(SHAPING, "app-id", "user-id"),
        operations.create_transaction(SHAPING, "app-id", "user-id", delta=100, reason="grant"),
        operations.list_transactions(SHAPING, "app-id", "user-id", None),
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
    assert operations.create_user(SHAPING, "a", "u").body is None
    assert operations.create_transaction(SHAPING, "a", "u", delta=-10, reason="consume").body == (
        b'{"delta":-10,"reason":"consume"}'
    )


@given(application_id=ids, user_id=ids)
def test_any_id_survives_the_way_through_the_path(application_id: str, user_id: str) -> None:
    target = operations.get_balance(SHAPING, application_id, user_id).target
    segments = target.split("/")
    assert target.isascii()
    assert len(segments) == 7
    assert (unquote(segments[3], errors="strict"), unquote(segments[5], errors="strict")) == (application_id, user_id)


@given(cursor=st.text(st.characters(exclude_categories=["Cs"])))
def test_any_cursor_survives_the_way_through_the_query(cursor: str) -> None:
    target = operations.list_users(SHAPING, "a", cursor).target
    assert unquote(target.removeprefix("/v1/applications/a/users?cursor="), errors="strict") == cursor


@pytest.mark.parametrize(
    ("text", "encoded"),
    [("auth0|x/y z", "auth0%7Cx%2Fy%20z"), ("😀", "%F0%9F%98%80"), ("%2F", "%252F"), ("...", "..."),
     ("a+b?#", "a%2Bb%3F%23"), ("{userId}", "%7BuserId%7D"), ("A.b-c_d~", "A.b-c_d~")],
)  # fmt: skip
def test_odd_ids_are_percent_encoded(text: str, encoded: str) -> None:
    assert operations.get_user(SHAPING, text, text).target == f"/v1/applications/{encoded}/users/{encoded}"


@pytest.mark.parametrize("value", [None, 7, b"ada", ["ada"]])
def test_an_id_that_is_no_text_is_a_type_error_that_names_it(value: Any) -> None:
    with pytest.raises(TypeError, match="user_id must be a str"):
        operations.get_user(SHAPING, "a", value)
    with pytest.raises(TypeError, match="application_id must be a str"):
        operations.list_users(SHAPING, value, None)


@pytest.mark.parametrize("value", ["", ".", "..", "\udc00"])
def test_an_id_that_must_not_be_sent_is_a_value_error_that_names_it(value: str) -> None:
    with pytest.raises(ValueError, match="user_id"):
        operations.get_balance(SHAPING, "a", value)
    with pytest.raises(ValueError, match="application_id"):
        operations.get_balance(SHAPING, value, "u")


def test_long_ids_and_control_characters_are_the_servers_to_refuse() -> None:
    assert operations.get_user(SHAPING, "a", "x" * 1000 + "\n").target.endswith("x%0A")


@pytest.mark.parametrize("reason", [Reason.REFUND, "refund"])
def test_a_reason_is_the_enum_or_its_text(reason: Reason | str) -> None:
    call = operations.create_transaction(SHAPING, "a", "u", delta=1, reason=reason)
    assert call.body == b'{"delta":1,"reason":"refund"}'


def test_an_unknown_reason_is_sent_for_the_server_to_judge() -> None:
    assert (
        operations.create_transaction(SHAPING, "a", "u", delta=1, reason="gift").body == b'{"delta":1,"reason":"gift"}'
    )


@pytest.mark.parametrize("delta", [10, -10, 0, 10.0, 1.5, 10**30])
def test_a_delta_is_sent_as_it_is(delta: float) -> None:
    body = operations.create_transaction(SHAPING, "a", "u", delta=delta, reason="grant").body
    assert body is not None
    assert repr(json.loads(body)["delta"]) == repr(delta)


@pytest.mark.parametrize("delta", [True, "10", None])
def test_a_delta_that_is_no_number_is_a_type_error(delta: Any) -> None:
    with pytest.raises(TypeError, match="delta must be a number"):
        operations.create_transaction(SHAPING, "a", "u", delta=delta, reason="grant")


@pytest.mark.parametrize("delta", [float("nan"), float("inf"), float("-inf")])
def test_a_delta_that_json_cannot_say_is_a_value_error(delta: float) -> None:
    with pytest.raises(ValueError, match="delta must be finite"):
        operations.create_transaction(SHAPING, "a", "u", delta=delta, reason="grant")


def test_other_texts_that_are_none_are_a_type_error() -> None:
    value: Any = 7
    with pytest.raises(TypeError, match="reason must be a str"):
        operations.create_transaction(SHAPING, "a", "u", delta=1, reason=value)
    with pytest.raises(TypeError, match="cursor must be a str"):
        operations.list_users(SHAPING, "a", value)


def test_an_empty_cursor_is_sent_for_the_server_to_refuse() -> None:
    assert operations.list_transactions(SHAPING, "a", "u", "").target.endswith("/transactions?cursor=")


def test_a_contract_moves_routes_cursor_and_members() -> None:
    routes = dict(DEFAULT_CONTRACT.routes)
    routes[Operation.LIST_TRANSACTIONS] = RouteTemplate("POST", "/u/{userId}/of/{applicationId}/log")
    contract = Contract(
        routes=routes, cursor_parameter="page[after]", field_names={"delta": "amount", "reason": "kind"}
    )
    shaping = RequestBuilder(contract)
    listing = operations.list_transactions(shaping, "a", "u", "x&y")
    assert (listing.method, listing.target) == ("POST", "/u/u/of/a/log?page%5Bafter%5D=x%26y")
    assert (
        operations.create_transaction(shaping, "a", "u", delta=1, reason="grant").body == b'{"amount":1,"kind":"grant"}'
    )


def test_an_application_id_is_never_filled_in_twice() -> None:
    assert operations.get_user(SHAPING, "{userId}", "u").target == "/v1/applications/%7BuserId%7D/users/u"


@pytest.mark.parametrize("text", ["http://h", "http://h/", "https://h:8443/api", "https://h/api/", "http://[::1]:80/"])
def test_a_base_url_works_with_and_without_a_trailing_slash(text: str) -> None:
    assert BaseUrl.parse(text).text == text.rstrip("/")
    assert not BaseUrl.parse(text).path_prefix.endswith("/")


def test_a_base_url_keeps_its_path_prefix_as_written() -> None:
    assert BaseUrl.parse("https://h/a%2Fb/c/").path_prefix == "/a%2Fb/c"


@pytest.mark.parametrize(
    "text",
    ["", "h", "ftp://h", "//h/x", "http://", "http:///x", "http://h?", "http://h?a=1", "http://h#", "http://h/#x",
     "http://user@h", "http://h:99999", "http://h:x", "http://h/a b", "http://h/\n", "http://h/é",
     "http://h/a/../b", "http://h/./", "http://[::1"],
)  # fmt: skip
def test_what_is_no_base_url_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="^base_url "):
        BaseUrl.parse(text)


def test_a_refused_base_url_does_not_repeat_a_password() -> None:
    with pytest.raises(ValueError) as caught:
        BaseUrl.parse("http://ada:hunter2@h/?x")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("value", [None, b"http://h", 1])
def test_a_base_url_that_is_no_text_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="base_url"):
        BaseUrl.parse(value)


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_an_id_that_would_reach_another_operation_is_refused_by_name(value: str) -> None:
    with pytest.raises(ValueError, match="user_id must not be"):
        quote_id("user_id", value)


def test_a_lone_surrogate_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"user_id .*surrogate"):
        quote_id("user_id", "a\ud800")


@pytest.mark.parametrize("value", ["", " k", "k ", "k\n", "a\r\nX: y", "a\0", "a\x7f", "clé€", "\ud800"])
def test_a_secret_that_no_header_carries_is_refused_and_not_repeated(value: str) -> None:
    with pytest.raises(ValueError, match=r"^api_key must") as caught:
        encode_secret("api_key", value)
    assert not value or value not in str(caught.value)


@pytest.mark.parametrize("value", [None, b"key", 7])
def test_a_secret_that_is_no_text_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="api_key"):
        encode_secret("api_key", value)


@pytest.mark.parametrize("value", [None, 30, 0.05])
def test_a_timeout_is_seconds_or_none(value: float | None) -> None:
    assert check_timeout(value) == value


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_a_timeout_that_no_clock_reaches_is_a_value_error(value: float) -> None:
    with pytest.raises(ValueError, match="timeout_s"):
        check_timeout(value)


@pytest.mark.parametrize("value", [True, "30"])
def test_a_timeout_that_is_no_number_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="timeout_s"):
        check_timeout(value)


def test_a_mask_shows_four_characters_at_most_and_none_of_a_short_secret() -> None:
    assert mask("fck_0123456789") == "fck_…"
    assert mask("12345678") == "…"
