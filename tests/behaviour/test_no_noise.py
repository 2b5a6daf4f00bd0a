"""Injected faults cause no log output and no leaks, and do not delay closing."""

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
from tests.behaviour.effect_cases import CALLS, EFFECT_CASES, START
from tests.behaviour.raw_connection import TIMEOUT_S, RawConnection, wait_until
from tests.behaviour.workload import INSTANT_RULES

CONNECTIONS = 32
CLIENT_TIMEOUT_S = 0.3

RULES: tuple[Rule, ...] = (
    Rule(effect=Latency("uniform(0, 3)"), probability=0.1),
    Rule(effect=HoldAtGate("door"), probability=0.02, phase="after"),
    Rule(effect=Status(503), probability=0.02),
    *(rule for rule in INSTANT_RULES if rule.probability is not None),
    Rule(effect=Drip(3, 3), probability=0.02),
    Rule(effect=Hang(), phase="after", probability=0.01),
    Rule(effect=Truncate(at_bytes=2, then="hang"), probability=0.01),
    Rule(effect=LateWrite(5), probability=0.02, times=1000),
)
"""Every effect except rate_limit, for about one call in three, with short delays."""

LIMITED = Rule(effect=EFFECTS["rate_limit"](limit=200, window_s=0.5), name="limited")


def storm_job(host: str, headers: Sequence[dict[str, str]], count: int, seed: int) -> Callable[[], None]:
    """Return a job that makes random calls, reconnecting whenever the connection fails."""

    def job() -> None:
        rng = random.Random(seed)  # noqa: S311 - no secret
        connection = http.client.HTTPConnection(host, timeout=CLIENT_TIMEOUT_S)
        for _ in range(count):
            request = rng.choice([CALLS[name] for name in ("balance", "spend", "history", "users", "new user")])
            try:
                connection.request(request.method, request.target, request.body or None, rng.choice(headers))
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                connection.close()
        connection.close()

    return job


def run_in_threads(jobs: Sequence[Callable[[], None]]) -> None:
    """Run each job in a thread, and wait for all of them."""
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextlib.contextmanager
def gate_released_repeatedly(fake: FakeCredits) -> Generator[None]:
    """Release all held calls every millisecond, while the block runs."""
    gate, stopped = fake.sandbox.gate("door"), threading.Event()

    def release_repeatedly() -> None:
        while not stopped.wait(0.001):
            gate.release(range(len(gate)), keep=True)

    releaser = threading.Thread(target=release_repeatedly)
    releaser.start()
    yield
    stopped.set()
    releaser.join()


def storms(base_url: str, api_key: str, token: str, count: int) -> list[Callable[[], None]]:
    """Return a job for each connection; half of the calls use the API key, half the user token."""
    json_type = {"Content-Type": "application/json"}
    headers = [{"X-API-Key": api_key, **json_type}, {"Authorization": f"Bearer {token}", **json_type}]
    return [storm_job(base_url.removeprefix("http://"), headers, count, seed) for seed in range(CONNECTIONS)]


def open_descriptor_count() -> int:
    """Return the number of open files and sockets of this process."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def logged_warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the messages logged above INFO during call and teardown."""
    records = [*caplog.get_records("call"), *caplog.get_records("teardown")]
    return [f"{record.name}: {record.getMessage()}" for record in records if record.levelno > logging.INFO]


@pytest.fixture
def no_warnings_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check that nothing above INFO is logged."""
    with caplog.at_level(logging.DEBUG):
        yield
    assert logged_warnings(caplog) == []


@pytest.fixture
def nothing_left_open(no_warnings_logged: None, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check that no threads, tasks or sockets are left over; tasks and sockets warn when garbage-collected."""
    with FakeCredits(mode="live") as first:
        first.serve()  # the first uvloop loop opens descriptors that stay open
    gc.collect()
    before, other_threads = open_descriptor_count(), set(threading.enumerate())
    yield
    gc.collect()
    assert {thread for thread in threading.enumerate() if thread not in other_threads} == set()
    assert open_descriptor_count() == before


def test_storm_rules_cover_every_effect() -> None:
    names = {rule.effect.effect_name for rule in (*RULES, LIMITED) if rule.effect is not None}
    assert names == set(EFFECTS)


