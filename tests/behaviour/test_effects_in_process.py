"""Test every effect in process: each bad day looks to a client as it does on a socket, and takes no time."""

import pytest

from fake_credits.clock import monotonic_s
from fake_credits.fake import FakeCredits
from fake_credits.faults.effects import EFFECTS
from fake_credits.http_message import Request
from fake_credits.transports.in_process import InProcessDriver
from fake_credits.transports.shared_resources import SharedResources
from tests.behaviour.effect_cases import CALLS, DAYS, START, Seen, a_day, checked, with_gate_opened

PATIENCE_S = 30.0


def seen_in_process(fake: FakeCredits, shared: SharedResources, call: str) -> Seen:
    """Make a call as a client with a limit of 30 s."""
    asked = CALLS[call]
    driver = InProcessDriver(shared.app(fake.sandbox.contract), fake.sandbox)
    outgoing = Request(asked.method, asked.target.encode(), asked.headers(fake), asked.body, PATIENCE_S)
    reply = driver.call(outgoing)
    return Seen(reply.status, dict(reply.headers), reply.body, reply.outcome)


def good_day(shared: SharedResources, call: str) -> Seen:
    """Return what a call shows where nothing goes wrong."""
    with a_day(shared, "in-process", None) as fake:
        return seen_in_process(fake, shared, call)


def test_every_effect_has_its_day() -> None:
    assert {name.split()[0] for name in DAYS} == set(EFFECTS)
    assert {(day.rule.word, day.rule.phase) for day in DAYS.values()} == {
        (word, phase) for word, effect in EFFECTS.items() for phase in effect.phases
    }


@pytest.mark.parametrize("name", DAYS)
def test_a_client_sees(shared: SharedResources, name: str) -> None:
    """Each bad day shows what its name says, and books and journals what it should."""
    day = DAYS[name]
    with a_day(shared, "in-process", day.rule) as fake:
        for call in day.before:
            seen_in_process(fake, shared, call)
        with with_gate_opened(fake):
            seen = seen_in_process(fake, shared, day.call)
        checked(day, fake, seen, good_day(shared, day.call))


@pytest.mark.parametrize(
    ("name", "passed_ms"),
    [("latency before", 5), ("latency after", 5), ("drip", 6), ("hang before", 30_000), ("truncate and hang", 30_000)],
)
def test_what_takes_time_moves_the_clock_and_nothing_else(shared: SharedResources, name: str, passed_ms: int) -> None:
    day = DAYS[name]
    with a_day(shared, "in-process", day.rule) as fake:
        begun_s = monotonic_s()
        seen_in_process(fake, shared, day.call)
        assert monotonic_s() - begun_s < 5
        assert (fake.clock.now() - START).total_seconds() * 1000 == passed_ms
