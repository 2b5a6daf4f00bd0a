"""The client of the control plane: every route by a typed method, refusals as ControlError, and nothing of the fake."""

import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

import pytest

from fake_credits.client import ServerClient
from fake_credits.client.control import ControlClient, RemoteSandbox
from fake_credits.client.control_models import PresetInfo, RecordedExchange
from fake_credits.client.http import NetworkTransport
from fake_credits.contract import DEFAULT_CONTRACT
from fake_credits.control.routes import CONTROL_ROUTES, match_route
from fake_credits.errors import ConnectionLost, ControlError, InvalidResponse
from fake_credits.http_message import Request, Response
from fake_credits.journal import JournalEntry
from fake_credits.transports.live import LiveServer
from fake_credits.transports.shared_resources import SharedResources

START = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    shared = SharedResources()
    yield shared.server(DEFAULT_CONTRACT)
    shared.close()


@dataclass
class Recorder:
    """Be a transport that remembers what went over it."""

    inner: NetworkTransport
    asked: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def send(self, request: Request) -> Response:
        self.asked.append((request.method, request.target.decode().partition("?")[0]))
        return self.inner.send(request)

    def close(self) -> None:
        self.inner.close()


@pytest.fixture
def recorder(server: LiveServer) -> Iterator[Recorder]:
    recorder = Recorder(NetworkTransport(server.base_url))
    yield recorder
    recorder.close()


@pytest.fixture
def control(server: LiveServer, recorder: Recorder) -> Iterator[ControlClient]:
    with ControlClient(server.base_url, server.control_token, transport=recorder) as client:
        yield client
        for state in client.sandboxes():
            if not state.is_default:
                client.sandbox(state.name).close()


def spend(sandbox: RemoteSandbox, user: str = "ada", delta: int = -1) -> None:
    with ServerClient(sandbox.base_url, sandbox.api_key) as client:
        client.create_transaction("app-id", user, delta=delta, reason="consume")


def test_every_route_has_its_method(control: ControlClient, recorder: Recorder) -> None:
    with control.make_sandbox(users={"ada": 2}, clock=START, faults=["outage"], latency="fixed(0)") as sandbox:
        use_all_of(control, sandbox)
    used = [match_route(method, target.split("/")[2:], target)[0] for method, target in recorder.asked]
    assert [route for route in CONTROL_ROUTES if route not in used] == []


def use_all_of(control: ControlClient, sandbox: RemoteSandbox) -> None:
    assert control.sandbox().made.is_default
    assert [state.name for state in control.sandboxes()] == [control.sandbox().state().name, sandbox.name]
    assert len(sandbox.clear_faults()) == 2
    assert sandbox.user("bob", balance=7).balance == sandbox.balance("bob") == 7
    assert sandbox.user("bob", application_id="shop").application_id == "shop"
    assert sandbox.balance("bob", application_id="shop") == 0
    assert sandbox.token("ada", claims={"role": "x"}) != sandbox.token(bad="expired")
    use_faults_of(control, sandbox)
    use_clock_of(sandbox)
    gate = sandbox.hold("createTransaction", name="last", user="ada")
    call = threading.Thread(target=spend, args=(sandbox,))
    call.start()
    assert [held.user for held in gate.wait_for(1, limit_s=5).held] == ["ada"]
    assert gate.state() == sandbox.gates()[0]
    assert gate.release(order=[0]).is_open
    call.join()
    assert sandbox.balance("ada") == 1
    assert sandbox.problems() == ()
    assert sandbox.reset().exchanges == 2
    assert sandbox.balance("ada") == 2


def use_faults_of(control: ControlClient, sandbox: RemoteSandbox) -> None:
    assert control.presets()[0] == PresetInfo("flaky", control.presets()[0].explains, control.presets()[0].rules)
    added = sandbox.add_fault("reset", "createTransaction", phase="after", nth=1)
    assert (added.fired, added.is_unused, added.rule["operation"]) == (0, True, "createTransaction")
    assert sandbox.problems() != ()
    assert sandbox.add_fault(script=[503, "ok"], name="mine").script_left == (503, "ok")
    assert [rule.name for rule in sandbox.faults()] == ["reset#1", "mine"]
    assert sandbox.remove_fault("mine").name == "mine"
    assert sandbox.fault("reset#1") == added
    assert sandbox.load_faults("outage")[0].rule["status"] == 503
    assert sandbox.load_faults({"rules": [{"effect": "close"}]})[0].name == "close#1"
    sandbox.clear_faults()
    assert sandbox.faults() == ()


