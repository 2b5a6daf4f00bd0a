"""One test case for each behavior of an effect: the rule, the call, and the expected response and journal entry.

The cases run in process and on the live server, with the same expectations.
"""

import contextlib
import json
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from fake_credits.client.http import NetworkTransport
from fake_credits.fake import ClientMode, FakeCredits
from fake_credits.faults.effects import (
    BadCursor,
    Close,
    Drip,
    DuplicateWrite,
    Garbage,
    Hang,
    HoldAtGate,
    Latency,
    LateWrite,
    NotJson,
    RateLimit,
    Reset,
    SchemaDrift,
    StaleRead,
    Status,
    Truncate,
    Unauthorized,
)
from fake_credits.faults.rule import Rule
from fake_credits.http_message import Outcome, Transport
from fake_credits.transports.in_process import InProcessDriver, InProcessTransport
from fake_credits.transports.shared_resources import SharedResources

__all__ = [
    "CALLS",
    "EFFECT_CASES",
    "START",
    "EffectCase",
    "ReceivedResponse",
    "RequestSpec",
    "assert_effect_case",
    "fake_with_rule",
    "gates_released",
    "open_transport",
]

START = datetime(2026, 3, 1, 12, 30, 15, 678_000, UTC)
GARBAGE_BYTES = b"\x16\x03\x01\x02\x00SSH-2.0-nonsense\r\n\x00\xff\xfe\r\n\r\n"
_USER = "/v1/applications/app-id/users/user-id"


class RequestSpec(NamedTuple):
    """A request, authenticated by a user token if ``by_user`` is set, else by the API key."""

    method: str
    target: str
    body: bytes = b""
    by_user: bool = False

    def headers(self, fake: FakeCredits) -> list[tuple[bytes, bytes]]:
        """Return the headers, without Host and Content-Length."""
        key = (b"x-api-key", fake.api_key.encode())
        credential = (b"authorization", f"Bearer {fake.token()}".encode()) if self.by_user else key
        json_type = [(b"content-type", b"application/json")] if self.body else []
        return [credential, *json_type]


CALLS: Mapping[str, RequestSpec] = {
    "balance": RequestSpec("GET", f"{_USER}/balance"),
    "own balance": RequestSpec("GET", f"{_USER}/balance", by_user=True),
    "spend": RequestSpec("POST", f"{_USER}/transactions", b'{"delta":-1,"reason":"consume"}'),
    "overspend": RequestSpec("POST", f"{_USER}/transactions", b'{"delta":-101,"reason":"consume"}'),
    "history": RequestSpec("GET", f"{_USER}/transactions"),
    "users": RequestSpec("GET", "/v1/applications/app-id/users"),
    "user": RequestSpec("GET", _USER),
    "new user": RequestSpec("PUT", "/v1/applications/app-id/users/bob"),
}


