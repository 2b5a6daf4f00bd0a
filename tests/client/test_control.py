"""The control plane's client: a typed method for every route, errors as ControlError, and few imports."""

import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest

from fake_credits.client import ServerClient
from fake_credits.client.control import ControlClient, JournalWords, RemoteSandbox, SandboxWords
from fake_credits.client.http import NetworkTransport
from fake_credits.contract import DEFAULT_CONTRACT
from fake_credits.control.routes import CONTROL_ROUTES, match_route
from fake_credits.control_schemas import Binding, JournalQuery, MakeSandboxBody, PresetInfo
from fake_credits.errors import ConnectionLost, ControlError, InvalidResponse
from fake_credits.http_message import Request, Response
from fake_credits.models import Transaction
from fake_credits.transports.live import LiveServer
from fake_credits.transports.shared_resources import SharedResources

START = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    shared = SharedResources()
    yield shared.server(DEFAULT_CONTRACT)
    shared.close()


@dataclass
class RecordingTransport:
    """A transport that records its requests."""

    inner: NetworkTransport
    requests: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def send(self, request: Request) -> Response:
        self.requests.append((request.method, request.target.decode().partition("?")[0]))
        return self.inner.send(request)

    def close(self) -> None:
        self.inner.close()


@pytest.fixture
def recording_transport(server: LiveServer) -> Iterator[RecordingTransport]:
    recording_transport = RecordingTransport(NetworkTransport(server.base_url))
    yield recording_transport
    recording_transport.close()


@pytest.fixture
def control(server: LiveServer, recording_transport: RecordingTransport) -> Iterator[ControlClient]:
    with ControlClient(server.base_url, server.control_token, transport=recording_transport) as client:
        yield client
        for state in client.sandboxes():
            if not state.is_default:
                client.sandbox(state.name).close()


def spend(sandbox: RemoteSandbox, user: str = "ada", delta: int = -1) -> None:
    with ServerClient(sandbox.base_url, sandbox.api_key) as client:
        client.create_transaction("app-id", user, delta=delta, reason="consume")


def test_client_has_a_method_for_every_route(control: ControlClient, recording_transport: RecordingTransport) -> None:
    with control.make_sandbox(users={"ada": 2}, clock=START, faults=["outage"], latency="fixed(0)") as sandbox:
        call_all_routes(control, sandbox)
    used_routes = [match_route(method, target.encode())[0] for method, target in recording_transport.requests]
    assert [route for route in CONTROL_ROUTES if route not in used_routes] == []


def call_all_routes(control: ControlClient, sandbox: RemoteSandbox) -> None:
    assert control.sandbox().made.is_default
    assert [state.name for state in control.sandboxes()] == [control.sandbox().state().name, sandbox.name]
    assert len(sandbox.clear_faults()) == 2
    assert sandbox.user("bob", balance=7).balance == sandbox.balance("bob") == 7
    assert sandbox.user("bob", application_id="shop").application_id == "shop"
    assert sandbox.balance("bob", application_id="shop") == 0
    assert [state.user_id for state in sandbox.users(application_id="shop")] == ["bob"]
    added = sandbox.add_transactions("eve", [100, {"delta": -10, "created_at": START}, Transaction(5, "grant", START)])
    assert added == sandbox.transactions("eve")
    assert [(each.delta, each.reason) for each in added] == [(100, "grant"), (-10, "consume"), (5, "grant")]
    assert sandbox.delete_user("eve").balance == 95
    assert sandbox.token("ada", claims={"role": "x"}) != sandbox.token(bad="expired")
    issuer = jwt.decode(sandbox.token("ada"), options={"verify_signature": False})["iss"]
    assert sandbox.bind(issuer, "ada") == Binding(issuer, "ada")
    call_fault_routes(control, sandbox)
    call_clock_and_journal_routes(sandbox)
    gate = sandbox.hold("createTransaction", name="last", user="ada")
    call = threading.Thread(target=spend, args=(sandbox,))
    call.start()
    assert [held.user for held in gate.wait_for(1, limit_s=5).held] == ["ada"]
    assert gate.state() == sandbox.gates()[0]
    assert gate.release(order=[0]).is_open
    call.join()
    assert sandbox.balance("ada") == 1
    (problem,) = sandbox.problems()
    assert problem.startswith("the scripted rule 'reset#1' never fired")
    report = sandbox.reset()
    assert (report.exchanges, report.problems, sandbox.reset().problems) == (0, (problem,), ())
    assert sandbox.balance("ada") == 2


def call_fault_routes(control: ControlClient, sandbox: RemoteSandbox) -> None:
    assert control.presets()[0] == PresetInfo("flaky", control.presets()[0].explains, control.presets()[0].rules)
    added = sandbox.add_fault("reset", "createTransaction", phase="after", nth=1)
    assert (added.fired, added.is_unused, added.rule["operation"]) == (0, True, "createTransaction")
    assert sandbox.problems() != ()
    assert sandbox.add_fault(script=[503, "ok"], name="mine", optional=True).script_left == (503, "ok")
    assert [rule.name for rule in sandbox.faults()] == ["reset#1", "mine"]
    assert sandbox.remove_fault("mine").name == "mine"
    assert sandbox.fault("reset#1") == added
    assert sandbox.load_faults("outage")[0].rule["status"] == 503
    assert sandbox.load_faults({"rules": [{"effect": "close"}]})[0].name == "close#1"
    sandbox.clear_faults()
    assert sandbox.faults() == ()