def use_clock_of(sandbox: RemoteSandbox) -> None:
    assert sandbox.clock().now == START
    assert sandbox.advance(days=1).now == datetime(2030, 1, 2, tzinfo=UTC)
    assert sandbox.travel(datetime(2030, 2, 1, tzinfo=UTC)).now.month == 2
    assert sandbox.freeze(datetime(2030, 3, 1, tzinfo=UTC)).mode == "frozen"
    assert sandbox.settle().settled == 0
    spend(sandbox, "bob")
    (exchange,) = sandbox.journal(operation="createTransaction", user="bob", committed=True, delivered=True, after=0)
    assert (exchange.delta, exchange.status, exchange.client) == (-1, 201, "server")
    assert sandbox.journal(status=402) == sandbox.journal(rule="none") == ()
    assert sandbox.canonical_journal().count("\n") == 1
    sandbox.user("bob", balance=7)


def test_an_exchange_has_every_field_of_the_servers_entries() -> None:
    assert [each.name for each in fields(RecordedExchange)] == list(JournalEntry.__struct_fields__)


def test_a_refusal_names_code_status_and_member(control: ControlClient) -> None:
    with pytest.raises(ControlError, match="400 validation_error: effect is 'burn'") as refused:
        control.sandbox().add_fault("burn")
    assert (refused.value.code, refused.value.status) == ("validation_error", 400)
    with pytest.raises(ControlError, match="balance") as refused:
        control.make_sandbox(balance="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert refused.value.details[0].field == "balance"


def test_a_gate_to_which_too_few_come_says_so(control: ControlClient) -> None:
    with control.make_sandbox() as sandbox, pytest.raises(ControlError, match="0 of 2 arrived") as refused:
        sandbox.hold(name="lonely").wait_for(2, limit_s=0.005)
    assert refused.value.code == "gate_limit"


def test_a_sandbox_may_be_closed_twice_and_tells_its_problems_once(control: ControlClient) -> None:
    sandbox = control.make_sandbox()
    sandbox.add_fault("reset", nth=1)
    assert len(sandbox.close().problems) == 1
    assert sandbox.close().problems == ()
    with pytest.raises(ControlError, match="sandbox_not_found"):
        sandbox.state()


def test_a_wrong_token_is_refused_and_never_shown(server: LiveServer) -> None:
    with ControlClient(server.base_url, "wrong-secret-token") as client:
        assert "secret" not in repr(client)
        with pytest.raises(ControlError, match="401 control_token_required") as refused:
            client.sandboxes()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_no_path_can_have_is_refused_before_anything_is_sent(
    control: ControlClient, recorder: Recorder, name: str
) -> None:
    with pytest.raises(ValueError, match="must not be"):
        control.sandbox(name)
    assert recorder.asked == []


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>"), (200, b'{"sandboxes":[{}]}'), (502, b"<html>"), (500, b"{}")]
)
def test_an_answer_that_is_not_the_control_planes_is_an_invalid_response(status: int, body: bytes) -> None:
    class Odd:
        def send(self, request: Request) -> Response:
            return Response(status, body)

        def close(self) -> None: ...

    with ControlClient("http://h", "token", transport=Odd()) as client, pytest.raises(InvalidResponse):
        client.sandboxes()


def test_what_no_json_can_say_is_refused_before_anything_is_sent(control: Any, recorder: Recorder) -> None:
    """A NaN would arrive as null, which means that nothing was given."""
    asked = len(recorder.asked)
    with pytest.raises(ValueError, match="POST /sandboxes: what is to be sent is no JSON: Out of range float"):
        control.make_sandbox(balance=math.nan)
    with pytest.raises(ValueError, match="POST /sandboxes: what is to be sent is no JSON: .* object is unsupported"):
        control.make_sandbox(faults=object())
    assert len(recorder.asked) == asked


def test_a_token_an_id_and_a_limit_of_another_type_are_refused_by_name(server: LiveServer, control: Any) -> None:
    untyped: Any = ControlClient
    with pytest.raises(TypeError, match="^token must be a str, not NoneType$"):
        untyped(server.base_url, None)
    with control.make_sandbox() as sandbox:
        with pytest.raises(TypeError, match="^user_id must be a str, not int$"):
            sandbox.user(5)
        with pytest.raises(TypeError, match="^limit_s must be a number of seconds, not str$"):
            sandbox.hold("getBalance").wait_for(limit_s="1")


def test_no_server_is_a_lost_connection() -> None:
    with ControlClient("http://127.0.0.1:1", "token") as client, pytest.raises(ConnectionLost):
        client.presets()


def test_it_imports_no_fake_and_no_http_library() -> None:
    heavy = ("fake_credits.sandbox", "fake_credits.api", "fake_credits.faults", "httpx2", "asyncio", "starlette")
    code = f"import sys, fake_credits.client.control; print([name for name in {heavy} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
