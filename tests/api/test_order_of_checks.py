"""Two violations at once: the earlier check of README, "The API", wins, and nothing is written.

Host → route → method → body, bounded → credential → permission (scope before user) → ids and body → domain.
"""

from dataclasses import replace

import pytest

from fake_credits.contract import DEFAULT_CONTRACT, MAX_BODY_BYTES, Contract, Operation
from fake_credits.fake import FakeCredits
from fake_credits.http_message import Headers, Request
from fake_credits.transports.shared_resources import SharedResources
from tests.api.conftest import GRANT, JSON, Api, Field, assert_refused

USER = b"/v1/applications/app-id/users/ada"
NOBODY = b"/v1/applications/app-id/users/nobody"
PLAIN: Field = (b"content-type", b"text/plain")
HOST: Field = (b"host", b"example.com")
BIG = b"x" * (MAX_BODY_BYTES + 1)


@pytest.fixture
def ada(api: Api) -> Api:
    api.credits.user("ada", balance=5)
    return api


def who(api: Api, name: str) -> Headers:
    if name in ("ada", "bob"):
        return api.as_user(name)
    known: dict[str, Headers] = {
        "server": api.as_server,
        "nobody": [],
        "both": [*api.as_server, *api.as_user("ada")],
        "wrong key": [(b"x-api-key", b"wrong")],
        "expired": api.as_token(api.credits.token("ada", bad="expired")),
        "forged": api.as_token(api.credits.token("bob", bad="tampered")),
    }
    return known[name]


# (winner, loser, method, target, who, more headers, body)
PAIRS: list[tuple[str, str, str, bytes, str, Headers, bytes]] = [
    # path before route
    ("malformed_request", "route_not_found", "GET", b"/v1/%zz/nothing", "server", [], b""),
    ("malformed_request", "missing_credentials", "GET", USER + b"%zz", "nobody", [], b""),
    ("malformed_request", "method_not_allowed", "DELETE", USER + b"%zz", "server", [], b""),
    ("malformed_request", "payload_too_large", "POST", b"/%zz", "server", [JSON], BIG),
    # route before the rest
    ("route_not_found", "method_not_allowed", "DELETE", b"/nothing", "server", [], b""),
    ("route_not_found", "payload_too_large", "POST", b"/nothing", "server", [JSON], BIG),
    ("route_not_found", "missing_credentials", "GET", b"/nothing", "nobody", [], b""),
    ("route_not_found", "ambiguous_credentials", "GET", b"/nothing", "both", [], b""),
    ("route_not_found", "malformed_json", "POST", b"/nothing", "server", [JSON], b"{"),
    # method before the rest
    ("method_not_allowed", "payload_too_large", "PATCH", USER, "server", [JSON], BIG),
    ("method_not_allowed", "missing_credentials", "DELETE", USER, "nobody", [], b""),
    ("method_not_allowed", "ambiguous_credentials", "DELETE", USER, "both", [], b""),
    ("method_not_allowed", "token_expired", "DELETE", USER, "expired", [], b""),
    ("method_not_allowed", "insufficient_scope", "DELETE", USER, "ada", [], b""),
    ("method_not_allowed", "user_not_found", "DELETE", NOBODY, "server", [], b""),
    ("method_not_allowed", "validation_error", "DELETE", b"/v1/applications/app-id/users/%00", "server", [], b""),
    # the size of the body before the credential
    ("payload_too_large", "missing_credentials", "POST", USER + b"/transactions", "nobody", [JSON], BIG),
    ("payload_too_large", "ambiguous_credentials", "POST", USER + b"/transactions", "both", [JSON], BIG),
    ("payload_too_large", "insufficient_scope", "POST", USER + b"/transactions", "ada", [JSON], BIG),
    ("payload_too_large", "unsupported_media_type", "POST", USER + b"/transactions", "server", [PLAIN], BIG),
    ("payload_too_large", "user_not_found", "POST", NOBODY + b"/transactions", "server", [JSON], BIG),
    ("payload_too_large", "validation_error", "GET", b"/v1/applications/app-id/users/%00", "server", [JSON], BIG),
    # the credential before permission, body and domain
    ("missing_credentials", "validation_error", "GET", b"/v1/applications/app-id/users/%00", "nobody", [], b""),
    ("missing_credentials", "user_not_found", "GET", NOBODY, "nobody", [], b""),
    ("missing_credentials", "malformed_json", "POST", USER + b"/transactions", "nobody", [JSON], b"{"),
    ("missing_credentials", "unsupported_media_type", "POST", USER + b"/transactions", "nobody", [PLAIN], GRANT),
    ("missing_credentials", "invalid_cursor", "GET", USER + b"/transactions?cursor=x", "nobody", [], b""),
    ("ambiguous_credentials", "malformed_json", "POST", USER + b"/transactions", "both", [JSON], b"{"),
    ("ambiguous_credentials", "user_not_found", "GET", NOBODY, "both", [], b""),
    ("invalid_api_key", "user_not_found", "GET", NOBODY, "wrong key", [], b""),
    ("invalid_api_key", "validation_error", "POST", USER + b"/transactions", "wrong key", [JSON], b"{}"),
    ("token_expired", "forbidden", "GET", NOBODY, "expired", [], b""),
    ("token_expired", "insufficient_scope", "POST", USER + b"/transactions", "expired", [JSON], GRANT),
    ("token_expired", "insufficient_scope", "GET", b"/v1/applications/app-id/users", "expired", [], b""),
    ("invalid_token", "forbidden", "GET", USER, "forged", [], b""),
    ("invalid_token", "insufficient_scope", "PUT", USER, "forged", [], b""),
    # scope before the user, both before existence
    ("insufficient_scope", "forbidden", "PUT", USER, "bob", [], b""),
    ("insufficient_scope", "forbidden", "POST", USER + b"/transactions", "bob", [JSON], GRANT),
    ("insufficient_scope", "user_not_found", "POST", NOBODY + b"/transactions", "ada", [JSON], GRANT),
    ("insufficient_scope", "malformed_json", "POST", USER + b"/transactions", "ada", [JSON], b"{"),
    ("insufficient_scope", "unsupported_media_type", "POST", USER + b"/transactions", "ada", [PLAIN], GRANT),
    ("insufficient_scope", "invalid_cursor", "GET", b"/v1/applications/app-id/users?cursor=x", "ada", [], b""),
    ("insufficient_scope", "validation_error", "PUT", b"/v1/applications/app-id/users/%00", "ada", [], b""),
    ("forbidden", "user_not_found", "GET", NOBODY, "ada", [], b""),
    ("forbidden", "user_not_found", "GET", NOBODY + b"/balance", "ada", [], b""),
    ("forbidden", "invalid_cursor", "GET", USER + b"/transactions?cursor=x", "bob", [], b""),
    ("forbidden", "validation_error", "GET", b"/v1/applications/app-id/users/%00", "ada", [], b""),
    # body and ids before the domain
    ("unsupported_media_type", "malformed_json", "POST", USER + b"/transactions", "server", [PLAIN], b"{"),
    ("unsupported_media_type", "user_not_found", "POST", NOBODY + b"/transactions", "server", [PLAIN], GRANT),
    ("malformed_json", "user_not_found", "POST", NOBODY + b"/transactions", "server", [JSON], b"{"),
    ("malformed_json", "validation_error", "POST", USER + b"/transactions", "server", [JSON], b'{"a":1,"a":1}'),
    ("validation_error", "user_not_found", "POST", NOBODY + b"/transactions", "server", [JSON], b"{}"),
    (
        "validation_error",
        "user_not_found",
        "POST",
        NOBODY + b"/transactions",
        "server",
        [JSON],
        GRANT.replace(b"1", b"-1"),
    ),
    ("invalid_cursor", "user_not_found", "GET", NOBODY + b"/transactions?cursor=x", "server", [], b""),
]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[0]} over {pair[1]}: {pair[2]} as {pair[4]}")
def test_the_earlier_check_wins(ada: Api, pair: tuple[str, str, str, bytes, str, Headers, bytes]) -> None:
    winner, _, method, target, asker, headers, body = pair
    before = ada.state()
    assert_refused(ada.send(Request(method, target, [*who(ada, asker), *headers], body)), winner)
    assert ada.state() == before
    assert [entry.committed for entry in ada.credits.journal] == [False]