@pytest.mark.parametrize("count", [40, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("nothing_left_open")
def test_storm_of_faults_logs_nothing_and_leaves_nothing_open(count: int) -> None:
    with FakeCredits(mode="live", balance=10**6, faults=RULES, seed=4) as fake:
        fake.faults.add(LIMITED)
        with gate_released_repeatedly(fake):
            run_in_threads(storms(fake.serve(), fake.api_key, fake.token(), count))
            wait_until(lambda: fake.journal.in_flight == 0)
        fired = {active.rule.word for active in fake.faults if active.fired}
        assert fake.problems() == []
        assert fake.journal.total > CONNECTIONS * count / 2
        fake.sandbox.ledger.verify_balances()
    assert fired == set(EFFECTS)


# ------------------------------------------------------------ closing with calls in progress


MINUTE_MS = 60_000

STALLING_RULES: dict[str, Rule] = {
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
"""Rules that delay a call for longer than the timeouts of these tests."""

with_stalling_rules = pytest.mark.parametrize("name", STALLING_RULES)


@contextlib.contextmanager
def stalled_connections(fake: FakeCredits, name: str, count: int = 3) -> Generator[list[RawConnection]]:
    """Yield connections whose calls are stalled by a rule."""
    fake.faults.add(STALLING_RULES[name], times=count)
    effect, gate = STALLING_RULES[name].effect, fake.sandbox.gates.get("door")
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(RawConnection(fake)) for _ in range(count)]
        for connection in connections:
            connection.send(CALLS["spend"])
        wait_until(lambda: fake.journal.started_count == count)
        if gate is not None:
            gate.wait_for(count)
        elif not isinstance(effect, Latency):
            wait_until(lambda: fake.journal.total == count)
        yield connections


@pytest.mark.slow
@with_stalling_rules
@pytest.mark.usefixtures("nothing_left_open")
def test_server_stops_at_once_with_stalled_calls(name: str) -> None:
    shared = SharedResources()
    with FakeCredits(mode="live", shared=shared, balance=100) as fake, stalled_connections(fake, name):
        started_s = monotonic_s()
        shared.close()
        assert monotonic_s() - started_s < TIMEOUT_S
        assert fake.journal.in_flight == 0
        assert {entry.delivered for entry in fake.journal} == {name == "drip"}
        assert fake.problems() == []


@pytest.mark.slow
@with_stalling_rules
@pytest.mark.usefixtures("nothing_left_open")
def test_sandbox_closes_at_once_after_clients_disconnect(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fake_credits.sandboxes._SANDBOX_DRAIN_TIMEOUT_S", 2 * TIMEOUT_S)
    with FakeCredits(mode="live", balance=100) as fake:
        with stalled_connections(fake, name) as connections:
            for connection in connections:
                connection.socket.close()
        started_s = monotonic_s()
        assert fake.close() == []
        assert monotonic_s() - started_s < TIMEOUT_S


@pytest.mark.parametrize("name", ["hang before", "hang after", "truncate and hang", "late_write"])
def test_closed_sandbox_disconnects_hanging_clients(shared: SharedResources, name: str) -> None:
    with FakeCredits(mode="live", shared=shared, balance=100) as fake, stalled_connections(fake, name) as connections:
        fake.close()
        assert [connection.read().outcome for connection in connections] == ["closed"] * 3


@pytest.mark.parametrize("name", ["hold_at_gate before", "hold_at_gate after"])
def test_closed_sandbox_answers_calls_held_at_gates(shared: SharedResources, name: str) -> None:
    with FakeCredits(mode="live", shared=shared, balance=100) as fake, stalled_connections(fake, name) as connections:
        assert fake.close() == []
        assert [connection.read().status for connection in connections] == [201] * 3
        assert fake.balance() == 97


def test_closed_sandbox_waits_for_short_latency_and_cuts_long_one(shared: SharedResources) -> None:
    with (
        FakeCredits(mode="live", shared=shared, balance=100) as fake,
        RawConnection(fake) as short,
        RawConnection(fake) as long,
    ):
        fake.faults.add(Latency(20), nth=1)
        fake.faults.add(Latency(MINUTE_MS), nth=2)
        for number, connection in enumerate((short, long), 1):
            connection.send(CALLS["spend"])
            wait_until(lambda number=number: fake.journal.started_count == number)  # type: ignore[misc]
        assert fake.close() == ["1 exchange still in progress one second after closing"]
        assert (short.read().status, long.read().outcome) == (201, "closed")
        assert fake.balance() == 99
        wait_until(lambda: fake.journal.in_flight == 0)
        assert [entry.committed for entry in fake.journal] == [True, False]


# ------------------------------------------------------------ clients that disconnect


@pytest.mark.slow
@pytest.mark.parametrize("hang_up", ["FIN", "RST"])
@pytest.mark.parametrize("name", [name for name in EFFECT_CASES if not name.startswith("hold_at_gate")])
@pytest.mark.usefixtures("no_warnings_logged")
def test_client_disconnecting_before_fault_is_not_an_error(shared: SharedResources, name: str, hang_up: str) -> None:
    """This holds for one request, and for two pipelined requests."""
    with FakeCredits(
        mode="live", shared=shared, balance=100, clock=START, faults=[Latency(10), EFFECT_CASES[name].rule]
    ) as fake:
        for count in (1, 2):
            connection = RawConnection(fake)
            for _ in range(count):
                connection.send(CALLS[EFFECT_CASES[name].call])
            wait_until(lambda count=count: fake.journal.started_count >= count)  # type: ignore[misc]
            if hang_up == "RST":
                connection.reset()
            connection.socket.close()
        wait_until(lambda: fake.journal.in_flight == 0)
        with RawConnection(fake) as survivor:
            survivor.warm_up()
        assert fake.sandbox.bugs == []


@with_stalling_rules
@pytest.mark.parametrize("hang_up", ["FIN", "RST"])
@pytest.mark.usefixtures("no_warnings_logged")
def test_client_disconnecting_while_stalled_is_not_an_error(shared: SharedResources, name: str, hang_up: str) -> None:
    with FakeCredits(mode="live", shared=shared, balance=100) as fake:
        with stalled_connections(fake, name) as connections:
            for connection in connections:
                if hang_up == "RST":
                    connection.reset()
                connection.socket.close()
        for gate in list(fake.sandbox.gates.values()):
            gate.release()
            wait_until(lambda: fake.journal.in_flight == 0)
            assert {(entry.committed, entry.delivered) for entry in fake.journal} == {(True, False)}
            assert fake.balance() == 97
