"""Bad input gets a contract error response, leaves the ledger unchanged, and does not affect the next request."""

import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fake_credits.clock import monotonic_s
from fake_credits.contract import MAX_BODY_BYTES, Operation
from fake_credits.fake import FakeCredits
from fake_credits.http_message import HTTP_METHODS, Headers, Request
from fake_credits.tokens.bad_tokens import BAD_TOKENS, BadTokenKind
from fake_credits.transports.shared_resources import SharedResources
from tests.api.conftest import GRANT, JSON, TIMEOUT_S, Api, assert_error, assert_no_problem_but_unrouted, read_response

BALANCE = 50
USER = b"/v1/applications/app-id/users/ada"
MIB = 1024 * 1024


@pytest.fixture
def api_with_ada(api: Api) -> Api:
    api.credits.user("ada", balance=BALANCE)
    return api


@pytest.fixture
def live_api_with_ada(live_api: Api) -> Api:
    live_api.credits.user("ada", balance=BALANCE)
    return live_api


def assert_unchanged(api: Api, before: object) -> None:
    """Assert that the ledger is unchanged, that no bug was recorded, and that the next request works."""
    assert api.state() == before
    assert_no_problem_but_unrouted(api.credits)
    assert not [entry for entry in api.credits.journal if entry.status >= 500 or entry.committed]
    assert api.call(Operation.GET_BALANCE).json() == {"balance": BALANCE}


# ---------------------------------------------------------------- bodies of createTransaction


def delta_body(text: str) -> bytes:
    return f'{{"delta":{text},"reason":"grant"}}'.encode()


def reason_body(text: str) -> bytes:
    return f'{{"delta":1,"reason":{text}}}'.encode()


INVALID_BODIES: dict[str, tuple[bytes, list[str]]] = {
    "delta is true": (delta_body("true"), ["delta"]),
    "delta is false": (delta_body("false"), ["delta"]),
    "delta is null": (delta_body("null"), ["delta"]),
    "delta is text": (delta_body('"10"'), ["delta"]),
    "delta is empty text": (delta_body('""'), ["delta"]),
    "delta is an array": (delta_body("[10]"), ["delta"]),
    "delta is an object": (delta_body('{"value":10}'), ["delta"]),
    "delta is 10.5": (delta_body("10.5"), ["delta"]),
    "delta is a little more than 10": (delta_body("10.00000000000000000001"), ["delta"]),
    "delta is a little less than the limit": (delta_body("90071992547409909e-1"), ["delta"]),
    "delta is 1e-1": (delta_body("1e-1"), ["delta"]),
    "delta is 1e-400": (delta_body("1e-400"), ["delta"]),
    "delta is 1e400": (delta_body("1e400"), ["delta"]),
    "delta is -1e400": (delta_body("-1e400"), ["delta"]),
    "delta is 1e999999": (delta_body("1e999999"), ["delta"]),
    "delta is 1e99999999999999999999": (delta_body("1e99999999999999999999"), ["delta"]),
    "delta is 1e-99999999999999999999": (delta_body("1e-99999999999999999999"), ["delta"]),
    "delta is 2^53": (delta_body(str(2**53)), ["delta"]),
    "delta is 2^53 as a decimal": (delta_body(f"{2**53}.0"), ["delta"]),
    "delta is -2^53": (delta_body(str(-(2**53))), ["delta"]),
    "delta is 2^63": (delta_body(str(2**63)), ["delta"]),
    "delta is -2^63 - 1": (delta_body(str(-(2**63) - 1)), ["delta"]),
    "delta is 2^64": (delta_body(str(2**64)), ["delta"]),
    "delta is 10^30": (delta_body(str(10**30)), ["delta"]),
    "delta has 10,000 digits": (delta_body("1" * 10_000), ["delta"]),
    "delta has 10,000 decimals": (delta_body("1." + "1" * 10_000), ["delta"]),
    "delta is 0": (delta_body("0"), ["delta"]),
    "delta is -0": (delta_body("-0"), ["delta"]),
    "delta is 0.0": (delta_body("0.0"), ["delta"]),
    "delta is -0.0": (delta_body("-0.0"), ["delta"]),
    "delta is 0e9": (delta_body("0e9"), ["delta"]),
    "negative grant": (delta_body("-10"), ["delta"]),
    "negative refund": (b'{"delta":-10,"reason":"refund"}', ["delta"]),
    "positive consumption": (b'{"delta":10,"reason":"consume"}', ["delta"]),
    "reason is null": (reason_body("null"), ["reason"]),
    "reason is a number": (reason_body("1"), ["reason"]),
    "reason is true": (reason_body("true"), ["reason"]),
    "reason is an array": (reason_body('["grant"]'), ["reason"]),
    "reason is empty": (reason_body('""'), ["reason"]),
    "reason is unknown": (reason_body('"gift"'), ["reason"]),
    "reason in capitals": (reason_body('"Grant"'), ["reason"]),
    "reason with a space": (reason_body('"grant "'), ["reason"]),
    "reason with an escaped NUL": (reason_body('"grant\\u0000"'), ["reason"]),
    "reason is long": (reason_body(f'"{"x" * 60_000}"'), ["reason"]),
    "no delta": (b'{"reason":"grant"}', ["delta"]),
    "no reason": (b'{"delta":1}', ["reason"]),
    "empty object": (b"{}", ["delta", "reason"]),
    "delta and reason wrong": (b'{"delta":"1","reason":1}', ["delta", "reason"]),
    "unknown member": (b'{"delta":1,"reason":"grant","note":"x"}', ["note"]),
    "unknown member without a name": (b'{"delta":1,"reason":"grant","":1}', [""]),
    "member in another case": (b'{"Delta":1,"reason":"grant"}', ["delta", "Delta"]),
    "userId in the body": (b'{"delta":1,"reason":"grant","userId":"bob"}', ["userId"]),
    "__proto__": (b'{"delta":1,"reason":"grant","__proto__":{}}', ["__proto__"]),
    "all members wrong": (b'{"delta":true,"reason":[],"x":1,"y":2}', ["delta", "reason", "x", "y"]),
    "array": (b"[]", [""]),
    "array with a transaction": (b'[{"delta":1,"reason":"grant"}]', [""]),
    "null": (b"null", [""]),
    "true": (b"true", [""]),
    "string": (b'"grant"', [""]),
    "number": (b"10", [""]),
    "fraction": (b"1.5", [""]),
    "900 brackets": (b"[" * 900 + b"]" * 900, [""]),
}

