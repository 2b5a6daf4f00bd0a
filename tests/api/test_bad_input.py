"""Whatever comes, the answer is the contract's error body, the ledger is as before, and the next request works."""

import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fake_credits.api.routing import HTTP_METHODS
from fake_credits.clock import monotonic_s
from fake_credits.contract import MAX_BODY_BYTES, Operation
from fake_credits.fake import FakeCredits
from fake_credits.http_message import Headers, Request
from fake_credits.tokens.bad_tokens import BAD_TOKENS
from fake_credits.transports.shared_resources import SharedResources
from tests.api.conftest import GRANT, JSON, LIMIT_S, Api, assert_refused, read

BALANCE = 50
USER = b"/v1/applications/app-id/users/ada"
MIB = 1024 * 1024


@pytest.fixture
def ada(api: Api) -> Api:
    api.credits.user("ada", balance=BALANCE)
    return api


@pytest.fixture
def socketed(live: Api) -> Api:
    live.credits.user("ada", balance=BALANCE)
    return live


def assert_sound(api: Api, before: object) -> None:
    """Assert that the ledger is as before, that nothing was a bug, and that the next request works."""
    assert api.state() == before
    assert api.credits.problems() == []
    assert not [entry for entry in api.credits.journal if entry.status >= 500 or entry.committed]
    assert api.ask(Operation.GET_BALANCE).json() == {"balance": BALANCE}


# ---------------------------------------------------------------- bodies of createTransaction


def delta(text: str) -> bytes:
    return f'{{"delta":{text},"reason":"grant"}}'.encode()


def reason(text: str) -> bytes:
    return f'{{"delta":1,"reason":{text}}}'.encode()


VALIDATION: dict[str, tuple[bytes, list[str]]] = {
    "delta is true": (delta("true"), ["delta"]),
    "delta is false": (delta("false"), ["delta"]),
    "delta is null": (delta("null"), ["delta"]),
    "delta is text": (delta('"10"'), ["delta"]),
    "delta is empty text": (delta('""'), ["delta"]),
    "delta is an array": (delta("[10]"), ["delta"]),
    "delta is an object": (delta('{"value":10}'), ["delta"]),
    "delta is 10.5": (delta("10.5"), ["delta"]),
    "delta is a little more than 10": (delta("10.00000000000000000001"), ["delta"]),
    "delta is a little less than the limit": (delta("90071992547409909e-1"), ["delta"]),
    "delta is 1e-1": (delta("1e-1"), ["delta"]),
    "delta is 1e-400": (delta("1e-400"), ["delta"]),
    "delta is 1e400": (delta("1e400"), ["delta"]),
    "delta is -1e400": (delta("-1e400"), ["delta"]),
    "delta is 1e999999": (delta("1e999999"), ["delta"]),
    "delta is 1e99999999999999999999": (delta("1e99999999999999999999"), ["delta"]),
    "delta is 1e-99999999999999999999": (delta("1e-99999999999999999999"), ["delta"]),
    "delta is 2^53": (delta(str(2**53)), ["delta"]),
    "delta is 2^53 as a decimal": (delta(f"{2**53}.0"), ["delta"]),
    "delta is -2^53": (delta(str(-(2**53))), ["delta"]),
    "delta is 2^63": (delta(str(2**63)), ["delta"]),
    "delta is -2^63 - 1": (delta(str(-(2**63) - 1)), ["delta"]),
    "delta is 2^64": (delta(str(2**64)), ["delta"]),
    "delta is 10^30": (delta(str(10**30)), ["delta"]),
    "delta has 10,000 digits": (delta("1" * 10_000), ["delta"]),
    "delta has 10,000 decimals": (delta("1." + "1" * 10_000), ["delta"]),
    "delta is 0": (delta("0"), ["delta"]),
    "delta is -0": (delta("-0"), ["delta"]),
    "delta is 0.0": (delta("0.0"), ["delta"]),
    "delta is -0.0": (delta("-0.0"), ["delta"]),
    "delta is 0e9": (delta("0e9"), ["delta"]),
    "a negative grant": (delta("-10"), ["delta"]),
    "a negative refund": (b'{"delta":-10,"reason":"refund"}', ["delta"]),
    "a positive consumption": (b'{"delta":10,"reason":"consume"}', ["delta"]),
    "reason is null": (reason("null"), ["reason"]),
    "reason is a number": (reason("1"), ["reason"]),
    "reason is true": (reason("true"), ["reason"]),
    "reason is an array": (reason('["grant"]'), ["reason"]),
    "reason is empty": (reason('""'), ["reason"]),
    "reason is unknown": (reason('"gift"'), ["reason"]),
    "reason in capitals": (reason('"Grant"'), ["reason"]),
    "reason with a space": (reason('"grant "'), ["reason"]),
    "reason with an escaped NUL": (reason('"grant\\u0000"'), ["reason"]),
    "reason is long": (reason(f'"{"x" * 60_000}"'), ["reason"]),
    "no delta": (b'{"reason":"grant"}', ["delta"]),
    "no reason": (b'{"delta":1}', ["reason"]),
    "an empty object": (b"{}", ["delta", "reason"]),
    "both wrong": (b'{"delta":"1","reason":1}', ["delta", "reason"]),
    "an unknown member": (b'{"delta":1,"reason":"grant","note":"x"}', ["note"]),
    "an unknown member without a name": (b'{"delta":1,"reason":"grant","":1}', [""]),
    "a member in other case": (b'{"Delta":1,"reason":"grant"}', ["delta", "Delta"]),
    "userId in the body": (b'{"delta":1,"reason":"grant","userId":"bob"}', ["userId"]),
    "__proto__": (b'{"delta":1,"reason":"grant","__proto__":{}}', ["__proto__"]),
    "everything wrong": (b'{"delta":true,"reason":[],"x":1,"y":2}', ["delta", "reason", "x", "y"]),
    "an array": (b"[]", [""]),
    "an array with a transaction": (b'[{"delta":1,"reason":"grant"}]', [""]),
    "null": (b"null", [""]),
    "true": (b"true", [""]),
    "text": (b'"grant"', [""]),
    "a number": (b"10", [""]),
    "a fraction": (b"1.5", [""]),
    "900 brackets": (b"[" * 900 + b"]" * 900, [""]),
}

MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "a space": b" ",
    "NUL": b"\0",
    "NUL in a member": b'{"delta":1,"reason":"gr\0ant"}',
    "NUL after the object": GRANT + b"\0",
    "a line feed in text": b'{"delta":1,"reason":"gr\nant"}',
    "NaN": delta("NaN"),
    "Infinity": delta("Infinity"),
    "-Infinity": delta("-Infinity"),
    "nan": delta("nan"),
    "+10": delta("+10"),
    "010": delta("010"),
    "0x10": delta("0x10"),
    ".5": delta(".5"),
    "5.": delta("5."),
    "1e": delta("1e"),
    "1_000": delta("1_000"),
    "other digits": '{"delta":\u0661\u0660,"reason":"grant"}'.encode(),
    "a BOM": b"\xef\xbb\xbf" + GRANT,
    "UTF-16": GRANT.decode().encode("utf-16"),
    "UTF-16 without a BOM": GRANT.decode().encode("utf-16-le"),
    "UTF-32": GRANT.decode().encode("utf-32"),
    "Latin-1": '{"delta":1,"reason":"é"}'.encode("latin-1"),
    "broken UTF-8": b'{"delta":1,"reason":"\xc3"}',
    "overlong UTF-8": b'{"delta":1,"reason":"\xc0\xaf"}',
    "a surrogate in UTF-8": b'{"delta":1,"reason":"\xed\xa0\x80"}',
    "a lone high surrogate": reason('"\\ud800"'),
    "a lone low surrogate": reason('"\\udc00"'),
    "a lone surrogate in a name": b'{"delta":1,"reason":"grant","\\ud800":1}',
    "a lone surrogate in an unknown member": b'{"delta":1,"reason":"grant","x":["\\udfff"]}',
    "delta twice": b'{"delta":1,"delta":1,"reason":"grant"}',
    "delta twice, once escaped": b'{"delta":1,"\\u0064elta":2,"reason":"grant"}',
    "reason twice": b'{"delta":1,"reason":"grant","reason":"consume"}',
    "an unknown member twice": b'{"delta":1,"reason":"grant","x":1,"x":2}',
    "a member twice inside": b'{"delta":1,"reason":"grant","x":{"a":1,"a":2}}',
    "100,000 brackets": b"[" * 100_000,
    "60,000 brackets": b"[" * 60_000,
    "30,000 pairs of brackets": b"[" * 30_000 + b"]" * 30_000,
    "10,000 nested objects": b'{"a":' * 10_000,
    "nested inside a member": b'{"delta":1,"reason":"grant","x":' + b"[" * 25_000 + b"]" * 25_000 + b"}",
    "cut off": GRANT[:-1],
    "cut off in text": GRANT[:-3],
    "two objects": GRANT + GRANT,
    "a trailing comma": b'{"delta":1,"reason":"grant",}',
    "a comment": b'{"delta":1,/* */"reason":"grant"}',
    "single quotes": b"{'delta':1,'reason':'grant'}",
    "names without quotes": b'{delta:1,reason:"grant"}',
    "a form": b"delta=1&reason=grant",
    "XML": b"<transaction/>",
    "MessagePack": b"\x82\xa5delta\x01\xa6reason\xa5grant",
    "gzip": bytes.fromhex("1f8b08000000000000ff"),
    "a bad escape": b'{"delta":1,"reason":"gr\\xant"}',
    "half an escape": b'{"delta":1,"reason":"\\u00"}',
    "10,000 different members, the last twice": b"{"
    + b",".join(b'"%04x":0' % number for number in range(6_500))
    + b',"1963":0}',
}


def post(api: Api, body: bytes, headers: Headers | None = None) -> Request:
    sent = [*api.as_server, *([JSON] if headers is None else headers)]
    operation = Operation.CREATE_TRANSACTION
    return Request(api.contract.routes[operation].method, api.path(operation), sent, body)


@pytest.mark.parametrize("name", VALIDATION)
def test_a_body_that_breaks_a_rule_is_a_validation_error(ada: Api, name: str) -> None:
    """validation_error, with details naming each field and its problem."""
    body, fields = VALIDATION[name]
    before = ada.state()
    error = assert_refused(ada.send(post(ada, body)), "validation_error")
    assert [problem["field"] for problem in error["details"]] == fields
    assert_sound(ada, before)


@pytest.mark.parametrize("name", MALFORMED)
def test_a_body_that_is_no_json_is_malformed(ada: Api, name: str) -> None:
    before = ada.state()
    body = MALFORMED[name]
    code = "payload_too_large" if len(body) > MAX_BODY_BYTES else "malformed_json"
    assert_refused(ada.send(post(ada, body)), code)
    assert_sound(ada, before)


