"""CORS on the API (README, "What is a guess", row 23): what the API README's browser client may do, and no more."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from fake_credits.contract import DEFAULT_CONTRACT, Operation
from fake_credits.fake import ClientMode, FakeCredits
from fake_credits.http_message import Headers, Request
from fake_credits.transports.shared_resources import SharedResources
from tests.api.conftest import APP, GRANT, Api, Field, Got, assert_refused

ORIGIN = "https://app.example"
FROM: Field = (b"origin", ORIGIN.encode())
ASKS: Field = (b"access-control-request-method", b"GET")


@pytest.fixture
def ada(api: Api) -> Api:
    api.credits.user("ada", balance=5)
    return api


def preflight(api: Api, operation: Operation = Operation.GET_BALANCE, headers: Headers | None = None) -> Got:
    return api.send(Request("OPTIONS", api.path(operation), [FROM, ASKS] if headers is None else headers, b""))


def cors_headers(got: Got) -> dict[str, str]:
    return {name: value for name, value in got.headers if name.startswith("access-control-")}


@pytest.mark.parametrize("operation", list(Operation))
def test_a_preflight_allows_get_with_authorization_and_content_type_from_any_origin(
    ada: Api, operation: Operation
) -> None:
    """Any origin, GET, headers `Authorization` and `Content-Type`, never the API key."""
    got = preflight(ada, operation)
    assert (got.status, got.body) == (204, b"")
    assert cors_headers(got) == {
        "access-control-allow-origin": "*",
        "access-control-allow-methods": "GET",
        "access-control-allow-headers": "Authorization, Content-Type",
        "access-control-max-age": "600",
    }
    assert got.header("content-length") is None
    assert got.header("x-request-id")
    assert got.header("cache-control") == "no-store"


@pytest.mark.parametrize("wanted", [b"x-api-key", b"X-API-Key, authorization", b"*"])
@pytest.mark.parametrize("method", [b"GET", b"POST", b"PUT", b"DELETE"])
def test_no_preflight_ever_allows_the_api_key_or_a_write(ada: Api, wanted: bytes, method: bytes) -> None:
    """The browser compares what is allowed with what it wants; the answer names neither key nor write."""
    asks = [FROM, (b"access-control-request-method", method), (b"access-control-request-headers", wanted)]
    allowed = cors_headers(preflight(ada, headers=asks))
    assert "api-key" not in allowed["access-control-allow-headers"].lower()
    assert "*" not in allowed["access-control-allow-headers"]
    assert allowed["access-control-allow-methods"] == "GET"


def test_a_preflight_is_answered_before_credentials_and_is_no_exchange(ada: Api) -> None:
    for headers in ([FROM, ASKS], [FROM, ASKS, *ada.as_server], [FROM, ASKS, (b"x-api-key", b"wrong")]):
        assert preflight(ada, headers=headers).status == 204
    assert len(ada.credits.journal) == 0
    assert ada.credits.journal.in_flight == 0


def test_a_preflight_of_an_unknown_path_is_answered_too(ada: Api) -> None:
    """The browser then sends the request itself, and its script reads the 404 with the nearest route."""
    assert ada.send(Request("OPTIONS", b"/nothing", [FROM, ASKS], b"")).status == 204
    got = ada.send(Request("GET", b"/nothing", [FROM], b""))
    assert_refused(got, "route_not_found")
    assert cors_headers(got)["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("headers", [[], [FROM], [ASKS]])
def test_an_options_that_is_no_preflight_is_405(ada: Api, headers: Headers) -> None:
    assert_refused(preflight(ada, headers=headers), "method_not_allowed")
    assert len(ada.credits.journal) == 1


EXPOSED = {
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "X-Request-Id, X-Fake-Credits-Cause, Retry-After",
}


@pytest.mark.parametrize(
    ("operation", "user", "who", "status"),
    [
        (Operation.GET_BALANCE, "ada", "ada", 200),
        (Operation.GET_USER, "ada", "ada", 200),
        (Operation.LIST_TRANSACTIONS, "ada", "ada", 200),
        (Operation.GET_BALANCE, "bob", "ada", 403),
        (Operation.CREATE_TRANSACTION, "ada", "ada", 403),
        (Operation.LIST_USERS, "ada", "ada", 403),
        (Operation.GET_BALANCE, "carol", "carol", 404),
        (Operation.GET_BALANCE, "ada", "", 401),
    ],
)
def test_answers_and_refusals_can_be_read_by_a_script(
    ada: Api, operation: Operation, user: str, who: str, status: int
) -> None:
    """X-Request-Id, X-Fake-Credits-Cause and Retry-After are exposed, on refusals too."""
    body = GRANT if operation is Operation.CREATE_TRANSACTION else b""
    got = ada.ask(operation, user, who=ada.as_user(who) if who else [], headers=[FROM], body=body)
    assert got.status == status
    assert cors_headers(got) == EXPOSED


@pytest.mark.parametrize("origin", [b"null", b"http://localhost:3000", b"https://a.b.c:8443", b"chrome-extension://x"])
def test_any_origin_is_any_origin(ada: Api, origin: bytes) -> None:
    got = ada.ask(Operation.GET_BALANCE, who=ada.as_user(), headers=[(b"origin", origin)])
    assert cors_headers(got) == EXPOSED
    assert got.header("vary") is None


def test_who_is_no_browser_gets_no_such_headers(ada: Api) -> None:
    assert cors_headers(ada.ask(Operation.GET_BALANCE)) == {}
    assert cors_headers(ada.ask(Operation.GET_BALANCE, "nobody")) == {}
    assert cors_headers(ada.ask(Operation.GET_BALANCE, headers=[(b"origin", b"")])) == {}


def test_credentials_mode_is_never_allowed(ada: Api) -> None:
    """Cookies play no part: `Access-Control-Allow-Credentials` would turn any origin into a promise to all."""
    for got in (preflight(ada), ada.ask(Operation.GET_BALANCE, who=ada.as_user(), headers=[FROM])):
        assert got.header("access-control-allow-credentials") is None


@pytest.mark.parametrize("path", ["/_fake/livez", "/_fake/nothing"])
def test_the_fakes_own_paths_have_no_preflight(ada: Api, path: str) -> None:
    got = ada.send(Request("OPTIONS", path.encode(), [FROM, ASKS], b""))
    assert got.status in (404, 405)


# ---------------------------------------------------------------- off, and a list


@pytest.fixture
def listed(mode: ClientMode, shared: SharedResources) -> Iterator[Api]:
    """Yield an API that lists two origins."""
    contract = replace(DEFAULT_CONTRACT, cors_origins=(ORIGIN, "http://localhost:3000"))
    with FakeCredits(mode=mode, shared=shared, contract=contract, users={"ada": 5}) as fake:
        yield Api(fake, mode, shared)


def test_a_listed_origin_is_named_and_caches_are_told(listed: Api) -> None:
    for origin in (ORIGIN, "http://localhost:3000"):
        sent = (b"origin", origin.encode())
        for got in (preflight(listed, headers=[sent, ASKS]), listed.ask(Operation.GET_BALANCE, headers=[sent])):
            assert got.header("access-control-allow-origin") == origin
            assert got.header("vary") == "Origin"


@pytest.mark.parametrize(
    "origin", ["https://app.example.evil", "http://app.example", "https://APP.example", "null", "*"]
)
def test_another_origin_gets_nothing(listed: Api, origin: str) -> None:
    sent = (b"origin", origin.encode())
    got = preflight(listed, headers=[sent, ASKS])
    assert_refused(got, "method_not_allowed")
    assert cors_headers(got) == {}
    assert cors_headers(listed.ask(Operation.GET_BALANCE, headers=[sent])) == {}


def test_cors_can_be_off(mode: ClientMode, shared: SharedResources) -> None:
    with FakeCredits(
        mode=mode, shared=shared, contract=replace(DEFAULT_CONTRACT, cors_origins=()), users={"ada": 5}
    ) as fake:
        api = Api(fake, mode, shared)
        got = preflight(api)
        assert_refused(got, "method_not_allowed")
        assert cors_headers(got) == {}
        answered = api.ask(Operation.GET_BALANCE, who=api.as_user(), headers=[FROM])
        assert (answered.status, cors_headers(answered)) == (200, {})


def test_a_contract_with_another_token_header_allows_that_one(shared: SharedResources) -> None:
    from fake_credits.contract import CredentialHeader

    contract = replace(DEFAULT_CONTRACT, user_token=CredentialHeader("X-User-Token"))
    with FakeCredits(shared=shared, contract=contract) as fake:
        got = preflight(Api(fake, "in-process", shared))
        assert got.header("access-control-allow-headers") == "X-User-Token, Content-Type"


def test_app_is_the_default_application() -> None:
    assert APP == "app-id"
