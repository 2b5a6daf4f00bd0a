"""Own one small bad day for each thing that an effect can do: the rule, the call that meets it, what its client sees.

The same days are lived in process and on a socket, where each must look the same.
"""

import contextlib
import json
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from fake_credits.client.http import NetworkTransport
from fake_credits.client.server import ServerClient
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
from fake_credits.transports.client_transports import InProcessTransport
from fake_credits.transports.in_process import IN_PROCESS_BASE_URL, InProcessDriver
from fake_credits.transports.shared_resources import SharedResources

__all__ = [
    "CALLS",
    "DAYS",
    "START",
    "Asked",
    "Day",
    "Seen",
    "a_day",
    "checked",
    "impatient",
    "transport_to",
    "with_gate_opened",
]

START = datetime(2026, 3, 1, 12, 30, 15, 678_000, UTC)
NOISE = b"\x16\x03\x01\x02\x00SSH-2.0-nonsense\r\n\x00\xff\xfe\r\n\r\n"
_USER = "/v1/applications/app-id/users/user-id"


class Asked(NamedTuple):
    """Be one request; ``by_user`` bears a user's token, all others the API key."""

    method: str
    target: str
    body: bytes = b""
    by_user: bool = False

    def headers(self, fake: FakeCredits) -> list[tuple[bytes, bytes]]:
        """Return its headers, without those of the connection."""
        key = (b"x-api-key", fake.api_key.encode())
        credential = (b"authorization", f"Bearer {fake.token()}".encode()) if self.by_user else key
        json_type = [(b"content-type", b"application/json")] if self.body else []
        return [credential, *json_type]


CALLS: Mapping[str, Asked] = {
    "balance": Asked("GET", f"{_USER}/balance"),
    "own balance": Asked("GET", f"{_USER}/balance", by_user=True),
    "spend": Asked("POST", f"{_USER}/transactions", b'{"delta":-1,"reason":"consume"}'),
    "overspend": Asked("POST", f"{_USER}/transactions", b'{"delta":-101,"reason":"consume"}'),
    "history": Asked("GET", f"{_USER}/transactions"),
    "users": Asked("GET", "/v1/applications/app-id/users"),
    "user": Asked("GET", _USER),
    "new user": Asked("PUT", "/v1/applications/app-id/users/bob"),
}