MALFORMED_BODIES: dict[str, bytes] = {
    "empty": b"",
    "space": b" ",
    "NUL": b"\0",
    "NUL in a member": b'{"delta":1,"reason":"gr\0ant"}',
    "NUL after the object": GRANT + b"\0",
    "line feed in string": b'{"delta":1,"reason":"gr\nant"}',
    "NaN": delta_body("NaN"),
    "Infinity": delta_body("Infinity"),
    "-Infinity": delta_body("-Infinity"),
    "nan": delta_body("nan"),
    "+10": delta_body("+10"),
    "010": delta_body("010"),
    "0x10": delta_body("0x10"),
    ".5": delta_body(".5"),
    "5.": delta_body("5."),
    "1e": delta_body("1e"),
    "1_000": delta_body("1_000"),
    "non-ASCII digits": '{"delta":\u0661\u0660,"reason":"grant"}'.encode(),
    "BOM": b"\xef\xbb\xbf" + GRANT,
    "UTF-16": GRANT.decode().encode("utf-16"),
    "UTF-16 without a BOM": GRANT.decode().encode("utf-16-le"),
    "UTF-32": GRANT.decode().encode("utf-32"),
    "Latin-1": '{"delta":1,"reason":"é"}'.encode("latin-1"),
    "invalid UTF-8": b'{"delta":1,"reason":"\xc3"}',
    "overlong UTF-8": b'{"delta":1,"reason":"\xc0\xaf"}',
    "surrogate in UTF-8": b'{"delta":1,"reason":"\xed\xa0\x80"}',
    "lone high surrogate": reason_body('"\\ud800"'),
    "lone low surrogate": reason_body('"\\udc00"'),
    "lone surrogate in a name": b'{"delta":1,"reason":"grant","\\ud800":1}',
    "lone surrogate in an unknown member": b'{"delta":1,"reason":"grant","x":["\\udfff"]}',
    "delta twice": b'{"delta":1,"delta":1,"reason":"grant"}',
    "delta twice, once escaped": b'{"delta":1,"\\u0064elta":2,"reason":"grant"}',
    "reason twice": b'{"delta":1,"reason":"grant","reason":"consume"}',
    "unknown member twice": b'{"delta":1,"reason":"grant","x":1,"x":2}',
    "member twice inside": b'{"delta":1,"reason":"grant","x":{"a":1,"a":2}}',
    "100,000 brackets": b"[" * 100_000,
    "60,000 brackets": b"[" * 60_000,
    "30,000 pairs of brackets": b"[" * 30_000 + b"]" * 30_000,
    "10,000 nested objects": b'{"a":' * 10_000,
    "nested inside a member": b'{"delta":1,"reason":"grant","x":' + b"[" * 25_000 + b"]" * 25_000 + b"}",
    "truncated": GRANT[:-1],
    "truncated in string": GRANT[:-3],
    "two objects": GRANT + GRANT,
    "trailing comma": b'{"delta":1,"reason":"grant",}',
    "comment": b'{"delta":1,/* */"reason":"grant"}',
    "single quotes": b"{'delta':1,'reason':'grant'}",
    "unquoted names": b'{delta:1,reason:"grant"}',
    "form": b"delta=1&reason=grant",
    "XML": b"<transaction/>",
    "MessagePack": b"\x82\xa5delta\x01\xa6reason\xa5grant",
    "gzip": bytes.fromhex("1f8b08000000000000ff"),
    "invalid escape": b'{"delta":1,"reason":"gr\\xant"}',
    "incomplete escape": b'{"delta":1,"reason":"\\u00"}',
    "10,000 different members, the last twice": b"{"
    + b",".join(b'"%04x":0' % number for number in range(6_500))
    + b',"1963":0}',
}


def transaction_request(api: Api, body: bytes, headers: Headers | None = None) -> Request:
    sent = [*api.as_server, *([JSON] if headers is None else headers)]
    operation = Operation.CREATE_TRANSACTION
    return Request(api.contract.routes[operation].method, api.path(operation), sent, body)


@pytest.mark.parametrize("name", INVALID_BODIES)
def test_body_breaking_a_rule_is_rejected_as_validation_error(api_with_ada: Api, name: str) -> None:
    """The error details name each field and its problem."""
    body, fields = INVALID_BODIES[name]
    before = api_with_ada.state()
    error = assert_error(api_with_ada.send(transaction_request(api_with_ada, body)), "validation_error")
    assert [problem["field"] for problem in error["details"]] == fields
    assert_unchanged(api_with_ada, before)


@pytest.mark.parametrize("name", MALFORMED_BODIES)
def test_malformed_json_body_is_rejected(api_with_ada: Api, name: str) -> None:
    before = api_with_ada.state()
    body = MALFORMED_BODIES[name]
    code = "payload_too_large" if len(body) > MAX_BODY_BYTES else "malformed_json"
    assert_error(api_with_ada.send(transaction_request(api_with_ada, body)), code)
    assert_unchanged(api_with_ada, before)


@pytest.mark.parametrize("name", [*MALFORMED_BODIES, *INVALID_BODIES])
def test_create_user_rejects_bad_bodies_without_side_effects(api_with_ada: Api, name: str) -> None:
    body = MALFORMED_BODIES.get(name) or INVALID_BODIES.get(name, (b"", []))[0]
    before = api_with_ada.state()
    response = api_with_ada.call(Operation.CREATE_USER, body=body)
    assert response.status == 200 if body in (b"", b"{}") else response.status in (400, 413)
    assert_unchanged(api_with_ada, before)


# ---------------------------------------------------------------- content types