class ReceivedResponse(NamedTuple):
    """A response as received by a client; the status is 0 if there was no response head."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes
    outcome: Outcome = "whole"

    @property
    def members(self) -> dict[str, Any]:
        """Return the members of the JSON body."""
        return dict(json.loads(self.body))


Check = Callable[[ReceivedResponse, ReceivedResponse], None]
"""Assertions about a response, given the baseline response without faults."""


class EffectCase(NamedTuple):
    """A rule, and the expected outcome of the ``call`` made after the unaffected ``prior_calls``.

    ``partial_size`` maps the size of the baseline body to the size received, ``spent`` is the total cost for the user,
    and ``journal`` holds the status, committed and delivered fields of the last journal entry.
    """

    rule: Rule
    call: str
    check: Check
    journal: tuple[int, bool, bool]
    outcome: Outcome = "whole"
    partial_size: Callable[[int], int] | None = None
    spent: int = 0
    prior_calls: Sequence[str] = ()


# ------------------------------------------------------------ checks


def _unchanged(response: ReceivedResponse, baseline: ReceivedResponse) -> None:
    ignored = (b"x-request-id", b"date")
    assert (response.status, response.body, response.outcome) == (baseline.status, baseline.body, "whole")
    assert {**response.headers, **dict.fromkeys(ignored)} == {**baseline.headers, **dict.fromkeys(ignored)}


def _no_response(response: ReceivedResponse, _baseline: ReceivedResponse) -> None:
    assert (response.status, response.headers, response.body) == (0, {}, b"")


def _garbage(response: ReceivedResponse, _baseline: ReceivedResponse) -> None:
    assert (response.status, response.headers, response.body) == (0, {}, GARBAGE_BYTES)


def _partial_body(response: ReceivedResponse, baseline: ReceivedResponse) -> None:
    """Check for a complete head with the full Content-Length, and a partial body."""
    assert (response.status, response.headers[b"content-length"]) == (baseline.status, b"%d" % len(baseline.body))
    assert baseline.body.startswith(response.body)
    assert len(response.body) < len(baseline.body)


def _error(status: int, code: str, retry_after: bytes | None = None) -> Check:
    def check(response: ReceivedResponse, _baseline: ReceivedResponse) -> None:
        assert (response.status, response.members["error"]["code"]) == (status, code)
        assert response.members["error"]["requestId"].encode() == response.headers[b"x-request-id"]
        assert response.headers.get(b"retry-after") == retry_after
        assert response.headers[b"content-type"] == b"application/json"

    return check


def _not_json(status: int, media_type: bytes, start: bytes) -> Check:
    def check(response: ReceivedResponse, _baseline: ReceivedResponse) -> None:
        assert (response.status, response.headers[b"content-type"]) == (status, media_type)
        assert response.body[: len(start) or None] == start
        assert response.headers[b"content-length"] == b"%d" % len(response.body)

    return check


def _has_members(**members: object) -> Check:
    def check(response: ReceivedResponse, baseline: ReceivedResponse) -> None:
        assert response.status == baseline.status
        assert response.members.items() >= members.items()

    return check


def _without_created_at(response: ReceivedResponse, baseline: ReceivedResponse) -> None:
    expected = baseline.members
    del expected["createdAt"]
    assert response.members == expected


def _with_cursor(response: ReceivedResponse, baseline: ReceivedResponse) -> None:
    assert response.members["transactions"] == baseline.members["transactions"]
    assert "nextCursor" in response.members
    assert "nextCursor" not in baseline.members


def _empty_page_with_cursor(response: ReceivedResponse, _baseline: ReceivedResponse) -> None:
    assert response.members["transactions"] == []
    assert response.members["nextCursor"]


# ------------------------------------------------------------ cases


def _half(size: int) -> int:
    return size // 2


def _first_bytes(count: int) -> Callable[[int], int]:
    return lambda size: min(count, size - 1)


def _after_rule(effect: Any) -> Rule:
    return Rule(effect=effect, phase="after")


def _rule(effect: Any, **options: Any) -> Rule:
    return Rule(effect=effect, **options)


OK, COMMITTED, COMMITTED_LOST = (200, False, True), (201, True, True), (201, True, False)
NO_RESPONSE, READ_LOST = (0, False, False), (200, False, False)

EFFECT_CASES: Mapping[str, EffectCase] = {
    "latency before": EffectCase(_rule(Latency(5)), "balance", _unchanged, OK),
    "latency after": EffectCase(_after_rule(Latency(5)), "spend", _unchanged, COMMITTED, spent=1),
    "status before": EffectCase(_rule(Status(503)), "spend", _error(503, "unavailable"), (503, False, True)),
    "status after": EffectCase(
        _after_rule(Status(502)), "spend", _error(502, "bad_gateway"), (502, True, True), spent=1
    ),
    "status after a rejection": EffectCase(
        _after_rule(Status(500)), "overspend", _error(500, "server_error"), (500, False, True)
    ),
    "status with a code": EffectCase(
        _rule(Status(409, "too_late")), "spend", _error(409, "too_late"), (409, False, True)
    ),
    "status with retry_after": EffectCase(
        _rule(Status(503, retry_after_s=2.2)), "balance", _error(503, "unavailable", b"3"), (503, False, True)
    ),
    "status with date": EffectCase(
        _rule(Status(429, retry_after_s=2, retry_after_form="date")),
        "balance",
        _error(429, "rate_limited", b"Sun, 01 Mar 2026 12:30:18 GMT"),
        (429, False, True),
    ),
    "status with garbage": EffectCase(
        _rule(Status(503, retry_after_s=2, retry_after_form="garbage")),
        "balance",
        _error(503, "unavailable", b"soon"),
        (503, False, True),
    ),
    "status without retry_after": EffectCase(
        _rule(Status(503, retry_after_s=2, retry_after_form="absent")),
        "balance",
        _error(503, "unavailable"),
        (503, False, True),
    ),
    "rate_limit": EffectCase(
        _rule(RateLimit(1, 60)),
        "spend",
        _error(429, "rate_limited", b"60"),
        (429, False, True),
        prior_calls=["balance"],
    ),
    "reset before": EffectCase(_rule(Reset()), "spend", _no_response, NO_RESPONSE, "reset"),
    "reset after": EffectCase(_after_rule(Reset()), "spend", _no_response, COMMITTED_LOST, "reset", spent=1),
    "reset after a rejection": EffectCase(
        _after_rule(Reset()), "overspend", _no_response, (402, False, False), "reset"
    ),
    "close before": EffectCase(_rule(Close()), "spend", _no_response, NO_RESPONSE, "closed"),
    "close after": EffectCase(_after_rule(Close()), "spend", _no_response, COMMITTED_LOST, "closed", spent=1),
    "hang before": EffectCase(_rule(Hang()), "spend", _no_response, NO_RESPONSE, "timeout"),
    "hang after": EffectCase(_after_rule(Hang()), "spend", _no_response, COMMITTED_LOST, "timeout", spent=1),
    "truncate and close": EffectCase(
        _rule(Truncate(5)), "spend", _partial_body, COMMITTED_LOST, "closed", _first_bytes(5), spent=1
    ),
    "truncate and reset": EffectCase(
        _rule(Truncate(5, then="reset")), "spend", _partial_body, COMMITTED_LOST, "reset", _first_bytes(5), spent=1
    ),
    "truncate and hang": EffectCase(
        _rule(Truncate(5, then="hang")), "spend", _partial_body, COMMITTED_LOST, "timeout", _first_bytes(5), spent=1
    ),
    "truncate fraction": EffectCase(
        _rule(Truncate(fraction=0.5)), "balance", _partial_body, READ_LOST, "closed", _half
    ),
    "truncate at 0": EffectCase(_rule(Truncate(0)), "balance", _partial_body, READ_LOST, "closed", _first_bytes(0)),
    "truncate last byte": EffectCase(
        _rule(Truncate(10**6)), "balance", _partial_body, READ_LOST, "closed", _first_bytes(10**6)
    ),
    "drip": EffectCase(_rule(Drip(3, 6)), "history", _unchanged, OK),
    "drip more chunks than bytes": EffectCase(_rule(Drip(1000, 5)), "balance", _unchanged, OK),
    "garbage": EffectCase(_rule(Garbage()), "spend", _garbage, COMMITTED_LOST, "garbage", spent=1),
    "not_json before": EffectCase(
        _rule(NotJson()), "spend", _not_json(502, b"text/html; charset=utf-8", b"<!DOCTYPE html>"), (502, False, True)
    ),
    "not_json after": EffectCase(
        _after_rule(NotJson(504)),
        "spend",
        _not_json(504, b"text/html; charset=utf-8", b"<!DOCTYPE html>"),
        (504, True, True),
        spent=1,
    ),
    "not_json with empty body": EffectCase(
        _rule(NotJson(503, "empty")), "balance", _not_json(503, b"text/plain", b""), (503, False, True)
    ),
    "not_json with wrong content type": EffectCase(
        _rule(NotJson(200, "wrong_content_type")), "balance", _not_json(200, b"text/plain", b'{"message"'), OK
    ),
    "not_json with bom": EffectCase(
        _rule(NotJson(200, "bom")), "balance", _not_json(200, b"application/json", b"\xef\xbb\xbf{"), OK
    ),
    "stale_read": EffectCase(
        _rule(StaleRead(by_writes=1)), "balance", _has_members(balance=100), OK, spent=1, prior_calls=["spend"]
    ),
    "duplicate_write": EffectCase(_rule(DuplicateWrite()), "spend", _unchanged, COMMITTED, spent=2),
    "duplicate_write of a user": EffectCase(_rule(DuplicateWrite()), "new user", _unchanged, COMMITTED),
    "duplicate_write of a rejection": EffectCase(
        _rule(DuplicateWrite()), "overspend", _error(402, "insufficient_credits"), (402, False, True)
    ),
    "late_write": EffectCase(_rule(LateWrite(60_000)), "spend", _no_response, NO_RESPONSE, "timeout"),
    "schema_drift with extra field": EffectCase(
        _rule(SchemaDrift("extra_field")), "spend", _has_members(schemaVersion=2), COMMITTED, spent=1
    ),
    "schema_drift with unknown reason": EffectCase(
        _rule(SchemaDrift("unknown_reason")), "spend", _has_members(reason="adjustment", delta=-1), COMMITTED, spent=1
    ),
    "schema_drift to null": EffectCase(
        _rule(SchemaDrift("null_for_absent")), "history", _has_members(nextCursor=None), OK
    ),
    "schema_drift with missing field": EffectCase(
        _rule(SchemaDrift("missing_optional")), "spend", _without_created_at, COMMITTED, spent=1
    ),
    "schema_drift of an error": EffectCase(
        _rule(SchemaDrift()), "overspend", _error(402, "insufficient_credits"), (402, False, True)
    ),
    "bad_cursor repeat": EffectCase(_rule(BadCursor("repeat")), "history", _with_cursor, OK),
    "bad_cursor cycle": EffectCase(_rule(BadCursor("cycle")), "history", _with_cursor, OK),
    "bad_cursor empty page": EffectCase(_rule(BadCursor("empty_page")), "history", _empty_page_with_cursor, OK),
    "unauthorized with revoked key": EffectCase(
        _rule(Unauthorized()), "spend", _error(401, "invalid_api_key"), (401, False, True)
    ),
    "unauthorized with rotated keys": EffectCase(
        _rule(Unauthorized("rotated")), "own balance", _error(401, "invalid_token"), (401, False, True)
    ),
    "unauthorized with slow clock": EffectCase(
        _rule(Unauthorized(clock_skew_s=-600)), "own balance", _error(401, "invalid_token"), (401, False, True)
    ),
    "hold_at_gate before": EffectCase(_rule(HoldAtGate("door")), "spend", _unchanged, COMMITTED, spent=1),
    "hold_at_gate after": EffectCase(_after_rule(HoldAtGate("door")), "spend", _unchanged, COMMITTED, spent=1),
}
"""Every case, keyed by effect name and variant."""


@contextlib.contextmanager
def fake_with_rule(shared: SharedResources, mode: ClientMode, rule: Rule | None) -> Generator[FakeCredits]:
    """Yield a sandbox with the rule, if any, and a user who has 100 credits and two transactions."""
    with FakeCredits(mode=mode, shared=shared, balance=50, clock=START) as fake:
        fake.user("user-id", balance=100)
        if rule is not None:
            fake.faults.add(rule)
        yield fake


@contextlib.contextmanager
def gates_released(fake: FakeCredits) -> Generator[None]:
    """Release all gates from another thread, each once it holds a call."""
    gates = list(fake.sandbox.gates.values())

    def open_gate() -> None:
        for gate in gates:
            gate.wait_for()
            gate.release()

    releaser = threading.Thread(target=open_gate)
    releaser.start()
    yield
    releaser.join()


@contextlib.contextmanager
def open_transport(fake: FakeCredits, mode: ClientMode, shared: SharedResources) -> Generator[Transport]:
    """Yield a transport for the given mode."""
    driver = InProcessDriver(shared.app(fake.sandbox.contract), fake.sandbox)
    transport = InProcessTransport(driver) if mode == "in-process" else NetworkTransport(fake.base_url)
    yield transport
    transport.close()


def assert_effect_case(
    case: EffectCase, fake: FakeCredits, response: ReceivedResponse, baseline: ReceivedResponse
) -> None:
    """Check the response, the balance and the last journal entry."""
    assert response.outcome == case.outcome
    if case.partial_size is not None:
        assert len(response.body) == case.partial_size(len(baseline.body))
    case.check(response, baseline)
    assert fake.balance() == 100 - case.spent
    last = fake.journal.entries()[-1]
    assert (last.status, last.committed, last.delivered) == case.journal
    assert (last.rule, last.phase) == (f"{case.rule.word}#1", case.rule.phase)
    assert bool(last.transaction) is (last.committed and case.call == "spend")
    assert fake.sandbox.bugs == []
