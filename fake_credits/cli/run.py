"""The command `run`: a command beside a server, from its environment to its last process.

The command stays in our process group, so that a terminal's Ctrl-C, Ctrl-Z and job control treat it as if we were not
there. What it leaves running is ended: on Linux we adopt orphans (a "subreaper"), so even what has left the group is
found. Elsewhere nothing tells us what it left, and ending the group would end who started us, so that is left alone.
Killed by SIGKILL ourselves, we can end nothing. On Windows Ctrl-C and Ctrl-Break reach the command by themselves.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from types import FrameType

import click

from fake_credits.cli.bootstrap import create_control_plane, create_sandbox, server_env
from fake_credits.cli.flags import RunFlags
from fake_credits.cli.https import tls_setup, trust_env
from fake_credits.cli.output import ExchangeLog, print_problems
from fake_credits.cli.serve import report_bind_errors
from fake_credits.clock import monotonic_s
from fake_credits.transports.environment import ENV_VALUE_NAMES, no_proxy_with_loopback
from fake_credits.transports.live import BindOptions, LiveServer

__all__ = ["run"]


def _signal_numbers(*names: str) -> frozenset[int]:
    return frozenset(getattr(signal, name) for name in names if hasattr(signal, name))  # Windows lacks most


_TERMINAL_SIGNALS = _signal_numbers("SIGINT", "SIGQUIT", "SIGBREAK")
_STOP_SIGNALS = _TERMINAL_SIGNALS | _signal_numbers("SIGTERM", "SIGHUP")
_FORWARDED_SIGNALS = _STOP_SIGNALS | _signal_numbers("SIGUSR1", "SIGUSR2")
_EXIT_CANNOT_RUN, _EXIT_NOT_FOUND = 126, 127  # as sh(1) and env(1)
_KILL_TIMEOUT_S = 1.0
_PR_SET_CHILD_SUBREAPER = 36


def run(options: RunFlags, command: tuple[str, ...]) -> int:
    """Run a command beside a server at a free port of loopback, and return the command's exit code."""
    child = _ChildProcess(options.grace)
    with child.exit_immediately():  # a large world takes half a minute
        sandbox = create_sandbox(options)
    log = ExchangeLog(options.log, options.seed)
    loopback = BindOptions()
    with tls_setup(options, loopback, loopback.host) as (address, ca_file), trust_env(ca_file, os.environ) as ca_env:
        sandboxes, control = create_control_plane(options, sandbox, log)
        server = LiveServer(sandbox.contract, sandboxes, address, control=control)
        with report_bind_errors(address):
            server.start()
        try:
            env = server_env(sandbox, server.base_url, control, ca_file)
            values = {name: env[f"CREDITS_{name.upper()}"] for name in ENV_VALUE_NAMES}
            env = {**os.environ, **no_proxy_with_loopback(os.environ), **env, **ca_env}
            env |= {name: template.format(**values) for name, template in options.env}
            return child.run(command, env)
        finally:
            server.stop()
            log.close()
            print_problems(sandboxes, options.log)


class _ChildProcess:
    """The command: started, sent the signals that are sent to us, and waited for with all that it started."""

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._process: subprocess.Popen[bytes] | None = None
        self._pending_signals: list[int] = []
        self._exits_immediately = False
        for number in _FORWARDED_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGINT:
                signal.signal(number, self._on_signal)

    @contextlib.contextmanager
    def exit_immediately(self) -> Generator[None]:
        """End this process at a signal during this block, before there is a command."""
        self._exits_immediately = True
        yield
        self._exits_immediately = False

    def run(self, command: tuple[str, ...], env: dict[str, str]) -> int:
        is_subreaper = (
            sys.platform.startswith("linux") and ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
        )
        program = command[0]
        if sys.platform == "win32":  # which finds no batch files, such as npm.cmd, by itself
            program = shutil.which(program, path=env.get("PATH")) or program
        try:
            # The command line is what we are for.
            process = self._process = subprocess.Popen([program, *command[1:]], env=env)  # noqa: S603
        except OSError as error:
            click.echo(f"Error: can't run {command[0]!r}: {error.strerror or error}", err=True)
            return _EXIT_NOT_FOUND if isinstance(error, FileNotFoundError) else _EXIT_CANNOT_RUN
        for number in self._pending_signals:
            self._forward(process, number)
        code = process.wait()
        if is_subreaper:
            _terminate_orphans(self._grace_s)
        if sys.platform == "win32":
            return code - 2**32 if code >= 2**31 else code  # as sys.exit() takes it: else 0xC000013A would be -1
        return 128 - code if code < 0 else code

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._exits_immediately and number in _STOP_SIGNALS:
            sys.exit(128 + number)
        if self._process is None:
            self._pending_signals.append(number)
        elif not (number in _TERMINAL_SIGNALS and _is_foreground()):
            # A terminal has sent it to the command too, which may ignore it, as a shell does; twice means "at once".
            self._forward(self._process, number)

    def _forward(self, process: "subprocess.Popen[bytes]", number: int) -> None:
        if sys.platform == "win32":
            process.terminate()  # send_signal() raises there for all but SIGTERM, which is this
            return
        process.send_signal(number)
        if number in _STOP_SIGNALS:
            kill_timer = threading.Timer(self._grace_s, process.kill)
            kill_timer.daemon = True
            kill_timer.start()


def _is_foreground() -> bool:
    """Return whether a terminal's signals reach the command too."""
    if sys.platform == "win32":
        return True  # a console sends them to every process of ours
    try:
        with Path("/dev/tty").open("rb", buffering=0) as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


def _terminate_orphans(grace_s: float) -> None:
    """Terminate what the command has left running, then kill it; the kernel says when there is nothing left."""
    pause, terminated, started_s = threading.Event(), set[int](), monotonic_s()
    with contextlib.suppress(ChildProcessError):
        while (waited_s := monotonic_s() - started_s) < grace_s + _KILL_TIMEOUT_S:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            is_overdue = waited_s > grace_s
            for process_id in _descendant_ids() - (set() if is_overdue else terminated):
                terminated.add(process_id)
                _send_signal(process_id, signal.SIGKILL if is_overdue else signal.SIGTERM)
            pause.wait(0.02)


def _send_signal(process_id: int, number: int) -> None:
    with contextlib.suppress(OSError):  # it has ended by itself, or is another user's
        os.kill(process_id, number)


def _descendant_ids() -> set[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in parentheses may hold anything; the parent is the second field after it (proc(5)).
            parents[int(entry.parent.name)] = int(entry.read_text(errors="replace").rpartition(")")[2].split()[1])
        except OSError:
            continue
    descendants, generation = set[int](), {os.getpid()}
    while generation:
        generation = {process_id for process_id, parent in parents.items() if parent in generation}
        descendants |= generation
    return descendants
