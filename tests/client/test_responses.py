"""Decoding of responses into models and errors."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_credits import errors
from fake_credits.client.responses import ResponseDecoder
from fake_credits.contract import DEFAULT_CONTRACT, FIELD_NAMES, Contract, TimestampFormat
from fake_credits.errors import ERRORS, ApiError, InvalidResponse, Problem
from fake_credits.http_message import Headers, Response
from fake_credits.models import Balance, Reason, Transaction, TransactionPage, User, UserPage

DECODER = ResponseDecoder(DEFAULT_CONTRACT)
CREATED_AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
USER_JSON = {"applicationId": "app-id", "userId": "ada", "createdAt": "2026-01-02T03:04:05.678Z"}
TRANSACTION_JSON = {"delta": -10, "reason": "consume", "createdAt": "2026-01-02T03:04:05.678Z"}
ERROR_BODIES = ("nested", "problem", "flat")


def make_response(body: Any, status: int = 200, headers: Headers | None = None) -> Response:
    return Response(status, body if isinstance(body, bytes) else json.dumps(body).encode(), headers or [])


def make_error_body(error_body: str, code: str, status: int, **fields: Any) -> bytes:
    """Return an error body in one of the contract's three formats (docs, "Contract", row 18)."""
    if error_body == "problem":
        problem = {"type": "about:blank", "title": "Refused", "status": status, "detail": "It is so.", "code": code}
        return json.dumps({**problem, **fields}).encode()
    members = {"code": code, "message": "It is so.", **fields}
    return json.dumps({"error": members} if error_body == "nested" else members).encode()


def test_success_bodies_are_decoded_into_models() -> None:
    user, transaction = User("app-id", "ada", CREATED_AT), Transaction(-10, Reason.CONSUME, CREATED_AT)
    assert DECODER.user(make_response(USER_JSON)) == user
    assert DECODER.balance(make_response({"balance": 90})) == Balance(90)
    assert DECODER.transaction(make_response(TRANSACTION_JSON, 201), delta=-10, reason="consume") == transaction
    assert DECODER.user_page(make_response({"users": [USER_JSON], "nextCursor": "x"})) == UserPage((user,), "x")
    assert DECODER.transaction_page(make_response({"transactions": [TRANSACTION_JSON]})) == TransactionPage(
        (transaction,), None
    )


@pytest.mark.parametrize("members", [{}, {"nextCursor": None}, {"nextCursor": ""}])
def test_missing_null_and_empty_cursor_mean_the_last_page(members: dict[str, Any]) -> None:
    """API README: "nextCursor?: string" (and docs/reference/contract.md, row 15)."""
    assert DECODER.user_page(make_response({"users": [], **members})).next_cursor is None
    assert DECODER.transaction_page(make_response({"transactions": [], **members})).next_cursor is None


def test_unknown_fields_are_ignored() -> None:
    assert DECODER.balance(make_response({"balance": 90, "currency": [{"balance": 1}]})) == Balance(90)


def test_unknown_reason_stays_a_string() -> None:
    reason = DECODER.transaction(
        make_response(TRANSACTION_JSON | {"reason": "gift"}, 201), delta=1, reason="gift"
    ).reason
    assert reason == "gift"
    assert not isinstance(reason, Reason)


@pytest.mark.parametrize("body", [b'{"balance":90.0}', b'{"balance":9e1}', b' { "balance" : 90 } '])
def test_integral_number_is_decoded_as_int(body: bytes) -> None:
    balance = DECODER.balance(make_response(body)).balance
    assert (balance, type(balance)) == (90, int)


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"90", b"{}", b"<html>", b"\xff", b'{"balance":null}', b'{"balance":true}',
     b'{"balance":"90"}', b'{"balance":1.5}', b'{"balance":NaN}', b'{"balance":1e999}', b'{"balance":90',
     b'{"balance":90} x',
     b'{"balance":90,"balance":91}', b'{"balance":90,"balance":90}', b'{"balance":90,"x":{"y":1,"y":2}}',
     b'{"balance":90,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"],
)  # fmt: skip
def test_unexpected_body_raises_invalid_response(body: bytes) -> None:
    with pytest.raises(InvalidResponse) as exc_info:
        DECODER.balance(make_response(body, 200, [(b"x-request-id", b"r-1")]))
    assert (exc_info.value.status, exc_info.value.request_id) == (200, "r-1")
    assert len(str(exc_info.value)) < 600


