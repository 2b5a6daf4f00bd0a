"""`run`: what the command finds in its environment works, its exit code is ours, and nothing is left behind."""

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

from tests.cli.conftest import COMMAND, LIMIT_S, Started, clean_environment, is_alive, until

Start = Callable[..., Started]

USES_IT_ALL = """
import json, os, urllib.request
def get(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        return json.load(answer)
own = {name: value for name, value in os.environ.items() if name.startswith(("CREDITS_", "MY_"))}
base, app, user = own["CREDITS_BASE_URL"], own["CREDITS_APPLICATION_ID"], own["CREDITS_USER_ID"]
url = f"{base}/v1/applications/{app}/users/{user}/balance"
print(json.dumps({
    "env": own,
    "by_key": get(url, **{"X-API-Key": own["CREDITS_API_KEY"]}),
    "by_token": get(url, Authorization="Bearer " + own["CREDITS_USER_TOKEN"]),
    "jwks": get(own["CREDITS_JWKS_URL"]),
}))
"""


def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run ``fake-credits run`` to its end."""
    return subprocess.run(
        [*COMMAND, "run", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        env=clean_environment(**variables),
    )


@pytest.mark.parametrize("preset", ["plain", pytest.param("clerk", marks=pytest.mark.slow)])
def test_key_token_jwks_and_pem_of_the_environment_work(preset: str) -> None:
    # The proxy answers nothing: loopback has to go past it.
    proxied = {"http_proxy": "http://127.0.0.1:9", "NO_PROXY": "internal.example"}
    templates = ("--env", "MY_URL={base_url}/v1", "--env", "MY_TEXT={user_id}={{}}", "--env", "MY_PEM={jwt_public_key}")
    done = run(
        "--auth-provider", preset, "--balance", "90", *templates, "--", sys.executable, "-c", USES_IT_ALL, **proxied
    )
    assert (done.returncode, done.stderr) == (0, "")
    seen = json.loads(done.stdout)
    env, token = seen["env"], seen["env"]["CREDITS_USER_TOKEN"]
    assert seen["by_key"] == seen["by_token"] == {"balance": 90}
    assert env["MY_URL"] == env["CREDITS_BASE_URL"] + "/v1"
    assert env["MY_TEXT"] == "user-id={}"
    assert env["MY_PEM"] == env["CREDITS_JWT_PUBLIC_KEY"]
    algorithm = jwt.get_unverified_header(token)["alg"]
    claims = jwt.decode(token, env["CREDITS_JWT_PUBLIC_KEY"], algorithms=[algorithm], options={"verify_aud": False})
    assert (claims["sub"], claims["exp"] - claims["iat"]) == ("user-id", 24 * 3600)
    assert jwt.get_unverified_header(token)["kid"] in {key["kid"] for key in seen["jwks"]["keys"]}


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_a_star_that_means_all_hosts_is_left_alone(name: str) -> None:
    done = run("sh", "-c", 'printf "%s|%s" "$NO_PROXY" "$no_proxy"', **{name: "*"})
    assert done.stdout == "*|*"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("sh", "-c", "exit 3", "--port", "--help"), 3),
        (("--", "sh", "-c", "kill -9 $$"), 137),
        (("--", "no-such-command-anywhere"), 127),
        (("--", "/"), 126),
    ],
)
def test_the_exit_code_is_the_commands_own(command: tuple[str, ...], code: int) -> None:
    done = run(*command)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert ("Error: can't run" in done.stderr) == (code in (126, 127))


@pytest.mark.slow
def test_the_log_and_the_summary_are_there_where_asked_for() -> None:
    fetch = (sys.executable, "-c", "import os, urllib.request as u; u.urlopen(os.environ['CREDITS_JWKS_URL'])")
    assert "fake-credits: 0 exchanges, 0 refused (seed 5)" in run("--log", "text", "--seed", "5", *fetch).stderr


MEETS_A_BUG = """
import sys
from fake_credits.cli import main
from fake_credits.sandbox import Sandbox
def broken(*_, **__):
    raise LookupError("a bug\\n12:00:00 forged \\x1b[2J")
Sandbox.authenticate = broken
main()
"""
ASKS_IN_VAIN = """
import os, urllib.error, urllib.request
variables = os.environ
url = variables["CREDITS_BASE_URL"] + "/v1/applications/app-id/users/user-id"
for _ in range(2):
    try:
        urllib.request.urlopen(urllib.request.Request(url, headers={"X-API-Key": variables["CREDITS_API_KEY"]}))
    except urllib.error.HTTPError as error:
        assert error.code == 500, error.code
