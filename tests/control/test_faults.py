"""Faults, gates and clocks over the control plane: a suite in any language makes races and bad days as Python does."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime

import httpx2
import pytest

from fake_credits.clock import monotonic_s, to_ms
from fake_credits.control.app import TOKEN_HEADER
from fake_credits.faults.scenarios import FAULT_PRESETS
from fake_credits.transports.live import LiveServer
from tests.control.conftest import TOKEN, Asker, Made

CONSUME = {"operation": "createTransaction"}


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Let clients wait in threads."""
    with ThreadPoolExecutor(8) as pool:
        yield pool


def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds, and fail where it never does."""
    pause, end_s = threading.Event(), monotonic_s() + 5
    while not condition():
        assert monotonic_s() < end_s
        pause.wait(0.002)


# ------------------------------------------------------------ faults


def test_a_rule_fires_as_it_says_and_counts(asker: Asker) -> None:
    made = asker.make(users={"ada": 5, "bob": 5})
    told = made.told("POST", "/faults", {"effect": "status", "status": 503, "user": "ada", "nth": 2})
    assert (told["name"], told["fired"], told["matched"], told["is_unused"]) == ("status#1", 0, 0, True)
    assert [made.spend(user) for user in ("ada", "bob", "ada", "ada")] == [201, 201, 503, 201]
    (now,) = made.told("GET", "/faults")["faults"]
    assert (now["fired"], now["matched"], now["is_unused"]) == (1, 3, False)
    assert now == made.told("GET", "/faults/status%231")
    assert now["rule"] == {"effect": "status", "status": 503, "code": "unavailable", "user": "ada", "nth": 2} | {
        key: now["rule"][key] for key in now["rule"] if key in ("phase", "operation")
    }


def test_a_lost_response_commits_and_the_client_sees_a_broken_connection(asker: Asker) -> None:
    made = asker.make(users={"ada": 5})
    made.told("POST", "/faults", {"effect": "reset", **CONSUME, "phase": "after", "first": 1})
    with pytest.raises(httpx2.ReadError):
        made.spend()
    assert made.balance() == 4
    (entry,) = made.told("GET", "/journal?committed=true&delivered=false")["entries"]
    assert (entry["rule"], entry["delta"]) == ("reset#1", -1)
    assert made.told("GET", "/problems") == {"problems": []}


def test_a_script_tells_what_is_left_of_it(asker: Asker) -> None:
    made = asker.make(users={"ada": 5})
    made.told("POST", "/faults", {"script": [503, "ok", 429], "name": "mine"})
    assert [made.spend(), made.spend()] == [503, 201]
    assert made.told("GET", "/faults/mine")["script_left"] == [429]
    assert "mine" in made.told("GET", "/problems")["problems"][0]


def test_one_rule_is_removed_by_its_name_and_all_are_cleared(asker: Asker) -> None:
    made = asker.make(users={"ada": 5}, faults=["outage"])
    made.told("POST", "/faults", {"effect": "status", "status": 429, "name": "a/b"})
    assert made.told("DELETE", "/faults/a%2Fb")["name"] == "a/b"
    assert made.ask("DELETE", "/faults/a%2Fb").code == "rule_not_found"
    assert made.spend() == 503
    assert [each["fired"] for each in made.told("DELETE", "/faults")["faults"]] == [1]
    assert made.spend() == 201


@pytest.mark.parametrize("name", FAULT_PRESETS)
def test_every_preset_is_listed_and_loads_by_name(asker: Asker, name: str) -> None:
    (preset,) = [each for each in asker.told("GET", "/presets")["presets"] if each["name"] == name]
    assert preset["explains"] == FAULT_PRESETS[name].description
    loaded = asker.make().told("POST", "/faults/load", {"preset": name})["faults"]
    assert [each["rule"] for each in loaded] == preset["rules"]


def test_a_scenario_loads_as_an_object_whole_or_not_at_all(asker: Asker) -> None:
    made = asker.make(clock="frozen", users={"ada": 9})
    outage = {"at_s": 10, "preset": "outage"}
    scenario = {"latency": "fixed(0)", "rules": [{"effect": "status", "status": 418, "user": "bob"}]}
    assert made.ask("POST", "/faults/load", {**scenario, "rules": [{"effect": "burn"}]}).code == "validation_error"
    assert made.told("GET", "/faults") == {"faults": []}
    assert len(made.told("POST", "/faults/load", {**scenario, "changes": [outage, {"at_s": 20}]})["faults"]) == 3
    statuses = [made.spend()]
    for _ in range(2):
        made.told("POST", "/clock/advance", {"seconds": 10})
        statuses.append(made.spend())
    assert statuses == [201, 503, 201]


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({}, "effect is missing"),
        ({"efect": "reset"}, "'efect' is no word of a rule: did you mean 'effect'?"),
        ({"effect": "burn"}, "'latency', 'status'"),
        ({"effect": "status", "status": "x"}, "status is 'x'"),
        ({"effect": "reset", "phase": "read"}, "choose before, after"),
        ({"effect": "reset", "operation": "drop"}, "operation is 'drop'"),
        ({"effect": "reset", "probability": 1.5}, "from 0 to 1"),
        ({"effect": "latency", "distribution": 60_001}, "from 0 to 60000"),
        ({"effect": "reset", "nht": 1}, "'nht' is no attribute of reset"),
        ({"script": [503], "usr": "ada"}, "did you mean 'user'?"),
        ({"script": [503], "user": ""}, "user is '', which is none"),
        ({"effect": "reset", "header": {}}, "header is {}, which is none"),
        ({"effect": "reset", "where": "lambda call: True"}, "where"),
        ({"script": [503, "burn"]}, "entry 'burn'"),
        ({"effect": "reset", "header": {"X-T": "☃"}}, "header"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_with_what_it_may_be(asker: Asker, rule: object, says: str) -> None:
    made = asker.make()
    got = made.ask("POST", "/faults", rule)
    assert (got.status, got.code) == (400, "validation_error")
    assert says in got.body["error"]["message"]
    assert made.told("GET", "/faults") == {"faults": []}


def test_rules_have_a_limit(asker: Asker) -> None:
    made = asker.make(faults=[{"effect": "reset", "user": "nobody"}] * 1000)
    assert "at most 1000 rules" in made.ask("POST", "/faults", {"effect": "reset"}).body["error"]["message"]


# ------------------------------------------------------------ gates


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"usr": "ada"}, "did you mean 'user'?"),
        ({"user": ""}, "user is '', which is none"),
        ({"effect": "reset"}, "effect is 'reset', but what is held has a gate: leave it out"),
        ({"script": [503]}, "a rule has an effect or a script: give one of them"),
    ],
)
def test_a_gate_whose_calls_cannot_be_is_refused(asker: Asker, rule: object, says: str) -> None:
    made = asker.make()
    got = made.ask("POST", "/gates", rule)
    assert (got.status, got.code) == (400, "validation_error")
    assert says in got.body["error"]["message"]
    assert made.told("GET", "/gates") == {"gates": []}


def test_a_gate_without_a_name_gets_one_that_no_gate_has(asker: Asker) -> None:
    made = asker.make()
    names = [made.told("POST", "/gates", body)["name"] for body in ({"name": "gate2"}, {}, {})]
    assert names == ["gate2", "gate3", "gate4"]


def race(made: Made, pool: ThreadPoolExecutor, users: list[str]) -> list[Future[int]]:
    """Start a call of each user, one after the other, and return once all are at the gate."""
    calls: list[Future[int]] = []
    for count, user in enumerate(users, 1):
        calls.append(pool.submit(made.spend, user))
        made.told("POST", "/gates/last/wait", {"count": count, "limit_s": 5})
    return calls


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_of_two_consumes_of_the_last_credit_the_first_released_wins(
    asker: Asker, pool: ThreadPoolExecutor, order: list[int]
) -> None:
    for _ in range(10):
        made = asker.make(users={"ada": 1})
        assert made.told("POST", "/gates", {"name": "last", **CONSUME})["held"] == []
        calls = race(made, pool, ["ada", "ada"])
        assert [each["ordinal"] for each in made.told("GET", "/gates/last")["held"]] == [1, 2]
        told = made.told("POST", "/gates/last/release", {"order": order})
        assert (told["is_open"], told["held"], told["arrivals"]) == (True, [], 2)
        assert made.balance() == 0  # each has run on before release answers
        statuses = [call.result(5) for call in calls]
        assert statuses == ([201, 402] if order == [0, 1] else [402, 201])
        made.told("DELETE", "")


def test_calls_are_released_by_user_and_some_may_stay(asker: Asker, pool: ThreadPoolExecutor) -> None:
    made = asker.make(users={"ada": 1, "bob": 1})
    made.told("POST", "/gates", {"name": "last", **CONSUME, "phase": "after"})
    calls = race(made, pool, ["ada", "bob"])
    told = made.told("POST", "/gates/last/release", {"order": ["bob"], "keep": True})
    assert [each["user"] for each in told["held"]] == ["ada"]
    assert calls[1].result(5) == 201
    assert not calls[0].done()
    assert made.ask("POST", "/gates/last/release", {"order": ["bob"]}).details[0]["field"] == "order"
    made.told("POST", "/gates/last/release")
    assert calls[0].result(5) == 201
    assert [each["name"] for each in made.told("GET", "/gates")["gates"]] == ["last"]


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/release", {"order": [0]}, "there is no number 0"),
        ("/release", {"order": "ada"}, "expected `array`"),
        ("/release", {"order": [1.5]}, "expected"),
        ("/wait", {"count": 0}, ">= 1"),
        ("/wait", {"limit_s": 61}, "<= 60"),
    ],
)
def test_what_a_gate_cannot_do_is_refused(asker: Asker, path: str, body: object, says: str) -> None:
    made = asker.make()
    made.told("POST", "/gates", {"name": "last"})
    got = made.ask("POST", f"/gates/last{path}", body)
    assert got.code == "validation_error"
    assert says in got.body["error"]["message"]


def test_a_wait_ends_at_its_limit_and_says_who_is_there(asker: Asker, pool: ThreadPoolExecutor) -> None:
    made = asker.make(users={"ada": 1})
    made.told("POST", "/gates", {"name": "last"})
    (call,) = race(made, pool, ["ada"])
    got = made.ask("POST", "/gates/last/wait", {"count": 2, "limit_s": 0.005})
    assert (got.status, got.code) == (409, "gate_limit")
    assert "1 of 2 arrived within 0.005 s; it holds createTransaction of ada" in got.body["error"]["message"]
    made.told("POST", "/gates/last/release")
    assert call.result(5) == 201


def test_a_gate_that_nobody_releases_is_a_problem(asker: Asker) -> None:
    made = asker.make(users={"ada": 1}, gate_timeout_s=0.005)
    made.told("POST", "/gates", {"name": "last"})
    assert made.spend() >= 500
    (problem,) = made.told("GET", "/problems")["problems"]
    assert "last" in problem


def test_closing_and_resetting_let_go_what_is_held_and_nothing_is_lost(asker: Asker, pool: ThreadPoolExecutor) -> None:
    for method, path in (("POST", "/reset"), ("DELETE", "")):
        made = asker.make(users={"ada": 1})
        made.told("POST", "/gates", {"name": "last"})
        (call,) = race(made, pool, ["ada"])
        made.told(method, path)
        assert call.result(5) == 201


def test_a_client_that_hangs_up_at_a_gate_leaves_its_exchange_to_commit_undelivered(asker: Asker) -> None:
    made = asker.make(users={"ada": 1})
    made.told("POST", "/gates", {"name": "last"})
    host, port = asker.base_url.removeprefix("http://").split(":")
    body = '{"delta":-1,"reason":"consume"}'
    head = f"Host: localhost\r\nX-API-Key: {made.info['api_key']}\r\nContent-Length: {len(body)}\r\n"
    target = "/v1/applications/app-id/users/ada/transactions"
    with socket.create_connection((host, int(port))) as connection:
        request = f"POST {target} HTTP/1.1\r\n{head}Content-Type: application/json\r\n\r\n{body}"
        connection.sendall(request.encode())
        made.told("POST", "/gates/last/wait", {})
    made.told("POST", "/gates/last/release")
    (entry,) = made.told("GET", "/journal")["entries"]
    assert (entry["committed"], entry["delivered"], made.balance()) == (True, False, 0)


def wait_in_vain(asker: Asker, made: Made) -> socket.socket:
    """Send a long poll of a minute, and return its connection."""
    host, port = asker.base_url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    body = '{"limit_s": 60}'
    head = f"Host: localhost\r\n{TOKEN_HEADER}: {TOKEN}\r\nContent-Type: application/json\r\n"
    line = f"POST /_fake{made.path}/gates/last/wait HTTP/1.1\r\n"
    connection.sendall(f"{line}{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    return connection


def limits() -> int:
    """Return how many threads count a limit: each wait at a gate has one."""
    return sum(thread.name == "fake-credits-limit" for thread in threading.enumerate())


def test_a_client_that_hangs_up_while_it_waits_leaves_no_wait_behind(asker: Asker) -> None:
    made = asker.make()
    made.told("POST", "/gates", {"name": "last"})
    connections = [wait_in_vain(asker, made) for _ in range(5)]
    until(lambda: limits() == 5)
    for connection in connections:
        connection.close()
    until(lambda: limits() == 0)


@pytest.mark.parametrize("behind", [b"", b"GET /_fake/livez HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_a_server_stops_at_once_though_clients_wait_at_its_gates(
    live: LiveServer, asker: Asker, behind: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the client has sent its next request behind the one that waits."""
    made = asker.make()
    made.told("POST", "/gates", {"name": "last"})
    connection = wait_in_vain(asker, made)
    connection.sendall(behind)
    until(lambda: limits() == 1)
    begun_s = monotonic_s()
    live.stop()
    assert monotonic_s() - begun_s < 5  # the gate's limit is 10
    assert connection.recv(10) == b""
    assert caplog.records == []
    connection.close()
    live.start()
    asker.close()
    asker.meet(live)


