"""`seed`: its output, targets, usage errors and exit codes."""

import json
import math
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from fake_credits.cli.main import cli
from fake_credits.contract import Contract, CredentialHeader
from fake_credits.fake import FakeCredits
from fake_credits.worlds import WorldLibrary
from fake_credits.worlds.world import load_world
from tests.cli.conftest import COMMAND, LIMIT_S, clean_environment

PROGRESS_LINE = r"writing: 60/60 transactions \(100%\), [\d,]+/s, 0:00 left"


@pytest.fixture(scope="module")
def server() -> Iterator[FakeCredits]:
    """Yield a live server; each test uses a separate application."""
    with FakeCredits() as credits:
        credits.serve()
        yield credits


@pytest.fixture(autouse=True)
def no_intermediate_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print the progress of a step only at its end, however long the step takes."""
    monkeypatch.setattr("fake_credits.cli.output._INTERVALS_S", {"lines": math.inf, "json": math.inf, "bar": math.inf})


class SeedResult(NamedTuple):
    """Exit code and output of a `seed` command."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


def seed(*arguments: str) -> SeedResult:
    # before click 8.2, stdout and stderr are mixed by default
    runner_options: dict[str, Any] = {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}
    invocation = CliRunner(**runner_options).invoke(cli, ["seed", *arguments])
    return SeedResult(invocation.exit_code, invocation.stdout, invocation.stderr)


def seed_into(server: FakeCredits, application: str, *arguments: str) -> SeedResult:
    target = ("--url", server.base_url, "--api-key", server.api_key, "--application-id", application)
    return seed(*target, *arguments)


def count_data(server: FakeCredits, application: str) -> tuple[int, int]:
    accounts = server.sandbox.ledger.page_of_users(application, None, 1)[0]
    return len(accounts), sum(map(len, accounts))


def test_seed_fills_a_server_and_prints_plan_progress_and_result(server: FakeCredits) -> None:
    result = seed_into(server, "shop", "--profile", "tiny")
    assert (result.exit_code, result.stdout) == (0, "")
    assert count_data(server, "shop") == (5, 60)
    pattern = (
        rf"planning: 60/60.*\nchecking: 5/5 users.*\nWorld 'tiny', seed 0: 5 users, 60 transactions\n"
        rf"  [\d,]+ credits granted, [\d,]+ consumed, [\d,]+ refunded\n"
        rf"Destination: {server.base_url}, application 'shop'\n"
        r"  0 of these users and 0 of these transactions already exist\n"
        rf"creating: 5/5 users.*\n{PROGRESS_LINE}\n"
        r"Wrote 5 users and 60 transactions in \d+\.\d s\n"
    )
    assert re.fullmatch(pattern, result.stderr), result.stderr


def test_second_run_finds_all_data_and_writes_nothing(server: FakeCredits) -> None:
    seed_into(server, "twice", "--profile", "tiny", "--seed", "3")
    second = seed_into(server, "twice", "--profile", "tiny", "--seed", "3")
    assert (
        "  5 of these users and 60 of these transactions already exist\nWrote 0 users and 0 transactions"
        in second.stderr
    )
    assert count_data(server, "twice") == (5, 60)


def test_dry_run_writes_nothing(server: FakeCredits) -> None:
    result = seed_into(server, "dry", "--profile", "tiny", "--dry-run")
    assert result.exit_code == 0
    assert result.stderr.endswith("Dry run: nothing was written\n")
    assert count_data(server, "dry") == (0, 0)


def test_json_flag_prints_only_json_objects(server: FakeCredits) -> None:
    result = seed_into(server, "json", "--profile", "tiny", "--json")
    lines: list[dict[str, Any]] = [json.loads(line) for line in result.stdout.splitlines()]
    assert (result.exit_code, result.stderr) == (0, "")
    (summary,) = [line["summary"] for line in lines if "summary" in line]
    assert summary | {"granted": 0, "consumed": 0, "refunded": 0} == {
        "world": "tiny",
        "seed": 0,
        "users": 5,
        "transactions": 60,
        "granted": 0,
        "consumed": 0,
        "refunded": 0,
        "url": server.base_url,
        "application": "json",
        "found": {"users": 0, "transactions": 0},
        "dry_run": False,
    }
    assert [line["progress"]["doing"] for line in lines if "progress" in line] == [
        "planning",
        "checking",
        "creating",
        "writing",
    ]
    assert lines[-1]["done"] | {"seconds": 0} == {"users": 5, "transactions": 60, "seconds": 0}