def test_invalid_response_quotes_the_problem_and_the_body() -> None:
    with pytest.raises(InvalidResponse) as exc_info:
        DECODER.user(make_response(USER_JSON | {"userId": 7}, headers=[(b"content-type", b"application/json")]))
    assert str(exc_info.value) == (
        "unusable response, status 200, application/json: Expected `str`, got `int` - at `$.userId`; "
        f"the body begins with {json.dumps(USER_JSON | {'userId': 7})!r}"
    )


@pytest.mark.parametrize("created_at", [None, 7, "", "yesterday", "2026-01-02T03:04:05"])
def test_invalid_timestamp_raises_invalid_response(created_at: Any) -> None:
    with pytest.raises(InvalidResponse):
        DECODER.user(make_response(USER_JSON | {"createdAt": created_at}))


@pytest.mark.parametrize("status", [101, 204, 301, 302, 304, 307])
def test_unexpected_status_without_body_raises_invalid_response(status: int) -> None:
    with pytest.raises(InvalidResponse, match=f"status {status}"):
        DECODER.balance(make_response(b"", status))


@pytest.mark.parametrize(
    ("timestamp_format", "value"),
    [("iso_ms", "2026-01-02T03:04:05.678Z"), ("iso_s", "2026-01-02T03:04:05Z"), ("unix_s", 1767323045),
     ("unix_ms", 1767323045678)],
)  # fmt: skip
def test_created_at_is_decoded_in_the_contracts_format(timestamp_format: TimestampFormat, value: str | int) -> None:
    """API README: "createdAt: Date" (and docs/reference/contract.md, row 20)."""
    created_at = (
        ResponseDecoder(Contract(created_at=timestamp_format))
        .user(make_response(USER_JSON | {"createdAt": value}))
        .created_at
    )
    assert created_at == (CREATED_AT if timestamp_format.endswith("ms") else CREATED_AT.replace(microsecond=0))


def test_contract_field_names_are_used() -> None:
    decoder = ResponseDecoder(
        Contract(field_names={"balance": "credits", "transactions": "items", "nextCursor": "after"})
    )
    assert decoder.balance(make_response({"credits": 90})) == Balance(90)
    assert decoder.transaction_page(make_response({"items": [TRANSACTION_JSON], "after": "x"})).next_cursor == "x"


@pytest.mark.parametrize(
    ("contract", "body"),
    [
        (Contract(created_transaction="id"), TRANSACTION_JSON | {"id": "t-1"}),
        (Contract(created_transaction="balance"), TRANSACTION_JSON | {"balance": 90}),
        (Contract(created_transaction="wrapped"), {"transaction": TRANSACTION_JSON}),
    ],
)
def test_created_transaction_is_decoded_in_the_contracts_format(contract: Contract, body: Any) -> None:
    transaction = ResponseDecoder(contract).transaction(make_response(body, 201), delta=-10, reason="consume")
    assert transaction == Transaction(-10, Reason.CONSUME, CREATED_AT)


def test_empty_created_transaction_uses_request_and_date_header() -> None:
    decoder = ResponseDecoder(Contract(created_transaction="empty"))
    response = make_response(b"", 204, [(b"date", b"Fri, 02 Jan 2026 03:04:05 GMT")])
    transaction = decoder.transaction(response, delta=-10, reason="consume")
    assert transaction == Transaction(-10, Reason.CONSUME, CREATED_AT.replace(microsecond=0))


@pytest.mark.parametrize("headers", [[], [(b"date", b"soon")]])
def test_empty_created_transaction_without_date_header_uses_the_clock(headers: Headers) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    transaction = ResponseDecoder(Contract(created_transaction="empty")).transaction(
        make_response(b"", 204, headers), delta=1, reason="grant"
    )
    assert transaction.created_at >= before


@pytest.mark.parametrize("error_body", ERROR_BODIES)
@pytest.mark.parametrize("code", sorted(ERRORS))
def test_every_error_code_in_every_format_raises_its_class(error_body: Any, code: str) -> None:
    error_class = ERRORS[code]
    status = error_class.default_status
    body = make_error_body(error_body, code, status, requestId="r-1", details=[{"field": "delta", "problem": "is 0"}])
    with pytest.raises(ApiError) as exc_info:
        ResponseDecoder(Contract(error_body=error_body)).balance(
            make_response(body, status, [(b"x-request-id", b"r-2")])
        )
    error = exc_info.value
    assert type(error) is error_class
    assert (error.code, error.status, error.request_id) == (code, status, "r-1")
    assert (error.message, error.details) == ("It is so.", (Problem("delta", "is 0"),))