@pytest.mark.slow
def test_many_releases_at_once_end_each_other_in_nothing(asker: Asker, pool: ThreadPoolExecutor) -> None:
    """A release waits for its exchanges, which the server's loop must be free to run."""
    mades = [asker.make(users={"ada": 1}) for _ in range(8)]
    calls: list[Future[int]] = []
    with ThreadPoolExecutor(8) as spenders:
        for made in mades:
            made.told("POST", "/gates", {"name": "last"})
            calls += race(made, spenders, ["ada"])
        for each in [pool.submit(made.told, "POST", "/gates/last/release") for made in mades]:
            each.result(10)
        assert [call.result(5) for call in calls] == [201] * 8


# ------------------------------------------------------------ clocks


def test_a_clock_is_frozen_moved_and_read(asker: Asker) -> None:
    made = asker.make(clock="2030-01-01T00:00:00Z", users={"ada": 1})
    assert made.told("POST", "/clock/advance", {"days": 1, "seconds": 0.5})["now"] == "2030-01-02T00:00:00.500Z"
    assert made.told("POST", "/clock/travel", {"to": "2030-02-01T01:00:00+01:00"})["now"] == "2030-02-01T00:00:00.000Z"
    assert made.told("POST", "/clock/freeze", {"at": "2031-01-01T00:00:00Z"})["now"] == "2031-01-01T00:00:00.000Z"
    assert made.spend() == 201
    (entry,) = made.told("GET", "/journal")["entries"]
    assert entry["at_ms"] == to_ms(datetime(2031, 1, 1, tzinfo=UTC))
    made.told("POST", "/reset")
    assert made.told("GET", "/clock")["now"] == "2030-01-01T00:00:00.000Z"
    real = asker.make()
    assert real.told("GET", "/clock")["mode"] == "real"
    assert real.told("POST", "/clock/freeze")["mode"] == "frozen"


