"""How a refusal looks on the wire, in the contract's three forms."""

import json
from dataclasses import replace
from typing import Any

import pytest

from fake_credits.api.error_bodies import error_cause, error_response
from fake_credits.contract import DEFAULT_CONTRACT
from fake_credits.errors import (
    ERRORS,
    ApiError,
    InvalidToken,
    MethodNotAllowed,
    MissingCredentials,
    Problem,
    UserNotFound,
    ValidationError,
)

DETAILS = ValidationError("delta must not be 0", details=(Problem("delta", "must not be 0"),))


def body(form: Any, error: ApiError) -> Any:
    return json.loads(error_response(replace(DEFAULT_CONTRACT, error_body=form), error, "req_1").body)


def test_the_default_form_is_nested() -> None:
    assert body("nested", DETAILS) == {
        "error": {
            "code": "validation_error",
            "message": "delta must not be 0",
            "requestId": "req_1",
            "details": [{"field": "delta", "problem": "must not be 0"}],
        }
    }
    assert body("nested", UserNotFound("none")) == {
        "error": {"code": "user_not_found", "message": "none", "requestId": "req_1"}
    }


def test_a_problem_is_rfc_9457s() -> None:
    answer = error_response(replace(DEFAULT_CONTRACT, error_body="problem"), DETAILS, "req_1")
    assert answer.media_type == b"application/problem+json"
    assert json.loads(answer.body) == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "delta must not be 0",
        "code": "validation_error",
        "requestId": "req_1",
        "details": [{"field": "delta", "problem": "must not be 0"}],
    }


def test_a_flat_body_has_code_and_message() -> None:
    assert body("flat", DETAILS) == {"code": "validation_error", "message": "delta must not be 0"}


@pytest.mark.parametrize("code", ERRORS)
@pytest.mark.parametrize("form", ["nested", "problem", "flat"])
def test_every_code_can_be_rendered(code: str, form: Any) -> None:
    error = ERRORS[code]("why")
    answer = error_response(replace(DEFAULT_CONTRACT, error_body=form), error, "req_1")
    assert answer.status == error.default_status
    assert code.encode() in answer.body
    headers = dict(answer.headers)
    assert headers[b"x-fake-credits-cause"]
    assert (b"www-authenticate" in headers) == (answer.status == 401)
    assert (b"allow" in headers) == (answer.status == 405)


@pytest.mark.parametrize("status", [400, 403, 409, 422, 429, 599])
def test_a_status_can_be_another(status: int) -> None:
    contract = replace(DEFAULT_CONTRACT, statuses={"insufficient_credits": status}, error_body="problem")
    answer = error_response(contract, ERRORS["insufficient_credits"]("no"), "req_1")
    assert answer.status == json.loads(answer.body)["status"] == status


def test_a_code_that_is_made_a_401_bears_a_challenge() -> None:
    """RFC 9110, section 15.5.2: a 401 has a challenge."""
    answer = error_response(replace(DEFAULT_CONTRACT, statuses={"forbidden": 401}), ERRORS["forbidden"]("no"), "req_1")
    assert dict(answer.headers)[b"www-authenticate"].startswith(b"Bearer ")


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (MissingCredentials("x", auth_reason="empty"), "auth:empty"),
        (InvalidToken("x", auth_reason="bad_signature"), "auth:bad_signature"),
        (InvalidToken("x"), "auth:invalid_token"),
        (UserNotFound("x"), "domain"),
        (DETAILS, "validation"),
        (MethodNotAllowed("x", allow="GET"), "routing"),
    ],
)
def test_the_cause_says_who_refused(error: ApiError, cause: str) -> None:
    assert error_cause(error) == cause


@pytest.mark.parametrize("message", ["ü", "日本", '"quoted"', "a\nb", "\u2028", "</script>"])
def test_any_message_is_json(message: str) -> None:
    assert body("nested", UserNotFound(message))["error"]["message"] == message
