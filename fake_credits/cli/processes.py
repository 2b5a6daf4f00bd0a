"""Running the commands given to `run` and `explore`, and ending them along with any processes that they leave behind.

On Linux, this process adopts orphans (as a "subreaper"), so it finds even those that left their command's process
group. On other platforms, such orphans can't be found, and they keep running.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import click

from fake_credits.clock import monotonic_s

KILL_TIMEOUT_S = 1.0
"""How long to wait for killed processes to disappear."""

_PR_SET_CHILD_SUBREAPER = 36
_POLL_INTERVAL_S = 0.01
_SIGKILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has no SIGKILL
_MAX_OUTPUT_BYTES = 64 * 1024


class CannotRun(click.ClickException):
    """Raised if a command can't be started."""

    exit_code = 126  # as in sh(1) and env(1)


class CommandNotFound(CannotRun):
    """Raised if a command does not exist."""

    exit_code = 127


class Stopped(Exception):
    """Raised instead of starting a command after `CommandRunner.stop` has been called."""


def adopt_orphans() -> bool:
    """Try to become the parent of orphaned descendants (Linux only), and return whether that succeeded."""
    return sys.platform == "linux" and not ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start_process(
    command: tuple[str, ...], env: Mapping[str, str], *, output: BinaryIO | None = None
) -> "subprocess.Popen[bytes]":
    """Start a command; raise CannotRun if that fails.

    If ``output`` is given, stdout and stderr are written to it, and the command gets its own session and an empty
    stdin.
    """
    program = command[0]
    if sys.platform == "win32":  # on Windows, Popen does not find batch files such as npm.cmd
        program = shutil.which(program, path=env.get("PATH")) or program
    try:
        return subprocess.Popen(  # noqa: S603 - the user's command
            [program, *command[1:]],
            env=env,
            stdin=None if output is None else subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=output is not None,
        )
    except OSError as error:
        error_type = CommandNotFound if isinstance(error, FileNotFoundError) else CannotRun
        raise error_type(f"can't run {command[0]!r}: {error.strerror or error}") from None


def exit_code_of(return_code: int) -> int:
    """Return the exit code that a shell would report: 128 + N for signal N."""
    if sys.platform == "win32":
        return return_code - 2**32 if return_code >= 2**31 else return_code  # sys.exit() would turn 0xC000013A into -1
    return 128 - return_code if return_code < 0 else return_code


def send_signal(process_id: int, number: int) -> None:
    """Send a signal to a process; do nothing if it has exited or belongs to another user."""
    with contextlib.suppress(OSError):
        os.kill(process_id, number)


class ProcessStatus(NamedTuple):
    """The status of a process, as read from /proc."""

    process_id: int
    state: str
    parent: int
    group: int


