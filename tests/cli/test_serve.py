"""`serve`: what it prints works as printed, what it logs is true, and how it ends is what it was told."""

import contextlib
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

import httpx2
import pytest
from click.testing import CliRunner, Result

from fake_credits.cli.main import cli
from fake_credits.client.server import ServerClient
from fake_credits.client.user import UserClient
from fake_credits.errors import InsufficientCredits, InvalidToken
from fake_credits.transports.live import BindOptions, bind
from tests.cli.conftest import COMMAND, LIMIT_S, Started, clean_environment, until

Start = Callable[..., Started]


@pytest.fixture(scope="module")
def shared(start_once: Start) -> Started:
    """A server that these tests share."""
    return start_once(
        "serve",
        *("--api-key", "my-key", "--allow-host", "credits", "--cors-origin", "https://app.example"),
        *("--user", "ada=100", "--balance", "0", "--seed", "42"),
    )


def ask(started: Started, path: str, **headers: str) -> httpx2.Response:
    with httpx2.Client(trust_env=False) as client:
        return client.get(started.variables["CREDITS_BASE_URL"] + path, headers=headers)


def put_user(started: Started, user: str = "ada") -> int:
    """Create a user over the wire, and return the status."""
    variables = started.variables
    with httpx2.Client(trust_env=False, headers={"X-API-Key": variables["CREDITS_API_KEY"]}) as client:
        return client.put(f"{variables['CREDITS_BASE_URL']}/v1/applications/app-id/users/{user}").status_code


def test_it_answers_as_soon_as_the_ready_file_is_there(shared: Started) -> None:
    assert ask(shared, "/_fake/readyz").status_code == 200
    assert ask(shared, "/_fake/livez").status_code == 200


def test_the_ready_file_is_whole_and_its_owners_alone(shared: Started) -> None:
    file = shared.folder / "ready"
    assert list(shared.variables) == [
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
    assert sorted(entry.name for entry in shared.folder.iterdir()) == ["err", "out", "ready"]


def test_the_given_key_and_the_given_users_work(shared: Started) -> None:
    with ServerClient(shared.variables["CREDITS_BASE_URL"], "my-key") as client:
        assert client.get_balance("app-id", "ada").balance == 100
        assert client.get_balance("app-id", "user-id").balance == 0


def test_the_printed_token_reads_its_own_balance(shared: Started) -> None:
    variables = shared.variables
    with UserClient(variables["CREDITS_BASE_URL"], "app-id", variables["CREDITS_USER_TOKEN"]) as client:
        assert client.get_balance("user-id").balance == 0


def test_a_host_is_answered_only_where_it_is_allowed(shared: Started) -> None:
    assert ask(shared, "/_fake/livez", Host="credits").status_code == 200
    assert ask(shared, "/_fake/livez", Host="elsewhere").status_code == 421


def test_only_pages_of_the_given_origin_may_read_answers(shared: Started) -> None:
    path = "/v1/applications/app-id/users/user-id"
    allowed = ask(shared, path, Origin="https://app.example")
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-origin" not in ask(shared, path, Origin="https://other.example").headers


def test_the_printed_exports_are_those_of_the_ready_file(shared: Started) -> None:
    exports = re.findall(r"^  export (.+)$", shared.out, re.MULTILINE)
    assert exports == (shared.folder / "ready").read_text().splitlines()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_printed_curl_line_creates_a_user_even_behind_a_proxy(shared: Started) -> None:
    (line,) = re.findall(r"^  (curl .+)$", shared.out, re.MULTILINE)
    environment = clean_environment(http_proxy="http://127.0.0.1:9")
    done = subprocess.run(["/bin/sh", "-c", f"{line} -sS"], capture_output=True, text=True, check=True, env=environment)
    assert json.loads(done.stdout)["userId"] == "user-id"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_printed_lines_survive_odd_ids_and_keys(start: Start) -> None:
    started = start("serve", "--api-key", "it's$HOME", "--application-id", "a b/{userId}", "--user-id", "o'neil é")
    (line,) = re.findall(r"^  (curl .+)$", started.out, re.MULTILINE)
    done = subprocess.run(["/bin/sh", "-c", f"{line} -sS"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["userId"] == "o'neil é"
    sourced = 'set -a; . "$0"; printf "%s|%s" "$CREDITS_API_KEY" "$CREDITS_USER_ID"'
    read = subprocess.run(
        ["/bin/sh", "-c", sourced, started.folder / "ready"], capture_output=True, text=True, check=True
    )
    assert read.stdout == "it's$HOME|o'neil é"


def test_each_exchange_is_a_line_with_its_cause_and_the_end_is_a_summary(start: Start) -> None:
    started = start("serve", "--user", "ada=1", "--seed", "42")
    with ServerClient(started.variables["CREDITS_BASE_URL"], started.variables["CREDITS_API_KEY"]) as client:
        client.get_balance("app-id", "ada")
        with pytest.raises(InsufficientCredits):
            client.create_transaction("app-id", "ada", delta=-2, reason="consume")
    until(lambda: "402" in started.err, "the line of the refusal")
    assert started.end() == 0
    first, second, *summary = started.err.splitlines()
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
def test_the_json_log_is_an_object_a_line(start: Start) -> None:
    started = start("serve", "--log", "json")
    put_user(started, "ad%C2%85a\u2028")
    put_user(started, "bob")
    assert started.end() == 0
    first, second, last = [json.loads(line) for line in started.err.splitlines()]
    assert (first["status"], first["code"], first["cause"]) == (400, "validation_error", "validation")
    assert (second["operation"], second["user"], second["status"]) == ("createUser", "bob", 201)
    operations = {"createUser": {"201": 1, "400": 1}}
    assert last == {"summary": {"exchanges": 2, "refused": 1, "seed": 0, "dropped_lines": 0, "operations": operations}}


def test_a_log_that_is_off_says_nothing(start: Start) -> None:
    started = start("serve", FAKE_CREDITS_LOG="off")
    assert put_user(started) == 201
    assert started.end() == 0
    assert started.err == ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGHUP, 0)])