def call_clock_and_journal_routes(sandbox: RemoteSandbox) -> None:
    assert sandbox.clock().now == START
    assert sandbox.advance(days=1).now == datetime(2030, 1, 2, tzinfo=UTC)
    assert sandbox.travel("2030-01-15T00:00:00Z").now.day == 15
    assert sandbox.travel(datetime(2030, 2, 1, tzinfo=UTC)).now.month == 2
    assert sandbox.freeze(datetime(2030, 3, 1, tzinfo=UTC)).mode == "frozen"
    assert sandbox.settle().settled == 0
    spend(sandbox, "bob")
    (exchange,) = sandbox.journal(operation="create_transaction", user="bob", committed=True, delivered=True, after=0)
    assert (exchange.delta, exchange.status, exchange.client) == (-1, 201, "server")
    assert sandbox.journal(operation="writes") == (exchange,)
    assert sandbox.journal(status=402) == sandbox.journal(rule="mine") == ()
    assert sandbox.canonical_journal().count("\n") == 1
    sandbox.user("bob", balance=7)


def test_keyword_arguments_match_the_schema_fields() -> None:
    assert set(SandboxWords.__annotations__) == set(MakeSandboxBody.__struct_fields__)
    assert set(JournalWords.__annotations__) == set(JournalQuery.__struct_fields__)


def test_sandbox_state_hides_its_credentials(control: ControlClient) -> None:
    state = control.make_sandbox(api_key="secret-key").made
    assert state.api_key == "secret-key"
    assert state.user_token
    assert "secret-key" not in repr(state)
    assert state.user_token not in repr(state)
    assert f"name={state.name!r}" in repr(state)


def test_control_error_has_code_status_and_field(control: ControlClient) -> None:
    with pytest.raises(ControlError, match="400 validation_error: effect is 'burn'") as exc_info:
        control.sandbox().add_fault("burn")
    assert (exc_info.value.code, exc_info.value.status) == ("validation_error", 400)
    with pytest.raises(ControlError, match="balance") as exc_info:
        control.make_sandbox(balance="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert exc_info.value.details[0].field == "balance"


def test_gate_wait_timeout_raises_gate_limit(control: ControlClient) -> None:
    with control.make_sandbox() as sandbox, pytest.raises(ControlError, match="0 of 2 calls arrived") as exc_info:
        sandbox.hold(name="lonely").wait_for(2, limit_s=0.005)
    assert exc_info.value.code == "gate_limit"


def test_sandbox_close_is_idempotent_and_reports_problems_once(control: ControlClient) -> None:
    sandbox = control.make_sandbox()
    sandbox.add_fault("reset", nth=1)
    assert len(sandbox.close().problems) == 1
    assert sandbox.close().problems == ()
    with pytest.raises(ControlError, match="sandbox_not_found"):
        sandbox.state()


def test_wrong_token_is_rejected_and_never_shown(server: LiveServer) -> None:
    with ControlClient(server.base_url, "wrong-secret-token") as client:
        assert "secret" not in repr(client)
        with pytest.raises(ControlError, match="401 control_token_required") as exc_info:
            client.sandboxes()
    assert "secret" not in str(exc_info.value)


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_invalid_sandbox_name_sends_no_request(
    control: ControlClient, recording_transport: RecordingTransport, name: str
) -> None:
    with pytest.raises(ValueError, match="must not be"):
        control.sandbox(name)
    assert recording_transport.requests == []


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>"), (200, b'{"sandboxes":[{}]}'), (502, b"<html>"), (500, b"{}")]
)
def test_unexpected_body_raises_invalid_response(status: int, body: bytes) -> None:
    class StubTransport:
        def send(self, request: Request) -> Response:
            return Response(status, body)

        def close(self) -> None: ...

    with ControlClient("http://h", "token", transport=StubTransport()) as client, pytest.raises(InvalidResponse):
        client.sandboxes()


def test_options_that_json_cannot_represent_send_no_request(
    control: Any, recording_transport: RecordingTransport
) -> None:
    """A NaN would be sent as null, which means that the option is not set."""
    request_count = len(recording_transport.requests)
    with pytest.raises(ValueError, match="POST /sandboxes: the arguments can't be encoded as JSON: Out of range float"):
        control.make_sandbox(balance=math.nan)
    with pytest.raises(
        ValueError, match="POST /sandboxes: the arguments can't be encoded as JSON: .* object is unsupported"
    ):
        control.make_sandbox(faults=object())
    assert len(recording_transport.requests) == request_count


def test_arguments_of_the_wrong_type_raise_type_error(server: LiveServer, control: Any) -> None:
    untyped: Any = ControlClient
    with pytest.raises(TypeError, match="^token must be a str, not NoneType$"):
        untyped(server.base_url, None)
    with control.make_sandbox() as sandbox:
        with pytest.raises(TypeError, match="^user_id must be a str, not int$"):
            sandbox.user(5)
        with pytest.raises(TypeError, match="^limit_s must be a number of seconds, not str$"):
            sandbox.hold("getBalance").wait_for(limit_s="1")


def test_unreachable_server_raises_connection_lost() -> None:
    with ControlClient("http://127.0.0.1:1", "token") as client, pytest.raises(ConnectionLost):
        client.presets()


def test_control_client_imports_neither_the_fake_nor_httpx2() -> None:
    modules = ("fake_credits.sandbox", "fake_credits.api", "fake_credits.faults", "httpx2", "asyncio", "starlette")
    code = f"import sys, fake_credits.client.control; print([name for name in {modules} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