@pytest.mark.parametrize(
    "media_types",
    [
        (),
        (b"",),
        (b"text/plain",),
        (b"text/json",),
        (b"application/x-www-form-urlencoded",),
        (b"multipart/form-data; boundary=x",),
        (b"application/problem+json",),
        (b"application/jsonp",),
        (b"application/json, application/json",),
        (b"application/json; charset=latin-1",),
        (b"application/json; charset=utf-16",),
        (b"application/json; boundary=x",),
        (b"*/*",),
        (b"json",),
        (b"\xff\xfe",),
        (b"x" * 5000,),
        (b"application/json", b"application/json"),
        (b"application/json", b"text/plain"),
    ],
)
@pytest.mark.parametrize("operation", [Operation.CREATE_TRANSACTION, Operation.CREATE_USER])
def test_body_without_json_content_type_is_rejected(
    api_with_ada: Api, operation: Operation, media_types: tuple[bytes, ...]
) -> None:
    """A missing or different Content-Type gives 415."""
    before = api_with_ada.state()
    headers = [*api_with_ada.as_server, *((b"content-type", media_type) for media_type in media_types)]
    request = Request(api_with_ada.contract.routes[operation].method, api_with_ada.path(operation), headers, GRANT)
    assert_error(api_with_ada.send(request), "unsupported_media_type")
    assert_unchanged(api_with_ada, before)


# ---------------------------------------------------------------- paths


PATHS: dict[str, tuple[bytes, str]] = {
    "root": (b"/", "route_not_found"),
    "another version": (b"/v2/applications/app-id/users/ada/balance", "route_not_found"),
    "trailing slash": (USER + b"/balance/", "route_not_found"),
    "double slash": (b"/v1/applications/app-id//users/ada/balance", "route_not_found"),
    "leading double slash": (b"//v1/applications/app-id/users/ada/balance", "route_not_found"),
    "slashes only": (b"////////", "route_not_found"),
    "empty user": (b"/v1/applications/app-id/users//balance", "route_not_found"),
    "empty user at the end": (b"/v1/applications/app-id/users/", "route_not_found"),
    "empty application": (b"/v1/applications//users/ada/balance", "route_not_found"),
    "..": (b"/v1/applications/app-id/users/bob/../ada/balance", "route_not_found"),
    ".. as a user": (b"/v1/applications/app-id/users/../balance", "route_not_found"),
    ".. encoded": (b"/v1/applications/app-id/users/%2e%2E/balance", "route_not_found"),
    ".": (b"/v1/applications/app-id/users/./balance", "route_not_found"),
    ". encoded": (b"/v1/applications/%2e/users/ada/balance", "route_not_found"),
    "path in another case": (b"/V1/applications/app-id/users/ada/balance", "route_not_found"),
    "matrix parameter": (b"/v1/applications/app-id/users/ada/balance;x=1", "route_not_found"),
    "suffix": (USER + b"/balance.json", "route_not_found"),
    "encoded slash between segments": (b"/v1/applications%2Fapp-id/users/ada/balance", "route_not_found"),
    "encoded twice": (b"/v1/applications/app-id/users/%2561da/balance", "user_not_found"),
    ".. encoded twice": (b"/v1/applications/app-id/users/%252e%252e/balance", "user_not_found"),
    "slash in the id": (b"/v1/applications/app-id/users/ada%2Fx/balance", "user_not_found"),
    "plus": (b"/v1/applications/app-id/users/a+a/balance", "user_not_found"),
    "%zz": (b"/v1/applications/app-id/users/%zz/balance", "malformed_request"),
    "trailing %": (USER + b"%", "malformed_request"),
    "trailing %4": (USER + b"%4", "malformed_request"),
    "% alone": (b"/%", "malformed_request"),
    "%u0041": (b"/v1/applications/app-id/users/%u0041/balance", "malformed_request"),
    "invalid UTF-8": (b"/v1/applications/app-id/users/%FF/balance", "malformed_request"),
    "incomplete character": (b"/v1/applications/app-id/users/%C3/balance", "malformed_request"),
    "overlong UTF-8": (b"/v1/applications/app-id/users/%C0%AF/balance", "malformed_request"),
    "surrogate": (b"/v1/applications/app-id/users/%ED%A0%80/balance", "malformed_request"),
    "raw UTF-8": (b"/v1/applications/app-id/users/\xc3\xa9/balance", "malformed_request"),
    "raw invalid UTF-8": (b"/v1/applications/app-id/users/\xff/balance", "malformed_request"),
    "NUL, encoded": (b"/v1/applications/app-id/users/%00/balance", "validation_error"),
    "line feed, encoded": (b"/v1/applications/app-id/users/a%0Ab/balance", "validation_error"),
    "DEL, encoded": (b"/v1/applications/app-id/users/%7F/balance", "validation_error"),
    "C1, encoded": (b"/v1/applications/app-id/users/%C2%85/balance", "validation_error"),
    "control character in the application": (b"/v1/applications/%1b/users/ada/balance", "validation_error"),
    "257 characters": (b"/v1/applications/app-id/users/" + b"x" * 257 + b"/balance", "validation_error"),
    "257 characters of two bytes": (b"/v1/applications/app-id/users/" + b"%C3%BC" * 257, "validation_error"),
    "application of 257 characters": (b"/v1/applications/" + b"x" * 257 + b"/users", "validation_error"),
    "20,000 characters": (b"/v1/applications/app-id/users/" + b"x" * 20_000, "validation_error"),
    "10,000 segments": (b"/a" * 10_000, "route_not_found"),
    "20,000 characters without route": (b"/v1/" + b"abc" * 6_000, "route_not_found"),
    "quotation mark": (b'/v1/"quoted"', "route_not_found"),
    "markup": (b"/v1/<script>", "route_not_found"),
    "unknown fake path": (b"/_fake/nothing", "route_not_found"),
    "query with invalid percent-encoding": (USER + b"?%zz&%&a=%f", ""),
    "long query": (USER + b"?" + b"a=b&" * 4_000, ""),
    "cursor on operation without pages": (USER + b"?cursor=x", ""),
    "question marks": (USER + b"????", ""),
}


