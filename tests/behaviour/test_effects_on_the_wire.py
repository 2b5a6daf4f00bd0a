"""Test every effect on a real socket, with a client that sees each byte, each FIN and each RST."""

import sys
import threading
from collections.abc import Iterator

import pytest

from fake_credits.clock import monotonic_s
from fake_credits.contract import DEFAULT_CONTRACT
from fake_credits.faults.effects import EFFECTS, Drip, Latency
from fake_credits.faults.rule import Rule
from fake_credits.transports.shared_resources import SharedResources
from tests.behaviour.effect_cases import CALLS, DAYS, Asked, a_day, checked, with_gate_opened
from tests.behaviour.raw_connection import Wire, until
from tests.behaviour.test_effects_in_process import good_day

HEALTH = Asked("GET", "/_fake/livez")


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def shared(request: pytest.FixtureRequest) -> Iterator[SharedResources]:
    """Yield what has a live server on each event loop; on the second one as where there is no uvloop."""
    shared = SharedResources()
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "asyncio":
            patch.setitem(sys.modules, "uvloop", None)
        shared.server(DEFAULT_CONTRACT)
    yield shared
    shared.close()


def test_every_effect_has_its_day() -> None:
    assert {name.split()[0] for name in DAYS} == set(EFFECTS)


@pytest.mark.parametrize("connection", ["cold", "warm"])
@pytest.mark.parametrize("name", DAYS)
def test_a_client_sees(shared: SharedResources, name: str, connection: str) -> None:
    """Each bad day shows on the wire what it shows in process, whether the connection is new or was used before."""
    day = DAYS[name]
    good = good_day(shared, day.call)
    with a_day(shared, "live", day.rule) as fake, Wire(fake) as wire:
        if connection == "warm":
            wire.warm()
        for call in day.before:
            wire.send(CALLS[call])
            assert wire.read().end == "whole"
        begun = fake.journal.started_count
        with with_gate_opened(fake):
            wire.send(CALLS[day.call])
            until(lambda: fake.journal.total > begun)
        seen = wire.read(then_silence=_before_silence(name, len(good.body)))
        until(lambda: fake.journal.in_flight == 0)
        checked(day, fake, seen, good)
        if seen.end == "whole":
            wire.warm()


def _before_silence(name: str, size: int) -> int | None:
    day = DAYS[name]
    if day.end != "timeout":
        return None
    return -1 if day.part is None else day.part(size)


def test_garbage_is_no_http_and_then_the_connection_ends(shared: SharedResources) -> None:
    with a_day(shared, "live", DAYS["garbage"].rule) as fake, Wire(fake) as wire:
        wire.send(CALLS["balance"])
        assert (wire.read().end, wire.socket.recv(1)) == ("garbage", b"")


@pytest.mark.parametrize("phase", ["before", "after"])
def test_a_delay_is_never_early(shared: SharedResources, phase: str) -> None:
    rule = Rule(effect=Latency(7), phase=phase)  # type: ignore[arg-type]
    with a_day(shared, "live", rule) as fake, Wire(fake) as wire:
        for _ in range(5):
            begun_s = monotonic_s()
            wire.send(CALLS["balance"])
            wire.read()
            assert monotonic_s() - begun_s >= 0.007


def test_no_dripped_byte_is_early(shared: SharedResources) -> None:
    with a_day(shared, "live", Rule(effect=Drip(3, 21))) as fake, Wire(fake) as wire:
        begun_s, got = monotonic_s(), b""
        wire.send(CALLS["balance"])
        while not got.endswith(b'{"balance":100}'):
            got += wire.socket.recv(65536)
            pieces = len(got.partition(b"\r\n\r\n")[2]) / 5
            assert pieces == int(pieces)
            assert monotonic_s() - begun_s >= 0.007 * pieces


def test_the_gate_keeps_its_call_until_it_is_released(shared: SharedResources) -> None:
    with a_day(shared, "live", None) as fake, Wire(fake) as wire:
        gate = fake.hold("createTransaction")
        wire.send(CALLS["spend"])
        gate.wait_for()
        wire.socket.settimeout(0.01)
        with pytest.raises(TimeoutError):
            wire.socket.recv(1)
        assert fake.balance() == 100
        threading.Thread(target=gate.release).start()
        wire.socket.settimeout(5)
        assert wire.read().status == 201


def test_requests_behind_one_that_breaks_off_are_not_answered(shared: SharedResources) -> None:
    """A pipelined request dies with its connection, as it would with a proxy's (RFC 9112, section 9.3.2)."""
    with a_day(shared, "live", Rule(effect=DAYS["close before"].rule.effect, nth=1)) as fake, Wire(fake) as wire:
        wire.send(CALLS["balance"])
        wire.send(CALLS["balance"])
        assert wire.read().end in ("closed", "reset")
        until(lambda: fake.journal.in_flight == 0)