@pytest.mark.parametrize("name", [*MALFORMED, *VALIDATION])
def test_create_user_survives_the_same_bodies(ada: Api, name: str) -> None:
    body = MALFORMED.get(name) or VALIDATION.get(name, (b"", []))[0]
    before = ada.state()
    got = ada.ask(Operation.CREATE_USER, body=body)
    assert got.status == 200 if body in (b"", b"{}") else got.status in (400, 413)
    assert_sound(ada, before)


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
def test_a_body_must_say_that_it_is_json(ada: Api, operation: Operation, media_types: tuple[bytes, ...]) -> None:
    """415: no or another Content-Type on a body."""
    before = ada.state()
    headers = [*ada.as_server, *((b"content-type", media_type) for media_type in media_types)]
    request = Request(ada.contract.routes[operation].method, ada.path(operation), headers, GRANT)
    assert_refused(ada.send(request), "unsupported_media_type")
    assert_sound(ada, before)


# ---------------------------------------------------------------- paths


PATHS: dict[str, tuple[bytes, str]] = {
    "the root": (b"/", "route_not_found"),
    "another version": (b"/v2/applications/app-id/users/ada/balance", "route_not_found"),
    "a slash at the end": (USER + b"/balance/", "route_not_found"),
    "two slashes": (b"/v1/applications/app-id//users/ada/balance", "route_not_found"),
    "two slashes in front": (b"//v1/applications/app-id/users/ada/balance", "route_not_found"),
    "only slashes": (b"////////", "route_not_found"),
    "an empty user": (b"/v1/applications/app-id/users//balance", "route_not_found"),
    "an empty user at the end": (b"/v1/applications/app-id/users/", "route_not_found"),
    "an empty application": (b"/v1/applications//users/ada/balance", "route_not_found"),
    "..": (b"/v1/applications/app-id/users/bob/../ada/balance", "route_not_found"),
    ".. as a user": (b"/v1/applications/app-id/users/../balance", "route_not_found"),
    ".. encoded": (b"/v1/applications/app-id/users/%2e%2E/balance", "route_not_found"),
    ".": (b"/v1/applications/app-id/users/./balance", "route_not_found"),
    ". encoded": (b"/v1/applications/%2e/users/ada/balance", "route_not_found"),
    "other case": (b"/V1/applications/app-id/users/ada/balance", "route_not_found"),
    "a matrix parameter": (b"/v1/applications/app-id/users/ada/balance;x=1", "route_not_found"),
    "a suffix": (USER + b"/balance.json", "route_not_found"),
    "a slash that is encoded is none": (b"/v1/applications%2Fapp-id/users/ada/balance", "route_not_found"),
    "encoded twice": (b"/v1/applications/app-id/users/%2561da/balance", "user_not_found"),
    ".. encoded twice": (b"/v1/applications/app-id/users/%252e%252e/balance", "user_not_found"),
    "a slash in the id": (b"/v1/applications/app-id/users/ada%2Fx/balance", "user_not_found"),
    "a plus": (b"/v1/applications/app-id/users/a+a/balance", "user_not_found"),
    "%zz": (b"/v1/applications/app-id/users/%zz/balance", "malformed_request"),
    "% at the end": (USER + b"%", "malformed_request"),
    "%4 at the end": (USER + b"%4", "malformed_request"),
    "% alone": (b"/%", "malformed_request"),
    "%u0041": (b"/v1/applications/app-id/users/%u0041/balance", "malformed_request"),
    "no UTF-8": (b"/v1/applications/app-id/users/%FF/balance", "malformed_request"),
    "half a character": (b"/v1/applications/app-id/users/%C3/balance", "malformed_request"),
    "overlong UTF-8": (b"/v1/applications/app-id/users/%C0%AF/balance", "malformed_request"),
    "a surrogate": (b"/v1/applications/app-id/users/%ED%A0%80/balance", "malformed_request"),
    "raw bytes": (b"/v1/applications/app-id/users/\xc3\xa9/balance", "malformed_request"),
    "raw broken bytes": (b"/v1/applications/app-id/users/\xff/balance", "malformed_request"),
    "NUL, encoded": (b"/v1/applications/app-id/users/%00/balance", "validation_error"),
    "a line feed, encoded": (b"/v1/applications/app-id/users/a%0Ab/balance", "validation_error"),
    "DEL, encoded": (b"/v1/applications/app-id/users/%7F/balance", "validation_error"),
    "C1, encoded": (b"/v1/applications/app-id/users/%C2%85/balance", "validation_error"),
    "a control character in the application": (b"/v1/applications/%1b/users/ada/balance", "validation_error"),
    "257 characters": (b"/v1/applications/app-id/users/" + b"x" * 257 + b"/balance", "validation_error"),
    "257 characters of two bytes": (b"/v1/applications/app-id/users/" + b"%C3%BC" * 257, "validation_error"),
    "an application of 257 characters": (b"/v1/applications/" + b"x" * 257 + b"/users", "validation_error"),
    "20,000 characters": (b"/v1/applications/app-id/users/" + b"x" * 20_000, "validation_error"),
    "10,000 segments": (b"/a" * 10_000, "route_not_found"),
    "20,000 characters of no route": (b"/v1/" + b"abc" * 6_000, "route_not_found"),
    "a quotation mark": (b'/v1/"quoted"', "route_not_found"),
    "markup": (b"/v1/<script>", "route_not_found"),
    "a path of our own that is not there": (b"/_fake/nothing", "route_not_found"),
    "a query of broken percent signs": (USER + b"?%zz&%&a=%f", ""),
    "a long query": (USER + b"?" + b"a=b&" * 4_000, ""),
    "a cursor where none belongs": (USER + b"?cursor=x", ""),
    "question marks": (USER + b"????", ""),
}