@pytest.mark.parametrize(
    ("method", "target", "asker"),
    [
        ("GET", b"/nothing", "server"),
        ("GET", b"/%zz", "server"),
        ("DELETE", USER, "server"),
        ("GET", USER, "nobody"),
        ("OPTIONS", USER, "nobody"),
        ("GET", b"/_fake/nothing", "nobody"),
    ],
)
def test_the_host_comes_first(live: Api, method: str, target: bytes, asker: str) -> None:
    """Host (live only) → route → method → …: a page that rebinds DNS learns nothing, a preflight neither."""
    headers = [HOST, *who(live, asker), (b"origin", b"https://x.test"), (b"access-control-request-method", b"GET")]
    assert_refused(live.send(Request(method, target, headers, b"")), "host_not_allowed")


@pytest.mark.parametrize("body", [b'{"delta":-6,"reason":"consume"}', b'{"delta":6,"reason":"consume"}'])
def test_rules_of_an_amount_come_before_the_balance(ada: Api, body: bytes) -> None:
    code = "validation_error" if b"-" not in body else "insufficient_credits"
    assert_refused(ada.ask(Operation.CREATE_TRANSACTION, body=body), code)


@pytest.mark.parametrize("mode", ["in-process"])
@pytest.mark.parametrize("operation", list(Operation))
def test_a_closed_list_of_applications_comes_after_credential_and_body(
    shared: SharedResources, mode: str, operation: Operation
) -> None:
    """404 application_not_found is of the domain: a stranger and a user of another learn nothing from it."""
    closed: Contract = replace(DEFAULT_CONTRACT, applications=("app-id",))
    with FakeCredits(shared=shared, contract=closed) as fake:
        api = Api(fake, "in-process", shared)
        body = GRANT if operation is Operation.CREATE_TRANSACTION else b""
        assert_refused(api.ask(operation, app="other", who=[], body=body), "missing_credentials")
        as_user = api.ask(operation, app="other", who=api.as_user("bob"), body=body)
        assert_refused(as_user, "insufficient_scope" if operation.requires_api_key else "forbidden")
        assert_refused(api.ask(operation, app="other", body=body), "application_not_found")
        assert api.state() == {}


def test_every_code_of_the_table_is_known() -> None:
    from fake_credits.errors import ERRORS

    assert {code for pair in PAIRS for code in pair[:2]} <= set(ERRORS)
