"""`run`: the command's environment, exit codes, signals and cleanup."""

import fcntl
import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import httpx2
import jwt
import pytest

from tests.cli.conftest import COMMAND, LIMIT_S, CliProcess, clean_environment, is_alive, until

Start = Callable[..., CliProcess]

ENV_CLIENT = """
import json, os, urllib.request
def get(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as response:
        return json.load(response)
variables = {name: value for name, value in os.environ.items() if name.startswith(("CREDITS_", "MY_"))}
base, app = variables["CREDITS_BASE_URL"], variables["CREDITS_APPLICATION_ID"]
user = variables["CREDITS_USER_ID"]
url = f"{base}/v1/applications/{app}/users/{user}/balance"
print(json.dumps({
    "env": variables,
    "by_key": get(url, **{"X-API-Key": variables["CREDITS_API_KEY"]}),
    "by_token": get(url, Authorization="Bearer " + variables["CREDITS_USER_TOKEN"]),
    "jwks": get(variables["CREDITS_JWKS_URL"]),
}))
"""


def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run ``fake-credits run`` to completion."""
    return subprocess.run(
        [*COMMAND, "run", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        env=clean_environment(**variables),
    )


@pytest.mark.parametrize("preset", ["plain", pytest.param("clerk", marks=pytest.mark.slow)])
def test_credentials_in_the_environment_work(preset: str) -> None:
    # Nothing listens at the proxy's address, so loopback must bypass the proxy.
    proxied = {"http_proxy": "http://127.0.0.1:9", "NO_PROXY": "internal.example"}
    templates = ("--env", "MY_URL={base_url}/v1", "--env", "MY_TEXT={user_id}={{}}", "--env", "MY_PEM={jwt_public_key}")
    result = run(
        "--auth-provider", preset, "--balance", "90", *templates, "--", sys.executable, "-c", ENV_CLIENT, **proxied
    )
    assert (result.returncode, result.stderr) == (0, "")
    output = json.loads(result.stdout)
    env, token = output["env"], output["env"]["CREDITS_USER_TOKEN"]
    assert output["by_key"] == output["by_token"] == {"balance": 90}
    assert env["MY_URL"] == env["CREDITS_BASE_URL"] + "/v1"
    assert env["MY_TEXT"] == "user-id={}"
    assert env["MY_PEM"] == env["CREDITS_JWT_PUBLIC_KEY"]
    algorithm = jwt.get_unverified_header(token)["alg"]
    claims = jwt.decode(token, env["CREDITS_JWT_PUBLIC_KEY"], algorithms=[algorithm], options={"verify_aud": False})
    assert (claims["sub"], claims["exp"] - claims["iat"]) == ("user-id", 24 * 3600)
    assert jwt.get_unverified_header(token)["kid"] in {key["kid"] for key in output["jwks"]["keys"]}


@pytest.mark.parametrize("name", ["NO_PROXY", pytest.param("no_proxy", marks=pytest.mark.slow)])
def test_no_proxy_wildcard_is_kept(name: str) -> None:
    result = run("sh", "-c", 'printf "%s|%s" "$NO_PROXY" "$no_proxy"', **{name: "*"})
    assert result.stdout == "*|*"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("sh", "-c", "exit 3", "--port", "--help"), 3),
        (("--", "sh", "-c", "kill -9 $$"), 137),
        (("--", "no-such-command-anywhere"), 127),
        pytest.param(("--", "/"), 126, marks=pytest.mark.slow),
    ],
)
def test_exit_code_is_that_of_the_command(command: tuple[str, ...], code: int) -> None:
    result = run(*command)
    assert result.returncode == code
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert ("Error: can't run" in result.stderr) == (code in (126, 127))


@pytest.mark.slow
def test_log_text_prints_the_summary() -> None:
    fetch = (sys.executable, "-c", "import os, urllib.request as u; u.urlopen(os.environ['CREDITS_JWKS_URL'])")
    assert "fake-credits: 0 exchanges, 0 refused (seed 5)" in run("--log", "text", "--seed", "5", *fetch).stderr


RUN_WITH_BUG = """
import sys
from fake_credits.__main__ import main
from fake_credits.sandbox import Sandbox
def broken(*_, **__):
    raise LookupError("a bug\\n12:00:00 forged \\x1b[2J")
