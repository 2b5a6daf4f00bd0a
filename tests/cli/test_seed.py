"""`seed`: what it says before, while and after it writes, where it writes, and how it ends."""

import json
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

ONE_LINE_OF_PROGRESS = r"writing: 60/60 transactions \(100 %\), [\d,]+/s, 0:00 left"


@pytest.fixture(scope="module")
def server() -> Iterator[FakeCredits]:
    """A live server; each test has an application of its own."""
    with FakeCredits() as credits:
        credits.serve()
        yield credits


class Done(NamedTuple):
    """Be a command that has ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


def seed(*arguments: str) -> Done:
    # Before click 8.2 it has to be asked to keep them apart.
    asked: dict[str, Any] = {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}
    result = CliRunner(**asked).invoke(cli, ["seed", *arguments])
    return Done(result.exit_code, result.stdout, result.stderr)


def seed_into(server: FakeCredits, application: str, *arguments: str) -> Done:
    where = ("--url", server.base_url, "--api-key", server.api_key, "--application-id", application)
    return seed(*where, *arguments)


def count(server: FakeCredits, application: str) -> tuple[int, int]:
    accounts = server.sandbox.ledger.page_of_users(application, None, 1)[0]
    return len(accounts), sum(map(len, accounts))


def test_a_server_is_filled_with_a_summary_before_and_the_result_after(server: FakeCredits) -> None:
    done = seed_into(server, "shop", "--profile", "tiny")
    assert (done.exit_code, done.stdout) == (0, "")
    assert count(server, "shop") == (5, 60)
    pattern = (
        rf"planning: 60/60.*\nlooking: 5/5 users.*\nWorld 'tiny', seed 0: 5 users, 60 transactions\n"
        rf"  [\d,]+ credits granted, [\d,]+ consumed, [\d,]+ refunded\nTo {server.base_url}, application 'shop', "
        rf"which has of these\n  0 users and 0 transactions\ncreating: 5/5 users.*\n{ONE_LINE_OF_PROGRESS}\n"
        r"Written: 5 users and 60 transactions, in \d+\.\d s\n"
    )
    assert re.fullmatch(pattern, done.stderr), done.stderr


def test_the_same_command_again_finds_everything_and_writes_nothing(server: FakeCredits) -> None:
    seed_into(server, "twice", "--profile", "tiny", "--seed", "3")
    again = seed_into(server, "twice", "--profile", "tiny", "--seed", "3")
    assert "which has of these\n  5 users and 60 transactions\nWritten: 0 users and 0 transactions" in again.stderr
    assert count(server, "twice") == (5, 60)


def test_a_dry_run_reads_and_writes_nothing(server: FakeCredits) -> None:
    done = seed_into(server, "dry", "--profile", "tiny", "--dry-run")
    assert done.exit_code == 0
    assert done.stderr.endswith("A dry run: nothing is written\n")
    assert count(server, "dry") == (0, 0)


def test_a_program_gets_objects_on_stdout_and_nothing_else(server: FakeCredits) -> None:
    done = seed_into(server, "json", "--profile", "tiny", "--json")
    lines: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.exit_code, done.stderr) == (0, "")
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
        "looking",
        "creating",
        "writing",
    ]
    assert lines[-1]["done"] | {"seconds": 0} == {"users": 5, "transactions": 60, "seconds": 0}


def test_quiet_is_quiet(server: FakeCredits) -> None:
    done = seed_into(server, "quiet", "--profile", "tiny", "--quiet")
    assert (done.exit_code, done.output) == (0, "")
    assert count(server, "quiet") == (5, 60)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        ({}, rb"\rwriting \[#{24}\] 60/60 transactions \(100 %\), [\d,]+/s, 0:00 left\x1b\[K\r\n"),
        ({"CI": "true"}, rb"\nwriting: 60/60 transactions \(100 %\), [\d,]+/s, 0:00 left\r\n"),
        ({"TERM": "dumb"}, rb"\nwriting: 60/60 transactions \(100 %\), [\d,]+/s, 0:00 left\r\n"),
    ],
)
def test_a_terminal_gets_a_bar_but_for_ci_and_one_that_can_not_show_it(
    variables: dict[str, str], shown: bytes, server: FakeCredits
) -> None:
    environment = clean_environment(**{"COLUMNS": "100", "TERM": "xterm", "CI": "", **variables})
    application = f"terminal-{len(variables)}-{variables.get('TERM', '')}"
    parent, child = pty.openpty()
    where = ["--url", server.base_url, "--api-key", server.api_key, "--application-id", application]
    with subprocess.Popen([*COMMAND, "seed", "--profile", "tiny", *where], stderr=child, env=environment) as process:
        os.close(child)
        text = b""
        try:
            while part := os.read(parent, 65536):
                text += part
        except OSError:  # Linux says so where the other end is closed
            pass
        assert process.wait(LIMIT_S) == 0
    os.close(parent)
    assert re.search(shown, text), text


def test_a_file_is_written_and_is_taken_wherever_a_name_is(tmp_path: Path, server: FakeCredits) -> None:
    file = tmp_path / "world.json"
    done = seed("--profile", "tiny", "--seed", "5", "--out", str(file))
    assert done.exit_code == 0
    assert f"To the file {file}\n" in done.stderr
    assert tuple(load_world(file).histories()) == tuple(WorldLibrary().find("tiny", 5).histories())
    assert seed_into(server, "file", "--profile", str(file), "--quiet").exit_code == 0
    assert count(server, "file") == (5, 60)
    again = tmp_path / "again.json"
    assert seed("--profile", str(file), "--out", str(again), "--quiet").exit_code == 0
    assert again.read_bytes() == file.read_bytes()


@pytest.mark.slow
def test_processes_with_other_hash_seeds_write_the_same_bytes(tmp_path: Path) -> None:
    for number in ("1", "2"):
        command = [*COMMAND, "seed", "--profile", "tiny", "--quiet", "--out", str(tmp_path / number)]
        subprocess.run(command, check=True, env=clean_environment(PYTHONHASHSEED=number))
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_a_profile_of_one_s_own_and_a_contract_of_one_s_own_are_kept(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text("version = 1\nusers = 4\ntransactions = 40\nsignup_grant = 500\n")
    (tmp_path / "contract.toml").write_text('version = 1\napi_key = "Authorization: Bearer"\npage_size = 7\n')
    words = ["--profile", str(tmp_path / "shop.toml"), "--contract", str(tmp_path / "contract.toml"), "--quiet"]
    contract = Contract(api_key=CredentialHeader("Authorization", "Bearer"), page_size=7)
    with FakeCredits(contract=contract) as other:
        done = seed_into(other, "app-id", *words)
        assert (done.exit_code, done.output, count(other, "app-id")) == (0, "", (4, 40))


def test_a_dry_run_needs_no_place() -> None:
    done = seed("--profile", "edge", "--dry-run")
    assert done.exit_code == 0
    assert "World 'edge', seed 0: 17 users, 10,080 transactions" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say where the data go: --out FILE or --url URL, or --dry-run"),
        (["--out", "w.json", "--url", "http://127.0.0.1:1"], "--out and --url exclude each other"),
        (["--out", "w.json", "--json", "--quiet"], "--json and --quiet exclude each other"),
        (["--url", "http://127.0.0.1:1"], "--api-key is missing"),
        (["--url", "https://api.example.com", "--api-key", "k"], "is beyond loopback.*--dry-run, then add --yes"),
        (["--url", "api.example.com", "--api-key", "k"], "--url.*'api.example.com' is no URL of a server"),
        (
            ["--out", "w.json", "--profile", "dmo"],
            "--profile: there is no world 'dmo', and no file: did you mean 'demo'",
        ),
        (["--out", "w.json", "--profile", "."], "--profile: the world '.' is a folder"),
        (["--out", "w.json", "--concurrency", "0"], "--concurrency.*0 is not in the range 1<=x<=100"),
        (["--out", "w.json", "--seed", "x"], "--seed.*'x' is not a valid integer"),
        (["--out", "nowhere/w.json"], "--out.*no folder 'nowhere'"),
        (["--out", "w.json", "--contract", "none.toml"], "--contract.*no file that is there"),
    ],
)
def test_wrong_usage_ends_with_2_names_the_flag_and_writes_nothing(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = seed(*arguments)
    assert done.exit_code == 2
    assert re.search(said, " ".join(done.output.split())), done.output
    assert list(tmp_path.iterdir()) == []


def test_a_target_beyond_loopback_is_written_to_with_yes() -> None:
    """Nothing answers there: it got as far as asking."""
    done = seed("--profile", "edge", "--url", "http://nowhere.invalid:1", "--api-key", "k", "--yes")
    assert done.exit_code == 1
    assert "no connection, so it was never sent" in done.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version = 1\nusers = -1\n", "users must be from 0 to 1000000, not -1"),
        ("version = 1\ntop_up = 0\nsignup_grant = 1\nmonthly_grant = 0\n", "can't be met: user 0 of 20 would consume"),
        ("version = 1\nuser = 1\n", "there is no 'user' in a profile: did you mean 'users'?"),
    ],
)
def test_a_profile_that_can_not_be_ends_with_1_says_why_and_writes_nothing(
    text: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "own.toml").write_text(text)
    done = seed("--profile", str(tmp_path / "own.toml"), "--out", str(tmp_path / "w.json"))
    assert done.exit_code == 1
    assert said in done.output
    assert [file.name for file in tmp_path.iterdir()] == ["own.toml"]


def test_a_world_s_file_that_is_cut_off_ends_with_1_and_writes_nothing(tmp_path: Path, server: FakeCredits) -> None:
    file = tmp_path / "w.json"
    seed("--profile", "tiny", "--out", str(file))
    file.write_bytes(file.read_bytes()[:-40])
    done = seed_into(server, "cut", "--profile", str(file))
    assert done.exit_code == 1
    assert "w.json: is no world, or a damaged one" in done.output
    assert count(server, "cut") == (0, 0)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (("--api-key", "wrong"), "401 invalid_api_key"),
        (("--url", "http://127.0.0.1:1"), "no connection.*127.0.0.1:1"),
        (("--url", "{base_url}/v9"), "404 route_not_found"),
    ],
)
def test_a_target_that_refuses_or_is_not_there_ends_with_1_at_once(
    where: tuple[str, str], said: str, server: FakeCredits
) -> None:
    flag, value = where
    done = seed_into(server, "refused", "--profile", "tiny", flag, value.format(base_url=server.base_url))
    assert done.exit_code == 1
    assert re.search(f"Error: .*{said}", done.output), done.output


def test_a_user_with_another_history_is_named_and_nothing_is_written(server: FakeCredits) -> None:
    *_, last = WorldLibrary().find("tiny", 0).histories()
    server.user(last.user_id, balance=99, application_id="other")
    done = seed_into(server, "other", "--profile", "tiny", "--json")
    assert done.exit_code == 1
    error = json.loads(done.stdout.splitlines()[-1])["error"]
    assert error.startswith(
        f"user {last.user_id!r} has a history that is no beginning of the plan: its transaction 1 is 99"
    )
    assert count(server, "other") == (1, 1)


def test_a_world_that_the_contract_does_not_allow_is_refused_before_anything_is_asked(
    tmp_path: Path, server: FakeCredits
) -> None:
    (tmp_path / "contract.toml").write_text("version = 1\nceiling = 100\n")
    before = server.journal.total
    done = seed_into(server, "ceiling", "--profile", "edge", "--contract", str(tmp_path / "contract.toml"))
    assert done.exit_code == 1
    assert "user 'maximum-balance': a balance of 0 plus 9007199254740991 is over the ceiling of 100" in done.output
    assert server.journal.total == before


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_says_how_to_go_on(server: FakeCredits) -> None:
    script = (
        "import os, sys, signal\n"
        "from fake_credits.worlds import seeding\n"
        "create = seeding.Seeder.create\n"
        "async def interrupted(*words):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    await create(*words)\n"
        "seeding.Seeder.create = interrupted\n"
        "from fake_credits.cli import main\n"
        f"sys.argv[1:] = ['seed', '--profile', 'tiny', '--url', {server.base_url!r}, '--api-key', {server.api_key!r},"
        "                '--application-id', 'interrupted']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=clean_environment()
    )
    assert done.returncode == 128 + signal.SIGINT
    assert done.stderr.endswith("\nInterrupted: the same command goes on from here\n\n")
    assert "Traceback" not in done.stderr


def test_without_faker_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "faker", None)
    done = seed("--profile", "tiny", "--out", str(tmp_path / "w.json"))
    assert done.exit_code == 1
    assert "pip install 'fake-credits[demo]'" in done.output
    assert list(tmp_path.iterdir()) == []