def test_quiet_flag_prints_nothing(server: FakeCredits) -> None:
    result = seed_into(server, "quiet", "--profile", "tiny", "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    assert count_data(server, "quiet") == (5, 60)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "pattern"),
    [
        ({}, rb"\rwriting \[#{24}\] 60/60 transactions \(100%\), [\d,]+/s, 0:00 left\x1b\[K\r\n"),
        ({"CI": "true"}, rb"\nwriting: 60/60 transactions \(100%\), [\d,]+/s, 0:00 left\r\n"),
        ({"TERM": "dumb"}, rb"\nwriting: 60/60 transactions \(100%\), [\d,]+/s, 0:00 left\r\n"),
    ],
)
def test_terminal_shows_a_bar_except_in_ci_and_dumb_terminals(
    variables: dict[str, str], pattern: bytes, server: FakeCredits
) -> None:
    environment = clean_environment(**{"COLUMNS": "100", "TERM": "xterm", "CI": "", **variables})
    application = f"terminal-{len(variables)}-{variables.get('TERM', '')}"
    parent, child = pty.openpty()
    target_flags = ["--url", server.base_url, "--api-key", server.api_key, "--application-id", application]
    with subprocess.Popen(
        [*COMMAND, "seed", "--profile", "tiny", *target_flags], stderr=child, env=environment
    ) as process:
        os.close(child)
        text = b""
        try:
            while part := os.read(parent, 65536):
                text += part
        except OSError:  # raised on Linux when the other end is closed
            pass
        assert process.wait(LIMIT_S) == 0
    os.close(parent)
    assert re.search(pattern, text), text


def test_written_world_file_is_accepted_as_profile(tmp_path: Path, server: FakeCredits) -> None:
    file = tmp_path / "world.json"
    result = seed("--profile", "tiny", "--seed", "5", "--out", str(file))
    assert result.exit_code == 0
    assert f"Destination: {file}\n" in result.stderr
    assert tuple(load_world(file).histories()) == tuple(WorldLibrary().find("tiny", 5).histories())
    assert seed_into(server, "file", "--profile", str(file), "--quiet").exit_code == 0
    assert count_data(server, "file") == (5, 60)
    copy = tmp_path / "again.json"
    assert seed("--profile", str(file), "--out", str(copy), "--quiet").exit_code == 0
    assert copy.read_bytes() == file.read_bytes()


@pytest.mark.slow
def test_output_does_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    for number in ("1", "2"):
        command = [*COMMAND, "seed", "--profile", "tiny", "--quiet", "--out", str(tmp_path / number)]
        subprocess.run(command, check=True, env=clean_environment(PYTHONHASHSEED=number))
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_custom_profile_and_contract_are_used(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text("version = 1\nusers = 4\ntransactions = 40\nsignup_grant = 500\n")
    (tmp_path / "contract.toml").write_text('version = 1\napi_key = "Authorization: Bearer"\npage_size = 7\n')
    flags = ["--profile", str(tmp_path / "shop.toml"), "--contract", str(tmp_path / "contract.toml"), "--quiet"]
    contract = Contract(api_key=CredentialHeader("Authorization", "Bearer"), page_size=7)
    with FakeCredits(contract=contract) as other:
        result = seed_into(other, "app-id", *flags)
        assert (result.exit_code, result.output, count_data(other, "app-id")) == (0, "", (4, 40))


def test_dry_run_needs_no_target() -> None:
    result = seed("--profile", "edge", "--dry-run")
    assert result.exit_code == 0
    assert "World 'edge', seed 0: 17 users, 10,080 transactions" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "missing destination: pass --out FILE or --url URL; to see a summary first, use --dry-run"),
        (["--out", "w.json", "--url", "http://127.0.0.1:1"], "--out and --url are mutually exclusive"),
        (["--out", "w.json", "--json", "--quiet"], "--json and --quiet are mutually exclusive"),
        (["--url", "http://127.0.0.1:1"], "--url requires --api-key"),
        (
            ["--url", "https://api.example.com", "--api-key", "k"],
            "is not a loopback URL.*--dry-run first, then add --yes",
        ),
        (
            ["--url", "api.example.com", "--api-key", "k"],
            "--url.*'api.example.com' must be an absolute http:// or https:// URL",
        ),
        (
            ["--out", "w.json", "--profile", "dmo"],
            "--profile: unknown world 'dmo', which is neither a profile nor a file: did you mean 'demo'",
        ),
        (["--out", "w.json", "--profile", "."], "--profile: unknown world '.', which is neither a profile nor a file"),
        (["--out", "w.json", "--concurrency", "0"], "--concurrency.*0 is not in the range 1<=x<=100"),
        (["--out", "w.json", "--seed", "x"], "--seed.*'x' is not a valid integer"),
        (["--out", "nowhere/w.json"], "--out.*folder 'nowhere' does not exist"),
        (["--out", "w.json", "--contract", "none.toml"], "--contract.*none.toml: the file can't be read: No such file"),
    ],
)
def test_usage_error_exits_with_2_and_writes_nothing(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = seed(*arguments)
    assert result.exit_code == 2
    assert re.search(message, " ".join(result.output.split())), result.output
    assert list(tmp_path.iterdir()) == []


def test_yes_flag_allows_targets_beyond_loopback() -> None:
    """The connection error shows that the address was accepted."""
    result = seed("--profile", "edge", "--url", "http://nowhere.invalid:1", "--api-key", "k", "--yes")
    assert result.exit_code == 1
    assert "no connection, so the request was never sent" in result.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version = 1\nusers = -1\n", "users must be from 0 to 1000000, not -1"),
        (
            "version = 1\ntop_up = 0\nsignup_grant = 1\nmonthly_grant = 0\n",
            "can't be satisfied: user 1 of 20 would consume",
        ),
        ("version = 1\nuser = 1\n", "unknown field 'user': did you mean 'users'?"),
    ],
)
def test_invalid_profile_exits_with_1_and_writes_nothing(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(text)
    result = seed("--profile", str(tmp_path / "own.toml"), "--out", str(tmp_path / "w.json"))
    assert result.exit_code == 1
    assert message in result.output
    assert [file.name for file in tmp_path.iterdir()] == ["own.toml"]


def test_truncated_world_file_exits_with_1_and_writes_nothing(tmp_path: Path, server: FakeCredits) -> None:
    file = tmp_path / "w.json"
    seed("--profile", "tiny", "--out", str(file))
    file.write_bytes(file.read_bytes()[:-40])
    result = seed_into(server, "cut", "--profile", str(file))
    assert result.exit_code == 1
    assert "w.json: not a world file, or damaged" in result.output
    assert count_data(server, "cut") == (0, 0)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (("--api-key", "wrong"), "401 invalid_api_key"),
        (("--url", "http://127.0.0.1:1"), "no connection.*127.0.0.1:1"),
        (("--url", "{base_url}/v9"), "404 route_not_found"),
    ],
)
def test_rejecting_or_unreachable_target_exits_with_1(
    target: tuple[str, str], message: str, server: FakeCredits
) -> None:
    flag, value = target
    result = seed_into(server, "refused", "--profile", "tiny", flag, value.format(base_url=server.base_url))
    assert result.exit_code == 1
    assert re.search(f"Error: .*{message}", result.output), result.output


