"""When a request fails two checks, the one that the docs ("Contract") list first wins, and nothing is written.

Host → route → method → body size → credential → permission (scope before user) → ids and body → domain.
"""

from dataclasses import replace

import pytest

from fake_credits.contract import DEFAULT_CONTRACT, MAX_BODY_BYTES, Contract, Operation
from fake_credits.fake import FakeCredits
from fake_credits.http_message import Headers, Request
from fake_credits.transports.shared_resources import SharedResources
from tests.api.conftest import GRANT, JSON, Api, Field, assert_error

USER = b"/v1/applications/app-id/users/ada"
UNKNOWN_USER = b"/v1/applications/app-id/users/nobody"
TEXT_PLAIN: Field = (b"content-type", b"text/plain")
FOREIGN_HOST: Field = (b"host", b"example.com")
OVERSIZED_BODY = b"x" * (MAX_BODY_BYTES + 1)


@pytest.fixture
def api_with_ada(api: Api) -> Api:
    api.credits.user("ada", balance=5)
    return api


def credentials_of(api: Api, name: str) -> Headers:
    if name in ("ada", "bob"):
        return api.as_user(name)
    credentials: dict[str, Headers] = {
        "server": api.as_server,
        "nobody": [],
        "both": [*api.as_server, *api.as_user("ada")],
        "wrong key": [(b"x-api-key", b"wrong")],
        "expired": api.as_token(api.credits.token("ada", bad="expired")),
        "forged": api.as_token(api.credits.token("bob", bad="tampered")),
    }
    return credentials[name]


# (winner, loser, method, target, credential, more headers, body)
CASES: list[tuple[str, str, str, bytes, str, Headers, bytes]] = [
    # path before route
    ("malformed_request", "route_not_found", "GET", b"/v1/%zz/nothing", "server", [], b""),
    ("malformed_request", "missing_credentials", "GET", USER + b"%zz", "nobody", [], b""),
    ("malformed_request", "method_not_allowed", "DELETE", USER + b"%zz", "server", [], b""),
    ("malformed_request", "payload_too_large", "POST", b"/%zz", "server", [JSON], OVERSIZED_BODY),
    # route before the rest
    ("route_not_found", "method_not_allowed", "DELETE", b"/nothing", "server", [], b""),
    ("route_not_found", "payload_too_large", "POST", b"/nothing", "server", [JSON], OVERSIZED_BODY),
    ("route_not_found", "missing_credentials", "GET", b"/nothing", "nobody", [], b""),
    ("route_not_found", "ambiguous_credentials", "GET", b"/nothing", "both", [], b""),
    ("route_not_found", "malformed_json", "POST", b"/nothing", "server", [JSON], b"{"),
    # method before the rest
    ("method_not_allowed", "payload_too_large", "PATCH", USER, "server", [JSON], OVERSIZED_BODY),
    ("method_not_allowed", "missing_credentials", "DELETE", USER, "nobody", [], b""),
    ("method_not_allowed", "ambiguous_credentials", "DELETE", USER, "both", [], b""),
    ("method_not_allowed", "token_expired", "DELETE", USER, "expired", [], b""),
    ("method_not_allowed", "insufficient_scope", "DELETE", USER, "ada", [], b""),
    ("method_not_allowed", "user_not_found", "DELETE", UNKNOWN_USER, "server", [], b""),
    ("method_not_allowed", "validation_error", "DELETE", b"/v1/applications/app-id/users/%00", "server", [], b""),
    # the size of the body before the credential
    ("payload_too_large", "missing_credentials", "POST", USER + b"/transactions", "nobody", [JSON], OVERSIZED_BODY),
    ("payload_too_large", "ambiguous_credentials", "POST", USER + b"/transactions", "both", [JSON], OVERSIZED_BODY),
    ("payload_too_large", "insufficient_scope", "POST", USER + b"/transactions", "ada", [JSON], OVERSIZED_BODY),
    (
        "payload_too_large",
        "unsupported_media_type",
        "POST",
        USER + b"/transactions",
        "server",
        [TEXT_PLAIN],
        OVERSIZED_BODY,
    ),
    ("payload_too_large", "user_not_found", "POST", UNKNOWN_USER + b"/transactions", "server", [JSON], OVERSIZED_BODY),
    (
        "payload_too_large",
        "validation_error",
        "GET",
        b"/v1/applications/app-id/users/%00",
        "server",
        [JSON],
        OVERSIZED_BODY,
    ),
    # the credential before permission, body and domain
    ("missing_credentials", "validation_error", "GET", b"/v1/applications/app-id/users/%00", "nobody", [], b""),
    ("missing_credentials", "user_not_found", "GET", UNKNOWN_USER, "nobody", [], b""),
    ("missing_credentials", "malformed_json", "POST", USER + b"/transactions", "nobody", [JSON], b"{"),
    ("missing_credentials", "unsupported_media_type", "POST", USER + b"/transactions", "nobody", [TEXT_PLAIN], GRANT),
    ("missing_credentials", "invalid_cursor", "GET", USER + b"/transactions?cursor=x", "nobody", [], b""),
    ("ambiguous_credentials", "malformed_json", "POST", USER + b"/transactions", "both", [JSON], b"{"),
    ("ambiguous_credentials", "user_not_found", "GET", UNKNOWN_USER, "both", [], b""),
    ("invalid_api_key", "user_not_found", "GET", UNKNOWN_USER, "wrong key", [], b""),
    ("invalid_api_key", "validation_error", "POST", USER + b"/transactions", "wrong key", [JSON], b"{}"),
    ("token_expired", "forbidden", "GET", UNKNOWN_USER, "expired", [], b""),
    ("token_expired", "insufficient_scope", "POST", USER + b"/transactions", "expired", [JSON], GRANT),
    ("token_expired", "insufficient_scope", "GET", b"/v1/applications/app-id/users", "expired", [], b""),
    ("invalid_token", "forbidden", "GET", USER, "forged", [], b""),
    ("invalid_token", "insufficient_scope", "PUT", USER, "forged", [], b""),
    # scope before the user, both before the user's existence
    ("insufficient_scope", "forbidden", "PUT", USER, "bob", [], b""),
    ("insufficient_scope", "forbidden", "POST", USER + b"/transactions", "bob", [JSON], GRANT),
    ("insufficient_scope", "user_not_found", "POST", UNKNOWN_USER + b"/transactions", "ada", [JSON], GRANT),
    ("insufficient_scope", "malformed_json", "POST", USER + b"/transactions", "ada", [JSON], b"{"),
    ("insufficient_scope", "unsupported_media_type", "POST", USER + b"/transactions", "ada", [TEXT_PLAIN], GRANT),
    ("insufficient_scope", "invalid_cursor", "GET", b"/v1/applications/app-id/users?cursor=x", "ada", [], b""),
    ("insufficient_scope", "validation_error", "PUT", b"/v1/applications/app-id/users/%00", "ada", [], b""),
    ("forbidden", "user_not_found", "GET", UNKNOWN_USER, "ada", [], b""),
    ("forbidden", "user_not_found", "GET", UNKNOWN_USER + b"/balance", "ada", [], b""),
    ("forbidden", "invalid_cursor", "GET", USER + b"/transactions?cursor=x", "bob", [], b""),
    ("forbidden", "validation_error", "GET", b"/v1/applications/app-id/users/%00", "ada", [], b""),
    # body and ids before the domain
    ("unsupported_media_type", "malformed_json", "POST", USER + b"/transactions", "server", [TEXT_PLAIN], b"{"),
    (
        "unsupported_media_type",
        "user_not_found",
        "POST",
        UNKNOWN_USER + b"/transactions",
        "server",
        [TEXT_PLAIN],
        GRANT,
    ),
    ("malformed_json", "user_not_found", "POST", UNKNOWN_USER + b"/transactions", "server", [JSON], b"{"),
    ("malformed_json", "validation_error", "POST", USER + b"/transactions", "server", [JSON], b'{"a":1,"a":1}'),
    ("validation_error", "user_not_found", "POST", UNKNOWN_USER + b"/transactions", "server", [JSON], b"{}"),
    (
        "validation_error",
        "user_not_found",
        "POST",
        UNKNOWN_USER + b"/transactions",
        "server",
        [JSON],
        GRANT.replace(b"1", b"-1"),
    ),
    ("invalid_cursor", "user_not_found", "GET", UNKNOWN_USER + b"/transactions?cursor=x", "server", [], b""),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} over {case[1]}: {case[2]} as {case[4]}")