@pytest.mark.parametrize("name", PATHS)
def test_paths_are_taken_as_they_come(ada: Api, name: str) -> None:
    """Each segment is decoded once; an empty one, `//`, `.` and `..` are 404, never normalised; `%zz` is 400."""
    target, code = PATHS[name]
    before = ada.state()
    got = ada.send(Request("GET", target, ada.as_server, b""))
    if code:
        assert_refused(got, code)
    else:
        assert got.status == 200
    assert_sound(ada, before)


def test_an_id_of_256_characters_is_good(ada: Api) -> None:
    got = ada.send(Request("GET", b"/v1/applications/app-id/users/" + b"%C3%BC" * 256, ada.as_server, b""))
    assert_refused(got, "user_not_found")


# ---------------------------------------------------------------- methods


@pytest.mark.parametrize("method", sorted(HTTP_METHODS - {"GET", "PUT", "CONNECT", "HEAD"}))
def test_a_method_that_the_parser_knows_is_405(ada: Api, method: str) -> None:
    """405 + Allow, for every method that the HTTP parser knows (QUERY is one)."""
    before = ada.state()
    got = ada.send(Request(method, USER, ada.as_server, b""))
    assert_refused(got, "method_not_allowed")
    assert got.header("allow") == "GET, HEAD, PUT"
    assert_sound(ada, before)


def test_head_is_answered_as_get_is_without_the_body(ada: Api) -> None:
    """RFC 9110, section 9.3.2: with the same headers, those of the body too."""
    before = ada.state()
    got, head = (ada.send(Request(method, USER, ada.as_server)) for method in ("GET", "HEAD"))
    assert (head.status, head.body, len(got.body)) == (200, b"", int(head.header("content-length") or 0))
    own = {"x-request-id", "date"}
    assert {header for header in head.headers if header[0] not in own} == {
        header for header in got.headers if header[0] not in own
    }
    assert_sound(ada, before)


@pytest.mark.parametrize(("target", "code"), [(USER + b"x", "user_not_found"), (b"/v1/x", "route_not_found")])
def test_a_refusal_of_head_has_no_body(ada: Api, target: bytes, code: str) -> None:
    before = ada.state()
    got = ada.send(Request("HEAD", target, ada.as_server))
    assert_refused(got, code, head=True)
    assert int(got.header("content-length") or 0) > 0
    assert_sound(ada, before)


@pytest.mark.parametrize("method", ["FOO", "get", "Get", "GETT", "G", "PRI", "X" * 300, "0", "G-T", "BREW"])
def test_what_is_no_method_is_malformed(ada: Api, method: str) -> None:
    before = ada.state()
    assert_refused(ada.send(Request(method, USER, ada.as_server, b"")), "malformed_request")
    assert_sound(ada, before)


# ---------------------------------------------------------------- credentials


def credentials(api: Api) -> dict[str, tuple[Headers, str]]:
    key, token = api.as_server[0], api.as_user()[0]
    name = b"authorization"
    bearer = api.credits.token("ada").encode()
    return {
        "none": ([], "missing_credentials"),
        "both": ([key, token], "ambiguous_credentials"),
        "both, the token first": ([token, key], "ambiguous_credentials"),
        "two API-key headers": ([key, key], "ambiguous_credentials"),
        "two API-key headers, one wrong": ([key, (key[0], b"x")], "ambiguous_credentials"),
        "two tokens": ([token, token], "ambiguous_credentials"),
        "a good key and a bad token": ([key, (name, b"Bearer x")], "ambiguous_credentials"),
        "an empty key": ([(key[0], b"")], "missing_credentials"),
        "a blank key": ([(key[0], b"  ")], "missing_credentials"),
        "a wrong key": ([(key[0], b"wrong")], "invalid_api_key"),
        "a key with more": ([(key[0], key[1] + b"x")], "invalid_api_key"),
        "a key cut off": ([(key[0], key[1][:-1])], "invalid_api_key"),
        "a key in capitals": ([(key[0], key[1].upper())], "invalid_api_key"),
        "a key of odd bytes": ([(key[0], b"\xff\xe9")], "invalid_api_key"),
        "a key of 20,000 characters": ([(key[0], b"x" * 20_000)], "invalid_api_key"),
        "two keys in one": ([(key[0], key[1] + b", " + key[1])], "invalid_api_key"),
        "the key as a token": ([(name, b"Bearer " + key[1])], "invalid_token"),
        "the token as a key": ([(key[0], bearer)], "invalid_api_key"),
        "no token after the scheme": ([(name, b"Bearer")], "missing_credentials"),
        "a space after the scheme": ([(name, b"Bearer ")], "missing_credentials"),
        "Basic": ([(name, b"Basic dXNlcjpwYXNz")], "missing_credentials"),
        "a token without a scheme": ([(name, bearer)], "missing_credentials"),
        "another scheme with a token": ([(name, b"Token " + bearer)], "missing_credentials"),
        "no token at all": ([(name, b"Bearer nonsense")], "invalid_token"),
        "two dots": ([(name, b"Bearer ..")], "invalid_token"),
        "a token of odd bytes": ([(name, b"Bearer \xff.\xff.\xff")], "invalid_token"),
        "two tokens in one": ([(name, b"Bearer " + bearer + b", " + bearer)], "invalid_token"),
        "a token with padding": ([(name, b"Bearer " + bearer + b"=")], "invalid_token"),
        "a token with a line's end": ([(name, b"Bearer " + bearer + b"\\n")], "invalid_token"),
        "a token of 20,000 characters": ([(name, b"Bearer " + b"a.b." + b"x" * 20_000)], "invalid_token"),
    }