"""


@pytest.mark.parametrize("form", ["off", *(pytest.param(form, marks=pytest.mark.slow) for form in ("text", "json"))])
def test_a_bug_of_the_fake_is_told_in_full_once_whatever_the_log(form: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEETS_A_BUG, "run", "--log", form, "--", sys.executable, "-c", ASKS_IN_VAIN],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        env=clean_environment(),
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.count("Traceback (most recent call last)") == 2  # of two exchanges, one each
    assert done.stderr.count("in broken") == 2
    assert "\x1b" not in done.stderr
    lines = done.stderr.splitlines()
    assert not any(line.startswith("12:00:00 forged") for line in lines)
    if form == "json":
        assert [next(iter(json.loads(line))) for line in lines] == ["ordinal", "bug", "ordinal", "bug", "summary"]
    else:
        assert done.stderr.count("please report it") == 2
        assert any(line.startswith("fake-credits: 2 exchanges") for line in lines) == (form == "text")


def test_the_server_is_gone_when_the_command_is() -> None:
    done = run("sh", "-c", 'printf %s "$CREDITS_BASE_URL"')
    with httpx2.Client(trust_env=False) as client, pytest.raises(httpx2.ConnectError):
        client.get(done.stdout + "/_fake/livez")


HEARS = """
import os, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
def hear(number, frame):
    with open(folder / "heard", "a") as file:
        file.write(signal.Signals(number).name + "\\n")
    if number not in (signal.SIGUSR1, signal.SIGQUIT):
        sys.exit(11)
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1"):
    signal.signal(getattr(signal, name), hear)
(folder / "pid.draft").write_text(str(os.getpid()))
(folder / "pid.draft").rename(folder / "pid")
while True:
    signal.pause()
"""


def wait_for_id(file: Path) -> int:
    until(file.exists, f"{file.name} of the command")
    return int(file.read_text())


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_to_us_alone_reaches_the_command_whose_code_is_ours(name: str, start: Start, tmp_path: Path) -> None:
    started = start("run", "--", sys.executable, "-c", HEARS, str(tmp_path))
    child = wait_for_id(tmp_path / "pid")
    if name == "SIGTERM":
        started.process.send_signal(signal.SIGUSR1)
        until((tmp_path / "heard").exists, "SIGUSR1")
    assert started.end(getattr(signal, name)) == 11
    assert (tmp_path / "heard").read_text().split()[-1] == name
    assert not is_alive(child)
    assert started.err == ""


@pytest.mark.slow
def test_a_command_that_ignores_sigterm_is_killed_after_the_grace(start: Start, tmp_path: Path) -> None:
    script = f"trap '' TERM; echo $$ > {shlex.quote(str(tmp_path))}/draft; mv {tmp_path}/draft {tmp_path}/pid; "
    started = start("run", "--grace", "0.2", "--", "sh", "-c", script + "while :; do sleep 0.05; done")
    child = wait_for_id(tmp_path / "pid")
    assert started.end() == 137
    assert not is_alive(child)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux lets us adopt orphans")
@pytest.mark.parametrize(
    ("how", "daemon"),
    [
        ("ends by itself", "sleep 1000"),
        ("SIGTERM", "setsid sleep 1000"),
        ("SIGINT", "sh -c \"trap '' TERM; sleep 1000; sleep 1000\""),
    ],
)
def test_no_process_of_the_command_is_left_behind(how: str, daemon: str, start: Start, tmp_path: Path) -> None:
    """A grandchild ends with the command, be it in a session of its own or deaf to SIGTERM."""
    ending = "exit 5" if how == "ends by itself" else "exec sleep 1000"
    script = f"{daemon} & echo $! > draft; mv draft pid; {ending}"
    started = start("run", "--grace", "0.2", "--", "sh", "-c", f"cd {shlex.quote(str(tmp_path))}; {script}")
    grandchild = wait_for_id(tmp_path / "pid")
    if how == "ends by itself":
        assert started.process.wait(LIMIT_S) == 5
    else:
        number = getattr(signal, how)
        assert started.end(number) == 128 + number
    assert not is_alive(grandchild)


def test_ctrl_c_at_a_terminal_reaches_the_command_once(tmp_path: Path) -> None:
    """The terminal sends it to the whole group; passed on as well it would count as the second, impatient one."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "run", "--", sys.executable, "-c", HEARS, str(tmp_path)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        env=clean_environment(),
    )
    os.close(theirs)
    try:
        child = wait_for_id(tmp_path / "pid")
        os.write(ours, b"\x1c")  # Ctrl-\, which the command survives
        until((tmp_path / "heard").exists, "SIGQUIT")
        os.write(ours, b"\x03")
        assert process.wait(LIMIT_S) == 11
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert (tmp_path / "heard").read_text().split() == ["SIGQUIT", "SIGINT"]
    assert not is_alive(child)


@pytest.mark.slow
def test_the_command_finds_a_world() -> None:
    code = (
        "import os; from fake_credits import ServerClient; env = os.environ\n"
        "client = ServerClient(env['CREDITS_BASE_URL'], env['CREDITS_API_KEY'])\n"
        "print(len(list(client.iter_users('app-id'))))"
    )
    done = run("--world", "tiny", "--", sys.executable, "-c", code)
    assert (done.returncode, done.stdout) == (0, "5\n")


