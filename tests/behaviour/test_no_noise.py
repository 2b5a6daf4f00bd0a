"""Test that an injected fault is no error of the server: nothing in its log, nothing left behind, and a quick end."""

import contextlib
import gc
import http.client
import logging
import random
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

import pytest

from fake_credits.clock import monotonic_s
from fake_credits.fake import FakeCredits
from fake_credits.faults.effects import EFFECTS, Drip, Hang, HoldAtGate, Latency, LateWrite, Status, Truncate
from fake_credits.faults.rule import Rule
from fake_credits.transports.shared_resources import SharedResources
from tests.behaviour.effect_cases import CALLS, DAYS, START
from tests.behaviour.raw_connection import LIMIT_S, Wire, until
from tests.behaviour.workload import QUICK

CONNECTIONS = 32
PATIENCE_S = 0.3

RULES: tuple[Rule, ...] = (
    Rule(effect=Latency("uniform(0, 3)"), probability=0.1),
    Rule(effect=HoldAtGate("door"), probability=0.02, phase="after"),
    Rule(effect=Status(503), probability=0.02),
    *(rule for rule in QUICK if rule.probability is not None),
    Rule(effect=Drip(3, 3), probability=0.02),
    Rule(effect=Hang(), phase="after", probability=0.01),
    Rule(effect=Truncate(at_bytes=2, then="hang"), probability=0.01),
    Rule(effect=LateWrite(5), probability=0.02, times=1000),
)
"""Every effect but the rate limit by chance, about one call in three, and none that takes long."""

LIMITED = Rule(effect=EFFECTS["rate_limit"](limit=200, window_s=0.5), name="limited")  # type: ignore[call-arg]


def storm(where: str, headers: Sequence[dict[str, str]], count: int, seed: int) -> Callable[[], None]:
    """Return a job that makes calls over one connection for as long as that lasts, and then over another."""

    def job() -> None:
        chance = random.Random(seed)  # noqa: S311 - no secret
        connection = http.client.HTTPConnection(where, timeout=PATIENCE_S)
        for _ in range(count):
            asked = chance.choice([CALLS[name] for name in ("balance", "spend", "history", "users", "new user")])
            try:
                connection.request(asked.method, asked.target, asked.body or None, chance.choice(headers))
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                connection.close()
        connection.close()

    return job


def at_once(jobs: Sequence[Callable[[], None]]) -> None:
    """Run jobs in threads, and wait for them all."""
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextlib.contextmanager
def gate_keeper(fake: FakeCredits) -> Generator[None]:
    """Let whoever is held at the gate go, every millisecond."""
    gate, over = fake.sandbox.gate("door"), threading.Event()

    def keep() -> None:
        while not over.wait(0.001):
            gate.release(range(len(gate)), keep=True)

    keeper = threading.Thread(target=keep)
    keeper.start()
    yield
    over.set()
    keeper.join()


def storms(base_url: str, api_key: str, token: str, count: int) -> list[Callable[[], None]]:
    """Return a storm for each connection, half of their calls by the server and half by the user."""
    json_type = {"Content-Type": "application/json"}
    headers = [{"X-API-Key": api_key, **json_type}, {"Authorization": f"Bearer {token}", **json_type}]
    return [storm(base_url.removeprefix("http://"), headers, count, seed) for seed in range(CONNECTIONS)]


def descriptors() -> int:
    """Return how many files and sockets this process has open."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def loud(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged above INFO, in the test and after it."""
    records = [*caplog.get_records("call"), *caplog.get_records("teardown")]
    return [f"{each.name}: {each.getMessage()}" for each in records if each.levelno > logging.INFO]


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check that nothing is logged."""
    with caplog.at_level(logging.DEBUG):
        yield
    assert loud(caplog) == []


@pytest.fixture
def clean(quiet: None, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check that no thread, task or socket is left either: the latter two warn when they are collected."""
    with FakeCredits(mode="live") as first:
        first.serve()  # uvloop's first loop opens what the process then keeps
    gc.collect()
    before, others = descriptors(), set(threading.enumerate())
    yield
    gc.collect()
    assert {thread for thread in threading.enumerate() if thread not in others} == set()
    assert descriptors() == before


def test_the_storm_has_every_effect() -> None:
    words = {rule.effect.effect_name for rule in (*RULES, LIMITED) if rule.effect is not None}
    assert words == set(EFFECTS)


@pytest.mark.parametrize("count", [40, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("clean")
def test_a_storm_of_faults_is_not_logged_and_leaves_nothing(count: int) -> None:
    with FakeCredits(mode="live", balance=10**6, faults=RULES, seed=4) as fake:
        fake.faults.add(LIMITED)
        with gate_keeper(fake):
            at_once(storms(fake.serve(), fake.api_key, fake.token(), count))
            until(lambda: fake.journal.in_flight == 0)
        fired = {active.rule.word for active in fake.faults if active.fired}
        assert fake.problems() == []
        assert fake.journal.total > CONNECTIONS * count / 2
        fake.sandbox.verify_ledger()
    assert fired == set(EFFECTS)


# ------------------------------------------------------------ the end, in the midst of it


MINUTE_MS = 60_000

STALLING: dict[str, Rule] = {
    "hang before": Rule(effect=Hang()),
    "hang after": Rule(effect=Hang(), phase="after"),
    "delay before": Rule(effect=Latency(MINUTE_MS)),
    "delay after": Rule(effect=Latency(MINUTE_MS), phase="after"),
    "drip": Rule(effect=Drip(5, MINUTE_MS)),
    "truncate and hang": Rule(effect=Truncate(1, then="hang")),
    "late_write": Rule(effect=LateWrite(MINUTE_MS)),
    "hold_at_gate before": Rule(effect=HoldAtGate("door")),
    "hold_at_gate after": Rule(effect=HoldAtGate("door"), phase="after"),
}
"""Rules that keep a call for longer than anybody waits."""

stalling = pytest.mark.parametrize("name", STALLING)


@contextlib.contextmanager
def stalled(fake: FakeCredits, name: str, count: int = 3) -> Generator[list[Wire]]:
    """Yield connections whose calls have come to where the rule keeps them."""
    fake.faults.add(STALLING[name], times=count)
    effect, door = STALLING[name].effect, fake.sandbox.gates.get("door")
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(fake)) for _ in range(count)]
        for wire in wires:
            wire.send(CALLS["spend"])
        until(lambda: fake.journal.started_count == count)
        if door is not None:
            door.wait_for(count)
        elif not isinstance(effect, Latency):
            until(lambda: fake.journal.total == count)
        yield wires


