"""Access to the control plane: the token header, origins, hosts, routes and strict JSON bodies."""

import inspect
import re
import socket
from pathlib import Path

import pytest

from fake_credits.control import app, handlers, inputs, routes
from fake_credits.control.app import ControlPlane
from fake_credits.control.routes import CONTROL_ROUTES
from fake_credits.control_schemas import TOKEN_HEADER
from fake_credits.errors import CONTROL_ERRORS
from tests.control.conftest import CONTROL_TOKEN, ControlSession

HANDLERS = [
    function
    for name, function in inspect.getmembers(handlers, inspect.isfunction)
    if function.__module__ == handlers.__name__ and not name.startswith("_")
]


def test_every_handler_has_one_route_with_a_summary() -> None:
    assert {handler.__name__ for handler in HANDLERS} == {route.endpoint.__name__ for route in CONTROL_ROUTES}
    assert len(HANDLERS) == len(CONTROL_ROUTES)
    assert len({(route.method, route.path) for route in CONTROL_ROUTES}) == len(CONTROL_ROUTES)
    assert all(re.match(r"[A-Z].*\.$", handler.__doc__ or "", re.MULTILINE) for handler in HANDLERS)


def test_control_errors_table_lists_exactly_the_raised_codes() -> None:
    """The four codes added here come from modules shared with the API: paths, bodies, JSON and the ledger."""
    sources = [Path(str(module.__file__)).read_text() for module in (app, handlers, inputs, routes)]
    raised = {code for text in sources for code in re.findall(r'ControlError\(\s*"(\w+)"', text)}
    assert raised | {"malformed_request", "payload_too_large", "malformed_json", "user_not_found"} == set(
        CONTROL_ERRORS
    )