@pytest.mark.parametrize("at", range(30))
def test_a_bad_credential_is_refused(ada: Api, at: int) -> None:
    name, (headers, code) = list(credentials(ada).items())[at]
    before = ada.state()
    for operation in (Operation.GET_BALANCE, Operation.CREATE_TRANSACTION):
        body = GRANT if operation is Operation.CREATE_TRANSACTION else b""
        assert assert_refused(ada.ask(operation, who=headers, body=body), code), name
    assert_sound(ada, before)


@pytest.mark.parametrize("kind", BAD_TOKENS)
@pytest.mark.parametrize("operation", [Operation.GET_BALANCE, Operation.CREATE_TRANSACTION])
def test_every_bad_token_is_refused(ada: Api, kind: str, operation: Operation) -> None:
    before = ada.state()
    body = GRANT if operation is Operation.CREATE_TRANSACTION else b""
    got = ada.ask(operation, who=ada.as_token(ada.credits.token("ada", bad=kind)), body=body)
    foreign = operation.requires_api_key and kind == "other_user"  # genuine: the write is what it may not
    assert_refused(got, "insufficient_scope" if foreign else BAD_TOKENS[kind].code)
    assert_sound(ada, before)


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize("operation", list(Operation))
def test_a_body_over_the_limit_is_refused(ada: Api, operation: Operation) -> None:
    before = ada.state()
    assert_refused(ada.ask(operation, body=b" " * (MAX_BODY_BYTES + 1)), "payload_too_large")
    assert_sound(ada, before)


def test_a_body_of_just_the_limit_is_read(ada: Api) -> None:
    body = GRANT + b" " * (MAX_BODY_BYTES - len(GRANT))
    assert ada.send(post(ada, body)).status == 201


@pytest.mark.parametrize("length", [b"65537", b"9" * 30, b"9" * 5000])
def test_a_body_that_announces_too_much_is_refused_unread(ada: Api, length: bytes) -> None:
    before = ada.state()
    got = ada.send(post(ada, b"", [JSON, (b"content-length", length)]))
    # A length beyond 2^64 is no HTTP to the live server's parser.
    assert got.status in (400, 413)
    assert got.json()["error"]["code"] in ("payload_too_large", "malformed_request")
    assert_sound(ada, before)


# ---------------------------------------------------------------- anything at all, in process


@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "OPTIONS"]),
    target=st.binary(max_size=80)
    | st.lists(
        st.sampled_from(
            [b"/", b"v1", b"applications", b"users", b"/ada", b"balance", b"%", b"%2", b"%ff", b"..", b"?", b"#"]
        )
    ).map(b"".join),
    body=st.binary(max_size=200),
    who=st.sampled_from(["server", "user", "none"]),
)
@example("GET", b"", b"", "server")
@example("GET", b"?", b"", "server")
@example("GET", b"/_fake/\xff", b"", "none")
@settings(max_examples=150)
def test_no_bytes_make_a_500_or_raise(
    shared: SharedResources, method: str, target: bytes, body: bytes, who: str
) -> None:
    with FakeCredits(shared=shared, users={"ada": BALANCE}) as fake:
        api = Api(fake, "in-process", shared)
        headers = {"server": api.as_server, "user": api.as_user(), "none": []}[who]
        for path in (target, USER + b"/" + target, USER + b"?" + target):
            assert api.send(Request(method, path, [*headers, JSON], body)).status < 500
        assert fake.problems() == []


@given(
    body=st.binary(max_size=60) | st.from_regex(rb'\{"(delta|reason)": ?[-0-9.eE"a-z\[\]{}]*(,.*)?\}', fullmatch=True)
)
@settings(max_examples=150)
def test_no_body_makes_a_500_or_raises(shared: SharedResources, body: bytes) -> None:
    with FakeCredits(shared=shared, users={"ada": BALANCE}) as fake:
        api = Api(fake, "in-process", shared)
        got = api.send(post(api, body))
        assert got.status == 201 or got.json()["error"]["code"] in (
            "malformed_json",
            "validation_error",
            "insufficient_credits",
        )
        assert fake.problems() == []


@given(name=st.binary(min_size=1, max_size=20), value=st.binary(max_size=40))
@settings(max_examples=150)
def test_no_header_makes_a_500_or_raises(shared: SharedResources, name: bytes, value: bytes) -> None:
    known = [b"x-api-key", b"authorization", b"content-type", b"content-length", b"host", b"origin", b"idempotency-key"]
    with FakeCredits(shared=shared, users={"ada": BALANCE}) as fake:
        api = Api(fake, "in-process", shared)
        for each in (name, *known):
            for target in (USER, b"/.well-known/openid-configuration", b"/_fake/livez"):
                got = api.send(Request("GET", target, [*api.as_server, (each, value)], b""))
                assert got.status < 500
        assert fake.problems() == []


# ---------------------------------------------------------------- the wire itself


def request(api: Api, *lines: bytes, host: bool = True, key: bool = True) -> bytes:
    """Return a request's bytes: its lines, with Host and the API key after the first unless told otherwise."""
    first, *rest = lines
    extra = [b"Host: " + api.host.encode()] if host else []
    if key:
        extra.append(b": ".join(api.as_server[0]))
    return b"\r\n".join([first, *extra, *rest, b"", b""])


