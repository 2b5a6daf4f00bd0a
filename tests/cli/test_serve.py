"""`serve`: printed commands, logs, the ready file, signals and startup errors."""

import contextlib
import errno
import json
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import httpx2
import pytest
from click.testing import CliRunner, Result

from fake_credits.cli.main import cli
from fake_credits.cli.serve import BindError, report_bind_errors
from fake_credits.client.control import ControlClient
from fake_credits.client.server import ServerClient
from fake_credits.client.user import UserClient
from fake_credits.errors import InsufficientCredits, InvalidToken
from fake_credits.transports.live import BindOptions, bind
from tests.cli.conftest import COMMAND, LIMIT_S, CliProcess, clean_environment, until

Start = Callable[..., CliProcess]


@pytest.fixture(scope="module")
def shared_server(start_for_module: Start) -> CliProcess:
    """Start one server for these tests."""
    return start_for_module(
        "serve",
        *("--api-key", "my-key", "--allow-host", "credits", "--cors-origin", "https://app.example"),
        *("--user", "ada=100", "--balance", "0", "--seed", "42"),
    )


def get(cli_process: CliProcess, path: str, **headers: str) -> httpx2.Response:
    with httpx2.Client(trust_env=False, verify=False) as client:
        return client.get(cli_process.variables["CREDITS_BASE_URL"] + path, headers=headers)


def put_user(cli_process: CliProcess, user: str = "ada") -> int:
    """Create a user over the wire, and return the status."""
    variables = cli_process.variables
    with httpx2.Client(trust_env=False, verify=False, headers={"X-API-Key": variables["CREDITS_API_KEY"]}) as client:
        return client.put(f"{variables['CREDITS_BASE_URL']}/v1/applications/app-id/users/{user}").status_code


def test_server_responds_once_the_ready_file_exists(shared_server: CliProcess) -> None:
    assert get(shared_server, "/_fake/livez").status_code == 200
    until(lambda: get(shared_server, "/_fake/readyz").status_code == 200, "readiness")  # right after the banner


def test_ready_file_is_complete_and_private(shared_server: CliProcess) -> None:
    file = shared_server.directory / "ready"
    assert list(shared_server.variables) == [
        "CREDITS_BASE_URL",
        "CREDITS_API_KEY",
        "CREDITS_APPLICATION_ID",
        "CREDITS_USER_ID",
        "CREDITS_USER_TOKEN",
        "CREDITS_JWKS_URL",
        "FAKE_CREDITS_URL",
        "FAKE_CREDITS_CONTROL_TOKEN",
    ]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(entry.name for entry in shared_server.directory.iterdir()) == ["err", "out", "ready"]


def test_given_api_key_and_users_work(shared_server: CliProcess) -> None:
    with ServerClient(shared_server.variables["CREDITS_BASE_URL"], "my-key") as client:
        assert client.get_balance("app-id", "ada").balance == 100
        assert client.get_balance("app-id", "user-id").balance == 0


def test_printed_token_can_read_the_users_balance(shared_server: CliProcess) -> None:
    variables = shared_server.variables
    with UserClient(variables["CREDITS_BASE_URL"], "app-id", variables["CREDITS_USER_TOKEN"]) as client:
        assert client.get_balance("user-id").balance == 0


def test_only_allowed_hosts_are_accepted(shared_server: CliProcess) -> None:
    assert get(shared_server, "/_fake/livez", Host="credits").status_code == 200
    assert get(shared_server, "/_fake/livez", Host="elsewhere").status_code == 421


def test_cors_headers_are_sent_only_for_the_given_origin(shared_server: CliProcess) -> None:
    path = "/v1/applications/app-id/users/user-id"
    allowed = get(shared_server, path, Origin="https://app.example")
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-origin" not in get(shared_server, path, Origin="https://other.example").headers


