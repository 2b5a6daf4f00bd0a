"""The control plane from another language: four files of Node's runner in parallel, a sandbox each, on one `run`."""

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
from tests.cli.conftest import COMMAND, LIMIT_S, Started, clean_environment

Start = Callable[..., Started]

README = (Path(__file__).parent.parent.parent / "README.md").read_text()
FOLDER = Path(__file__).parent / "control"
FILES = sorted(FOLDER.glob("*.test.mjs"))


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_a_suite_in_node_uses_every_verb_in_four_files_at_once(tmp_path: Path) -> None:
    recorded = tmp_path / "recorded"
    preload = f"--import={(FOLDER / 'record.mjs').as_uri()}"
    done = subprocess.run(
        [*COMMAND, "run", "--", "node", "--test", "--test-concurrency=4", *map(str, FILES)],
        capture_output=True,
        text=True,
        check=False,
        timeout=3 * LIMIT_S,
        env=clean_environment(NODE_OPTIONS=preload, RECORDED=str(recorded)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(FILES) == 4
    assert done.stderr == ""
    asked = [line.split(" ") for line in recorded.read_text().splitlines()]
    used = [match_route(method, path.split("/")[2:], path)[0] for method, path in asked if path.startswith("/_fake/")]
    assert [route for route in CONTROL_ROUTES if route not in used] == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_readmes_line_of_shell_declares_a_fault() -> None:
    (line,) = [block for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if "/_fake/" in block]
    done = subprocess.run(
        [*COMMAND, "run", "--", "sh", "-c", line],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        env=clean_environment(),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rule"] == {
        "effect": "reset",
        "operation": "writes",
        "phase": "after",
        "nth": 1,
    }


def control_of(started: Started) -> ControlClient:
    """Return a client by what the ready file says."""
    return ControlClient(started.variables["FAKE_CREDITS_URL"], started.variables["FAKE_CREDITS_CONTROL_TOKEN"])


def spend(sandbox: RemoteSandbox, errors: list[FakeCreditsError]) -> None:
    """Consume a credit, and keep what went wrong."""
    with ServerClient(sandbox.base_url, sandbox.api_key) as client:
        try:
            client.create_transaction("app-id", "ada", delta=-1, reason="consume")
        except FakeCreditsError as error:
            errors.append(error)


def test_the_ready_file_and_the_banner_say_how_to_reach_it(start: Start) -> None:
    started = start("serve", "--log", "off", "--user", "ada=5")
    assert started.variables["FAKE_CREDITS_URL"] == started.variables["CREDITS_BASE_URL"]
    token = started.variables["FAKE_CREDITS_CONTROL_TOKEN"]
    assert f"export FAKE_CREDITS_CONTROL_TOKEN={token}\n" in started.out
    with control_of(started) as control:
        assert control.sandbox().made.api_key == started.variables["CREDITS_API_KEY"]
        assert control.make_sandbox().balance("ada") == 5


@pytest.mark.slow
def test_a_given_token_and_a_limit_hold_whether_flag_or_variable(start: Start) -> None:
    by_flag = start("serve", "--control-token", "my-token", "--sandbox-limit", "2")
    by_variable = start("serve", FAKE_CREDITS_CONTROL_TOKEN="my-token", FAKE_CREDITS_SANDBOX_LIMIT="2")
    for started in (by_flag, by_variable):
        assert started.variables["FAKE_CREDITS_CONTROL_TOKEN"] == "my-token"
        with control_of(started) as control:
            control.make_sandbox()
            with pytest.raises(ControlError, match="sandbox_limit"):
                control.make_sandbox()


@pytest.mark.slow
def test_every_sandboxs_exchanges_are_logged(start: Start) -> None:
    started = start("serve", "--log", "text")
    with control_of(started) as control, control.make_sandbox(users={"ada": 1}) as sandbox:
        spend(sandbox, [])
    assert started.end() == 0
    assert "createTransaction ada 201" in started.err
    assert f"req_{sandbox.name}_1" in started.err
    assert "1 exchanges, 0 refused" in started.err


def test_ctrl_c_ends_at_once_though_a_gate_holds_and_a_client_waits_there(start: Start) -> None:
    started = start("serve", "--log", "off")
    errors: list[FakeCreditsError] = []
    with control_of(started) as control:
        sandbox = control.make_sandbox(users={"ada": 1})
        gate = sandbox.hold("createTransaction", name="last")

        def wait_in_vain() -> None:
            try:
                gate.wait_for(2, limit_s=60)
            except FakeCreditsError as error:
                errors.append(error)

        threads = [threading.Thread(target=spend, args=(sandbox, errors)), threading.Thread(target=wait_in_vain)]
        for thread in threads:
            thread.start()
        gate.wait_for(1)
        begun_s = monotonic_s()
        assert started.end(signal.SIGINT) == 130
        assert monotonic_s() - begun_s < 5  # the gate holds for 10
        for thread in threads:
            thread.join()
    assert [type(error) for error in errors] == [ConnectionLost] * 2
    assert started.err == ""
