"""Every effect on the live server, with a client that sees each byte, FIN and RST."""

import sys
import threading
from collections.abc import Iterator

import pytest

from fake_credits.clock import monotonic_s
from fake_credits.contract import DEFAULT_CONTRACT
from fake_credits.faults.effects import EFFECTS, Drip, Latency
from fake_credits.faults.rule import Rule
from fake_credits.transports.shared_resources import SharedResources
from tests.behaviour.effect_cases import (
    CALLS,
    EFFECT_CASES,
    RequestSpec,
    assert_effect_case,
    fake_with_rule,
    gates_released,
)
from tests.behaviour.raw_connection import RawConnection, wait_until
from tests.behaviour.test_effects_in_process import baseline_response

HEALTH_REQUEST = RequestSpec("GET", "/_fake/livez")


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def shared(request: pytest.FixtureRequest) -> Iterator[SharedResources]:
    """Yield shared resources with a live server on uvloop or asyncio."""
    shared = SharedResources()
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "asyncio":
            patch.setitem(sys.modules, "uvloop", None)
        shared.server(DEFAULT_CONTRACT)
    yield shared
    shared.close()


def test_every_effect_has_a_case() -> None:
    assert {name.split()[0] for name in EFFECT_CASES} == set(EFFECTS)


@pytest.mark.parametrize("connection_state", ["cold", "warm"])
@pytest.mark.parametrize("name", EFFECT_CASES)
def test_effect_gives_expected_response_on_the_wire(shared: SharedResources, name: str, connection_state: str) -> None:
    """The outcome is the same as in process, on both new and reused connections."""
    case = EFFECT_CASES[name]
    baseline = baseline_response(shared, case.call)
    with fake_with_rule(shared, "live", case.rule) as fake, RawConnection(fake) as connection:
        if connection_state == "warm":
            connection.warm_up()
        for call in case.prior_calls:
            connection.send(CALLS[call])
            assert connection.read().outcome == "whole"
        started = fake.journal.started_count
        with gates_released(fake):
            connection.send(CALLS[case.call])
            wait_until(lambda: fake.journal.total > started)
        response = connection.read(stall_after=_bytes_before_stall(name, len(baseline.body)))
        wait_until(lambda: fake.journal.in_flight == 0)
        assert_effect_case(case, fake, response, baseline)
        if response.outcome == "whole":
            connection.warm_up()


def _bytes_before_stall(name: str, size: int) -> int | None:
    case = EFFECT_CASES[name]
    if case.outcome != "timeout":
        return None
    return -1 if case.partial_size is None else case.partial_size(size)


def test_garbage_is_not_http_and_closes_connection(shared: SharedResources) -> None:
    with fake_with_rule(shared, "live", EFFECT_CASES["garbage"].rule) as fake, RawConnection(fake) as connection:
        connection.send(CALLS["balance"])
        assert (connection.read().outcome, connection.socket.recv(1)) == ("garbage", b"")


@pytest.mark.parametrize("phase", ["before", "after"])
def test_latency_is_never_shorter_than_configured(shared: SharedResources, phase: str) -> None:
    rule = Rule(effect=Latency(7), phase=phase)  # type: ignore[arg-type]
    with fake_with_rule(shared, "live", rule) as fake, RawConnection(fake) as connection:
        for _ in range(5):
            started_s = monotonic_s()
            connection.send(CALLS["balance"])
            connection.read()
            assert monotonic_s() - started_s >= 0.007


def test_drip_never_sends_a_byte_early(shared: SharedResources) -> None:
    with fake_with_rule(shared, "live", Rule(effect=Drip(3, 21))) as fake, RawConnection(fake) as connection:
        started_s, received = monotonic_s(), b""
        connection.send(CALLS["balance"])
        while not received.endswith(b'{"balance":100}'):
            received += connection.socket.recv(65536)
            piece_count = len(received.partition(b"\r\n\r\n")[2]) / 5
            assert piece_count == int(piece_count)
            assert monotonic_s() - started_s >= 0.007 * piece_count


def test_gate_holds_call_until_released(shared: SharedResources) -> None:
    with fake_with_rule(shared, "live", None) as fake, RawConnection(fake) as connection:
        gate = fake.hold("createTransaction")
        connection.send(CALLS["spend"])
        gate.wait_for()
        connection.socket.settimeout(0.01)
        with pytest.raises(TimeoutError):
            connection.socket.recv(1)
        assert fake.balance() == 100
        threading.Thread(target=gate.release).start()
        connection.socket.settimeout(5)
        assert connection.read().status == 201


def test_pipelined_request_is_not_answered_after_connection_is_closed(shared: SharedResources) -> None:
    """A pipelined request is lost with its connection (RFC 9112, section 9.3.2)."""
    with (
        fake_with_rule(shared, "live", Rule(effect=EFFECT_CASES["close before"].rule.effect, nth=1)) as fake,
        RawConnection(fake) as connection,
    ):
        connection.send(CALLS["balance"])
        connection.send(CALLS["balance"])
        assert connection.read().outcome in ("closed", "reset")
        wait_until(lambda: fake.journal.in_flight == 0)
