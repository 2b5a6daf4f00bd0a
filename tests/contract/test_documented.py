"""What checks the answers of the behavioural tests: it must find what is not described."""

import json

import pytest

from fake_credits.contract import DEFAULT_CONTRACT
from fake_credits.http_message import Response
from tests.contract.documented import Documented

BALANCE = "/v1/applications/app-id/users/ada/balance"
HEADERS = [(b"x-request-id", b"r"), (b"cache-control", b"no-store"), (b"content-type", b"application/json")]
CAUSE = (b"x-fake-credits-cause", b"domain")
ERROR = {"error": {"code": "user_not_found", "message": "none", "requestId": "r"}}


def answer(status: int, body: object, *more: tuple[bytes, bytes]) -> Response:
    return Response(status, json.dumps(body).encode(), [*HEADERS, *more])


@pytest.mark.parametrize("good", [answer(200, {"balance": 5}), answer(404, ERROR, CAUSE)])
def test_an_answer_as_described_passes(good: Response) -> None:
    Documented(DEFAULT_CONTRACT).check("GET", BALANCE, good)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (answer(201, {"balance": 5}), "is not described"),
        (answer(200, {"balance": 5, "extra": 1}), "'extra' was unexpected"),
        (answer(200, {"balance": "5"}), "is not of type 'integer'"),
        (answer(200, {"balance": -1}), "less than the minimum"),
        (answer(200, {"balance": 5}, (b"x-other", b"1")), "x-other.* not described"),
        (answer(200, {"balance": 5}, HEADERS[0]), "a header twice"),
        (Response(200, b'{"balance":5}', HEADERS[1:]), "lacks .*x-request-id"),
        (answer(404, ERROR), "lacks .*x-fake-credits-cause"),
        (answer(404, {"error": {**ERROR["error"], "code": "forbidden"}}, CAUSE), "'forbidden' is not one of"),
        (answer(404, {"error": {**ERROR["error"], "extra": 1}}, CAUSE), "'extra' was unexpected"),
        (answer(401, {"error": {**ERROR["error"], "code": "invalid_token"}}, CAUSE), "lacks .*www-authenticate"),
        (Response(200, b'{"balance":5}', HEADERS[:2]), "200"),
    ],
)
def test_an_answer_that_is_not_described_is_found(bad: Response, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        Documented(DEFAULT_CONTRACT).check("GET", BALANCE, bad)


def test_a_time_that_is_none_is_found() -> None:
    user = {"applicationId": "a", "userId": "u", "createdAt": "2026-03-01T12:30:15.678"}
    with pytest.raises(AssertionError, match="is not a 'date-time'"):
        Documented(DEFAULT_CONTRACT).check("GET", BALANCE.removesuffix("/balance"), answer(200, user))