@pytest.mark.parametrize("name", PATHS)
def test_path_segments_are_decoded_once_and_never_normalized(api_with_ada: Api, name: str) -> None:
    """Empty segments give 404, and so do `.` and `..`, encoded or not; an invalid escape such as `%zz` gives 400."""
    target, code = PATHS[name]
    before = api_with_ada.state()
    response = api_with_ada.send(Request("GET", target, api_with_ada.as_server, b""))
    if code:
        assert_error(response, code)
    else:
        assert response.status == 200
    assert_unchanged(api_with_ada, before)


def test_id_of_256_characters_is_accepted(api_with_ada: Api) -> None:
    response = api_with_ada.send(
        Request("GET", b"/v1/applications/app-id/users/" + b"%C3%BC" * 256, api_with_ada.as_server, b"")
    )
    assert_error(response, "user_not_found")


# ---------------------------------------------------------------- methods


@pytest.mark.parametrize("method", sorted(HTTP_METHODS - {"GET", "PUT", "CONNECT", "HEAD"}))
def test_unsupported_http_method_is_rejected_with_405(api_with_ada: Api, method: str) -> None:
    """Every other method that the HTTP parser knows, such as QUERY, gets a 405 with an Allow header."""
    before = api_with_ada.state()
    response = api_with_ada.send(Request(method, USER, api_with_ada.as_server, b""))
    assert_error(response, "method_not_allowed")
    assert response.header("allow") == "GET, HEAD, PUT"
    assert_unchanged(api_with_ada, before)


def test_head_response_equals_get_response_without_body(api_with_ada: Api) -> None:
    """HEAD has the same headers as GET, including those about the body (RFC 9110, section 9.3.2)."""
    before = api_with_ada.state()
    response, head = (api_with_ada.send(Request(method, USER, api_with_ada.as_server)) for method in ("GET", "HEAD"))
    assert (head.status, head.body, len(response.body)) == (200, b"", int(head.header("content-length") or 0))
    ignored = {"x-request-id", "date"}
    assert {header for header in head.headers if header[0] not in ignored} == {
        header for header in response.headers if header[0] not in ignored
    }
    assert_unchanged(api_with_ada, before)


@pytest.mark.parametrize(("target", "code"), [(USER + b"x", "user_not_found"), (b"/v1/x", "route_not_found")])
def test_error_response_to_head_has_no_body(api_with_ada: Api, target: bytes, code: str) -> None:
    before = api_with_ada.state()
    response = api_with_ada.send(Request("HEAD", target, api_with_ada.as_server))
    assert_error(response, code, head=True)
    assert int(response.header("content-length") or 0) > 0
    assert_unchanged(api_with_ada, before)


@pytest.mark.parametrize("method", ["FOO", "get", "Get", "GETT", "G", "PRI", "X" * 300, "0", "G-T", "BREW"])
def test_unknown_method_is_rejected_as_malformed_request(api_with_ada: Api, method: str) -> None:
    before = api_with_ada.state()
    assert_error(api_with_ada.send(Request(method, USER, api_with_ada.as_server, b"")), "malformed_request")
    assert_unchanged(api_with_ada, before)


# ---------------------------------------------------------------- credentials


def credential_cases(api: Api) -> dict[str, tuple[Headers, str]]:
    key, token = api.as_server[0], api.as_user()[0]
    name = b"authorization"
    bearer = api.credits.token("ada").encode()
    return {
        "no credentials": ([], "missing_credentials"),
        "key and token": ([key, token], "ambiguous_credentials"),
        "token and key": ([token, key], "ambiguous_credentials"),
        "two API-key headers": ([key, key], "ambiguous_credentials"),
        "two API-key headers, one wrong": ([key, (key[0], b"x")], "ambiguous_credentials"),
        "two tokens": ([token, token], "ambiguous_credentials"),
        "good key and a bad token": ([key, (name, b"Bearer x")], "ambiguous_credentials"),
        "empty key": ([(key[0], b"")], "missing_credentials"),
        "blank key": ([(key[0], b"  ")], "missing_credentials"),
        "wrong key": ([(key[0], b"wrong")], "invalid_api_key"),
        "key with suffix": ([(key[0], key[1] + b"x")], "invalid_api_key"),
        "truncated key": ([(key[0], key[1][:-1])], "invalid_api_key"),
        "key in capitals": ([(key[0], key[1].upper())], "invalid_api_key"),
        "key of non-ASCII bytes": ([(key[0], b"\xff\xe9")], "invalid_api_key"),
        "key of 20,000 characters": ([(key[0], b"x" * 20_000)], "invalid_api_key"),
        "two keys in one header": ([(key[0], key[1] + b", " + key[1])], "invalid_api_key"),
        "key as a token": ([(name, b"Bearer " + key[1])], "invalid_token"),
        "token as a key": ([(key[0], bearer)], "invalid_api_key"),
        "no token after the scheme": ([(name, b"Bearer")], "missing_credentials"),
        "space after the scheme": ([(name, b"Bearer ")], "missing_credentials"),
        "Basic": ([(name, b"Basic dXNlcjpwYXNz")], "missing_credentials"),
        "token without a scheme": ([(name, bearer)], "missing_credentials"),
        "another scheme with a token": ([(name, b"Token " + bearer)], "missing_credentials"),
        "invalid token": ([(name, b"Bearer nonsense")], "invalid_token"),
        "two dots": ([(name, b"Bearer ..")], "invalid_token"),
        "token of non-ASCII bytes": ([(name, b"Bearer \xff.\xff.\xff")], "invalid_token"),
        "two tokens in one header": ([(name, b"Bearer " + bearer + b", " + bearer)], "invalid_token"),
        "token with padding": ([(name, b"Bearer " + bearer + b"=")], "invalid_token"),
        "token with newline escape": ([(name, b"Bearer " + bearer + b"\\n")], "invalid_token"),
        "token of 20,000 characters": ([(name, b"Bearer " + b"a.b." + b"x" * 20_000)], "invalid_token"),
    }