def test_printed_exports_match_the_ready_file(shared_server: CliProcess) -> None:
    exports = re.findall(r"^  export (.+)$", shared_server.out, re.MULTILINE)
    assert exports == (shared_server.directory / "ready").read_text().splitlines()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_printed_curl_command_bypasses_the_proxy(shared_server: CliProcess) -> None:
    (line,) = re.findall(r"^  (curl .+)$", shared_server.out, re.MULTILINE)
    environment = clean_environment(http_proxy="http://127.0.0.1:9")
    result = subprocess.run(
        ["/bin/sh", "-c", f"{line} -sS"], capture_output=True, text=True, check=True, env=environment
    )
    assert json.loads(result.stdout)["userId"] == "user-id"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_printed_commands_quote_special_characters(start: Start) -> None:
    cli_process = start("serve", "--api-key", "it's$HOME", "--application-id", "a b/{userId}", "--user-id", "o'neil é")
    (line,) = re.findall(r"^  (curl .+)$", cli_process.out, re.MULTILINE)
    result = subprocess.run(["/bin/sh", "-c", f"{line} -sS"], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout)["userId"] == "o'neil é"
    shell_script = 'set -a; . "$0"; printf "%s|%s" "$CREDITS_API_KEY" "$CREDITS_USER_ID"'
    shell = subprocess.run(
        ["/bin/sh", "-c", shell_script, cli_process.directory / "ready"], capture_output=True, text=True, check=True
    )
    assert shell.stdout == "it's$HOME|o'neil é"


def test_text_log_has_a_line_per_exchange_and_a_summary(start: Start) -> None:
    cli_process = start("serve", "--user", "ada=1", "--seed", "42")
    with ServerClient(cli_process.variables["CREDITS_BASE_URL"], cli_process.variables["CREDITS_API_KEY"]) as client:
        client.get_balance("app-id", "ada")
        with pytest.raises(InsufficientCredits):
            client.create_transaction("app-id", "ada", delta=-2, reason="consume")
    until(lambda: "402" in cli_process.err, "the line of the refusal")
    assert cli_process.stop() == 0
    first, second, *summary = cli_process.err.splitlines()
    path = "/v1/applications/app-id/users/ada"
    clock = r"\d\d:\d\d:\d\d\.\d\d\d"
    assert re.fullmatch(rf"{clock} GET {path}/balance getBalance ada 200 - - \d+\.\dms req_s1_1", first)
    assert re.fullmatch(
        rf"{clock} POST {path}/transactions createTransaction ada 402 insufficient_credits domain \d+\.\dms req_s1_2",
        second,
    )
    assert summary == [
        "fake-credits: 2 exchanges, 1 refused (seed 42)",
        "  createTransaction 402: 1",
        "  getBalance 200: 1",
    ]


@pytest.mark.slow
def test_json_log_has_one_object_per_line(start: Start) -> None:
    cli_process = start("serve", "--log", "json")
    put_user(cli_process, "ad%C2%85a\u2028")
    put_user(cli_process, "bob")
    assert cli_process.stop() == 0
    first, second, last = [json.loads(line) for line in cli_process.err.splitlines()]
    assert (first["status"], first["code"], first["cause"]) == (400, "validation_error", "validation")
    assert (second["operation"], second["user"], second["status"]) == ("createUser", "bob", 201)
    operations = {"createUser": {"201": 1, "400": 1}}
    assert last == {"summary": {"exchanges": 2, "refused": 1, "seed": 0, "dropped_lines": 0, "operations": operations}}


@pytest.mark.parametrize("log_format", ["text", pytest.param("json", marks=pytest.mark.slow)])
def test_log_masks_secrets_in_query(start: Start, log_format: str) -> None:
    cli_process = start("serve", "--log", log_format)
    httpx2.get(cli_process.variables["CREDITS_BASE_URL"] + "/v1/nothing?api_key=SECRET", trust_env=False)
    assert cli_process.stop() == 0
    assert "/v1/nothing?api_key=***" in cli_process.err
    assert "SECRET" not in cli_process.err


def test_log_off_prints_nothing(start: Start) -> None:
    cli_process = start("serve", FAKE_CREDITS_LOG="off")
    assert put_user(cli_process) == 201
    assert cli_process.stop() == 0
    assert cli_process.err == ""


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 0), (signal.SIGINT, 130), pytest.param(signal.SIGHUP, 0, marks=pytest.mark.slow)],
)
def test_signal_stops_server_and_removes_the_ready_file(start: Start, number: int, code: int) -> None:
    cli_process = start("serve")
    port = int(cli_process.variables["CREDITS_BASE_URL"].rpartition(":")[2])
    assert cli_process.stop(number) == code
    assert not (cli_process.directory / "ready").exists()
    assert "Traceback" not in cli_process.err
    socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.slow
def test_ready_file_of_another_server_is_not_removed(start: Start) -> None:
    cli_process = start("serve")
    (cli_process.directory / "ready").write_text("CREDITS_BASE_URL=http://another\n")
    assert cli_process.stop() == 0
    assert (cli_process.directory / "ready").exists()


