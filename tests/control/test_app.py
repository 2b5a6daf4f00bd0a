"""Who may ask the control plane, and how: a token in a header of its own, no foreign page, strict JSON."""

import re
import socket
from pathlib import Path

import pytest

from fake_credits.control import app, handlers, request, routes, schemas
from fake_credits.control.app import MAX_CONTROL_BODY_BYTES, TOKEN_HEADER, ControlPlane
from fake_credits.control.routes import CONTROL_ROUTES
from fake_credits.errors import CONTROL_ERRORS
from tests.control.conftest import TOKEN, Asker

VERBS = {name: getattr(handlers, name) for name in handlers.__all__}


def test_every_verb_has_a_route_a_sentence_and_stands_in_the_table_once() -> None:
    used = [route.handler or route.async_handler for route in CONTROL_ROUTES]
    assert sorted(VERBS) == sorted(each.__name__ for each in used if each is not None)
    assert len({(route.method, route.path) for route in CONTROL_ROUTES}) == len(CONTROL_ROUTES) == len(used)
    assert all(re.fullmatch(r"[A-Z].*\.", route.summary) for route in CONTROL_ROUTES)


def test_every_code_of_the_table_is_given_somewhere_and_no_other() -> None:
    """The first three come from what the control plane shares with the API: paths, JSON and the ledger."""
    sources = [Path(str(module.__file__)).read_text() for module in (app, handlers, request, routes, schemas)]
    given = {code for text in sources for code in re.findall(r'ControlError\(\s*"(\w+)"', text)}
    assert given | {"malformed_request", "malformed_json", "user_not_found"} == set(CONTROL_ERRORS)


def test_a_bug_of_ours_is_told_and_kept(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    made = asker.make()

    def broken() -> None:
        raise KeyError("oops")

    monkeypatch.setattr(asker.sandbox(made.info["name"]), "reset", broken)
    got = made.ask("POST", "/reset")
    assert (got.status, got.code) == (500, "internal_error")
    (bug,) = asker.server.sandboxes.base_sandbox.bugs
    assert isinstance(bug, KeyError)
    assert asker.told("GET", "/sandboxes/default/problems")["problems"] == [
        "a bug of fake-credits answered 500: KeyError('oops')"
    ]
    asker.server.sandboxes.base_sandbox.bugs.clear()


@pytest.mark.parametrize("sent", [None, "", "wrong", TOKEN + "x", TOKEN[:-1], "é"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/sandboxes"), ("DELETE", "/sandboxes/s1"), ("GET", "/presets")])
def test_without_the_token_nothing_is_told(asker: Asker, method: str, path: str, sent: str | None) -> None:
    headers = [] if sent is None else [(TOKEN_HEADER.encode(), sent.encode("latin-1"))]
    answer = asker.http.request(method, f"/_fake{path}", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "control_token_required"
    assert answer.headers["www-authenticate"] == TOKEN_HEADER
    assert TOKEN not in answer.text


def test_a_token_twice_is_none(asker: Asker) -> None:
    headers = [(TOKEN_HEADER, TOKEN), (TOKEN_HEADER, TOKEN)]
    assert asker.http.get("/_fake/sandboxes", headers=headers).status_code == 401


def test_neither_the_apis_key_nor_its_token_opens_it(asker: Asker) -> None:
    made = asker.make()
    for headers in ({"X-API-Key": made.info["api_key"]}, {"Authorization": f"Bearer {TOKEN}"}):
        assert asker.http.get("/_fake/sandboxes", headers=headers).status_code == 401


def test_health_and_the_openapi_document_are_open(asker: Asker) -> None:
    for path in ("livez", "readyz", "openapi.json"):
        assert asker.http.get(f"/_fake/{path}").status_code == 200


def test_a_token_is_fresh_and_long_unless_given(asker: Asker) -> None:
    first, second = (
        ControlPlane(asker.server.sandboxes, lambda _: asker.server.sandboxes.base_sandbox) for _ in range(2)
    )
    assert first.token != second.token
    assert len(first.token) > 32
    assert first.token not in repr(first)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1", ""])
def test_a_page_of_another_origin_is_refused_with_the_token_too(asker: Asker, origin: str) -> None:
    got = asker.ask("GET", "/sandboxes", Origin=origin)
    assert (got.status, got.code) == (403, "origin_not_allowed")
    assert not any(name.startswith("access-control") for name in got.headers)


def test_its_own_origin_may_ask_but_gets_no_cors(asker: Asker) -> None:
    got = asker.ask("GET", "/sandboxes", Origin=asker.base_url)
    assert got.status == 200
    assert not any(name.startswith("access-control") for name in got.headers)


def test_a_preflight_is_no_verb(asker: Asker) -> None:
    answer = asker.http.options(
        "/_fake/sandboxes", headers={"Origin": "https://x.test", "Access-Control-Request-Method": "POST"}
    )
    assert answer.status_code == 405
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_another_host_is_refused(asker: Asker) -> None:
    assert asker.http.get("/_fake/sandboxes", headers={"Host": "evil.example", TOKEN_HEADER: TOKEN}).status_code == 421


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
def test_what_is_not_there_is_said_so(asker: Asker, method: str, path: str, code: str, allow: str | None) -> None:
    headers = {TOKEN_HEADER: TOKEN}
    answer = asker.http.request(method, f"/_fake{path}", headers=headers)
    assert answer.status_code == CONTROL_ERRORS[code][0]
    assert answer.headers.get("allow") == allow
    assert answer.headers["x-fake-credits-cause"] == "control"
    if method != "HEAD":
        assert answer.json()["error"]["code"] == code


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("{", "malformed_json"),
        ("[" * 100_000, "malformed_json"),
        ('{"seed": 1, "seed": 2}', "malformed_json"),
        ('{"seed": NaN}', "malformed_json"),
        ('{"user_id": "\\ud800"}', "malformed_json"),
        (b"\xff", "malformed_json"),
        ("[]", "validation_error"),
        ("null", "validation_error"),
        ("5", "validation_error"),
        ('{"": 1}', "validation_error"),
        ("x" * (MAX_CONTROL_BODY_BYTES + 1), "payload_too_large"),
    ],
)
def test_a_body_that_is_no_object_of_strict_json_is_refused(asker: Asker, body: str | bytes, code: str) -> None:
    got = asker.ask("POST", "/sandboxes", body)
    assert (got.status, got.code) == (CONTROL_ERRORS[code][0], code)


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ('{"seed": 99999999999999999999}', "seed", "99999999999999999999"),
        ('{"seed": ' + "9" * 5000 + "}", "seed", "9" * 40 + "..."),
        ('{"gate_timeout_s": 1e999}', "gate_timeout_s", "1e999"),
        ('{"users": {"ada": -9223372036854775808}}', "users.ada", "-9223372036854775808"),
        ('{"faults": [{"effect": "reset", "nth": 1e30}]}', "faults[0].nth", "1e30"),
        ('{"nosuch": {"a": ' * 300 + "1e30" + "}}" * 300, "nosuch.a" + ".nosuch.a" * 299, "1e30"),
    ],
)
def test_a_number_of_more_than_64_bits_is_refused_by_its_member(asker: Asker, body: str, field: str, said: str) -> None:
    """It is JSON (RFC 8259, section 6), so the body is not malformed."""
    got = asker.ask("POST", "/sandboxes", body)
    assert (got.status, got.code) == (400, "validation_error")
    assert got.details == [{"field": field, "problem": f"is {said}, but a number has at most 64 bits here"}]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonp"])
