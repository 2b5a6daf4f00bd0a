"""Faults, gates and clocks via the control plane."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime

import httpx2
import pytest

from fake_credits.clock import monotonic_s, to_ms
from fake_credits.control_schemas import TOKEN_HEADER
from fake_credits.faults.scenarios import FAULT_PRESETS
from fake_credits.transports.live import LiveServer
from tests.control.conftest import CONTROL_TOKEN, ControlSession, SandboxSession

CREATE_TRANSACTION = {"operation": "createTransaction"}


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Yield a thread pool for clients that block."""
    with ThreadPoolExecutor(8) as pool:
        yield pool


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds; fail after 5 seconds."""
    pause, end_s = threading.Event(), monotonic_s() + 5
    while not condition():
        assert monotonic_s() < end_s
        pause.wait(0.002)


# ------------------------------------------------------------ faults


def test_rule_fires_on_nth_matching_call_and_counts_matches(control: ControlSession) -> None:
    sandbox = control.create_sandbox(users={"ada": 5, "bob": 5})
    added = sandbox.request_json("POST", "/faults", {"effect": "status", "status": 503, "user": "ada", "nth": 2})
    assert (added["name"], added["fired"], added["matched"], added["is_unused"]) == ("status#1", 0, 0, True)
    assert [sandbox.spend(user) for user in ("ada", "bob", "ada", "ada")] == [201, 201, 503, 201]
    (current,) = sandbox.request_json("GET", "/faults")["faults"]
    assert (current["fired"], current["matched"], current["is_unused"]) == (1, 3, False)
    assert current == sandbox.request_json("GET", "/faults/status%231")
    assert current["rule"] == {"effect": "status", "status": 503, "code": "unavailable", "user": "ada", "nth": 2} | {
        key: current["rule"][key] for key in current["rule"] if key in ("phase", "operation")
    }


def test_reset_after_phase_commits_and_breaks_the_connection(control: ControlSession) -> None:
    sandbox = control.create_sandbox(users={"ada": 5})
    sandbox.request_json("POST", "/faults", {"effect": "reset", **CREATE_TRANSACTION, "phase": "after", "first": 1})
    with pytest.raises(httpx2.ReadError):
        sandbox.spend()
    assert sandbox.balance() == 4
    (entry,) = sandbox.request_json("GET", "/journal?committed=true&delivered=false")["entries"]
    assert (entry["rule"], entry["delta"]) == ("reset#1", -1)
    assert sandbox.request_json("GET", "/problems") == {"problems": []}


def test_script_reports_remaining_entries(control: ControlSession) -> None:
    sandbox = control.create_sandbox(users={"ada": 5})
    sandbox.request_json("POST", "/faults", {"script": [503, "ok", 429], "name": "mine"})
    assert [sandbox.spend(), sandbox.spend()] == [503, 201]
    assert sandbox.request_json("GET", "/faults/mine")["script_left"] == [429]
    assert "mine" in sandbox.request_json("GET", "/problems")["problems"][0]


def test_rules_are_removed_by_name_and_cleared_together(control: ControlSession) -> None:
    sandbox = control.create_sandbox(users={"ada": 5}, faults=["outage"])
    sandbox.request_json("POST", "/faults", {"effect": "status", "status": 429, "name": "a/b"})
    assert sandbox.request_json("DELETE", "/faults/a%2Fb")["name"] == "a/b"
    assert sandbox.request("DELETE", "/faults/a%2Fb").code == "rule_not_found"
    assert sandbox.spend() == 503
    assert [item["fired"] for item in sandbox.request_json("DELETE", "/faults")["faults"]] == [1]
    assert sandbox.spend() == 201
    (problem,) = sandbox.request_json("POST", "/reset")["problems"]
    assert problem.startswith("the rule 'a/b' never fired")


@pytest.mark.parametrize("name", FAULT_PRESETS)
def test_every_preset_is_listed_and_loads_by_name(control: ControlSession, name: str) -> None:
    (preset,) = [item for item in control.request_json("GET", "/presets")["presets"] if item["name"] == name]
    assert preset["explains"] == FAULT_PRESETS[name].description
    loaded = control.create_sandbox().request_json("POST", "/faults/load", {"preset": name})["faults"]
    assert [item["rule"] for item in loaded] == preset["rules"]


def test_scenario_loads_atomically_and_follows_its_schedule(control: ControlSession) -> None:
    sandbox = control.create_sandbox(clock="frozen", users={"ada": 9})
    outage = {"at_s": 10, "preset": "outage"}
    scenario = {"latency": "fixed(0)", "rules": [{"effect": "status", "status": 418, "user": "bob"}]}
    assert (
        sandbox.request("POST", "/faults/load", {**scenario, "rules": [{"effect": "burn"}]}).code == "validation_error"
    )
    assert sandbox.request_json("GET", "/faults") == {"faults": []}
    assert (
        len(sandbox.request_json("POST", "/faults/load", {**scenario, "changes": [outage, {"at_s": 20}]})["faults"])
        == 3
    )
    statuses = [sandbox.spend()]
    for _ in range(2):
        sandbox.request_json("POST", "/clock/advance", {"seconds": 10})
        statuses.append(sandbox.spend())
    assert statuses == [201, 503, 201]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({}, "effect is missing"),
        ({"efect": "reset"}, "unknown field 'efect': did you mean 'effect'?"),
        ({"effect": "burn"}, "'latency', 'status'"),
        ({"effect": "status", "status": "x"}, "status is 'x'"),
        ({"effect": "reset", "phase": "read"}, "it must be 'before' or 'after' for reset"),
        ({"effect": "reset", "operation": "drop"}, "operation is 'drop'"),
        ({"effect": "reset", "probability": 1.5}, "from 0 to 1"),
        ({"effect": "latency", "distribution": 60_001}, "from 0 to 60000"),
        ({"effect": "reset", "nht": 1}, "unknown field 'nht': did you mean 'nth'?"),
        ({"script": [503], "usr": "ada"}, "did you mean 'user'?"),
        ({"script": [503], "user": ""}, "user is empty"),
        ({"effect": "reset", "header": {}}, "header is empty"),
        ({"effect": "reset", "where": "lambda call: True"}, "where"),
        ({"script": [503, "burn"]}, "a script entry is 'burn'"),
        ({"effect": "reset", "header": {"X-T": "☃"}}, "header"),
    ],
)
def test_invalid_rule_is_rejected_with_the_allowed_values(control: ControlSession, rule: object, message: str) -> None:
    sandbox = control.create_sandbox()
    response = sandbox.request("POST", "/faults", rule)
    assert (response.status, response.code) == (400, "validation_error")
    assert message in response.body["error"]["message"]
    assert sandbox.request_json("GET", "/faults") == {"faults": []}


def test_number_of_rules_is_limited(control: ControlSession) -> None:
    sandbox = control.create_sandbox(faults=[{"effect": "reset", "user": "nobody"}] * 1000)
    assert "at most 1000 rules" in sandbox.request("POST", "/faults", {"effect": "reset"}).body["error"]["message"]


# ------------------------------------------------------------ gates


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"usr": "ada"}, "did you mean 'user'?"),
        ({"user": ""}, "user is empty: omit it"),
        ({"effect": "reset"}, 'a gate must not have an effect, got "reset"'),
        ({"script": [503]}, "a rule has either an effect or a script"),
    ],
)
def test_gate_with_invalid_rule_is_rejected(control: ControlSession, rule: object, message: str) -> None:
    sandbox = control.create_sandbox()
    response = sandbox.request("POST", "/gates", rule)
    assert (response.status, response.code) == (400, "validation_error")
    assert message in response.body["error"]["message"]
    assert sandbox.request_json("GET", "/gates") == {"gates": []}


def test_unnamed_gate_gets_an_unused_name(control: ControlSession) -> None:
    sandbox = control.create_sandbox()
    names = [sandbox.request_json("POST", "/gates", body)["name"] for body in ({"name": "gate2"}, {}, {})]
    assert names == ["gate2", "gate3", "gate4"]


def hold_calls_at_gate(sandbox: SandboxSession, pool: ThreadPoolExecutor, users: list[str]) -> list[Future[int]]:
    """Start one call per user, in order, and return once all of them are held at the gate."""
    calls: list[Future[int]] = []
    for count, user in enumerate(users, 1):
        calls.append(pool.submit(sandbox.spend, user))
        sandbox.request_json("POST", "/gates/last/wait", {"count": count, "limit_s": 5})
    return calls


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_first_released_call_gets_the_last_credit(
    control: ControlSession, pool: ThreadPoolExecutor, order: list[int]
) -> None:
    for _ in range(3):
        sandbox = control.create_sandbox(users={"ada": 1})
        assert sandbox.request_json("POST", "/gates", {"name": "last", **CREATE_TRANSACTION})["held"] == []
        calls = hold_calls_at_gate(sandbox, pool, ["ada", "ada"])
        assert [item["ordinal"] for item in sandbox.request_json("GET", "/gates/last")["held"]] == [1, 2]
        released = sandbox.request_json("POST", "/gates/last/release", {"order": order})
        assert (released["is_open"], released["held"], released["arrivals"]) == (True, [], 2)
        assert sandbox.balance() == 0  # release returns after the released calls have completed
        statuses = [call.result(5) for call in calls]
        assert statuses == ([201, 402] if order == [0, 1] else [402, 201])
        sandbox.request_json("DELETE", "")


def test_release_with_keep_releases_only_the_listed_calls(control: ControlSession, pool: ThreadPoolExecutor) -> None:
    sandbox = control.create_sandbox(users={"ada": 1, "bob": 1})
    sandbox.request_json("POST", "/gates", {"name": "last", **CREATE_TRANSACTION, "phase": "after"})
    calls = hold_calls_at_gate(sandbox, pool, ["ada", "bob"])
    gate = sandbox.request_json("POST", "/gates/last/release", {"order": ["bob"], "keep": True})
    assert [item["user"] for item in gate["held"]] == ["ada"]
    assert calls[1].result(5) == 201
    assert not calls[0].done()
    assert sandbox.request("POST", "/gates/last/release", {"order": ["bob"]}).details[0]["field"] == "order"
    sandbox.request_json("POST", "/gates/last/release")
    assert calls[0].result(5) == 201
    assert [item["name"] for item in sandbox.request_json("GET", "/gates")["gates"]] == ["last"]


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/release", {"order": [0]}, "order has 0, but the gate"),
        ("/release", {"order": "ada"}, 'must be an array, got "ada"'),
        ("/release", {"order": [1.5]}, "order[0]: must be an integer or a string"),
        ("/wait", {"count": 0}, "count: must be an integer >= 1, got 0"),
        ("/wait", {"limit_s": 61}, "limit_s: must be a number <= 60.0, got 61"),
    ],
)
def test_invalid_gate_release_or_wait_is_rejected(
    control: ControlSession, path: str, body: object, message: str
) -> None:
    sandbox = control.create_sandbox()
    sandbox.request_json("POST", "/gates", {"name": "last"})
    response = sandbox.request("POST", f"/gates/last{path}", body)
    assert response.code == "validation_error"
    assert message in response.body["error"]["message"]


def test_gate_wait_times_out_and_names_the_held_calls(control: ControlSession, pool: ThreadPoolExecutor) -> None:
    sandbox = control.create_sandbox(users={"ada": 1})
    sandbox.request_json("POST", "/gates", {"name": "last"})
    (call,) = hold_calls_at_gate(sandbox, pool, ["ada"])
    response = sandbox.request("POST", "/gates/last/wait", {"count": 2, "limit_s": 0.005})
    assert (response.status, response.code) == (409, "gate_limit")
    assert (
        "1 of 2 calls arrived within 0.005 s; it holds createTransaction for ada" in response.body["error"]["message"]
    )
    sandbox.request_json("POST", "/gates/last/release")
    assert call.result(5) == 201


def test_gate_timeout_is_reported_as_problem(control: ControlSession) -> None:
    sandbox = control.create_sandbox(users={"ada": 1}, gate_timeout_s=0.005)
    sandbox.request_json("POST", "/gates", {"name": "last"})
    assert sandbox.spend() >= 500
    (problem,) = sandbox.request_json("GET", "/problems")["problems"]
    assert "last" in problem


def test_reset_and_close_release_held_calls(control: ControlSession, pool: ThreadPoolExecutor) -> None:
    for method, path in (("POST", "/reset"), ("DELETE", "")):
        sandbox = control.create_sandbox(users={"ada": 1})
        sandbox.request_json("POST", "/gates", {"name": "last"})
        (call,) = hold_calls_at_gate(sandbox, pool, ["ada"])
        sandbox.request_json(method, path)
        assert call.result(5) == 201


def test_client_disconnect_at_gate_still_commits_the_write(control: ControlSession) -> None:
    sandbox = control.create_sandbox(users={"ada": 1})
    sandbox.request_json("POST", "/gates", {"name": "last"})
    host, port = control.base_url.removeprefix("http://").split(":")
    body = '{"delta":-1,"reason":"consume"}'
    head = f"Host: localhost\r\nX-API-Key: {sandbox.info['api_key']}\r\nContent-Length: {len(body)}\r\n"
    target = "/v1/applications/app-id/users/ada/transactions"
    with socket.create_connection((host, int(port))) as connection:
        request = f"POST {target} HTTP/1.1\r\n{head}Content-Type: application/json\r\n\r\n{body}"
        connection.sendall(request.encode())
        sandbox.request_json("POST", "/gates/last/wait", {})
    sandbox.request_json("POST", "/gates/last/release")
    (entry,) = sandbox.request_json("GET", "/journal")["entries"]
    assert (entry["committed"], entry["delivered"], sandbox.balance()) == (True, False, 0)


def start_gate_wait(control: ControlSession, sandbox: SandboxSession) -> socket.socket:
    """Send a gate-wait request with a limit of 60 seconds, and return its connection."""
    host, port = control.base_url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    body = '{"limit_s": 60}'
    head = f"Host: localhost\r\n{TOKEN_HEADER}: {CONTROL_TOKEN}\r\nContent-Type: application/json\r\n"
    line = f"POST /_fake{sandbox.path}/gates/last/wait HTTP/1.1\r\n"
    connection.sendall(f"{line}{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    return connection


def count_limit_threads() -> int:
    """Return the number of threads that enforce time limits; each wait at a gate has one."""
    return sum(thread.name == "fake-credits-limit" for thread in threading.enumerate())


def test_client_disconnect_cancels_its_gate_wait(control: ControlSession) -> None:
    sandbox = control.create_sandbox()
    sandbox.request_json("POST", "/gates", {"name": "last"})
    connections = [start_gate_wait(control, sandbox) for _ in range(5)]
    wait_until(lambda: count_limit_threads() == 5)
    for connection in connections:
        connection.close()
    wait_until(lambda: count_limit_threads() == 0)


@pytest.mark.parametrize("pipelined", [b"", b"GET /_fake/livez HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_server_stops_immediately_while_clients_wait_at_gates(
    live_server: LiveServer, control: ControlSession, pipelined: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """This includes clients that have pipelined their next request."""
    sandbox = control.create_sandbox()
    sandbox.request_json("POST", "/gates", {"name": "last"})
    connection = start_gate_wait(control, sandbox)
    connection.sendall(pipelined)
    wait_until(lambda: count_limit_threads() == 1)
    started_s = monotonic_s()
    live_server.stop()
    assert monotonic_s() - started_s < 5  # the wait's limit is 60 seconds
    assert connection.recv(10) == b""
    assert caplog.records == []
    connection.close()
    live_server.start()
    control.close()
    control.connect(live_server)


@pytest.mark.slow
def test_concurrent_releases_do_not_deadlock(control: ControlSession, pool: ThreadPoolExecutor) -> None:
    """A release waits for its exchanges, so it must not block the server's event loop."""
    sandboxes = [control.create_sandbox(users={"ada": 1}) for _ in range(8)]
    calls: list[Future[int]] = []
    with ThreadPoolExecutor(8) as spenders:
        for sandbox in sandboxes:
            sandbox.request_json("POST", "/gates", {"name": "last"})
            calls += hold_calls_at_gate(sandbox, spenders, ["ada"])
        for item in [pool.submit(sandbox.request_json, "POST", "/gates/last/release") for sandbox in sandboxes]:
            item.result(10)
        assert [call.result(5) for call in calls] == [201] * 8


