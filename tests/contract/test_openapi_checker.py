"""The tests' OpenAPI checker detects undocumented responses."""

import json

import pytest

from fake_credits.contract import DEFAULT_CONTRACT
from fake_credits.http_message import Response
from tests.contract.openapi_checker import OpenApiChecker

BALANCE = "/v1/applications/app-id/users/ada/balance"
HEADERS = [(b"x-request-id", b"r"), (b"cache-control", b"no-store"), (b"content-type", b"application/json")]
CAUSE = (b"x-fake-credits-cause", b"domain")
ERROR = {"error": {"code": "user_not_found", "message": "none", "requestId": "r"}}


def json_response(status: int, body: object, *more: tuple[bytes, bytes]) -> Response:
    return Response(status, json.dumps(body).encode(), [*HEADERS, *more])


@pytest.mark.parametrize("response", [json_response(200, {"balance": 5}), json_response(404, ERROR, CAUSE)])
def test_documented_response_passes(response: Response) -> None:
    OpenApiChecker(DEFAULT_CONTRACT).check("GET", BALANCE, response)


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (json_response(201, {"balance": 5}), "is not described"),
        (json_response(200, {"balance": 5, "extra": 1}), "'extra' was unexpected"),
        (json_response(200, {"balance": "5"}), "is not of type 'integer'"),
        (json_response(200, {"balance": -1}), "less than the minimum"),
        (json_response(200, {"balance": 5}, (b"x-other", b"1")), "x-other.* not described"),
        (json_response(200, {"balance": 5}, HEADERS[0]), "a header twice"),
        (Response(200, b'{"balance":5}', HEADERS[1:]), "lacks .*x-request-id"),
        (json_response(404, ERROR), "lacks .*x-fake-credits-cause"),
        (
            json_response(404, {"error": {**ERROR["error"], "code": "forbidden"}}, CAUSE),
            "a code that is not described.*'forbidden'",
        ),
        (json_response(404, {"error": {**ERROR["error"], "extra": 1}}, CAUSE), "'extra' was unexpected"),
        (json_response(401, {"error": {**ERROR["error"], "code": "invalid_token"}}, CAUSE), "lacks .*www-authenticate"),
        (Response(200, b'{"balance":5}', HEADERS[:2]), "200"),
    ],
)
def test_undocumented_response_fails(response: Response, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        OpenApiChecker(DEFAULT_CONTRACT).check("GET", BALANCE, response)


def test_date_time_without_time_zone_fails() -> None:
    user = {"applicationId": "a", "userId": "u", "createdAt": "2026-03-01T12:30:15.678"}
    with pytest.raises(AssertionError, match="is not a 'date-time'"):
        OpenApiChecker(DEFAULT_CONTRACT).check("GET", BALANCE.removesuffix("/balance"), json_response(200, user))
