"""Every effect in process: the same outcome as on the live server, without taking real time."""

import pytest

from fake_credits.clock import monotonic_s
from fake_credits.fake import FakeCredits
from fake_credits.faults.effects import EFFECTS
from fake_credits.http_message import Request
from fake_credits.transports.in_process import InProcessDriver
from fake_credits.transports.shared_resources import SharedResources
from tests.behaviour.effect_cases import (
    CALLS,
    EFFECT_CASES,
    START,
    ReceivedResponse,
    assert_effect_case,
    fake_with_rule,
    gates_released,
)

CLIENT_TIMEOUT_S = 30.0


def call_in_process(fake: FakeCredits, shared: SharedResources, call: str) -> ReceivedResponse:
    """Make a call with a timeout of 30 s."""
    request = CALLS[call]
    driver = InProcessDriver(shared.app(fake.sandbox.contract), fake.sandbox)
    outgoing = Request(request.method, request.target.encode(), request.headers(fake), request.body, CLIENT_TIMEOUT_S)
    reply = driver.call(outgoing)
    return ReceivedResponse(reply.status, dict(reply.headers), reply.body, reply.outcome)


def baseline_response(shared: SharedResources, call: str) -> ReceivedResponse:
    """Return the response to a call without faults."""
    with fake_with_rule(shared, "in-process", None) as fake:
        return call_in_process(fake, shared, call)


def test_every_effect_and_phase_has_a_case() -> None:
    assert {name.split()[0] for name in EFFECT_CASES} == set(EFFECTS)
    assert {(case.rule.word, case.rule.phase) for case in EFFECT_CASES.values()} == {
        (name, phase) for name, effect in EFFECTS.items() for phase in effect.phases
    }


@pytest.mark.parametrize("name", EFFECT_CASES)
def test_effect_gives_expected_response_in_process(shared: SharedResources, name: str) -> None:
    """The response, the balance and the journal entry are as expected."""
    case = EFFECT_CASES[name]
    with fake_with_rule(shared, "in-process", case.rule) as fake:
        for call in case.prior_calls:
            call_in_process(fake, shared, call)
        with gates_released(fake):
            response = call_in_process(fake, shared, case.call)
        assert_effect_case(case, fake, response, baseline_response(shared, case.call))


@pytest.mark.parametrize(
    ("name", "elapsed_ms"),
    [("latency before", 5), ("latency after", 5), ("drip", 6), ("hang before", 30_000), ("truncate and hang", 30_000)],
)
def test_delays_move_the_virtual_clock_only(shared: SharedResources, name: str, elapsed_ms: int) -> None:
    case = EFFECT_CASES[name]
    with fake_with_rule(shared, "in-process", case.rule) as fake:
        started_s = monotonic_s()
        call_in_process(fake, shared, case.call)
        assert monotonic_s() - started_s < 5
        assert (fake.clock.now() - START).total_seconds() * 1000 == elapsed_ms
