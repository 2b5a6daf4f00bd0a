"""The `run` command, which starts a server and runs another command that uses it; `explore` reuses `CommandServer`.

The command stays in this process's group, so that a terminal's Ctrl-C, Ctrl-Z and job control work as usual. On Linux,
processes that it leaves behind are terminated: this process adopts orphans (as a "subreaper"), so it finds even those
that left the group. On other systems, orphans are left running: they can't be found, and terminating the group could
also terminate this process's parent. If this process is killed by SIGKILL, nothing is cleaned up. On Windows, Ctrl-C
and Ctrl-Break reach the command directly.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

from fake_credits.cli.bootstrap import create_control_plane, create_sandbox, server_env
from fake_credits.cli.flags import RunFlags
from fake_credits.cli.https import tls_setup, trust_env
from fake_credits.cli.output import STDERR, ExchangeLog, print_lines, print_problems
from fake_credits.cli.processes import (
    KILL_TIMEOUT_S,
    adopt_orphans,
    exit_code_of,
    find_descendants,
    send_signal,
    start_process,
)
from fake_credits.cli.serve import report_bind_errors
from fake_credits.cli.signals import STOP_SIGNALS, handle_signals, signal_numbers
from fake_credits.clock import monotonic_s
from fake_credits.control.app import ControlPlane
from fake_credits.sandbox import Sandbox
from fake_credits.sandboxes import SandboxRegistry, drain
from fake_credits.transports.environment import ENV_VALUE_NAMES, no_proxy_with_loopback
from fake_credits.transports.live import BindOptions, LiveServer

_TERMINAL_SIGNALS = signal_numbers("SIGINT", "SIGQUIT", "SIGBREAK")
_FATAL_SIGNALS = STOP_SIGNALS | _TERMINAL_SIGNALS
_FORWARDED_SIGNALS = _FATAL_SIGNALS | signal_numbers("SIGUSR1", "SIGUSR2")


def run(options: RunFlags, command: tuple[str, ...]) -> int:
    """Run a command with a server on a free loopback port, and return the command's exit code."""
    sandbox = create_sandbox(options)  # before forwarding signals, so that Ctrl-C can interrupt loading a world
    child = _ChildProcess(options.grace)
    with command_server(options, sandbox) as server:
        return child.run(command, server.environment(sandbox))


class _ChildProcess:
    """The command's process, to which this process forwards signals."""

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._process: subprocess.Popen[bytes] | None = None
        self._pending_signals: list[int] = []
        self._is_overdue = False
        handle_signals(_FORWARDED_SIGNALS, self._on_signal)

    def run(self, command: tuple[str, ...], env: dict[str, str]) -> int:
        adopts_orphans = adopt_orphans()
        process = self._process = start_process(command, env)
        for number in self._pending_signals:
            self._forward(process, number)
        return_code = process.wait()
        if self._is_overdue and return_code == -signal.SIGKILL:
            limit = f"{self._grace_s:g} s"
            print_lines(STDERR, f"The command did not stop within {limit} and was killed (see --grace).")
        if adopts_orphans:
            _terminate_orphans(self._grace_s)
        return exit_code_of(return_code)

    def _on_signal(self, number: int) -> None:
        if self._process is None:
            self._pending_signals.append(number)
        elif not (number in _TERMINAL_SIGNALS and _is_foreground()):
            # Signals that the terminal also sent to the command aren't forwarded: a second Ctrl-C may mean "exit now".
            self._forward(self._process, number)

    def _forward(self, process: "subprocess.Popen[bytes]", number: int) -> None:
        if sys.platform == "win32":
            process.terminate()  # send_signal() does this for SIGTERM, and rejects the other forwarded signals
            return
        process.send_signal(number)
        if number in _FATAL_SIGNALS:
            kill_timer = threading.Timer(self._grace_s, self._kill, [process])
            kill_timer.daemon = True
            kill_timer.start()

    def _kill(self, process: "subprocess.Popen[bytes]") -> None:
        self._is_overdue = True
        process.kill()


def _is_foreground() -> bool:
    """Return whether signals from the terminal reach the command directly."""
    if sys.platform == "win32":
        return True  # a Windows console sends signals to all its processes
    try:
        with Path("/dev/tty").open("rb", buffering=0) as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


def _terminate_orphans(grace_s: float) -> None:
    """Terminate the processes that the command left running, and kill any that outlast the grace period."""
    pause, terminated, started_s = threading.Event(), set[int](), monotonic_s()
    with contextlib.suppress(ChildProcessError):
        while (waited_s := monotonic_s() - started_s) < grace_s + KILL_TIMEOUT_S:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            is_overdue = waited_s > grace_s
            running = {process.process_id for process in find_descendants()}
            for process_id in running - (set() if is_overdue else terminated):
                terminated.add(process_id)
                send_signal(process_id, signal.SIGKILL if is_overdue else signal.SIGTERM)
            pause.wait(0.02)


class CommandServer:
    """A server on a free loopback port, with sandboxes for the commands that call it."""

    def __init__(self, options: RunFlags, control: ControlPlane, ca_file: Path | None, ca_env: dict[str, str]) -> None:
        self._options = options
        self._control = control
        self._ca_file = ca_file
        self._inherited = {**os.environ, **no_proxy_with_loopback(os.environ)}
        self._ca_env = ca_env
        self.base_url = ""

    def __repr__(self) -> str:
        return f"<CommandServer at {self.base_url}>"

    @property
    def sandboxes(self) -> SandboxRegistry:
        """Return the server's sandboxes."""
        return self._control.sandboxes

    def environment(self, sandbox: Sandbox, control_token: str = "") -> dict[str, str]:
        """Return the environment for a command that uses ``sandbox``.

        ``control_token``, if not empty, replaces the control plane's token.
        """
        env = server_env(sandbox, self.base_url, self._control, self._ca_file)
        if control_token:
            env["FAKE_CREDITS_CONTROL_TOKEN"] = control_token
        values = {name: env[f"CREDITS_{name.upper()}"] for name in ENV_VALUE_NAMES}
        templates = {name: template.format(**values) for name, template in self._options.env}
        return {**self._inherited, **env, **self._ca_env, **templates}

    @contextlib.contextmanager
    def sandbox_for_run(self) -> Generator[tuple[Sandbox, dict[str, str]]]:
        """Yield a new sandbox for one run of a command, and an environment that makes the command use it."""
        base = self.sandboxes.base_sandbox.options
        sandbox = self._control.add_sandbox(replace(base, api_key=self._options.api_key))
        token = self._control.add_token(sandbox)
        try:
            yield sandbox, self.environment(sandbox, token)
        finally:
            self._control.remove_token(token)
            drain(sandbox)
            self.sandboxes.detach(sandbox)
            sandbox.close()


@contextlib.contextmanager
def command_server(options: RunFlags, sandbox: Sandbox) -> Generator[CommandServer]:
    """Serve on a free loopback port until the block exits; ``sandbox`` is the first of the server's sandboxes."""
    log = ExchangeLog(options.log, options.seed)
    loopback = BindOptions()
    with tls_setup(options, loopback, loopback.host) as (address, ca_file), trust_env(ca_file, os.environ) as ca_env:
        sandboxes, control = create_control_plane(options, sandbox, log)
        live_server = LiveServer(sandbox.contract, sandboxes, address, control=control)
        server = CommandServer(options, control, ca_file, ca_env)
        with report_bind_errors(address):
            live_server.start()
        server.base_url = live_server.base_url
        try:
            yield server
        finally:
            live_server.stop()
            log.close()
            print_problems(sandboxes, options.log)
