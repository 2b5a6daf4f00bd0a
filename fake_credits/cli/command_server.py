"""The live server next to the commands that `run` and `explore` start, and the environment of these commands."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fake_credits.cli.bootstrap import create_control_plane, create_sandbox, server_env
from fake_credits.cli.flags import RunFlags
from fake_credits.cli.https import tls_setup, trust_env
from fake_credits.cli.output import ExchangeLog, print_problems
from fake_credits.cli.serve import report_bind_errors
from fake_credits.control.app import ControlPlane
from fake_credits.sandbox import Sandbox
from fake_credits.sandboxes import SandboxRegistry, drain
from fake_credits.transports.environment import ENV_VALUE_NAMES, no_proxy_with_loopback
from fake_credits.transports.live import BindOptions, LiveServer


class CommandServer:
    """A server on a free loopback port whose sandboxes are for commands."""

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
        """Return the environment of a command that uses a sandbox; the control plane's token is the first sandbox's."""
        env = server_env(sandbox, self.base_url, self._control, self._ca_file)
        if control_token:
            env["FAKE_CREDITS_CONTROL_TOKEN"] = control_token
        values = {name: env[f"CREDITS_{name.upper()}"] for name in ENV_VALUE_NAMES}
        templates = {name: template.format(**values) for name, template in self._options.env}
        return {**self._inherited, **env, **self._ca_env, **templates}

    @contextmanager
    def sandbox_for_run(self) -> Generator[tuple[Sandbox, dict[str, str]]]:
        """Yield a sandbox for one run of a command, with the environment that leads the command to it."""
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


@contextmanager
def command_server(options: RunFlags, *, api_key: str) -> Generator[CommandServer]:
    """Serve on a free loopback port until the block ends; ``api_key`` is the first sandbox's."""
    sandbox = create_sandbox(replace(options, api_key=api_key))
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