GARBAGE: dict[str, bytes] = {
    "NULs": b"\0" * 100,
    "TLS": bytes.fromhex("16030100050100000100") + b"\r\n\r\n",
    "random bytes": bytes(range(256)),
    "words": b"hello\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/9.9": b"GET / HTTP/9.9\r\n\r\n",
    "another protocol": b"GET / SIP/2.0\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n",
    "a fragment": b"GET /v1/x#y HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a relative target": b"GET v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\n\r\n",
    "two spaces and no slash": b"GET  x HTTP/1.1\r\n\r\n",
    "a space in the path": b"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a tab in the path": b"GET /a\tb HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "NUL in the path": b"GET /a\0b HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
    "a header without a name": b"GET / HTTP/1.1\r\n: x\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\nHost: localhost\r\n x\r\n\r\n",
    "NUL in a header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
    "a bare CR in a header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n",
    "Content-Length is text": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: ten\r\n\r\n",
    "Content-Length is negative": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    "Content-Length has a sign": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: +1\r\n\r\nx",
    "Content-Length beyond 2^64": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "two Content-Lengths": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "both lengths": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0",
    "two codings": b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
    "CONNECT": b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no Host": b"GET /v1/x HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET /v1/x HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
    "an empty Host": b"GET /v1/x HTTP/1.1\r\nHost:\r\n\r\n",
    "a Host with a space": b"GET /v1/x HTTP/1.1\r\nHost: local host\r\n\r\n",
    "a Host with a path": b"GET /v1/x HTTP/1.1\r\nHost: localhost/x\r\n\r\n",
    "a Host with a user": b"GET /v1/x HTTP/1.1\r\nHost: user@localhost\r\n\r\n",
    "a Host with a bad port": b"GET /v1/x HTTP/1.1\r\nHost: localhost:port\r\n\r\n",
    "a Host of odd bytes": b"GET /v1/x HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n",
    "a Host with an open bracket": b"GET /v1/x HTTP/1.1\r\nHost: [::1\r\n\r\n",
    "two Hosts in one": b"GET /v1/x HTTP/1.1\r\nHost: localhost, localhost\r\n\r\n",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_what_is_no_http_gets_the_contracts_error_body(socketed: Api, name: str) -> None:
    """400 malformed_request: what the HTTP parser refuses, in the error body too."""
    before = socketed.state()
    with socketed.connect() as connection:
        connection.sendall(GARBAGE[name])
        connection.shutdown(socket.SHUT_WR)
        got = read(connection)
    assert_refused(got, "malformed_request")
    assert socketed.credits.journal.entries()[-1].request_id == got.header("x-request-id")
    assert_sound(socketed, before)


@pytest.mark.parametrize("target", [b"*", b"/", b"/v1/x"])
@pytest.mark.parametrize("method", ["OPTIONS", "GET", "CONNECT"])
def test_targets_that_name_nothing_are_404(ada: Api, method: str, target: bytes) -> None:
    """`OPTIONS *` asks about the server as a whole; the contract has no answer to that but 404."""
    if ada.mode == "live" and method == "CONNECT" and target == b"*":
        pytest.skip("no target of CONNECT: the parser refuses it")
    before = ada.state()
    assert_refused(ada.send(Request(method, target, ada.as_server, b"")), "route_not_found")
    assert_sound(ada, before)


@pytest.mark.parametrize(
    "host", [b"example.com", b"api.acme.com:443", b"127.0.0.1.nip.io", b"169.254.169.254", b"[2001:db8::1]", b"0.0.0.0"]
)
@pytest.mark.parametrize("target", [USER, b"/nothing", b"/_fake/livez", b"/.well-known/jwks.json"])
def test_a_foreign_host_is_421_and_the_message_names_the_flag(socketed: Api, host: bytes, target: bytes) -> None:
    before = socketed.state()
    got = socketed.send(Request("GET", target, [*socketed.as_server, (b"host", host)], b""))
    assert "--allow-host" in assert_refused(got, "host_not_allowed")["message"]
    assert got.header("x-fake-credits-cause") == "host"
    assert_sound(socketed, before)


@pytest.mark.parametrize(
    "host", [b"localhost", b"LOCALHOST:1", b"api.localhost", b"127.0.0.1", b"127.9.9.9:80", b"[::1]:9"]
)
def test_loopback_names_are_answered(socketed: Api, host: bytes) -> None:
    assert socketed.send(Request("GET", USER, [*socketed.as_server, (b"host", host)], b"")).status == 200


def test_in_process_no_host_is_checked(shared: SharedResources) -> None:
    with FakeCredits(shared=shared, users={"ada": BALANCE}) as fake:
        api = Api(fake, "in-process", shared)
        for host in (b"api.acme.com", b"", b"\xff"):
            assert api.send(Request("GET", USER, [*api.as_server, (b"host", host)], b"")).status == 200


def test_an_absolute_target_is_its_path(socketed: Api) -> None:
    target = b"http://localhost" + USER + b"/balance"
    assert socketed.send(Request("GET", target, socketed.as_server, b"")).json() == {"balance": BALANCE}


def test_the_authority_of_an_absolute_target_takes_the_place_of_the_host(socketed: Api) -> None:
    """RFC 9112, section 3.2.2."""
    target = b"http://elsewhere.test" + USER + b"/balance"
    assert_refused(socketed.send(Request("GET", target, socketed.as_server, b"")), "host_not_allowed")


@pytest.mark.parametrize("target", [b"http://localhost", b"http://localhost?a=b"])
def test_an_absolute_target_without_a_path_is_the_root(socketed: Api, target: bytes) -> None:
    """RFC 9110, section 4.2.3."""
    assert (
        "GET /;"
        in assert_refused(socketed.send(Request("GET", target, socketed.as_server)), "route_not_found")["message"]
    )


@pytest.mark.parametrize("has_host", [True, False])
def test_http_1_0_is_answered_and_closed(socketed: Api, *, has_host: bool) -> None:
    """It knows no Host (RFC 9112, section 3.2)."""
    with socketed.connect() as connection:
        sent = request(socketed, b"GET " + USER + b"/balance HTTP/1.0")
        connection.sendall(sent if has_host else re.sub(rb"(?i)host: [^\r]*\r\n", b"", sent))
        assert read(connection).json() == {"balance": BALANCE}
        assert connection.recv(1) == b""


def test_a_bare_line_feed_ends_a_line(socketed: Api) -> None:
    """RFC 9112, section 2.2, lets a server take LF for CRLF; refusing is as good, a 500 is not."""
    before = socketed.state()
    with socketed.connect() as connection:
        connection.sendall(request(socketed, b"GET " + USER + b"/balance HTTP/1.1").replace(b"\r\n", b"\n"))
        connection.shutdown(socket.SHUT_WR)
        assert read(connection).status in (200, 400)
    assert_sound(socketed, before)


@pytest.mark.parametrize(
    "upgrade", [(b"websocket", b"GET"), (b"h2c", b"GET"), (b"websocket", b"POST"), (b"h2c", b"POST")]
)
def test_an_upgrade_is_passed_over(socketed: Api, upgrade: tuple[bytes, bytes]) -> None:
    protocol, method = upgrade
    lines = [method + b" " + USER + b" HTTP/1.1", b"Connection: Upgrade", b"Upgrade: " + protocol]
    with socketed.connect() as connection:
        connection.sendall(request(socketed, *lines))
        got = read(connection)
    assert got.status == (200 if method == b"GET" else 405)


@pytest.mark.parametrize("name", [b"Upgrade", b"upgrade", b"UPGRADE"])
def test_the_body_and_the_next_request_outlive_an_offer_to_upgrade(socketed: Api, name: bytes) -> None:
    """Java's HttpClient offers h2c with each request; RFC 9110, section 7.8, lets a server pass it over."""
    lines = [
        b"Connection: Upgrade, HTTP2-Settings",
        name + b": h2c",
        b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    ]
    body = [b"Content-Type: application/json", b"Content-Length: %d" % len(GRANT)]
    with socketed.connect() as connection:
        connection.sendall(request(socketed, b"POST " + USER + b"/transactions HTTP/1.1", *lines, *body) + GRANT)
        assert read(connection).status == 201
        connection.sendall(request(socketed, b"GET " + USER + b"/balance HTTP/1.1", *lines))
        assert read(connection).json() == {"balance": BALANCE + 100}
        connection.sendall(request(socketed, b"GET " + USER + b"/balance HTTP/1.1", *lines))
        assert read(connection).status == 200


def test_pipelined_requests_are_answered_in_order(socketed: Api) -> None:
    paths = [USER + b"/balance", USER, USER + b"/nothing", USER + b"/balance"]
    with socketed.connect() as connection:
        connection.sendall(b"".join(request(socketed, b"GET " + path + b" HTTP/1.1") for path in paths))
        reader = connection.makefile("rb")
        with reader:
            statuses = [status_and_skip(reader) for _ in paths]
    assert statuses == [200, 200, 404, 200]
    assert [entry.status for entry in socketed.credits.journal] == statuses


def status_and_skip(reader: socket.SocketIO | object) -> int:
    """Return the next answer's status from a buffered reader, and leave it at the following one."""
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


def test_a_half_closed_client_gets_its_answer(socketed: Api) -> None:
    with socketed.connect() as connection:
        connection.sendall(request(socketed, b"GET " + USER + b"/balance HTTP/1.1"))
        connection.shutdown(socket.SHUT_WR)
        assert read(connection).json() == {"balance": BALANCE}


def wait_for(api: Api, count: int) -> None:
    """Wait until so many exchanges are in the journal: the server has no other way to say that it noticed."""
    limit_s, pause = monotonic_s() + LIMIT_S, threading.Event()
    while len(api.credits.journal) < count:
        assert monotonic_s() < limit_s, list(api.credits.journal)
        pause.wait(0.001)


@pytest.mark.parametrize("sent", [b"", GRANT[:10]])
@pytest.mark.parametrize("announced", [b"Content-Length: %d" % len(GRANT), b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("cut", ["close", "reset"])
def test_a_client_that_dies_in_its_body_commits_nothing(socketed: Api, sent: bytes, announced: bytes, cut: str) -> None:
    before = socketed.state()
    body = b"%x\r\n%b" % (len(GRANT), sent) if sent and b"chunked" in announced else sent
    head = request(socketed, b"POST " + USER + b"/transactions HTTP/1.1", b"Content-Type: application/json", announced)
    connection = socketed.connect()
    connection.sendall(head + body)
    if cut == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
    wait_for(socketed, 1)
    entry = socketed.credits.journal.entries()[0]
    assert (entry.code, entry.committed, entry.delivered) == ("malformed_request", False, False)
    assert_sound(socketed, before)


def test_a_length_that_says_too_little_cuts_the_body(socketed: Api) -> None:
    """What follows the announced body is the next request, and is none."""
    before = socketed.state()
    sent = request(
        socketed, b"POST " + USER + b"/transactions HTTP/1.1", b"Content-Type: application/json", b"Content-Length: 5"
    )
    with socketed.connect() as connection:
        connection.sendall(sent + GRANT)
        got = read(connection)
    assert got.status == 400
    assert got.json()["error"]["code"] in ("malformed_json", "malformed_request")
    wait_for(socketed, 2)
    assert_sound(socketed, before)


@pytest.mark.parametrize(
    "body",
    [b"zz\r\n", b"-1\r\n", b"5\r\nabcdefgh\r\n", b"ffffffffffffffffff\r\n", b"5 5\r\nabcde\r\n", b"\r\n"],
)
def test_broken_chunks_commit_nothing(socketed: Api, body: bytes) -> None:
    before = socketed.state()
    lines = [b"POST " + USER + b"/transactions HTTP/1.1", b"Content-Type: application/json"]
    with socketed.connect() as connection:
        connection.sendall(request(socketed, *lines, b"Transfer-Encoding: chunked") + body)
        assert_refused(read(connection), "malformed_request")
        assert connection.recv(1) == b""
    limit_s = monotonic_s() + LIMIT_S
    while socketed.credits.journal.in_flight and monotonic_s() < limit_s:
        threading.Event().wait(0.001)
    assert_sound(socketed, before)


def test_chunks_and_trailers_make_one_body(socketed: Api) -> None:
    lines = [b"POST " + USER + b"/transactions HTTP/1.1", b"Content-Type: application/json"]
    chunks = b"".join(b"1;ext=1\r\n%c\r\n" % byte for byte in GRANT) + b"0\r\nX-Trailer: x\r\n\r\n"
    with socketed.connect() as connection:
        connection.sendall(request(socketed, *lines, b"Transfer-Encoding: chunked") + chunks)
        assert read(connection).status == 201
    assert socketed.credits.balance("ada") == BALANCE + 100


def test_a_client_that_waits_to_be_told_to_continue_is_told(socketed: Api) -> None:
    lines = [b"POST " + USER + b"/transactions HTTP/1.1", b"Content-Type: application/json", b"Expect: 100-continue"]
    with socketed.connect() as connection:
        connection.sendall(request(socketed, *lines, b"Content-Length: %d" % len(GRANT)))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(GRANT)
        assert read(connection).status == 201


# ---------------------------------------------------------------- heads without end


def flood(head: bytes, piece: bytes) -> Iterator[bytes]:
    yield head
    for _ in range(64):
        yield piece


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"GET /", b"x" * 65_536),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ", b"x" * 65_536),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X-Many: many\r\n" * 5_000),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"x" * 65_536),
    ],
    ids=["request line", "header value", "header bomb", "header name"],
)
def test_a_head_without_end_is_refused(socketed: Api, head: bytes, piece: bytes) -> None:
    """Everything has a limit: a head of more than 64 KiB is refused before it is whole."""
    before = socketed.state()
    with socketed.connect() as connection:
        try:
            for part in flood(head, piece):
                connection.sendall(part)
        except OSError:
            pass  # it stopped listening, as it should
        wait_for(socketed, 1)
    assert [entry.code for entry in socketed.credits.journal] == ["malformed_request"]
    assert_sound(socketed, before)