def test_conflicting_history_names_the_user_and_writes_nothing(server: FakeCredits) -> None:
    *_, last = WorldLibrary().find("tiny", 0).histories()
    server.user(last.user_id, balance=99, application_id="other")
    result = seed_into(server, "other", "--profile", "tiny", "--json")
    assert result.exit_code == 1
    error = json.loads(result.stdout.splitlines()[-1])["error"]
    assert error.startswith(
        f"the existing history of user {last.user_id!r} does not match the start of the plan: transaction 1 is 99"
    )
    assert count_data(server, "other") == (1, 1)


def test_world_that_violates_the_contract_sends_no_requests(tmp_path: Path, server: FakeCredits) -> None:
    (tmp_path / "contract.toml").write_text("version = 1\nceiling = 100\n")
    before = server.journal.total
    result = seed_into(server, "ceiling", "--profile", "edge", "--contract", str(tmp_path / "contract.toml"))
    assert result.exit_code == 1
    assert "user 'maximum-balance': a balance of 0 plus 9007199254740991 exceeds the ceiling of 100" in result.output
    assert server.journal.total == before


@pytest.mark.slow
def test_ctrl_c_exits_with_130_and_prints_how_to_resume(server: FakeCredits) -> None:
    script = (
        "import os, sys, signal\n"
        "from fake_credits.worlds import seeding\n"
        "create = seeding.Seeder.create\n"
        "async def interrupted(*arguments):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    await create(*arguments)\n"
        "seeding.Seeder.create = interrupted\n"
        "from fake_credits.__main__ import main\n"
        f"sys.argv[1:] = ['seed', '--profile', 'tiny', '--url', {server.base_url!r}, '--api-key', {server.api_key!r},"
        "                '--application-id', 'interrupted']\n"
        "main()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=clean_environment()
    )
    assert result.returncode == 128 + signal.SIGINT
    assert result.stderr.endswith("\nInterrupted; rerun the same command to resume\n")
    assert "Traceback" not in result.stderr


def test_missing_faker_prints_the_install_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "faker", None)
    result = seed("--profile", "tiny", "--out", str(tmp_path / "w.json"))
    assert result.exit_code == 1
    assert "pip install 'fake-credits[demo]'" in result.output
    assert list(tmp_path.iterdir()) == []