def test_a_signal_ends_it_with_its_code_and_frees_port_and_ready_file(start: Start, number: int, code: int) -> None:
    started = start("serve")
    port = int(started.variables["CREDITS_BASE_URL"].rpartition(":")[2])
    assert started.end(number) == code
    assert not (started.folder / "ready").exists()
    assert "Traceback" not in started.err
    socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.slow
def test_a_ready_file_of_another_server_is_left_alone(start: Start) -> None:
    started = start("serve")
    (started.folder / "ready").write_text("CREDITS_BASE_URL=http://another\n")
    assert started.end() == 0
    assert (started.folder / "ready").exists()


@pytest.mark.slow
def test_a_ready_file_left_by_a_killed_server_is_replaced(tmp_path: Path) -> None:
    stale = tmp_path / "ready"
    stale.write_text("CREDITS_BASE_URL=http://stale\n")
    with subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", "--ready-file", str(stale), "--log", "off"],
        stdout=subprocess.PIPE,
        env=clean_environment(),
    ) as process:
        until(lambda: stale.exists() and "stale" not in stale.read_text(), "a new ready file")
        process.terminate()
        assert process.wait(10) == 0


def test_a_port_that_is_taken_ends_with_3_and_names_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ready = tmp_path / "ready"
        ready.write_text("the other server's")
        done = subprocess.run(
            [*COMMAND, "serve", "--port", port, "--ready-file", str(ready)],
            capture_output=True,
            text=True,
            check=False,
            env=clean_environment(),
        )
    assert done.returncode == 3
    assert f"Error: can't listen at 127.0.0.1 port {port}: Address already in use" in done.stderr
    assert "Traceback" not in done.stderr
    assert ready.read_text() == "the other server's"