Sandbox.authenticate = broken
main()
"""
FAILING_CLIENT = """
import os, urllib.error, urllib.request
variables = os.environ
url = variables["CREDITS_BASE_URL"] + "/v1/applications/app-id/users/user-id"
for _ in range(2):
    try:
        urllib.request.urlopen(urllib.request.Request(url, headers={"X-API-Key": variables["CREDITS_API_KEY"]}))
    except urllib.error.HTTPError as error:
        assert error.code == 500, error.code
"""


@pytest.mark.parametrize(
    "log_format", ["off", *(pytest.param(log_format, marks=pytest.mark.slow) for log_format in ("text", "json"))]
)
def test_internal_error_traceback_is_printed_once_with_any_log_format(log_format: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", RUN_WITH_BUG, "run", "--log", log_format, "--", sys.executable, "-c", FAILING_CLIENT],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        env=clean_environment(),
    )
    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr.count("Traceback (most recent call last)") == 2  # one for each of the two exchanges
    assert result.stderr.count("in broken") == 2
    assert "\x1b" not in result.stderr
    lines = result.stderr.splitlines()
    assert not any(line.startswith("12:00:00 forged") for line in lines)
    if log_format == "json":
        assert [next(iter(json.loads(line))) for line in lines] == ["ordinal", "bug", "ordinal", "bug", "summary"]
    else:
        assert result.stderr.count("please report it") == 2
        assert any(line.startswith("fake-credits: 2 exchanges") for line in lines) == (log_format == "text")


def test_server_stops_when_the_command_ends() -> None:
    result = run("sh", "-c", 'printf %s "$CREDITS_BASE_URL"')
    with httpx2.Client(trust_env=False, verify=False) as client, pytest.raises(httpx2.ConnectError):
        client.get(result.stdout + "/_fake/livez")


SIGNAL_RECORDER = """
import os, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
def record_signal(number, frame):
    with open(folder / "signals", "a") as file:
        file.write(signal.Signals(number).name + "\\n")
    if number not in (signal.SIGUSR1, signal.SIGQUIT):
        sys.exit(11)
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1"):
    signal.signal(getattr(signal, name), record_signal)
(folder / "pid.draft").write_text(str(os.getpid()))
(folder / "pid.draft").rename(folder / "pid")
while True:
    signal.pause()