@pytest.mark.parametrize("index", range(30))
def test_bad_credentials_are_rejected(api_with_ada: Api, index: int) -> None:
    name, (headers, code) = list(credential_cases(api_with_ada).items())[index]
    before = api_with_ada.state()
    for operation in (Operation.GET_BALANCE, Operation.CREATE_TRANSACTION):
        body = GRANT if operation is Operation.CREATE_TRANSACTION else b""
        assert assert_error(api_with_ada.call(operation, credentials=headers, body=body), code), name
    assert_unchanged(api_with_ada, before)


@pytest.mark.parametrize("kind", BAD_TOKENS)
@pytest.mark.parametrize("operation", [Operation.GET_BALANCE, Operation.CREATE_TRANSACTION])
def test_bad_tokens_are_rejected(api_with_ada: Api, kind: BadTokenKind, operation: Operation) -> None:
    before = api_with_ada.state()
    body = GRANT if operation is Operation.CREATE_TRANSACTION else b""
    response = api_with_ada.call(
        operation, credentials=api_with_ada.as_token(api_with_ada.credits.token("ada", bad=kind)), body=body
    )
    foreign = operation.requires_api_key and kind == "other_user"  # the token is valid, but does not allow writes
    assert_error(response, "insufficient_scope" if foreign else BAD_TOKENS[kind].code)
    assert_unchanged(api_with_ada, before)


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize("operation", list(Operation))
def test_body_over_size_limit_is_rejected(api_with_ada: Api, operation: Operation) -> None:
    before = api_with_ada.state()
    assert_error(api_with_ada.call(operation, body=b" " * (MAX_BODY_BYTES + 1)), "payload_too_large")
    assert_unchanged(api_with_ada, before)


def test_body_at_size_limit_is_accepted(api_with_ada: Api) -> None:
    body = GRANT + b" " * (MAX_BODY_BYTES - len(GRANT))
    assert api_with_ada.send(transaction_request(api_with_ada, body)).status == 201


@pytest.mark.parametrize("length", [b"65537", b"9" * 30, b"9" * 5000])
def test_oversized_content_length_is_rejected_without_reading_body(api_with_ada: Api, length: bytes) -> None:
    before = api_with_ada.state()
    response = api_with_ada.send(transaction_request(api_with_ada, b"", [JSON, (b"content-length", length)]))
    # The live server's parser rejects a length beyond 2^64.
    assert response.status in (400, 413)
    assert response.json()["error"]["code"] in ("payload_too_large", "malformed_request")
    assert_unchanged(api_with_ada, before)


# ---------------------------------------------------------------- fuzzing, in process


@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "OPTIONS"]),
    target=st.binary(max_size=80)
    | st.lists(
        st.sampled_from(
            [b"/", b"v1", b"applications", b"users", b"/ada", b"balance", b"%", b"%2", b"%ff", b"..", b"?", b"#"]
        )
    ).map(b"".join),
    body=st.binary(max_size=200),
    credentials=st.sampled_from(["server", "user", "none"]),
)
@example("GET", b"", b"", "server")
@example("GET", b"?", b"", "server")
@example("GET", b"/_fake/\xff", b"", "none")
@settings(max_examples=150)
def test_arbitrary_targets_never_cause_server_error(
    shared: SharedResources, method: str, target: bytes, body: bytes, credentials: str
) -> None:
    with FakeCredits(shared=shared, users={"ada": BALANCE}) as fake:
        api = Api(fake, "in-process", shared)
        headers = {"server": api.as_server, "user": api.as_user(), "none": []}[credentials]
        for path in (target, USER + b"/" + target, USER + b"?" + target):
            assert api.send(Request(method, path, [*headers, JSON], body)).status < 500
        assert_no_problem_but_unrouted(fake)


@given(
    body=st.binary(max_size=60) | st.from_regex(rb'\{"(delta|reason)": ?[-0-9.eE"a-z\[\]{}]*(,.*)?\}', fullmatch=True)
)
@settings(max_examples=150)
def test_arbitrary_bodies_never_cause_server_error(shared: SharedResources, body: bytes) -> None:
    with FakeCredits(shared=shared, users={"ada": BALANCE}) as fake:
        api = Api(fake, "in-process", shared)
        response = api.send(transaction_request(api, body))
        assert response.status == 201 or response.json()["error"]["code"] in (
            "malformed_json",
            "validation_error",
            "insufficient_credits",
        )
        assert fake.problems() == []


@given(name=st.binary(min_size=1, max_size=20), value=st.binary(max_size=40))
@settings(max_examples=150)
def test_arbitrary_headers_never_cause_server_error(shared: SharedResources, name: bytes, value: bytes) -> None:
    header_names = [
        b"x-api-key",
        b"authorization",
        b"content-type",
        b"content-length",
        b"host",
        b"origin",
        b"idempotency-key",
    ]
    with FakeCredits(shared=shared, users={"ada": BALANCE}) as fake:
        api = Api(fake, "in-process", shared)
        for header in (name, *header_names):
            for target in (USER, b"/.well-known/openid-configuration", b"/_fake/livez"):
                response = api.send(Request("GET", target, [*api.as_server, (header, value)], b""))
                assert response.status < 500
        assert fake.problems() == []


# ---------------------------------------------------------------- raw HTTP


def raw_request(api: Api, *lines: bytes, host: bool = True, key: bool = True) -> bytes:
    """Return the bytes of a request; by default, Host and the API key follow the request line."""
    first, *rest = lines
    extra = [b"Host: " + api.host.encode()] if host else []
    if key:
        extra.append(b": ".join(api.as_server[0]))
    return b"\r\n".join([first, *extra, *rest, b"", b""])


