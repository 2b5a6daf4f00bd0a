"""The control plane from another language: parallel Node test files, with a sandbox each, under one `run`."""

import json
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fake_credits.client.control import ControlClient, RemoteSandbox
from fake_credits.client.server import ServerClient
from fake_credits.clock import monotonic_s
from fake_credits.control.routes import CONTROL_ROUTES, match_route
from fake_credits.errors import ConnectionLost, ControlError, FakeCreditsError
from tests.cli.conftest import COMMAND, LIMIT_S, CliProcess, clean_environment
from tests.documentation import TEXT

Start = Callable[..., CliProcess]

NODE_TESTS_DIR = Path(__file__).parent / "control"
EXAMPLES_DIR = Path(__file__).parents[1] / "examples" / "javascript"
NODE_TEST_FILES = [*sorted(NODE_TESTS_DIR.glob("*.test.mjs")), EXAMPLES_DIR / "race.test.mjs"]


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_parallel_node_suite_uses_every_control_route(tmp_path: Path) -> None:
    requests_file = tmp_path / "recorded"
    preload = f"--import={(NODE_TESTS_DIR / 'record.mjs').as_uri()}"
    result = subprocess.run(
        [*COMMAND, "run", "--", "node", "--test", "--test-concurrency=4", *map(str, NODE_TEST_FILES)],
        capture_output=True,
        text=True,
        check=False,
        timeout=3 * LIMIT_S,
        env=clean_environment(NODE_OPTIONS=preload, RECORDED=str(requests_file)),
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(NODE_TEST_FILES) == 4
    assert result.stderr == ""
    requests = [line.split(" ") for line in requests_file.read_text().splitlines()]
    used_routes = [match_route(method, path.encode())[0] for method, path in requests if path.startswith("/_fake/")]
    assert [route for route in CONTROL_ROUTES if route not in used_routes] == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_shell_example_in_docs_adds_a_fault() -> None:
    (line,) = [block for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) if "/_fake/" in block]
    result = subprocess.run(
        [*COMMAND, "run", "--", "sh", "-c", line],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        env=clean_environment(),
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["rule"] == {
        "effect": "reset",
        "operation": "writes",
        "phase": "after",
        "nth": 1,
    }


def connect_control(cli_process: CliProcess) -> ControlClient:
    """Return a control client for a server, with the URL and the token from its ready file."""
    return ControlClient(cli_process.variables["FAKE_CREDITS_URL"], cli_process.variables["FAKE_CREDITS_CONTROL_TOKEN"])


def spend(sandbox: RemoteSandbox, errors: list[FakeCreditsError]) -> None:
    """Consume a credit and record any error."""
    with ServerClient(sandbox.base_url, sandbox.api_key) as client:
        try:
            client.create_transaction("app-id", "ada", delta=-1, reason="consume")
        except FakeCreditsError as error:
            errors.append(error)


def test_ready_file_and_banner_contain_the_control_credentials(start: Start) -> None:
    cli_process = start("serve", "--log", "off", "--user", "ada=5")
    assert cli_process.variables["FAKE_CREDITS_URL"] == cli_process.variables["CREDITS_BASE_URL"]
    token = cli_process.variables["FAKE_CREDITS_CONTROL_TOKEN"]
    assert f"export FAKE_CREDITS_CONTROL_TOKEN={token}\n" in cli_process.out
    with connect_control(cli_process) as control:
        assert control.sandbox().made.api_key == cli_process.variables["CREDITS_API_KEY"]
        assert control.make_sandbox().balance("ada") == 5


@pytest.mark.slow
def test_control_token_and_sandbox_limit_work_as_flag_and_variable(start: Start) -> None:
    by_flag = start("serve", "--control-token", "my-token", "--sandbox-limit", "2")
    by_variable = start("serve", FAKE_CREDITS_CONTROL_TOKEN="my-token", FAKE_CREDITS_SANDBOX_LIMIT="2")
    for cli_process in (by_flag, by_variable):
        assert cli_process.variables["FAKE_CREDITS_CONTROL_TOKEN"] == "my-token"
        with connect_control(cli_process) as control:
            control.make_sandbox()
            with pytest.raises(ControlError, match="sandbox_limit"):
                control.make_sandbox()


@pytest.mark.slow
def test_exchanges_of_every_sandbox_are_logged(start: Start) -> None:
    cli_process = start("serve", "--log", "text")
    with connect_control(cli_process) as control, control.make_sandbox(users={"ada": 1}) as sandbox:
        spend(sandbox, [])
    assert cli_process.stop() == 0
    assert "createTransaction ada 201" in cli_process.err
    assert f"req_{sandbox.name}_1" in cli_process.err
    assert "1 exchange, 0 refused" in cli_process.err


def test_ctrl_c_stops_immediately_while_a_gate_holds_a_call(start: Start) -> None:
    cli_process = start("serve", "--log", "off")
    errors: list[FakeCreditsError] = []
    with connect_control(cli_process) as control:
        sandbox = control.make_sandbox(users={"ada": 1})
        gate = sandbox.hold("createTransaction", name="last")

        def wait_for_second_call() -> None:
            try:
                gate.wait_for(2, limit_s=60)
            except FakeCreditsError as error:
                errors.append(error)

        threads = [
            threading.Thread(target=spend, args=(sandbox, errors)),
            threading.Thread(target=wait_for_second_call),
        ]
        for thread in threads:
            thread.start()
        gate.wait_for(1)
        started_s = monotonic_s()
        assert cli_process.stop(signal.SIGINT) == 130
        assert monotonic_s() - started_s < 5  # the wait at the gate would last 10 s
        for thread in threads:
            thread.join()
    assert [type(error) for error in errors] == [ConnectionLost] * 2
    assert cli_process.err == ""
