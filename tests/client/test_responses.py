"""Test that an answer becomes a model, or the error it stands for."""

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

OUTCOME = ResponseDecoder(DEFAULT_CONTRACT)
AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
ADA = {"applicationId": "app-id", "userId": "ada", "createdAt": "2026-01-02T03:04:05.678Z"}
SPENT = {"delta": -10, "reason": "consume", "createdAt": "2026-01-02T03:04:05.678Z"}
FORMS = ("nested", "problem", "flat")


def answer(body: Any, status: int = 200, headers: Headers | None = None) -> Response:
    return Response(status, body if isinstance(body, bytes) else json.dumps(body).encode(), headers or [])


def refusal(form: str, code: str, status: int, **more: Any) -> bytes:
    """Return a refusal's body in one of the contract's three forms (README, "What is a guess", row 18)."""
    if form == "problem":
        problem = {"type": "about:blank", "title": "Refused", "status": status, "detail": "It is so.", "code": code}
        return json.dumps({**problem, **more}).encode()
    members = {"code": code, "message": "It is so.", **more}
    return json.dumps({"error": members} if form == "nested" else members).encode()


def test_success_bodies_become_models() -> None:
    user, spent = User("app-id", "ada", AT), Transaction(-10, Reason.CONSUME, AT)
    assert OUTCOME.user(answer(ADA)) == user
    assert OUTCOME.balance(answer({"balance": 90})) == Balance(90)
    assert OUTCOME.transaction(answer(SPENT, 201), delta=-10, reason="consume") == spent
    assert OUTCOME.user_page(answer({"users": [ADA], "nextCursor": "x"})) == UserPage((user,), "x")
    assert OUTCOME.transaction_page(answer({"transactions": [SPENT]})) == TransactionPage((spent,), None)


@pytest.mark.parametrize("members", [{}, {"nextCursor": None}, {"nextCursor": ""}])
def test_each_way_to_say_the_end_of_a_list_is_none(members: dict[str, Any]) -> None:
    """API README: "nextCursor?: string" (and README, "What is a guess", row 15)."""
    assert OUTCOME.user_page(answer({"users": [], **members})).next_cursor is None
    assert OUTCOME.transaction_page(answer({"transactions": [], **members})).next_cursor is None


def test_members_that_the_contract_does_not_name_are_ignored() -> None:
    assert OUTCOME.balance(answer({"balance": 90, "currency": [{"balance": 1}]})) == Balance(90)


def test_a_reason_that_a_newer_server_invents_stays_text() -> None:
    reason = OUTCOME.transaction(answer(SPENT | {"reason": "gift"}, 201), delta=1, reason="gift").reason
    assert reason == "gift"
    assert not isinstance(reason, Reason)


@pytest.mark.parametrize("body", [b'{"balance":90.0}', b'{"balance":9e1}', b' { "balance" : 90 } '])
def test_a_whole_number_is_an_int_however_it_is_written(body: bytes) -> None:
    balance = OUTCOME.balance(answer(body)).balance
    assert (balance, type(balance)) == (90, int)


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"90", b"{}", b"<html>", b"\xff", b'{"balance":null}', b'{"balance":true}',
     b'{"balance":"90"}', b'{"balance":1.5}', b'{"balance":NaN}', b'{"balance":1e999}', b'{"balance":90',
     b'{"balance":90} x',
     b'{"balance":90,"balance":91}', b'{"balance":90,"balance":90}', b'{"balance":90,"x":{"y":1,"y":2}}',
     b'{"balance":90,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"],
)  # fmt: skip
def test_a_body_that_is_not_as_promised_is_an_invalid_response(body: bytes) -> None:
    with pytest.raises(InvalidResponse) as caught:
        OUTCOME.balance(answer(body, 200, [(b"x-request-id", b"r-1")]))
    assert (caught.value.status, caught.value.request_id) == (200, "r-1")
    assert len(str(caught.value)) < 600