"""


def recorded_signals(folder: Path) -> list[str]:
    """Return the signals recorded so far; the recorder creates the file before it writes to it."""
    file = folder / "signals"
    return file.read_text().split() if file.exists() else []


def wait_for_process_id(file: Path) -> int:
    until(file.exists, f"{file.name} of the command")
    return int(file.read_text())


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signal_is_forwarded_and_the_commands_exit_code_returned(name: str, start: Start, tmp_path: Path) -> None:
    cli_process = start("run", "--", sys.executable, "-c", SIGNAL_RECORDER, str(tmp_path))
    child = wait_for_process_id(tmp_path / "pid")
    if name == "SIGTERM":
        cli_process.popen.send_signal(signal.SIGUSR1)
        until(lambda: recorded_signals(tmp_path), "SIGUSR1")
    assert cli_process.stop(getattr(signal, name)) == 11
    assert recorded_signals(tmp_path)[-1] == name
    assert not is_alive(child)
    assert cli_process.err == ""


@pytest.mark.slow
def test_command_that_ignores_sigterm_is_killed_after_grace(start: Start, tmp_path: Path) -> None:
    script = f"trap '' TERM; echo $$ > {shlex.quote(str(tmp_path))}/draft; mv {tmp_path}/draft {tmp_path}/pid; "
    cli_process = start("run", "--grace", "0.2", "--", "sh", "-c", script + "while :; do sleep 0.05; done")
    child = wait_for_process_id(tmp_path / "pid")
    assert cli_process.stop() == 137
    assert cli_process.err == "The command did not stop within 0.2 s and was killed (see --grace).\n"
    assert not is_alive(child)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="orphans can be adopted only on Linux")
@pytest.mark.parametrize(
    ("ending", "daemon"),
    [
        ("ends by itself", "sleep 1000"),
        ("SIGTERM", "setsid sleep 1000"),
        ("SIGINT", "sh -c \"trap '' TERM; sleep 1000; sleep 1000\""),
    ],
)
def test_orphaned_grandchildren_are_terminated(ending: str, daemon: str, start: Start, tmp_path: Path) -> None:
    """This includes grandchildren that have their own session or ignore SIGTERM."""
    last_step = "exit 5" if ending == "ends by itself" else "exec sleep 1000"
    script = f"{daemon} & echo $! > draft; mv draft pid; {last_step}"
    cli_process = start("run", "--grace", "0.2", "--", "sh", "-c", f"cd {shlex.quote(str(tmp_path))}; {script}")
    grandchild = wait_for_process_id(tmp_path / "pid")
    if ending == "ends by itself":
        assert cli_process.popen.wait(LIMIT_S) == 5
    else:
        number = getattr(signal, ending)
        assert cli_process.stop(number) == 128 + number
    assert not is_alive(grandchild)


def test_ctrl_c_in_a_terminal_reaches_the_command_once(tmp_path: Path) -> None:
    """The terminal signals the whole group; forwarding it too would count as a second Ctrl-C."""
    master_fd, slave_fd = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "run", "--", sys.executable, "-c", SIGNAL_RECORDER, str(tmp_path)],
        stdin=slave_fd,
        stdout=slave_fd,
        stderr=slave_fd,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        env=clean_environment(),
    )
    os.close(slave_fd)
    try:
        child = wait_for_process_id(tmp_path / "pid")
        os.write(master_fd, b"\x1c")  # Ctrl-\, which the command survives
        until(lambda: recorded_signals(tmp_path), "SIGQUIT")
        os.write(master_fd, b"\x03")
        assert process.wait(LIMIT_S) == 11
    finally:
        process.kill()
        process.wait()
        os.close(master_fd)
    assert recorded_signals(tmp_path) == ["SIGQUIT", "SIGINT"]
    assert not is_alive(child)


@pytest.mark.slow
def test_world_flag_loads_users_for_the_command() -> None:
    code = (
        "import os; from fake_credits import ServerClient; env = os.environ\n"
        "client = ServerClient(env['CREDITS_BASE_URL'], env['CREDITS_API_KEY'])\n"
        "print(len(list(client.iter_users('app-id'))))"
    )
    result = run("--world", "tiny", "--", sys.executable, "-c", code)
    assert (result.returncode, result.stdout) == (0, "5\n")


UNUSED_RULE = """[[rules]]
effect = "reset"
operation = "createTransaction"
nth = 1
name = "first-write"
"""


WITH_PREFIX = """
import os, urllib.error, urllib.request
try:
    urllib.request.urlopen(os.environ["CREDITS_BASE_URL"] + "/api/v1/applications/app-id/users")
except urllib.error.HTTPError as error:
    error.close()