def test_a_host_that_does_not_exist_ends_with_3() -> None:
    done = subprocess.run(
        [*COMMAND, "serve", "--host", "192.0.2.1", "--expose", "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(),
    )
    assert done.returncode == 3
    assert "can't listen at 192.0.2.1" in done.stderr


@pytest.mark.slow
def test_beyond_loopback_it_warns_and_answers_any_host(start: Start) -> None:
    started = start("serve", "--host", "0.0.0.0", "--expose", "--log", "off")  # noqa: S104
    until(lambda: "Warning: --expose" in started.err, "the warning")
    assert started.variables["CREDITS_BASE_URL"].startswith("http://127.0.0.1:")
    assert ask(started, "/_fake/readyz", Host="credits.internal").status_code == 200


def test_two_servers_at_once_know_nothing_of_each_other(start: Start, shared: Started) -> None:
    other = start("serve", FAKE_CREDITS_API_KEY="other-key", FAKE_CREDITS_USER="carl=1 dora=2")
    path, mine, its = "/v1/applications/app-id/users", {"X-API-Key": "my-key"}, {"X-API-Key": "other-key"}
    assert [user["userId"] for user in ask(other, path, **its).json()["users"]] == ["carl", "dora"]
    assert ask(other, path, **mine).status_code == 401
    assert ask(shared, path, **its).status_code == 401


def test_a_token_minted_elsewhere_with_the_same_keys_is_accepted(start: Start, tmp_path: Path) -> None:
    keys = str(tmp_path / "keys.pem")
    started = start("serve", "--key-file", keys, "--user", "ada=5", "--auth-provider", "clerk")
    (line,) = re.findall(r"^  fake-credits (token .+)$", started.out, re.MULTILINE)
    arguments = [word.replace("USER", "ada") for word in shlex.split(line)]
    with UserClient(started.variables["CREDITS_BASE_URL"], "app-id", _printed(arguments)) as client:
        assert client.get_balance("ada").balance == 5
    with (
        UserClient(
            started.variables["CREDITS_BASE_URL"], "app-id", _printed([*arguments, "--bad", "wrong_key"])
        ) as client,
        pytest.raises(InvalidToken),
    ):
        client.get_balance("ada")


def _printed(arguments: list[str]) -> str:
    return CliRunner().invoke(cli, arguments).output.strip()


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["closed by the reader", "closed at the start", "never read"])
def test_it_goes_on_serving_where_nobody_reads_what_it_writes(broken: str, tmp_path: Path) -> None:
    closing = " <&- >&- 2>&-" if broken == "closed at the start" else ""
    ready = tmp_path / "ready"
    line = f"exec {shlex.join([*COMMAND, 'serve', '--port', '0', '--ready-file', str(ready)])}{closing}"
    pipe, end = os.pipe()
    if broken == "closed by the reader":
        os.close(pipe)
    process = subprocess.Popen(["/bin/sh", "-c", line], stdout=end, stderr=end, env=clean_environment())
    os.close(end)
    try:
        until(lambda: ready.exists() or process.poll() is not None, "an answering server")
        started = Started(process, tmp_path)
        variables = started.variables
        # 64 KiB is what a pipe holds on Linux.
        with httpx2.Client(trust_env=False, headers={"X-API-Key": variables["CREDITS_API_KEY"]}) as client:
            url = f"{variables['CREDITS_BASE_URL']}/v1/applications/{'a' * 200}/users/{'u' * 200}"
            statuses = {client.get(url).status_code for _ in range(120)}
        assert statuses == {404}
        assert started.end() == 0
    finally:
        process.kill()
        process.wait()
        if broken != "closed by the reader":
            os.close(pipe)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_gets_ready_and_ends_where_stdout_is_full(number: int, code: int, tmp_path: Path) -> None:
    """A terminal that is stopped with Ctrl-S is full in the same way."""
    pipe, end = os.pipe()
    os.set_blocking(end, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(end, b"x" * 4096):
            pass
    os.set_blocking(end, True)
    ready = tmp_path / "ready"
    command = [*COMMAND, "serve", "--port", "0", "--log", "off", "--ready-file", str(ready)]
    with subprocess.Popen(command, stdout=end, stderr=subprocess.PIPE, env=clean_environment()) as process:
        try:
            until(lambda: ready.exists() or process.poll() is not None, "an answering server")
            process.send_signal(number)
            _, errors = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
            os.close(end)
            os.close(pipe)
    assert (process.returncode, errors) == (code, b"")
    assert not ready.exists()


@pytest.fixture
def serve_here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return a function that serves in this process, whose own signal handlers are left alone."""

    def deaf(_number: int, _handler: object) -> None:
        """Hear no signal."""

    monkeypatch.setattr("fake_credits.cli.serve.signal.signal", deaf)
    return lambda *arguments: CliRunner().invoke(cli, ["serve", "--port", "0", "--log", "off", *arguments])


def test_a_ready_file_of_a_server_that_answers_is_refused_and_left_alone(
    shared: Started, serve_here: Callable[..., Result]
) -> None:
    """Whoever waits for that server would be sent to this one, and at its end nowhere."""
    ready = shared.folder / "ready"
    before = ready.read_text()
    refused = serve_here("--ready-file", str(ready))
    assert refused.exit_code == 2
    said = f"--ready-file {str(ready)!r} is of a server that answers at {shared.variables['FAKE_CREDITS_URL']}: end"
    assert said in refused.output
    assert ready.read_text() == before


def test_a_ready_file_that_names_another_machine_is_not_asked_about(
    tmp_path: Path, serve_here: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask(url: str, *_: object) -> str:
        asked.append(url)
        return "nobody is there"

    async def end_at_once(*_: object) -> None:
        """Be a server that ends as it starts."""

    monkeypatch.setattr("fake_credits.cli.wait.readiness_problem", ask)
    monkeypatch.setattr("fake_credits.cli.serve.ServerRunner.run", end_at_once)
    ready = tmp_path / "ready"
    for url in ("http://127.0.0.1:1", "http://credits.example:80"):
        ready.write_text(f"FAKE_CREDITS_URL={url}\n")
        assert serve_here("--ready-file", str(ready)).exit_code == 0
    assert asked == ["http://127.0.0.1:1/_fake/readyz"]


@pytest.mark.parametrize(
    "stale",
    [
        "the other server's",
        "FAKE_CREDITS_URL=file:///etc/hosts\n",
        "FAKE_CREDITS_URL=http://127.0.0.1:{port}\n",
        "x=1",
        "",
    ],
)
def test_a_ready_file_of_nobody_is_replaced(
    stale: str, tmp_path: Path, serve_here: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = tmp_path / "ready"
    with socket.create_server(("127.0.0.1", 0)) as ended:
        port = ended.getsockname()[1]
    ready.write_text(stale.format(port=port))

    async def end_at_once(*_: object) -> None:
        assert not ready.exists()

    monkeypatch.setattr("fake_credits.cli.serve.ServerRunner.run", end_at_once)
    assert serve_here("--ready-file", str(ready)).exit_code == 0


def test_a_ready_file_that_can_not_be_written_ends_it_with_a_reason(
    tmp_path: Path, serve_here: Callable[..., Result]
) -> None:
    refused = serve_here("--ready-file", str(tmp_path / ("r" * 250)))  # its draft's name is longer than 255
    assert refused.exit_code == 1
    assert "--ready-file" in refused.output
    assert "can't be written: File name too long" in refused.output


def test_a_stale_ready_file_that_can_not_be_removed_ends_it_and_frees_the_port(
    tmp_path: Path, serve_here: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    listeners: list[socket.socket] = []

    def bind_and_tell(address: BindOptions) -> socket.socket:
        listeners.append(bind(address))
        return listeners[-1]

    def refuse(_path: Path, *, missing_ok: bool) -> None:
        raise PermissionError(1, "Operation not permitted", missing_ok)

    monkeypatch.setattr("fake_credits.cli.serve.bind", bind_and_tell)
    monkeypatch.setattr(Path, "unlink", refuse)
    refused = serve_here("--ready-file", str(tmp_path / "ready"))
    assert refused.exit_code == 1
    assert "--ready-file" in refused.output
    assert "can't be removed: Operation not permitted" in refused.output
    assert [listener.fileno() for listener in listeners] == [-1]


def test_a_server_that_announced_nothing_leaves_anothers_empty_ready_file(
    tmp_path: Path, serve_here: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = tmp_path / "ready"

    async def end_at_once(*_: object) -> None:
        ready.touch()

    monkeypatch.setattr("fake_credits.cli.serve.ServerRunner.run", end_at_once)
    assert serve_here("--ready-file", str(ready)).exit_code == 0
    assert ready.exists()


@pytest.mark.slow
def test_pages_without_an_origin_of_their_own_can_be_let_in(start: Start) -> None:
    """Files and sandboxed frames send ``null``."""
    started = start("serve", "--cors-origin", "null", "--user", "ada=1")
    answer = ask(started, "/v1/applications/app-id/users/ada", Origin="null")
    assert answer.headers["access-control-allow-origin"] == "null"


@pytest.mark.slow
def test_it_starts_from_a_world_and_is_ready_only_when_that_is_loaded(start: Start) -> None:
    started = start("serve", "--world", "tiny", "--api-key", "my-key", "--user", "ada=7")
    assert ask(started, "/_fake/readyz").status_code == 200
    with ServerClient(started.variables["CREDITS_BASE_URL"], "my-key") as client:
        users = [user.user_id for user in client.iter_users("app-id")]
        assert len(users) == 6
        assert sum(len(list(client.iter_transactions("app-id", user_id))) for user_id in users) == 61
    assert started.err.startswith("Loading the world tiny ...\n")


def test_a_scripted_rule_that_stayed_unused_is_told_at_the_end(start: Start, tmp_path: Path) -> None:
    """After the summary, and the end is still a success."""
    (tmp_path / "unused.toml").write_text('[[rules]]\neffect = "reset"\nnth = 1\nname = "first"\n')
    started = start("serve", "--scenario", str(tmp_path / "unused.toml"))
    assert started.end() == 0
    assert "Warning: sandbox s1: the scripted rule 'first' never fired" in started.err.splitlines()[-1]


def test_ctrl_break_ends_it_on_windows() -> None:
    """It is what another process can send there; by default it would end this one without a summary."""
    script = (
        "import os, signal, sys\n"
        "signal.SIGBREAK = signal.SIGUSR2\n"
        "import fake_credits.worlds as worlds\n"
        "from fake_credits.cli import main\n"
        "worlds.generate_histories = lambda *_: os.kill(os.getpid(), signal.SIGBREAK) or iter(())\n"
        "sys.argv[1:] = ['serve', '--world', 'tiny', '--port', '0']\n"
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
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_ends_at_once_where_it_is_told_to_while_a_world_is_loaded(number: int, code: int, tmp_path: Path) -> None:
    """The process stops itself in the middle of the loading, which would go on for half a minute."""
    script = (
        "import os, sys\n"
        "import fake_credits.worlds as worlds\n"
        "from fake_credits.cli import main\n"
        "generate = worlds.generate_histories\n"
        "def told(*words):\n"
        f"    os.kill(os.getpid(), {number})\n"
        "    yield from generate(*words)\n"
        "worlds.generate_histories = told\n"
        f"sys.argv[1:] = ['serve', '--world', 'load', '--port', '0', '--ready-file', {str(tmp_path / 'ready')!r}]\n"
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
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "Loading the world load ...\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"fake_credits_world": 9}', "is a world of version 9"),
        ('{"fake_credits_world": 1, "name"', "is no world, or a damaged one"),
    ],
)
def test_a_world_s_file_that_can_not_be_used_ends_it_with_1_and_a_reason(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "world.json").write_text(text)
    refused = CliRunner().invoke(cli, ["serve", "--world", str(tmp_path / "world.json")])
    assert refused.exit_code == 1
    assert re.search(rf"--world: .*world\.json: {said}", " ".join(refused.output.split()))


def test_a_world_that_does_not_fit_the_contract_ends_it_with_1_and_a_reason(tmp_path: Path) -> None:
    (tmp_path / "contract.toml").write_text("version = 1\nceiling = 1000\n")
    refused = CliRunner().invoke(cli, ["serve", "--world", "edge", "--contract", str(tmp_path / "contract.toml")])
    assert refused.exit_code == 1
    assert "user 'maximum-balance': a balance of 0 plus 9007199254740991" in " ".join(refused.output.split())