def test_an_invalid_response_quotes_what_was_wrong_and_how_the_body_begins() -> None:
    with pytest.raises(InvalidResponse) as caught:
        OUTCOME.user(answer(ADA | {"userId": 7}, headers=[(b"content-type", b"application/json")]))
    assert str(caught.value) == (
        "unusable answer, status 200, application/json: Expected `str`, got `int` - at `$.userId`; "
        f"it begins {json.dumps(ADA | {'userId': 7})!r}"
    )


@pytest.mark.parametrize("created_at", [None, 7, "", "yesterday", "2026-01-02T03:04:05"])
def test_a_time_that_is_not_of_the_contracts_form_is_an_invalid_response(created_at: Any) -> None:
    with pytest.raises(InvalidResponse):
        OUTCOME.user(answer(ADA | {"createdAt": created_at}))


@pytest.mark.parametrize("status", [101, 204, 301, 302, 304, 307])
def test_a_status_without_the_promised_body_is_an_invalid_response(status: int) -> None:
    with pytest.raises(InvalidResponse, match=f"status {status}"):
        OUTCOME.balance(answer(b"", status))


@pytest.mark.parametrize(
    ("form", "value"),
    [("iso_ms", "2026-01-02T03:04:05.678Z"), ("iso_s", "2026-01-02T03:04:05Z"), ("unix_s", 1767323045),
     ("unix_ms", 1767323045678)],
)  # fmt: skip
def test_created_at_is_read_in_the_contracts_form(form: TimestampFormat, value: str | int) -> None:
    """API README: "createdAt: Date" (and README, "What is a guess", row 20)."""
    created_at = ResponseDecoder(Contract(created_at=form)).user(answer(ADA | {"createdAt": value})).created_at
    assert created_at == (AT if form.endswith("ms") else AT.replace(microsecond=0))


def test_members_are_read_by_the_contracts_names() -> None:
    outcome = ResponseDecoder(
        Contract(field_names={"balance": "credits", "transactions": "items", "nextCursor": "after"})
    )
    assert outcome.balance(answer({"credits": 90})) == Balance(90)
    assert outcome.transaction_page(answer({"items": [SPENT], "after": "x"})).next_cursor == "x"


@pytest.mark.parametrize(
    ("contract", "body"),
    [
        (Contract(created_transaction="id"), SPENT | {"id": "t-1"}),
        (Contract(created_transaction="balance"), SPENT | {"balance": 90}),
        (Contract(created_transaction="wrapped"), {"transaction": SPENT}),
    ],
)
def test_a_created_transaction_is_read_in_the_contracts_form(contract: Contract, body: Any) -> None:
    created = ResponseDecoder(contract).transaction(answer(body, 201), delta=-10, reason="consume")
    assert created == Transaction(-10, Reason.CONSUME, AT)


def test_without_a_body_a_created_transaction_is_the_request_at_the_answers_date() -> None:
    outcome = ResponseDecoder(Contract(created_transaction="empty"))
    dated = answer(b"", 204, [(b"date", b"Fri, 02 Jan 2026 03:04:05 GMT")])
    created = outcome.transaction(dated, delta=-10, reason="consume")
    assert created == Transaction(-10, Reason.CONSUME, AT.replace(microsecond=0))


@pytest.mark.parametrize("headers", [[], [(b"date", b"soon")]])
def test_without_body_and_date_a_created_transaction_is_still_no_error(headers: Headers) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    created = ResponseDecoder(Contract(created_transaction="empty")).transaction(
        answer(b"", 204, headers), delta=1, reason="grant"
    )
    assert created.created_at >= before


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("code", sorted(ERRORS))
def test_every_code_in_every_form_is_its_class(form: Any, code: str) -> None:
    kind = ERRORS[code]
    status = kind.default_status
    body = refusal(form, code, status, requestId="r-1", details=[{"field": "delta", "problem": "is 0"}])
    with pytest.raises(ApiError) as caught:
        ResponseDecoder(Contract(error_body=form)).balance(answer(body, status, [(b"x-request-id", b"r-2")]))
    error = caught.value
    assert type(error) is kind
    assert (error.code, error.status, error.request_id) == (code, status, "r-1")
    assert (error.message, error.details) == ("It is so.", (Problem("delta", "is 0"),))