class Seen(NamedTuple):
    """Be what a client saw: a status of 0 is no head at all."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes
    end: Outcome = "whole"

    @property
    def members(self) -> dict[str, Any]:
        """Return the members of the body."""
        return dict(json.loads(self.body))


Check = Callable[[Seen, Seen], None]
"""What must hold for what was seen, beside what is seen on a good day."""


class Day(NamedTuple):
    """Be a bad day: under the rule the ``call`` is made, after those ``before`` it, which the rule lets be.

    ``end`` is how the client's answer ends, and ``part`` how much of a good day's body it then has; ``spent`` is what
    the calls cost the user, and ``journal`` (status, committed, delivered) what the journal says of the last.
    """

    rule: Rule
    call: str
    check: Check
    journal: tuple[int, bool, bool]
    end: Outcome = "whole"
    part: Callable[[int], int] | None = None
    spent: int = 0
    before: Sequence[str] = ()


# ------------------------------------------------------------ what can be seen


def _as_ever(seen: Seen, good: Seen) -> None:
    own = (b"x-request-id", b"date")
    assert (seen.status, seen.body, seen.end) == (good.status, good.body, "whole")
    assert {**seen.headers, **dict.fromkeys(own)} == {**good.headers, **dict.fromkeys(own)}


def _nothing(seen: Seen, _good: Seen) -> None:
    assert (seen.status, seen.headers, seen.body) == (0, {}, b"")


def _noise(seen: Seen, _good: Seen) -> None:
    assert (seen.status, seen.headers, seen.body) == (0, {}, NOISE)


def _a_part(seen: Seen, good: Seen) -> None:
    """See the whole head, with the whole length, and less than the whole body."""
    assert (seen.status, seen.headers[b"content-length"]) == (good.status, b"%d" % len(good.body))
    assert good.body.startswith(seen.body)
    assert len(seen.body) < len(good.body)


def _refused(status: int, code: str, retry_after: bytes | None = None) -> Check:
    def check(seen: Seen, _good: Seen) -> None:
        assert (seen.status, seen.members["error"]["code"]) == (status, code)
        assert seen.members["error"]["requestId"].encode() == seen.headers[b"x-request-id"]
        assert seen.headers.get(b"retry-after") == retry_after
        assert seen.headers[b"content-type"] == b"application/json"

    return check


def _page(status: int, media_type: bytes, start: bytes) -> Check:
    def check(seen: Seen, _good: Seen) -> None:
        assert (seen.status, seen.headers[b"content-type"]) == (status, media_type)
        assert seen.body[: len(start) or None] == start
        assert seen.headers[b"content-length"] == b"%d" % len(seen.body)

    return check


def _shows(**members: object) -> Check:
    def check(seen: Seen, good: Seen) -> None:
        assert seen.status == good.status
        assert seen.members.items() >= members.items()

    return check


def _without_created_at(seen: Seen, good: Seen) -> None:
    shown = good.members
    del shown["createdAt"]
    assert seen.members == shown


def _with_a_cursor(seen: Seen, good: Seen) -> None:
    assert seen.members["transactions"] == good.members["transactions"]
    assert "nextCursor" in seen.members
    assert "nextCursor" not in good.members


def _empty_with_a_cursor(seen: Seen, _good: Seen) -> None:
    assert seen.members["transactions"] == []
    assert seen.members["nextCursor"]


# ------------------------------------------------------------ the days


def _half(size: int) -> int:
    return size // 2


def _first(count: int) -> Callable[[int], int]:
    return lambda size: min(count, size - 1)


def _after(effect: Any) -> Rule:
    return Rule(effect=effect, phase="after")


def _rule(effect: Any, **words: Any) -> Rule:
    return Rule(effect=effect, **words)


OK, SPENT, LOST = (200, False, True), (201, True, True), (201, True, False)
NEVER, UNREAD = (0, False, False), (200, False, False)

DAYS: Mapping[str, Day] = {
    "latency before": Day(_rule(Latency(5)), "balance", _as_ever, OK),
    "latency after": Day(_after(Latency(5)), "spend", _as_ever, SPENT, spent=1),
    "status before": Day(_rule(Status(503)), "spend", _refused(503, "unavailable"), (503, False, True)),
    "status after": Day(_after(Status(502)), "spend", _refused(502, "bad_gateway"), (502, True, True), spent=1),
    "status after a refusal": Day(_after(Status(500)), "overspend", _refused(500, "server_error"), (500, False, True)),
    "status with a code": Day(_rule(Status(409, "too_late")), "spend", _refused(409, "too_late"), (409, False, True)),
    "status to wait for": Day(
        _rule(Status(503, retry_after_s=2.2)), "balance", _refused(503, "unavailable", b"3"), (503, False, True)
    ),
    "status until a date": Day(
        _rule(Status(429, retry_after_s=2, retry_after_form="date")),
        "balance",
        _refused(429, "rate_limited", b"Sun, 01 Mar 2026 12:30:18 GMT"),
        (429, False, True),
    ),
    "status with garbage": Day(
        _rule(Status(503, retry_after_s=2, retry_after_form="garbage")),
        "balance",
        _refused(503, "unavailable", b"soon"),
        (503, False, True),
    ),
    "status without a time": Day(
        _rule(Status(503, retry_after_s=2, retry_after_form="absent")),
        "balance",
        _refused(503, "unavailable"),
        (503, False, True),
    ),
    "rate_limit": Day(
        _rule(RateLimit(1, 60)), "spend", _refused(429, "rate_limited", b"60"), (429, False, True), before=["balance"]
    ),
    "reset before": Day(_rule(Reset()), "spend", _nothing, NEVER, "reset"),
    "reset after": Day(_after(Reset()), "spend", _nothing, LOST, "reset", spent=1),
    "reset after a refusal": Day(_after(Reset()), "overspend", _nothing, (402, False, False), "reset"),
    "close before": Day(_rule(Close()), "spend", _nothing, NEVER, "closed"),
    "close after": Day(_after(Close()), "spend", _nothing, LOST, "closed", spent=1),
    "hang before": Day(_rule(Hang()), "spend", _nothing, NEVER, "timeout"),
    "hang after": Day(_after(Hang()), "spend", _nothing, LOST, "timeout", spent=1),
    "truncate and close": Day(_rule(Truncate(5)), "spend", _a_part, LOST, "closed", _first(5), spent=1),
    "truncate and reset": Day(_rule(Truncate(5, then="reset")), "spend", _a_part, LOST, "reset", _first(5), spent=1),
    "truncate and hang": Day(_rule(Truncate(5, then="hang")), "spend", _a_part, LOST, "timeout", _first(5), spent=1),
    "truncate a share": Day(_rule(Truncate(fraction=0.5)), "balance", _a_part, UNREAD, "closed", _half),
    "truncate all of it": Day(_rule(Truncate(0)), "balance", _a_part, UNREAD, "closed", _first(0)),
    "truncate one byte": Day(_rule(Truncate(10**6)), "balance", _a_part, UNREAD, "closed", _first(10**6)),
    "drip": Day(_rule(Drip(3, 6)), "history", _as_ever, OK),
    "drip more than there is": Day(_rule(Drip(1000, 5)), "balance", _as_ever, OK),
    "garbage": Day(_rule(Garbage()), "spend", _noise, LOST, "garbage", spent=1),
    "not_json before": Day(
        _rule(NotJson()), "spend", _page(502, b"text/html; charset=utf-8", b"<!DOCTYPE html>"), (502, False, True)
    ),
    "not_json after": Day(
        _after(NotJson(504)),
        "spend",
        _page(504, b"text/html; charset=utf-8", b"<!DOCTYPE html>"),
        (504, True, True),
        spent=1,
    ),
    "not_json and empty": Day(
        _rule(NotJson(503, "empty")), "balance", _page(503, b"text/plain", b""), (503, False, True)
    ),
    "not_json by its type": Day(
        _rule(NotJson(200, "wrong_content_type")), "balance", _page(200, b"text/plain", b'{"message"'), OK
    ),
    "not_json for its mark": Day(
        _rule(NotJson(200, "bom")), "balance", _page(200, b"application/json", b"\xef\xbb\xbf{"), OK
    ),
    "stale_read": Day(_rule(StaleRead(by_writes=1)), "balance", _shows(balance=100), OK, spent=1, before=["spend"]),
    "duplicate_write": Day(_rule(DuplicateWrite()), "spend", _as_ever, SPENT, spent=2),
    "duplicate_write of a user": Day(_rule(DuplicateWrite()), "new user", _as_ever, SPENT),
    "duplicate_write of a refusal": Day(
        _rule(DuplicateWrite()), "overspend", _refused(402, "insufficient_credits"), (402, False, True)
    ),
    "late_write": Day(_rule(LateWrite(60_000)), "spend", _nothing, NEVER, "timeout"),
    "schema_drift with a field": Day(
        _rule(SchemaDrift("extra_field")), "spend", _shows(schemaVersion=2), SPENT, spent=1
    ),
    "schema_drift to a new reason": Day(
        _rule(SchemaDrift("unknown_reason")), "spend", _shows(reason="adjustment", delta=-1), SPENT, spent=1
    ),
    "schema_drift to null": Day(_rule(SchemaDrift("null_for_absent")), "history", _shows(nextCursor=None), OK),
    "schema_drift without a field": Day(
        _rule(SchemaDrift("missing_optional")), "spend", _without_created_at, SPENT, spent=1
    ),
    "schema_drift of a refusal": Day(
        _rule(SchemaDrift()), "overspend", _refused(402, "insufficient_credits"), (402, False, True)
    ),
    "bad_cursor that repeats": Day(_rule(BadCursor("repeat")), "history", _with_a_cursor, OK),
    "bad_cursor in a circle": Day(_rule(BadCursor("cycle")), "history", _with_a_cursor, OK),
    "bad_cursor behind nothing": Day(_rule(BadCursor("empty_page")), "history", _empty_with_a_cursor, OK),
    "unauthorized key": Day(_rule(Unauthorized()), "spend", _refused(401, "invalid_api_key"), (401, False, True)),
    "unauthorized by rotation": Day(
        _rule(Unauthorized("rotated")), "own balance", _refused(401, "invalid_token"), (401, False, True)
    ),
    "unauthorized by a slow clock": Day(
        _rule(Unauthorized(clock_skew_s=-600)), "own balance", _refused(401, "invalid_token"), (401, False, True)
    ),
    "hold_at_gate before": Day(_rule(HoldAtGate("door")), "spend", _as_ever, SPENT, spent=1),
    "hold_at_gate after": Day(_after(HoldAtGate("door")), "spend", _as_ever, SPENT, spent=1),
}
"""Every bad day by the effect's word and what is special about it."""