def test_internal_error_returns_500_and_is_reported_as_problem(
    control: ControlSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = control.create_sandbox()

    def raise_key_error() -> None:
        raise KeyError("oops")

    monkeypatch.setattr(control.find_sandbox(sandbox.info["name"]), "reset", raise_key_error)
    response = sandbox.request("POST", "/reset")
    assert (response.status, response.code) == (500, "internal_error")
    (bug,) = control.server.sandboxes.base_sandbox.bugs
    assert isinstance(bug, KeyError)
    assert control.request_json("GET", "/sandboxes/default/problems")["problems"] == [
        "a bug in fake-credits caused a 500 response: KeyError('oops')"
    ]
    control.server.sandboxes.base_sandbox.bugs.clear()


@pytest.mark.parametrize("token", [None, "", "wrong", CONTROL_TOKEN + "x", CONTROL_TOKEN[:-1], "é"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/sandboxes"), ("DELETE", "/sandboxes/s1"), ("GET", "/presets")])
def test_missing_or_wrong_control_token_returns_401(
    control: ControlSession, method: str, path: str, token: str | None
) -> None:
    headers = [] if token is None else [(TOKEN_HEADER.encode(), token.encode("latin-1"))]
    response = control.http.request(method, f"/_fake{path}", headers=headers)
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "control_token_required"
    assert response.headers["www-authenticate"] == TOKEN_HEADER
    assert CONTROL_TOKEN not in response.text


def test_repeated_control_token_header_returns_401(control: ControlSession) -> None:
    headers = [(TOKEN_HEADER, CONTROL_TOKEN), (TOKEN_HEADER, CONTROL_TOKEN)]
    assert control.http.get("/_fake/sandboxes", headers=headers).status_code == 401


def test_api_key_and_bearer_token_do_not_authenticate_control_requests(control: ControlSession) -> None:
    sandbox = control.create_sandbox()
    for headers in ({"X-API-Key": sandbox.info["api_key"]}, {"Authorization": f"Bearer {CONTROL_TOKEN}"}):
        assert control.http.get("/_fake/sandboxes", headers=headers).status_code == 401


def test_health_and_openapi_endpoints_need_no_token(control: ControlSession) -> None:
    for path in ("livez", "readyz", "openapi.json"):
        assert control.http.get(f"/_fake/{path}").status_code == 200


def test_generated_control_token_is_random_and_hidden_from_repr(control: ControlSession) -> None:
    first, second = (
        ControlPlane(control.server.sandboxes, lambda _: control.server.sandboxes.base_sandbox) for _ in range(2)
    )
    assert first.token != second.token
    assert len(first.token) > 32
    assert first.token not in repr(first)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1", ""])
def test_foreign_origin_returns_403_even_with_valid_token(control: ControlSession, origin: str) -> None:
    response = control.request("GET", "/sandboxes", Origin=origin)
    assert (response.status, response.code) == (403, "origin_not_allowed")
    assert not any(name.startswith("access-control") for name in response.headers)


def test_same_origin_is_allowed_without_cors_headers(control: ControlSession) -> None:
    response = control.request("GET", "/sandboxes", Origin=control.base_url)
    assert response.status == 200
    assert not any(name.startswith("access-control") for name in response.headers)


def test_preflight_request_returns_405_without_cors_headers(control: ControlSession) -> None:
    response = control.http.options(
        "/_fake/sandboxes", headers={"Origin": "https://x.test", "Access-Control-Request-Method": "POST"}
    )
    assert response.status_code == 405
    assert not any(name.startswith("access-control") for name in response.headers)


def test_foreign_host_header_returns_421(control: ControlSession) -> None:
    assert (
        control.http.get("/_fake/sandboxes", headers={"Host": "evil.example", TOKEN_HEADER: CONTROL_TOKEN}).status_code
        == 421
    )


@pytest.mark.parametrize(
    ("method", "path", "code", "allow"),
    [
        ("GET", "/sandboxes/", "route_not_found", None),
        ("GET", "/sandboxes/s1/nothing", "route_not_found", None),
        ("GET", "/presets/flaky", "route_not_found", None),
        ("GET", "/sandboxes/s1/users/", "route_not_found", None),
        ("GET", "/sandboxes/s1/users/%ff", "malformed_request", None),
        ("GET", "/sandboxes/s1/users/%zz", "malformed_request", None),
        ("GET", "/sandboxes/nobody", "sandbox_not_found", None),
        ("GET", "/sandboxes/s1/gates/none", "gate_not_found", None),
        ("GET", "/sandboxes/s1/faults/none", "rule_not_found", None),
        ("PATCH", "/sandboxes/s1", "method_not_allowed", "DELETE, GET"),
        ("PUT", "/sandboxes", "method_not_allowed", "GET, POST"),
        ("HEAD", "/presets", "method_not_allowed", "GET"),
    ],
)
def test_unknown_resources_and_methods_return_their_error_code(
    control: ControlSession, method: str, path: str, code: str, allow: str | None
) -> None:
    headers = {TOKEN_HEADER: CONTROL_TOKEN}
    response = control.http.request(method, f"/_fake{path}", headers=headers)
    assert response.status_code == CONTROL_ERRORS[code][0]
    assert response.headers.get("allow") == allow
    assert response.headers["x-fake-credits-cause"] == "control"
    if method != "HEAD":
        assert response.json()["error"]["code"] == code


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("{", "malformed_json"),
        ("[" * 100_000, "malformed_json"),
        ('{"seed": 1, "seed": 2}', "malformed_json"),
        ('{"seed": NaN}', "malformed_json"),
        ('{"seed": ' + "9" * 5000 + "}", "malformed_json"),
        ('{"user_id": "\\ud800"}', "malformed_json"),
        (b"\xff", "malformed_json"),
        ("[]", "validation_error"),
        ("null", "validation_error"),
        ("5", "validation_error"),
        ('{"": 1}', "validation_error"),
        ("x" * (1024 * 1024 + 1), "payload_too_large"),
    ],
)
def test_body_that_is_not_a_strict_json_object_is_rejected(
    control: ControlSession, body: str | bytes, code: str
) -> None:
    response = control.request("POST", "/sandboxes", body)
    assert (response.status, response.code) == (CONTROL_ERRORS[code][0], code)


@pytest.mark.parametrize(
    ("body", "field", "problem"),
    [
        ('{"seed": 1e30}', "seed", "must be an integer or null, got 1e+30"),
        ('{"gate_timeout_s": 1e999}', "gate_timeout_s", "must be a number of seconds from 0.001 to 3600"),
        ('{"users": {"ada": -9223372036854775808}}', "", "the balance of 'ada' must be from 0 to 9007199254740991"),
        ('{"faults": [{"effect": "reset", "nth": 1e30}]}', "", "faults, entry 1: nth is 1e+30: it must be an integer"),
        ('{"nosuch": {"a": ' * 300 + "1e30" + "}}" * 300, "nosuch", "is not allowed here"),
    ],
)
def test_huge_number_is_rejected_with_its_field(control: ControlSession, body: str, field: str, problem: str) -> None:
    """Such a number is valid JSON (RFC 8259, section 6), so the code is not malformed_json."""
    response = control.request("POST", "/sandboxes", body)
    assert (response.status, response.code) == (400, "validation_error")
    assert response.details[0]["field"] == field
    assert response.details[0]["problem"].startswith(problem)


@pytest.mark.parametrize(
    ("method", "path", "body", "problem"),
    [
        ("PUT", "/users/ada", {"balance": "5"}, 'must be an integer or null, got "5"'),
        ("PUT", "/users/ada", {"application_id": ""}, 'must be a string of length >= 1, got ""'),
        ("POST", "/tokens", {"user_id": False}, "must be a string or null, got false"),
        ("POST", "/tokens", {"expires_in_s": 0}, "must be an integer >= 1, got 0"),
        ("POST", "/tokens", {"clock": "moon"}, 'must be "sandbox" or "wall", got "moon"'),
        ("POST", "/tokens", {"claims": [1]}, "must be an object, got [1]"),
        ("POST", "/gates/last/release", {"keep": None}, "must be true or false, got null"),
        ("POST", "/gates/last/release", {"order": {}}, "must be an array, got {}"),
        ("POST", "/gates/last/release", {"order": [True]}, "must be an integer or a string"),
        ("POST", "/gates/last/wait", {"limit_s": "1"}, 'must be a number or null, got "1"'),
        ("POST", "/gates/last/wait", {"limit": 1}, "is not allowed here; allowed: count, limit_s"),
        (
            "POST",
            "/clock/travel",
            {"to": "soon"},
            "'soon' is not an ISO 8601 date and time, such as 2030-01-01T00",
        ),
        (
            "POST",
            "/clock/travel",
            {"to": "2030-01-01T00:00:00"},
            "has no time zone: add one, as in 2030",
        ),
        ("POST", "/clock/travel", {"to": 5}, "must be a string, got 5"),
        ("POST", "/clock/travel", {}, "is missing"),
        ("GET", "/journal?status=ok", None, 'must be an integer or null, got "ok"'),
        ("GET", "/journal?committed=maybe", None, 'must be true or false or null, got "maybe"'),
    ],
)
def test_problem_is_described_in_json_terms(
    control: ControlSession, method: str, path: str, body: object, problem: str
) -> None:
    response = control.request(method, f"/sandboxes/s1{path}", body)
    assert (response.status, response.code) == (400, "validation_error")
    assert problem in response.details[0]["problem"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonp"])
def test_body_without_json_content_type_returns_415(control: ControlSession, content_type: str) -> None:
    response = control.request("POST", "/sandboxes", "{}", **{"Content-Type": content_type})
    assert (response.status, response.code) == (415, "unsupported_media_type")


def test_route_without_parameters_rejects_body_and_query(control: ControlSession) -> None:
    for method, path in (("GET", "/sandboxes"), ("POST", "/sandboxes/s1/clock/settle"), ("GET", "/presets")):
        assert control.request(method, path, {"x": 1}).code == "validation_error"
        assert control.request(method, f"{path}?x=1").code == "validation_error"


def test_chunked_body_is_read_up_to_the_size_limit(control: ControlSession) -> None:
    headers = {TOKEN_HEADER: CONTROL_TOKEN, "Content-Type": "application/json"}
    response = control.http.post("/_fake/sandboxes", content=iter([b'{"seed"', b": 5}"]), headers=headers)
    assert response.json()["seed"] == 5
    endless = (b" " * 65536 for _ in range(40))
    with control.http.stream("POST", "/_fake/sandboxes", content=endless, headers=headers) as too_large:
        assert too_large.status_code == 413


def test_control_requests_ignore_faults_and_are_not_journaled(control: ControlSession) -> None:
    sandbox = control.create_sandbox(faults=["outage"], latency=60_000)
    sandbox.request_json("POST", "/faults", {"effect": "hang"})
    assert sandbox.request_json("GET", "/journal")["total"] == 0
    sandbox.request_json("DELETE", "/faults")
    assert sandbox.request_json("GET", "") == {key: sandbox.info[key] for key in sandbox.info if key != "user_token"}


def test_client_disconnect_during_body_creates_no_sandbox(control: ControlSession) -> None:
    host, port = control.base_url.removeprefix("http://").split(":")
    head = (
        f"POST /_fake/sandboxes HTTP/1.1\r\nHost: localhost\r\n{TOKEN_HEADER}: {CONTROL_TOKEN}\r\n"
        "Content-Length: 9\r\n\r\n{"
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode())
    assert len(control.request_json("GET", "/sandboxes")["sandboxes"]) == 1
