"""Test that each effect looks the same through interception as on the live server, with each library."""

import re
from typing import NamedTuple

import pytest

from fake_credits.fake import FakeCredits
from fake_credits.faults.effects import (
    EFFECTS,
    BadCursor,
    Close,
    Drip,
    DuplicateWrite,
    Effect,
    Garbage,
    Hang,
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
from fake_credits.faults.effects.base import Phase
from tests.intercept.libraries import (
    BALANCE,
    LIBRARY_PARAMS,
    SENDERS,
    TIMEOUT_S,
    TRANSACTION_BODY,
    TRANSACTIONS,
    LibraryRequest,
    LibraryResponse,
    read_timeout_s,
)
from tests.intercept.test_faults import outcome

URL = "https://credits.internal"
LONG_DELAY_MS = 2000
"""A delay longer than any timeout that ``read_timeout_s`` returns."""


class EffectCase(NamedTuple):
    """An effect on one call: a write unless ``read_path`` is set; ``times_out`` is set if the client times out."""

    effect: Effect
    phase: Phase = "before"
    read_path: str = ""
    times_out: bool = False


CASES = {
    "status before": EffectCase(Status(503, retry_after_s=30)),
    "status after": EffectCase(Status(500), "after"),
    "rate limit": EffectCase(RateLimit(0, 60)),
    "reset before": EffectCase(Reset()),
    "reset after": EffectCase(Reset(), "after"),
    "close before": EffectCase(Close()),
    "close after": EffectCase(Close(), "after"),
    "hang before": EffectCase(Hang(), times_out=True),
    "hang after": EffectCase(Hang(), "after", times_out=True),
    "latency within timeout": EffectCase(Latency(1)),
    "latency beyond timeout": EffectCase(Latency(LONG_DELAY_MS), times_out=True),
    "latency beyond timeout, after": EffectCase(Latency(LONG_DELAY_MS), "after", times_out=True),
    "truncate, then close": EffectCase(Truncate(at_bytes=5), "after"),
    "truncate, then reset": EffectCase(Truncate(at_bytes=5, then="reset"), "after"),
    "truncate, then hang": EffectCase(Truncate(at_bytes=5, then="hang"), "after", times_out=True),
    "truncate after headers": EffectCase(Truncate(at_bytes=0), "after"),
    "drip within timeout": EffectCase(Drip(3, 3), "after"),
    "drip beyond timeout": EffectCase(Drip(2, 2 * LONG_DELAY_MS), "after", times_out=True),
    "garbage": EffectCase(Garbage(), "after"),
    "proxy error page": EffectCase(NotJson()),
    "empty error page": EffectCase(NotJson(504, "empty")),
    "stale read": EffectCase(StaleRead(by_writes=1), "read", BALANCE),
    "schema drift": EffectCase(SchemaDrift("extra_field"), "after", BALANCE),
    "bad cursor": EffectCase(BadCursor("cycle"), "list", TRANSACTIONS),
    "duplicate write": EffectCase(DuplicateWrite(), "write"),
    "late write": EffectCase(LateWrite(LONG_DELAY_MS), "write", times_out=True),
    "revoked key": EffectCase(Unauthorized("revoked")),
}


def test_every_effect_has_a_case() -> None:
    """The exception is the gate, which holds a call until the test releases it."""
    assert {type(case.effect) for case in CASES.values()} == set(EFFECTS.values()) - {EFFECTS["hold_at_gate"]}


def observe_effect(library: str, case: EffectCase, *, live: bool) -> tuple[object, list[object]]:
    """Return the application's result and the journal's entries."""
    with FakeCredits(balance=5) as fake:
        fake.server_client.create_transaction("app-id", "user-id", delta=5, reason="grant")
        fake.faults.add(case.effect, phase=case.phase, times=9)
        request = LibraryRequest(
            (fake.base_url if live else URL) + (case.read_path or TRANSACTIONS),
            {"X-API-Key": fake.api_key} | ({} if case.read_path else {"Content-Type": "application/json"}),
            None if case.read_path else TRANSACTION_BODY,
            read_timeout_s(library, in_body=isinstance(case.effect, Drip | Truncate)) if case.times_out else TIMEOUT_S,
        )
        if live:
            result = outcome(SENDERS[library], request)
        else:
            with fake.intercept(URL):
                result = outcome(SENDERS[library], request)
        # When the client times out, the live server has not journaled a late exchange yet.
        entries = () if case.times_out else fake.journal.entries()[1:]
        return stable_fields(result), [
            (entry.operation, entry.status, entry.committed, entry.delivered) for entry in entries
        ]


def stable_fields(result: object) -> object:
    """Return a response without the parts that differ each time: timestamps, cursors, keys and most headers."""
    if not isinstance(result, LibraryResponse):
        return result
    header_names = ("content-type", "content-length", "retry-after")
    headers = {name: value for name, value in result.headers.items() if name in header_names}
    return (
        result.status,
        result.reason,
        re.sub(rb'"(createdAt|nextCursor)":"[^"]*"|fake_credits_key_\w+', b"", result.body),
        headers,
    )


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("library", LIBRARY_PARAMS)
def test_effect_is_the_same_as_on_live_server(library: str, name: str) -> None:
    assert observe_effect(library, CASES[name], live=False) == observe_effect(library, CASES[name], live=True)