@pytest.mark.slow
@stalling
@pytest.mark.usefixtures("clean")
def test_a_server_stops_at_once_whatever_its_calls_wait_for(name: str) -> None:
    shared = SharedResources()
    with FakeCredits(mode="live", shared=shared, balance=100) as fake, stalled(fake, name):
        begun_s = monotonic_s()
        shared.close()
        assert monotonic_s() - begun_s < LIMIT_S
        assert fake.journal.in_flight == 0
        assert {entry.delivered for entry in fake.journal} == {name == "drip"}
        assert fake.problems() == []


@pytest.mark.slow
@stalling
@pytest.mark.usefixtures("clean")
def test_a_sandbox_closes_at_once_once_the_clients_have_gone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fake_credits.sandboxes._SANDBOX_DRAIN_TIMEOUT_S", 2 * LIMIT_S)
    with FakeCredits(mode="live", balance=100) as fake:
        with stalled(fake, name) as wires:
            for wire in wires:
                wire.socket.close()
        begun_s = monotonic_s()
        assert fake.close() == []
        assert monotonic_s() - begun_s < LIMIT_S


@pytest.mark.parametrize("name", ["hang before", "hang after", "truncate and hang", "late_write"])
def test_a_closed_sandbox_lets_go_of_clients_that_hang(shared: SharedResources, name: str) -> None:
    with FakeCredits(mode="live", shared=shared, balance=100) as fake, stalled(fake, name) as wires:
        fake.close()
        assert [wire.read().end for wire in wires] == ["closed"] * 3


@pytest.mark.parametrize("name", ["hold_at_gate before", "hold_at_gate after"])
def test_a_closed_sandbox_answers_those_at_its_gates(shared: SharedResources, name: str) -> None:
    with FakeCredits(mode="live", shared=shared, balance=100) as fake, stalled(fake, name) as wires:
        assert fake.close() == []
        assert [wire.read().status for wire in wires] == [201] * 3
        assert fake.balance() == 97


def test_a_closed_sandbox_awaits_a_short_delay_and_cuts_a_long_one(shared: SharedResources) -> None:
    with FakeCredits(mode="live", shared=shared, balance=100) as fake, Wire(fake) as short, Wire(fake) as long:
        fake.faults.add(Latency(20), nth=1)
        fake.faults.add(Latency(MINUTE_MS), nth=2)
        for number, wire in enumerate((short, long), 1):
            wire.send(CALLS["spend"])
            until(lambda number=number: fake.journal.started_count == number)  # type: ignore[misc]
        assert fake.close() == ["1 exchanges were still under way a second after the end"]
        assert (short.read().status, long.read().end) == (201, "closed")
        assert fake.balance() == 99
        until(lambda: fake.journal.in_flight == 0)
        assert [entry.committed for entry in fake.journal] == [True, False]


# ------------------------------------------------------------ clients that hang up


@pytest.mark.slow
@pytest.mark.parametrize("hang_up", ["FIN", "RST"])
@pytest.mark.parametrize("name", [name for name in DAYS if not name.startswith("hold_at_gate")])
@pytest.mark.usefixtures("quiet")
def test_a_client_that_hangs_up_before_a_fault_gets_to_it_is_no_error(
    shared: SharedResources, name: str, hang_up: str
) -> None:
    """One request, or one with another behind it on the same connection."""
    with FakeCredits(
        mode="live", shared=shared, balance=100, clock=START, faults=[Latency(10), DAYS[name].rule]
    ) as fake:
        for count in (1, 2):
            wire = Wire(fake)
            for _ in range(count):
                wire.send(CALLS[DAYS[name].call])
            until(lambda count=count: fake.journal.started_count >= count)  # type: ignore[misc]
            if hang_up == "RST":
                wire.reset()
            wire.socket.close()
        until(lambda: fake.journal.in_flight == 0)
        with Wire(fake) as survivor:
            survivor.warm()
        assert fake.sandbox.bugs == []


@stalling
@pytest.mark.parametrize("hang_up", ["FIN", "RST"])
@pytest.mark.usefixtures("quiet")
def test_a_client_that_hangs_up_while_it_is_kept_is_no_error(shared: SharedResources, name: str, hang_up: str) -> None:
    with FakeCredits(mode="live", shared=shared, balance=100) as fake:
        with stalled(fake, name) as wires:
            for wire in wires:
                if hang_up == "RST":
                    wire.reset()
                wire.socket.close()
        for gate in list(fake.sandbox.gates.values()):
            gate.release()
            until(lambda: fake.journal.in_flight == 0)
            assert {(entry.committed, entry.delivered) for entry in fake.journal} == {(True, False)}
            assert fake.balance() == 97