def test_error_status_is_the_received_status() -> None:
    contract = Contract(statuses={"insufficient_credits": 422})
    with pytest.raises(errors.InsufficientCredits) as exc_info:
        ResponseDecoder(contract).balance(make_response(make_error_body("nested", "insufficient_credits", 422), 422))
    assert exc_info.value.status == 422


def test_headers_supply_request_id_and_auth_reason() -> None:
    headers = [(b"x-request-id", b"r-2"), (b"x-fake-credits-cause", b"auth:wrong_key")]
    with pytest.raises(errors.InvalidToken) as exc_info:
        DECODER.balance(make_response(make_error_body("nested", "invalid_token", 401), 401, headers))
    assert (exc_info.value.request_id, exc_info.value.auth_reason) == ("r-2", "wrong_key")


def test_cause_other_than_auth_sets_no_auth_reason() -> None:
    with pytest.raises(errors.UserNotFound) as exc_info:
        DECODER.balance(
            make_response(make_error_body("nested", "user_not_found", 404), 404, [(b"x-fake-credits-cause", b"domain")])
        )
    assert exc_info.value.auth_reason == ""


def test_method_not_allowed_has_the_allow_header() -> None:
    with pytest.raises(errors.MethodNotAllowed) as exc_info:
        DECODER.balance(
            make_response(make_error_body("nested", "method_not_allowed", 405), 405, [(b"allow", b"GET, HEAD")])
        )
    assert exc_info.value.allow == "GET, HEAD"


@pytest.mark.parametrize("body", [{}, {"error": "no"}, {"error": {"code": 7, "details": "x"}}, {"message": "Pay."}])
def test_unambiguous_status_without_code_determines_the_class(body: Any) -> None:
    with pytest.raises(errors.InsufficientCredits) as exc_info:
        DECODER.balance(make_response(body, 402))
    assert exc_info.value.message == json.dumps(body)


def test_ambiguous_status_without_code_raises_api_error() -> None:
    with pytest.raises(ApiError) as exc_info:
        DECODER.balance(make_response({"oops": True}, 404))
    assert type(exc_info.value) is ApiError
    assert (exc_info.value.code, exc_info.value.status, exc_info.value.message) == ("unknown", 404, '{"oops": true}')


def test_contract_statuses_determine_ambiguity() -> None:
    contract = Contract(statuses={"insufficient_credits": 400})
    with pytest.raises(ApiError) as exc_info:
        ResponseDecoder(contract).balance(make_response({}, 402))
    assert type(exc_info.value) is ApiError


def test_unknown_error_code_is_named_in_the_message() -> None:
    with pytest.raises(ApiError) as exc_info:
        DECODER.balance(make_response(make_error_body("nested", "too_many_cooks", 418), 418))
    assert type(exc_info.value) is ApiError
    assert str(exc_info.value) == "418 unknown: code 'too_many_cooks': It is so."


@pytest.mark.parametrize("body", [b"<html>Bad Gateway</html>", b"", b"[]", b'"no"', b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("status", [400, 404, 502, 599])
def test_error_that_is_not_a_json_object_raises_invalid_response(body: bytes, status: int) -> None:
    with pytest.raises(InvalidResponse, match=f"status {status}, text/html") as exc_info:
        DECODER.balance(make_response(body, status, [(b"content-type", b"text/html"), (b"retry-after", b"7")]))
    assert (exc_info.value.status, exc_info.value.retry_after_s) == (status, 7)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*FIELD_NAMES, "error", "code", "details"]), inner),
)


@given(body=st.binary() | json_values.map(lambda value: json.dumps(value).encode()), status=st.integers(100, 599))
def test_arbitrary_responses_decode_or_raise_a_known_error(body: bytes, status: int) -> None:
    response = Response(status, body)
    for decode in (DECODER.user, DECODER.balance, DECODER.user_page, DECODER.transaction_page):
        decoded_status = 200
        try:
            decode(response)
        except (ApiError, InvalidResponse) as error:
            decoded_status = error.status
        assert decoded_status == status or 200 <= status < 300