"""


@pytest.mark.parametrize(
    "log_format", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("off", "text")), "json"]
)
def test_problem_prints_a_warning_with_any_log_format(log_format: str, tmp_path: Path) -> None:
    """The exit code is still the command's. A scenario's rules are optional, so an unused one is not a problem."""
    file = tmp_path / "unused.toml"
    file.write_text(UNUSED_RULE)
    result = run("--scenario", str(file), "--log", log_format, "--", sys.executable, "-c", WITH_PREFIX)
    assert result.returncode == 0
    last = result.stderr.splitlines()[-1]
    text = (
        "a request matched no operation: GET /api/v1/applications/app-id/users does not exist; "
        "it ends with the path of listUsers, so your base URL has the extra prefix /api"
    )
    if log_format == "json":
        assert json.loads(last) == {"problem": text, "sandbox": "s1"}
    else:
        assert last == f"Warning: sandbox s1: {text}"


@pytest.mark.slow
def test_scenario_flag_can_be_repeated(tmp_path: Path) -> None:
    file = tmp_path / "unused.toml"
    file.write_text(UNUSED_RULE)
    result = run("--scenario", str(file), "--scenario", "outage", "--", sys.executable, "-c", LIST_USERS)
    assert (result.returncode, result.stdout) == (0, "30\n")


LIST_USERS = (
    "import os; from fake_credits import ServerClient; from fake_credits.errors import Unavailable\n"
    "client = ServerClient(os.environ['CREDITS_BASE_URL'], os.environ['CREDITS_API_KEY'])\n"
    "try: client.list_users('app-id')\n"
    "except Unavailable as error: print(error.retry_after_s)"
)


def test_scenario_and_latency_flags_affect_the_command() -> None:
    result = run("--scenario", "outage", "--latency", "1", "--", sys.executable, "-c", LIST_USERS)
    assert (result.returncode, result.stdout) == (0, "30\n")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_during_world_loading_ends_run_immediately(number: int) -> None:
    script = (
        "import os, sys\n"
        "import fake_credits.worlds as worlds\n"
        "from fake_credits.__main__ import main\n"
        f"worlds.generate_histories = lambda *_: os.kill(os.getpid(), {number}) or iter(())\n"
        "sys.argv[1:] = ['run', '--world', 'tiny', '--', 'sh', '-c', 'trap \"\" TERM INT; echo started']\n"
        "main()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        env=clean_environment(),
    )
    assert (result.returncode, result.stdout, result.stderr) == (128 + number, "", "")


WINDOWS_RUN = """
import os, shutil, signal, socket, subprocess, sys
signal.SIGBREAK = signal.SIGUSR2
from fake_credits.__main__ import main
from fake_credits.cli import run  # before the patch: its imports depend on the platform
sys.platform = "win32"
shutil.which = lambda name, path: {which}
class Popen(subprocess.Popen):
    def send_signal(self, number):
        if number != signal.SIGTERM:
            raise ValueError(f"Unsupported signal: {{number}}")
        self.terminate()
    def terminate(self):
        super().send_signal(signal.SIGTERM)
    def wait(self, timeout=None):
        {at_wait}
        return super().wait(timeout)
subprocess.Popen = Popen
socket.SO_EXCLUSIVEADDRUSE = socket.SO_REUSEADDR
leave = sys.exit
sys.exit = lambda code: leave(code if code < 2**31 else -1)  # sys.exit takes a C long
main()
"""


def run_as_on_windows(*command: str, which: str = "None", at_wait: str = "pass") -> "subprocess.CompletedProcess[str]":
    """Run a command as `run` does on Windows; ``which`` and ``at_wait`` are Python code."""
    return subprocess.run(
        [sys.executable, "-c", WINDOWS_RUN.format(which=which, at_wait=at_wait), "run", "--", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        env=clean_environment(),
    )


@pytest.mark.parametrize("name", [pytest.param("SIGINT", marks=pytest.mark.slow), "SIGBREAK"])
def test_console_signal_is_not_forwarded_on_windows(name: str) -> None:
    """Forwarding it would raise an error."""
    result = run_as_on_windows("sh", "-c", "sleep 0.01; exit 5", at_wait=f"os.kill(os.getpid(), signal.{name})")
    assert (result.returncode, result.stdout, result.stderr) == (5, "", "")


def test_ctrl_c_before_the_command_starts_ends_run_on_windows() -> None:
    result = run_as_on_windows("sleep", "1000", which="os.kill(os.getpid(), signal.SIGINT)")
    assert (result.stdout, result.stderr) == ("", "")


def test_batch_file_is_found_on_path_on_windows(tmp_path: Path) -> None:
    npm = tmp_path / "npm.cmd"
    npm.write_text('#!/bin/sh\nprintf %s "$1"\n')
    npm.chmod(0o755)
    result = run_as_on_windows(
        "npm", "test", which=f"{{'npm': {str(npm)!r}}}.get(name) if path == os.environ['PATH'] else None"
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "test", "")


def test_32_bit_exit_code_is_passed_through_on_windows() -> None:
    """0xC000013A is the exit code after Ctrl-C."""
    result = run_as_on_windows("true", at_wait="super().wait(timeout); return 0xC000013A")
    assert (result.returncode, result.stderr) == (0x3A, "")  # this system keeps only the lowest byte