def test_a_body_must_say_that_it_is_json(asker: Asker, kind: str) -> None:
    got = asker.ask("POST", "/sandboxes", "{}", **{"Content-Type": kind})
    assert (got.status, got.code) == (415, "unsupported_media_type")


def test_a_verb_without_words_takes_none(asker: Asker) -> None:
    for method, path in (("GET", "/sandboxes"), ("POST", "/sandboxes/s1/clock/settle"), ("GET", "/presets")):
        assert asker.ask(method, path, {"x": 1}).code == "validation_error"
        assert asker.ask(method, f"{path}?x=1").code == "validation_error"


def test_a_body_in_chunks_is_read_to_its_end_and_no_further_than_the_limit(asker: Asker) -> None:
    headers = {TOKEN_HEADER: TOKEN, "Content-Type": "application/json"}
    answer = asker.http.post("/_fake/sandboxes", content=iter([b'{"seed"', b": 5}"]), headers=headers)
    assert answer.json()["seed"] == 5
    endless = (b" " * 65536 for _ in range(40))
    with asker.http.stream("POST", "/_fake/sandboxes", content=endless, headers=headers) as refused:
        assert refused.status_code == 413


def test_no_fault_touches_it_and_no_call_to_it_is_an_exchange(asker: Asker) -> None:
    made = asker.make(faults=["outage"], latency=60_000)
    made.told("POST", "/faults", {"effect": "hang"})
    assert made.told("GET", "/journal")["total"] == 0
    made.told("DELETE", "/faults")
    assert made.told("GET", "") == {key: made.info[key] for key in made.info if key != "user_token"}


def test_a_client_that_hangs_up_in_its_body_leaves_nothing(asker: Asker) -> None:
    host, port = asker.base_url.removeprefix("http://").split(":")
    head = (
        f"POST /_fake/sandboxes HTTP/1.1\r\nHost: localhost\r\n{TOKEN_HEADER}: {TOKEN}\r\nContent-Length: 9\r\n\r\n{{"
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode())
    assert len(asker.told("GET", "/sandboxes")["sandboxes"]) == 1
