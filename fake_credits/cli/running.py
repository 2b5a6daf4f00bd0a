"""Own `run`: a command beside a server, from its environment to its last process; know nothing of HTTP.

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
from collections.abc import Generator, Iterable
from pathlib import Path
from types import FrameType

import click

from fake_credits.cli.https import https, trusting
from fake_credits.cli.lines import ExchangeLog
from fake_credits.cli.options import RunOptions
from fake_credits.cli.serving import listening
from fake_credits.cli.start import control_of, control_variables, new_sandbox, variables
from fake_credits.cli.telling import tell_problems
from fake_credits.clock import monotonic_s
from fake_credits.drivers.environment import FIELDS, with_loopback
from fake_credits.drivers.live import Address, LiveServer
from fake_credits.sandbox import Sandboxes

__all__ = ["run"]

_STOPS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGBREAK")
_PASSED_ON = (*_STOPS, "SIGUSR1", "SIGUSR2")
_CANNOT_RUN, _NOT_FOUND = 126, 127  # as sh(1) and env(1)
_KILL_LIMIT_S = 1.0
_PR_SET_CHILD_SUBREAPER = 36


def run(options: RunOptions, command: tuple[str, ...]) -> int:
    """Run a command beside a server at a free port of loopback, and return the command's exit code."""
    child = _Child(options.grace)
    with child.at_once():  # a large world takes half a minute
        sandbox = new_sandbox(options)
    log = ExchangeLog(options.log, options.seed, sandbox.bugs)
    log.listen(sandbox.journal)
    plain = Address()
    with https(options, plain.host) as encrypted, trusting(encrypted.ca, os.environ) as trust:
        address = encrypted.at(plain)
        sandboxes = Sandboxes(sandbox)
        control = control_of(options, sandboxes, log)
        server = LiveServer(sandbox.contract, sandboxes, address, control=control)
        with listening(address):
            server.start()
        try:
            ours = variables(sandbox, server.base_url)
            more = {**encrypted.variables, **trust, **control_variables(server.base_url, control)}
            return child.run(command, _environment(options, ours, more))
        finally:
            server.stop()
            log.close()
            tell_problems(sandboxes, options.log)


def _environment(options: RunOptions, ours: dict[str, str], trust: dict[str, str]) -> dict[str, str]:
    words = dict(zip(FIELDS, ours.values(), strict=True))
    own = {name: template.format(**words) for name, template in options.env}
    return {**os.environ, **with_loopback(os.environ), **ours, **trust, **own}


class _Child:
    """Be the command: started, sent the signals that are sent to us, and waited for with all that it started."""

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []
        self._at_once = False
        for number in _numbers(_PASSED_ON):
            if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGINT:
                signal.signal(number, self._hear)

    @contextlib.contextmanager
    def at_once(self) -> Generator[None, None, None]:
        """End this process where it is told to end in this block, before there is a command."""
        self._at_once = True
        yield
        self._at_once = False

    def run(self, command: tuple[str, ...], variables: dict[str, str]) -> int:
        adopting = _adopt_orphans()
        try:
            # The command line is what we are for.
            process = self._process = subprocess.Popen(_found(command, variables), env=variables)  # noqa: S603
        except OSError as error:
            click.echo(f"Error: can't run {command[0]!r}: {error.strerror or error}", err=True)
            return _NOT_FOUND if isinstance(error, FileNotFoundError) else _CANNOT_RUN
        for number in self._early:
            self._pass_on(process, number)
        code = process.wait()
        if adopting:
            _end_orphans(self._grace_s)
        if sys.platform == "win32":
            return code - 2**32 if code >= 2**31 else code  # as sys.exit() takes it: else 0xC000013A would be -1
        return 128 - code if code < 0 else code

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        if self._at_once and number in _numbers(_STOPS):
            sys.exit(128 + number)
        if self._process is None:
            self._early.append(number)
        elif not (number in _numbers(("SIGINT", "SIGQUIT", "SIGBREAK")) and _is_foreground()):
            # A terminal has sent it to the command too, which may ignore it, as a shell does; twice means "at once".
            self._pass_on(self._process, number)

    def _pass_on(self, process: "subprocess.Popen[bytes]", number: int) -> None:
        if sys.platform == "win32":
            process.terminate()  # send_signal() raises there for all but SIGTERM, which is this
            return
        process.send_signal(number)
        if number in _numbers(_STOPS):
            limit = threading.Timer(self._grace_s, process.kill)
            limit.daemon = True
            limit.start()


def _numbers(names: Iterable[str]) -> list[int]:
    return [getattr(signal, name) for name in names if hasattr(signal, name)]  # Windows lacks most


def _found(command: tuple[str, ...], variables: dict[str, str]) -> tuple[str, ...]:
    """Return the command with its program's file on Windows, which finds no batch files, such as npm.cmd, by itself."""
    if sys.platform != "win32":
        return command
    return (shutil.which(command[0], path=variables.get("PATH")) or command[0], *command[1:])


def _is_foreground() -> bool:
    """Tell whether a terminal's signals reach the command too."""
    if sys.platform == "win32":
        return True  # a console sends them to every process of ours
    try:
        with Path("/dev/tty").open("rb", buffering=0) as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


def _adopt_orphans() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def _end_orphans(grace_s: float) -> None:
    """Ask what the command has left running to end, then make it; the kernel says when there is nothing left."""
    pause, asked, began_s = threading.Event(), set[int](), monotonic_s()
    with contextlib.suppress(ChildProcessError):
        while (waited_s := monotonic_s() - began_s) < grace_s + _KILL_LIMIT_S:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            late = waited_s > grace_s
            for process_id in _descendants() - (set() if late else asked):
                asked.add(process_id)
                _send(process_id, signal.SIGKILL if late else signal.SIGTERM)
            pause.wait(0.02)


def _send(process_id: int, number: int) -> None:
    with contextlib.suppress(OSError):  # it has ended by itself, or is another user's
        os.kill(process_id, number)


def _descendants() -> set[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in parentheses may hold anything; the parent is the second field after it (proc(5)).
            parents[int(entry.parent.name)] = int(entry.read_text(errors="replace").rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, new = set[int](), {os.getpid()}
    while new:
        new = {process_id for process_id, parent in parents.items() if parent in new}
        found |= new
    return found