def test_earlier_check_wins(api_with_ada: Api, case: tuple[str, str, str, bytes, str, Headers, bytes]) -> None:
    winner, _, method, target, caller, headers, body = case
    before = api_with_ada.state()
    assert_error(
        api_with_ada.send(Request(method, target, [*credentials_of(api_with_ada, caller), *headers], body)), winner
    )
    assert api_with_ada.state() == before
    assert [entry.committed for entry in api_with_ada.credits.journal] == [False]


@pytest.mark.parametrize(
    ("method", "target", "caller"),
    [
        ("GET", b"/nothing", "server"),
        ("GET", b"/%zz", "server"),
        ("DELETE", USER, "server"),
        ("GET", USER, "nobody"),
        ("OPTIONS", USER, "nobody"),
        ("GET", b"/_fake/nothing", "nobody"),
    ],
)
def test_host_check_comes_first(live_api: Api, method: str, target: bytes, caller: str) -> None:
    """On the live server, a wrong Host is reported before any other error, even for a preflight."""
    headers = [
        FOREIGN_HOST,
        *credentials_of(live_api, caller),
        (b"origin", b"https://x.test"),
        (b"access-control-request-method", b"GET"),
    ]
    assert_error(live_api.send(Request(method, target, headers, b"")), "host_not_allowed")


@pytest.mark.parametrize("body", [b'{"delta":-6,"reason":"consume"}', b'{"delta":6,"reason":"consume"}'])
def test_amount_rules_are_checked_before_balance(api_with_ada: Api, body: bytes) -> None:
    code = "validation_error" if b"-" not in body else "insufficient_credits"
    assert_error(api_with_ada.call(Operation.CREATE_TRANSACTION, body=body), code)


@pytest.mark.parametrize("mode", ["in-process"])
@pytest.mark.parametrize("operation", list(Operation))
def test_application_check_comes_after_credentials_and_body(
    shared: SharedResources, mode: str, operation: Operation
) -> None:
    """Only authorized callers get 404 application_not_found."""
    contract: Contract = replace(DEFAULT_CONTRACT, applications=("app-id",))
    with FakeCredits(shared=shared, contract=contract) as fake:
        api = Api(fake, "in-process", shared)
        body = GRANT if operation is Operation.CREATE_TRANSACTION else b""
        assert_error(api.call(operation, app="other", credentials=[], body=body), "missing_credentials")
        as_user = api.call(operation, app="other", credentials=api.as_user("bob"), body=body)
        assert_error(as_user, "insufficient_scope" if operation.requires_api_key else "forbidden")
        assert_error(api.call(operation, app="other", body=body), "application_not_found")
        assert api.state() == {}


def test_every_error_code_in_cases_exists() -> None:
    from fake_credits.errors import ERRORS

    assert {code for case in CASES for code in case[:2]} <= set(ERRORS)