def test_the_status_is_the_one_that_was_sent() -> None:
    contract = Contract(statuses={"insufficient_credits": 422})
    with pytest.raises(errors.InsufficientCredits) as caught:
        ResponseDecoder(contract).balance(answer(refusal("nested", "insufficient_credits", 422), 422))
    assert caught.value.status == 422


def test_headers_complete_a_refusal() -> None:
    headers = [(b"x-request-id", b"r-2"), (b"x-fake-credits-cause", b"auth:wrong_key")]
    with pytest.raises(errors.InvalidToken) as caught:
        OUTCOME.balance(answer(refusal("nested", "invalid_token", 401), 401, headers))
    assert (caught.value.request_id, caught.value.auth_reason) == ("r-2", "wrong_key")


def test_a_cause_that_is_no_credentials_is_no_why() -> None:
    with pytest.raises(errors.UserNotFound) as caught:
        OUTCOME.balance(answer(refusal("nested", "user_not_found", 404), 404, [(b"x-fake-credits-cause", b"domain")]))
    assert caught.value.auth_reason == ""


def test_a_method_that_is_not_allowed_names_those_that_are() -> None:
    with pytest.raises(errors.MethodNotAllowed) as caught:
        OUTCOME.balance(answer(refusal("nested", "method_not_allowed", 405), 405, [(b"allow", b"GET, HEAD")]))
    assert caught.value.allow == "GET, HEAD"


@pytest.mark.parametrize("body", [{}, {"error": "no"}, {"error": {"code": 7, "details": "x"}}, {"message": "Pay."}])
def test_without_a_code_a_status_that_one_code_alone_has_names_the_class(body: Any) -> None:
    with pytest.raises(errors.InsufficientCredits) as caught:
        OUTCOME.balance(answer(body, 402))
    assert caught.value.message == json.dumps(body)


def test_without_a_code_a_status_that_several_codes_share_is_the_plain_error() -> None:
    with pytest.raises(ApiError) as caught:
        OUTCOME.balance(answer({"oops": True}, 404))
    assert type(caught.value) is ApiError
    assert (caught.value.code, caught.value.status, caught.value.message) == ("unknown", 404, '{"oops": true}')


def test_the_contracts_statuses_decide_which_are_shared() -> None:
    contract = Contract(statuses={"insufficient_credits": 400})
    with pytest.raises(ApiError) as caught:
        ResponseDecoder(contract).balance(answer({}, 402))
    assert type(caught.value) is ApiError


def test_an_unknown_code_is_told_in_the_message() -> None:
    with pytest.raises(ApiError) as caught:
        OUTCOME.balance(answer(refusal("nested", "too_many_cooks", 418), 418))
    assert type(caught.value) is ApiError
    assert str(caught.value) == "418 unknown: code 'too_many_cooks': It is so."


@pytest.mark.parametrize("body", [b"<html>Bad Gateway</html>", b"", b"[]", b'"no"', b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("status", [400, 404, 502, 599])
def test_a_refusal_that_is_no_json_object_is_an_invalid_response(body: bytes, status: int) -> None:
    with pytest.raises(InvalidResponse, match=f"status {status}, text/html") as caught:
        OUTCOME.balance(answer(body, status, [(b"content-type", b"text/html")]))
    assert caught.value.status == status


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*FIELD_NAMES, "error", "code", "details"]), inner),
)


@given(body=st.binary() | values.map(lambda value: json.dumps(value).encode()), status=st.integers(100, 599))
def test_whatever_comes_is_a_model_or_an_error_of_the_tree(body: bytes, status: int) -> None:
    odd = Response(status, body)
    for read in (OUTCOME.user, OUTCOME.balance, OUTCOME.user_page, OUTCOME.transaction_page):
        seen = 200
        try:
            read(odd)
        except (ApiError, InvalidResponse) as error:
            seen = error.status
        assert seen == status or 200 <= status < 300