INVALID_HTTP: dict[str, bytes] = {
    "NULs": b"\0" * 100,
    "TLS": bytes.fromhex("16030100050100000100") + b"\r\n\r\n",
    "random bytes": bytes(range(256)),
    "plain text": b"hello\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/9.9": b"GET / HTTP/9.9\r\n\r\n",
    "another protocol": b"GET / SIP/2.0\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n",
    "fragment": b"GET /v1/x#y HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "relative target": b"GET v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\n\r\n",
    "two spaces and no slash": b"GET  x HTTP/1.1\r\n\r\n",
    "space in the path": b"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tab in the path": b"GET /a\tb HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "NUL in the path": b"GET /a\0b HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
    "space before the colon": b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
    "header without a name": b"GET / HTTP/1.1\r\n: x\r\n\r\n",
    "folded header": b"GET / HTTP/1.1\r\nHost: localhost\r\n x\r\n\r\n",
    "NUL in a header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
    "bare CR in a header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n",
    "Content-Length is text": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: ten\r\n\r\n",
    "Content-Length is negative": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    "Content-Length has a sign": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: +1\r\n\r\nx",
    "Content-Length beyond 2^64": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "two Content-Lengths": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "length+chunked": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0",
    "gzip and chunked": b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked and gzip": b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
    "CONNECT": b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no Host": b"GET /v1/x HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET /v1/x HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
    "empty Host": b"GET /v1/x HTTP/1.1\r\nHost:\r\n\r\n",
    "Host with a space": b"GET /v1/x HTTP/1.1\r\nHost: local host\r\n\r\n",
    "Host with a path": b"GET /v1/x HTTP/1.1\r\nHost: localhost/x\r\n\r\n",
    "Host with a user": b"GET /v1/x HTTP/1.1\r\nHost: user@localhost\r\n\r\n",
    "Host with a bad port": b"GET /v1/x HTTP/1.1\r\nHost: localhost:port\r\n\r\n",
    "Host of non-ASCII bytes": b"GET /v1/x HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n",
    "Host with an open bracket": b"GET /v1/x HTTP/1.1\r\nHost: [::1\r\n\r\n",
    "two Hosts in one header": b"GET /v1/x HTTP/1.1\r\nHost: localhost, localhost\r\n\r\n",
}


@pytest.mark.parametrize("name", INVALID_HTTP)
def test_invalid_http_is_rejected_with_contract_error_body(live_api_with_ada: Api, name: str) -> None:
    before = live_api_with_ada.state()
    with live_api_with_ada.connect() as connection:
        connection.sendall(INVALID_HTTP[name])
        connection.shutdown(socket.SHUT_WR)
        response = read_response(connection)
    assert_error(response, "malformed_request")
    assert live_api_with_ada.credits.journal.entries()[-1].request_id == response.header("x-request-id")
    assert_unchanged(live_api_with_ada, before)


@pytest.mark.parametrize("target", [b"*", b"/", b"/v1/x"])
@pytest.mark.parametrize("method", ["OPTIONS", "GET", "CONNECT"])
def test_target_without_route_returns_404(api_with_ada: Api, method: str, target: bytes) -> None:
    """`OPTIONS *` applies to the server as a whole; the contract has no such operation."""
    if api_with_ada.mode == "live" and method == "CONNECT" and target == b"*":
        pytest.skip("the parser rejects this target of CONNECT")
    before = api_with_ada.state()
    assert_error(api_with_ada.send(Request(method, target, api_with_ada.as_server, b"")), "route_not_found")
    assert_unchanged(api_with_ada, before)


@pytest.mark.parametrize(
    "host", [b"example.com", b"api.acme.com:443", b"127.0.0.1.nip.io", b"169.254.169.254", b"[2001:db8::1]", b"0.0.0.0"]
)
@pytest.mark.parametrize("target", [USER, b"/nothing", b"/_fake/livez", b"/.well-known/jwks.json"])
def test_foreign_host_is_rejected_with_421_naming_allow_host_flag(
    live_api_with_ada: Api, host: bytes, target: bytes
) -> None:
    before = live_api_with_ada.state()
    response = live_api_with_ada.send(Request("GET", target, [*live_api_with_ada.as_server, (b"host", host)], b""))
    assert "--allow-host" in assert_error(response, "host_not_allowed")["message"]
    assert response.header("x-fake-credits-cause") == "host"
    assert_unchanged(live_api_with_ada, before)


@pytest.mark.parametrize(
    "host", [b"localhost", b"LOCALHOST:1", b"api.localhost", b"127.0.0.1", b"127.9.9.9:80", b"[::1]:9"]
)
def test_loopback_hosts_are_accepted(live_api_with_ada: Api, host: bytes) -> None:
    assert (
        live_api_with_ada.send(Request("GET", USER, [*live_api_with_ada.as_server, (b"host", host)], b"")).status == 200
    )


def test_host_is_not_checked_in_process(shared: SharedResources) -> None:
    with FakeCredits(shared=shared, users={"ada": BALANCE}) as fake:
        api = Api(fake, "in-process", shared)
        for host in (b"api.acme.com", b"", b"\xff"):
            assert api.send(Request("GET", USER, [*api.as_server, (b"host", host)], b"")).status == 200


def test_absolute_target_is_routed_by_its_path(live_api_with_ada: Api) -> None:
    target = b"http://localhost" + USER + b"/balance"
    assert live_api_with_ada.send(Request("GET", target, live_api_with_ada.as_server, b"")).json() == {
        "balance": BALANCE
    }


def test_authority_of_absolute_target_overrides_host_header(live_api_with_ada: Api) -> None:
    """RFC 9112, section 3.2.2."""
    target = b"http://elsewhere.test" + USER + b"/balance"
    assert_error(live_api_with_ada.send(Request("GET", target, live_api_with_ada.as_server, b"")), "host_not_allowed")


@pytest.mark.parametrize("target", [b"http://localhost", b"http://localhost?a=b"])
def test_absolute_target_without_path_is_root(live_api_with_ada: Api, target: bytes) -> None:
    """RFC 9110, section 4.2.3."""
    assert (
        "GET / does not exist;"
        in assert_error(live_api_with_ada.send(Request("GET", target, live_api_with_ada.as_server)), "route_not_found")[
            "message"
        ]
    )