@pytest.mark.slow
def test_ready_file_of_a_killed_server_is_replaced(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    ready.write_text("CREDITS_BASE_URL=http://stale\n")
    with subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", "--ready-file", str(ready), "--log", "off"],
        stdout=subprocess.PIPE,
        env=clean_environment(),
    ) as process:
        until(lambda: ready.exists() and "stale" not in ready.read_text(), "a new ready file")
        process.terminate()
        assert process.wait(10) == 0


def test_bind_error_on_a_free_port_does_not_suggest_another_port() -> None:
    with pytest.raises(BindError) as caught, report_bind_errors(BindOptions(port=0)):
        raise OSError(errno.EADDRINUSE, "Address already in use")
    assert str(caught.value) == "can't listen on 127.0.0.1 port 0: Address already in use"


def test_port_in_use_exits_with_3(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        ready = tmp_path / "ready"
        ready.write_text("the other server's")
        result = subprocess.run(
            [*COMMAND, "serve", "--port", port, "--ready-file", str(ready)],
            capture_output=True,
            text=True,
            check=False,
            env=clean_environment(),
        )
    assert result.returncode == 3
    assert (
        f"Error: can't listen on 127.0.0.1 port {port}: Address already in use; use another --port, " in result.stderr
    )
    assert "or --port 0 for a free one" in result.stderr
    assert "Traceback" not in result.stderr
    assert ready.read_text() == "the other server's"


def test_unavailable_host_address_exits_with_3() -> None:
    result = subprocess.run(
        [*COMMAND, "serve", "--host", "192.0.2.1", "--expose", "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(),
    )
    assert result.returncode == 3
    assert "can't listen on 192.0.2.1" in result.stderr


@pytest.mark.slow
def test_expose_prints_a_warning_and_accepts_any_host(start: Start) -> None:
    cli_process = start("serve", "--host", "0.0.0.0", "--expose", "--log", "off")  # noqa: S104
    until(lambda: "Warning: --expose" in cli_process.err, "the warning")
    assert cli_process.variables["CREDITS_BASE_URL"].startswith("http://127.0.0.1:")
    assert get(cli_process, "/_fake/livez", Host="credits.internal").status_code == 200


def test_two_servers_are_isolated(start: Start, shared_server: CliProcess) -> None:
    other_server = start("serve", FAKE_CREDITS_API_KEY="other-key", FAKE_CREDITS_USER="carl=1 dora=2")
    path, own_key, other_key = "/v1/applications/app-id/users", {"X-API-Key": "my-key"}, {"X-API-Key": "other-key"}
    assert [user["userId"] for user in get(other_server, path, **other_key).json()["users"]] == ["carl", "dora"]
    assert get(other_server, path, **own_key).status_code == 401
    assert get(shared_server, path, **other_key).status_code == 401


def test_token_minted_with_the_same_key_file_is_accepted(start: Start, tmp_path: Path) -> None:
    keys = str(tmp_path / "keys.pem")
    cli_process = start("serve", "--key-file", keys, "--user", "ada=5", "--auth-provider", "clerk")
    (line,) = re.findall(r"^  fake-credits (token .+)$", cli_process.out, re.MULTILINE)
    arguments = [word.replace("USER", "ada") for word in shlex.split(line)]
    with UserClient(cli_process.variables["CREDITS_BASE_URL"], "app-id", print_token(arguments)) as client:
        assert client.get_balance("ada").balance == 5
    with (
        UserClient(
            cli_process.variables["CREDITS_BASE_URL"], "app-id", print_token([*arguments, "--bad", "wrong_key"])
        ) as client,
        pytest.raises(InvalidToken),
    ):
        client.get_balance("ada")


def print_token(arguments: list[str]) -> str:
    return CliRunner().invoke(cli, arguments).output.strip()


@pytest.mark.slow
@pytest.mark.parametrize("output_state", ["closed by the reader", "closed at the start", "never read"])
def test_server_keeps_serving_when_its_output_is_closed_or_unread(output_state: str, tmp_path: Path) -> None:
    closing = " <&- >&- 2>&-" if output_state == "closed at the start" else ""
    ready = tmp_path / "ready"
    line = f"exec {shlex.join([*COMMAND, 'serve', '--port', '0', '--ready-file', str(ready)])}{closing}"
    read_end, write_end = os.pipe()
    if output_state == "closed by the reader":
        os.close(read_end)
    process = subprocess.Popen(["/bin/sh", "-c", line], stdout=write_end, stderr=write_end, env=clean_environment())
    os.close(write_end)
    try:
        until(lambda: ready.exists() or process.poll() is not None, "an answering server")
        cli_process = CliProcess(process, tmp_path)
        variables = cli_process.variables
        # A pipe holds 64 KiB on Linux.
        with httpx2.Client(
            trust_env=False, verify=False, headers={"X-API-Key": variables["CREDITS_API_KEY"]}
        ) as client:
            url = f"{variables['CREDITS_BASE_URL']}/v1/applications/{'a' * 200}/users/{'u' * 200}"
            statuses = {client.get(url).status_code for _ in range(120)}
        assert statuses == {404}
        assert cli_process.stop() == 0
    finally:
        process.kill()
        process.wait()
        if output_state != "closed by the reader":
            os.close(read_end)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_server_starts_and_stops_while_stdout_is_full(number: int, code: int, tmp_path: Path) -> None:
    """A terminal paused with Ctrl-S blocks writes in the same way."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(write_end, b"x" * 4096):
            pass
    os.set_blocking(write_end, True)
    ready = tmp_path / "ready"
    command = [*COMMAND, "serve", "--port", "0", "--log", "off", "--ready-file", str(ready)]
    with subprocess.Popen(command, stdout=write_end, stderr=subprocess.PIPE, env=clean_environment()) as process:
        try:
            until(lambda: ready.exists() or process.poll() is not None, "an answering server")
            process.send_signal(number)
            _, errors = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
            os.close(write_end)
            os.close(read_end)
    assert (process.returncode, errors) == (code, b"")
    assert not ready.exists()


@pytest.fixture
def serve_in_process(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return a function that runs `serve` in this process without installing signal handlers."""

    def ignore_handler(_number: int, _handler: object) -> None:
        """Install nothing."""

    monkeypatch.setattr("fake_credits.cli.serve.signal.signal", ignore_handler)
    return lambda *arguments: CliRunner().invoke(cli, ["serve", "--port", "0", "--log", "off", *arguments])


def test_stale_ready_file_is_removed_at_startup(
    tmp_path: Path, serve_in_process: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise clients would connect before the server is ready."""
    ready = tmp_path / "ready"
    ready.write_text("FAKE_CREDITS_URL=http://127.0.0.1:1\n")

    async def return_immediately(*_: object) -> None:
        assert not ready.exists()

    monkeypatch.setattr("fake_credits.cli.serve.ServerRunner.run", return_immediately)
    assert serve_in_process("--ready-file", str(ready)).exit_code == 0


def test_server_is_live_but_not_ready_until_it_has_printed_the_banner(
    serve_in_process: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    responses: list[httpx2.Response] = []

    def request_health(_options: object, _sandbox: object, env: dict[str, str]) -> None:
        with httpx2.Client(base_url=env["CREDITS_BASE_URL"], trust_env=False) as client:
            responses.extend(client.get(path) for path in ("/_fake/livez", "/_fake/readyz", "/_fake/readyz?x=1"))
        raise click.ClickException("stop the server")

    monkeypatch.setattr("fake_credits.cli.serve._print_banner", request_health)
    assert serve_in_process().output == "Error: stop the server\n"
    assert [response.status_code for response in responses] == [200, 503, 503]
    assert responses[1].json()["error"]["code"] == "not_ready"
    assert responses[1].headers["x-fake-credits-cause"] == "control"


def test_unwritable_ready_file_exits_with_1(
    tmp_path: Path, serve_in_process: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_disk_full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", raise_disk_full)
    result = serve_in_process("--ready-file", str(tmp_path / "ready"))
    assert result.exit_code == 1
    assert "--ready-file" in result.output
    assert "can't be written: No space left on device" in result.output


def test_unremovable_ready_file_exits_with_1_and_closes_the_listener(
    tmp_path: Path, serve_in_process: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    listeners: list[socket.socket] = []

    def record_bind(address: BindOptions) -> socket.socket:
        listeners.append(bind(address))
        return listeners[-1]

    def raise_permission_error(_path: Path, *, missing_ok: bool) -> None:
        raise PermissionError(1, "Operation not permitted", missing_ok)

    monkeypatch.setattr("fake_credits.cli.serve.bind", record_bind)
    monkeypatch.setattr(Path, "unlink", raise_permission_error)
    result = serve_in_process("--ready-file", str(tmp_path / "ready"))
    assert result.exit_code == 1
    assert "--ready-file" in result.output
    assert "can't be removed: Operation not permitted" in result.output
    assert [listener.fileno() for listener in listeners] == [-1]


def test_ready_file_created_by_another_process_is_kept(
    tmp_path: Path, serve_in_process: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = tmp_path / "ready"

    async def return_immediately(*_: object) -> None:
        ready.touch()

    monkeypatch.setattr("fake_credits.cli.serve.ServerRunner.run", return_immediately)
    assert serve_in_process("--ready-file", str(ready)).exit_code == 0
    assert ready.exists()


@pytest.mark.slow
def test_null_origin_can_be_allowed(start: Start) -> None:
    """Local files and sandboxed frames send ``Origin: null``."""
    cli_process = start("serve", "--cors-origin", "null", "--user", "ada=1")
    response = get(cli_process, "/v1/applications/app-id/users/ada", Origin="null")
    assert response.headers["access-control-allow-origin"] == "null"


@pytest.mark.slow
def test_server_is_ready_after_its_world_is_loaded(start: Start) -> None:
    cli_process = start("serve", "--world", "tiny", "--api-key", "my-key", "--user", "ada=7")
    until(lambda: get(cli_process, "/_fake/readyz").status_code == 200, "readiness")
    with ServerClient(cli_process.variables["CREDITS_BASE_URL"], "my-key") as client:
        users = [user.user_id for user in client.iter_users("app-id")]
        assert len(users) == 6
        assert sum(len(list(client.iter_transactions("app-id", user_id))) for user_id in users) == 61
    assert cli_process.err.startswith("Loading the world 'tiny' ...\n")


def test_unused_rule_prints_a_warning_at_exit(start: Start) -> None:
    """The warning follows the summary, and the exit code is still 0."""
    cli_process = start("serve")
    variables = cli_process.variables
    with ControlClient(variables["FAKE_CREDITS_URL"], variables["FAKE_CREDITS_CONTROL_TOKEN"]) as control:
        control.sandbox().add_fault("reset", nth=1, name="first")
    assert cli_process.stop() == 0
    assert "Warning: sandbox s1: the scripted rule 'first' never fired" in cli_process.err.splitlines()[-1]


def test_ctrl_break_stops_the_server_on_windows() -> None:
    """On Windows, another process can send Ctrl-Break; by default it ends a process without cleanup."""
    script = (
        "import os, signal, sys\n"
        "signal.SIGBREAK = signal.SIGUSR2\n"
        "import fake_credits.worlds as worlds\n"
        "from fake_credits.__main__ import main\n"
        "worlds.generate_histories = lambda *_: os.kill(os.getpid(), signal.SIGBREAK) or iter(())\n"
        "sys.argv[1:] = ['serve', '--world', 'tiny', '--port', '0']\n"
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
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signal_during_world_loading_stops_immediately(number: int, code: int, tmp_path: Path) -> None:
    """The process signals itself while loading a world that would take half a minute to load."""
    script = (
        "import os, sys\n"
        "import fake_credits.worlds as worlds\n"
        "from fake_credits.__main__ import main\n"
        "generate = worlds.generate_histories\n"
        "def interrupted(*arguments):\n"
        f"    os.kill(os.getpid(), {number})\n"
        "    yield from generate(*arguments)\n"
        "worlds.generate_histories = interrupted\n"
        f"sys.argv[1:] = ['serve', '--world', 'load', '--port', '0', '--ready-file', {str(tmp_path / 'ready')!r}]\n"
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
    assert (result.returncode, result.stdout, result.stderr) == (code, "", "Loading the world 'load' ...\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"fake_credits_world": 9}', "the file has version 9"),
        ('{"fake_credits_world": 1, "name"', "not a world file, or damaged"),
    ],
)
def test_unusable_world_file_exits_with_1(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "world.json").write_text(text)
    result = CliRunner().invoke(cli, ["serve", "--world", str(tmp_path / "world.json")])
    assert result.exit_code == 1
    assert re.search(rf"--world: .*world\.json: {message}", " ".join(result.output.split()))


def test_world_that_violates_the_contract_exits_with_1(tmp_path: Path) -> None:
    (tmp_path / "contract.toml").write_text("version = 1\nceiling = 1000\n")
    result = CliRunner().invoke(cli, ["serve", "--world", "edge", "--contract", str(tmp_path / "contract.toml")])
    assert result.exit_code == 1
    assert "user 'maximum-balance': a balance of 0 plus 9007199254740991" in " ".join(result.output.split())
