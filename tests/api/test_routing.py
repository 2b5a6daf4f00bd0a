"""Routing: matching a request line to an operation."""

import difflib
import string
from dataclasses import replace
from urllib.parse import quote

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_credits.api.routing import RouteMatch, RouteTable, escape_path
from fake_credits.contract import DEFAULT_CONTRACT, Operation, RouteTemplate
from fake_credits.errors import ApiError, MalformedRequest, MethodNotAllowed, RouteNotFound
from fake_credits.http_message import HTTP_METHODS

TABLE = RouteTable(DEFAULT_CONTRACT)
IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda text: text not in (".", "..")
)


@given(application=IDS, user=IDS, operation=st.sampled_from(Operation))
def test_encoded_ids_are_decoded_exactly(application: str, user: str, operation: Operation) -> None:
    route = DEFAULT_CONTRACT.routes[operation]
    path = route.path.replace("{applicationId}", quote(application, safe="")).replace("{userId}", quote(user, safe=""))
    user_id = user if "{userId}" in route.path else ""
    assert TABLE.match(route.method, path.encode())[:3] == (operation, application, user_id)


@given(raw_path=st.binary(max_size=60), method=st.sampled_from(sorted(HTTP_METHODS)) | st.text(max_size=8))
def test_arbitrary_request_line_is_matched_or_rejected(raw_path: bytes, method: str) -> None:
    outcome = match_or_error(method, raw_path)
    assert isinstance(outcome, RouteMatch | MalformedRequest | RouteNotFound | MethodNotAllowed)
    assert isinstance(outcome, RouteMatch) or outcome.message.isprintable()


def match_or_error(method: str, raw_path: bytes) -> RouteMatch | ApiError:
    try:
        return TABLE.match(method, raw_path)
    except ApiError as error:
        return error


@pytest.mark.parametrize(
    ("method", "path", "nearest"),
    [
        ("POST", b"/v1/applications/app-id/users/ada/transaction", "createTransaction"),
        ("GET", b"/v1/applications/app-id/users/ada/balances", "getBalance"),
        ("GET", b"/v1/applications/app-id/user", "listUsers"),
        ("GET", b"/v1/apps/app-id/users/ada", "getUser: "),
        ("PUT", b"/v1/apps/app-id/users/ada", "createUser: "),
        ("GET", b"/applications/app-id/users/ada/balance", "add the prefix /v1 to call getBalance"),
        ("GET", b"/v1/applications/app-id/users/ada/balance/", "remove the trailing slash to call getBalance"),
        ("PUT", b"/v1/applications/app-id/users/ada/", "remove the trailing slash to call createUser"),
    ],
)
def test_unknown_path_error_names_nearest_route(method: str, path: bytes, nearest: str) -> None:
    with pytest.raises(RouteNotFound) as caught:
        TABLE.match(method, path)
    assert nearest in caught.value.message
    assert path.decode() in caught.value.message


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        (b"/v1/applications/a/users/u", "GET, HEAD, PUT"),
        (b"/v1/applications/a/users", "GET, HEAD"),
        (b"/v1/applications/a/users/u/balance", "GET, HEAD"),
        (b"/v1/applications/a/users/u/transactions", "GET, HEAD, POST"),
    ],
)
def test_wrong_method_error_names_allowed_methods(path: bytes, allow: str) -> None:
    with pytest.raises(MethodNotAllowed) as caught:
        TABLE.match("DELETE", path)
    assert caught.value.allow == allow
    assert allow in caught.value.message


class _ParserCallbacks:
    """Callbacks for the httptools parser that record whether the headers are complete."""

    def __init__(self) -> None:
        self.complete = False

    def on_headers_complete(self) -> None:
        self.complete = True


def is_parsed(method: str) -> bool:
    callbacks = _ParserCallbacks()
    target = "localhost:80" if method == "CONNECT" else "/"
    try:
        httptools.HttpRequestParser(callbacks).feed_data(f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    except httptools.HttpParserUpgrade:
        return True
    except httptools.HttpParserError:
        return False
    return callbacks.complete


# Methods that a parser may or may not accept: from IANA's registry, RTSP and ICAP, and misspellings.
CANDIDATES = sorted(
    HTTP_METHODS
    | {"BASELINE-CONTROL", "CHECKIN", "LABEL", "MKREDIRECTREF", "MKWORKSPACE", "ORDERPATCH", "PRI", "UPDATE"}
    | {"UPDATEREDIRECTREF", "UNCHECKOUT", "VERSION-CONTROL", "DESCRIBE", "ANNOUNCE", "SETUP", "PLAY", "PAUSE"}
    | {"TEARDOWN", "GET_PARAMETER", "SET_PARAMETER", "REDIRECT", "RECORD", "FLUSH", "REQMOD", "RESPMOD", "BREW"}
    | {"FOO", "get", "Get", "GETS", "G", "QUERIES", *string.ascii_uppercase}
)


@pytest.mark.parametrize("method", CANDIDATES)
def test_http_methods_match_those_of_live_server_parser(method: str) -> None:
    assert is_parsed(method) == (method in HTTP_METHODS)


def test_custom_routes_replace_default_routes() -> None:
    balance = RouteTemplate("POST", "/rpc/{applicationId}/balance-of/{userId}")
    table = RouteTable(replace(DEFAULT_CONTRACT, routes={**DEFAULT_CONTRACT.routes, Operation.GET_BALANCE: balance}))
    assert table.match("POST", b"/rpc/a/balance-of/b%20c")[:3] == (Operation.GET_BALANCE, "a", "b c")
    assert table.match("GET", b"/v1/applications/a/users/b").operation is Operation.GET_USER


@pytest.mark.parametrize(
    "path", [b"/" + b"users/" * 10_000, b"/v1/applications/" + b"applications" * 5_000, b"/" * 60_000]
)
def test_nearest_route_search_is_bounded_for_long_paths(monkeypatch: pytest.MonkeyPatch, path: bytes) -> None:
    """The comparison is quadratic, so the amount of text compared is limited."""
    compared: list[int] = []

    class RecordingMatcher(difflib.SequenceMatcher[str]):
        def __init__(self, isjunk: None, a: str, b: str) -> None:
            compared.append(max(len(a), len(b)))
            super().__init__(isjunk, a, b)

    monkeypatch.setattr(difflib, "SequenceMatcher", RecordingMatcher)
    with pytest.raises(RouteNotFound):
        TABLE.match("GET", path)
    assert max(compared) < 2_000


@given(st.binary(max_size=400))
def test_escaped_path_is_short_and_printable(raw_path: bytes) -> None:
    escaped = escape_path(raw_path)
    assert len(escaped) <= 201
    assert escaped.isprintable()
    assert escaped.rstrip("…").isascii()
