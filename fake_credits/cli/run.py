"""The command `run`, which runs another command next to a server of its own.

The command stays in this process group, so that a terminal's Ctrl-C, Ctrl-Z and job control work as usual. Processes
that it leaves behind are terminated. On Linux, this process adopts orphans (as a "subreaper") and so finds even those
that left the group. Elsewhere orphans can't be found, and terminating the group would include our parent, so they are
left running. After SIGKILL nothing is cleaned up. On Windows, Ctrl-C and Ctrl-Break reach the command directly.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import click

from fake_credits.cli.bootstrap import create_control_plane, create_sandbox, server_env
from fake_credits.cli.flags import RunFlags
from fake_credits.cli.https import tls_setup, trust_env
from fake_credits.cli.output import ExchangeLog, print_problems
from fake_credits.cli.serve import report_bind_errors
from fake_credits.cli.signals import STOP_SIGNALS, handle_signals, signal_numbers
from fake_credits.clock import monotonic_s
from fake_credits.transports.environment import ENV_VALUE_NAMES, no_proxy_with_loopback
from fake_credits.transports.live import BindOptions, LiveServer

_TERMINAL_SIGNALS = signal_numbers("SIGINT", "SIGQUIT", "SIGBREAK")
_FATAL_SIGNALS = STOP_SIGNALS | _TERMINAL_SIGNALS
_FORWARDED_SIGNALS = _FATAL_SIGNALS | signal_numbers("SIGUSR1", "SIGUSR2")
_EXIT_CANNOT_RUN, _EXIT_NOT_FOUND = 126, 127  # as in sh(1) and env(1)
_KILL_TIMEOUT_S = 1.0
_PR_SET_CHILD_SUBREAPER = 36


def run(options: RunFlags, command: tuple[str, ...]) -> int:
    """Run a command with a server on a free loopback port, and return the command's exit code."""
    sandbox = create_sandbox(options)
    child = _ChildProcess(options.grace)
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
    """The command's process, which gets the signals that this process receives."""

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._process: subprocess.Popen[bytes] | None = None
        self._pending_signals: list[int] = []
        handle_signals(_FORWARDED_SIGNALS, self._on_signal)

    def run(self, command: tuple[str, ...], env: dict[str, str]) -> int:
        is_subreaper = (
            sys.platform.startswith("linux") and ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
        )
        program = command[0]
        if sys.platform == "win32":  # on Windows, Popen does not find batch files such as npm.cmd
            program = shutil.which(program, path=env.get("PATH")) or program
        try:
            process = self._process = subprocess.Popen([program, *command[1:]], env=env)  # noqa: S603 - the user's command
        except OSError as error:
            click.echo(f"Error: can't run {command[0]!r}: {error.strerror or error}", err=True)
            return _EXIT_NOT_FOUND if isinstance(error, FileNotFoundError) else _EXIT_CANNOT_RUN
        for number in self._pending_signals:
            self._forward(process, number)
        code = process.wait()
        if is_subreaper:
            _terminate_orphans(self._grace_s)
        if sys.platform == "win32":
            return code - 2**32 if code >= 2**31 else code  # sys.exit() would turn 0xC000013A into -1
        return 128 - code if code < 0 else code

    def _on_signal(self, number: int) -> None:
        if self._process is None:
            self._pending_signals.append(number)
        elif not (number in _TERMINAL_SIGNALS and _is_foreground()):
            # The terminal has sent it to the command too, and a second Ctrl-C often means "exit immediately".
            self._forward(self._process, number)

    def _forward(self, process: "subprocess.Popen[bytes]", number: int) -> None:
        if sys.platform == "win32":
            process.terminate()  # on Windows, send_signal() supports only SIGTERM, which does the same
            return
        process.send_signal(number)
        if number in _FATAL_SIGNALS:
            kill_timer = threading.Timer(self._grace_s, process.kill)
            kill_timer.daemon = True
            kill_timer.start()


def _is_foreground() -> bool:
    """Return whether a terminal's signals also reach the command."""
    if sys.platform == "win32":
        return True  # a Windows console sends them to all its processes
    try:
        with Path("/dev/tty").open("rb", buffering=0) as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


def _terminate_orphans(grace_s: float) -> None:
    """Terminate the processes that the command left running, and kill them after the grace period."""
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
    with contextlib.suppress(OSError):  # it has exited, or belongs to another user
        os.kill(process_id, number)


def _descendant_ids() -> set[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in parentheses may contain anything; the parent's id is the second field after it (proc(5)).
            parents[int(entry.parent.name)] = int(entry.read_text(errors="replace").rpartition(")")[2].split()[1])
        except OSError:
            continue
    descendants, generation = set[int](), {os.getpid()}
    while generation:
        generation = {process_id for process_id, parent in parents.items() if parent in generation}
        descendants |= generation
    return descendants