def test_a_whole_head_over_the_limit_gets_the_error_body(socketed: Api) -> None:
    before = socketed.state()
    got = socketed.send(Request("GET", USER, [*socketed.as_server, (b"x-long", b"x" * 66_000)], b""))
    assert_refused(got, "malformed_request")
    assert_sound(socketed, before)


def test_a_head_below_the_limit_is_answered(ada: Api) -> None:
    sent = [*ada.as_server, (b"x-long", b"x" * 30_000), *[(b"x-many", b"many")] * 1_000]
    assert ada.send(Request("GET", USER, sent, b"")).status == 200


# ---------------------------------------------------------------- bodies without end


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def pour(connection: socket.socket, head: bytes, size: int) -> None:
    """Send a chunked body of so many bytes from one buffer, for as long as the server takes it."""
    chunk = memoryview(b"%x\r\n" % MIB + b" " * MIB + b"\r\n")
    try:
        connection.sendall(head)
        for _ in range(size // MIB):
            connection.sendall(chunk)
        connection.sendall(b"0\r\n\r\n")
    except OSError:
        pass  # refused and cut: that is the server's right


@pytest.mark.parametrize("size", [64 * MIB, pytest.param(1024 * MIB, marks=pytest.mark.slow)], ids=["64 MiB", "1 GiB"])
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_a_chunked_body_without_end_is_refused_and_memory_stays_flat(socketed: Api, size: int) -> None:
    """413 payload_too_large: a body over the limit is refused without being read to memory."""
    before, resident = socketed.state(), resident_bytes()
    lines = [b"POST " + USER + b"/transactions HTTP/1.1", b"Content-Type: application/json"]
    head = request(socketed, *lines, b"Transfer-Encoding: chunked")
    with socketed.connect() as connection:
        sender = threading.Thread(target=pour, args=(connection, head, size))
        sender.start()
        got = read(connection)
        sender.join(LIMIT_S)
        assert not sender.is_alive()
        assert_refused(got, "payload_too_large")
    assert resident_bytes() - resident < 20_000_000
    assert_sound(socketed, before)


def test_there_are_more_than_120_bad_requests() -> None:
    assert len(VALIDATION) + len(MALFORMED) + len(PATHS) + len(GARBAGE) + len(BAD_TOKENS) > 120