@contextlib.contextmanager
def a_day(shared: SharedResources, mode: ClientMode, rule: Rule | None) -> Generator[FakeCredits]:
    """Yield a sandbox of a user with 100 credits and two transactions, under a rule."""
    with FakeCredits(mode=mode, shared=shared, balance=50, clock=START) as fake:
        fake.user("user-id", balance=100)
        if rule is not None:
            fake.faults.add(rule)
        yield fake


@contextlib.contextmanager
def with_gate_opened(fake: FakeCredits) -> Generator[None]:
    """Let somebody open the gate, where there is one, once a call is held there."""
    gates = list(fake.sandbox.gates.values())

    def open_gate() -> None:
        for gate in gates:
            gate.wait_for()
            gate.release()

    opener = threading.Thread(target=open_gate)
    opener.start()
    yield
    opener.join()


@contextlib.contextmanager
def transport_to(fake: FakeCredits, mode: ClientMode, shared: SharedResources) -> Generator[Transport]:
    """Yield a transport for clients of one's own, by a driver."""
    driver = InProcessDriver(shared.app(fake.sandbox.contract), fake.sandbox)
    transport = InProcessTransport(driver) if mode == "in-process" else NetworkTransport(fake.base_url)
    yield transport
    transport.close()


@contextlib.contextmanager
def impatient(fake: FakeCredits, mode: ClientMode, shared: SharedResources) -> Generator[ServerClient]:
    """Yield a client that waits 150 ms: for calls that will not be answered."""
    with transport_to(fake, mode, shared) as transport:
        yield ServerClient(IN_PROCESS_BASE_URL, fake.api_key, transport=transport, timeout_s=0.15)


def checked(day: Day, fake: FakeCredits, seen: Seen, good: Seen) -> None:
    """Check what was seen, what the ledger has, and what the journal says."""
    assert seen.end == day.end
    if day.part is not None:
        assert len(seen.body) == day.part(len(good.body))
    day.check(seen, good)
    assert fake.balance() == 100 - day.spent
    last = fake.journal.entries()[-1]
    assert (last.status, last.committed, last.delivered) == day.journal
    assert (last.rule, last.phase) == (f"{day.rule.word}#1", day.rule.phase)
    assert bool(last.transaction) is (last.committed and day.call == "spend")
    assert fake.sandbox.bugs == []
