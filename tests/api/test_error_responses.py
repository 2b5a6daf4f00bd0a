"""Error responses in the three forms of the contract."""

import json
from dataclasses import replace
from typing import Any

import pytest

from fake_credits.api.codec import error_cause, error_response
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

VALIDATION_ERROR = ValidationError("delta must not be 0", details=(Problem("delta", "must not be 0"),))


def error_body(form: Any, error: ApiError) -> Any:
    return json.loads(error_response(replace(DEFAULT_CONTRACT, error_body=form), error, "req_1").body)


def test_default_error_body_is_nested() -> None:
    assert error_body("nested", VALIDATION_ERROR) == {
        "error": {
            "code": "validation_error",
            "message": "delta must not be 0",
            "requestId": "req_1",
            "details": [{"field": "delta", "problem": "must not be 0"}],
        }
    }
    assert error_body("nested", UserNotFound("none")) == {
        "error": {"code": "user_not_found", "message": "none", "requestId": "req_1"}
    }


def test_problem_error_body_follows_rfc_9457() -> None:
    response = error_response(replace(DEFAULT_CONTRACT, error_body="problem"), VALIDATION_ERROR, "req_1")
    assert response.media_type == b"application/problem+json"
    assert json.loads(response.body) == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "delta must not be 0",
        "code": "validation_error",
        "requestId": "req_1",
        "details": [{"field": "delta", "problem": "must not be 0"}],
    }


def test_flat_error_body_has_code_and_message() -> None:
    assert error_body("flat", VALIDATION_ERROR) == {"code": "validation_error", "message": "delta must not be 0"}


@pytest.mark.parametrize("code", ERRORS)
@pytest.mark.parametrize("form", ["nested", "problem", "flat"])
def test_every_error_code_renders_in_every_form(code: str, form: Any) -> None:
    error = ERRORS[code]("why")
    response = error_response(replace(DEFAULT_CONTRACT, error_body=form), error, "req_1")
    assert response.status == error.default_status
    assert code.encode() in response.body
    headers = dict(response.headers)
    assert headers[b"x-fake-credits-cause"]
    assert (b"www-authenticate" in headers) == (response.status == 401)
    assert (b"allow" in headers) == (response.status == 405)


@pytest.mark.parametrize("status", [400, 403, 409, 422, 429, 599])
def test_error_status_can_be_overridden(status: int) -> None:
    contract = replace(DEFAULT_CONTRACT, statuses={"insufficient_credits": status}, error_body="problem")
    response = error_response(contract, ERRORS["insufficient_credits"]("no"), "req_1")
    assert response.status == json.loads(response.body)["status"] == status


def test_error_code_remapped_to_401_has_challenge() -> None:
    """RFC 9110, section 15.5.2, requires a challenge in every 401 response."""
    response = error_response(
        replace(DEFAULT_CONTRACT, statuses={"forbidden": 401}), ERRORS["forbidden"]("no"), "req_1"
    )
    assert dict(response.headers)[b"www-authenticate"].startswith(b"Bearer ")


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (MissingCredentials("x", auth_reason="empty"), "auth:empty"),
        (InvalidToken("x", auth_reason="bad_signature"), "auth:bad_signature"),
        (InvalidToken("x"), "auth:invalid_token"),
        (UserNotFound("x"), "domain"),
        (VALIDATION_ERROR, "validation"),
        (MethodNotAllowed("x", allow="GET"), "routing"),
    ],
)
def test_error_cause_names_the_rejecting_stage(error: ApiError, cause: str) -> None:
    assert error_cause(error) == cause


@pytest.mark.parametrize("message", ["ü", "日本", '"quoted"', "a\nb", "\u2028", "</script>"])
def test_error_message_is_valid_json(message: str) -> None:
    assert error_body("nested", UserNotFound(message))["error"]["message"] == message