def find_descendants() -> list[ProcessStatus]:
    """Return all descendants of this process; Linux only."""
    children: dict[int, list[ProcessStatus]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in parentheses may contain anything; the fields after it are state, parent and group (proc(5)).
            state, parent, group = entry.read_text(errors="replace").rpartition(")")[2].split()[:3]
        except OSError:
            continue
        children.setdefault(int(parent), []).append(
            ProcessStatus(int(entry.parent.name), state, int(parent), int(group))
        )
    descendants: list[ProcessStatus] = []
    generation = children.get(os.getpid(), [])
    while generation:
        descendants += generation
        generation = [child for process in generation for child in children.get(process.process_id, [])]
    return descendants


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The outcome of a command.

    ``output`` is the end of the command's output, and ``left_running`` lists the command lines of the processes that
    the command left behind.
    """

    exit_code: int
    output: str
    duration_s: float
    is_overdue: bool
    left_running: tuple[str, ...]


class CommandRunner:
    """A runner of commands, each in its own session; `stop` terminates them, and may be called from any thread."""

    def __init__(self, grace_s: float) -> None:
        self.grace_s = grace_s
        self._lock = threading.RLock()  # one signal handler may interrupt another
        self._running: dict[int, RunningCommand] = {}
        self._is_stopped = False
        self._adopts_orphans = adopt_orphans()

    def __repr__(self) -> str:
        return f"<CommandRunner: {len(self._running)} running>"

    def start(self, command: tuple[str, ...], env: Mapping[str, str], mark: str) -> "RunningCommand":
        """Start a command; raise CannotRun if that fails, or Stopped if `stop` has been called.

        Processes that leave the command's process group are recognized by ``mark``, the unique value of a variable in
        ``env``.
        """
        with ExitStack() as stack, self._lock:
            if self._is_stopped:
                raise Stopped
            output = stack.enter_context(tempfile.TemporaryFile())  # leftover processes would keep a pipe open
            process = start_process(command, env, output=output)
            stack.pop_all()
            running = self._running[process.pid] = RunningCommand(self, process, output, mark.encode())
            return running

    def stop(self) -> None:
        """Terminate all commands and start no more; a second call kills them."""
        with self._lock:
            is_repeated, self._is_stopped = self._is_stopped, True
            for command in self._running.values():
                command.send_signal(_SIGKILL) if is_repeated else command.terminate()

    def forget(self, process_id: int) -> None:
        """Forget a command; call this after the command and everything that it started have ended."""
        with self._lock:
            del self._running[process_id]

    def find_orphans(self) -> list[ProcessStatus]:
        """Return the live descendants other than the commands themselves, and reap orphans that have exited."""
        if not self._adopts_orphans or not _has_children():
            return []
        with self._lock:  # so that a command that has just been started is not mistaken for an orphan
            orphans = [process for process in find_descendants() if process.process_id not in self._running]
            for process in [each for each in orphans if each.state == "Z" and each.parent == os.getpid()]:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(process.process_id, os.WNOHANG)
            return [process for process in orphans if process.state != "Z"]


class RunningCommand:
    """A running command; call `wait` exactly once."""

    def __init__(
        self, runner: CommandRunner, process: "subprocess.Popen[bytes]", output: BinaryIO, mark: bytes
    ) -> None:
        self._runner = runner
        self._process = process
        self._output = output
        self._mark = mark
        self._timers: list[threading.Timer] = []
        self._started_s = monotonic_s()
        self._is_overdue = self._is_terminating = self._has_ended = False

    def __repr__(self) -> str:
        return f"<RunningCommand {self._process.pid}>"

    def terminate(self) -> None:
        """Terminate the command, and kill it if it outlives the grace period; a second call does nothing."""
        if not self._is_terminating:
            self._is_terminating = True
            self.send_signal(signal.SIGTERM)
            self._call_later(self._runner.grace_s, lambda: self.send_signal(_SIGKILL))

    def send_signal(self, number: int) -> None:
        """Send a signal to the command's process group."""
        if sys.platform == "win32":
            self._process.terminate()
        elif not self._has_ended:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, number)

    def wait(self, limit_s: float) -> CommandResult:
        """Wait for the command to end, terminating it after ``limit_s`` seconds; then end any leftover processes."""
        self._call_later(limit_s, self._end_overdue)
        return_code = self._process.wait()  # with a timeout, this would poll every 50 ms
        duration_s = monotonic_s() - self._started_s
        left_running = self._end_left_running()
        self._has_ended = True
        for timer in self._timers:
            timer.cancel()
        self._runner.forget(self._process.pid)
        with self._output as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _MAX_OUTPUT_BYTES))
            output = file.read().decode(errors="replace")
        return CommandResult(exit_code_of(return_code), output, duration_s, self._is_overdue, left_running)

    def _call_later(self, delay_s: float, function: Callable[[], object]) -> None:
        timer = threading.Timer(delay_s, function)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def _end_overdue(self) -> None:
        self._is_overdue = True
        self.terminate()

    def _end_left_running(self) -> tuple[str, ...]:
        """End the processes that the command left running, and return their command lines."""
        command_lines: dict[int, str] = {}
        pause, started_s = threading.Event(), monotonic_s()
        while (waited_s := monotonic_s() - started_s) < self._runner.grace_s + KILL_TIMEOUT_S:
            left = [process for process in self._runner.find_orphans() if self._has_started(process)]
            if not left:
                break
            is_overdue = waited_s > self._runner.grace_s
            for process in left:
                if is_overdue or process.process_id not in command_lines:
                    command_lines.setdefault(process.process_id, _read_command_line(process.process_id))
                    send_signal(process.process_id, _SIGKILL if is_overdue else signal.SIGTERM)
            pause.wait(_POLL_INTERVAL_S)
        self.send_signal(_SIGKILL)  # where orphans can't be found, kill those that stayed in the group
        return tuple(sorted(set(command_lines.values())))

    def _has_started(self, process: ProcessStatus) -> bool:
        if process.group == self._process.pid:
            return True
        try:
            return self._mark in Path(f"/proc/{process.process_id}/environ").read_bytes()
        except OSError:
            return False


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _read_command_line(process_id: int) -> str:
    try:
        return " ".join(Path(f"/proc/{process_id}/cmdline").read_text(errors="replace").split("\0")).strip()
    except OSError:
        return ""