@pytest.mark.parametrize("has_host", [True, False])
def test_http_1_0_request_is_answered_and_connection_closed(live_api_with_ada: Api, *, has_host: bool) -> None:
    """HTTP/1.0 does not require a Host header (RFC 9112, section 3.2)."""
    with live_api_with_ada.connect() as connection:
        sent = raw_request(live_api_with_ada, b"GET " + USER + b"/balance HTTP/1.0")
        connection.sendall(sent if has_host else re.sub(rb"(?i)host: [^\r]*\r\n", b"", sent))
        assert read_response(connection).json() == {"balance": BALANCE}
        assert connection.recv(1) == b""


def test_bare_line_feeds_do_not_cause_server_error(live_api_with_ada: Api) -> None:
    """RFC 9112, section 2.2: a server may accept LF as a line terminator; both 200 and 400 are fine."""
    before = live_api_with_ada.state()
    with live_api_with_ada.connect() as connection:
        connection.sendall(
            raw_request(live_api_with_ada, b"GET " + USER + b"/balance HTTP/1.1").replace(b"\r\n", b"\n")
        )
        connection.shutdown(socket.SHUT_WR)
        assert read_response(connection).status in (200, 400)
    assert_unchanged(live_api_with_ada, before)


@pytest.mark.parametrize(
    "upgrade", [(b"websocket", b"GET"), (b"h2c", b"GET"), (b"websocket", b"POST"), (b"h2c", b"POST")]
)
def test_upgrade_header_is_ignored(live_api_with_ada: Api, upgrade: tuple[bytes, bytes]) -> None:
    protocol, method = upgrade
    lines = [method + b" " + USER + b" HTTP/1.1", b"Connection: Upgrade", b"Upgrade: " + protocol]
    with live_api_with_ada.connect() as connection:
        connection.sendall(raw_request(live_api_with_ada, *lines))
        response = read_response(connection)
    assert response.status == (200 if method == b"GET" else 405)


@pytest.mark.parametrize("name", [b"Upgrade", b"upgrade", b"UPGRADE"])
def test_body_and_next_request_survive_upgrade_header(live_api_with_ada: Api, name: bytes) -> None:
    """Java's HttpClient offers h2c with each request; a server may ignore that (RFC 9110, section 7.8)."""
    lines = [
        b"Connection: Upgrade, HTTP2-Settings",
        name + b": h2c",
        b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    ]
    body = [b"Content-Type: application/json", b"Content-Length: %d" % len(GRANT)]
    with live_api_with_ada.connect() as connection:
        connection.sendall(
            raw_request(live_api_with_ada, b"POST " + USER + b"/transactions HTTP/1.1", *lines, *body) + GRANT
        )
        assert read_response(connection).status == 201
        connection.sendall(raw_request(live_api_with_ada, b"GET " + USER + b"/balance HTTP/1.1", *lines))
        assert read_response(connection).json() == {"balance": BALANCE + 100}
        connection.sendall(raw_request(live_api_with_ada, b"GET " + USER + b"/balance HTTP/1.1", *lines))
        assert read_response(connection).status == 200


def test_pipelined_requests_are_answered_in_order(live_api_with_ada: Api) -> None:
    paths = [USER + b"/balance", USER, USER + b"/nothing", USER + b"/balance"]
    with live_api_with_ada.connect() as connection:
        connection.sendall(b"".join(raw_request(live_api_with_ada, b"GET " + path + b" HTTP/1.1") for path in paths))
        reader = connection.makefile("rb")
        with reader:
            statuses = [status_and_skip(reader) for _ in paths]
    assert statuses == [200, 200, 404, 200]
    assert [entry.status for entry in live_api_with_ada.credits.journal] == statuses


def status_and_skip(reader: socket.SocketIO | object) -> int:
    """Read one response from a buffered reader and return its status."""
    from io import BufferedReader

    assert isinstance(reader, BufferedReader)
    status = int(reader.readline().split()[1])
    length = 0
    while (line := reader.readline()) != b"\r\n":
        assert line, "the connection ended inside a head"
        if line.lower().startswith(b"content-length:"):
            length = int(line[15:])
    assert len(reader.read(length)) == length
    return status


def test_half_closed_connection_still_receives_response(live_api_with_ada: Api) -> None:
    with live_api_with_ada.connect() as connection:
        connection.sendall(raw_request(live_api_with_ada, b"GET " + USER + b"/balance HTTP/1.1"))
        connection.shutdown(socket.SHUT_WR)
        assert read_response(connection).json() == {"balance": BALANCE}


def wait_for_entries(api: Api, count: int) -> None:
    """Wait until the journal has `count` entries."""
    limit_s, pause = monotonic_s() + TIMEOUT_S, threading.Event()
    while len(api.credits.journal) < count:
        assert monotonic_s() < limit_s, list(api.credits.journal)
        pause.wait(0.001)


