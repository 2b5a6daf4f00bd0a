"""Test each effect through each library: the application meets what it would meet at the live server."""

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
from tests.intercept.libraries import BALANCE, EACH, LIMIT_S, ORDER, SENDS, TRANSACTIONS, Ask, Got, patience_s
from tests.intercept.test_faults import outcome

URL = "https://credits.internal"
LATE_MS = 2000
"""Later than any client here waits."""


class Case(NamedTuple):
    """Be an effect on one call: a write unless the path is told; ``slow`` where the client's patience ends."""

    effect: Effect
    phase: str = "before"
    read: str = ""
    slow: bool = False


CASES = {
    "a status before": Case(Status(503, retry_after_s=30)),
    "a status after": Case(Status(500), "after"),
    "a limit of the rate": Case(RateLimit(0, 60)),
    "a reset before": Case(Reset()),
    "a reset after": Case(Reset(), "after"),
    "a close before": Case(Close()),
    "a close after": Case(Close(), "after"),
    "a hang before": Case(Hang(), slow=True),
    "a hang after": Case(Hang(), "after", slow=True),
    "latency within the timeout": Case(Latency(1)),
    "latency beyond it": Case(Latency(LATE_MS), slow=True),
    "latency beyond it, after": Case(Latency(LATE_MS), "after", slow=True),
    "cut, then closed": Case(Truncate(at_bytes=5), "after"),
    "cut, then reset": Case(Truncate(at_bytes=5, then="reset"), "after"),
    "cut, then nothing": Case(Truncate(at_bytes=5, then="hang"), "after", slow=True),
    "cut after the head": Case(Truncate(at_bytes=0), "after"),
    "dripping within the timeout": Case(Drip(3, 3), "after"),
    "dripping slower": Case(Drip(2, 2 * LATE_MS), "after", slow=True),
    "garbage": Case(Garbage(), "after"),
    "a proxy's page": Case(NotJson()),
    "an empty page": Case(NotJson(504, "empty")),
    "a lagging replica": Case(StaleRead(by_writes=1), "read", BALANCE),
    "a schema ahead": Case(SchemaDrift("extra_field"), "after", BALANCE),
    "a hostile cursor": Case(BadCursor("cycle"), "list", TRANSACTIONS),
    "a write that lands twice": Case(DuplicateWrite(), "write"),
    "a write that lands late": Case(LateWrite(LATE_MS), "write", slow=True),
    "a revoked key": Case(Unauthorized("revoked")),
}


def test_every_effect_is_here() -> None:
    """But for a gate, at which every call waits until the test goes on."""
    assert {type(case.effect) for case in CASES.values()} == set(EFFECTS.values()) - {EFFECTS["hold_at_gate"]}


def met(library: str, case: Case, *, live: bool) -> tuple[object, list[object]]:
    """Return what the application gets, and what the journal says of it."""
    with FakeCredits(balance=5) as fake:
        fake.server_client.create_transaction("app-id", "user-id", delta=5, reason="grant")
        fake.faults.add(case.effect, phase=case.phase, times=9)
        asked = Ask(
            (fake.base_url if live else URL) + (case.read or TRANSACTIONS),
            {"X-API-Key": fake.api_key} | ({} if case.read else {"Content-Type": "application/json"}),
            None if case.read else ORDER,
            patience_s(library) if case.slow else LIMIT_S,
        )
        if live:
            got = outcome(SENDS[library], asked)
        else:
            with fake.intercept(URL):
                got = outcome(SENDS[library], asked)
        # What is late live is not journalled yet when its client gives up.
        entries = () if case.slow else fake.journal.entries()[1:]
        return masked(got), [(entry.operation, entry.status, entry.committed, entry.delivered) for entry in entries]


def masked(got: object) -> object:
    """Return an answer without what no two have alike: the time, and headers that only a socket needs."""
    if not isinstance(got, Got):
        return got
    named = ("content-type", "content-length", "retry-after")
    kept = {name: value for name, value in got.headers.items() if name in named}
    return (
        got.status,
        got.reason,
        re.sub(rb'"(createdAt|nextCursor)":"[^"]*"|fake_credits_key_\w+', b"", got.body),
        kept,
    )


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("library", EACH)
def test_an_effect_is_met_as_at_the_live_server(library: str, name: str) -> None:
    assert met(library, CASES[name], live=False) == met(library, CASES[name], live=True)
