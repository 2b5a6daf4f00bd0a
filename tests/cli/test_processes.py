"""Processes that `explore` starts: how they end, and how the processes they leave running are terminated."""

import os
import re
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fake_credits.cli.processes import CannotRun, CommandNotFound, CommandRunner, Stopped, exit_code_of
from tests.cli.conftest import CliProcess, until

Start = Callable[..., CliProcess]
SELFTEST_CLIENTS = Path(__file__).parents[2] / "fake_credits" / "cli" / "selftest_clients.py"


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandRunner]:
    monkeypatch.setattr("fake_credits.cli.processes.adopt_orphans", lambda: False)  # it would affect other tests
    runner = CommandRunner(grace_s=0.05)
    yield runner
    runner.stop()
    runner.stop()


def sh(runner: CommandRunner, text: str, limit_s: float = 20) -> tuple[int, str]:
    result = runner.start(("sh", "-c", text), os.environ, "no-mark").wait(limit_s)
    return result.exit_code, result.output


def test_result_has_the_exit_code_and_the_output(runner: CommandRunner) -> None:
    assert sh(runner, "echo one; echo two >&2; exit 3") == (3, "one\ntwo\n")
    assert sh(runner, "kill -9 $$") == (137, "")
    assert sh(runner, "cat") == (0, "")  # stdin is empty


def test_only_the_end_of_a_long_output_is_kept(runner: CommandRunner) -> None:
    code, output = sh(runner, "yes | head -c 100000; echo end")
    assert (code, len(output), output[-6:]) == (0, 64 * 1024, "y\nend\n")


def test_overdue_command_is_terminated_and_then_killed(runner: CommandRunner) -> None:
    result = runner.start(("sh", "-c", "trap '' TERM; while :; do sleep 0.01; done"), os.environ, "-").wait(0.05)
    assert (result.exit_code, result.is_overdue) == (137, True)


def test_stop_ends_running_commands_and_prevents_new_ones(runner: CommandRunner) -> None:
    running = [runner.start(("sleep", "60"), os.environ, "-") for _ in range(2)]
    runner.stop()
    assert [each.wait(20).exit_code for each in running] == [143, 143]
    with pytest.raises(Stopped):
        runner.start(("sleep", "60"), os.environ, "-")


def test_second_stop_kills_at_once(runner: CommandRunner) -> None:
    runner.grace_s = 60
    running = runner.start(("sh", "-c", "trap '' TERM; while :; do sleep 0.01; done"), os.environ, "-")
    runner.stop()
    runner.stop()
    assert running.wait(20).exit_code in (137, 143)


def test_command_that_cannot_be_started_is_an_error(runner: CommandRunner) -> None:
    with pytest.raises(CommandNotFound):
        runner.start(("no-such-command",), os.environ, "-")
    with pytest.raises(CannotRun, match="can't run '/'") as caught:
        runner.start(("/",), os.environ, "-")
    assert caught.value.exit_code == 126


def test_signal_exit_code_follows_the_shell_convention() -> None:
    assert [exit_code_of(code) for code in (0, 3, -signal.SIGTERM)] == [0, 3, 143]


# ------------------------------------------------------------ with `explore` as a process


def marked_processes(mark: str) -> list[str]:
    """Return the command lines of all processes with ``mark`` in their environment."""
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in entry.read_bytes():
                found.append((entry.parent / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


# A process in the group, one in a session of its own, and one whose parent has exited
LEAVER = f"""
sleep 300 &
setsid sleep 300 &
(setsid sleep 300 &)
exec {sys.executable} -I {SELFTEST_CLIENTS} charge_once
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="orphans are found on Linux only")
@pytest.mark.parametrize("jobs", ["1", "3"])
def test_leftover_processes_are_terminated_and_reported(start: Start, jobs: str) -> None:
    mark = uuid.uuid4().hex
    flags = ("--user", "ada=100", "--what", "lost_after,refused", "--jobs", jobs)
    process = start("explore", *flags, "--", "sh", "-c", LEAVER, MARK=mark)
    assert process.popen.wait(60) == 0, process.err
    # A new process is listed as setsid until setsid executes sleep.
    note = r"left processes running \((setsid sleep 300, )?sleep 300\); they were terminated and any results ignored"
    assert re.search(note, process.out)
    assert marked_processes(mark) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="orphans are found on Linux only")
@pytest.mark.parametrize("delay_s", [0, 0.03, 0.1, 0.2, 0.3, 0.45, 0.7, 1.0, 1.5])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_at_any_moment_leaves_nothing_behind(
    start: Start, tmp_path: Path, delay_s: float, number: int, code: int
) -> None:
    mark = uuid.uuid4().hex
    started = tmp_path / "started"
    flags = ("--user", "ada=100", "--jobs", "2", "--grace", "0.5")
    process = start("explore", *flags, "--", "sh", "-c", f"touch {started}; sleep 0.5; {LEAVER}", MARK=mark)
    until(started.exists, "the first run")
    threading.Event().wait(delay_s)
    assert process.stop(number) == code
    assert process.out == ""
    assert re.fullmatch(
        "the exploration was interrupted (before the first|before the final|after [0-9]+ of).*\n", process.err
    )
    assert marked_processes(mark) == []


@pytest.mark.slow
def test_selftest_passes(start: Start) -> None:
    process = start("explore", "--selftest", "--jobs", "2")
    assert process.popen.wait(120) == 0, process.out + process.err
    assert process.out.count("ok ") == 7