@pytest.mark.parametrize("sent", [b"", GRANT[:10]])
@pytest.mark.parametrize("announced", [b"Content-Length: %d" % len(GRANT), b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("close_mode", ["close", "reset"])
def test_client_disconnecting_mid_body_commits_nothing(
    live_api_with_ada: Api, sent: bytes, announced: bytes, close_mode: str
) -> None:
    before = live_api_with_ada.state()
    body = b"%x\r\n%b" % (len(GRANT), sent) if sent and b"chunked" in announced else sent
    head = raw_request(
        live_api_with_ada, b"POST " + USER + b"/transactions HTTP/1.1", b"Content-Type: application/json", announced
    )
    connection = live_api_with_ada.connect()
    connection.sendall(head + body)
    if close_mode == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
    wait_for_entries(live_api_with_ada, 1)
    entry = live_api_with_ada.credits.journal.entries()[0]
    assert (entry.code, entry.committed, entry.delivered) == ("malformed_request", False, False)
    assert_unchanged(live_api_with_ada, before)


def test_body_is_cut_at_content_length(live_api_with_ada: Api) -> None:
    """The bytes beyond the declared length are parsed as the next request, which is invalid."""
    before = live_api_with_ada.state()
    sent = raw_request(
        live_api_with_ada,
        b"POST " + USER + b"/transactions HTTP/1.1",
        b"Content-Type: application/json",
        b"Content-Length: 5",
    )
    with live_api_with_ada.connect() as connection:
        connection.sendall(sent + GRANT)
        response = read_response(connection)
    assert response.status == 400
    assert response.json()["error"]["code"] in ("malformed_json", "malformed_request")
    wait_for_entries(live_api_with_ada, 2)
    assert_unchanged(live_api_with_ada, before)


@pytest.mark.parametrize(
    "body",
    [b"zz\r\n", b"-1\r\n", b"5\r\nabcdefgh\r\n", b"ffffffffffffffffff\r\n", b"5 5\r\nabcde\r\n", b"\r\n"],
)
@pytest.mark.usefixtures("short_linger")
def test_invalid_chunked_encoding_commits_nothing(live_api_with_ada: Api, body: bytes) -> None:
    before = live_api_with_ada.state()
    lines = [b"POST " + USER + b"/transactions HTTP/1.1", b"Content-Type: application/json"]
    with live_api_with_ada.connect() as connection:
        connection.sendall(raw_request(live_api_with_ada, *lines, b"Transfer-Encoding: chunked") + body)
        assert_error(read_response(connection), "malformed_request")
        assert connection.recv(1) == b""
    limit_s = monotonic_s() + TIMEOUT_S
    while live_api_with_ada.credits.journal.in_flight and monotonic_s() < limit_s:
        threading.Event().wait(0.001)
    assert_unchanged(live_api_with_ada, before)


def test_chunked_body_with_extensions_and_trailers_is_accepted(live_api_with_ada: Api) -> None:
    lines = [b"POST " + USER + b"/transactions HTTP/1.1", b"Content-Type: application/json"]
    chunks = b"".join(b"1;ext=1\r\n%c\r\n" % byte for byte in GRANT) + b"0\r\nX-Trailer: x\r\n\r\n"
    with live_api_with_ada.connect() as connection:
        connection.sendall(raw_request(live_api_with_ada, *lines, b"Transfer-Encoding: chunked") + chunks)
        assert read_response(connection).status == 201
    assert live_api_with_ada.credits.balance("ada") == BALANCE + 100


def test_expect_100_continue_is_answered(live_api_with_ada: Api) -> None:
    lines = [b"POST " + USER + b"/transactions HTTP/1.1", b"Content-Type: application/json", b"Expect: 100-continue"]
    with live_api_with_ada.connect() as connection:
        connection.sendall(raw_request(live_api_with_ada, *lines, b"Content-Length: %d" % len(GRANT)))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(GRANT)
        assert read_response(connection).status == 201


# ---------------------------------------------------------------- oversized heads


def endless_head(head: bytes, chunk: bytes) -> Iterator[bytes]:
    yield head
    for _ in range(64):
        yield chunk


@pytest.mark.parametrize(
    ("head", "chunk"),
    [
        (b"GET /", b"x" * 65_536),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ", b"x" * 65_536),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X-Many: many\r\n" * 5_000),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"x" * 65_536),
    ],
    ids=["request line", "header value", "header bomb", "header name"],
)
def test_endless_request_head_is_rejected(live_api_with_ada: Api, head: bytes, chunk: bytes) -> None:
    """A head of more than 64 KiB is rejected before it is complete."""
    before = live_api_with_ada.state()
    with live_api_with_ada.connect() as connection:
        try:
            for part in endless_head(head, chunk):
                connection.sendall(part)
        except OSError:
            pass  # the server has closed the connection, as it should
        wait_for_entries(live_api_with_ada, 1)
    assert [entry.code for entry in live_api_with_ada.credits.journal] == ["malformed_request"]
    assert_unchanged(live_api_with_ada, before)


def test_complete_head_over_size_limit_is_rejected_with_error_body(live_api_with_ada: Api) -> None:
    before = live_api_with_ada.state()
    response = live_api_with_ada.send(
        Request("GET", USER, [*live_api_with_ada.as_server, (b"x-long", b"x" * 66_000)], b"")
    )
    assert_error(response, "malformed_request")
    assert_unchanged(live_api_with_ada, before)


def test_large_head_below_size_limit_is_accepted(api_with_ada: Api) -> None:
    sent = [*api_with_ada.as_server, (b"x-long", b"x" * 30_000), *[(b"x-many", b"many")] * 1_000]
    assert api_with_ada.send(Request("GET", USER, sent, b"")).status == 200


# ---------------------------------------------------------------- oversized bodies


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def send_chunked_body(connection: socket.socket, head: bytes, size: int) -> None:
    """Send a chunked body of `size` bytes; stop early if the server closes the connection."""
    chunk = memoryview(b"%x\r\n" % MIB + b" " * MIB + b"\r\n")
    try:
        connection.sendall(head)
        for _ in range(size // MIB):
            connection.sendall(chunk)
        connection.sendall(b"0\r\n\r\n")
    except OSError:
        pass  # the server has rejected the body and closed the connection


@pytest.mark.parametrize("size", [64 * MIB, pytest.param(1024 * MIB, marks=pytest.mark.slow)], ids=["64 MiB", "1 GiB"])
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_endless_chunked_body_is_rejected_with_flat_memory(live_api_with_ada: Api, size: int) -> None:
    """A body over the limit is rejected with 413 without being read into memory."""
    before, resident = live_api_with_ada.state(), resident_bytes()
    lines = [b"POST " + USER + b"/transactions HTTP/1.1", b"Content-Type: application/json"]
    head = raw_request(live_api_with_ada, *lines, b"Transfer-Encoding: chunked")
    with live_api_with_ada.connect() as connection:
        sender = threading.Thread(target=send_chunked_body, args=(connection, head, size))
        sender.start()
        response = read_response(connection)
        sender.join(TIMEOUT_S)
        assert not sender.is_alive()
        assert_error(response, "payload_too_large")
    assert resident_bytes() - resident < 20_000_000
    assert_unchanged(live_api_with_ada, before)


def test_more_than_120_bad_requests_are_covered() -> None:
    assert len(INVALID_BODIES) + len(MALFORMED_BODIES) + len(PATHS) + len(INVALID_HTTP) + len(BAD_TOKENS) > 120