# ------------------------------------------------------------ clocks


def test_clock_can_be_frozen_advanced_and_read(control: ControlSession) -> None:
    sandbox = control.create_sandbox(clock="2030-01-01T00:00:00Z", users={"ada": 1})
    assert (
        sandbox.request_json("POST", "/clock/advance", {"days": 1, "seconds": 0.5})["now"] == "2030-01-02T00:00:00.500Z"
    )
    assert (
        sandbox.request_json("POST", "/clock/travel", {"to": "2030-02-01T01:00:00+01:00"})["now"]
        == "2030-02-01T00:00:00.000Z"
    )
    assert (
        sandbox.request_json("POST", "/clock/freeze", {"at": "2031-01-01T00:00:00Z"})["now"]
        == "2031-01-01T00:00:00.000Z"
    )
    assert sandbox.spend() == 201
    (entry,) = sandbox.request_json("GET", "/journal")["entries"]
    assert entry["at_ms"] == to_ms(datetime(2031, 1, 1, tzinfo=UTC))
    sandbox.request_json("POST", "/reset")
    assert sandbox.request_json("GET", "/clock")["now"] == "2030-01-01T00:00:00.000Z"
    real = control.create_sandbox()
    assert real.request_json("GET", "/clock")["mode"] == "real"
    assert real.request_json("POST", "/clock/freeze")["mode"] == "frozen"


def test_parked_write_is_listed_and_settled(control: ControlSession) -> None:
    sandbox = control.create_sandbox(clock="2030-01-01T00:00:00Z", users={"ada": 1})
    sandbox.request_json("POST", "/faults", {"effect": "late_write", "after_ms": 60_000})
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(
            f"{control.base_url}/v1/applications/app-id/users/ada/transactions",
            json={"delta": -1, "reason": "consume"},
            headers={"X-API-Key": sandbox.info["api_key"]},
            timeout=0.1,
        )
    (parked,) = sandbox.request_json("GET", "/clock")["parked"]
    assert parked["at"] == "2030-01-01T00:01:00.000Z"
    assert sandbox.balance() == 1
    assert sandbox.request_json("POST", "/clock/settle")["settled"] == 1
    assert sandbox.balance() == 0


@pytest.mark.parametrize(
    ("action", "body", "field"),
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
def test_invalid_clock_request_is_rejected(control: ControlSession, action: str, body: object, field: str) -> None:
    response = control.create_sandbox(clock="2030-01-01T00:00:00Z").request("POST", f"/clock/{action}", body)
    assert (response.status, response.code, response.details[0]["field"]) == (400, "validation_error", field)