UNUSED = """[[rules]]
effect = "reset"
operation = "createTransaction"
nth = 1
name = "first-write"
"""


@pytest.mark.parametrize("form", ["off", pytest.param("text", marks=pytest.mark.slow), "json"])
def test_a_scripted_rule_that_stayed_unused_is_told_at_the_end_whatever_the_log(form: str, tmp_path: Path) -> None:
    """And the exit code stays the command's own."""
    file = tmp_path / "unused.toml"
    file.write_text(UNUSED)
    done = run("--scenario", str(file), "--log", form, "--", "sh", "-c", "exit 0")
    assert done.returncode == 0
    last = done.stderr.splitlines()[-1]
    text = (
        "the scripted rule 'first-write' never fired (no call matched it): it waits for createTransaction with nth=1; "
        "say optional=True where that is right"
    )
    if form == "json":
        assert json.loads(last) == {"problem": text, "sandbox": "s1"}
    else:
        assert last == f"Warning: sandbox s1: {text}"


@pytest.mark.slow
def test_several_scenarios_hold_together(tmp_path: Path) -> None:
    file = tmp_path / "unused.toml"
    file.write_text(UNUSED)
    done = run("--scenario", str(file), "--scenario", "outage", "--", sys.executable, "-c", LISTS)
    assert (done.returncode, done.stdout) == (0, "30\n")
    assert "'first-write' never fired" in done.stderr


LISTS = (
    "import os; from fake_credits import ServerClient; from fake_credits.errors import Unavailable\n"
    "client = ServerClient(os.environ['CREDITS_BASE_URL'], os.environ['CREDITS_API_KEY'])\n"
    "try: client.list_users('app-id')\n"
    "except Unavailable as error: print(error.retry_after_s)"
)


def test_the_command_meets_a_scenario() -> None:
    done = run("--scenario", "outage", "--latency", "1", "--", sys.executable, "-c", LISTS)
    assert (done.returncode, done.stdout) == (0, "30\n")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_where_it_is_told_to_while_a_world_is_loaded(number: int) -> None:
    script = (
        "import os, sys\n"
        "import fake_credits.worlds as worlds\n"
        "from fake_credits.cli import main\n"
        f"worlds.generate_histories = lambda *_: os.kill(os.getpid(), {number}) or iter(())\n"
        "sys.argv[1:] = ['run', '--world', 'tiny', '--', 'echo', 'started']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        env=clean_environment(),
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "")


ON_WINDOWS = """
import os, shutil, signal, socket, subprocess, sys
from fake_credits.cli import main
from fake_credits.cli import run  # first: what it imports goes by the platform
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
signal.SIGBREAK, socket.SO_EXCLUSIVEADDRUSE = signal.SIGUSR2, socket.SO_REUSEADDR
leave = sys.exit
sys.exit = lambda code: leave(code if code < 2**31 else -1)  # it takes a C long
main()
"""


def on_windows(*command: str, which: str = "None", at_wait: str = "pass") -> "subprocess.CompletedProcess[str]":
    """Run a command as `run` does on Windows; ``which`` and ``at_wait`` are Python code."""
    return subprocess.run(
        [sys.executable, "-c", ON_WINDOWS.format(which=which, at_wait=at_wait), "run", "--", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        env=clean_environment(),
    )


@pytest.mark.parametrize("name", ["SIGINT", "SIGBREAK"])
def test_on_windows_a_console_ends_the_command_itself(name: str) -> None:
    """Sending it on would raise."""
    done = on_windows("sh", "-c", "sleep 0.01; exit 5", at_wait=f"os.kill(os.getpid(), signal.{name})")
    assert (done.returncode, done.stdout, done.stderr) == (5, "", "")


def test_on_windows_ctrl_c_before_the_command_starts_ends_it() -> None:
    done = on_windows("sleep", "1000", which="os.kill(os.getpid(), signal.SIGINT)")
    assert (done.stdout, done.stderr) == ("", "")


def test_on_windows_a_batch_file_is_found_as_a_shell_finds_it(tmp_path: Path) -> None:
    npm = tmp_path / "npm.cmd"
    npm.write_text('#!/bin/sh\nprintf %s "$1"\n')
    npm.chmod(0o755)
    done = on_windows("npm", "test", which=f"{{'npm': {str(npm)!r}}}.get(name) if path == os.environ['PATH'] else None")
    assert (done.returncode, done.stdout, done.stderr) == (0, "test", "")


def test_on_windows_a_large_exit_code_stays_what_it_is() -> None:
    """0xC000013A is that of Ctrl-C."""
    done = on_windows("true", at_wait="super().wait(timeout); return 0xC000013A")
    assert (done.returncode, done.stderr) == (0x3A, "")  # of which this system keeps a byte