def test_what_is_to_happen_later_is_told_and_settled(asker: Asker) -> None:
    made = asker.make(clock="2030-01-01T00:00:00Z", users={"ada": 1})
    made.told("POST", "/faults", {"effect": "late_write", "after_ms": 60_000})
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(
            f"{asker.base_url}/v1/applications/app-id/users/ada/transactions",
            json={"delta": -1, "reason": "consume"},
            headers={"X-API-Key": made.info["api_key"]},
            timeout=0.1,
        )
    (parked,) = made.told("GET", "/clock")["parked"]
    assert parked["at"] == "2030-01-01T00:01:00.000Z"
    assert made.balance() == 1
    assert made.told("POST", "/clock/settle")["settled"] == 1
    assert made.balance() == 0


@pytest.mark.parametrize(
    ("verb", "body", "field"),
    [
        ("advance", {"seconds": -1}, "seconds"),
        ("advance", {"seconds": "1"}, "seconds"),
        ("advance", {"days": True}, "days"),
        ("advance", {"days": 10**11}, ""),
        ("advance", {"weeks": 1}, "weeks"),
        ("travel", {}, "to"),
        ("travel", {"to": "1999-01-01T00:00:00Z"}, "to"),
        ("travel", {"to": "2030-01-01"}, "to"),
        ("freeze", {"at": "soon"}, "at"),
        ("settle", {"x": 1}, "x"),
    ],
)
def test_a_clock_goes_forward_only_and_by_what_it_is_told(asker: Asker, verb: str, body: object, field: str) -> None:
    got = asker.make(clock="2030-01-01T00:00:00Z").ask("POST", f"/clock/{verb}", body)
    assert (got.status, got.code, got.details[0]["field"]) == (400, "validation_error", field)
