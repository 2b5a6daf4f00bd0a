"""CORS on the API (docs/reference/contract.md, row 23): what a browser client may do."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from fake_credits.contract import DEFAULT_CONTRACT, Operation
from fake_credits.fake import ClientMode, FakeCredits
from fake_credits.http_message import Headers, Request
from fake_credits.transports.shared_resources import SharedResources
from tests.api.conftest import APP, GRANT, Api, ApiResponse, Field, assert_error

ORIGIN = "https://app.example"
ORIGIN_HEADER: Field = (b"origin", ORIGIN.encode())
REQUEST_METHOD_HEADER: Field = (b"access-control-request-method", b"GET")


@pytest.fixture
def api_with_ada(api: Api) -> Api:
    api.credits.user("ada", balance=5)
    return api


def preflight(api: Api, operation: Operation = Operation.GET_BALANCE, headers: Headers | None = None) -> ApiResponse:
    return api.send(
        Request(
            "OPTIONS", api.path(operation), [ORIGIN_HEADER, REQUEST_METHOD_HEADER] if headers is None else headers, b""
        )
    )


def cors_headers(response: ApiResponse) -> dict[str, str]:
    return {name: value for name, value in response.headers if name.startswith("access-control-")}


@pytest.mark.parametrize("operation", list(Operation))
def test_preflight_allows_get_from_any_origin_with_token_headers(api_with_ada: Api, operation: Operation) -> None:
    """Any origin may send GET requests with `Authorization` and `Content-Type`, but not with the API key."""
    response = preflight(api_with_ada, operation)
    assert (response.status, response.body) == (204, b"")
    assert cors_headers(response) == {
        "access-control-allow-origin": "*",
        "access-control-allow-methods": "GET",
        "access-control-allow-headers": "Authorization, Content-Type",
        "access-control-max-age": "600",
    }
    assert response.header("content-length") is None
    assert response.header("x-request-id")
    assert response.header("cache-control") == "no-store"


@pytest.mark.parametrize("requested_headers", [b"x-api-key", b"X-API-Key, authorization", b"*"])
@pytest.mark.parametrize("method", [b"GET", b"POST", b"PUT", b"DELETE"])
def test_preflight_never_allows_api_key_or_writes(api_with_ada: Api, requested_headers: bytes, method: bytes) -> None:
    headers = [
        ORIGIN_HEADER,
        (b"access-control-request-method", method),
        (b"access-control-request-headers", requested_headers),
    ]
    allowed = cors_headers(preflight(api_with_ada, headers=headers))
    assert "api-key" not in allowed["access-control-allow-headers"].lower()
    assert "*" not in allowed["access-control-allow-headers"]
    assert allowed["access-control-allow-methods"] == "GET"


def test_preflight_needs_no_credentials_and_is_not_journaled(api_with_ada: Api) -> None:
    for headers in (
        [ORIGIN_HEADER, REQUEST_METHOD_HEADER],
        [ORIGIN_HEADER, REQUEST_METHOD_HEADER, *api_with_ada.as_server],
        [ORIGIN_HEADER, REQUEST_METHOD_HEADER, (b"x-api-key", b"wrong")],
    ):
        assert preflight(api_with_ada, headers=headers).status == 204
    assert len(api_with_ada.credits.journal) == 0
    assert api_with_ada.credits.journal.in_flight == 0


def test_preflight_of_unknown_path_is_answered(api_with_ada: Api) -> None:
    """The browser then sends the actual request, and the script can read the 404 with the nearest route."""
    assert api_with_ada.send(Request("OPTIONS", b"/nothing", [ORIGIN_HEADER, REQUEST_METHOD_HEADER], b"")).status == 204
    response = api_with_ada.send(Request("GET", b"/nothing", [ORIGIN_HEADER], b""))
    assert_error(response, "route_not_found")
    assert cors_headers(response)["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("headers", [[], [ORIGIN_HEADER], [REQUEST_METHOD_HEADER]])
def test_options_without_preflight_headers_is_rejected_with_405(api_with_ada: Api, headers: Headers) -> None:
    assert_error(preflight(api_with_ada, headers=headers), "method_not_allowed")
    assert len(api_with_ada.credits.journal) == 1


EXPOSED_CORS_HEADERS = {
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "X-Request-Id, X-Fake-Credits-Cause, Retry-After",
}


@pytest.mark.parametrize(
    ("operation", "user", "credentials", "status"),
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
def test_success_and_error_responses_expose_headers_to_scripts(
    api_with_ada: Api, operation: Operation, user: str, credentials: str, status: int
) -> None:
    """X-Request-Id, X-Fake-Credits-Cause and Retry-After are exposed, even on error responses."""
    body = GRANT if operation is Operation.CREATE_TRANSACTION else b""
    response = api_with_ada.call(
        operation,
        user,
        credentials=api_with_ada.as_user(credentials) if credentials else [],
        headers=[ORIGIN_HEADER],
        body=body,
    )
    assert response.status == status
    assert cors_headers(response) == EXPOSED_CORS_HEADERS


@pytest.mark.parametrize("origin", [b"null", b"http://localhost:3000", b"https://a.b.c:8443", b"chrome-extension://x"])
def test_any_origin_is_allowed_by_default(api_with_ada: Api, origin: bytes) -> None:
    response = api_with_ada.call(
        Operation.GET_BALANCE, credentials=api_with_ada.as_user(), headers=[(b"origin", origin)]
    )
    assert cors_headers(response) == EXPOSED_CORS_HEADERS
    assert response.header("vary") is None


def test_requests_without_origin_get_no_cors_headers(api_with_ada: Api) -> None:
    assert cors_headers(api_with_ada.call(Operation.GET_BALANCE)) == {}
    assert cors_headers(api_with_ada.call(Operation.GET_BALANCE, "nobody")) == {}
    assert cors_headers(api_with_ada.call(Operation.GET_BALANCE, headers=[(b"origin", b"")])) == {}


def test_allow_credentials_header_is_never_sent(api_with_ada: Api) -> None:
    """The API uses no cookies, and the header is not allowed together with the origin `*`."""
    for response in (
        preflight(api_with_ada),
        api_with_ada.call(Operation.GET_BALANCE, credentials=api_with_ada.as_user(), headers=[ORIGIN_HEADER]),
    ):
        assert response.header("access-control-allow-credentials") is None


@pytest.mark.parametrize("path", ["/_fake/livez", "/_fake/nothing"])
def test_fake_paths_reject_preflight(api_with_ada: Api, path: str) -> None:
    response = api_with_ada.send(Request("OPTIONS", path.encode(), [ORIGIN_HEADER, REQUEST_METHOD_HEADER], b""))
    assert response.status in (404, 405)


# ---------------------------------------------------------------- CORS disabled or limited to a list of origins


@pytest.fixture
def api_with_two_origins(mode: ClientMode, shared: SharedResources) -> Iterator[Api]:
    """Yield a client for a sandbox whose contract allows two origins."""
    contract = replace(DEFAULT_CONTRACT, cors_origins=(ORIGIN, "http://localhost:3000"))
    with FakeCredits(mode=mode, shared=shared, contract=contract, users={"ada": 5}) as fake:
        yield Api(fake, mode, shared)


def test_listed_origin_is_echoed_with_vary_header(api_with_two_origins: Api) -> None:
    for origin in (ORIGIN, "http://localhost:3000"):
        origin_header = (b"origin", origin.encode())
        for response in (
            preflight(api_with_two_origins, headers=[origin_header, REQUEST_METHOD_HEADER]),
            api_with_two_origins.call(Operation.GET_BALANCE, headers=[origin_header]),
        ):
            assert response.header("access-control-allow-origin") == origin
            assert response.header("vary") == "Origin"


@pytest.mark.parametrize(
    "origin", ["https://app.example.evil", "http://app.example", "https://APP.example", "null", "*"]
)
def test_unlisted_origin_gets_no_cors_headers(api_with_two_origins: Api, origin: str) -> None:
    origin_header = (b"origin", origin.encode())
    response = preflight(api_with_two_origins, headers=[origin_header, REQUEST_METHOD_HEADER])
    assert_error(response, "method_not_allowed")
    assert cors_headers(response) == {}
    assert cors_headers(api_with_two_origins.call(Operation.GET_BALANCE, headers=[origin_header])) == {}


def test_cors_can_be_disabled(mode: ClientMode, shared: SharedResources) -> None:
    with FakeCredits(
        mode=mode, shared=shared, contract=replace(DEFAULT_CONTRACT, cors_origins=()), users={"ada": 5}
    ) as fake:
        api = Api(fake, mode, shared)
        response = preflight(api)
        assert_error(response, "method_not_allowed")
        assert cors_headers(response) == {}
        response = api.call(Operation.GET_BALANCE, credentials=api.as_user(), headers=[ORIGIN_HEADER])
        assert (response.status, cors_headers(response)) == (200, {})


def test_preflight_allows_custom_token_header(shared: SharedResources) -> None:
    from fake_credits.contract import CredentialHeader

    contract = replace(DEFAULT_CONTRACT, user_token=CredentialHeader("X-User-Token"))
    with FakeCredits(shared=shared, contract=contract) as fake:
        response = preflight(Api(fake, "in-process", shared))
        assert response.header("access-control-allow-headers") == "X-User-Token, Content-Type"


def test_app_is_the_default_application() -> None:
    assert APP == "app-id"
